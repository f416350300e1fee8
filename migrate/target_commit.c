/* The copy runs, or never will: the half of target.h after RESTORED, and what is answered later. */
#include <poll.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/base/fault.h"
#include "engine/network/injector.h"
#include "migrate/incoming.h"
#include "migrate/target.h"

/* ---- commit ---- */

static int by_injector(void *ctx, const struct gate_frame *frame, struct error *err)
{
	return ctx ? injector_send(ctx, frame, err) : -ENODEV;
}

/* Once its gate is open, frames go through it like all others: it may have moved on. */
static void deliver_held(struct target *t)
{
	struct injector **way = t->opened ? &t->by_gate : &t->past_gate;
	char ifname[IFNAMSIZ];
	struct error ignored;

	container_host_ifname(t->container, ifname);
	if (!*way && t->held.len)
		(void)injector_open(-EBADF, ifname, !t->opened, way, &ignored);
	held_deliver(&t->held, by_injector, *way);
}

static void open_gate(struct target *t)
{
	if (!t->opened)
		restore_open(t->control);
	t->opened = true;
}

/* The frames of one message; any other is given back. */
static int take_or_return(struct target *t, struct message *ret, struct error *err)
{
	if (channel_receive(t->channel, 0, ret, err) < 0)
		return -err->code;
	if (ret->type != WIRE_TREE_BEGIN)
		return 0;
	message_free(ret);
	if (held_receive(t->channel, &t->held, err) < 0)
		return -err->code;
	if (t->committed) {
		deliver_held(t);
		open_gate(t);
	}
	return 1;
}

static int take_frames(struct target *t, struct error *err)
{
	struct message m = { 0 };
	int r = take_or_return(t, &m, err);

	if (r == 0) {
		r = error_set(err, EPROTO, "%s, and SYNCED has not been said", wire_type_name(m.type));
		message_free(&m);
	}
	return r < 0 ? r : 0;
}

/* The message of this type, and frames before it. */
static int receive_held(struct target *t, enum wire_type type, struct message *ret, struct error *err)
{
	struct message m = { 0 };
	int r;

	while ((r = take_or_return(t, &m, err)) == 1)
		;
	if (r < 0)
		return r;
	if (m.type != type) {
		message_free(&m);
		return error_set(err, EPROTO, "expected %s", wire_type_name(type));
	}
	*ret = m;
	return 0;
}

int target_commit(struct target *t, struct error *err)
{
	struct message_step steps[MESSAGE_STEPS_MAX];
	struct message m = { 0 };
	int r;

	if (receive_held(t, WIRE_COMMIT, &m, err) < 0)
		return -err->code;
	r = strcmp(m.commit.token, t->offer.offer.token) != 0 ?
		error_set(err, EPROTO, "COMMIT of another migration") : 0;
	message_free(&m);
	if (r < 0)
		return r;
	/* Its sockets hear them while it stands still and may not answer. */
	deliver_held(t);
	if (restore_commit(t->control, &t->times, err) < 0)
		return -err->code;
	t->committed = true;
	target_say(t, "container '%s' has arrived from %s and runs", t->container->name, t->peer.name);
	m = (struct message){ .type = WIRE_RESUMED, .resumed = {
		.token = t->offer.offer.token, .resume_us = t->times.resume_us,
		.resumed_at_real_us = t->times.resumed_real_us, .steps = steps,
		.n_steps = timeline_to_message(&t->times.resume, steps) } };
	/* It runs here, whether the source hears of it now or asks later, and may
	 * move on at once. */
	container_unlock(t->container);
	(void)channel_send(t->channel, &m, err);
	return 0;
}

/* ---- sync, release ---- */

/* The monitor writes that it runs before it says STARTED. One that was killed before
 * leaves it to us. */
static int await_record(struct target *t, const struct incoming *in, struct error *err)
{
	struct monitor_message started;
	struct container_state st;
	struct error ignored;
	bool heard = monitor_receive(t->control, &started, &ignored) == 0;
	int r = container_state(t->container, &st, err);

	/* It may not have come to let the network through. A process that has hung up is killed,
	 * even if it is there for a moment more. */
	if (r == 0 && container_status_is_live(st.status) && st.status != CONTAINER_INCOMING &&
	    (!heard || !st.monitor_alive))
		(void)container_reconnect(t->container, st.pid, &ignored);
	return r == 0 && st.status == CONTAINER_INCOMING ? incoming_event(in, EVENT_SWEEP, err) : 0;
}

/* In a child, because frames for the container may come while the disk is busy. */
static int start_sync(struct target *t, pid_t *ret, struct error *err)
{
	const struct incoming in = { .node = t->node, .token = t->offer.offer.token, .container = t->container };

	if (await_record(t, &in, err) < 0)
		return -err->code;
	*ret = fork();
	if (*ret < 0)
		return error_set(err, errno, "fork: %s", strerror(errno));
	if (*ret)
		return 0;
	(void)close(channel_fd(t->channel));
	if (incoming_sync(&in, err) == 0)
		_exit(0);
	target_say(t, "container '%s' runs and can't be put on disk: %s", t->container->name, err->msg);
	_exit(1);
}

/* The source sends them at once. Until they are delivered, or for RESTORE_OPEN_US, the
 * monitor keeps what comes directly, and says no word that it has started. */
static int take_first_frames(struct target *t, struct error *err)
{
	int r = channel_wait_readable(t->channel, RESTORE_OPEN_US) ? take_frames(t, err) : 0;

	open_gate(t);
	return r;
}

/* Frames until the child has ended. */
static int deliver_until(struct target *t, int pidfd, struct error *err)
{
	struct pollfd p[] = { { .fd = pidfd, .events = POLLIN }, { .fd = channel_fd(t->channel), .events = POLLIN } };

	for (;;) {
		if (poll(p, 2, -1) < 0 && errno != EINTR)
			return error_set(err, errno, "poll: %s", strerror(errno));
		if (p[1].revents && take_frames(t, err) < 0)
			return -err->code;
		if (p[0].revents)
			return 0;
	}
}

/* It runs, and stays, whatever happens to the connection: the source asks again. */
int target_sync(struct target *t, struct error *err)
{
	const struct message synced = { .type = WIRE_SYNCED, .synced.token = t->offer.offer.token };
	CLEANUP(fd_closep) int pidfd = -EBADF;
	struct error lost;
	int status = 0, r = take_first_frames(t, &lost);
	pid_t pid = -1;

	if (start_sync(t, &pid, err) < 0)
		return -err->code;
	pidfd = pidfd_open(pid, 0);
	if (r == 0)
		r = deliver_until(t, pidfd, &lost);
	(void)waitpid(pid, &status, 0);
	if (r < 0) {
		*err = lost;
		return r;
	}
	if (status)
		return error_set(err, EIO, "not all of it is on disk");
	return channel_send(t->channel, &synced, err);
}

/* Until the source hangs up. */
static void deliver_strays(struct target *t)
{
	struct message m = { 0 };
	struct error ignored;

	t->held.frames = 0;
	while (take_or_return(t, &m, &ignored) == 1)
		;
	if (t->held.frames)
		target_say(t, "container '%s': %llu frames went to %s after it had left", t->container->name,
			   (unsigned long long)t->held.frames, t->peer.name);
	if (t->held.no_room || t->held.undelivered)
		target_say(t, "container '%s': frames for it from %s are lost: no room for %llu, %llu refused",
			   t->container->name, t->peer.name, (unsigned long long)t->held.no_room,
			   (unsigned long long)t->held.undelivered);
}

int target_release(struct target *t, struct error *err)
{
	const struct incoming in = { .node = t->node, .token = t->offer.offer.token, .container = t->container,
				     .channel = t->channel };
	struct message m = { 0 };
	int r;

	if (receive_held(t, WIRE_RELEASE, &m, err) < 0)
		return 0;		/* the record is kept until the source asks, or releases */
	r = strcmp(m.release.token, in.token) != 0 ? error_set(err, EPROTO, "RELEASE of another migration") :
						    incoming_event(&in, EVENT_RELEASE, err);
	message_free(&m);
	if (r == 0)
		deliver_strays(t);
	return r;
}

/* ---- questions ---- */

/* What is left to be done before it can be answered that all is well. */
static void complete(const struct incoming *in)
{
	struct container_state st;
	struct error ignored;

	if (in->container && container_state(in->container, &st, &ignored) == 0 &&
	    st.status == CONTAINER_INCOMING)
		(void)incoming_sweep_one(in->node, in->container->name, &ignored);
	(void)incoming_event(in, EVENT_SYNC, &ignored);
}

static int answer_one(struct target *t, const struct message *m, struct error *err)
{
	bool query = m->type == WIRE_QUERY;
	CLEANUP(container_freep) struct container *c = NULL;
	struct incoming in = { .node = t->node, .token = query ? m->query.token : m->release.token, .asked = query };

	if (incoming_find(t->node, in.token, &c, err) < 0)
		return -err->code;
	in.container = c;
	fault_pass("answer-begin");
	complete(&in);
	in.channel = t->channel;
	if (incoming_event(&in, query ? EVENT_QUERY : EVENT_RELEASE, err) < 0)
		return -err->code;
	fault_pass("answer-end");
	return 0;
}

int target_answer(struct target *t, struct error *err)
{
	struct error ignored;
	int r = answer_one(t, &t->offer, err);

	while (r == 0) {
		struct message m = { 0 };

		if (channel_receive(t->channel, 0, &m, &ignored) < 0)
			break;
		r = answer_one(t, &m, err);
		message_free(&m);
	}
	return r;
}

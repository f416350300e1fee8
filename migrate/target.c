#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "engine/base/fault.h"
#include "engine/base/fd.h"
#include "engine/image/image.h"
#include "engine/network/injector.h"
#include "migrate/admission/admission.h"
#include "migrate/admission/machine.h"
#include "migrate/incoming.h"
#include "migrate/memory/memory_receive.h"
#include "migrate/memory/store.h"
#include "migrate/serve/exchange.h"
#include "migrate/target.h"
#include "migrate/target_lanes.h"
#include "migrate/target_rejoin.h"
#include "migrate/token.h"
#include "migrate/trees.h"
#include "migrate/workdir.h"

/* What a receiver that was killed leaves to its monitor. */
#define ENDING_US 3000000

void target_say(const struct target *t, const char *fmt, ...)
{
	char line[1024];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	if (t->log)
		t->log(t->ctx, line);
}

/* ---- negotiate ---- */

/* The folder reserves name and address, too. */
static int reserve(struct target *t, struct admission *a, struct error *err)
{
	const char *token = t->offer.offer.token;
	struct container_state st = { .status = CONTAINER_INCOMING, .exit_code = -1 };

	if (container_create(t->node, a->spec, CONTAINER_INCOMING, &t->container, err) < 0) {
		reasons_add(&a->reasons, REASON_NAME_TAKEN, "%s", err->msg);
		return 0;
	}
	a->spec = NULL;
	t->reserved = a->needed;
	container_state_stamp(&st, 0, getpid());
	/* The mark is on disk before anything can be mistaken for a container of this node. */
	if (fd_replace_file_at(t->container->dir_fd, CONTAINER_MARK, token, strlen(token), 0600, FD_REPLACE_DURABLE,
			       err) < 0 ||
	    reservation_write(t->container, &t->reserved, err) < 0 ||
	    container_state_write(t->container, &st, err) < 0)
		return -err->code;
	return fsync(t->node->containers_fd) < 0 ? error_set(err, errno, "fsync: %s", strerror(errno)) : 0;
}

static int answer_offer(struct target *t, const struct admission *a, struct error *err)
{
	bool yes = a->reasons.n == 0;
	const struct message m = { .type = WIRE_VERDICT, .verdict = {
		.accepted = yes, .n_reasons = a->reasons.n,
		.reasons = (struct message_reason *)(uintptr_t)a->reasons.list,
		.image_wanted = yes && a->image_wanted, .node_name = t->node->config.name } };

	t->image_wanted = m.verdict.image_wanted;
	if (channel_send(t->channel, &m, err) < 0)
		return -err->code;
	if (!yes && reasons_to_error(&a->reasons, err) < 0)
		return error_wrap(err, "refused container '%s'", t->offer.offer.name);
	return 0;
}

/* Under node_lock from the first question until it is reserved. */
int target_negotiate(struct target *t, struct error *err)
{
	CLEANUP(fd_closep) int lock = -EBADF;
	CLEANUP(admission_free) struct admission a = { 0 };
	const struct message_offer *o = &t->offer.offer;
	enum token_outcome known;
	struct error ignored;

	if (!o->only_asking)
		target_rejoin_take_over(t->node, o->name);
	if (token_look_up(t->node, o->token, &known, err) < 0 || node_lock(t->node, &lock, err) < 0)
		return -err->code;
	(void)incoming_sweep(t->node, ENDING_US, &ignored);	/* what stays is in the way, or not */
	if (admission_check(t->node, o, &a, err) < 0)
		return -err->code;
	if (known != TOKEN_UNKNOWN)
		reasons_add(&a.reasons, REASON_TOKEN_USED, "this token is decided already");
	if (a.reasons.n == 0 && !o->only_asking && reserve(t, &a, err) < 0)
		return -err->code;
	return answer_offer(t, &a, err);
}

/* It runs, or whoever settles it will thaw it: it needs its memory. See watch_filler. */
static bool copy_may_run(const struct target *t)
{
	enum token_outcome outcome;
	struct container_state st;
	struct error ignored;

	if (container_state(t->container, &st, &ignored) < 0 || !st.alive)
		return false;
	return container_status_is_live(st.status) ||
	       token_look_up(t->node, t->offer.offer.token, &outcome, &ignored) < 0 ||
	       outcome == TOKEN_RESUMED || outcome == TOKEN_SYNCED;
}

/* Its monitor has removed all and is gone; or is dead, and left that to us. */
void target_forget(struct target *t)
{
	struct incoming in = { .node = t->node, .token = t->offer.offer.token, .container = t->container };
	struct container_state st;
	struct error ignored;
	int r;

	if (!t->container)
		return;
	r = container_state(t->container, &st, &ignored);
	if (r == -ENOENT)
		in.container = NULL;
	/* One whose monitor was killed may run already, and have no network yet. */
	if (r == -ENOENT || (r == 0 && (st.status == CONTAINER_INCOMING || (st.alive && !st.monitor_alive))))
		(void)incoming_event(&in, EVENT_SWEEP, &ignored);
	if (!copy_may_run(t))
		filler_stop(&t->filler);
}

/* ---- prepare ---- */

static int receive_image(struct target *t, struct error *err)
{
	const struct message_offer *o = &t->offer.offer;
	const struct tree_limits limits = { .entries = o->image_entries + 16,
					    .bytes = o->image_bytes + (1 << 20) };
	CLEANUP(image_freep) struct image *image = NULL;
	struct message m = { 0 };

	if (channel_receive(t->channel, WIRE_TREE_BEGIN, &m, err) < 0)
		return -err->code;
	message_free(&m);
	return image_receive(t->node->state_fd, o->image_name, o->image_digest, trees_read, t->channel,
			     &limits, &image, err);
}

int target_prepare(struct target *t, struct error *err)
{
	struct message m = { .type = WIRE_PREPARED };

	if ((t->image_wanted && receive_image(t, err) < 0) || workdir_create(&t->workdir, err) < 0 ||
	    target_make_store(t, err) < 0 || shared_store_new(&t->shared, err) < 0 ||
	    tmpfs_make(t->container->spec, &t->tmpfs, err) < 0)
		return -err->code;
	shared_store_set_tmpfs(t->shared, &t->tmpfs);
	t->plan.token = t->offer.offer.token;
	if (restore_begin(t->container, &t->plan, &t->control, &t->prepared, err) < 0 ||
	    container_cgroup(t->container, false, &t->cgroup, err) < 0)
		return -err->code;
	shared_store_set_cgroup(t->shared, t->cgroup);
	/* The source connects again as soon as it hears that. */
	if (target_lanes_begin(t, err) < 0 || channel_send(t->channel, &m, err) < 0 || target_rejoin_begin(t, err) < 0)
		return -err->code;
	trees_warm_up();		/* while the first round is on its way */
	return 0;
}

/* The monitor removes what it made when its asker hangs up; wait for that. */
void target_tear_down(struct target *t)
{
	struct monitor_message m;
	struct error ignored;

	target_lanes_end(t);
	if (t->control < 0)
		return;
	(void)shutdown(t->control, SHUT_WR);
	while (monitor_receive(t->control, &m, &ignored) == 0)
		;
	fd_close(&t->control);
}

/* ---- transfer ---- */

static int open_place(const struct target *t, enum message_tree_kind kind, int *ret_fd, struct error *err)
{
	switch (kind) {
	case MESSAGE_TREE_UPPER:
		return fd_open_dir_at(t->container->dir_fd, "upper", false, 0, ret_fd, err);
	case MESSAGE_TREE_META:
		return fd_open_dir_at(t->container->dir_fd, "meta", false, 0, ret_fd, err);
	case MESSAGE_TREE_CHECKPOINT:
		return workdir_open(t->workdir, "images", ret_fd, err);
	case MESSAGE_TREE_TMPFS:
	case MESSAGE_TREE_IMAGE:
	case MESSAGE_TREE_MEMORY:
	case MESSAGE_TREE_HELD:
		break;
	}
	return error_set(err, EPROTO, "a tree of an unexpected kind");
}

static int unpack(struct target *t, int place, bool changes, struct error *err)
{
	struct tree_limits limits = { .entries = 100000000 };
	uint64_t room, bytes = 0;
	int r;

	if (machine_free_disk(place, &room, err) < 0)
		return -err->code;
	limits.bytes = room + 1;
	r = changes ? trees_receive_changes(t->channel, place, &limits, &bytes, err) :
		      trees_receive(t->channel, place, &limits, err);
	if (r < 0)
		return error_wrap(err, "%llu MiB of disk are free", (unsigned long long)room >> 20);
	t->files_bytes += bytes;
	return 0;
}

int target_unpack(struct target *t, int place, struct error *err)
{
	return unpack(t, place, false, err);
}

static int take_tree(struct target *t, const struct message_tree_begin *b, struct error *err)
{
	CLEANUP(fd_closep) int place = -EBADF;

	if (b->kind == MESSAGE_TREE_TMPFS)
		return tmpfs_unpack(&t->tmpfs, b->label, t->shared, trees_read, t->channel, err);
	if (open_place(t, b->kind, &place, err) < 0)
		return -err->code;
	return unpack(t, place, b->kind == MESSAGE_TREE_UPPER, err);
}

int target_take_tree(struct target *t, const struct message *m, struct error *err)
{
	int r = t->take_tree(t, &m->tree_begin, err);

	return r < 0 ? error_wrap(err, "receive %s", message_tree_kind_name(m->tree_begin.kind)) : 0;
}

static int receive_tree(struct target *t, enum message_tree_kind *ret_kind, struct error *err)
{
	struct message m = { 0 };
	int r;

	if (channel_receive(t->channel, WIRE_TREE_BEGIN, &m, err) < 0)
		return -err->code;
	*ret_kind = m.tree_begin.kind;
	if (*ret_kind == MESSAGE_TREE_MEMORY) {
		message_free(&m);
		return target_receive_memory(t, err);
	}
	r = target_take_tree(t, &m, err);
	message_free(&m);
	return r;
}

/* If the source has told what its files are. */
static int verify_files(const struct target *t, struct error *err)
{
	CLEANUP(manifest_freep) struct manifest *m = NULL;
	CLEANUP(fd_closep) int meta = -EBADF, upper = -EBADF;
	char digest[TREE_DIGEST_SIZE];

	if (!t->container)
		return 0;
	if (fd_open_dir_at(t->container->dir_fd, "meta", false, 0, &meta, err) < 0 || manifest_read(meta, &m, err) < 0)
		return -err->code;
	if (!*m->files)
		return 0;
	if (fd_open_dir_at(t->container->dir_fd, "upper", false, 0, &upper, err) < 0 ||
	    tree_digest_exact(upper, digest, err) < 0)
		return -err->code;
	return strcmp(digest, m->files) != 0 ?
	       error_set(err, EBADMSG, "its changes to files here are not what they are at the source") : 0;
}

int target_transfer(struct target *t, struct error *err)
{
	enum message_tree_kind kind = MESSAGE_TREE_UPPER;

	while (kind != MESSAGE_TREE_META) {
		if (receive_tree(t, &kind, err) < 0)
			return -err->code;
		timeline_step(&t->times.restore, message_tree_kind_name(kind));
	}
	if (target_lanes_settle(t, err) < 0)
		return -err->code;
	target_lanes_end(t);
	if (store_seal(t->store, err) < 0)
		return -err->code;
	if (memory_verify(t->store, t->shared, &t->hashes, err) < 0 || verify_files(t, err) < 0)
		return -err->code;
	timeline_step(&t->times.restore, "page-store");
	return 0;
}

/* ---- restore ---- */

static void show_life(void *ctx)
{
	const struct target *t = ctx;
	const struct message m = { .type = WIRE_PROGRESS, .progress.phase = "restore" };
	struct error ignored;

	(void)channel_send(t->channel, &m, &ignored);
}

int target_restore(struct target *t, struct error *err)
{
	struct message_step steps[MESSAGE_STEPS_MAX];
	struct message m = { 0 };

	if (channel_receive(t->channel, WIRE_RESTORE, &m, err) < 0)
		return -err->code;
	message_free(&m);
	if (tmpfs_complete(&t->tmpfs, t->container->spec, err) < 0)
		return -err->code;
	timeline_step(&t->times.restore, "tmpfs");
	if (restore_go(t->control, t->container, t->prepared, t->workdir, t->store, t->shared, &t->tmpfs, &t->filler,
		       show_life, t, &t->times, err) < 0)
		return -err->code;
	m = (struct message){ .type = WIRE_RESTORED, .restored = {
		.restore_us = t->times.restore_us, .pid = (uint32_t)t->times.pid, .steps = steps,
		.n_steps = timeline_to_message(&t->times.restore, steps) } };
	return channel_send(t->channel, &m, err);
}

/* ---- the whole ---- */

static void target_closep(struct target *t)
{
	target_lanes_end(t);
	fd_close(&t->control);
	fd_close(&t->workdir);
	fd_close(&t->connections[0].door);
	fd_close(&t->filler.uffds_fd);
	fd_close(&t->filler.report_fd);
	fd_close(&t->filler.pidfd);
	store_free(t->store);
	shared_store_free(t->shared);
	cgroup_free(t->cgroup);
	prepared_free(t->prepared);
	tmpfs_closep(&t->tmpfs);
	free(t->hashes.list);
	held_frames_free(&t->held);
	injector_free(t->past_gate);
	injector_free(t->by_gate);
	container_free(t->container);
	message_free(&t->offer);
	channel_free(t->channel);
}

/* The monitor ends it when memory is missing; but it may have been killed, too. Until
 * then the descriptors here keep whoever needs that memory waiting. */
static void watch_filler(struct target *t)
{
	CLEANUP(cgroup_freep) struct cgroup *cg = NULL;
	struct container_state st;
	struct error why, ignored;

	if (t->filler.pid <= 0 || container_cgroup(t->container, false, &cg, &ignored) < 0)
		return;
	container_unlock(t->container);
	channel_free(TAKE_PTR(t->channel));
	if (filler_wait(&t->filler, &why) == 0)
		return;
	target_say(t, "%s", why.msg);
	(void)cgroup_kill(cg, ENDING_US, &ignored);
	if (container_state(t->container, &st, &ignored) == 0 && !st.monitor_alive)
		(void)container_clean(t->container, true, &ignored);
}

static int take_offer(struct target *t, const struct migrate_stage table[STAGE_MAX_], struct error *err)
{
	target_say(t, "%s offers container '%s'", t->peer.name, t->offer.offer.name);
	if (stage_run_target(table, t, err) == 0) {
		watch_filler(t);
		return 0;
	}
	if (!t->committed)
		channel_abort(t->channel, err, "nothing of it is left on the target");
	watch_filler(t);
	return -err->code;
}

static int join(struct target *t, const struct message_join *m, struct error *err)
{
	if (target_rejoin_hand_over(t->node, m, t->channel, err) == 0)
		return 0;
	channel_abort(t->channel, err, "");
	return error_wrap(err, "%s comes back with container '%s'", t->peer.name, m->name);
}

int target_run(struct target *t, const struct migrate_stage table[STAGE_MAX_], struct error *err)
{
	if (channel_greet(t->channel, t->node->config.name, t->node->id, &t->peer, err) < 0)
		return -err->code;
	if (t->first_us)
		channel_set_patience(t->channel, t->first_us);
	if (channel_receive(t->channel, 0, &t->offer, err) < 0)
		return -err->code;
	channel_set_patience(t->channel, CHANNEL_PATIENCE_US);
	if (t->spoken)			/* who asks what became of something can ask again */
		*t->spoken = t->offer.type == WIRE_OFFER;
	if (t->offer.type == WIRE_OFFER && t->offer.offer.only_asking)
		return table[STAGE_NEGOTIATE].target(t, err);
	if (t->offer.type == WIRE_OFFER)
		return take_offer(t, table, err);
	if (t->offer.type == WIRE_QUERY || t->offer.type == WIRE_RELEASE)
		return target_answer(t, err);
	if (t->offer.type == WIRE_JOIN)
		return join(t, &t->offer.join, err);
	if (t->offer.type == WIRE_NETWORK || t->offer.type == WIRE_PLACES)
		return exchange_answer(t->node, t->channel, &t->peer, &t->offer, err);
	return error_set(err, EPROTO, "the peer sent %s instead of an offer", wire_type_name(t->offer.type));
}

int target_serve(const struct node *node, int fd_consumed, bool *spoken,
		 void (*log)(void *ctx, const char *line), void *ctx, struct error *err)
{
	CLEANUP(target_closep) struct target t = { .node = node, .take_tree = take_tree, TARGET_EMPTY,
						   .log = log, .ctx = ctx, .spoken = spoken };

	t.first_us = fault_value("first-word-s", CHANNEL_GREET_US / 1000000) * 1000000;
	fault_pass("receive-begin");
	if (channel_accept(node, fd_consumed, &t.channel, err) == 0 && target_run(&t, migrate_stages, err) == 0)
		return 0;
	return t.offer.type == WIRE_OFFER ?
	       error_wrap(err, "container '%s' from %s", t.offer.offer.name, t.peer.name) : -err->code;
}

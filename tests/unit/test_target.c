/*
 * What becomes of an incoming container whose processes have died: its token
 * says it. And the answers to those who ask.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "engine/base/fault.h"
#include "migrate/channel/channel_state.h"
#include "migrate/incoming.h"
#include "migrate/target.h"
#include "migrate/token.h"
#include "tests/unit/node_fixture.h"

#define TOKEN "0123456789abcdef0123456789abcdef"

/* A frozen copy of one plain process, as an incoming container. */
struct copy {
	struct container *c;
	struct cgroup *cg;
	pid_t pid;
};

/* monitor: whose name its state has. */
static struct copy copy_of(const struct home *h, pid_t monitor)
{
	struct container_state st = { .status = CONTAINER_INCOMING, .exit_code = -1 };
	struct copy o = { .pid = fork() };	/* without the container's lock */
	struct error err;

	if (o.pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			(void)pause();
	}
	o.c = home_container(h, "web", "", CONTAINER_INCOMING);
	OK(container_cgroup(o.c, true, &o.cg, &err));
	OK(cgroup_join(o.cg, o.pid, &err));
	OK(cgroup_freeze(o.cg, 10000000, &err));
	container_state_stamp(&st, o.pid, monitor);
	OK(container_state_write(o.c, &st, &err));
	OK(fd_replace_file_at(o.c->dir_fd, "token", TOKEN, strlen(TOKEN), 0600, FD_REPLACE, &err));
	return o;
}

/* As if its receiver had died. */
static void let_go(struct copy *o)
{
	container_free(o->c);
	o->c = NULL;
}

static void bury(struct copy *o)
{
	struct error err;

	let_go(o);
	OK(cgroup_kill(o->cg, 10000000, &err));
	assert_int_equal(waitpid(o->pid, NULL, 0), o->pid);
	cgroup_free(o->cg);
}

static bool is_there(const struct home *h)
{
	return faccessat(h->node->containers_fd, "web", F_OK, 0) == 0;
}

static enum token_outcome outcome_of(const struct home *h)
{
	enum token_outcome now;
	struct error err;

	OK(token_look_up(h->node, TOKEN, &now, &err));
	return now;
}

static enum token_outcome decide(const struct home *h, enum token_outcome wanted)
{
	enum token_outcome now;
	struct error err;

	OK(token_decide(h->node, TOKEN, wanted, &now, &err));
	return now;
}

static void undecided_copy_is_removed(void **state)
{
	const struct home *h = *state;
	struct copy o = copy_of(h, 0);
	struct error err;

	let_go(&o);
	OK(incoming_sweep(h->node, 0, &err));
	assert_false(is_there(h));
	assert_int_equal(outcome_of(h), TOKEN_UNKNOWN);
	bury(&o);
}

/* The source was told so, and has destroyed the original. */
static void resumed_copy_is_the_only_one_and_runs(void **state)
{
	const struct home *h = *state;
	struct copy o = copy_of(h, 0);
	struct container_state st;
	struct error err;
	bool frozen;

	(void)decide(h, TOKEN_RESUMED);
	container_unlock(o.c);
	OK(incoming_sweep(h->node, 0, &err));
	assert_true(is_there(h));
	OK(container_state(o.c, &st, &err));
	assert_int_equal(st.status, CONTAINER_RUNNING);
	assert_int_equal(st.pid, o.pid);
	OK(cgroup_is_frozen(o.cg, &frozen, &err));
	assert_false(frozen);
	assert_int_equal(outcome_of(h), TOKEN_RESUMED);
	OK(incoming_sweep(h->node, 0, &err));
	assert_true(is_there(h));
	bury(&o);
}

static void living_receiver_is_left_alone(void **state)
{
	const struct home *h = *state;
	struct copy o = copy_of(h, getpid());
	struct error err;

	OK(incoming_sweep(h->node, 0, &err));
	container_unlock(o.c);
	OK(incoming_sweep(h->node, 0, &err));
	assert_true(is_there(h));
	assert_int_equal(outcome_of(h), TOKEN_UNKNOWN);
	bury(&o);
}

static void damaged_record_keeps_the_copy(void **state)
{
	const struct home *h = *state;
	struct copy o = copy_of(h, 0);
	struct error err;

	let_go(&o);
	home_put(h, "record", "perhaps\n");
	assert_int_equal(renameat(h->node->state_fd, "record", h->node->state_fd, "tokens/" TOKEN), 0);
	assert_true(incoming_sweep(h->node, 0, &err) < 0);
	assert_true(is_there(h));
	bury(&o);
}

static void restore_without_a_token_is_removed(void **state)
{
	const struct home *h = *state;
	struct copy o = copy_of(h, 0);
	struct error err;

	assert_int_equal(unlinkat(o.c->dir_fd, "token", 0), 0);
	let_go(&o);
	OK(incoming_sweep(h->node, 0, &err));
	assert_false(is_there(h));
	bury(&o);
}

/* The record of a boot that is over. */
static void write_lost(const struct home *h)
{
	home_put(h, "record", "resumed 00000000-0000-0000-0000-000000000000\n");
	assert_int_equal(renameat(h->node->state_fd, "record", h->node->state_fd, "tokens/" TOKEN), 0);
}

static void what_ran_before_a_crash_is_lost_and_removed(void **state)
{
	const struct home *h = *state;
	struct copy o = copy_of(h, 0);
	struct error err;

	write_lost(h);
	FAILS(incoming_finish(o.c, &err), ESTALE, "goes on where it came from");
	let_go(&o);
	OK(incoming_sweep(h->node, 0, &err));
	assert_false(is_there(h));
	assert_int_equal(outcome_of(h), TOKEN_LOST);
	bury(&o);
}

/* The source destroys the original when it is told so. */
static void only_what_is_on_disk_is_told_as_such(void **state)
{
	const struct home *h = *state;
	struct copy o = copy_of(h, getpid());
	const struct incoming in = { .node = h->node, .token = TOKEN, .container = o.c };
	struct container_state st = { .status = CONTAINER_RUNNING, .exit_code = -1 };
	struct error err;

	write_lost(h);
	FAILS(incoming_sync(&in, &err), ESTALE, "lost");
	assert_true(is_there(h));
	assert_int_equal(kill(o.pid, 0), 0);
	OK(token_forget(h->node, TOKEN, &err));
	(void)decide(h, TOKEN_RESUMED);
	container_state_stamp(&st, o.pid, getpid());
	OK(container_state_write(o.c, &st, &err));
	OK(incoming_sync(&in, &err));
	assert_int_equal(outcome_of(h), TOKEN_SYNCED);
	OK(incoming_sync(&in, &err));
	bury(&o);
}

static void refusal_is_kept_as_long_as_anybody_could_resume(void **state)
{
	const struct home *h = *state;
	struct copy o = copy_of(h, getpid());
	struct error err;

	(void)decide(h, TOKEN_REFUSED);
	container_unlock(o.c);
	OK(incoming_sweep(h->node, 0, &err));
	assert_int_equal(outcome_of(h), TOKEN_REFUSED);
	OK(container_clean(o.c, false, &err));
	let_go(&o);
	OK(incoming_sweep(h->node, 0, &err));
	assert_int_equal(outcome_of(h), TOKEN_UNKNOWN);
	bury(&o);
}

static bool has_mark(const struct container *c)
{
	return faccessat(c->dir_fd, CONTAINER_MARK, F_OK, 0) == 0;
}

/* Before it may be started, moved on or removed. */
static void what_runs_is_put_on_disk_before_more_is_done_with_it(void **state)
{
	const struct home *h = *state;
	struct copy o = copy_of(h, 0);
	struct error err;

	(void)decide(h, TOKEN_RESUMED);
	FAILS(incoming_finish(o.c, &err), EBUSY, "its monitor has not recorded yet that it runs");
	assert_true(has_mark(o.c));
	container_unlock(o.c);
	OK(incoming_sweep(h->node, 0, &err));
	OK(incoming_finish(o.c, &err));
	assert_false(has_mark(o.c));
	assert_int_equal(outcome_of(h), TOKEN_SYNCED);
	OK(incoming_finish(o.c, &err));
	bury(&o);
}

/* Somebody who was asked has settled it, while another process still has it in hand. */
static void what_was_settled_by_another_is_not_swept_away(void **state)
{
	const struct home *h = *state;
	struct copy o = copy_of(h, 0);
	const struct incoming in = { .node = h->node, .token = TOKEN, .container = o.c };
	struct error err;

	(void)decide(h, TOKEN_RESUMED);
	OK(incoming_event(&in, EVENT_SWEEP, &err));
	OK(incoming_event(&in, EVENT_SYNC, &err));
	OK(incoming_event(&in, EVENT_RELEASE, &err));
	assert_int_equal(outcome_of(h), TOKEN_UNKNOWN);
	for (const enum protocol_event *e = (const enum protocol_event[]){ EVENT_SYNC, EVENT_SWEEP, EVENT_HUNG_UP,
	     EVENT_QUERY, EVENT_SWEEP, EVENT_OFFER }; *e != EVENT_OFFER; e++)
		OK(incoming_event(&in, *e, &err));
	assert_true(is_there(h));
	assert_int_equal(kill(o.pid, 0), 0);
	bury(&o);
}

/* ---- questions ---- */

static int serve(const struct home *h, int fd)
{
	struct error err;

	return target_serve(h->node, fd, NULL, NULL, NULL, &err);
}

/* A source that has greeted; serving it is what another process ends with. */
static pid_t connect_to(const struct home *h, int (*serving)(const struct home *h, int fd), struct channel **ret)
{
	struct channel_peer peer;
	struct error err;
	int s[2];
	pid_t pid;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s), 0);
	pid = fork();
	if (pid == 0) {
		(void)close(s[0]);
		_exit(serving(h, s[1]) != 0);
	}
	(void)close(s[1]);
	OK(channel_new(s[0], WIRE_SOURCE, ret, &err));
	OK(channel_greet(*ret, "seal", TOKEN, &peer, &err));
	return pid;
}

static void release(struct channel *ch)
{
	const struct message m = { .type = WIRE_RELEASE, .release.token = TOKEN };
	struct message said;
	struct error err;

	OK(channel_send(ch, &m, &err));
	OK(channel_receive(ch, WIRE_FORGOTTEN, &said, &err));
	assert_string_equal(said.forgotten.token, TOKEN);
	message_free(&said);
}

static enum message_outcome ask(const struct home *h, bool and_release)
{
	const struct message query = { .type = WIRE_QUERY, .query.token = TOKEN };
	struct channel *ch = NULL;
	pid_t pid = connect_to(h, serve, &ch);
	enum message_outcome said;
	struct message m;
	struct error err;

	OK(channel_send(ch, &query, &err));
	OK(channel_receive(ch, WIRE_ANSWER, &m, &err));
	said = m.answer.outcome;
	message_free(&m);
	if (and_release)
		release(ch);
	channel_free(ch);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	return said;
}

static void question_decides_what_was_open(void **state)
{
	const struct home *h = *state;

	assert_int_equal(ask(h, false), MESSAGE_OUTCOME_REFUSED);
	assert_int_equal(decide(h, TOKEN_RESUMED), TOKEN_REFUSED);
	/* COMMIT may still be on its way: a refusal is not forgotten. */
	assert_int_equal(ask(h, true), MESSAGE_OUTCOME_REFUSED);
	assert_int_equal(outcome_of(h), TOKEN_REFUSED);
}

/* Whoever was to put it on disk may be dead. */
static void what_runs_is_put_on_disk_by_whoever_is_asked(void **state)
{
	const struct home *h = *state;
	struct copy o = copy_of(h, 0);
	struct container_state st;
	struct error err;

	(void)decide(h, TOKEN_RESUMED);
	container_unlock(o.c);
	assert_int_equal(ask(h, false), MESSAGE_OUTCOME_SYNCED);
	OK(container_state(o.c, &st, &err));
	assert_int_equal(st.status, CONTAINER_RUNNING);
	assert_false(has_mark(o.c));
	assert_int_equal(outcome_of(h), TOKEN_SYNCED);
	assert_int_equal(ask(h, true), MESSAGE_OUTCOME_SYNCED);
	assert_int_equal(outcome_of(h), TOKEN_UNKNOWN);
	assert_true(is_there(h));
	bury(&o);
}

static void what_its_monitor_is_just_resuming_is_told_as_such(void **state)
{
	const struct home *h = *state;
	struct copy o = copy_of(h, getpid());

	(void)decide(h, TOKEN_RESUMED);
	container_unlock(o.c);
	assert_int_equal(ask(h, false), MESSAGE_OUTCOME_RESUMED);
	assert_true(has_mark(o.c));
	assert_int_equal(outcome_of(h), TOKEN_RESUMED);
	bury(&o);
}

static void what_was_lost_is_told_until_released(void **state)
{
	const struct home *h = *state;

	write_lost(h);
	assert_int_equal(ask(h, false), MESSAGE_OUTCOME_LOST);
	assert_int_equal(outcome_of(h), TOKEN_LOST);
	assert_int_equal(ask(h, true), MESSAGE_OUTCOME_LOST);
	assert_int_equal(outcome_of(h), TOKEN_UNKNOWN);
}

static void release_may_come_alone_and_twice(void **state)
{
	const struct home *h = *state;
	struct channel *ch = NULL;

	(void)decide(h, TOKEN_RESUMED);
	for (int i = 0; i < 2; i++) {
		pid_t pid = connect_to(h, serve, &ch);

		release(ch);
		channel_free(ch);
		assert_int_equal(waitpid(pid, NULL, 0), pid);
		assert_int_equal(outcome_of(h), TOKEN_UNKNOWN);
	}
}

static int serve_one_that_says_nothing(const struct home *h, int fd)
{
	bool spoken = false;
	struct error err;

	(void)fault_init("first-word-s:value=1", &err);
	return target_serve(h->node, fd, &spoken, NULL, NULL, &err) == -ETIMEDOUT && !spoken ? 0 : -1;
}

/* It greets, and wants nothing. */
static void who_says_nothing_is_left(void **state)
{
	CLEANUP(channel_freep) struct channel *ch = NULL;
	pid_t pid = connect_to(*state, serve_one_that_says_nothing, &ch);
	struct message m;
	struct error err;
	int status;

	channel_set_patience(ch, 10000000);
	assert_int_equal(channel_receive(ch, 0, &m, &err), -ECONNRESET);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

/* One that was slow, while another has settled it and the source has released it. */
static void what_is_settled_and_forgotten_is_not_taken_for_undecided(void **state)
{
	const struct home *h = *state;
	struct error err;
	enum protocol_state now;
	struct copy o = copy_of(h, 0);
	const struct incoming in = { .node = h->node, .token = TOKEN, .container = o.c };

	OK(incoming_state(&in, &now, &err));
	assert_int_equal(now, TARGET_INCOMING);
	assert_int_equal(unlinkat(o.c->dir_fd, CONTAINER_MARK, 0), 0);
	OK(incoming_state(&in, &now, &err));
	assert_int_equal(now, TARGET_NOTHING);
	OK(incoming_event(&in, EVENT_SYNC, &err));
	OK(incoming_event(&in, EVENT_SWEEP, &err));
	assert_true(is_there(h));
	assert_int_equal(kill(o.pid, 0), 0);
	assert_int_equal(waitpid(o.pid, NULL, WNOHANG), 0);
	assert_int_equal(outcome_of(h), TOKEN_UNKNOWN);
	bury(&o);
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, home_setup, home_teardown)
	const struct CMUnitTest tests[] = {
		TEST(undecided_copy_is_removed),
		TEST(resumed_copy_is_the_only_one_and_runs),
		TEST(living_receiver_is_left_alone),
		TEST(damaged_record_keeps_the_copy),
		TEST(restore_without_a_token_is_removed),
		TEST(what_ran_before_a_crash_is_lost_and_removed),
		TEST(only_what_is_on_disk_is_told_as_such),
		TEST(refusal_is_kept_as_long_as_anybody_could_resume),
		TEST(what_runs_is_put_on_disk_before_more_is_done_with_it),
		TEST(what_was_settled_by_another_is_not_swept_away),
		TEST(question_decides_what_was_open),
		TEST(what_runs_is_put_on_disk_by_whoever_is_asked),
		TEST(what_its_monitor_is_just_resuming_is_told_as_such),
		TEST(what_was_lost_is_told_until_released),
		TEST(release_may_come_alone_and_twice),
		TEST(who_says_nothing_is_left),
		TEST(what_is_settled_and_forgotten_is_not_taken_for_undecided),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

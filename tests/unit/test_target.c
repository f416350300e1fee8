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
#include "migrate/channel_state.h"
#include "migrate/incoming.h"
#include "migrate/target.h"
#include "migrate/token.h"
#include "tests/unit/node_fixture.h"

#define TOKEN "0123456789abcdef0123456789abcdef"

/* A frozen copy of one plain process; monitor: whose name its state has. */
static struct container *incoming(const struct home *h, struct cgroup **ret_cg, pid_t *ret_pid, pid_t monitor)
{
	struct container *c;
	struct container_state st = { .status = CONTAINER_INCOMING, .exit_code = -1 };
	struct error err;

	*ret_pid = fork();		/* without the container's lock */
	if (*ret_pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			(void)pause();
	}
	c = home_container(h, "web", "", CONTAINER_INCOMING);
	OK(container_cgroup(c, true, ret_cg, &err));
	OK(cgroup_join(*ret_cg, *ret_pid, &err));
	OK(cgroup_freeze(*ret_cg, 10000000, &err));
	container_state_stamp(&st, *ret_pid, monitor);
	OK(container_state_write(c, &st, &err));
	OK(fd_replace_file_at(c->dir_fd, "token", TOKEN, strlen(TOKEN), 0600, FD_REPLACE, &err));
	return c;
}

static void bury(struct cgroup *cg, pid_t pid)
{
	struct error err;

	OK(cgroup_kill(cg, 10000000, &err));
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	cgroup_free(cg);
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

static void undecided_copy_is_removed(void **state)
{
	const struct home *h = *state;
	struct cgroup *cg;
	struct error err;
	pid_t pid;

	container_free(incoming(h, &cg, &pid, 0));
	OK(incoming_sweep(h->node, 0, &err));
	assert_false(is_there(h));
	assert_int_equal(outcome_of(h), TOKEN_UNKNOWN);
	bury(cg, pid);
}

/* The source was told so, and has destroyed the original. */
static void resumed_copy_is_the_only_one_and_runs(void **state)
{
	const struct home *h = *state;
	struct cgroup *cg;
	pid_t pid;
	struct container *c = incoming(h, &cg, &pid, 0);
	struct container_state st;
	enum token_outcome now;
	struct error err;
	bool frozen;

	OK(token_decide(h->node, TOKEN, TOKEN_RESUMED, &now, &err));
	container_unlock(c);
	OK(incoming_sweep(h->node, 0, &err));
	assert_true(is_there(h));
	OK(container_state(c, &st, &err));
	assert_int_equal(st.status, CONTAINER_RUNNING);
	assert_int_equal(st.pid, pid);
	OK(cgroup_is_frozen(cg, &frozen, &err));
	assert_false(frozen);
	assert_int_equal(outcome_of(h), TOKEN_RESUMED);
	OK(incoming_sweep(h->node, 0, &err));
	assert_true(is_there(h));
	container_free(c);
	bury(cg, pid);
}

static void living_receiver_is_left_alone(void **state)
{
	const struct home *h = *state;
	struct cgroup *cg;
	pid_t pid;
	struct container *c = incoming(h, &cg, &pid, getpid());
	struct error err;

	OK(incoming_sweep(h->node, 0, &err));
	container_unlock(c);
	OK(incoming_sweep(h->node, 0, &err));
	assert_true(is_there(h));
	assert_int_equal(outcome_of(h), TOKEN_UNKNOWN);
	container_free(c);
	bury(cg, pid);
}

static void damaged_record_keeps_the_copy(void **state)
{
	const struct home *h = *state;
	struct cgroup *cg;
	struct error err;
	pid_t pid;

	container_free(incoming(h, &cg, &pid, 0));
	home_put(h, "record", "perhaps\n");
	assert_int_equal(renameat(h->node->state_fd, "record", h->node->state_fd, "tokens/" TOKEN), 0);
	assert_true(incoming_sweep(h->node, 0, &err) < 0);
	assert_true(is_there(h));
	bury(cg, pid);
}

static void restore_without_a_token_is_removed(void **state)
{
	const struct home *h = *state;
	struct cgroup *cg;
	pid_t pid;
	struct container *c = incoming(h, &cg, &pid, 0);
	struct error err;

	assert_int_equal(unlinkat(c->dir_fd, "token", 0), 0);
	container_free(c);
	OK(incoming_sweep(h->node, 0, &err));
	assert_false(is_there(h));
	bury(cg, pid);
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
	struct cgroup *cg;
	pid_t pid;
	struct container *c = incoming(h, &cg, &pid, 0);
	struct error err;

	write_lost(h);
	FAILS(incoming_finish(c, &err), ESTALE, "goes on where it came from");
	container_free(c);
	OK(incoming_sweep(h->node, 0, &err));
	assert_false(is_there(h));
	assert_int_equal(outcome_of(h), TOKEN_LOST);
	bury(cg, pid);
}

static void refusal_is_kept_as_long_as_anybody_could_resume(void **state)
{
	const struct home *h = *state;
	struct cgroup *cg;
	pid_t pid;
	struct container *c = incoming(h, &cg, &pid, getpid());
	enum token_outcome now;
	struct error err;

	OK(token_decide(h->node, TOKEN, TOKEN_REFUSED, &now, &err));
	container_unlock(c);
	OK(incoming_sweep(h->node, 0, &err));
	assert_int_equal(outcome_of(h), TOKEN_REFUSED);
	OK(container_clean(c, false, &err));
	container_free(c);
	OK(incoming_sweep(h->node, 0, &err));
	assert_int_equal(outcome_of(h), TOKEN_UNKNOWN);
	bury(cg, pid);
}

static bool has_mark(const struct container *c)
{
	return faccessat(c->dir_fd, INCOMING_MARK, F_OK, 0) == 0;
}

/* Before it may be started, moved on or removed. */
static void what_runs_is_put_on_disk_before_more_is_done_with_it(void **state)
{
	const struct home *h = *state;
	struct cgroup *cg;
	pid_t pid;
	struct container *c = incoming(h, &cg, &pid, 0);
	enum token_outcome now;
	struct error err;

	OK(token_decide(h->node, TOKEN, TOKEN_RESUMED, &now, &err));
	FAILS(incoming_finish(c, &err), EBUSY, "its monitor has not recorded yet that it runs");
	assert_true(has_mark(c));
	container_unlock(c);
	OK(incoming_sweep(h->node, 0, &err));
	OK(incoming_finish(c, &err));
	assert_false(has_mark(c));
	assert_int_equal(outcome_of(h), TOKEN_SYNCED);
	OK(incoming_finish(c, &err));
	container_free(c);
	bury(cg, pid);
}

/* Somebody who was asked has settled it, while another process still has it in hand. */
static void what_was_settled_by_another_is_not_swept_away(void **state)
{
	const struct home *h = *state;
	struct cgroup *cg;
	pid_t pid;
	struct container *c = incoming(h, &cg, &pid, 0);
	const struct incoming in = { .node = h->node, .token = TOKEN, .container = c };
	enum token_outcome now;
	struct error err;

	OK(token_decide(h->node, TOKEN, TOKEN_RESUMED, &now, &err));
	OK(incoming_event(&in, EVENT_SWEEP, &err));
	OK(incoming_event(&in, EVENT_SYNC, &err));
	OK(incoming_event(&in, EVENT_RELEASE, &err));
	assert_int_equal(outcome_of(h), TOKEN_UNKNOWN);
	for (const enum protocol_event *e = (const enum protocol_event[]){ EVENT_SYNC, EVENT_SWEEP, EVENT_HUNG_UP,
	     EVENT_QUERY, EVENT_SWEEP, EVENT_OFFER }; *e != EVENT_OFFER; e++)
		OK(incoming_event(&in, *e, &err));
	assert_true(is_there(h));
	assert_int_equal(kill(pid, 0), 0);
	container_free(c);
	bury(cg, pid);
}

/* ---- questions ---- */

static pid_t connect_to(const struct home *h, struct channel **ret)
{
	struct channel_peer peer;
	struct error err;
	int s[2];
	pid_t pid;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s), 0);
	pid = fork();
	if (pid == 0) {
		(void)close(s[0]);
		_exit(target_serve(h->node, s[1], NULL, NULL, NULL, &err) != 0);
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
	pid_t pid = connect_to(h, &ch);
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
	enum token_outcome now;
	struct error err;

	assert_int_equal(ask(h, false), MESSAGE_OUTCOME_REFUSED);
	OK(token_decide(h->node, TOKEN, TOKEN_RESUMED, &now, &err));
	assert_int_equal(now, TOKEN_REFUSED);
	/* COMMIT may still be on its way: a refusal is not forgotten. */
	assert_int_equal(ask(h, true), MESSAGE_OUTCOME_REFUSED);
	assert_int_equal(outcome_of(h), TOKEN_REFUSED);
}

/* Whoever was to put it on disk may be dead. */
static void what_runs_is_put_on_disk_by_whoever_is_asked(void **state)
{
	const struct home *h = *state;
	struct cgroup *cg;
	pid_t pid;
	struct container *c = incoming(h, &cg, &pid, 0);
	struct container_state st;
	enum token_outcome now;
	struct error err;

	OK(token_decide(h->node, TOKEN, TOKEN_RESUMED, &now, &err));
	container_unlock(c);
	assert_int_equal(ask(h, false), MESSAGE_OUTCOME_SYNCED);
	OK(container_state(c, &st, &err));
	assert_int_equal(st.status, CONTAINER_RUNNING);
	assert_false(has_mark(c));
	assert_int_equal(outcome_of(h), TOKEN_SYNCED);
	assert_int_equal(ask(h, true), MESSAGE_OUTCOME_SYNCED);
	assert_int_equal(outcome_of(h), TOKEN_UNKNOWN);
	assert_true(is_there(h));
	container_free(c);
	bury(cg, pid);
}

static void what_its_monitor_is_just_resuming_is_told_as_such(void **state)
{
	const struct home *h = *state;
	struct cgroup *cg;
	pid_t pid;
	struct container *c = incoming(h, &cg, &pid, getpid());
	enum token_outcome now;
	struct error err;

	OK(token_decide(h->node, TOKEN, TOKEN_RESUMED, &now, &err));
	container_unlock(c);
	assert_int_equal(ask(h, false), MESSAGE_OUTCOME_RESUMED);
	assert_true(has_mark(c));
	assert_int_equal(outcome_of(h), TOKEN_RESUMED);
	container_free(c);
	bury(cg, pid);
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
	enum token_outcome now;
	struct error err;

	OK(token_decide(h->node, TOKEN, TOKEN_RESUMED, &now, &err));
	for (int i = 0; i < 2; i++) {
		pid_t pid = connect_to(h, &ch);

		release(ch);
		channel_free(ch);
		assert_int_equal(waitpid(pid, NULL, 0), pid);
		assert_int_equal(outcome_of(h), TOKEN_UNKNOWN);
	}
}

/* It greets, and wants nothing. */
static void who_says_nothing_is_left(void **state)
{
	const struct home *h = *state;
	CLEANUP(channel_freep) struct channel *ch = NULL;
	struct channel_peer peer;
	struct message m;
	struct error err;
	int s[2], status;
	pid_t pid;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s), 0);
	pid = fork();
	if (pid == 0) {
		bool spoken = false;

		(void)close(s[0]);
		(void)fault_init("first-word-s:value=1", &err);
		_exit(target_serve(h->node, s[1], &spoken, NULL, NULL, &err) != -ETIMEDOUT || spoken);
	}
	(void)close(s[1]);
	OK(channel_new(s[0], WIRE_SOURCE, &ch, &err));
	OK(channel_greet(ch, "seal", TOKEN, &peer, &err));
	channel_set_patience(ch, 10000000);
	assert_int_equal(channel_receive(ch, 0, &m, &err), -ECONNRESET);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

/* One that was slow, while another has settled it and the source has released it. */
static void what_is_settled_and_forgotten_is_not_taken_for_undecided(void **state)
{
	const struct home *h = *state;
	struct cgroup *cg;
	struct error err;
	enum protocol_state now;
	pid_t pid;
	CLEANUP(container_freep) struct container *c = incoming(h, &cg, &pid, 0);
	const struct incoming in = { .node = h->node, .token = TOKEN, .container = c };

	OK(incoming_state(&in, &now, &err));
	assert_int_equal(now, TARGET_INCOMING);
	assert_int_equal(unlinkat(c->dir_fd, INCOMING_MARK, 0), 0);
	OK(incoming_state(&in, &now, &err));
	assert_int_equal(now, TARGET_NOTHING);
	OK(incoming_event(&in, EVENT_SYNC, &err));
	OK(incoming_event(&in, EVENT_SWEEP, &err));
	assert_true(is_there(h));
	assert_int_equal(kill(pid, 0), 0);
	assert_int_equal(waitpid(pid, NULL, WNOHANG), 0);
	assert_int_equal(outcome_of(h), TOKEN_UNKNOWN);
	bury(cg, pid);
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

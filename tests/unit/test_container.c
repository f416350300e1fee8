#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

#include "engine/container.h"
#include "tests/unit/node_fixture.h"

#define RACERS 8

static void write_state(struct container *c, enum container_status s, pid_t pid, pid_t monitor)
{
	struct container_state st = { .status = s, .exit_code = 9, .started_us = 4, .migrations = 2 };
	struct error err;

	container_state_stamp(&st, pid, monitor);
	OK(container_state_write(c, &st, &err));
}

static enum container_status status_now(const struct container *c, struct container_state *st)
{
	struct error err;

	OK(container_state(c, st, &err));
	return st->status;
}

static void folder_appears_and_is_read_again(void **state)
{
	const struct home *h = *state;
	CLEANUP(container_freep) struct container *c = home_container(h, "web", "10.231.7.9/16", CONTAINER_CREATED);
	CLEANUP(container_freep) struct container *again = NULL;
	struct container_state st;
	struct error err;
	char **names;
	size_t n;

	OK(container_open(h->node, "web", &again, &err));
	assert_string_equal(again->spec->endpoint.address, "10.231.7.9/16");
	assert_int_equal(status_now(again, &st), CONTAINER_CREATED);
	assert_int_equal(st.exit_code, -1);
	FAILS(container_lock(again, false, &err), EBUSY, "another operation");
	container_unlock(c);
	OK(container_lock(again, false, &err));
	OK(container_list(h->node, &names, &n, &err));
	assert_int_equal(n, 1);
	assert_string_equal(names[0], "web");
	free(names[0]);
	free(names);
	OK(container_clean(c, false, &err));
	OK(container_clean(c, false, &err));
	container_free(again);
	again = NULL;
	FAILS(container_open(h->node, "web", &again, &err), ENOENT, "no container 'web' on walrus");
	FAILS(container_open(h->node, "../web", &again, &err), EINVAL, "../web");
}

static void one_of_many_gets_the_name(void **state)
{
	const struct home *h = *state;
	int won = 0, go[2];
	pid_t pids[RACERS];

	assert_int_equal(pipe(go), 0);
	for (int i = 0; i < RACERS; i++) {
		pids[i] = fork();
		if (pids[i] == 0) {
			struct container *c;
			struct error err;
			char byte;

			(void)close(go[1]);
			(void)!read(go[0], &byte, 1);
			_exit(container_create(h->node, home_spec("web", ""), CONTAINER_CREATED, &c, &err) == 0 ?
			      100 : -err.code == -EEXIST ? 50 : 1);
		}
	}
	(void)close(go[0]);
	(void)close(go[1]);
	for (int i = 0; i < RACERS; i++) {
		int status;

		assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
		assert_true(WIFEXITED(status) && (WEXITSTATUS(status) == 100 || WEXITSTATUS(status) == 50));
		won += WEXITSTATUS(status) == 100;
	}
	assert_int_equal(won, 1);
}

static void status_is_checked_against_the_kernel(void **state)
{
	const struct home *h = *state;
	CLEANUP(container_freep) struct container *c = home_container(h, "web", "", CONTAINER_CREATED);
	struct container_state st;
	pid_t pid = fork();

	if (pid == 0) {
		(void)pause();
		_exit(0);
	}
	write_state(c, CONTAINER_RUNNING, pid, getpid());
	assert_int_equal(status_now(c, &st), CONTAINER_RUNNING);
	assert_true(st.monitor_alive && st.migrations == 2 && st.started_us == 4);
	write_state(c, CONTAINER_RUNNING, pid, 0);
	assert_int_equal(status_now(c, &st), CONTAINER_RUNNING);
	assert_false(st.monitor_alive);
	(void)kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_int_equal(status_now(c, &st), CONTAINER_EXITED);
	assert_int_equal(st.exit_code, -1);
	assert_non_null(strstr(st.reason, "monitor was killed"));
}

static void other_boot_and_other_process_of_that_pid(void **state)
{
	const struct home *h = *state;
	CLEANUP(container_freep) struct container *c = home_container(h, "web", "", CONTAINER_CREATED);
	struct container_state st = { .status = CONTAINER_RUNNING };
	struct error err;

	container_state_stamp(&st, getpid(), 0);
	st.pid_start++;
	OK(container_state_write(c, &st, &err));
	assert_int_equal(status_now(c, &st), CONTAINER_EXITED);
	st.status = CONTAINER_PAUSED;
	container_state_stamp(&st, getpid(), getpid());
	strcpy(st.boot_id, "another");
	OK(container_state_write(c, &st, &err));
	assert_int_equal(status_now(c, &st), CONTAINER_EXITED);
	assert_false(st.monitor_alive);
	assert_non_null(strstr(st.reason, "restarted"));
}

/* Frozen by whatever: it must look neither paused nor running. */
static void decided_migration_is_in_doubt(void **state)
{
	const struct home *h = *state;
	CLEANUP(container_freep) struct container *c = home_container(h, "web", "", CONTAINER_CREATED);
	struct container_state st;
	struct error err;

	write_state(c, CONTAINER_MIGRATING, getpid(), getpid());
	assert_int_equal(status_now(c, &st), CONTAINER_MIGRATING);
	write_state(c, CONTAINER_MIGRATING, getpid(), 0);
	assert_int_equal(status_now(c, &st), CONTAINER_RUNNING);
	OK(fd_replace_file_at(c->dir_fd, "handover.json", "{}", 2, 0600, FD_REPLACE, &err));
	assert_int_equal(status_now(c, &st), CONTAINER_IN_DOUBT);
	write_state(c, CONTAINER_RUNNING, getpid(), getpid());
	assert_int_equal(status_now(c, &st), CONTAINER_IN_DOUBT);
}

static void damaged_state_is_told(void **state)
{
	static const char *const bad[] = { "", "{}", "[1]", "{\"status\":\"flying\"}" };
	const struct home *h = *state;
	CLEANUP(container_freep) struct container *c = home_container(h, "web", "", CONTAINER_CREATED);
	struct container_state st;
	struct error err;

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		OK(fd_replace_file_at(c->dir_fd, "state.json", bad[i], strlen(bad[i]), 0600, FD_REPLACE, &err));
		FAILS(container_state(c, &st, &err), EINVAL, "container 'web': state.json");
	}
}

static void cleaning_spares_the_next_of_that_name(void **state)
{
	const struct home *h = *state;
	CLEANUP(container_freep) struct container *old = home_container(h, "web", "", CONTAINER_EXITED);
	CLEANUP(container_freep) struct container *new = NULL;
	CLEANUP(container_freep) struct container *found = NULL;
	struct error err;

	OK(fd_remove_tree_at(h->node->containers_fd, "web", &err));
	new = home_container(h, "web", "", CONTAINER_CREATED);
	OK(container_clean(old, false, &err));
	OK(container_open(h->node, "web", &found, &err));
}

static void interface_names_fit_and_differ(void **state)
{
	const struct home *h = *state;
	CLEANUP(container_freep) struct container *a = home_container(h, "web-1", "", CONTAINER_CREATED);
	CLEANUP(container_freep) struct container *b = home_container(h, "web-2", "", CONTAINER_CREATED);
	char x[IFNAMSIZ], y[IFNAMSIZ], z[IFNAMSIZ];

	container_host_ifname(a, x);
	container_host_ifname(a, y);
	container_host_ifname(b, z);
	assert_string_equal(x, y);
	assert_string_not_equal(x, z);
	assert_int_equal(strlen(x), 14);
}

static void what_the_dead_did_not_finish_goes(void **state)
{
	const struct home *h = *state;
	CLEANUP(container_freep) struct container *c = home_container(h, "web", "", CONTAINER_CREATED);
	char ours[64], theirs[64];
	const char *const all[] = { theirs, ours, ".tmp", ".x.tmp", "a.tmp1", "meta" };
	struct error err;
	siginfo_t info;
	pid_t pid = fork();

	if (pid == 0)
		_exit(0);
	assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);	/* a zombie is dead */
	(void)snprintf(ours, sizeof(ours), ".state.json.tmp%d", (int)getpid());
	(void)snprintf(theirs, sizeof(theirs), ".state.json.tmp%d", (int)pid);
	for (size_t i = 0; i < 5; i++)
		assert_int_equal(close(openat(c->dir_fd, all[i], O_CREAT | O_WRONLY | O_CLOEXEC, 0600)), 0);
	container_unlock(c);
	OK(container_lock(c, false, &err));
	for (size_t i = 0; i < 6; i++)
		assert_int_equal(faccessat(c->dir_fd, all[i], F_OK, 0), i ? 0 : -1);
	container_remove_temporary_at(-EBADF);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(folder_appears_and_is_read_again, home_setup, home_teardown),
		cmocka_unit_test_setup_teardown(one_of_many_gets_the_name, home_setup, home_teardown),
		cmocka_unit_test_setup_teardown(status_is_checked_against_the_kernel, home_setup, home_teardown),
		cmocka_unit_test_setup_teardown(other_boot_and_other_process_of_that_pid, home_setup, home_teardown),
		cmocka_unit_test_setup_teardown(decided_migration_is_in_doubt, home_setup, home_teardown),
		cmocka_unit_test_setup_teardown(damaged_state_is_told, home_setup, home_teardown),
		cmocka_unit_test_setup_teardown(cleaning_spares_the_next_of_that_name, home_setup, home_teardown),
		cmocka_unit_test_setup_teardown(what_the_dead_did_not_finish_goes, home_setup, home_teardown),
		cmocka_unit_test_setup_teardown(interface_names_fit_and_differ, home_setup, home_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

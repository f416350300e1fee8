/* What is reserved counts as long as somebody works on it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <sys/wait.h>

#include "migrate/admission/reservation.h"
#include "migrate/incoming.h"
#include "tests/unit/node_fixture.h"

/* An incoming container whose receiver is that process. */
static struct container *incoming(const struct home *h, const char *name, pid_t receiver, uint64_t memory)
{
	struct container *c = home_container(h, name, "", CONTAINER_INCOMING);
	const struct reservation r = { .memory_bytes = memory, .disk_bytes = 20, .tasks = 3 };
	struct container_state st = { .status = CONTAINER_INCOMING, .exit_code = -1 };
	struct error err;

	container_state_stamp(&st, 0, receiver);
	OK(container_state_write(c, &st, &err));
	OK(reservation_write(c, &r, &err));
	container_unlock(c);
	return c;
}

static uint64_t memory_of(const struct home *h, const char *except)
{
	struct reservation sum;
	struct error err;

	OK(reservation_sum(h->node, except, &sum, &err));
	return sum.memory_bytes;
}

static void those_who_live_count(void **state)
{
	const struct home *h = *state;
	struct container *one = incoming(h, "one", getpid(), 1000), *two = incoming(h, "two", getpid(), 500);
	struct reservation left = { .memory_bytes = 100 }, sum;
	struct error err;

	OK(reservation_sum(h->node, NULL, &sum, &err));
	assert_int_equal(sum.memory_bytes, 1500);
	assert_int_equal(sum.disk_bytes, 40);
	assert_int_equal(sum.tasks, 6);
	assert_int_equal(memory_of(h, "one"), 500);
	OK(reservation_write(one, &left, &err));
	assert_int_equal(memory_of(h, NULL), 600);
	container_free(one);
	container_free(two);
}

static void the_dead_hold_nothing(void **state)
{
	const struct home *h = *state;
	int hold[2];
	struct container *c;
	struct error err;
	pid_t pid;
	char byte;

	assert_int_equal(pipe(hold), 0);
	pid = fork();
	if (pid == 0) {
		(void)close(hold[1]);
		_exit((int)read(hold[0], &byte, 1));
	}
	c = incoming(h, "one", pid, 1000);
	assert_int_equal(memory_of(h, NULL), 1000);
	(void)close(hold[1]);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_int_equal(memory_of(h, NULL), 0);
	/* And its name is free again. */
	OK(incoming_sweep(h->node, 0, &err));
	assert_int_not_equal(faccessat(h->node->containers_fd, "one", F_OK, 0), 0);
	container_free(c);
	(void)close(hold[0]);
}

/* It is about to end: its name is wanted. */
static void a_monitor_that_ends_is_waited_for(void **state)
{
	const struct home *h = *state;
	struct container *c;
	struct error err;
	pid_t pid = fork();

	if (pid == 0) {
		(void)usleep(200000);
		_exit(0);
	}
	c = incoming(h, "one", pid, 1000);
	OK(incoming_sweep(h->node, 5000000, &err));
	assert_int_not_equal(faccessat(h->node->containers_fd, "one", F_OK, 0), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	container_free(c);
}

static void what_has_arrived_is_not_reserved(void **state)
{
	const struct home *h = *state;
	struct container *c = incoming(h, "one", getpid(), 1000);
	struct container_state st;
	struct error err;

	OK(container_state(c, &st, &err));
	st.status = CONTAINER_RUNNING;
	OK(container_state_write(c, &st, &err));
	assert_int_equal(memory_of(h, NULL), 0);
	container_free(c);
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, home_setup, home_teardown)
	const struct CMUnitTest tests[] = {
		TEST(those_who_live_count),
		TEST(the_dead_hold_nothing),
		TEST(a_monitor_that_ends_is_waited_for),
		TEST(what_has_arrived_is_not_reserved),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

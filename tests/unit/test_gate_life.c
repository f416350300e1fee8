/* What becomes of a gate, of who uses it, and of what passes it when it is open. */
#include "engine/base/fault.h"
#include "tests/unit/gate_fixture.h"

#include <linux/bpf.h>
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>

/* The id of the gate's program, as tc tells it; 0 when there is none. */
static uint32_t program_id(void)
{
	return (uint32_t)number_of(node_fd, "tc filter show dev " WEB " egress | "
				   "sed -n 's/.*godwit_gate.* id \\([0-9]*\\).*/\\1/p'");
}

static bool program_exists(uint32_t id)
{
	union bpf_attr attr = { .prog_id = id };
	int fd = (int)syscall(SYS_bpf, BPF_PROG_GET_FD_BY_ID, &attr, sizeof(attr));

	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

static void expect_no_gate(uint32_t id)
{
	uint64_t until = clock_us() + 5000000;

	assert_int_equal(number_of(node_fd, "(tc filter show dev " WEB " egress;"
				   " tc filter show dev " WEB " ingress) | grep -c bpf || true"), 0);
	while (program_exists(id) && clock_us() < until)	/* after RCU's grace period */
		(void)usleep(1000);
	assert_false(program_exists(id));
}

static void freed_nothing_is_left(void **state)
{
	struct gate *gate = NULL;
	struct container c;
	struct line l;
	uint32_t id;

	(void)state;
	web_up(&c, "10.99.0.7/16", NETWORK_GATE_OPEN);
	udp_up(&l, &c, "10.99.0.1", "10.99.0.7");
	OK(gate_arm(WEB, c.netns_fd, GATE_OPEN, &gate, err));
	id = program_id();
	assert_true(id > 0 && program_exists(id));
	gate_free(TAKE_PTR(gate));
	expect_no_gate(id);
	assert_true(gets_through(l.here, l.there, SOON_MS));

	/* a gate that is not open stays shut, until network_gate_set */
	OK(gate_arm(WEB, c.netns_fd, GATE_OPEN, &gate, err));
	id = program_id();
	gate_set(gate, GATE_HELD);
	gate_free(TAKE_PTR(gate));
	assert_int_equal(program_id(), 0);
	assert_false(gets_through(l.here, l.there, 20));
	assert_false(gets_through(l.there, l.here, 20));
	OK(network_gate_set(WEB, NETWORK_GATE_OPEN, err));
	expect_no_gate(id);
	assert_true(gets_through(l.here, l.there, SOON_MS));

	/* somebody has opened it: its owner doesn't close it again */
	OK(gate_arm(WEB, c.netns_fd, GATE_OPEN, &gate, err));
	gate_set(gate, GATE_HELD);
	OK(network_gate_set(WEB, NETWORK_GATE_OPEN, err));
	gate_free(TAKE_PTR(gate));
	assert_true(gets_through(l.here, l.there, SOON_MS));
	line_down(&l);
	container_down(&c);
	gate_free(NULL);
	FAILS(gate_arm(WEB, c.netns_fd, GATE_OPEN, &gate, err), ENODEV, WEB);
	assert_null(gate);
}

static void owner_may_be_killed(void **state)
{
	struct container c;
	struct line l;
	uint32_t id;
	int pipes[2];
	char ready;
	pid_t pid;

	(void)state;
	web_up(&c, "10.99.0.7/16", NETWORK_GATE_OPEN);
	udp_up(&l, &c, "10.99.0.1", "10.99.0.7");
	assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
	pid = fork();
	if (pid == 0) {
		struct gate *gate = NULL;
		struct error err;

		if (gate_arm(WEB, c.netns_fd, GATE_OPEN, &gate, &err) < 0)
			_exit(1);
		gate_set(gate, GATE_HELD);
		(void)!write(pipes[1], "", 1);
		for (;;)
			(void)pause();
	}
	close(pipes[1]);
	assert_int_equal(read(pipes[0], &ready, 1), 1);
	close(pipes[0]);
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	id = program_id();
	assert_true(id > 0);
	assert_false(gets_through(l.here, l.there, 50));
	assert_false(gets_through(l.there, l.here, 50));
	OK(network_gate_set(WEB, NETWORK_GATE_OPEN, err));
	expect_no_gate(id);
	assert_true(gets_through(l.here, l.there, SOON_MS));
	assert_true(gets_through(l.there, l.here, SOON_MS));
	line_down(&l);
	container_down(&c);
}

static int refuse(const struct gate_frame *frame, void *data, struct error *err)
{
	(void)frame;
	++*(int *)data;
	return error_set(err, EPIPE, "the channel is broken");
}

static void taking_stops_where_it_is_told(void **state)
{
	CLEANUP(gate_freep) struct gate *gate = NULL;
	struct parcel *p = calloc(1, sizeof(*p));
	struct container c;
	struct line l;
	int seen = 0;

	(void)state;
	web_up(&c, "10.99.0.7/16", NETWORK_GATE_OPEN);
	udp_up(&l, &c, "10.99.0.1", "10.99.0.7");
	OK(gate_arm(WEB, c.netns_fd, GATE_OPEN, &gate, err));
	gate_set(gate, GATE_HELD);
	for (int i = 0; i < 3; i++)
		assert_int_equal(send(l.here, "datagram", 8, 0), 8);
	FAILS(gate_take(gate, refuse, &seen, err), EPIPE, "broken");
	assert_int_equal(seen, 1);
	OK(gate_take(gate, keep, p, err));
	assert_true(p->n >= 2);
	line_down(&l);
	container_down(&c);
	free(p);
}

struct traffic {
	struct line line;
	bool stop;
	long sent, lost;
};

/* There and back, one datagram after the other. */
static void *converse(void *data)
{
	struct traffic *t = data;
	char text[8];

	while (!__atomic_load_n(&t->stop, __ATOMIC_ACQUIRE))
		for (int i = 0; i < 2; i++) {
			int from = i ? t->line.there : t->line.here, to = i ? t->line.here : t->line.there;

			t->sent++;
			if (send(from, "datagram", 8, 0) != 8 || !readable(to, SOON_MS) ||
			    recv(to, text, sizeof(text), 0) != 8)
				t->lost++;
		}
	return NULL;
}

/* Not even while the programs come and go. */
static void an_open_gate_loses_nothing(void **state)
{
	struct traffic t = { .sent = 0 };
	struct container c;
	pthread_t thread;

	(void)state;
	web_up(&c, "10.99.0.7/16", NETWORK_GATE_OPEN);
	udp_up(&t.line, &c, "10.99.0.1", "10.99.0.7");
	assert_int_equal(pthread_create(&thread, NULL, converse, &t), 0);
	for (int i = 0; i < 30; i++) {
		struct gate *gate = NULL;

		OK(gate_arm(WEB, c.netns_fd, GATE_OPEN, &gate, err));
		(void)usleep(2000);
		gate_free(gate);
		OK(network_gate_set(WEB, NETWORK_GATE_OPEN, err));
	}
	__atomic_store_n(&t.stop, true, __ATOMIC_RELEASE);
	assert_int_equal(pthread_join(thread, NULL), 0);
	print_message("%ld datagrams\n", t.sent);
	assert_true(t.sent > 1000);
	assert_int_equal(t.lost, 0);
	line_down(&t.line);
	container_down(&c);
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* Limits that only a mistake exceeds; the numbers are for people. */
static void it_is_quick(void **state)
{
	double arm_us[15], free_us[15];
	struct container c;
	uint64_t t0, set_us;

	(void)state;
	web_up(&c, "10.99.0.7/16", NETWORK_GATE_OPEN);
	for (int i = 0; i < 15; i++) {
		struct gate *gate = NULL;

		t0 = clock_us();
		OK(gate_arm(WEB, c.netns_fd, GATE_OPEN, &gate, err));
		arm_us[i] = (double)(clock_us() - t0);
		t0 = clock_us();
		for (int j = 0; j < 1000; j++)
			gate_set(gate, j % 2 ? GATE_OPEN : GATE_HELD);
		set_us = clock_us() - t0;
		t0 = clock_us();
		gate_free(gate);
		free_us[i] = (double)(clock_us() - t0);
	}
	qsort(arm_us, 15, sizeof(double), by_value);
	qsort(free_us, 15, sizeof(double), by_value);
	print_message("arm %.2f ms, set %.3f us, free %.2f ms (medians)\n", arm_us[7] / 1000,
		      (double)set_us / 1000, free_us[7] / 1000);
	assert_true(set_us < 20000);
	assert_true(arm_us[0] < 100000);
	container_down(&c);
}

static void what_has_waited_for_too_long_is_counted(void **state)
{
	CLEANUP(gate_freep) struct gate *gate = NULL;
	struct gate_counters n;
	struct container c;
	struct line l;
	struct error ignored;

	(void)state;
	if (fault_init("held-age-ms:value=50", &ignored) < 0)
		skip();
	web_up(&c, "10.99.0.7/16", NETWORK_GATE_OPEN);
	udp_up(&l, &c, "10.99.0.1", "10.99.0.7");
	OK(gate_arm(WEB, c.netns_fd, GATE_OPEN, &gate, err));
	OK(fault_init(NULL, err));
	gate_set(gate, GATE_HELD);
	for (int i = 0; i < 3; i++)
		assert_int_equal(send(l.here, "ping", 4, 0), 4);
	(void)usleep(60000);
	gate_release(gate);
	assert_false(readable(l.there, 20));
	gate_read_counters(gate, &n);
	assert_true(n.expired.frames >= 3 && n.expired.bytes >= 3 * 46);
	assert_int_equal(n.expired.frames + n.injected.frames, n.held.frames);	/* neighbours ask, too */
	assert_true(gets_through(l.here, l.there, SOON_MS));
	line_down(&l);
	container_down(&c);
}

static void others_can_look(void **state)
{
	struct gate_counters n, seen;
	enum gate_state at;
	struct gate *gate = NULL;
	struct container c;
	struct error failure;
	struct line l;

	(void)state;
	web_up(&c, "10.99.0.7/16", NETWORK_GATE_OPEN);
	udp_up(&l, &c, "10.99.0.1", "10.99.0.7");
	OK(gate_look(WEB, &at, &seen, err));
	OK(gate_arm(WEB, c.netns_fd, GATE_OPEN, &gate, err));
	gate_set(gate, GATE_HELD);
	assert_false(gets_through(l.here, l.there, 20));
	assert_int_equal(gate_look(WEB, &at, &seen, &failure), 1);
	assert_true(at == GATE_HELD && seen.held.frames > 0 && seen.to[GATE_HELD].frames >= seen.held.frames);
	gate_release(gate);
	gate_read_counters(gate, &n);
	assert_int_equal(gate_look(WEB, &at, &seen, &failure), 1);
	assert_true(at == GATE_OPEN && seen.injected.frames > 0);
	assert_memory_equal(&n.injected, &seen.injected, sizeof(n.injected));
	gate_free(gate);
	OK(gate_look(WEB, &at, &seen, err));
	OK(gate_look("gwg-nobody", &at, &seen, err));
	OK(network_gate_set(WEB, NETWORK_GATE_CLOSED, err));
	OK(gate_look(WEB, &at, &seen, err));		/* what drops everything counts nothing */
	line_down(&l);
	container_down(&c);
}

int main(void)
{
#define IN_A_NODE(test) cmocka_unit_test_setup_teardown(test, node_up, node_down)
	const struct CMUnitTest tests[] = {
		IN_A_NODE(freed_nothing_is_left),
		IN_A_NODE(owner_may_be_killed),
		IN_A_NODE(taking_stops_where_it_is_told),
		IN_A_NODE(an_open_gate_loses_nothing),
		IN_A_NODE(what_has_waited_for_too_long_is_counted),
		IN_A_NODE(others_can_look),
		IN_A_NODE(it_is_quick),
	};

	if (geteuid() != 0) {
		print_message("needs root\n");
		return 77;
	}
	return cmocka_run_group_tests(tests, remember_home, NULL);
}

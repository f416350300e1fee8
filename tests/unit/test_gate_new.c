#include "tests/unit/gate_fixture.h"

#include <errno.h>

static int connect_to(const char *ip, uint16_t port)
{
	struct sockaddr_storage sa;
	socklen_t len = address_of(ip, port, &sa);
	int fd = socket(sa.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_true(connect(fd, (struct sockaddr *)&sa, len) < 0 && errno == EINPROGRESS);
	return fd;
}

static bool connects(int fd, int timeout_ms)
{
	struct pollfd p = { .fd = fd, .events = POLLOUT };

	return poll(&p, 1, timeout_ms) == 1 && p.revents == POLLOUT;
}

static int listen_in(const struct container *c, const char *ip, uint16_t port)
{
	struct sockaddr_storage sa;
	socklen_t len = address_of(ip, port, &sa);
	int fd;

	enter(c->netns_fd);
	fd = socket(sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	enter(node_fd);
	assert_int_equal(bind(fd, (struct sockaddr *)&sa, len), 0);
	assert_int_equal(listen(fd, 8), 0);
	return fd;
}

/* What there is goes on; a new connection waits, and comes without being asked for again. */
static void new_connections_wait(const char *address, const char *here, const char *there)
{
	CLEANUP(gate_freep)
	struct gate *gate = NULL;
	struct gate_counters n;
	struct container c;
	struct line l;
	int listener, fd;
	long before;

	web_up(&c, address, NETWORK_GATE_OPEN);
	tcp_up(&l, &c, here, there);
	listener = listen_in(&c, there, PORT + 1);
	OK(gate_arm(WEB, c.netns_fd, GATE_OPEN, &gate, err));
	assert_true(gets_through(l.here, l.there, SOON_MS));
	before = number_of(node_fd, RETRANSMISSIONS);

	gate_hold_new(gate, 60000000);
	fd = connect_to(there, PORT + 1);
	assert_true(gets_through(l.here, l.there, SOON_MS));
	assert_true(gets_through(l.there, l.here, SOON_MS));
	assert_false(connects(fd, 50));
	gate_read_counters(gate, &n);
	assert_int_equal(n.held.frames, 1);

	gate_release(gate);
	assert_true(connects(fd, 500));
	assert_int_equal(number_of(node_fd, RETRANSMISSIONS), before);
	close(fd);
	close(listener);
	line_down(&l);
	container_down(&c);
}

static void new_connections_wait_ipv4(void **state)
{
	(void)state;
	new_connections_wait("10.99.0.7/16", "10.99.0.1", "10.99.0.7");
}

static void new_connections_wait_ipv6(void **state)
{
	(void)state;
	new_connections_wait("fd99::7/64", "fd99::1", "fd99::7");
}

/* As when who has armed it is gone. */
static void they_pass_after_a_while(void **state)
{
	CLEANUP(gate_freep)
	struct gate *gate = NULL;
	struct container c;
	int listener, fd;

	(void)state;
	web_up(&c, "10.99.0.7/16", NETWORK_GATE_OPEN);
	listener = listen_in(&c, "10.99.0.7", PORT + 1);
	OK(gate_arm(WEB, c.netns_fd, GATE_OPEN, &gate, err));
	gate_hold_new(gate, 0);
	fd = connect_to("10.99.0.7", PORT + 1);
	assert_true(connects(fd, 5000));
	close(fd);
	close(listener);
	container_down(&c);
}

#define IN_A_NODE(test) cmocka_unit_test_setup_teardown(test, node_up, node_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_A_NODE(new_connections_wait_ipv4),
		IN_A_NODE(new_connections_wait_ipv6),
		IN_A_NODE(they_pass_after_a_while),
	};

	if (geteuid() != 0) {
		print_message("needs root\n");
		return 77;
	}
	return cmocka_run_group_tests(tests, remember_home, NULL);
}

#include "tests/unit/gate_fixture.h"

/* The answer to a request that met a held gate comes as soon as the request is
 * delivered: nobody had to send it again. */
static void request_is_held(const char *address, const char *here, const char *there)
{
	CLEANUP(gate_freep) struct gate *gate = NULL;
	struct parcel *p = calloc(1, sizeof(*p));
	struct gate_counters n;
	struct container c;
	struct line l;
	char text[32];
	long before;
	uint64_t t0;

	web_up(&c, address, NETWORK_GATE_OPEN);
	retransmit_after(&c, here, there, RETRANSMIT_NEVER);
	tcp_up(&l, &c, here, there);
	OK(gate_arm(WEB, c.netns_fd, GATE_OPEN, &gate, err));
	assert_true(gets_through(l.here, l.there, SOON_MS));
	assert_true(gets_through(l.there, l.here, SOON_MS));
	(void)usleep(60000);	/* delayed acknowledgements are through */
	before = number_of(node_fd, RETRANSMISSIONS);

	gate_set(gate, GATE_HELD);
	t0 = clock_us();
	assert_false(readable(gate_fd(gate), 0));
	assert_int_equal(send(l.here, "request", 7, 0), 7);
	assert_true(readable(gate_fd(gate), SOON_MS));
	assert_false(readable(l.there, 50));
	OK(gate_take(gate, keep, p, err));
	assert_true(p->n >= 1);
	assert_true(p->frames[0].time_us >= t0 && p->frames[0].time_us <= clock_us());
	assert_false(readable(gate_fd(gate), 0));
	gate_set(gate, GATE_OPEN);
	deliver(p, WEB);
	assert_true(readable(l.there, SOON_MS));
	assert_int_equal(recv(l.there, text, sizeof(text), 0), 7);
	assert_int_equal(send(l.there, "answer", 6, 0), 6);
	assert_true(readable(l.here, SOON_MS));
	assert_int_equal(recv(l.here, text, sizeof(text), 0), 6);
	assert_int_equal(number_of(node_fd, RETRANSMISSIONS), before);
	gate_read_counters(gate, &n);
	assert_int_equal(n.held.frames, p->n);
	assert_int_equal(n.to[GATE_HELD].frames, p->n);
	assert_int_equal(n.ring_full.frames + n.too_long.frames, 0);
	line_down(&l);
	container_down(&c);
	free(p);
}

static void request_is_held_ipv4(void **state)
{
	(void)state;
	request_is_held("10.99.0.7/16", "10.99.0.1", "10.99.0.7");
}

static void request_is_held_ipv6(void **state)
{
	(void)state;
	request_is_held("fd99::7/64", "fd99::1", "fd99::7");
}

/* The same with drops, so that the test above is known to be able to fail. */
static void request_is_lost_when_closed(void **state)
{
	CLEANUP(gate_freep) struct gate *gate = NULL;
	struct gate_counters n;
	struct container c;
	struct line l;
	long before;

	(void)state;
	web_up(&c, "10.99.0.7/16", NETWORK_GATE_OPEN);
	retransmit_after(&c, "10.99.0.1", "10.99.0.7", RETRANSMIT_SOON);
	tcp_up(&l, &c, "10.99.0.1", "10.99.0.7");
	OK(gate_arm(WEB, c.netns_fd, GATE_OPEN, &gate, err));
	before = number_of(node_fd, RETRANSMISSIONS);
	gate_set(gate, GATE_CLOSED);
	assert_int_equal(send(l.here, "request", 7, 0), 7);
	(void)usleep(50000);
	gate_set(gate, GATE_OPEN);
	assert_true(readable(l.there, SOON_MS));
	assert_true(number_of(node_fd, RETRANSMISSIONS) > before);
	gate_read_counters(gate, &n);
	assert_true(n.to[GATE_CLOSED].frames >= 1);
	assert_int_equal(n.held.frames, 0);
	line_down(&l);
	container_down(&c);
}

/* More at a time than a network card's backlog takes. */
static void aborted_everything_comes_in_order(void **state)
{
	CLEANUP(gate_freep) struct gate *gate = NULL;
	struct gate_counters n;
	struct container c;
	struct line l;
	uint32_t i, got;

	(void)state;
	web_up(&c, "10.99.0.7/16", NETWORK_GATE_OPEN);
	udp_up(&l, &c, "10.99.0.1", "10.99.0.7");
	OK(gate_arm(WEB, c.netns_fd, GATE_OPEN, &gate, err));
	gate_set(gate, GATE_HELD);
	for (i = 0; i < 5000; i++)
		assert_int_equal(send(l.here, &i, sizeof(i), 0), sizeof(i));
	assert_false(readable(l.there, 20));
	gate_release(gate);
	for (; i < 5010; i++)
		assert_int_equal(send(l.here, &i, sizeof(i), 0), sizeof(i));
	for (i = 0; i < 5010; i++) {
		assert_true(readable(l.there, SOON_MS));
		assert_int_equal(recv(l.there, &got, sizeof(got), 0), sizeof(got));
		assert_int_equal(got, i);
	}
	assert_false(readable(l.there, 20));
	gate_read_counters(gate, &n);
	assert_true(n.held.frames >= 5000);
	assert_int_equal(n.undelivered.frames, 0);
	line_down(&l);
	container_down(&c);
}

/* What comes while held frames are being delivered waits behind them. */
static void draining_holds_one_way(void **state)
{
	CLEANUP(gate_freep) struct gate *gate = NULL;
	struct container c;
	struct line l;

	(void)state;
	web_up(&c, "10.99.0.7/16", NETWORK_GATE_OPEN);
	udp_up(&l, &c, "10.99.0.1", "10.99.0.7");
	OK(gate_arm(WEB, c.netns_fd, GATE_OPEN, &gate, err));
	gate_set(gate, GATE_HELD_IN);
	assert_true(gets_through(l.there, l.here, SOON_MS));
	assert_false(gets_through(l.here, l.there, 50));
	gate_release(gate);
	assert_true(readable(l.there, SOON_MS));
	line_down(&l);
	container_down(&c);
}

/* A restored socket may speak before it may be heard. */
static void muted_is_heard_later(void **state)
{
	CLEANUP(gate_freep) struct gate *gate = NULL;
	struct gate_counters n;
	struct container c;
	struct line l;
	long before;

	(void)state;
	web_up(&c, "10.99.0.7/16", NETWORK_GATE_OPEN);
	retransmit_after(&c, "10.99.0.1", "10.99.0.7", RETRANSMIT_NEVER);
	tcp_up(&l, &c, "10.99.0.1", "10.99.0.7");
	OK(gate_arm(WEB, c.netns_fd, GATE_OPEN, &gate, err));
	before = number_of(c.netns_fd, RETRANSMISSIONS);
	gate_set(gate, GATE_MUTED);
	send_pattern(l.there, 0, 10000);
	assert_false(readable(l.here, 50));
	gate_release(gate);
	expect_pattern(l.here, 0, 10000);
	assert_int_equal(number_of(c.netns_fd, RETRANSMISSIONS), before);
	gate_read_counters(gate, &n);
	assert_true(n.held.frames > 0);
	assert_int_equal(n.undelivered.frames, 0);
	line_down(&l);
	container_down(&c);
}

/* A container in a new namespace knows no neighbour: its question waits with the
 * rest, and what waited for the answer goes out with it. */
static void muted_question_is_asked_later(const char *address, const char *here, const char *there)
{
	CLEANUP(gate_freep) struct gate *gate = NULL;
	struct sockaddr_storage sa;
	struct container c;
	struct line l = { .listener = -EBADF };
	char text[8];

	web_up(&c, address, NETWORK_GATE_CLOSED);
	OK(gate_arm(WEB, c.netns_fd, GATE_CLOSED, &gate, err));
	gate_set(gate, GATE_MUTED);
	/* nobody asks for a MAC again */
	output_of(c.netns_fd, "for f in 4 6; do echo 60000 >/proc/sys/net/ipv$f/neigh/eth0/retrans_time_ms; done",
		  text, sizeof(text));
	l.there = socket_in(c.netns_fd, there, SOCK_DGRAM, PORT);
	l.here = socket_in(node_fd, here, SOCK_DGRAM, PORT);
	assert_int_equal(connect(l.there, (struct sockaddr *)&sa, address_of(here, PORT, &sa)), 0);
	assert_int_equal(send(l.there, "hello", 5, 0), 5);
	assert_false(readable(l.here, 50));
	gate_release(gate);
	assert_true(readable(l.here, SOON_MS));
	assert_int_equal(recv(l.here, text, sizeof(text), 0), 5);
	line_down(&l);
	container_down(&c);
}

static void muted_question_is_asked_later_ipv4(void **state)
{
	(void)state;
	muted_question_is_asked_later("10.99.0.7/16", "10.99.0.1", "10.99.0.7");
}

static void muted_question_is_asked_later_ipv6(void **state)
{
	(void)state;
	muted_question_is_asked_later("fd99::7/64", "fd99::1", "fd99::7");
}

static void full_ring_is_counted(void **state)
{
	CLEANUP(gate_freep) struct gate *gate = NULL;
	struct gate_counters n;
	struct container c;
	struct line l;
	char datagram[1400] = { 0 };
	uint64_t got = 0;

	(void)state;
	web_up(&c, "10.99.0.7/16", NETWORK_GATE_OPEN);
	udp_up(&l, &c, "10.99.0.1", "10.99.0.7");
	OK(gate_arm(WEB, c.netns_fd, GATE_OPEN, &gate, err));
	gate_set(gate, GATE_HELD);
	for (uint32_t i = 0; i < 4000; i++) {
		memcpy(datagram, &i, sizeof(i));
		assert_int_equal(send(l.here, datagram, sizeof(datagram), 0), sizeof(datagram));
	}
	gate_read_counters(gate, &n);
	assert_true(n.ring_full.frames > 0);
	assert_true(n.ring_full.bytes >= n.ring_full.frames * 42);
	assert_true(n.held.frames >= 2000 && n.held.bytes <= GATE_RING_BYTES);
	assert_int_equal(n.held.frames + n.ring_full.frames, n.to[GATE_HELD].frames);
	gate_release(gate);
	for (uint32_t i; readable(l.there, got + 10 > n.held.frames ? 100 : SOON_MS); got++) {
		assert_int_equal(recv(l.there, datagram, sizeof(datagram), 0), sizeof(datagram));
		memcpy(&i, datagram, sizeof(i));
		assert_int_equal(i, got);	/* the oldest are kept */
	}
	assert_true(got + 10 > n.held.frames && got <= n.held.frames);
	assert_true(gets_through(l.here, l.there, SOON_MS));
	line_down(&l);
	container_down(&c);
}

/* A sender on the same machine sends frames of many segments. */
static void segments_in_one_frame_are_held(const char *address, const char *here,
					   const char *there)
{
	CLEANUP(gate_freep) struct gate *gate = NULL;
	struct parcel *p = calloc(1, sizeof(*p));
	struct container c;
	struct line l;
	uint32_t sent = 0, longest = 0;
	long before;

	web_up(&c, address, NETWORK_GATE_OPEN);
	retransmit_after(&c, here, there, RETRANSMIT_NEVER);
	tcp_up(&l, &c, here, there);
	for (; sent < 3200000; sent += 64000) {
		send_pattern(l.here, sent, 64000);
		expect_pattern(l.there, sent, 64000);
	}
	OK(gate_arm(WEB, c.netns_fd, GATE_OPEN, &gate, err));
	(void)usleep(60000);
	before = number_of(node_fd, RETRANSMISSIONS);
	gate_set(gate, GATE_HELD);
	send_pattern(l.here, sent, 128000);
	OK(gate_take(gate, keep, p, err));
	gate_set(gate, GATE_OPEN);
	deliver(p, WEB);
	expect_pattern(l.there, sent, 128000);
	for (size_t i = 0; i < p->n; i++) {
		if (p->frames[i].len > longest)
			longest = p->frames[i].len;
		assert_true((p->frames[i].len > 1514) == (p->frames[i].gso_bytes > 0));
	}
	assert_true(longest > 30000);
	assert_int_equal(number_of(node_fd, RETRANSMISSIONS), before);
	line_down(&l);
	container_down(&c);
	free(p);
}

static void segments_in_one_frame_are_held_ipv4(void **state)
{
	(void)state;
	segments_in_one_frame_are_held("10.99.0.7/16", "10.99.0.1", "10.99.0.7");
}

static void segments_in_one_frame_are_held_ipv6(void **state)
{
	(void)state;
	segments_in_one_frame_are_held("fd99::7/64", "fd99::1", "fd99::7");
}

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif

/* One send, many datagrams, one frame. */
static void datagrams_in_one_frame_are_held(void **state)
{
	CLEANUP(gate_freep) struct gate *gate = NULL;
	const int segment = 1000;
	struct container c;
	struct line l;
	char data[10000];

	(void)state;
	web_up(&c, "10.99.0.7/16", NETWORK_GATE_OPEN);
	udp_up(&l, &c, "10.99.0.1", "10.99.0.7");
	OK(gate_arm(WEB, c.netns_fd, GATE_OPEN, &gate, err));
	assert_int_equal(setsockopt(l.here, IPPROTO_UDP, UDP_SEGMENT, &segment, sizeof(segment)), 0);
	for (int i = 0; i < 10; i++)
		memset(data + i * 1000, 'a' + i, 1000);
	gate_set(gate, GATE_HELD);
	assert_int_equal(send(l.here, data, sizeof(data), 0), sizeof(data));
	assert_false(readable(l.there, 20));
	gate_release(gate);
	for (int i = 0; i < 10; i++) {
		char got[2000];

		assert_true(readable(l.there, SOON_MS));
		assert_int_equal(recv(l.there, got, sizeof(got), 0), 1000);
		assert_memory_equal(got, data + i * 1000, 1000);
	}
	line_down(&l);
	container_down(&c);
}

/* Source and target: the address's old pair goes, a new one takes over. */
static void frames_are_handed_over(void **state)
{
	CLEANUP(gate_freep) struct gate *source = NULL;
	CLEANUP(gate_freep) struct gate *target = NULL;
	struct parcel *p = calloc(1, sizeof(*p));
	struct container c;
	struct line l;
	char text[8];

	(void)state;
	web_up(&c, "10.99.0.7/16", NETWORK_GATE_OPEN);
	udp_up(&l, &c, "10.99.0.1", "10.99.0.7");
	OK(gate_arm(WEB, c.netns_fd, GATE_OPEN, &source, err));
	gate_set(source, GATE_HELD);
	assert_int_equal(send(l.here, "one", 4, 0), 4);
	OK(gate_take(source, keep, p, err));
	assert_int_equal(send(l.here, "two", 4, 0), 4);	/* a straggler */
	OK(gate_take(source, keep, p, err));
	fd_close(&l.there);
	container_down(&c);
	gate_free(TAKE_PTR(source));

	web_up(&c, "10.99.0.7/16", NETWORK_GATE_CLOSED);
	l.there = socket_in(c.netns_fd, "10.99.0.7", SOCK_DGRAM, PORT);
	OK(gate_arm(WEB, c.netns_fd, GATE_CLOSED, &target, err));
	assert_false(gets_through(l.here, l.there, 50));
	gate_release(target);
	for (size_t i = 0; i < p->n; i++)
		OK(gate_deliver(target, &p->frames[i], err));
	for (int i = 0; i < 2; i++) {
		assert_true(readable(l.there, SOON_MS));
		assert_int_equal(recv(l.there, text, sizeof(text), 0), 4);
		assert_string_equal(text, i ? "two" : "one");
	}
	OK(network_announce(c.netns_fd, &c.ep, NULL, err));	/* the bridge was without a port */
	assert_true(gets_through(l.here, l.there, SOON_MS));
	line_down(&l);
	container_down(&c);
	free(p);
}

/* The kernel keeps the tag of a frame that it received beside it; the copy has it
 * inside. */
static void tags_are_kept(void **state)
{
	static const uint8_t frame[64] = { 0x02, 0x67, 10, 99, 0, 7,  0x02, 0x67, 10, 99, 0, 8,
					   0x81, 0x00, 0x60, 0x07, 0x88, 0xb5, 'g', 'o' };
	CLEANUP(gate_freep) struct gate *gate = NULL;
	CLEANUP(injector_freep) struct injector *in = NULL;
	struct parcel *p = calloc(1, sizeof(*p));
	struct gate_frame tagged = { .data = frame, .len = sizeof(frame) };
	struct container c, peer;

	(void)state;
	web_up(&c, "10.99.0.7/16", NETWORK_GATE_OPEN);
	peer = (struct container){ .netns_fd = -EBADF, .ep = c.ep };
	strcpy(peer.ep.host_ifname, "gwg-peer");
	strcpy(peer.ep.address, "10.99.0.8/16");
	peer.ep.mac[5] = 8;
	OK(network_namespace_create(&peer.netns_fd, err));
	OK(network_attach(peer.netns_fd, &peer.ep, NETWORK_GATE_OPEN, err));
	OK(gate_arm(WEB, c.netns_fd, GATE_OPEN, &gate, err));
	gate_set(gate, GATE_HELD);
	OK(injector_open(peer.netns_fd, "eth0", true, &in, err));
	OK(injector_send(in, &tagged, err));
	assert_true(readable(gate_fd(gate), SOON_MS));
	OK(gate_take(gate, keep, p, err));
	assert_int_equal(p->frames[p->n - 1].len, sizeof(frame));
	assert_memory_equal(p->frames[p->n - 1].data, frame, sizeof(frame));
	container_down(&peer);
	container_down(&c);
	free(p);
}

static void states_let_through_what_they_say(void **state)
{
	static const struct {
		enum gate_state state;
		bool to, from;
	} rows[] = {
		{ GATE_HELD, false, false },	{ GATE_OPEN, true, true },
		{ GATE_CLOSED, false, false },	{ GATE_OPEN, true, true },
		{ GATE_MUTED, false, false },	{ GATE_OPEN, true, true },
	};
	CLEANUP(gate_freep) struct gate *gate = NULL;
	struct gate_counters n;
	struct container c;
	struct line l;

	(void)state;
	web_up(&c, "10.99.0.7/16", NETWORK_GATE_OPEN);
	udp_up(&l, &c, "10.99.0.1", "10.99.0.7");
	OK(gate_arm(WEB, c.netns_fd, GATE_OPEN, &gate, err));
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct gate_counters before, after;

		gate_read_counters(gate, &before);
		gate_set(gate, rows[i].state);
		assert_int_equal(gets_through(l.here, l.there, rows[i].to ? SOON_MS : 20), rows[i].to);
		assert_int_equal(gets_through(l.there, l.here, rows[i].from ? SOON_MS : 20), rows[i].from);
		gate_read_counters(gate, &after);
		assert_true(after.to[rows[i].state].frames > before.to[rows[i].state].frames);
		assert_true(after.from[rows[i].state].frames > before.from[rows[i].state].frames);
		assert_true(after.from[rows[i].state].bytes >= before.from[rows[i].state].bytes + 46);
	}
	gate_read_counters(gate, &n);
	assert_true(n.held.frames >= 1);
	line_down(&l);
	container_down(&c);
}

int main(void)
{
#define IN_A_NODE(test) cmocka_unit_test_setup_teardown(test, node_up, node_down)
	const struct CMUnitTest tests[] = {
		IN_A_NODE(request_is_held_ipv4),
		IN_A_NODE(request_is_held_ipv6),
		IN_A_NODE(request_is_lost_when_closed),
		IN_A_NODE(aborted_everything_comes_in_order),
		IN_A_NODE(draining_holds_one_way),
		IN_A_NODE(muted_is_heard_later),
		IN_A_NODE(muted_question_is_asked_later_ipv4),
		IN_A_NODE(muted_question_is_asked_later_ipv6),
		IN_A_NODE(full_ring_is_counted),
		IN_A_NODE(segments_in_one_frame_are_held_ipv4),
		IN_A_NODE(segments_in_one_frame_are_held_ipv6),
		IN_A_NODE(datagrams_in_one_frame_are_held),
		IN_A_NODE(frames_are_handed_over),
		IN_A_NODE(tags_are_kept),
		IN_A_NODE(states_let_through_what_they_say),
	};

	if (geteuid() != 0) {
		print_message("needs root\n");
		return 77;
	}
	return cmocka_run_group_tests(tests, remember_home, NULL);
}

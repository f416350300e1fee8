#include "tests/unit/gate_fixture.h"

#define STAND_IN "gwg-in"

/* The container lives behind one port of the bridge, and what stands in for it behind another:
 * for the second it is away, as if the first led to another node. */
struct place {
	struct container c;
	int netns_fd;
	struct gate *gate;
};

static void place_up(struct place *p)
{
	struct network_endpoint ep;

	*p = (struct place){ .netns_fd = -EBADF };
	web_up(&p->c, "10.99.0.7/16", NETWORK_GATE_OPEN);
	ep = p->c.ep;
	strcpy(ep.host_ifname, STAND_IN);
	OK(network_stand_in(&ep, &p->netns_fd, err));
	OK(gate_arm(STAND_IN, -EBADF, GATE_CLOSED, &p->gate, err));
	gate_set_mac(p->gate, ep.mac);
	gate_set(p->gate, GATE_AWAY);
	OK(network_bridge_pin(STAND_IN, ep.mac, err));
}

static void place_down(struct place *p)
{
	gate_free(p->gate);
	fd_close(&p->netns_fd);
	container_down(&p->c);
}

static bool hears(const struct container *c, int wait_ms)
{
	struct sockaddr_storage sa;
	struct line l = { .listener = -EBADF };
	bool passed;

	l.there = socket_in(c->netns_fd, "10.99.0.7", SOCK_DGRAM, PORT);
	l.here = socket_in(node_fd, "10.99.0.1", SOCK_DGRAM, 0);
	assert_int_equal(connect(l.here, (struct sockaddr *)&sa, address_of("10.99.0.7", PORT, &sa)), 0);
	passed = gets_through(l.here, l.there, wait_ms);
	line_down(&l);
	return passed;
}

/* One that has told where it is gets what comes from this node, at once. */
static void frames_follow_who_was_heard(void **state)
{
	struct gate_counters n;
	struct place p;

	(void)state;
	place_up(&p);
	OK(network_announce(p.c.netns_fd, &p.c.ep, NULL, err));
	for (int i = 0; i < 10; i++)
		assert_true(hears(&p.c, SOON_MS));
	gate_read_counters(p.gate, &n);
	assert_true(n.redirected.frames >= 10);
	assert_int_equal(n.held.frames, 0);
	place_down(&p);
}

/* Somebody on the way to it believes that it is here. */
static void send_from_there(const struct place *p, uint8_t first_byte_of_mac)
{
	CLEANUP(injector_freep) struct injector *in = NULL;
	struct gate_frame frame = { .len = 60 };
	uint8_t data[60] = { [6] = 0x02, [11] = 0x99, [12] = 0x88, [13] = 0xb5, [20] = 0xaa };

	memcpy(data, p->c.ep.mac, 6);
	data[0] = first_byte_of_mac;
	frame.data = data;
	OK(injector_open(p->c.netns_fd, "eth0", true, &in, err));
	OK(injector_send(in, &frame, err));
}

static void what_went_astray_is_held(void **state)
{
	struct parcel *parcel = calloc(1, sizeof(*parcel));
	struct gate_counters n;
	struct place p;

	(void)state;
	place_up(&p);
	OK(network_announce(p.c.netns_fd, &p.c.ep, NULL, err));
	send_from_there(&p, p.c.ep.mac[0]);
	assert_true(readable(gate_fd(p.gate), SOON_MS));
	OK(gate_take(p.gate, keep, parcel, err));
	assert_int_equal(parcel->n, 1);
	assert_int_equal(parcel->frames[0].len, 60);
	assert_memory_equal(parcel->frames[0].data, p.c.ep.mac, 6);
	assert_int_equal(parcel->frames[0].data[20], 0xaa);

	/* a group reaches it without our help */
	send_from_there(&p, p.c.ep.mac[0] | 1);
	gate_read_counters(p.gate, &n);
	assert_int_equal(n.held.frames, 1);
	assert_int_equal(n.redirected.frames, 0);
	place_down(&p);
	free(parcel);
}

/* As long as nobody knows where it is, everything is held. */
static void before_it_is_heard_all_is_held(void **state)
{
	CLEANUP(gate_freep) struct gate *second = NULL;
	struct gate_counters n;
	struct place p;

	(void)state;
	place_up(&p);
	assert_false(hears(&p.c, 100));
	gate_read_counters(p.gate, &n);
	assert_true(n.held.frames >= 1);
	assert_int_equal(n.redirected.frames, 0);

	/* what one gate has heard, another may be told */
	OK(network_announce(p.c.netns_fd, &p.c.ep, NULL, err));
	OK(gate_arm(STAND_IN, -EBADF, GATE_CLOSED, &second, err));
	gate_set_mac(second, p.c.ep.mac);
	gate_learn(second, p.gate);
	gate_set(second, GATE_AWAY);
	assert_true(hears(&p.c, SOON_MS));
	gate_read_counters(second, &n);
	assert_true(n.redirected.frames >= 1);
	place_down(&p);
}

/* Nothing that is inside of it gets out. */
static void it_is_silent(void **state)
{
	char text[4096];
	struct place p;

	(void)state;
	place_up(&p);
	(void)usleep(100000);	/* routers are asked for, groups are joined */
	output_of(node_fd, "bridge fdb show br " BRIDGE, text, sizeof(text));
	assert_non_null(strstr(text, "02:67:0a:63:00:07 dev " STAND_IN));
	assert_null(strstr(text, "02:66:"));
	place_down(&p);
}

static void it_goes_with_its_namespace(void **state)
{
	uint64_t until = clock_us() + 5000000;
	struct place p;
	char text[4096];

	(void)state;
	place_up(&p);
	assert_true(gate_is_there(p.gate));
	fd_close(&p.netns_fd);
	while (gate_is_there(p.gate) && clock_us() < until)
		(void)usleep(1000);
	assert_false(gate_is_there(p.gate));
	output_of(node_fd, "bridge fdb show br " BRIDGE, text, sizeof(text));
	assert_null(strstr(text, STAND_IN));
	assert_true(hears(&p.c, SOON_MS));
	place_down(&p);
}

/* An interface that has got its name since is none of its business. */
static void its_successor_is_left_alone(void **state)
{
	struct place p;
	struct network_endpoint ep;
	struct gate *old;
	char text[4096];

	(void)state;
	place_up(&p);
	old = TAKE_PTR(p.gate);
	OK(network_detach(STAND_IN, err));
	fd_close(&p.netns_fd);
	ep = p.c.ep;
	strcpy(ep.host_ifname, STAND_IN);
	OK(network_stand_in(&ep, &p.netns_fd, err));
	OK(network_gate_set(STAND_IN, NETWORK_GATE_OPEN, err));
	assert_false(gate_is_there(old));
	gate_free(old);
	output_of(node_fd, "(tc filter show dev " STAND_IN " egress; tc filter show dev " STAND_IN " ingress)",
		  text, sizeof(text));
	assert_string_equal(text, "");
	place_down(&p);
}

/* The address has been given to a new container, which has the MAC that goes with it. */
static void a_new_one_has_its_mac_at_once(void **state)
{
	struct gate_counters n;
	struct place p;

	(void)state;
	place_up(&p);
	container_down(&p.c);
	web_up(&p.c, "10.99.0.7/16", NETWORK_GATE_OPEN);
	assert_true(hears(&p.c, SOON_MS));
	gate_read_counters(p.gate, &n);
	assert_int_equal(n.held.frames + n.redirected.frames, 0);
	place_down(&p);
}

int main(void)
{
#define IN_A_NODE(test) cmocka_unit_test_setup_teardown(test, node_up, node_down)
	const struct CMUnitTest tests[] = {
		IN_A_NODE(frames_follow_who_was_heard),
		IN_A_NODE(what_went_astray_is_held),
		IN_A_NODE(before_it_is_heard_all_is_held),
		IN_A_NODE(it_is_silent),
		IN_A_NODE(it_goes_with_its_namespace),
		IN_A_NODE(its_successor_is_left_alone),
		IN_A_NODE(a_new_one_has_its_mac_at_once),
	};

	if (geteuid() != 0) {
		print_message("needs root\n");
		return 77;
	}
	return cmocka_run_group_tests(tests, remember_home, NULL);
}

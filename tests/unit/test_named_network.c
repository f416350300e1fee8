#include <setjmp.h>
#include <sched.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/network/hosts.h"
#include "engine/network/named_network.h"
#include "engine/network/placement.h"
#include "tests/unit/node_fixture.h"

#define ID "0123456789abcdef0123456789abcde"
#define NODES "[{\"address\":\"10.88.0.1\",\"id\":\"" ID "0\"},{\"address\":\"10.88.0.2\",\"id\":\"" ID "1\"}," \
	      "{\"address\":\"10.88.0.3\",\"id\":\"" ID "2\"}]"
#define RECORD(subnets, vni, nodes, index) "{\"name\":\"lan\",\"driver\":\"vxlan\",\"subnets\":[" subnets "]," \
	"\"vni\":" vni ",\"mtu\":1450,\"nodes\":" nodes ",\"index\":" index "}"

static int parse(const char *text, struct named_network *n, struct error *err)
{
	return named_network_parse(text, strlen(text), n, err);
}

static void each_node_has_a_part(void **state)
{
	char seen[3][NETWORK_CIDR_MAX], range[NETWORK_CIDR_MAX];
	struct named_network n;
	struct error err;

	(void)state;
	OK(parse(RECORD("\"10.70.3.9/16\",\"fd00:70::/64\"", "42", NODES, "2"), &n, &err));
	assert_string_equal(n.subnets[0], "10.70.0.0/16");
	for (n.index = 0; n.index < 3; n.index++)
		OK(named_network_range(&n, 0, seen[n.index], &err));
	assert_string_equal(seen[0], "10.70.0.0/18");
	assert_string_equal(seen[1], "10.70.64.0/18");
	assert_string_equal(seen[2], "10.70.128.0/18");
	n.index = 1;
	OK(named_network_range(&n, 1, range, &err));
	assert_string_equal(range, "fd00:70:0:0:4000::/66");
	OK(named_network_gateway(&n, 1, range, &err));
	assert_string_equal(range, "fd00:70::1/64");
}

static void bad_records_are_refused(void **state)
{
	struct named_network n;
	struct error err;

	(void)state;
	FAILS(parse("{}", &n, &err), EINVAL, "network");
	FAILS(parse(RECORD("\"10.70.0.0/16\"", "0", NODES, "0"), &n, &err), EINVAL, "VNI");
	FAILS(parse(RECORD("\"10.70.0.0/16\"", "16777216", NODES, "0"), &n, &err), EINVAL, "VNI");
	FAILS(parse(RECORD("\"10.70.0.0/16\"", "1", NODES, "3"), &n, &err), EINVAL, "index");
	FAILS(parse(RECORD("\"10.70.0.0/16\",\"10.71.0.0/16\"", "1", NODES, "0"), &n, &err), EINVAL, "one of IPv6");
	FAILS(parse(RECORD("", "1", NODES, "0"), &n, &err), EINVAL, "subnet");
	FAILS(parse(RECORD("\"10.70.0.0/29\"", "1", NODES, "0"), &n, &err), ERANGE, "too small");
	FAILS(parse(RECORD("\"10.70.0.0/16\"", "1", "[{\"address\":\"x\",\"id\":\"" ID "0\"}]", "0"), &n, &err),
	      EINVAL, "'x'");
	FAILS(parse(RECORD("\"10.70.0.0/16\"", "1", "[{\"address\":\"10.0.0.1\",\"id\":\"0\"}]", "0"), &n, &err),
	      EINVAL, "32 hex");
}

static int parse_claim(const struct named_network *n, const char *address, const char *address2, struct error *err)
{
	CLEANUP(places_free) struct places p = { 0 };
	char text[512];

	(void)snprintf(text, sizeof(text), "{\"sequence\":1,\"places\":[{\"name\":\"web\",\"address\":\"%s\","
		       "\"address2\":\"%s\",\"mac\":\"02:67:0a:46:00:02\",\"created_us\":1,\"moves\":0,"
		       "\"live\":true}]}", address, address2);
	return places_parse(text, strlen(text), n, &p, err);
}

static void what_no_container_can_have_is_not_claimed(void **state)
{
	struct named_network n;
	struct error err;

	(void)state;
	OK(parse(RECORD("\"10.70.0.0/16\",\"fd00:70::/64\"", "1", NODES, "0"), &n, &err));
	OK(parse_claim(&n, "10.70.0.2/16", "fd00:70::2/64", &err));
	FAILS(parse_claim(&n, "10.70.0.1/16", "", &err), EADDRINUSE, "gateway of network 'lan'");
	FAILS(parse_claim(&n, "10.70.0.2/16", "fd00:70::1/64", &err), EADDRINUSE, "gateway of network 'lan'");
	FAILS(parse_claim(&n, "10.71.0.2/16", "", &err), EINVAL, "10.71.0.2");
	FAILS(parse_claim(&n, "10.70.255.255/16", "", &err), EINVAL, "10.70.255.255");
}

static struct place claim(const char *name, const char *address, uint64_t created_us, uint32_t moves, bool live)
{
	struct place p = { .created_us = created_us, .moves = moves, .live = live, .mac = { 2, 1 } };

	strcpy(p.name, name);
	strcpy(p.address[0], address);
	return p;
}

/* In whatever order nodes are heard. */
static void the_later_claim_counts(void **state)
{
	struct place home = claim("web", "10.70.0.2/16", 5, 1, true), there = claim("web", "10.70.0.2/16", 5, 2, true);
	struct place older = claim("old", "10.70.0.2/16", 4, 9, true), note = claim("web", "10.70.0.2/16", 5, 2, false);
	struct places claims[4] = { { .list = &home, .n = 1 }, { .list = &there, .n = 1 }, { .list = &older, .n = 1 },
				    { .list = &note, .n = 1 } };
	struct places all = { 0 };
	struct error err;

	(void)state;
	OK(places_merge(claims, 4, &all, &err));
	assert_int_equal(all.n, 1);
	assert_int_equal(all.list[0].member, 1);
	assert_non_null(places_find(&all, "10.70.0.2"));
	assert_null(places_find(&all, "10.70.0.20"));
	places_free(&all);
}

static void names_are_the_last_lines(void **state)
{
	CLEANUP(freep) char *once = NULL;
	CLEANUP(freep) char *twice = NULL;
	struct error err;

	(void)state;
	OK(hosts_replace("127.0.0.1\tlocalhost", "10.70.0.2\ta\n10.70.0.3\tb\n", &once, &err));
	assert_non_null(strstr(once, "127.0.0.1\tlocalhost\n#"));
	assert_non_null(strstr(once, "10.70.0.3\tb\n"));
	OK(hosts_replace(once, "10.70.0.3\tb\n", &twice, &err));
	assert_null(strstr(twice, "10.70.0.2"));
	assert_int_equal(strlen(once) - strlen(twice), strlen("10.70.0.2\ta\n"));
}

/* No links: what is written by hand, as what a reboot leaves. */
static void make_network(const struct home *h, struct named_network *n)
{
	static const char record[] = RECORD("\"10.70.0.0/16\"", "42", NODES, "1");
	CLEANUP(fd_closep) int networks = -EBADF, dir = -EBADF;
	struct error err;

	OK(fd_open_dir_at(h->node->state_fd, "networks", true, 0700, &networks, &err));
	OK(fd_open_dir_at(networks, "lan", true, 0700, &dir, &err));
	OK(parse(record, n, &err));
	OK(fd_replace_file_at(dir, "network.json", record, strlen(record), 0600, FD_REPLACE, &err));
}

static void an_address_that_has_left_is_kept(void **state)
{
	const struct home *h = *state;
	CLEANUP(container_freep) struct container *c = home_container(h, "web", "10.70.64.1/16", CONTAINER_EXITED);
	struct network_endpoint ep = { 0 };
	struct named_network n;
	struct error err;

	make_network(h, &n);
	OK(named_network_choose(h->node, &n, NULL, &ep, &err));
	assert_string_equal(ep.address, "10.70.64.1/16");	/* web is on the node's own bridge */
	assert_string_equal(ep.gateway, "10.70.0.1");
	strcpy(c->spec->endpoint.network, "lan");
	OK(placement_leave(c, &err));
	OK(container_clean(c, false, &err));
	OK(named_network_choose(h->node, &n, NULL, &ep, &err));
	assert_string_equal(ep.address, "10.70.64.2/16");
	FAILS(named_network_choose(h->node, &n, "10.70.64.1", &ep, &err), EADDRINUSE, "container 'web'");
	FAILS(named_network_choose(h->node, &n, "10.70.0.9", &ep, &err), EADDRNOTAVAIL, "10.70.64.0/18");
}

static void set_moves(const struct container *c, uint32_t moves)
{
	struct container_state st;
	struct error err;

	OK(container_state(c, &st, &err));
	st.migrations = moves;
	OK(container_state_write(c, &st, &err));
}

/* Back before any other node has claimed it. */
static void one_that_is_back_is_claimed_once(void **state)
{
	const struct home *h = *state;
	struct container *c = home_container(h, "web", "10.70.64.1/16", CONTAINER_EXITED);
	CLEANUP(places_free) struct places all = { 0 };
	CLEANUP(freep) char *json = NULL;
	struct named_network n;
	struct error err;

	assert_int_equal(unshare(CLONE_NEWNET), 0);
	make_network(h, &n);
	strcpy(c->spec->endpoint.network, "lan");
	OK(placement_leave(c, &err));
	OK(spec_to_json(c->spec, &json, &err));
	OK(fd_replace_file_at(c->dir_fd, "config.json", json, strlen(json), 0600, FD_REPLACE, &err));
	set_moves(c, 2);
	OK(placement_refresh(h->node, "lan", &err));
	OK(container_clean(c, false, &err));
	container_free(c);
	OK(placement_all(h->node, &n, &all, &err));
	assert_int_equal(all.n, 0);
}

static int hear(const struct home *h, const struct named_network *n, size_t member, const char *text, struct error *err)
{
	return placement_hear(h->node, n, member, text, strlen(text), err);
}

/* What another node says: late news do no harm, and what it does not say any more is free. */
static void what_is_said_later_counts(void **state)
{
	static const char at[] = "{\"sequence\":%u,\"places\":[{\"name\":\"web\",\"address\":\"10.70.64.1/16\","
		"\"address2\":\"\",\"mac\":\"02:67:0a:46:40:01\",\"created_us\":5,\"moves\":1,\"live\":true}]}";
	const struct home *h = *state;
	struct network_endpoint ep = { 0 };
	struct named_network n;
	struct error err;
	char text[256];

	assert_int_equal(unshare(CLONE_NEWNET), 0);
	make_network(h, &n);
	OK(named_network_links_up(h->node, &n, &err));
	(void)snprintf(text, sizeof(text), at, 7u);
	OK(hear(h, &n, 0, text, &err));
	FAILS(named_network_choose(h->node, &n, "10.70.64.1", &ep, &err), EADDRINUSE, "on 10.88.0.1");
	OK(hear(h, &n, 0, "{\"sequence\":6,\"places\":[]}", &err));
	FAILS(named_network_choose(h->node, &n, "10.70.64.1", &ep, &err), EADDRINUSE, "on 10.88.0.1");
	OK(hear(h, &n, 0, "{\"sequence\":8,\"places\":[]}", &err));
	OK(named_network_choose(h->node, &n, "10.70.64.1", &ep, &err));
	FAILS(hear(h, &n, 1, text, &err), EINVAL, "index 1");
	FAILS(hear(h, &n, 3, text, &err), EINVAL, "index 3");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_node_has_a_part),
		cmocka_unit_test(bad_records_are_refused),
		cmocka_unit_test(what_no_container_can_have_is_not_claimed),
		cmocka_unit_test(the_later_claim_counts),
		cmocka_unit_test(names_are_the_last_lines),
		cmocka_unit_test_setup_teardown(one_that_is_back_is_claimed_once, home_setup, home_teardown),
		cmocka_unit_test_setup_teardown(what_is_said_later_counts, home_setup, home_teardown),
		cmocka_unit_test_setup_teardown(an_address_that_has_left_is_kept, home_setup, home_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

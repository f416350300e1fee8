#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/network/address.h"
#include "engine/network/departed.h"
#include "tests/unit/node_fixture.h"

/* The node of the fixture: subnet 10.231.0.0/16, range 10.231.7.0/24. */

static void lowest_that_nobody_has(void **state)
{
	const struct home *h = *state;
	CLEANUP(container_freep) struct container *a = NULL;
	CLEANUP(container_freep) struct container *b = NULL;
	struct network_endpoint ep = { 0 };
	struct error err;

	OK(address_choose(h->node, NULL, &ep, &err));
	assert_string_equal(ep.address, "10.231.7.1/16");
	a = home_container(h, "a", "10.231.7.1/16", CONTAINER_EXITED);
	b = home_container(h, "b", "10.231.7.3/16", CONTAINER_EXITED);
	assert_true(a && b);
	OK(address_choose(h->node, NULL, &ep, &err));
	assert_string_equal(ep.address, "10.231.7.2/16");
	assert_string_equal(ep.gateway, "");
	assert_int_equal(ep.mac[0] & 3, 2);	/* local, of one */
}

static void wanted_one(void **state)
{
	const struct home *h = *state;
	CLEANUP(container_freep) struct container *a = home_container(h, "a", "10.231.7.1/16", CONTAINER_EXITED);
	struct network_endpoint ep = { 0 };
	struct error err;

	assert_non_null(a);
	OK(address_choose(h->node, "10.231.200.9", &ep, &err));
	assert_string_equal(ep.address, "10.231.200.9/16");
	FAILS(address_choose(h->node, "10.231.7.1", &ep, &err), EADDRINUSE, "container 'a' on walrus");
	FAILS(address_choose(h->node, "10.231.7.1/16", &ep, &err), EADDRINUSE, "container 'a'");
	assert_true(address_choose(h->node, "10.232.0.1", &ep, &err) < 0);
	assert_true(address_choose(h->node, "10.231.7", &ep, &err) < 0);
	assert_true(address_choose(h->node, "", &ep, &err) < 0);
}

static void who_has_it_is_told(void **state)
{
	const struct home *h = *state;
	CLEANUP(container_freep) struct container *a = home_container(h, "a", "10.231.7.1/16", CONTAINER_EXITED);
	struct error err;

	assert_non_null(a);
	OK(address_check_free(h->node, "10.231.7.2/16", 0, &err));
	OK(address_check_free(h->node, "10.231.7.10/16", 0, &err));
	FAILS(address_check_free(h->node, "10.231.7.1/16", 0, &err), EADDRINUSE, "container 'a'");
	FAILS(address_check_free(h->node, "127.0.0.1/8", 0, &err), EADDRINUSE, "interface of walrus");
}

static void those_that_have_left_come_last(void **state)
{
	const struct home *h = *state;
	struct network_endpoint ep = { 0 };
	struct error err;

	OK(departed_note(h->node, "10.231.7.1/16", &err));
	OK(departed_note(h->node, "10.231.7.1/16", &err));
	assert_true(departed_has(h->node, "10.231.7.1"));
	assert_false(departed_has(h->node, "10.231.7.10"));
	OK(address_choose(h->node, NULL, &ep, &err));
	assert_string_equal(ep.address, "10.231.7.2/16");
	departed_forget(h->node, "10.231.7.1");
	OK(address_choose(h->node, NULL, &ep, &err));
	assert_string_equal(ep.address, "10.231.7.1/16");
}

static void full_range_is_told(void **state)
{
	struct home *h = *state;
	CLEANUP(container_freep) struct container *a = home_container(h, "a", "10.231.7.1/16", CONTAINER_EXITED);
	CLEANUP(container_freep) struct container *b = home_container(h, "b", "10.231.7.2/16", CONTAINER_EXITED);
	struct network_endpoint ep = { 0 };
	struct error err;

	assert_true(a && b);
	strcpy(h->node->config.range, "10.231.7.0/30");
	strcpy(h->node->config.gateway, "10.231.7.3");
	FAILS(address_choose(h->node, NULL, &ep, &err), EADDRNOTAVAIL, "10.231.7.0/30");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(lowest_that_nobody_has, home_setup, home_teardown),
		cmocka_unit_test_setup_teardown(wanted_one, home_setup, home_teardown),
		cmocka_unit_test_setup_teardown(who_has_it_is_told, home_setup, home_teardown),
		cmocka_unit_test_setup_teardown(those_that_have_left_come_last, home_setup, home_teardown),
		cmocka_unit_test_setup_teardown(full_range_is_told, home_setup, home_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

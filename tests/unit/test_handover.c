#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "migrate/handover.h"
#include "tests/unit/node_fixture.h"

static const struct handover decision = {
	.token = "0123456789abcdef0123456789abcdef", .peer = "[fe80::1]:4967", .node = "seal",
	.name = "web", .was_paused = true,
	.node_id = "5ea15ea15ea15ea15ea15ea15ea15ea1",
	.decided_us = 1795286726294378,
};

static void decision_is_kept_until_it_is_taken_back(void **state)
{
	const struct home *h = *state;
	CLEANUP(container_freep) struct container *c = home_container(h, "web", "", CONTAINER_EXITED);
	struct handover back;
	struct error err;

	FAILS(handover_read(c, &back, &err), ENOENT, "handover.json");
	OK(handover_check_none(c, &err));
	OK(handover_write(c, &decision, &err));
	FAILS(handover_check_none(c, &err), EBUSY, "godwit resolve web");
	OK(handover_read(c, &back, &err));
	assert_string_equal(back.token, decision.token);
	assert_string_equal(back.peer, decision.peer);
	assert_string_equal(back.node, decision.node);
	assert_string_equal(back.node_id, decision.node_id);
	assert_string_equal(back.name, decision.name);
	assert_true(back.was_paused);
	assert_true(back.decided_us == decision.decided_us);
	OK(handover_remove(c, &err));
	OK(handover_remove(c, &err));
	FAILS(handover_read(c, &back, &err), ENOENT, "handover.json");
}

static void damaged_decision_is_no_decision(void **state)
{
	static const char *const bad[] = {
		"", "{}", "[]", "{\"token\":\"x\",\"peer\":\"y\"}",
		"{\"token\":7,\"peer\":\"y\",\"node\":\"z\",\"node_id\":\"i\",\"decided_us\":1}",
		"{\"token\":\"x\",\"peer\":\"y\",\"node\":\"z\",\"decided_us\":1}",
		"{\"token\":\"x\",\"name\":\"n\",\"peer\":\"y\",\"node\":\"z\",\"node_id\":\"i\",\"decided_us\":1}",
		("{\"token\":\"0123456789abcdef0123456789abcdef0\",\"name\":\"n\",\"peer\":\"y\",\"node\":\"z\","
		 "\"node_id\":\"i\",\"was_paused\":false,\"decided_us\":1}"),
	};
	const struct home *h = *state;
	CLEANUP(container_freep) struct container *c = home_container(h, "web", "", CONTAINER_EXITED);
	struct handover back;
	struct error err;

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		OK(fd_replace_file_at(c->dir_fd, "handover.json", bad[i], strlen(bad[i]), 0600, FD_REPLACE, &err));
		FAILS(handover_read(c, &back, &err), EINVAL, "handover.json is damaged");
	}
}

static void name_that_is_no_text_cannot_be_decided(void **state)
{
	const struct home *h = *state;
	CLEANUP(container_freep) struct container *c = home_container(h, "web", "", CONTAINER_EXITED);
	struct handover odd = decision, back;
	struct error err;

	strcpy(odd.peer, "\xff\xfe");
	FAILS(handover_write(c, &odd, &err), EINVAL, "UTF-8");
	FAILS(handover_read(c, &back, &err), ENOENT, "handover.json");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(decision_is_kept_until_it_is_taken_back, home_setup, home_teardown),
		cmocka_unit_test_setup_teardown(damaged_decision_is_no_decision, home_setup, home_teardown),
		cmocka_unit_test_setup_teardown(name_that_is_no_text_cannot_be_decided, home_setup, home_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

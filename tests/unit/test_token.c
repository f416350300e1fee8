#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <signal.h>
#include <sys/wait.h>

#include "migrate/token.h"
#include "tests/unit/node_fixture.h"

#define RACERS 12

static void made_tokens_are_hex_and_differ(void **state)
{
	char a[TOKEN_SIZE], b[TOKEN_SIZE];
	struct error err;

	(void)state;
	OK(token_make(a, &err));
	OK(token_make(b, &err));
	assert_int_equal(strlen(a), 32);
	assert_int_equal(strspn(a, "0123456789abcdef"), 32);
	assert_string_not_equal(a, b);
}

static void first_decision_holds(void **state)
{
	const struct home *h = *state;
	enum token_outcome now;
	char token[TOKEN_SIZE];
	struct error err;

	OK(token_make(token, &err));
	OK(token_look_up(h->node, token, &now, &err));
	assert_int_equal(now, TOKEN_UNKNOWN);
	OK(token_decide(h->node, token, TOKEN_RESUMED, &now, &err));
	assert_int_equal(now, TOKEN_RESUMED);
	OK(token_decide(h->node, token, TOKEN_REFUSED, &now, &err));
	assert_int_equal(now, TOKEN_RESUMED);
	OK(token_look_up(h->node, token, &now, &err));
	assert_int_equal(now, TOKEN_RESUMED);
	OK(token_forget(h->node, token, &err));
	OK(token_forget(h->node, token, &err));
	OK(token_look_up(h->node, token, &now, &err));
	assert_int_equal(now, TOKEN_UNKNOWN);
}

static void put_record(const struct home *h, const char *token, const char *text)
{
	char path[64];

	(void)snprintf(path, sizeof(path), "tokens/%s", token);
	home_put(h, "record", text);
	assert_int_equal(renameat(h->node->state_fd, "record", h->node->state_fd, path), 0);
}

static void only_what_was_resumed_is_synced(void **state)
{
	const struct home *h = *state;
	enum token_outcome now;
	char token[TOKEN_SIZE];
	struct error err;

	OK(token_make(token, &err));
	FAILS(token_write_synced(h->node, token, &err), ENOENT, "does not say that it was resumed");
	OK(token_decide(h->node, token, TOKEN_RESUMED, &now, &err));
	OK(token_write_synced(h->node, token, &err));
	OK(token_write_synced(h->node, token, &err));
	OK(token_decide(h->node, token, TOKEN_REFUSED, &now, &err));
	assert_int_equal(now, TOKEN_SYNCED);
	OK(token_forget(h->node, token, &err));
	FAILS(token_write_synced(h->node, token, &err), ENOENT, "does not say");
	OK(token_decide(h->node, token, TOKEN_REFUSED, &now, &err));
	FAILS(token_write_synced(h->node, token, &err), ENOENT, "does not say");
	OK(token_look_up(h->node, token, &now, &err));
	assert_int_equal(now, TOKEN_REFUSED);
}

static void another_boot_loses_what_was_resumed_and_nothing_else(void **state)
{
	static const struct { const char *text; enum token_outcome is; } records[] = {
		{ "resumed 00000000-0000-0000-0000-000000000000\n", TOKEN_LOST },
		{ "synced 00000000-0000-0000-0000-000000000000\n", TOKEN_SYNCED },
		{ "refused 00000000-0000-0000-0000-000000000000\n", TOKEN_REFUSED },
	};
	const struct home *h = *state;
	enum token_outcome now;
	char token[TOKEN_SIZE];
	struct error err;

	for (size_t i = 0; i < sizeof(records) / sizeof(*records); i++) {
		OK(token_make(token, &err));
		put_record(h, token, records[i].text);
		OK(token_look_up(h->node, token, &now, &err));
		assert_int_equal(now, records[i].is);
	}
}

/* Waits until all are there, decides, exits with what it was told. */
static _Noreturn void race(const struct home *h, const char *token, int go, int i)
{
	enum token_outcome now = TOKEN_UNKNOWN;
	struct error err;
	char byte;

	(void)!read(go, &byte, 1);
	if (token_decide(h->node, token, i % 2 ? TOKEN_RESUMED : TOKEN_REFUSED, &now, &err) < 0)
		now = TOKEN_UNKNOWN;
	_exit(now);
}

static void all_racers_are_told_the_same(void **state)
{
	const struct home *h = *state;

	for (int round = 0; round < 40; round++) {
		char token[TOKEN_SIZE];
		enum token_outcome now;
		pid_t pids[RACERS];
		struct error err;
		int go[2];

		OK(token_make(token, &err));
		assert_int_equal(pipe(go), 0);
		for (int i = 0; i < RACERS; i++) {
			pids[i] = fork();
			if (pids[i] == 0) {
				(void)close(go[1]);
				race(h, token, go[0], i);
			}
		}
		(void)close(go[0]);
		(void)close(go[1]);
		for (int i = 0; i < RACERS; i++) {
			int status;

			assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
			OK(token_look_up(h->node, token, &now, &err));
			assert_true(now != TOKEN_UNKNOWN && WIFEXITED(status));
			assert_int_equal(WEXITSTATUS(status), now);
		}
	}
}

static void damaged_record_is_no_answer(void **state)
{
	const struct home *h = *state;
	static const char *const damage[] = {
		"", "resumed", "resumed\n", "refused a-boot\nx", "yes a-boot\n", "refused a b\n",
	};
	enum token_outcome now = TOKEN_UNKNOWN;
	char token[TOKEN_SIZE];
	struct error err;

	for (size_t i = 0; i < sizeof(damage) / sizeof(*damage); i++) {
		OK(token_make(token, &err));
		put_record(h, token, damage[i]);
		FAILS(token_look_up(h->node, token, &now, &err), EINVAL, "damaged");
		FAILS(token_decide(h->node, token, TOKEN_REFUSED, &now, &err), EINVAL, "damaged");
		assert_int_equal(now, TOKEN_UNKNOWN);
	}
}

static void bad_names_never_reach_the_disk(void **state)
{
	const struct home *h = *state;
	static const char *const bad[] = {
		"", "x", "../../../../../../../../etc/passwd", "0123456789abcdef0123456789abcde",
		"0123456789abcdef0123456789abcdef0", "0123456789ABCDEF0123456789ABCDEF",
		"................................", "0123456789abcdef/123456789abcdef",
	};
	enum token_outcome now;
	struct error err;

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		FAILS(token_look_up(h->node, bad[i], &now, &err), EINVAL, "32 hex digits");
		FAILS(token_decide(h->node, bad[i], TOKEN_REFUSED, &now, &err), EINVAL, "32 hex digits");
		FAILS(token_forget(h->node, bad[i], &err), EINVAL, "32 hex digits");
	}
}

static void what_cannot_be_written_decides_nothing(void **state)
{
	const struct home *h = *state;
	enum token_outcome now = TOKEN_UNKNOWN;
	char token[TOKEN_SIZE], tmp[64];
	struct error err;

	/* A folder in the way of the temporary file: fails for root as well. */
	OK(token_make(token, &err));
	(void)snprintf(tmp, sizeof(tmp), "tokens/.%s.tmp%d", token, (int)getpid());
	assert_int_equal(mkdirat(h->node->state_fd, tmp, 0700), 0);
	assert_true(token_decide(h->node, token, TOKEN_RESUMED, &now, &err) < 0);
	assert_int_equal(unlinkat(h->node->state_fd, tmp, AT_REMOVEDIR), 0);
	OK(token_look_up(h->node, token, &now, &err));
	assert_int_equal(now, TOKEN_UNKNOWN);
	OK(token_decide(h->node, token, TOKEN_REFUSED, &now, &err));
	assert_int_equal(now, TOKEN_REFUSED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(made_tokens_are_hex_and_differ),
		cmocka_unit_test_setup_teardown(first_decision_holds, home_setup, home_teardown),
		cmocka_unit_test_setup_teardown(only_what_was_resumed_is_synced, home_setup, home_teardown),
		cmocka_unit_test_setup_teardown(another_boot_loses_what_was_resumed_and_nothing_else, home_setup,
						home_teardown),
		cmocka_unit_test_setup_teardown(all_racers_are_told_the_same, home_setup, home_teardown),
		cmocka_unit_test_setup_teardown(damaged_record_is_no_answer, home_setup, home_teardown),
		cmocka_unit_test_setup_teardown(bad_names_never_reach_the_disk, home_setup, home_teardown),
		cmocka_unit_test_setup_teardown(what_cannot_be_written_decides_nothing, home_setup, home_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

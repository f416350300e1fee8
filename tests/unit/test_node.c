#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <sys/wait.h>

#include "tests/unit/node_fixture.h"

static void id_is_made_once_and_stays(void **state)
{
	const struct home *h = *state;
	CLEANUP(node_freep) struct node *again = NULL;
	struct error err;

	assert_int_equal(strspn(h->node->id, "0123456789abcdef"), 32);
	OK(node_open(h->path, &again, &err));
	assert_string_equal(again->id, h->node->id);
}

static void another_directory_is_another_node(void **state)
{
	const struct home *h = *state;
	void *other = NULL;

	assert_int_equal(home_setup(&other), 0);
	assert_string_equal(((struct home *)other)->node->config.name, h->node->config.name);
	assert_string_not_equal(((struct home *)other)->node->id, h->node->id);
	assert_int_equal(home_teardown(&other), 0);
}

#define AT_ONCE 20

static void all_who_come_first_get_the_same_id(void **state)
{
	const struct home *h = *state;
	char ids[AT_ONCE][NODE_ID_SIZE];
	int p[2];

	assert_int_equal(unlinkat(h->node->state_fd, "id", 0), 0);
	assert_int_equal(pipe(p), 0);
	for (int i = 0; i < AT_ONCE; i++) {
		if (fork() == 0) {
			struct node *n = NULL;
			struct error err;

			_exit(node_open(h->path, &n, &err) < 0 || write(p[1], n->id, NODE_ID_SIZE) != NODE_ID_SIZE);
		}
	}
	for (int i = 0; i < AT_ONCE; i++) {
		assert_int_equal(read(p[0], ids[i], NODE_ID_SIZE), NODE_ID_SIZE);
		assert_string_equal(ids[i], ids[0]);
	}
	while (wait(NULL) > 0)
		;
	(void)close(p[0]);
	(void)close(p[1]);
}

static void damaged_id_is_told_and_not_replaced(void **state)
{
	static const char *const bad[] = { "", "0123", "0123456789abcdef0123456789abcdeX" };
	const struct home *h = *state;
	struct node *n = NULL;
	struct error err;

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		home_put(h, "id", bad[i]);
		FAILS(node_open(h->path, &n, &err), EINVAL, "/id is damaged: it must be 32 hex digits");
	}
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, home_setup, home_teardown)
	const struct CMUnitTest tests[] = {
		TEST(id_is_made_once_and_stays),
		TEST(another_directory_is_another_node),
		TEST(all_who_come_first_get_the_same_id),
		TEST(damaged_id_is_told_and_not_replaced),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "migrate/checkpoint/sums.h"
#include "tests/unit/node_fixture.h"

static struct error err;

static void write_file(int dir, const char *name, const void *data, size_t len)
{
	CLEANUP(fd_closep) int fd = openat(dir, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	OK(fd_write_full(fd, data, len, &err));
}

/* A folder in the home with a small file, a large one and one that has no sum. */
static int make(const struct home *h, struct sums **ret)
{
	CLEANUP(freep) char *large = calloc(1, 700001);
	CLEANUP(fd_closep) int folder = -EBADF;
	int top = -EBADF;

	OK(fd_open_dir_at(h->node->state_fd, "top", true, 0700, &top, &err));
	OK(fd_open_dir_at(top, "images", true, 0700, &folder, &err));
	write_file(top, "small", "abc", 3);
	write_file(folder, "large", large, 700001);
	write_file(folder, "empty", "", 0);
	write_file(top, "pages", "xyz", 3);
	OK(sums_write(top, "pages", &err));
	OK(sums_read(top, ret, &err));
	return top;
}

static void what_is_as_it_was_is_given(void **state)
{
	CLEANUP(sums_freep) struct sums *s = NULL;
	CLEANUP(fd_closep) int top = make(*state, &s);
	CLEANUP(fd_closep) int to = -EBADF;
	CLEANUP(freep) char *text = NULL;
	size_t len;

	assert_true(sums_has(s, "small") && sums_has(s, "images/empty"));
	assert_false(sums_has(s, "pages") || sums_has(s, SUMS_JSON));
	OK(sums_load(s, "small", 3, &text, &len, &err));
	assert_string_equal(text, "abc");
	FAILS(sums_load(s, "small", 2, &text, &len, &err), EFBIG, "small");
	OK(fd_open_dir_at(top, "to", true, 0700, &to, &err));
	OK(sums_copy(s, "images", to, &err));
	free(TAKE_PTR(text));
	OK(fd_read_file_at(to, "large", 1 << 20, &text, &len, &err));
	assert_int_equal(len, 700001);
}

static void what_is_not_is_named(void **state)
{
	static char other[700001];
	CLEANUP(sums_freep) struct sums *s = NULL;
	CLEANUP(fd_closep) int top = make(*state, &s);
	CLEANUP(fd_closep) int to = -EBADF;
	CLEANUP(freep) char *text = NULL;

	OK(fd_open_dir_at(top, "to", true, 0700, &to, &err));
	write_file(top, "small", "abd", 3);
	FAILS(sums_load(s, "small", 9, &text, NULL, &err), EBADMSG, "small is damaged: its content");
	write_file(top, "small", "ab", 2);
	FAILS(sums_load(s, "small", 9, &text, NULL, &err), EBADMSG, "it has 2 bytes and had 3");
	FAILS(sums_load(s, "pages", 9, &text, NULL, &err), EBADMSG, "pages is not in");
	other[300000] = 1;
	write_file(top, "images/large", other, sizeof(other));
	FAILS(sums_copy(s, "images", to, &err), EBADMSG, "images/large is damaged: its content");
	OK(fd_remove_tree_at(top, "images/large", &err));
	OK(fd_remove_tree_at(top, "to", &err));
	fd_close(&to);
	OK(fd_open_dir_at(top, "to", true, 0700, &to, &err));
	FAILS(sums_copy(s, "images", to, &err), EBADMSG, "images/large is missing");
	assert_null(text);
}

/* What a reader says counts unless the file is damaged. */
static void whose_fault_it_is(void **state)
{
	CLEANUP(sums_freep) struct sums *s = NULL;
	CLEANUP(fd_closep) int top = make(*state, &s);
	CLEANUP(sums_file_freep) struct sums_file *f = NULL;

	OK(sums_open(s, "images/large", &f, &err));
	(void)error_set(&err, ENOSPC, "the disk is full");
	FAILS(sums_file_end(f, -ENOSPC, &err), ENOSPC, "the disk is full");
	sums_file_free(TAKE_PTR(f));
	write_file(top, "images/large", "x", 1);
	OK(sums_open(s, "images/large", &f, &err));
	(void)error_set(&err, EPROTO, "no archive");
	FAILS(sums_file_end(f, -EPROTO, &err), EBADMSG, "it has 1 bytes");
}

static void lists_that_are_wrong(void **state)
{
	CLEANUP(sums_freep) struct sums *s = NULL;
	CLEANUP(fd_closep) int top = make(*state, &s);
	CLEANUP(fd_closep) int to = -EBADF;
	static const struct { const char *text; int code; } wrong[] = {
		{ "", EINVAL }, { "{}", EINVAL }, { "{\"version\":1,\"files\":{}}", ENOTSUP },
		{ "{\"version\":2,\"files\":[]}", ENOTSUP }, { "{\"version\":2,\"files\":{},\"x\":1}", EINVAL },
		{ "{\"version\":2,\"version\":2,\"files\":{}}", EINVAL },
	};
	static const char leads_out[] = "{\"version\":2,\"files\":{\"images/../small\":{\"size\":3,\"xxh3\":\"\"}}}";
	struct sums *bad = NULL;

	for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
		write_file(top, SUMS_JSON, wrong[i].text, strlen(wrong[i].text));
		assert_int_equal(sums_read(top, &bad, &err), -wrong[i].code);
	}
	OK(fd_remove_tree_at(top, SUMS_JSON, &err));
	FAILS(sums_read(top, &bad, &err), ENOENT, "was not finished");
	assert_null(bad);
	write_file(top, SUMS_JSON, leads_out, strlen(leads_out));
	OK(sums_read(top, &bad, &err));
	OK(fd_open_dir_at(top, "to", true, 0700, &to, &err));
	FAILS(sums_copy(bad, "images", to, &err), EINVAL, "no file of a checkpoint");
	sums_free(bad);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(what_is_as_it_was_is_given, home_setup, home_teardown),
		cmocka_unit_test_setup_teardown(what_is_not_is_named, home_setup, home_teardown),
		cmocka_unit_test_setup_teardown(whose_fault_it_is, home_setup, home_teardown),
		cmocka_unit_test_setup_teardown(lists_that_are_wrong, home_setup, home_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

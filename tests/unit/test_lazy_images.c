#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "criu-glue/mm.pb-c.h"
#include "engine/base/fd.h"
#include "migrate/memory/lazy_images.h"

/* Magic pair and head {1: 1}; two pages of a stack as CRIU writes them, present and lazy; the
 * same as it must be read; and a page that the store has. */
#define HEAD "\x19\x43\x56\x54\x25\x40\x08\x56\x02\0\0\0\x08\x01"
#define STACK "\x0c\0\0\0\x08\x80\x80\x80\x80\xc0\xff\x1f\x10\x02\x20\x06"
#define STACK_PRESENT "\x0e\0\0\0\x08\x80\x80\x80\x80\xc0\xff\x1f\x10\x02\x20\x04\x28\x02"
#define STORED "\x0b\0\0\0\x08\x80\x80\x80\x02\x10\x01\x20\x02\x28\x01"
#define BYTES(text) text, sizeof(text) - 1
#define STORED_AT 0x400000u

#define PROCESSES 200u		/* half of them with pages in the store */

struct world {
	char path[64];
	int images_fd;
	struct store *store;
};

static void write_image(const struct world *w, const char *name, const void *data, size_t len)
{
	struct error err;

	assert_int_equal(fd_replace_file_at(w->images_fd, name, data, len, 0600, FD_REPLACE, &err), 0);
}

/* mm-PID.img, without mappings: none is locked. */
static void write_mappings(const struct world *w, uint32_t pid)
{
	Mm__MmEntry mm = MM__MM_ENTRY__INIT;
	uint32_t head[3] = { 0x54564319u, 0x57492820u };
	uint8_t image[256];
	char name[32];

	head[2] = (uint32_t)mm__mm_entry__pack(&mm, image + sizeof(head));
	memcpy(image, head, sizeof(head));
	(void)snprintf(name, sizeof(name), "mm-%u.img", pid);
	write_image(w, name, image, sizeof(head) + head[2]);
}

static void remove_images(const struct world *w, uint32_t pid)
{
	char name[32];

	(void)snprintf(name, sizeof(name), "pagemap-%u.img", pid);
	(void)unlinkat(w->images_fd, name, 0);
	(void)snprintf(name, sizeof(name), "mm-%u.img", pid);
	(void)unlinkat(w->images_fd, name, 0);
}

static void expect_image(const struct world *w, const char *name, const void *wanted, size_t wanted_len)
{
	CLEANUP(freep) char *text = NULL;
	struct error err;
	size_t len;

	assert_int_equal(fd_read_file_at(w->images_fd, name, 4096, &text, &len, &err), 0);
	assert_int_equal(len, wanted_len);
	assert_memory_equal(text, wanted, len);
}

static int set_up(void **state)
{
	static struct world w;
	struct error err;
	char name[32];

	(void)snprintf(w.path, sizeof(w.path), "/tmp/test_lazy_images.XXXXXX");
	assert_non_null(mkdtemp(w.path));
	w.images_fd = open(w.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(w.images_fd >= 0);
	assert_int_equal(store_new(1000, &w.store, &err), 0);
	for (uint32_t pid = 1; pid <= PROCESSES; pid++) {
		(void)snprintf(name, sizeof(name), "pagemap-%u.img", pid);
		write_image(&w, name, BYTES(HEAD STACK));
		write_mappings(&w, pid);
	}
	write_image(&w, "pagemap-shmem-7.img", BYTES(HEAD STACK));
	*state = &w;
	return 0;
}

static int tear_down(void **state)
{
	struct world *w = *state;

	for (uint32_t pid = 1; pid <= PROCESSES + 1; pid++)
		remove_images(w, pid);
	(void)unlinkat(w->images_fd, "pagemap-shmem-7.img", 0);
	store_free(w->store);
	(void)close(w->images_fd);
	return rmdir(w->path);
}

static void put(const struct world *w, uint32_t pid)
{
	char page[STORE_PAGE];
	struct error err;

	memset(page, (int)pid, sizeof(page));
	assert_int_equal(store_put(w->store, pid, STORED_AT, page, 1, &err), 0);
	assert_int_equal(store_populated(w->store, pid, STORED_AT, STORED_AT + STORE_PAGE, &err), 0);
}

/* CRIU would leave a lazy page to whoever serves it, and the process had no stack. */
static void only_what_the_store_has_is_lazy(void **state)
{
	struct world *w = *state;
	struct error err;
	char name[32];

	for (uint32_t pid = 2; pid <= PROCESSES; pid += 2)
		put(w, pid);
	assert_int_equal(store_seal(w->store, &err), 0);
	assert_int_equal(lazy_images_rewrite(w->images_fd, w->store, &err), 0);
	for (uint32_t pid = 1; pid <= PROCESSES; pid++) {
		(void)snprintf(name, sizeof(name), "pagemap-%u.img", pid);
		if (pid % 2)
			expect_image(w, name, BYTES(HEAD STACK_PRESENT));
		else
			expect_image(w, name, BYTES(HEAD STORED STACK_PRESENT));
	}
	expect_image(w, "pagemap-shmem-7.img", BYTES(HEAD STACK));
}

static void an_empty_store_is_no_exception(void **state)
{
	struct world *w = *state;
	struct error err;

	assert_int_equal(store_seal(w->store, &err), 0);
	assert_int_equal(lazy_images_rewrite(w->images_fd, w->store, &err), 0);
	expect_image(w, "pagemap-1.img", BYTES(HEAD STACK_PRESENT));
}

static void memory_of_nobody_is_refused(void **state)
{
	struct world *w = *state;
	struct error err;

	put(w, PROCESSES + 1);
	write_mappings(w, PROCESSES + 1);
	assert_int_equal(store_seal(w->store, &err), 0);
	assert_int_equal(lazy_images_rewrite(w->images_fd, w->store, &err), -EPROTO);
}

static int count_pages(void *ctx, uint32_t pid, uint64_t address, uint64_t n_pages, uint64_t slot, struct error *err)
{
	(void)address;
	(void)slot;
	(void)err;
	assert_int_not_equal(pid, PROCESSES + 1);
	*(uint64_t *)ctx += n_pages;
	return 0;
}

/* It ended when its memory had been looked at, and CRIU has seen none. */
static void memory_of_one_that_ended_is_dropped(void **state)
{
	struct world *w = *state;
	uint64_t n_pages = 0;
	struct error err;

	put(w, 1);
	put(w, PROCESSES + 1);
	assert_int_equal(store_seal(w->store, &err), 0);
	assert_int_equal(lazy_images_rewrite(w->images_fd, w->store, &err), 0);
	assert_int_equal(store_walk(w->store, count_pages, &n_pages, &err), 0);
	assert_int_equal(n_pages, 1);
	expect_image(w, "pagemap-1.img", BYTES(HEAD STORED STACK_PRESENT));
	expect_image(w, "pagemap-2.img", BYTES(HEAD STACK_PRESENT));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(only_what_the_store_has_is_lazy, set_up, tear_down),
		cmocka_unit_test_setup_teardown(an_empty_store_is_no_exception, set_up, tear_down),
		cmocka_unit_test_setup_teardown(memory_of_nobody_is_refused, set_up, tear_down),
		cmocka_unit_test_setup_teardown(memory_of_one_that_ended_is_dropped, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

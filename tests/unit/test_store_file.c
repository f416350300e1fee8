#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/base/fd.h"
#include "migrate/memory/store_file.h"
#include "proto/store_index.h"

#define BASE 0x7f0000000000u
#define MAX_PAGES 8192u
#define LIMIT (64u << 20)

static struct error err;

/* A folder with a store in it. */
struct place {
	char path[64];
	int fd;
};

static int setup(void **state)
{
	static struct place p;

	strcpy(p.path, "/tmp/godwit-store-XXXXXX");
	if (!mkdtemp(p.path))
		return -1;
	p.fd = open(p.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	*state = &p;
	return p.fd < 0;
}

static int teardown(void **state)
{
	struct place *p = *state;

	(void)close(p->fd);
	return fd_remove_tree_at(AT_FDCWD, p->path, &err);
}

static int open_pages(const struct place *p)
{
	int fd = openat(p->fd, STORE_PAGES, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	return fd;
}

static void put(struct store *s, uint32_t pid, uint64_t page, uint64_t first, size_t n)
{
	uint8_t data[STORE_PAGE];

	for (size_t i = 0; i < n; i++) {
		memset(data, 0x33, sizeof(data));
		memcpy(data, &(uint64_t){ first + i }, 8);
		if (store_put(s, pid, BASE + (page + i) * STORE_PAGE, data, 1, &err) < 0)
			fail_msg("%s", err.msg);
	}
}

static void populated(struct store *s, uint32_t pid, uint64_t from, uint64_t to)
{
	assert_int_equal(store_populated(s, pid, BASE + from * STORE_PAGE, BASE + to * STORE_PAGE, &err), 0);
}

static struct store *open_new(const struct place *p)
{
	struct store *s;

	assert_int_equal(store_new_in(open_pages(p), MAX_PAGES, &s, &err), 0);
	return s;
}

/* Pages of two processes; some came twice, some went, some are zero. */
static void save_one(const struct place *p)
{
	CLEANUP(store_freep) struct store *s = open_new(p);

	put(s, 5, 0, 100, 1500);
	put(s, 9, 7, 9000, 3);
	put(s, 5, 1000, 5000, 10);
	assert_int_equal(store_put_zero(s, 5, BASE + 20 * STORE_PAGE, 30, &err), 0);
	populated(s, 5, 0, 1490);
	populated(s, 9, 7, 10);
	assert_int_equal(store_save(s, p->fd, &err), -EINVAL);	/* not sealed */
	(void)unlinkat(p->fd, STORE_INDEX, 0);
	assert_int_equal(store_seal(s, &err), 0);
	assert_int_equal(store_save(s, p->fd, &err), 0);
}

static int load(const struct place *p, struct store **ret)
{
	CLEANUP(freep) char *index = NULL;
	size_t len;

	assert_int_equal(fd_read_file_at(p->fd, STORE_INDEX, LIMIT, &index, &len, &err), 0);
	return store_load(index, len, open_pages(p), ret, &err);
}

struct seen {
	const struct store *store;
	size_t n[16];
};

static int look(void *ctx, uint32_t pid, uint64_t address, uint64_t n, uint64_t slot, struct error *e)
{
	struct seen *seen = ctx;
	uint8_t room[STORE_PAGE];

	for (uint64_t i = 0; i < n; i++) {
		uint64_t page = (address - BASE) / STORE_PAGE + i, found;
		uint64_t wanted = pid == 9 ? 9000 + page - 7 : page >= 1000 && page < 1010 ? 4000 + page : 100 + page;
		const void *data;

		if (store_read(seen->store, slot + i, 1, room, &data, e) < 0)
			return -e->code;
		memcpy(&found, data, 8);
		assert_int_equal(found, wanted);
		assert_true(pid == 9 || page < 20 || page >= 50);
	}
	seen->n[pid] += n;
	return 0;
}

static void comes_back_as_it_was(void **state)
{
	const struct place *p = *state;
	CLEANUP(store_freep) struct store *s = NULL;
	struct seen seen = { 0 };
	struct stat st;

	save_one(p);
	assert_int_equal(fstatat(p->fd, STORE_PAGES, &st, 0), 0);
	assert_int_equal(st.st_size, 1503 * STORE_PAGE);
	assert_int_equal(load(p, &s), 0);
	assert_int_equal(store_check(s, &err), 0);
	seen.store = s;
	assert_int_equal(store_walk(s, look, &seen, &err), 0);
	assert_int_equal(seen.n[5], 1460);
	assert_int_equal(seen.n[9], 3);
	assert_int_equal(store_put(s, 5, BASE, "", 1, &err), -EINVAL);
	store_forget(s, 0, 100);		/* nothing is taken from the disk */
	assert_int_equal(store_check(s, &err), 0);
}

static void an_empty_one(void **state)
{
	const struct place *p = *state;
	CLEANUP(store_freep) struct store *s = open_new(p), *again = NULL;

	assert_int_equal(store_seal(s, &err), 0);
	assert_int_equal(store_save(s, p->fd, &err), 0);
	assert_int_equal(load(p, &again), 0);
	assert_int_equal(store_check(again, &err), 0);
	assert_int_equal(store_slots(again), 0);
}

static void flip(const struct place *p, const char *name, off_t at)
{
	int fd = openat(p->fd, name, O_RDWR | O_CLOEXEC);
	uint8_t byte;

	assert_int_equal(pread(fd, &byte, 1, at), 1);
	byte ^= 1;
	assert_int_equal(pwrite(fd, &byte, 1, at), 1);
	(void)close(fd);
}

/* Any byte of a page in use; what is read beside it is still right. */
static void a_damaged_page_is_never_handed_out(void **state)
{
	const struct place *p = *state;
	CLEANUP(store_freep) struct store *s = NULL;
	uint8_t room[4 * STORE_PAGE];
	const void *data;

	save_one(p);
	flip(p, STORE_PAGES, 1234 * STORE_PAGE + 777);
	assert_int_equal(load(p, &s), 0);
	assert_int_equal(store_check(s, &err), -EBADMSG);
	assert_non_null(strstr(err.msg, "byte 5054464"));
	assert_int_equal(store_read(s, 1232, 4, room, &data, &err), -EBADMSG);
	assert_int_equal(store_read(s, 1230, 4, room, &data, &err), 0);
	assert_int_equal(ftruncate(store_fd(s), 1400 * STORE_PAGE), 0);
	assert_int_equal(store_read(s, 1399, 2, room, &data, &err), -EBADMSG);
	assert_non_null(strstr(err.msg, "it ends there"));
}

static void pages_of_another_length(void **state)
{
	const struct place *p = *state;
	struct store *s = NULL;

	save_one(p);
	for (int pages = 1502; pages <= 1504; pages += 2) {
		int fd = open_pages(p);

		assert_int_equal(ftruncate(fd, pages * STORE_PAGE), 0);
		(void)close(fd);
		assert_int_equal(load(p, &s), -EBADMSG);
	}
	assert_null(s);
}

/* Whatever is wrong with an index is seen, or leads to nothing but wrong sums. */
static void an_index_that_lies(void **state)
{
	const struct place *p = *state;
	CLEANUP(freep) char *index = NULL;
	CLEANUP(freep) char *bad = NULL;
	struct store *s = NULL;
	size_t len;

	save_one(p);
	assert_int_equal(fd_read_file_at(p->fd, STORE_INDEX, LIMIT, &index, &len, &err), 0);
	bad = malloc(len);
	for (size_t cut = 0; cut < len; cut += 7)
		assert_int_equal(store_load(index, cut, open_pages(p), &s, &err), -EPROTO);
	for (size_t i = 0; i < STORE_INDEX_HEAD_BYTES; i++) {
		memcpy(bad, index, len);
		bad[i] ^= (char)0x81;
		assert_int_equal(store_load(bad, len, open_pages(p), &s, &err), -EPROTO);
	}
	/* the slot of the first extent, the order of two, and an address */
	memcpy(bad, index, len);
	bad[STORE_INDEX_HEAD_BYTES + 24 + 3] = 1;
	assert_int_equal(store_load(bad, len, open_pages(p), &s, &err), -EPROTO);
	memcpy(bad, index, len);
	bad[STORE_INDEX_HEAD_BYTES] = 6;
	assert_int_equal(store_load(bad, len, open_pages(p), &s, &err), -EPROTO);
	memcpy(bad, index, len);
	bad[STORE_INDEX_HEAD_BYTES + 8] = 1;
	assert_int_equal(store_load(bad, len, open_pages(p), &s, &err), -EPROTO);
	assert_null(s);
}

static void a_full_disk_is_an_error(void **state)
{
	const struct place *p = *state;
	struct place small = { .fd = -EBADF };
	uint8_t data[16 * STORE_PAGE];
	struct store *s;
	int r = 0;

	assert_int_equal(mount("none", p->path, "tmpfs", 0, "size=1m"), 0);
	small.fd = open(p->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	s = open_new(&small);
	(void)close(small.fd);
	memset(data, 1, sizeof(data));
	for (uint64_t i = 0; i < 32 && r == 0; i++)
		r = store_put(s, 1, BASE + i * sizeof(data), data, 16, &err);
	store_free(s);
	(void)umount2(p->path, MNT_DETACH);
	assert_int_equal(r, -ENOSPC);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(comes_back_as_it_was, setup, teardown),
		cmocka_unit_test_setup_teardown(an_empty_one, setup, teardown),
		cmocka_unit_test_setup_teardown(a_damaged_page_is_never_handed_out, setup, teardown),
		cmocka_unit_test_setup_teardown(pages_of_another_length, setup, teardown),
		cmocka_unit_test_setup_teardown(an_index_that_lies, setup, teardown),
		cmocka_unit_test_setup_teardown(a_full_disk_is_an_error, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "tests/unit/shared_fixture.h"

/* ---- files of a tmpfs ---- */

static int new_file(const char *path, int value)
{
	int fd = open(path, O_RDWR | O_CREAT | O_EXCL, 0644);

	MUST(fd >= 0 && ftruncate(fd, SIZE) == 0);
	fill(map(fd, SIZE), SIZE, value);
	return fd;
}

static void use_files(struct steps *s)
{
	char *p;
	int fd;

	MUST(mkdir("/dev/shm/dir", 0700) == 0);
	(void)new_file("/dev/shm/dir/stays", 1);
	(void)new_file("/dev/shm/moves", 2);
	fd = new_file("/dev/shm/unlinked", 3);
	(void)new_file("/dev/shm/linked", 4);
	MUST(link("/dev/shm/linked", "/dev/shm/twice") == 0);
	done(s, 1);
	p = map(open("/dev/shm/dir/stays", O_RDWR), SIZE);
	p[5 * PAGE]++;
	MUST(rename("/dev/shm/moves", "/dev/shm/dir/moved") == 0 && unlink("/dev/shm/unlinked") == 0);
	MUST(unlink("/dev/shm/linked") == 0 && pwrite(fd, "x", 1, 0) == 1);
	(void)new_file("/dev/shm/late", 5);
	done(s, 2);
}

static int has_sent(const struct box *b, const char *path)
{
	char inside[128];
	int fd, r;

	(void)snprintf(inside, sizeof(inside), "/proc/%d/root%s", (int)b->pid, path);
	fd = open(inside, O_RDONLY);
	assert_true(fd >= 0);
	r = shared_has_sent(b->shared, path, fd);
	(void)close(fd);
	return r;
}

static int link_one(struct box *b, const char *path)
{
	return shared_store_link(b->store, path, b->tmpfs.tops[0], "name", &b->err);
}

static void files_go_by_their_names(void **state)
{
	struct box *b = *state;

	start(b, use_files);
	live_round(b);
	assert_int_equal(b->announced, 4);
	assert_int_equal(b->sent, 4 * PAGES);
	next(b);
	last_round(b);
	assert_int_equal(b->sent, 1);
	assert_int_equal(b->gone, 1);
	assert_int_equal(b->hashed, 3);
	assert_true(has_sent(b, "/dev/shm/dir/stays") && has_sent(b, "/dev/shm/dir/moved"));
	assert_true(has_sent(b, "/dev/shm/twice"));
	assert_false(has_sent(b, "/dev/shm/late"));
	assert_int_equal(link_one(b, "/dev/shm/dir/moved"), 1);
	assert_int_equal(faccessat(b->tmpfs.tops[0], "name", F_OK, 0), 0);
	assert_int_equal(link_one(b, "/dev/shm/moves"), 0);
	assert_int_equal(link_one(b, "/dev/shm/unlinked"), 0);
}

/* ---- a peer that lies ---- */

static void a_store_refuses_nonsense(void **state)
{
	static const struct pages_object about = { .kind = PAGES_SHMEM, .name = "lies" };
	static const struct pages_object outside = { .kind = PAGES_FILE, .name = "/dev/shmem/x" };
	static const uint8_t page[PAGE];
	struct box *b = *state;
	struct error *err = &b->err;

	assert_int_equal(shared_store_object(b->store, 4, PAGE, &outside, err), -EPROTO);

	check(b, shared_store_object(b->store, 5, 2 * PAGE + 1, &about, err));
	check(b, shared_store_put(b->store, 5, 2 * PAGE, page, 1, err));
	assert_int_equal(shared_store_put(b->store, 5, 3 * PAGE, page, 1, err), -EPROTO);
	assert_int_equal(shared_store_put(b->store, 5, 2 * PAGE, page, 2, err), -EPROTO);
	assert_int_equal(shared_store_put(b->store, 5, 1, page, 1, err), -EPROTO);
	assert_int_equal(shared_store_put(b->store, 5, 0, NULL, UINT64_MAX, err), -EPROTO);
	assert_int_equal(shared_store_put(b->store, 6, 0, page, 1, err), -EPROTO);
	assert_int_equal(shared_store_drop(b->store, 6, err), -EPROTO);
	for (uint32_t i = 6; i < 5 + SHARED_STORE_OBJECTS_MAX; i++)
		check(b, shared_store_object(b->store, i, 0, &about, err));
	assert_int_equal(shared_store_object(b->store, 4, 0, &about, err), -ENOSPC);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(files_go_by_their_names, setup, teardown),
		cmocka_unit_test_setup_teardown(a_store_refuses_nonsense, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

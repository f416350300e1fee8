/* Shared objects of a real process, sent into a store as a migration does it: whatever was
 * done to them, by whom ever, both are equal in the end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "engine/base/clock.h"
#include "migrate/shared.h"
#include "migrate/shared_store.h"
#include "migrate/tmpfs.h"

#define PAGE 4096u
#define PAGES 600u
#define SIZE (PAGES * PAGE)
#define PATIENCE_US 20000000u

#define MUST(what)				\
	do {					\
		if (!(what))			\
			_exit(90);		\
	} while (0)

/* Small enough not to be followed itself. */
struct steps {
	volatile int asked, done;
};

struct box {
	struct cgroup *cg;
	struct steps *steps;
	struct carried *carried;
	struct shared *shared;
	struct shared_store *store;
	struct tmpfs tmpfs;
	size_t announced, gone, hashed, sent, last_sent;
	pid_t pid;
	struct error err;
};

#define check(b, call)						\
	do {							\
		if ((call) < 0)					\
			fail_msg("%s: %s", #call, (b)->err.msg); \
	} while (0)

static int take_object(void *ctx, uint32_t number, uint64_t size, const struct pages_object *about,
		       struct error *err)
{
	struct box *b = ctx;

	b->announced++;
	return shared_store_object(b->store, number, size, about, err);
}

static int take_pages(void *ctx, uint32_t number, uint64_t offset, const void *data, size_t n,
		      struct error *err)
{
	struct box *b = ctx;

	b->sent += n;
	return shared_store_put(b->store, number, offset, data, n, err);
}

static int take_gone(void *ctx, uint32_t number, struct error *err)
{
	struct box *b = ctx;

	b->gone++;
	return shared_store_drop(b->store, number, err);
}

static int compare_hash(void *ctx, uint32_t number, uint64_t hash, struct error *err)
{
	struct box *b = ctx;
	uint64_t here;

	b->hashed++;
	if (shared_store_hash(b->store, number, &here, err) < 0)
		return -err->code;
	return here == hash ? 0 : error_set(err, EBADMSG, "'%s' differs", shared_store_name(b->store, number));
}

static struct shared_sink sink_of(struct box *b)
{
	return (struct shared_sink){ take_object, take_pages, take_gone, compare_hash, b };
}

static void live_round(struct box *b)
{
	const struct shared_sink sink = sink_of(b);
	uint64_t us;

	b->sent = 0;
	check(b, shared_round(b->shared, &sink, &us, &b->err));
}

static void last_round(struct box *b)
{
	const struct shared_sink sink = sink_of(b);

	b->sent = b->hashed = 0;
	check(b, shared_compare(b->shared, b->carried, &b->err));
	check(b, shared_last_round(b->shared, &sink, &b->err));
	check(b, shared_hash(b->shared, &sink, &b->err));
}

static int setup(void **state)
{
	static const struct tmpfs no_tmpfs = TMPFS_EMPTY;
	struct cgroup_limits none = { 0 };
	struct spec spec = { 0 };
	struct box *b = calloc(1, sizeof(*b));
	char parent[64];

	(void)snprintf(parent, sizeof(parent), "/godwit-shared-%d", (int)getpid());
	if (b)
		b->tmpfs = no_tmpfs;
	if (!b || cgroup_create(parent, "box", &none, &b->cg, &b->err) < 0 ||
	    tmpfs_make(&spec, &b->tmpfs, &b->err) < 0 ||
	    carried_new(&b->carried, &b->err) < 0 || shared_store_new(&b->store, &b->err) < 0) {
		(void)fprintf(stderr, "%s\n", b ? b->err.msg : "no memory");
		return -1;
	}
	shared_store_set_tmpfs(b->store, &b->tmpfs);
	b->steps = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	*state = b;
	return b->steps == MAP_FAILED ? -1 : 0;
}

static int teardown(void **state)
{
	static const char *const roots[] = { "", "/unified", "/memory", "/cpu", "/cpuacct", "/pids" };
	struct box *b = *state;
	char path[128];
	int r;

	shared_free(b->shared);
	shared_store_free(b->store);
	tmpfs_closep(&b->tmpfs);
	carried_free(b->carried);
	r = cgroup_kill(b->cg, 5000000, &b->err);
	while (waitpid(-1, NULL, 0) > 0)
		;
	if (cgroup_remove(b->cg, &b->err) < 0)
		r = -1;
	cgroup_free(b->cg);
	for (size_t i = 0; i < sizeof(roots) / sizeof(*roots); i++) {
		(void)snprintf(path, sizeof(path), "/sys/fs/cgroup%s/godwit-shared-%d", roots[i], (int)getpid());
		(void)rmdir(path);
	}
	(void)munmap(b->steps, PAGE);
	free(b);
	return r;
}

static void await(const volatile int *value, int wanted)
{
	uint64_t end_us = clock_us() + PATIENCE_US;

	while (*value != wanted) {
		if (clock_us() > end_us)
			fail_msg("the process did not come to step %d", wanted);
		(void)usleep(100);
	}
}

/* In the process: step n is done, go on when the next one is asked for. */
static void done(struct steps *s, int n)
{
	s->done = n;
	while (s->asked <= n)
		(void)usleep(100);
}

/* Lets the process do the next step, and waits until it is done. */
static void next(struct box *b)
{
	int n = ++b->steps->asked;

	await(&b->steps->done, n);
}

/* Runs fn in the cgroup, in an ipc namespace and with a /dev/shm of its own, up to its
 * step 1. */
static void start(struct box *b, void (*fn)(struct steps *s))
{
	b->pid = fork();
	if (b->pid == 0) {
		struct error err;

		carried_free(b->carried);	/* shared memory of ours */
		MUST(cgroup_join(b->cg, 0, &err) == 0 && unshare(CLONE_NEWIPC | CLONE_NEWNS) == 0);
		MUST(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
		MUST(mount("shm", "/dev/shm", "tmpfs", 0, NULL) == 0);
		fn(b->steps);
		_exit(0);
	}
	check(b, shared_open(b->cg, b->pid, true, &b->shared, &b->err));
	next(b);
}

static char *map(int fd, size_t size)
{
	char *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | (fd < 0 ? MAP_ANONYMOUS : 0), fd, 0);

	MUST(p != MAP_FAILED);
	return p;
}

static int new_memfd(const char *name, off_t size)
{
	int fd = memfd_create(name, 0);

	MUST(fd >= 0 && ftruncate(fd, size) == 0);
	return fd;
}

static void fill(char *p, size_t size, int value)
{
	for (size_t i = 0; i < size; i += 64)
		*(size_t *)(void *)(p + i) = i * 31 + (size_t)value;
}

/* ---- what is found ---- */

static void make_all_kinds(struct steps *s)
{
	int small = new_memfd("small", SHARED_MIN_BYTES - 1), mapped = new_memfd("mapped", SIZE);
	int open_only = new_memfd("open", SIZE), id, detached;
	char *at;

	fill(map(-1, SIZE), SIZE, 1);
	fill(map(mapped, SIZE), SIZE, 2);
	MUST(close(mapped) == 0);
	fill(map(small, SHARED_MIN_BYTES), SHARED_MIN_BYTES - 64, 3);
	MUST(pwrite(open_only, "four", 4, 40960) == 4);
	id = shmget(IPC_PRIVATE, SIZE, IPC_CREAT | 0600);
	detached = shmget(IPC_PRIVATE, SIZE, IPC_CREAT | 0600);
	MUST(id >= 0 && detached >= 0);
	fill(shmat(id, NULL, 0), SIZE, 5);
	at = shmat(detached, NULL, 0);
	fill(at, SIZE, 6);
	MUST(shmdt(at) == 0);
	done(s, 1);
	done(s, 2);
}

static void every_kind_is_found_once(void **state)
{
	struct box *b = *state;

	start(b, make_all_kinds);
	live_round(b);
	assert_int_equal(b->announced, 5);
	assert_int_equal(b->sent, 4 * PAGES + 1);
	live_round(b);
	assert_int_equal(b->sent, 0);
	last_round(b);
	assert_int_equal(b->hashed, 5);
	assert_int_equal(b->sent, 0);
	next(b);
}

/* ---- what nobody tells of ---- */

static void write_unseen(struct steps *s)
{
	int fd = new_memfd("unseen", SIZE);
	char *p = map(-1, SIZE), *other, *twice;
	pid_t child;

	fill(p, SIZE, 1);
	other = map(fd, SIZE);
	fill(other, SIZE, 2);
	done(s, 1);
	/* a process that reads, so that its page table lets it write, writes, and is gone */
	child = fork();
	if (child == 0) {
		MUST(p[7 * PAGE] || !p[7 * PAGE + 1]);
		p[7 * PAGE] ^= 1;
		_exit(0);
	}
	MUST(child > 0 && waitpid(child, NULL, 0) == child);
	/* a second mapping that is gone */
	twice = map(fd, SIZE);
	twice[9 * PAGE + 1] ^= 1;
	MUST(munmap(twice, SIZE) == 0);
	MUST(pwrite(fd, "written", 7, 100 * PAGE + 3) == 7);
	/* made a hole, and read again: a page of zeros that nobody has written */
	MUST(madvise(other + 50 * PAGE, PAGE, MADV_REMOVE) == 0 && other[50 * PAGE] == 0);
	MUST(madvise(p + 200 * PAGE, 300 * PAGE, MADV_REMOVE) == 0);
	p[300 * PAGE] = 1;
	done(s, 2);
}

static void what_nobody_tells_of_is_found(void **state)
{
	struct box *b = *state;

	start(b, write_unseen);
	live_round(b);
	live_round(b);
	assert_int_equal(b->sent, 0);
	next(b);
	last_round(b);
	assert_int_equal(b->hashed, 2);
	/* one by the child; 299 zero and one page; and 9, 50, 100 of the memfd */
	assert_int_equal(b->sent, 1 + 300 + 3);
}

/* ---- sizes ---- */

static void change_sizes(struct steps *s)
{
	int grows = new_memfd("grows", SIZE), shrinks = new_memfd("shrinks", SIZE), odd = new_memfd("odd", SIZE);
	int holes = new_memfd("holes", (off_t)1 << 40);
	char *at = map(odd, SIZE);

	fill(map(grows, SIZE), SIZE, 1);
	fill(map(shrinks, SIZE), SIZE, 2);
	fill(at, SIZE, 3);
	MUST(pwrite(holes, "far", 3, (off_t)1 << 39) == 3);
	done(s, 1);
	MUST(ftruncate(grows, 2 * SIZE) == 0 && pwrite(grows, "new", 3, SIZE + 5 * PAGE) == 3);
	MUST(ftruncate(shrinks, SIZE / 2) == 0);
	MUST(ftruncate(odd, SIZE / 2 + 100) == 0);
	MUST(pwrite(holes, "near", 4, 12345678) == 4);
	done(s, 2);
	MUST(ftruncate(shrinks, SIZE) == 0);	/* its second half is zero now */
	at[SIZE / 2 + 2000] = 7;		/* behind the end, where only a mapping reaches */
	MUST(ftruncate(odd, SIZE / 2 + 3000) == 0);
	MUST(fallocate(holes, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (off_t)1 << 40) == 0);
	done(s, 3);
}

static void sizes_change(void **state)
{
	struct box *b = *state;

	start(b, change_sizes);
	live_round(b);
	assert_int_equal(b->announced, 4);
	next(b);
	live_round(b);
	assert_int_equal(b->announced, 7);
	next(b);
	last_round(b);
	assert_int_equal(b->announced, 9);
	assert_int_equal(b->hashed, 4);
	/* two pages of "holes" are none now, the cut page of "odd" has more in it */
	assert_int_equal(b->sent, 3);
}

/* ---- what goes ---- */

static void let_go(struct steps *s)
{
	int stays = new_memfd("stays", SIZE), goes = new_memfd("goes", SIZE);

	MUST(pwrite(stays, "stays", 5, 0) == 5 && pwrite(goes, "goes", 4, 0) == 4);
	done(s, 1);
	MUST(close(goes) == 0);
	done(s, 2);
	MUST(new_memfd("late", SIZE) >= 0);
	done(s, 3);
}

static void what_goes_is_forgotten(void **state)
{
	struct box *b = *state;

	start(b, let_go);
	live_round(b);
	next(b);
	live_round(b);
	assert_int_equal(b->gone, 1);
	next(b);
	last_round(b);			/* what is new at the freeze is CRIU's */
	assert_int_equal(b->hashed, 1);
}

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
		cmocka_unit_test_setup_teardown(every_kind_is_found_once, setup, teardown),
		cmocka_unit_test_setup_teardown(what_nobody_tells_of_is_found, setup, teardown),
		cmocka_unit_test_setup_teardown(sizes_change, setup, teardown),
		cmocka_unit_test_setup_teardown(what_goes_is_forgotten, setup, teardown),
		cmocka_unit_test_setup_teardown(files_go_by_their_names, setup, teardown),
		cmocka_unit_test_setup_teardown(a_store_refuses_nonsense, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

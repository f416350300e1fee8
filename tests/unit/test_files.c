/* The other side is a child that applies what comes to the tree b, while a is changed. */
#include "tests/unit/channel_fixture.h"

#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "engine/image/tree_walk.h"
#include "migrate/files/file_blocks.h"
#include "migrate/files/file_times.h"
#include "migrate/files/files.h"
#include "migrate/trees.h"
#include "tests/unit/tree_fixture.h"
#include "tests/workloads/restless.h"

static int place_fd;			/* of the child */

static bool apply(struct channel *ch)
{
	const struct tree_limits limits = { .entries = 100000 };
	struct error err;
	uint64_t bytes;

	for (;;) {
		struct message m = { 0 };

		if (channel_receive(ch, 0, &m, &err) < 0)
			return false;
		if (m.type == WIRE_FROZEN)
			return true;
		message_free(&m);
		if (trees_receive_changes(ch, place_fd, &limits, &bytes, &err) < 0) {
			(void)fprintf(stderr, "%s\n", err.msg);
			return false;
		}
	}
}

struct sync {
	struct peer peer;
	struct files *files;
};

static struct sync begin(const struct scratch *s)
{
	struct sync sync = { 0 };
	struct error err;

	place_fd = s->b;
	sync.peer = with_peer(apply, WIRE_SOURCE, SEQUENCE_PREPARED);
	OK(files_open(s->a, sync.peer.ours, &sync.files, &err));
	return sync;
}

/* How many bytes of contents a round sends. */
static uint64_t send_round(struct sync *sync)
{
	struct policy_round round = { 0 };
	struct error err;

	OK(files_round(sync->files, &round, &err));
	return round.bytes;
}

static int note(void *ctx, const struct tree_entry *e, int fd, struct error *err)
{
	(void)fd;
	(void)err;
	(void)fprintf(ctx, "%s %s %o %llu %lld.%ld\n", e->path, e->hardlink ? e->hardlink : "", e->mode,
		      (unsigned long long)e->size, (long long)e->mtime.tv_sec, e->mtime.tv_nsec);
	return 0;
}

static char *list(int dirfd)
{
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);
	struct error err;

	OK(tree_walk(dirfd, false, note, f, NULL, &err));
	(void)fclose(f);
	return text;
}

static void same_trees(const struct scratch *s)
{
	CLEANUP(freep) char *a = list(s->a);
	CLEANUP(freep) char *b = list(s->b);
	char one[TREE_DIGEST_SIZE], other[TREE_DIGEST_SIZE];
	struct error err;

	if (strcmp(a, b) != 0)
		fail_msg("here:\n%s\nthere:\n%s", a, b);
	OK(tree_digest(s->a, one, &err));
	OK(tree_digest(s->b, other, &err));
	assert_string_equal(one, other);
}

/* The last round; then both are equal. Returns what it sent of contents. */
static uint64_t finish(const struct scratch *s, struct sync *sync)
{
	const struct message frozen = { .type = WIRE_FROZEN };
	struct policy_round round = { 0 };
	struct error err;

	OK(files_last(sync->files, &round, &err));
	OK(channel_send(sync->peer.ours, &frozen, &err));
	files_free(sync->files);
	end(&sync->peer);
	same_trees(s);
	return round.bytes;
}

/* Until a change of now would get another time. */
static void let_times_settle(int dirfd, const char *path)
{
	struct stat st = status(dirfd, path);

	while (!file_times_settled(st.st_ctim, file_times_now()))
		(void)usleep(1000);
}

static void fill(int dirfd, const char *path, size_t len, int seed)
{
	CLEANUP(fd_closep) int fd = openat(dirfd, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	restless_write(fd, 0, len, seed);
}

/* ---- the tests ---- */

static void what_has_not_changed_is_not_sent_again(void **state)
{
	const struct scratch *s = *state;
	struct sync sync;

	fill(s->a, "large", 1 << 20, 1);
	assert_int_equal(symlinkat("large", s->a, "link"), 0);
	let_times_settle(s->a, "link");
	sync = begin(s);
	assert_int_equal(send_round(&sync), 1 << 20);
	assert_int_equal(send_round(&sync), 0);
	put(s->a, "small", "four", 0600);
	assert_int_equal(send_round(&sync), 4);
	assert_int_equal(finish(s, &sync), 0);
}

static void only_blocks_that_differ_are_sent_of_a_large_file(void **state)
{
	const struct scratch *s = *state;
	CLEANUP(fd_closep) int fd = -EBADF;
	struct sync sync;

	fill(s->a, "log", 4 << 20, 2);
	sync = begin(s);
	(void)send_round(&sync);
	fd = openat(s->a, "log", O_RDWR | O_CLOEXEC);
	restless_write(fd, 1 << 20, 10, 3);			/* in one block */
	restless_write(fd, 4 << 20, 70000, 4);			/* appended: two */
	assert_in_range(send_round(&sync), 10 + 70000, 3 << 16);
	assert_int_equal(ftruncate(fd, (3 << 20) + 5), 0);
	assert_in_range(send_round(&sync), 5, 1 << 16);
	assert_int_equal(ftruncate(fd, 6 << 20), 0);		/* a hole */
	assert_in_range(send_round(&sync), 0, 1 << 16);
	assert_int_equal(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 1 << 17), 0);
	assert_in_range(finish(s, &sync), 0, 1 << 17);
}

/* The page is writable when the round goes by, so that nothing tells of later writes to it. */
static void a_file_that_somebody_can_write_is_read_again(void **state)
{
	const struct scratch *s = *state;
	CLEANUP(fd_closep) int fd = -EBADF;
	struct timespec before;
	struct sync sync;
	char *map;

	fill(s->a, "mapped", 1 << 20, 5);
	fd = openat(s->a, "mapped", O_RDWR | O_CLOEXEC);
	map = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_true(map != MAP_FAILED);
	fd_close(&fd);
	map[70000] = 1;
	let_times_settle(s->a, "mapped");
	before = status(s->a, "mapped").st_ctim;
	sync = begin(s);
	(void)send_round(&sync);
	map[70001] = 2;
	assert_int_equal(munmap(map, 1 << 20), 0);
	/* unless it was written to the disk meanwhile, which would make it tell */
	if (status(s->a, "mapped").st_ctim.tv_nsec != before.tv_nsec)
		print_message("its time has changed\n");
	assert_int_equal(finish(s, &sync), 1 << 16);
}

static void links_stay_links(void **state)
{
	const struct scratch *s = *state;
	struct sync sync;

	fill(s->a, "b", 100000, 6);
	assert_int_equal(linkat(s->a, "b", s->a, "d", 0), 0);
	put(s->a, "single", "one", 0644);
	let_times_settle(s->a, "single");
	sync = begin(s);
	(void)send_round(&sync);
	assert_int_equal(send_round(&sync), 0);
	assert_int_equal(linkat(s->a, "d", s->a, "a", 0), 0);	/* comes first */
	assert_int_equal(linkat(s->a, "single", s->a, "z", 0), 0);
	(void)send_round(&sync);
	assert_int_equal(unlinkat(s->a, "b", 0), 0);
	put(s->a, "b", "another file", 0644);
	(void)send_round(&sync);
	assert_int_equal(unlinkat(s->a, "a", 0), 0);
	(void)finish(s, &sync);
}

static void what_is_at_a_path_can_become_something_else(void **state)
{
	const struct scratch *s = *state;
	struct sync sync;

	assert_int_equal(mkdirat(s->a, "x", 0755), 0);
	assert_int_equal(mkdirat(s->a, "x/y", 0755), 0);
	put(s->a, "x/y/file", "inside", 0644);
	put(s->a, "x-file", "beside", 0644);
	assert_int_equal(symlinkat("x", s->a, "s"), 0);
	restless_attribute(s->a, "x", "trusted.overlay.opaque", "y");
	restless_attribute(s->a, "x-file", "user.colour", "blue");
	sync = begin(s);
	(void)send_round(&sync);
	restless_attribute(s->a, "x", "trusted.overlay.opaque", NULL);
	restless_attribute(s->a, "x-file", "user.colour", NULL);
	assert_int_equal(renameat(s->a, "x", s->a, "moved"), 0);
	put(s->a, "x", "a file now", 0600);
	assert_int_equal(unlinkat(s->a, "s", 0), 0);
	assert_int_equal(mkdirat(s->a, "s", 0700), 0);
	put(s->a, "s/in", "a folder now", 0644);
	(void)send_round(&sync);
	assert_int_equal(unlinkat(s->a, "x", 0), 0);
	assert_int_equal(mknodat(s->a, "x", S_IFCHR, makedev(0, 0)), 0);
	(void)finish(s, &sync);
}

/* Rounds go by while a child changes a in every way; then it is stopped, as by a freeze. */
static void moved(const struct scratch *s, unsigned seed)
{
	struct sync sync = begin(s);
	pid_t pid = restless_start(s->a, seed, false);
	int status;

	for (int i = 0; i < 6; i++)
		(void)send_round(&sync);
	assert_int_equal(kill(pid, SIGSTOP), 0);
	assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
	if (!WIFSTOPPED(status))
		fail_msg("seed %u: the changes ended with %d", seed, status);
	(void)finish(s, &sync);
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
}

static void a_tree_that_never_rests_arrives_as_it_was_at_the_end(void **state)
{
	const char *only = getenv("RESTLESS_SEED");
	unsigned first = only ? (unsigned)atoi(only) : 1;

	for (unsigned seed = first; seed < first + (only ? 1 : 6); seed++) {
		assert_int_equal(setup(state), 0);
		moved(*state, seed);
		assert_int_equal(teardown(state), 0);
	}
}

static void the_order_is_that_of_a_walk(void **state)
{
	static const char *const sorted[] = { ".", "a", "a/b", "a/b/c", "a/bc", "a!", "a-b", "a.b", "ab", "b", "\xc3" };
	enum { N = sizeof(sorted) / sizeof(*sorted) };

	(void)state;
	for (int i = 0; i < N; i++)
		for (int k = 0; k < N; k++) {
			int r = file_index_compare(sorted[i], sorted[k]);

			assert_int_equal((r > 0) - (r < 0), (i > k) - (i < k));
		}
	assert_true(file_index_is_below("a/b", "a"));
	assert_false(file_index_is_below("ab", "a"));
}

static void a_time_is_settled_when_another_would_differ(void **state)
{
	const struct timespec now = { 1000, 500000000 };

	(void)state;
	assert_false(file_times_settled(now, now));
	assert_false(file_times_settled((struct timespec){ 1000, 490000000 }, now));
	assert_true(file_times_settled((struct timespec){ 1000, 470000000 }, now));
	assert_true(file_times_settled((struct timespec){ 998, 999999999 }, now));
	assert_false(file_times_settled((struct timespec){ 1000, 0 }, now));	/* whole seconds */
	assert_false(file_times_settled((struct timespec){ 999, 0 }, now));
	assert_true(file_times_settled((struct timespec){ 998, 0 }, now));
	assert_false(file_times_settled((struct timespec){ 2000, 1 }, now));	/* the clock went back */
}

static void who_can_write_a_file_is_seen(void **state)
{
	const struct scratch *s = *state;
	CLEANUP(file_times_freep) struct file_times *times = NULL;
	CLEANUP(fd_closep) int reader = -EBADF, writer = -EBADF;
	struct error err;
	void *map;

	put(s->a, "file", "text", 0644);
	OK(file_times_new(s->a, &times, &err));
	assert_true(file_times_hold(times));
	reader = openat(s->a, "file", O_RDONLY | O_CLOEXEC);
	assert_true(file_times_closed(times, reader));
	writer = openat(s->a, "file", O_RDWR | O_CLOEXEC);
	assert_false(file_times_closed(times, reader));
	map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, writer, 0);
	assert_true(map != MAP_FAILED);
	fd_close(&writer);
	assert_false(file_times_closed(times, reader));
	assert_int_equal(munmap(map, 4096), 0);
	assert_true(file_times_closed(times, reader));
	assert_true(file_times_closed(times, reader));		/* nothing stays behind */
	writer = openat(s->a, "file", O_WRONLY | O_NONBLOCK | O_CLOEXEC);
	assert_true(writer >= 0);
}

#define WITH_TREES(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_TREES(what_has_not_changed_is_not_sent_again),
		WITH_TREES(only_blocks_that_differ_are_sent_of_a_large_file),
		WITH_TREES(a_file_that_somebody_can_write_is_read_again),
		WITH_TREES(links_stay_links),
		WITH_TREES(what_is_at_a_path_can_become_something_else),
		WITH_TREES(who_can_write_a_file_is_seen),
		cmocka_unit_test(a_tree_that_never_rests_arrives_as_it_was_at_the_end),
		cmocka_unit_test(the_order_is_that_of_a_walk),
		cmocka_unit_test(a_time_is_settled_when_another_would_differ),
	};

	return cmocka_run_group_tests_name("files", tests, NULL, NULL);
}

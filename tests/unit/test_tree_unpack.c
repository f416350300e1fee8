#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/wait.h>

#include "tests/unit/tree_fixture.h"

#define BLOCK 512

/* Archives that tree_pack would never write. */
static void add(struct stream *s, const void *data, size_t len)
{
	struct error err;

	check(stream_write(s, data, len, &err), &err);
}

/* tar(5): a ustar header. type: 0 file, 1 hard link, 2 symlink, 5 directory */
static void header(struct stream *s, const char *name, char type, const char *link, size_t size)
{
	char block[BLOCK] = { 0 };
	unsigned sum = 0;

	strncpy(block, name, 100);
	memcpy(block + 100, "0000755\0" "0000000\0" "0000000\0", 24);
	(void)snprintf(block + 124, 12, "%011o", (unsigned)size);
	memcpy(block + 136, "00000000001", 12);
	memset(block + 148, ' ', 8);
	block[156] = type;
	strncpy(block + 157, link, 100);
	memcpy(block + 257, "ustar\0" "00", 8);
	for (size_t i = 0; i < BLOCK; i++)
		sum += (unsigned char)block[i];
	(void)snprintf(block + 148, 8, "%06o", sum);
	add(s, block, BLOCK);
}

static void file(struct stream *s, const char *name, const char *text)
{
	char block[BLOCK] = { 0 };

	header(s, name, '0', "", strlen(text));
	memcpy(block, text, strlen(text));
	add(s, block, BLOCK);
}

static void end(struct stream *s)
{
	const char zeros[2 * BLOCK] = { 0 };

	add(s, zeros, sizeof(zeros));
}

static int unpack(int fd, struct stream *s, const struct tree_limits *limits, bool any,
		  struct error *err)
{
	s->pos = 0;
	err->msg[0] = '\0';
	return tree_unpack(fd, stream_read, s, limits, any, NULL, err);
}

/* Nothing but the two trees may be in the scratch folder, and a is untouched. */
static void nothing_outside(const struct scratch *s)
{
	struct tree_stats stats;
	struct error err;

	check(tree_measure(s->a, &stats, &err), &err);
	assert_int_equal(stats.entries, 2);
	assert_int_equal(status(s->a, "victim").st_size, 4);
	assert_int_equal(status(s->a, "victim").st_nlink, 1);
	assert_int_equal(status(s->a, "victim").st_mode, S_IFREG | 0600);
	assert_int_equal(status(s->a, ".").st_mode, S_IFDIR | 0755);
	assert_int_equal(status(s->top, ".").st_nlink, 4);
	assert_int_equal(status(s->top, ".").st_mode, S_IFDIR | 0700);
}

/* Both as a peer's stream and as a user's image. */
static void refused(const struct scratch *s, struct stream *stream, const char *why)
{
	struct error err;

	end(stream);
	for (int any = 0; any < 2; any++) {
		int r = unpack(s->b, stream, NULL, any, &err);

		nothing_outside(s);
		if (r != -EPROTO || !strstr(err.msg, why))
			fail_msg("want '%s', got %d: %s", why, r, err.msg);
	}
}

#define STREAM(name) CLEANUP(stream_clear) struct stream name = { 0 }

static void names_that_leave_the_tree_are_refused(void **state)
{
	const struct scratch *s = *state;
	char absolute[100];
	const struct {
		const char *name, *why;
	} bad[] = {
		{ absolute, "absolute name" },
		{ "../a/victim", "'..'" },
		{ "..", "'..'" },
		{ "x/../../a/victim", "'..'" },
		{ "./..//a/victim", "'..'" },
		{ "x/..", "'..'" },
	};

	put(s->a, "victim", "safe", 0600);
	(void)snprintf(absolute, sizeof(absolute), "%s/a/victim", s->path);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		STREAM(as_file);
		STREAM(as_folder);
		STREAM(as_target);

		file(&as_file, bad[i].name, "evil");
		refused(s, &as_file, bad[i].why);
		header(&as_folder, bad[i].name, '5', "", 0);
		refused(s, &as_folder, bad[i].why);
		header(&as_target, "link", '1', bad[i].name, 0);
		refused(s, &as_target, bad[i].why);
	}
}

static void symlinks_are_not_followed(void **state)
{
	const struct scratch *s = *state;
	STREAM(through);
	STREAM(deep);
	STREAM(linked);
	STREAM(over);
	STREAM(chain);
	struct error err;

	put(s->a, "victim", "safe", 0600);
	header(&through, "s", '2', "../a", 0);
	file(&through, "s/victim", "evil");
	refused(s, &through, "symlink");
	header(&deep, "d", '5', "", 0);
	header(&deep, "d/s", '2', "../../a", 0);
	file(&deep, "d/s/new/er", "evil");
	refused(s, &deep, "symlink");
	header(&linked, "s", '2', "../a", 0);
	header(&linked, "l", '1', "s/victim", 0);
	refused(s, &linked, "symlink");
	/* a directory that is made, then replaced, must not get its mode through the link */
	header(&chain, "dir", '5', "", 0);
	header(&chain, "dir", '2', "../a", 0);
	end(&chain);
	check(unpack(s->b, &chain, NULL, false, &err), &err);
	nothing_outside(s);
	assert_true(S_ISLNK(status(s->b, "dir").st_mode));
	/* a file in a symlink's place replaces it, and so does a directory */
	header(&over, "o", '2', "../a/victim", 0);
	file(&over, "o", "mine");
	header(&over, "p", '2', "../a", 0);
	header(&over, "p", '5', "", 0);
	file(&over, "p/victim", "inside");
	end(&over);
	check(unpack(s->b, &over, NULL, false, &err), &err);
	nothing_outside(s);
	assert_int_equal(status(s->b, "o").st_mode, S_IFREG | 0755);
	assert_int_equal(status(s->b, "p/victim").st_size, 6);
}

static void hard_link_to_a_symlink_brings_no_content_outside(void **state)
{
	const struct scratch *s = *state;
	char block[BLOCK] = "evil";
	STREAM(stream);
	struct error err;

	put(s->a, "victim", "safe", 0600);
	header(&stream, "s", '2', "../a/victim", 0);
	header(&stream, "l", '1', "s", 4);
	add(&stream, block, BLOCK);
	end(&stream);
	(void)unpack(s->b, &stream, NULL, false, &err);
	nothing_outside(s);
	(void)unpack(s->b, &stream, NULL, true, &err);
	nothing_outside(s);
}

static void parents_that_are_no_folders_are_refused(void **state)
{
	const struct scratch *s = *state;
	STREAM(stream);
	STREAM(full);

	put(s->a, "victim", "safe", 0600);
	file(&stream, "f", "x");
	file(&stream, "f/g", "y");
	refused(s, &stream, "no folder");
	file(&full, "d/f", "x");
	file(&full, "d", "y");
	refused(s, &full, "isn't empty");
}

static void top_stays_a_folder(void **state)
{
	const struct scratch *s = *state;
	STREAM(stream);
	STREAM(link);

	put(s->a, "victim", "safe", 0600);
	file(&stream, ".", "x");
	refused(s, &stream, "must be a folder");
	header(&link, "./", '2', "../a", 0);
	refused(s, &link, "must be a folder");
}

static void missing_parents_are_made(void **state)
{
	const struct scratch *s = *state;
	struct error err;
	STREAM(stream);

	file(&stream, "./usr//bin/./tool", "x");
	end(&stream);
	check(unpack(s->b, &stream, NULL, false, &err), &err);
	assert_int_equal(status(s->b, "usr/bin/tool").st_size, 1);
	assert_int_equal(status(s->b, "usr/bin").st_mode, S_IFDIR | 0755);
}

static void limits_hold(void **state)
{
	const struct scratch *s = *state;
	const struct tree_limits three = { .entries = 3 }, bytes = { .bytes = 10 };
	struct error err;
	STREAM(stream);
	STREAM(parents);

	file(&stream, "1", "1234");
	file(&stream, "2", "5678");
	file(&stream, "3", "9abc");
	end(&stream);
	check(unpack(s->b, &stream, &three, false, &err), &err);
	assert_int_equal(unpack(s->b, &stream, &bytes, false, &err), -EFBIG);
	assert_string_equal(err.msg, "3: more than the 10 bytes that are allowed");
	file(&parents, "a/b/c", "x");
	file(&parents, "d", "x");
	end(&parents);
	assert_int_equal(unpack(s->b, &parents, &three, false, &err), -EFBIG);
	assert_string_equal(err.msg, "d: more than the 3 files that are allowed");
}

static void cut_streams_are_noticed_wherever_they_end(void **state)
{
	const struct scratch *s = *state;
	CLEANUP(freep) char *text = calloc(1, 3001);
	struct error err;
	STREAM(stream);
	size_t whole;

	memset(text, 't', 3000);
	put(s->a, "file", text, 0644);
	put(s->a, "a name that is too long for one hundred bytes, so that the archive needs a header "
	    "more before the one that tar has always had", "", 0644);
	assert_int_equal(symlinkat("x", s->a, "link"), 0);
	check(tree_pack(s->a, stream_write, &stream, NULL, &err), &err);
	whole = stream.len;
	for (stream.len = 0; stream.len < whole; stream.len += stream.len % 512 == 0 ? 1 : 511) {
		int r = unpack(s->b, &stream, NULL, false, &err);

		if (r != -EPROTO || !*err.msg)
			fail_msg("cut at %zu of %zu: %d %s", stream.len, whole, r, err.msg);
	}
	stream.len = whole;
	check(unpack(s->b, &stream, NULL, false, &err), &err);
}

static void garbage_is_refused(void **state)
{
	const struct scratch *s = *state;
	struct error err;
	STREAM(stream);

	put(s->a, "victim", "safe", 0600);
	for (unsigned i = 0, x = 1; i < 100000; i++) {
		char byte = (char)((x = x * 1103515245 + 12345) >> 16);

		add(&stream, &byte, 1);
	}
	assert_int_equal(unpack(s->b, &stream, NULL, false, &err), -EPROTO);
	assert_non_null(strstr(err.msg, "bad archive"));
	assert_int_equal(unpack(s->b, &stream, NULL, true, &err), -EPROTO);
	nothing_outside(s);
}

static ssize_t silent_peer(void *ctx, const void **ret_data, struct error *err)
{
	struct stream *s = ctx;

	if (s->pos < 1024)
		return stream_read(ctx, ret_data, err);
	return error_set(err, ETIMEDOUT, "peer is silent");
}

static void error_of_the_stream_comes_through(void **state)
{
	const struct scratch *s = *state;
	CLEANUP(stream_clear) struct stream stream = { .chunk = 512 };
	struct error err;

	file(&stream, "1", "1234");
	file(&stream, "2", "1234");
	end(&stream);
	assert_int_equal(tree_unpack(s->b, silent_peer, &stream, NULL, false, NULL, &err),
			 -ETIMEDOUT);
	assert_string_equal(err.msg, "peer is silent");
}

/* In a child with a mount namespace of its own: 0 if the error is the right one. */
static int fill_disk(const struct scratch *s, struct stream *stream)
{
	CLEANUP(fd_closep) int fd = -EBADF;
	struct error err = { 0 };

	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    chdir(s->path) < 0 || mount("small", "b", "tmpfs", 0, "size=64k") < 0)
		return 77;
	fd = open("b", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || unpack(fd, stream, NULL, false, &err) != -ENOSPC)
		return 1;
	return strcmp(err.msg, "big: write: No space left on device") ? 2 : 0;
}

static void full_disk_is_told(void **state)
{
	const struct scratch *s = *state;
	CLEANUP(freep) char *text = calloc(1, 300001);
	struct error err;
	STREAM(stream);
	int status_of_child;
	pid_t pid;

	memset(text, 'x', 300000);
	put(s->a, "big", text, 0644);
	check(tree_pack(s->a, stream_write, &stream, NULL, &err), &err);
	pid = fork();
	if (pid == 0)
		_exit(fill_disk(s, &stream));
	assert_int_equal(waitpid(pid, &status_of_child, 0), pid);
	assert_true(WIFEXITED(status_of_child));
	assert_int_equal(WEXITSTATUS(status_of_child), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(names_that_leave_the_tree_are_refused),
		TEST(symlinks_are_not_followed),
		TEST(hard_link_to_a_symlink_brings_no_content_outside),
		TEST(parents_that_are_no_folders_are_refused),
		TEST(top_stays_a_folder),
		TEST(missing_parents_are_made),
		TEST(limits_hold),
		TEST(cut_streams_are_noticed_wherever_they_end),
		TEST(garbage_is_refused),
		TEST(error_of_the_stream_comes_through),
		TEST(full_disk_is_told),
	};

	if (geteuid() != 0) {
		(void)fprintf(stderr, "needs root: owners and a mount\n");
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}

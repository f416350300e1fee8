#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <signal.h>
#include <sys/wait.h>

#include "engine/image/image.h"
#include "tests/unit/tree_fixture.h"

/* The scratch folder is the state directory, a and b are trees beside images. */

static size_t count(int dirfd, const char *path)
{
	int fd = openat(dirfd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CLEANUP(dir_closep) DIR *dir = fdopendir(fd);
	size_t n = 0;

	assert_non_null(dir);
	while (readdir(dir))
		n++;
	return n - 2;
}

static const char *path_of(const struct scratch *s, const char *name, char path[256])
{
	(void)snprintf(path, 256, "%s/%s", s->path, name);
	return path;
}

static void import(const struct scratch *s, const char *name, const char *from)
{
	CLEANUP(image_freep) struct image *image = NULL;
	char path[256];
	struct error err;

	check(image_import(s->top, name, path_of(s, from, path), &image, &err), &err);
	assert_string_equal(image->name, name);
}

static void folder_becomes_an_image(void **state)
{
	const struct scratch *s = *state;
	CLEANUP(image_freep) struct image *made = NULL;
	CLEANUP(image_freep) struct image *opened = NULL;
	CLEANUP(fd_closep) int rootfs = -EBADF;
	char digest[TREE_DIGEST_SIZE], path[256];
	struct error err;

	put(s->a, "sh", "#!", 04755);
	check(image_import(s->top, "base-1.0_x", path_of(s, "a", path), &made, &err), &err);
	check(image_open(s->top, "base-1.0_x", &opened, &err), &err);
	assert_string_equal(opened->name, "base-1.0_x");
	assert_string_equal(opened->digest, made->digest);
	assert_int_equal(opened->entries, 2);
	assert_int_equal(opened->bytes, 2);
	assert_true(opened->created_us > 1600000000000000 &&
		    opened->created_us == made->created_us);
	check(image_rootfs_fd(s->top, "base-1.0_x", &rootfs, &err), &err);
	assert_int_equal(status(rootfs, "sh").st_mode, S_IFREG | 04755);
	assert_int_equal(fcntl(rootfs, F_GETFD), FD_CLOEXEC);
	check(tree_digest(rootfs, digest, &err), &err);
	assert_string_equal(digest, opened->digest);
	assert_int_equal(status(s->top, "images").st_mode, S_IFDIR | 0700);
	assert_int_equal(count(s->top, "images"), 1);
}

static void pack_to_file(const struct scratch *s, const char *name)
{
	CLEANUP(stream_clear) struct stream stream = { 0 };
	CLEANUP(fd_closep) int fd = openat(s->top, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	struct error err;

	check(tree_pack(s->a, stream_write, &stream, NULL, &err), &err);
	check(fd_write_full(fd, stream.data, stream.len, &err), &err);
}

static void archive_and_folder_make_the_same_image(void **state)
{
	const struct scratch *s = *state;
	CLEANUP(image_freep) struct image *folder = NULL;
	CLEANUP(image_freep) struct image *archive = NULL;
	char path[256];
	struct error err;

	put(s->a, "file", "x", 0640);
	assert_int_equal(symlinkat("file", s->a, "link"), 0);
	pack_to_file(s, "tar");
	check(image_import(s->top, "folder", path_of(s, "a", path), &folder, &err), &err);
	check(image_import(s->top, "archive", path_of(s, "tar", path), &archive, &err), &err);
	assert_string_equal(folder->digest, archive->digest);
	assert_int_equal(folder->entries, archive->entries);
}

static void name_that_is_taken(void **state)
{
	const struct scratch *s = *state;
	CLEANUP(image_freep) struct image *first = NULL;
	CLEANUP(image_freep) struct image *image = NULL;
	char path[256];
	struct error err;

	put(s->a, "file", "x", 0600);
	check(image_import(s->top, "web", path_of(s, "a", path), &first, &err), &err);
	import(s, "web", "a");
	check(image_open(s->top, "web", &image, &err), &err);
	assert_true(image->created_us == first->created_us);
	assert_int_equal(image_import(s->top, "web", path_of(s, "b", path), &first, &err), -EEXIST);
	assert_non_null(strstr(err.msg, "import image web from "));
	assert_non_null(strstr(err.msg, "other content"));
	assert_int_equal(count(s->top, "images"), 1);
}

static void names_are_checked(void **state)
{
	const struct scratch *s = *state;
	char longest[130];
	const char *const bad[] = { "", ".", "..", "a/b", "-a", "_a", ".tmp-1", "a b", "\xc3\xa9",
				    "a\n", longest };
	struct image *image;
	struct error err;
	int fd;

	memset(longest, 'a', 129);
	longest[129] = '\0';
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(image_check_name(bad[i], &err), -EINVAL);
		assert_int_equal(image_import(s->top, bad[i], s->path, &image, &err), -EINVAL);
		assert_int_equal(image_open(s->top, bad[i], &image, &err), -EINVAL);
		assert_int_equal(image_rootfs_fd(s->top, bad[i], &fd, &err), -EINVAL);
		assert_int_equal(image_remove(s->top, bad[i], &err), -EINVAL);
	}
	longest[128] = '\0';
	assert_int_equal(image_check_name(longest, &err), 0);
	assert_int_equal(image_check_name("0", &err), 0);
	assert_int_equal(image_check_name("Debian_12.5-slim", &err), 0);
}

static void listed_in_order_and_removed(void **state)
{
	const struct scratch *s = *state;
	const char *const names[] = { "zeta", "alpha", "Beta", "alpha-2" };
	const char *const sorted[] = { "Beta", "alpha", "alpha-2", "zeta" };
	struct image **images;
	struct error err;
	size_t n;

	check(image_list(s->top, &images, &n, &err), &err);
	assert_int_equal(n, 0);
	free(images);
	for (size_t i = 0; i < 4; i++)
		import(s, names[i], "a");
	check(image_list(s->top, &images, &n, &err), &err);
	assert_int_equal(n, 4);
	for (size_t i = 0; i < 4; i++) {
		assert_string_equal(images[i]->name, sorted[i]);
		image_free(images[i]);
	}
	free(images);
	check(image_remove(s->top, "alpha", &err), &err);
	assert_int_equal(image_remove(s->top, "alpha", &err), -ENOENT);
	assert_non_null(strstr(err.msg, "no image alpha"));
	assert_int_equal(count(s->top, "images"), 3);
}

static void failed_import_leaves_nothing(void **state)
{
	const struct scratch *s = *state;
	struct image *image;
	char path[256];
	struct error err;

	put(s->top, "garbage", "this is no archive", 0600);
	put(s->top, "empty", "", 0600);
	assert_int_equal(image_import(s->top, "g", path_of(s, "garbage", path), &image, &err),
			 -EPROTO);
	assert_non_null(strstr(err.msg, "import image g from "));
	assert_int_equal(image_import(s->top, "g", path_of(s, "empty", path), &image, &err), -EPROTO);
	assert_int_equal(image_import(s->top, "g", path_of(s, "absent", path), &image, &err),
			 -ENOENT);
	assert_non_null(strstr(err.msg, "absent: No such file"));
	assert_int_equal(image_import(s->top, "g", s->path, &image, &err), -EINVAL);
	assert_int_equal(count(s->top, "images"), 0);
}

static void what_a_crash_left_is_removed(void **state)
{
	const struct scratch *s = *state;

	import(s, "one", "a");
	assert_int_equal(mkdirat(s->top, "images/.tmp-1-0", 0700), 0);
	put(s->top, "images/.tmp-1-0/file", "x", 0600);
	import(s, "two", "a");
	assert_int_equal(count(s->top, "images"), 2);
}

/* --- images from a peer --- */

struct receiver {
	struct stream stream;
	const struct scratch *in_between;	/* imports another image while it receives */
};

static ssize_t receive_bytes(void *ctx, const void **ret_data, struct error *err)
{
	struct receiver *r = ctx;

	if (r->in_between) {
		import(r->in_between, "other", "b");
		r->in_between = NULL;
	}
	return stream_read(&r->stream, ret_data, err);
}

static void received_image_is_checked(void **state)
{
	const struct scratch *s = *state;
	struct receiver r = { .in_between = s };
	CLEANUP(image_freep) struct image *image = NULL;
	char digest[TREE_DIGEST_SIZE];
	struct error err;

	put(s->a, "file", "content", 0600);
	check(tree_digest(s->a, digest, &err), &err);
	check(tree_pack(s->a, stream_write, &r.stream, NULL, &err), &err);
	check(image_receive(s->top, "web", digest, receive_bytes, &r, NULL, &image, &err), &err);
	assert_string_equal(image->digest, digest);
	assert_int_equal(count(s->top, "images"), 2);

	r.stream.pos = 0;
	digest[3] = digest[3] == '0' ? '1' : '0';
	assert_int_equal(image_receive(s->top, "bad", digest, receive_bytes, &r, NULL, &image, &err),
			 -EBADMSG);
	assert_non_null(strstr(err.msg, "receive image bad: what arrived has the digest"));
	assert_int_equal(image_receive(s->top, "bad", "12", receive_bytes, &r, NULL, &image, &err),
			 -EINVAL);
	r.stream.pos = 0;
	assert_int_equal(image_receive(s->top, "bad", digest, receive_bytes, &r,
				       &(struct tree_limits){ .bytes = 3 }, &image, &err), -EFBIG);
	assert_int_equal(count(s->top, "images"), 2);
	stream_clear(&r.stream);
}

static ssize_t dies(void *ctx, const void **ret_data, struct error *err)
{
	(void)ctx;
	(void)ret_data;
	(void)err;
	(void)raise(SIGKILL);
	return 0;
}

static void killed_receiver_leaves_no_image(void **state)
{
	const struct scratch *s = *state;
	char digest[TREE_DIGEST_SIZE];
	struct image *image;
	struct error err;
	int how;
	pid_t pid;

	check(tree_digest(s->a, digest, &err), &err);
	pid = fork();
	if (pid == 0)
		_exit(image_receive(s->top, "web", digest, dies, NULL, NULL, &image, &err) != 0);
	assert_int_equal(waitpid(pid, &how, 0), pid);
	assert_true(WIFSIGNALED(how));
	assert_int_equal(count(s->top, "images"), 1);
	assert_int_equal(image_open(s->top, "web", &image, &err), -ENOENT);
	import(s, "next", "a");
	assert_int_equal(count(s->top, "images"), 1);
}

static void damaged_description_is_told(void **state)
{
	const struct scratch *s = *state;
	const char *const bad[] = {
		"", "{", "[]", "{}", "{\"digest\":\"x\",\"entries\":1,\"bytes\":1,\"created\":1}",
		("{\"digest\":\"0123456789012345678901234567890123456789012345678901234567890123\","
		 "\"entries\":-1,\"bytes\":1,\"created\":1}"),
	};
	struct image *image;
	struct error err;

	import(s, "web", "a");
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		CLEANUP(fd_closep) int fd = openat(s->top, "images/web", O_RDONLY | O_CLOEXEC);

		check(fd_replace_file_at(fd, "image.json", bad[i], strlen(bad[i]), 0600,
					 FD_REPLACE, &err), &err);
		assert_int_equal(image_open(s->top, "web", &image, &err), -EBADMSG);
		assert_non_null(strstr(err.msg, "image web is damaged"));
	}
	check(image_remove(s->top, "web", &err), &err);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(folder_becomes_an_image),
		TEST(archive_and_folder_make_the_same_image),
		TEST(name_that_is_taken),
		TEST(names_are_checked),
		TEST(listed_in_order_and_removed),
		TEST(failed_import_leaves_nothing),
		TEST(what_a_crash_left_is_removed),
		TEST(received_image_is_checked),
		TEST(killed_receiver_leaves_no_image),
		TEST(damaged_description_is_told),
	};

	if (geteuid() != 0) {
		(void)fprintf(stderr, "needs root: owners of files\n");
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}

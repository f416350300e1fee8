#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#include "engine/base/cleanup.h"
#include "engine/base/fd.h"
#include "engine/tree.h"

/* A folder of its own for each test: "a" and "b" are trees, what else is in
 * it lies outside of them. */
struct scratch {
	char path[64];
	int top, a, b;
};

static int setup(void **state)
{
	struct scratch *s = calloc(1, sizeof(*s));

	assert_non_null(s);
	strcpy(s->path, "/var/tmp/godwit-tree-XXXXXX");
	assert_non_null(mkdtemp(s->path));
	s->top = open(s->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(mkdirat(s->top, "a", 0755), 0);
	assert_int_equal(mkdirat(s->top, "b", 0755), 0);
	s->a = openat(s->top, "a", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	s->b = openat(s->top, "b", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(s->top >= 0 && s->a >= 0 && s->b >= 0);
	*state = s;
	return 0;
}

static int teardown(void **state)
{
	struct scratch *s = *state;
	struct error err;

	fd_close(&s->a);
	fd_close(&s->b);
	fd_close(&s->top);
	assert_int_equal(fd_remove_tree_at(AT_FDCWD, s->path, &err), 0);
	free(s);
	return 0;
}

/* --- streams in memory --- */

struct stream {
	char *data;
	size_t len, pos, chunk;
	size_t fail_at;		/* of a write; 0: never */
};

static void stream_clear(struct stream *s)
{
	free(s->data);
}

static int stream_write(void *ctx, const void *data, size_t len, struct error *err)
{
	struct stream *s = ctx;
	char *more = realloc(s->data, s->len + len);

	assert_non_null(more);
	s->data = more;
	if (s->fail_at && s->len + len > s->fail_at)
		return error_set(err, ECONNRESET, "peer went away");
	memcpy(s->data + s->len, data, len);
	s->len += len;
	return 0;
}

static ssize_t stream_read(void *ctx, const void **ret_data, struct error *err)
{
	struct stream *s = ctx;
	size_t n = s->len - s->pos;

	(void)err;
	if (s->chunk && n > s->chunk)
		n = s->chunk;
	*ret_data = s->data + s->pos;
	s->pos += n;
	return (ssize_t)n;
}

static ssize_t broken_read(void *ctx, const void **ret_data, struct error *err)
{
	if (stream_read(ctx, ret_data, err) > 0)
		return 512;
	return error_set(err, ETIMEDOUT, "peer is silent");
}

static void check(int r, const struct error *err)
{
	if (r)
		fail_msg("%d: %s", r, err->msg);
}

static void pack(int fd, struct stream *s, struct tree_stats *stats)
{
	struct error err;

	check(tree_pack(fd, stream_write, s, stats, &err), &err);
}

static int unpack(int fd, struct stream *s, const struct tree_limits *limits, bool any,
		  struct error *err)
{
	s->pos = 0;
	return tree_unpack(fd, stream_read, s, limits, any, NULL, err);
}

/* Packs a, unpacks into b. */
static void move(const struct scratch *s, struct tree_stats *stats)
{
	CLEANUP(stream_clear) struct stream stream = { .chunk = 10007 };
	struct tree_stats got;
	struct error err;

	pack(s->a, &stream, stats);
	check(tree_unpack(s->b, stream_read, &stream, NULL, false, &got, &err), &err);
	assert_int_equal(got.entries, stats->entries);
	assert_int_equal(got.bytes, stats->bytes);
	assert_int_equal(stream.pos, stream.len);
}

static void same_digest(const struct scratch *s)
{
	char a[TREE_DIGEST_SIZE], b[TREE_DIGEST_SIZE];
	struct error err;

	check(tree_digest(s->a, a, &err), &err);
	check(tree_digest(s->b, b, &err), &err);
	assert_string_equal(a, b);
}

/* --- making files --- */

static void put(int dir, const char *path, const char *text, mode_t mode)
{
	CLEANUP(fd_closep) int fd = openat(dir, path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	if (fd < 0)
		fail_msg("create %s: %s", path, strerror(errno));
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	assert_int_equal(fchmod(fd, mode), 0);
}

static struct stat status(int dir, const char *path)
{
	struct stat st = { 0 };

	if (fstatat(dir, path, &st, AT_SYMLINK_NOFOLLOW) < 0)
		fail_msg("stat %s: %s", path, strerror(errno));
	return st;
}

static void set_attribute(int dir, const char *path, const char *name, const char *value,
			  size_t len)
{
	char full[256];

	(void)snprintf(full, sizeof(full), "/proc/self/fd/%d/%s", dir, path);
	if (lsetxattr(full, name, value, len, 0) < 0)
		fail_msg("%s of %s: %s", name, path, strerror(errno));
}

static void has_attribute(int dir, const char *path, const char *name, const char *value,
			  size_t len)
{
	char full[256], buf[256];

	(void)snprintf(full, sizeof(full), "/proc/self/fd/%d/%s", dir, path);
	if (lgetxattr(full, name, buf, sizeof(buf)) != (ssize_t)len)
		fail_msg("%s of %s: %s", name, path, strerror(errno));
	assert_memory_equal(buf, value, len);
}

/* --- the tests --- */

static void owners_modes_and_times_survive(void **state)
{
	const struct scratch *s = *state;
	const struct timespec when[2] = { { 1, 2 }, { 1234567890, 123456789 } };
	const struct timespec old[2] = { { 1, 2 }, { -86400, 5 } };
	struct tree_stats stats;
	struct stat st;

	put(s->a, "su", "x", 0600);
	assert_int_equal(fchownat(s->a, "su", 2500001, 4000000000u, 0), 0);
	assert_int_equal(fchmodat(s->a, "su", 06751, 0), 0);
	assert_int_equal(utimensat(s->a, "su", when, 0), 0);
	assert_int_equal(mkdirat(s->a, "ro", 0755), 0);
	put(s->a, "ro/file", "inside", 0444);
	assert_int_equal(mkdirat(s->a, "ro/sub", 0755), 0);
	assert_int_equal(symlinkat("../nowhere", s->a, "ro/link"), 0);
	assert_int_equal(fchownat(s->a, "ro/link", 12, 13, AT_SYMLINK_NOFOLLOW), 0);
	assert_int_equal(utimensat(s->a, "ro/link", when, AT_SYMLINK_NOFOLLOW), 0);
	assert_int_equal(utimensat(s->a, "ro/sub", old, 0), 0);
	assert_int_equal(fchmodat(s->a, "ro", 01555, 0), 0);
	assert_int_equal(utimensat(s->a, "ro", when, 0), 0);
	assert_int_equal(fchmod(s->a, 0711), 0);
	assert_int_equal(fchown(s->a, 7, 8), 0);
	assert_int_equal(futimens(s->a, when), 0);
	move(s, &stats);
	assert_int_equal(stats.entries, 6);
	assert_int_equal(stats.bytes, 7);
	st = status(s->b, "su");
	assert_int_equal(st.st_uid, 2500001);
	assert_int_equal(st.st_gid, 4000000000u);
	assert_int_equal(st.st_mode, S_IFREG | 06751);
	assert_int_equal(st.st_mtim.tv_sec, 1234567890);
	assert_int_equal(st.st_mtim.tv_nsec, 123456789);
	st = status(s->b, "ro");
	assert_int_equal(st.st_mode, S_IFDIR | 01555);
	assert_int_equal(st.st_mtim.tv_nsec, 123456789);
	assert_int_equal(status(s->b, "ro/sub").st_mtim.tv_sec, -86400);
	assert_int_equal(status(s->b, "ro/sub").st_mtim.tv_nsec, 5);
	st = status(s->b, "ro/link");
	assert_int_equal(st.st_uid, 12);
	assert_int_equal(st.st_mtim.tv_nsec, 123456789);
	st = status(s->b, ".");
	assert_int_equal(st.st_mode, S_IFDIR | 0711);
	assert_int_equal(st.st_gid, 8);
	assert_int_equal(st.st_mtim.tv_nsec, 123456789);
	same_digest(s);
}

/* acl(5) as the kernel keeps it: version 2, then tag, permissions, id */
static const char acl[] = "\2\0\0\0" "\1\0\7\0\377\377\377\377" "\2\0\5\0\2\1\0\0"
	"\4\0\4\0\377\377\377\377" "\20\0\5\0\377\377\377\377" "\40\0\0\0\377\377\377\377";
/* vfs_cap_data: revision 2, effective, cap_net_raw */
static const char capability[] = "\1\0\0\2" "\0\40\0\0" "\0\0\0\0" "\0\0\0\0" "\0\0\0\0";

static void attributes_survive(void **state)
{
	const struct scratch *s = *state;
	struct tree_stats stats;

	put(s->a, "file", "x", 0754);
	assert_int_equal(mkdirat(s->a, "dir", 0750), 0);
	assert_int_equal(symlinkat("x", s->a, "link"), 0);
	assert_int_equal(mknodat(s->a, "null", S_IFCHR | 0666, makedev(1, 3)), 0);
	set_attribute(s->a, "file", "user.colour", "gr\0en\n=", 7);
	set_attribute(s->a, "file", "user.empty", "", 0);
	set_attribute(s->a, "file", "user.a=b c\xff", "odd", 3);
	set_attribute(s->a, "file", "security.capability", capability, 20);
	set_attribute(s->a, "file", "system.posix_acl_access", acl, sizeof(acl) - 1);
	set_attribute(s->a, "dir", "system.posix_acl_default", acl, sizeof(acl) - 1);
	put(s->a, "dir/inside", "y", 0600);
	set_attribute(s->a, "dir", "trusted.overlay.opaque", "y", 1);
	set_attribute(s->a, "dir", "trusted.overlay.redirect", "/old/\xfe", 6);
	set_attribute(s->a, "link", "trusted.overlay.origin", "\0\1\2", 3);
	set_attribute(s->a, "null", "trusted.t", "n", 1);
	set_attribute(s->a, ".", "trusted.overlay.impure", "y", 1);
	move(s, &stats);
	has_attribute(s->b, "file", "user.colour", "gr\0en\n=", 7);
	has_attribute(s->b, "file", "user.empty", "", 0);
	has_attribute(s->b, "file", "user.a=b c\xff", "odd", 3);
	has_attribute(s->b, "file", "security.capability", capability, 20);
	has_attribute(s->b, "file", "system.posix_acl_access", acl, sizeof(acl) - 1);
	has_attribute(s->b, "dir", "system.posix_acl_default", acl, sizeof(acl) - 1);
	has_attribute(s->b, "dir", "trusted.overlay.opaque", "y", 1);
	has_attribute(s->b, "dir", "trusted.overlay.redirect", "/old/\xfe", 6);
	has_attribute(s->b, "link", "trusted.overlay.origin", "\0\1\2", 3);
	has_attribute(s->b, "null", "trusted.t", "n", 1);
	has_attribute(s->b, ".", "trusted.overlay.impure", "y", 1);
	assert_int_equal(status(s->b, "dir/inside").st_mode, status(s->a, "dir/inside").st_mode);
	same_digest(s);
}

static void special_files_survive(void **state)
{
	const struct scratch *s = *state;
	struct tree_stats stats;
	struct stat st;

	assert_int_equal(mknodat(s->a, "whiteout", S_IFCHR | 0600, makedev(0, 0)), 0);
	assert_int_equal(mknodat(s->a, "disk", S_IFBLK | 0640, makedev(259, 70000)), 0);
	assert_int_equal(mknodat(s->a, "pipe", S_IFIFO | 0622, 0), 0);
	assert_int_equal(fchmodat(s->a, "pipe", 0622, 0), 0);
	assert_int_equal(mknodat(s->a, "socket", S_IFSOCK | 0600, 0), 0);
	assert_int_equal(symlinkat("/etc/passwd", s->a, "link"), 0);
	assert_int_equal(linkat(s->a, "pipe", s->a, "pipe2", 0), 0);
	assert_int_equal(linkat(s->a, "link", s->a, "link2", 0), 0);
	move(s, &stats);
	assert_int_equal(stats.sockets_skipped, 1);
	assert_int_equal(stats.entries, 7);
	st = status(s->b, "whiteout");
	assert_true(S_ISCHR(st.st_mode) && st.st_rdev == 0);
	st = status(s->b, "disk");
	assert_true(S_ISBLK(st.st_mode) && st.st_rdev == makedev(259, 70000));
	assert_int_equal(status(s->b, "pipe").st_mode, S_IFIFO | 0622);
	assert_int_equal(status(s->b, "pipe").st_ino, status(s->b, "pipe2").st_ino);
	assert_int_equal(status(s->b, "link").st_ino, status(s->b, "link2").st_ino);
	assert_true(S_ISLNK(status(s->b, "link").st_mode));
	assert_int_equal(faccessat(s->b, "socket", F_OK, AT_SYMLINK_NOFOLLOW), -1);
	assert_int_equal(unlinkat(s->a, "socket", 0), 0);
	same_digest(s);
}

static void hard_links_survive(void **state)
{
	const struct scratch *s = *state;
	struct tree_stats stats;

	assert_int_equal(mkdirat(s->a, "d", 0755), 0);
	put(s->a, "d/one", "shared content", 0644);
	assert_int_equal(linkat(s->a, "d/one", s->a, "two", 0), 0);
	assert_int_equal(linkat(s->a, "d/one", s->a, "a-three", 0), 0);
	move(s, &stats);
	assert_int_equal(stats.bytes, 14);
	assert_int_equal(status(s->b, "two").st_nlink, 3);
	assert_int_equal(status(s->b, "two").st_ino, status(s->b, "d/one").st_ino);
	assert_int_equal(status(s->b, "two").st_size, 14);
	same_digest(s);
}

static void odd_names_survive(void **state)
{
	const struct scratch *s = *state;
	char longest[256], path[1024];
	struct tree_stats stats;

	memset(longest, 'n', 255);
	longest[255] = '\0';
	(void)snprintf(path, sizeof(path), "%s/%s", longest, longest);
	assert_int_equal(mkdirat(s->a, longest, 0755), 0);
	put(s->a, path, "deep", 0600);
	assert_int_equal(linkat(s->a, path, s->a, "to-long", 0), 0);
	assert_int_equal(symlinkat(path, s->a, "link-to-long"), 0);
	put(s->a, "latin-\xe9\xff\x80", "1", 0600);
	put(s->a, "utf8-\xc3\xa9\xe2\x82\xac", "2", 0600);
	put(s->a, "new\nline tab\t back\\slash ", "3", 0600);
	put(s->a, "._hidden", "4", 0600);
	put(s->a, "-rf", "5", 0600);
	put(s->a, "...", "6", 0600);
	assert_int_equal(symlinkat("\xff\xfe", s->a, "link-latin"), 0);
	assert_int_equal(linkat(s->a, "latin-\xe9\xff\x80", s->a, "zz-\xff", 0), 0);
	move(s, &stats);
	assert_int_equal(status(s->b, "latin-\xe9\xff\x80").st_size, 1);
	assert_int_equal(status(s->b, "._hidden").st_size, 1);
	assert_int_equal(status(s->b, path).st_size, 4);
	same_digest(s);
}

static void holes_stay_holes(void **state)
{
	const struct scratch *s = *state;
	const off_t sizes[] = { 9LL << 30, 1 << 20, (1 << 20) + 17, 200000 };
	struct tree_stats stats;

	for (size_t i = 0; i < 4; i++) {
		char name[] = "sparse-0";
		CLEANUP(fd_closep) int fd = -EBADF;

		name[7] = (char)('0' + i);
		fd = openat(s->a, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
		assert_true(fd >= 0);
		assert_int_equal(ftruncate(fd, sizes[i]), 0);
		if (i == 0) {	/* data at the start, in the middle and at the very end */
			assert_int_equal(pwrite(fd, "a", 1, 0), 1);
			assert_int_equal(pwrite(fd, "b", 1, (4LL << 30) + 4097), 1);
			assert_int_equal(pwrite(fd, "c", 1, sizes[i] - 1), 1);
		} else if (i == 2) {
			assert_int_equal(pwrite(fd, "d", 1, 300000), 1);
		} else if (i == 3) {	/* a hole too small to matter */
			assert_int_equal(pwrite(fd, "e", 1, 20000), 1);
		}
	}
	put(s->a, "empty", "", 0600);
	move(s, &stats);
	assert_true(stats.bytes < 1 << 20);
	for (size_t i = 0; i < 4; i++) {
		char name[] = "sparse-0";

		name[7] = (char)('0' + i);
		assert_int_equal(status(s->b, name).st_size, sizes[i]);
		assert_true(status(s->b, name).st_blocks < 1000);
	}
	assert_int_equal(status(s->b, "sparse-1").st_blocks, 0);
	same_digest(s);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(owners_modes_and_times_survive),
		TEST(attributes_survive),
		TEST(special_files_survive),
		TEST(hard_links_survive),
		TEST(odd_names_survive),
		TEST(holes_stay_holes),
	};

	(void)unpack;
	(void)broken_read;
	if (geteuid() != 0) {
		(void)fprintf(stderr, "needs root: owners, devices and trusted attributes\n");
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "tests/unit/tree_fixture.h"

static void pack(int fd, struct stream *s, struct tree_stats *stats)
{
	struct error err;

	check(tree_pack(fd, stream_write, s, stats, &err), &err);
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
	const off_t sizes[] = { 15LL << 40, 1 << 20, (1 << 20) + 17, 200000 };
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

static void copy_is_the_same_tree(void **state)
{
	const struct scratch *s = *state;
	struct tree_stats stats, measured;
	struct error err;
	char big[] = "sparse";
	CLEANUP(fd_closep) int fd = openat(s->a, big, O_WRONLY | O_CREAT | O_CLOEXEC, 0640);

	assert_int_equal(pwrite(fd, "tail", 4, 1 << 24), 4);
	put(s->a, "file", "content", 04755);
	set_attribute(s->a, "file", "security.capability", capability, 20);
	assert_int_equal(linkat(s->a, "file", s->a, "link", 0), 0);
	assert_int_equal(mkdirat(s->a, "dir", 0555), 0);
	put(s->a, "dir/\xff", "y", 0600);
	set_attribute(s->a, "dir", "trusted.overlay.opaque", "y", 1);
	assert_int_equal(mknodat(s->a, "w", S_IFCHR, 0), 0);
	check(tree_copy(s->a, s->b, &stats, &err), &err);
	assert_int_equal(stats.entries, 7);
	same_digest(s);
	assert_true(status(s->b, big).st_blocks < 100);
	check(tree_measure(s->b, &measured, &err), &err);
	assert_int_equal(measured.entries, 7);
	assert_in_range(measured.bytes, 4096, 100000);
}

static void copy_into_itself_is_refused(void **state)
{
	const struct scratch *s = *state;
	struct error err;

	assert_int_equal(tree_copy(s->top, s->b, NULL, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "contains the copy"));
	assert_int_equal(tree_copy(s->b, s->b, NULL, &err), -EINVAL);
}

static void digest(int fd, char ret[TREE_DIGEST_SIZE])
{
	struct error err;

	check(tree_digest(fd, ret, &err), &err);
	assert_int_equal(strlen(ret), 64);
}

static void digest_sees_every_change_but_time(void **state)
{
	const struct scratch *s = *state;
	const struct timespec when[2] = { { 1, 2 }, { 3, 4 } };
	char before[TREE_DIGEST_SIZE], after[TREE_DIGEST_SIZE];

	put(s->a, "file", "content", 0644);
	put(s->a, "other", "content", 0644);
	digest(s->a, before);
	assert_int_equal(utimensat(s->a, "file", when, 0), 0);
	digest(s->a, after);
	assert_string_equal(before, after);
#define CHANGES(step)					\
	assert_int_equal(step, 0);			\
	digest(s->a, after);				\
	assert_string_not_equal(before, after);		\
	strcpy(before, after)
	CHANGES(fchmodat(s->a, "file", 0600, 0));
	CHANGES(fchownat(s->a, "file", 5, 0, 0));
	CHANGES(fchownat(s->a, "file", 5, 6, 0));
	CHANGES((set_attribute(s->a, "file", "user.x", "1", 1), 0));
	CHANGES((set_attribute(s->a, "file", "user.x", "2", 1), 0));
	CHANGES(fd_write_file_at(s->a, "file", "C", &(struct error){ 0 }));
	CHANGES(renameat(s->a, "file", s->a, "renamed"));
	CHANGES(symlinkat("a", s->a, "link"));
	CHANGES(unlinkat(s->a, "link", 0));
	CHANGES(mknodat(s->a, "node", S_IFCHR | 0600, makedev(1, 3)));
	CHANGES(unlinkat(s->a, "other", 0));
	CHANGES(linkat(s->a, "renamed", s->a, "other", 0));
#undef CHANGES
}

static void stream_error_comes_through(void **state)
{
	const struct scratch *s = *state;
	CLEANUP(stream_clear) struct stream stream = { .fail_at = 300000 };
	CLEANUP(freep) char *text = calloc(1, 1000001);
	struct error err;

	memset(text, 'x', 1000000);
	put(s->a, "big", text, 0600);
	assert_int_equal(tree_pack(s->a, stream_write, &stream, NULL, &err), -ECONNRESET);
	assert_string_equal(err.msg, "big: peer went away");
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
		TEST(copy_is_the_same_tree),
		TEST(copy_into_itself_is_refused),
		TEST(digest_sees_every_change_but_time),
		TEST(stream_error_comes_through),
	};

	if (geteuid() != 0) {
		(void)fprintf(stderr, "needs root: owners, devices and trusted attributes\n");
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * Input: a byte of options, then an archive. Bit 0: as a user's image, not a
 * peer's stream; bit 1: put the right checksums into what looks like a header
 * of tar, so that the search gets behind them; the rest is the size of the
 * pieces in which it arrives. Whatever it is, nothing appears or changes
 * outside the folder that it is unpacked into, and what was made can be packed,
 * and unpacks to the same.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "engine/base/cleanup.h"
#include "engine/base/fd.h"
#include "engine/image/tree.h"
#include "tests/fuzz/fuzz.h"

#define BLOCK 512
#define VICTIM "victim"

static const struct tree_limits limits = { .entries = 64, .bytes = 1 << 20 };

struct bytes {
	uint8_t *data;
	size_t len, pos, piece;
};

static void bytes_clear(struct bytes *b)
{
	free(b->data);
}

static ssize_t take(void *ctx, const void **ret_data, struct error *err)
{
	struct bytes *b = ctx;
	size_t n = b->len - b->pos < b->piece ? b->len - b->pos : b->piece;

	(void)err;
	*ret_data = b->data + b->pos;
	b->pos += n;
	return (ssize_t)n;
}

static int keep(void *ctx, const void *data, size_t len, struct error *err)
{
	struct bytes *b = ctx;
	uint8_t *more = realloc(b->data, b->len + len);

	(void)err;
	if (!more)
		abort();
	memcpy(more + b->len, data, len);
	b->data = more;
	b->len += len;
	return 0;
}

/* tar(5): the sum of all bytes of a header, blanks in place of the sum */
static void seal(uint8_t *data, size_t len)
{
	for (; len >= BLOCK; data += BLOCK, len -= BLOCK) {
		unsigned sum = 0;
		char text[8];

		if (memcmp(data + 257, "ustar", 5) != 0)
			continue;
		memset(data + 148, ' ', 8);
		for (size_t i = 0; i < BLOCK; i++)
			sum += data[i];
		(void)snprintf(text, sizeof(text), "%06o", sum & 0777777);
		memcpy(data + 148, text, 7);
	}
}

static int make_folder(int top, const char *name)
{
	struct error err;
	int fd;

	if (fd_open_dir_at(top, name, true, 0755, &fd, &err) < 0)
		abort();
	return fd;
}

static void check_outside(int top)
{
	struct stat st, victim;

	if (fstat(top, &st) < 0 || fstatat(top, VICTIM, &victim, AT_SYMLINK_NOFOLLOW) < 0 ||
	    st.st_nlink != 4 || st.st_mode != (S_IFDIR | 0700) || victim.st_nlink != 1 ||
	    victim.st_mode != (S_IFREG | 0600) || victim.st_size != 0)
		abort();
}

static void repeat(int made, int again)
{
	CLEANUP(bytes_clear) struct bytes stream = { .piece = 4096 };
	char a[TREE_DIGEST_SIZE], b[TREE_DIGEST_SIZE];
	struct error err;

	if (tree_pack(made, keep, &stream, NULL, &err) < 0 ||
	    tree_unpack(again, take, &stream, NULL, false, NULL, &err) < 0 ||
	    tree_digest(made, a, &err) < 0 || tree_digest(again, b, &err) < 0) {
		(void)fprintf(stderr, "%s\n", err.msg);
		abort();
	}
	if (strcmp(a, b) != 0)
		abort();
}

static void run(int top, struct bytes *input, uint8_t options)
{
	CLEANUP(fd_closep) int made = make_folder(top, "made");
	CLEANUP(fd_closep) int again = make_folder(top, "again");
	struct error err = { 0 };
	int r;

	if (mknodat(top, VICTIM, S_IFREG | 0600, 0) < 0)
		abort();
	r = tree_unpack(made, take, input, &limits, options & 1, NULL, &err);
	check_outside(top);
	if (r < 0 ? (err.code != -r || !*err.msg) : r != 0)
		abort();
	if (r == 0)
		repeat(made, again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	CLEANUP(bytes_clear) struct bytes input = { 0 };
	char path[] = "/dev/shm/godwit-fuzz-XXXXXX";
	struct error err;
	int top;

	if (!size || keep(&input, data + 1, size - 1, &err) < 0 || !mkdtemp(path))
		return 0;
	input.piece = 1u + (size_t)(data[0] >> 2) * 16;
	if (data[0] & 2)
		seal(input.data, input.len);
	top = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (top < 0)
		abort();
	run(top, &input, data[0]);
	fd_close(&top);
	if (fd_remove_tree_at(AT_FDCWD, path, &err) < 0)
		abort();
	return 0;
}

#include <errno.h>
#include <nettle/sha2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/base/cleanup.h"
#include "engine/image/tree_walk.h"

/* Content is hashed by blocks of this size at multiples of it; blocks of zeros
 * are left out, so that it doesn't matter whether they are holes. */
#define BLOCK_SIZE 65536

struct digest {
	bool exact;
	struct sha256_ctx sha;
	uint8_t block[BLOCK_SIZE];
};

static void add_bytes(struct digest *d, const void *data, size_t len)
{
	sha256_update(&d->sha, len, data);
}

static void add_number(struct digest *d, uint64_t number)
{
	uint8_t little_endian[8];

	for (int i = 0; i < 8; i++)
		little_endian[i] = (uint8_t)(number >> (8 * i));
	add_bytes(d, little_endian, sizeof(little_endian));
}

/* With its length in front, so that no two different lists read the same. */
static void add_blob(struct digest *d, const void *data, size_t len)
{
	add_number(d, len);
	add_bytes(d, data, len);
}

static void add_string(struct digest *d, const char *text)
{
	add_blob(d, text ? text : "", text ? strlen(text) : 0);
}

static bool is_zero(const uint8_t *data, size_t len)
{
	return !len || (data[0] == 0 && !memcmp(data, data + 1, len - 1));
}

/* Reads up to len bytes; less only at the end of the file. */
static ssize_t read_at(int fd, uint8_t *buf, size_t len, uint64_t offset)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = pread(fd, buf + done, len - done, (off_t)(offset + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		if (n == 0)
			break;
		done += (size_t)n;
	}
	return (ssize_t)done;
}

static int add_content(struct digest *d, int fd, uint64_t size, struct error *err)
{
	uint64_t offset = 0, len;
	int r;

	while ((r = tree_next_data(fd, size, &offset, &len, err)) > 0) {
		uint64_t end = offset + len;

		for (offset -= offset % BLOCK_SIZE; offset < end; offset += BLOCK_SIZE) {
			ssize_t n = read_at(fd, d->block, BLOCK_SIZE, offset);

			if (n < 0)
				return error_set(err, errno, "read: %s", strerror(errno));
			if (is_zero(d->block, (size_t)n))
				continue;
			add_number(d, offset);
			add_blob(d, d->block, (size_t)n);
		}
	}
	add_number(d, UINT64_MAX);
	return r;
}

static int add_entry(void *ctx, const struct tree_entry *e, int fd, struct error *err)
{
	struct digest *d = ctx;

	add_string(d, e->path);
	add_string(d, e->hardlink);
	if (e->hardlink)
		return 0;
	add_number(d, e->mode);
	add_number(d, e->uid);
	add_number(d, e->gid);
	add_number(d, e->rdev);
	add_number(d, e->size);
	if (d->exact) {
		add_number(d, (uint64_t)e->mtime.tv_sec);
		add_number(d, (uint64_t)e->mtime.tv_nsec);
	}
	add_string(d, e->target);
	add_number(d, e->xattrs.n);
	for (size_t i = 0; i < e->xattrs.n; i++) {
		add_string(d, e->xattrs.list[i].name);
		add_blob(d, e->xattrs.list[i].value, e->xattrs.list[i].size);
	}
	return fd >= 0 ? add_content(d, fd, e->size, err) : 0;
}

static int digest(int dirfd, bool exact, char ret[TREE_DIGEST_SIZE], struct error *err)
{
	CLEANUP(freep) struct digest *d = malloc(sizeof(*d));
	uint8_t sum[SHA256_DIGEST_SIZE];

	if (!d)
		return error_set(err, ENOMEM, "out of memory");
	d->exact = exact;
	sha256_init(&d->sha);
	if (tree_walk(dirfd, true, add_entry, d, NULL, err) < 0)
		return error_wrap(err, "digest");
	sha256_digest(&d->sha, sizeof(sum), sum);
	for (size_t i = 0; i < sizeof(sum); i++)
		(void)snprintf(ret + 2 * i, 3, "%02x", sum[i]);
	return 0;
}

int tree_digest(int dirfd, char ret[TREE_DIGEST_SIZE], struct error *err)
{
	return digest(dirfd, false, ret, err);
}

int tree_digest_exact(int dirfd, char ret[TREE_DIGEST_SIZE], struct error *err)
{
	return digest(dirfd, true, ret, err);
}

#include <fcntl.h>
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/base/cleanup.h"
#include "engine/base/fd.h"
#include "engine/seccomp_cache.h"

#define NAME_SIZE 24
#define FILE_MAX (sizeof(struct file_head) + BPF_MAXINSNS * sizeof(struct sock_filter))

/* A cached file: this, then the instructions. */
struct file_head {
	char magic[8];
	uint8_t key[SHA256_DIGEST_SIZE];
	uint8_t checksum[SHA256_DIGEST_SIZE];	/* of the instructions */
};

static const char magic[8] = "gdwtbpf";

void seccomp_key_begin(struct seccomp_key *key)
{
	const struct scmp_version *v = seccomp_version();

	sha256_init(&key->sha);
	seccomp_key_add(key, v, sizeof(*v));
}

void seccomp_key_add(struct seccomp_key *key, const void *data, size_t len)
{
	sha256_update(&key->sha, len, data);
}

void seccomp_key_add_string(struct seccomp_key *key, const char *text)
{
	seccomp_key_add(key, text ? text : "", text ? strlen(text) + 1 : 1);
}

static void make_head(const struct seccomp_key *key, const struct sock_fprog *filter, struct file_head *ret)
{
	struct sha256_ctx sha = key->sha;

	memcpy(ret->magic, magic, sizeof(magic));
	sha256_digest(&sha, sizeof(ret->key), ret->key);
	sha256_init(&sha);
	sha256_update(&sha, filter->len * sizeof(*filter->filter), (const uint8_t *)filter->filter);
	sha256_digest(&sha, sizeof(ret->checksum), ret->checksum);
}

static void make_name(const struct seccomp_key *key, char ret[NAME_SIZE])
{
	struct sha256_ctx sha = key->sha;
	uint8_t first;

	sha256_digest(&sha, sizeof(first), &first);
	(void)snprintf(ret, NAME_SIZE, "seccomp-%02x.bpf", first);
}

/* True when nobody but us (or root) could have written the file. */
static bool is_ours(int dirfd, const char *name)
{
	struct stat st;

	return fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) &&
	       (st.st_uid == geteuid() || st.st_uid == 0) && !(st.st_mode & (S_IWGRP | S_IWOTH));
}

/* The instructions of len bytes as a filter that owns a copy of them. */
static bool copy_filter(const void *code, size_t len, struct sock_fprog *ret)
{
	if (len == 0 || len % sizeof(*ret->filter) || len / sizeof(*ret->filter) > BPF_MAXINSNS)
		return false;
	*ret = (struct sock_fprog){ .len = (unsigned short)(len / sizeof(*ret->filter)), .filter = malloc(len) };
	if (ret->filter)
		memcpy(ret->filter, code, len);
	return ret->filter;
}

bool seccomp_cache_load(int dirfd, const struct seccomp_key *key, struct sock_fprog *ret)
{
	CLEANUP(freep) char *data = NULL;
	struct sock_fprog filter = { 0 };
	struct file_head head;
	struct error ignored;
	char name[NAME_SIZE];
	size_t len;

	make_name(key, name);
	if (dirfd < 0 || !is_ours(dirfd, name) ||
	    fd_read_file_at(dirfd, name, FILE_MAX, &data, &len, &ignored) < 0 || len < sizeof(head) ||
	    !copy_filter(data + sizeof(head), len - sizeof(head), &filter))
		return false;
	make_head(key, &filter, &head);
	if (memcmp(data, &head, sizeof(head)) != 0) {
		free(filter.filter);
		return false;
	}
	*ret = filter;
	return true;
}

void seccomp_cache_store(int dirfd, const struct seccomp_key *key, const struct sock_fprog *filter)
{
	size_t len = filter->len * sizeof(*filter->filter);
	struct file_head head;
	struct error ignored;
	char data[FILE_MAX], name[NAME_SIZE];

	if (dirfd < 0)
		return;
	make_name(key, name);
	make_head(key, filter, &head);
	memcpy(data, &head, sizeof(head));
	memcpy(data + sizeof(head), filter->filter, len);
	(void)fd_replace_file_at(dirfd, name, data, sizeof(head) + len, 0600, FD_REPLACE, &ignored);
}

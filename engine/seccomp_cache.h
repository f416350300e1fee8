/*
 * seccomp_cache.h - compiled system call filters in a folder
 *
 * libseccomp takes 10 to 20 ms for a filter, more than all else of a start. A
 * filter is kept under a digest of all that it was made of; a folder holds 256
 * of them, and a new one takes the place of an older one. The folder must be
 * one that only the engine writes to.
 *
 *   seccomp_key_begin(&key);
 *   seccomp_key_add(&key, &capabilities, sizeof(capabilities));	all that decides
 *   if (!seccomp_cache_load(dirfd, &key, &filter)) {
 *           r = compile(&filter, err);
 *           seccomp_cache_store(dirfd, &key, &filter);
 *   }
 */
#pragma once

#include <linux/filter.h>
#include <nettle/sha2.h>
#include <stdbool.h>

struct seccomp_key {
	struct sha256_ctx sha;
};

/* The version of libseccomp is part of each key. */
void seccomp_key_begin(struct seccomp_key *key);
/* What is of variable length brings its end along: strings with their NUL. */
void seccomp_key_add(struct seccomp_key *key, const void *data, size_t len);
void seccomp_key_add_string(struct seccomp_key *key, const char *text);	/* NULL: as "" */

/* False: it isn't there, is damaged, or others than the engine could have written it.
 * dirfd is borrowed; negative: false. ret->filter is the caller's to free. */
bool seccomp_cache_load(int dirfd, const struct seccomp_key *key, struct sock_fprog *ret);

/* Best effort: without it the next start only takes longer. */
void seccomp_cache_store(int dirfd, const struct seccomp_key *key, const struct sock_fprog *filter);

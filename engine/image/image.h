/*
 * image.h - images: root file systems by name, below STATE/images
 *
 *   images/NAME/image.json   {"name","digest","entries","bytes","created"}
 *   images/NAME/rootfs/      the read-only layer of every container made of it
 *
 * An image appears by one rename of a finished directory, so a name that can
 * be seen is complete. Half-made ones live below images/.tmp-* and are removed
 * by the next import. Only root may enter images: programs with setuid bits lie
 * there.
 */
#pragma once

#include <stdint.h>

#include "engine/base/cleanup.h"
#include "engine/base/error.h"
#include "engine/image/tree.h"

struct image {
	char *name;
	char digest[TREE_DIGEST_SIZE];
	uint64_t entries;
	uint64_t bytes;
	uint64_t created_us;		/* real time */
};

void image_free(struct image *image);
DEFINE_CLEANUP(struct image *, image_free)

/* state_fd (borrowed) is the state directory, in each function.
 *
 * Names: [a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}; -EINVAL otherwise. */
int image_check_name(const char *name, struct error *err);

/* path is a directory or an archive (what tree_unpack takes with any_format).
 * -EEXIST when the name is taken (unless its digest is the same: then it is a
 * success and nothing changes). What is on the disk after it returned is there
 * after a crash too. */
int image_import(int state_fd, const char *name, const char *path, struct image **ret,
		 struct error *err);

/* The same from a stream of pax bytes, for an image that a peer sends; digest
 * is checked against what arrives, -EBADMSG when it differs. */
int image_receive(int state_fd, const char *name, const char *digest, tree_read_fn read,
		  void *ctx, const struct tree_limits *limits, struct image **ret,
		  struct error *err);

int image_open(int state_fd, const char *name, struct image **ret, struct error *err);

/* An O_PATH-free directory fd of the rootfs. */
int image_rootfs_fd(int state_fd, const char *name, int *ret_fd, struct error *err);

/* All of them, sorted by name; free each and the array. */
int image_list(int state_fd, struct image ***ret, size_t *ret_n, struct error *err);

/* The caller has made sure that no container uses it. -ENOENT when absent. */
int image_remove(int state_fd, const char *name, struct error *err);

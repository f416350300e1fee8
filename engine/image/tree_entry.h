/*
 * tree_entry.h - one file of a tree, between those that read and write trees
 *
 * The walk (tree_walk.h) and the archive reader (tree.c) make entries, the
 * writer (tree_writer.h), the archive writer and the digest take them. An
 * entry borrows its strings; the extended attributes are its maker's.
 *
 * Only attributes that belong to the tree travel: user.*, trusted.*,
 * security.capability and POSIX ACLs (system.posix_acl_*). Labels of the
 * host's own security modules (security.selinux, security.ima, ...) don't.
 * xattr(7), acl(5).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#include "engine/base/error.h"

struct tree_xattr {
	char *name;
	void *value;
	size_t size;
};

struct tree_xattrs {
	struct tree_xattr *list;	/* sorted by name when it comes from a walk */
	size_t n;
};

struct tree_entry {
	const char *path;		/* relative, "." is the top */
	const char *hardlink;		/* an earlier path of the same inode, or NULL */
	const char *target;		/* of a symlink */
	dev_t dev;			/* of a walk: which file it is */
	ino_t ino;
	mode_t mode;			/* type and permissions */
	uid_t uid;
	gid_t gid;
	dev_t rdev;
	uint64_t size;			/* of a regular file, holes included */
	uint64_t allocated_bytes;	/* st_blocks * 512 */
	struct timespec mtime;
	struct tree_xattrs xattrs;
};

/* Whether an attribute of this name travels. */
bool tree_xattr_travels(const char *name);

void tree_xattrs_clear(struct tree_xattrs *xattrs);

/* Copies name and value. */
int tree_xattrs_add(struct tree_xattrs *xattrs, const char *name, const void *value, size_t size,
		    struct error *err);

/* fd is open on the file, or -EBADF: then it is name below parent_fd, not
 * followed if it is a symlink (needs /proc). */
int tree_xattrs_read(int fd, int parent_fd, const char *name, struct tree_xattrs *ret,
		     struct error *err);
int tree_xattrs_write(int fd, int parent_fd, const char *name, const struct tree_xattrs *xattrs,
		      struct error *err);

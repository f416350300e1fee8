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

/* What an entry of a stream of changes does to what is there (tree.h). */
enum tree_change {
	TREE_WHOLE,			/* takes its place; in any other stream, all do */
	TREE_PATCH,			/* the file stays, and gets the pieces that come */
	TREE_GONE,			/* removed, with what is in it */
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
	struct timespec ctime;		/* of a walk */
	uint64_t links;			/* of a walk */
	enum tree_change change;
	struct tree_xattrs xattrs;
};

/* Whether an attribute of this name travels. */
bool tree_xattr_travels(const char *name);

/* Marks in a stream of changes, in place of attributes. */
#define TREE_MARK_PATCH "godwit.patch"
#define TREE_MARK_GONE "godwit.gone"

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

/* Removes those that travel and are not in xattrs; what overlayfs has noted for itself stays if
 * keep_overlay. */
int tree_xattrs_remove_others(int fd, const struct tree_xattrs *xattrs, bool keep_overlay, struct error *err);

/* Copies all but path and links; what *to had is not freed. */
int tree_entry_copy_meta(const struct tree_entry *from, struct tree_entry *to, struct error *err);

/* Owner, attributes, mode and time of a file that is there. fd is open, or -EBADF: name in parent_fd. */
int tree_entry_set_meta(int fd, int parent_fd, const char *name, const struct tree_entry *e, struct error *err);

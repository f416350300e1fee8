/*
 * tree.h - a directory tree as a stream of bytes, and back
 *
 * The stream is a pax archive (libarchive): owners, modes, times to the
 * nanosecond, extended attributes (trusted.overlay.* too), ACLs, hard links,
 * symlinks, FIFOs, device nodes (overlayfs whiteouts are character device 0:0)
 * and holes survive. Sockets are skipped and counted.
 *
 * Packing never crosses into another file system and never follows a symlink.
 * Unpacking treats the stream as hostile: absolute names, "..", names through
 * symlinks, and anything beyond the limits are refused; nothing is ever
 * written outside dirfd.
 *
 * Both run in the caller's thread and call back for bytes. An error names the
 * file inside the tree; one from a callback comes back as it is, with the name
 * of the file in front at most. A bad stream is -EPROTO, too many entries or
 * bytes -EFBIG.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "engine/base/error.h"
#include "engine/image/tree_entry.h"

/* Takes all len bytes or fails. */
typedef int (*tree_write_fn)(void *ctx, const void *data, size_t len, struct error *err);

/* Points *ret_data at the next bytes (valid until the next call) and returns
 * their number, 0 at the end, or a negative errno. */
typedef ssize_t (*tree_read_fn)(void *ctx, const void **ret_data, struct error *err);

struct tree_entry;		/* tree_entry.h */

struct tree_stats {
	uint64_t entries;
	uint64_t bytes;			/* of file content, holes not counted */
	uint64_t sockets_skipped;
};

/* 0 means no limit. */
struct tree_limits {
	uint64_t entries;
	uint64_t bytes;
};

/* dirfd (borrowed) is the top; its own mode, owner and attributes are the
 * entry ".". */
int tree_pack(int dirfd, tree_write_fn write, void *ctx, struct tree_stats *ret,
	      struct error *err);

/* Fills dirfd (borrowed), an existing directory. With any_format (images from
 * users) tar and cpio archives are accepted, also compressed with gzip, bzip2,
 * xz, lzma, lz4, zstd or compress; otherwise (peers) only what tree_pack
 * writes, whole to its end mark. On failure what was unpacked remains; the
 * caller removes the directory. The stream is read to its end. Only attributes
 * that belong to a tree are set (tree_entry.h). */
int tree_unpack(int dirfd, tree_read_fn read, void *ctx, const struct tree_limits *limits,
		bool any_format, struct tree_stats *ret, struct error *err);

/* What of a tree is another thing in the stream; each may be NULL. Files whose content goes
 * another way: packed they are one hole, and unpacked, what is there already takes their
 * place. Owners: an entry is changed before it is packed, or unpacked. */
struct tree_contents {
	/* True for the file at path, open at fd, that is to be packed without its content. */
	bool (*away)(void *ctx, const char *path, int fd);
	/* Puts the file that shall be at path (as it was packed) at name in parent_fd: 1,
	 * or 0, it must be made. */
	int (*bring)(void *ctx, const char *path, int parent_fd, const char *name, struct error *err);
	/* Before len bytes at offset are written to the file at fd. */
	int (*make_room)(void *ctx, int fd, uint64_t offset, uint64_t len, struct error *err);
	void *ctx;
	/* Changes its owners and the values of its attributes, in place. */
	int (*translate)(const void *ids, struct tree_entry *e, struct error *err);
	const void *ids;
};

/* As tree_pack and tree_unpack of a peer's stream. */
int tree_pack_contents(int dirfd, const struct tree_contents *contents, tree_write_fn write, void *ctx,
		       struct tree_stats *ret, struct error *err);
int tree_unpack_contents(int dirfd, const struct tree_contents *contents, tree_read_fn read, void *ctx,
			 const struct tree_limits *limits, struct tree_stats *ret, struct error *err);

/* What of a tree goes to somebody who has an older state of it. The callbacks come in this order
 * for each file; wanted and gone for all of them, the others for what is packed. */
struct tree_changes {
	/* It is being changed meanwhile: a file that is replaced while it is looked at is left out. */
	bool live;
	/* One path after the other that is to be removed there, before next is looked at (NULL: at the
	 * end): 1, or 0 there is none (any more). The path is valid until the next call. */
	int (*gone)(void *ctx, const struct tree_entry *next, const char **ret_path, struct error *err);
	/* Whether it is packed: 1, or 0. It was not opened yet. */
	int (*wanted)(void *ctx, const struct tree_entry *e, struct error *err);
	/* It is, as e says now; fd is open on a regular file. */
	int (*begin)(void *ctx, const struct tree_entry *e, int fd, enum tree_change *ret, struct error *err);
	/* As tree_next_data, of what is to be packed of a regular file. */
	int (*next_piece)(void *ctx, int fd, uint64_t *offset, uint64_t *ret_len, struct error *err);
	/* What was read of a piece, from its begin to its end. */
	void (*packed)(void *ctx, const void *data, size_t len, uint64_t offset);
	void *ctx;
};

/* A stream of changes is an archive in which an entry with the attribute "godwit.patch" is a file
 * that keeps what its pieces don't cover, and one with "godwit.gone" a path that is removed. No
 * file can have attributes of these names. */
int tree_pack_changes(int dirfd, const struct tree_changes *changes, tree_write_fn write, void *ctx,
		      struct tree_stats *ret, struct error *err);

/* Makes the tree at dirfd equal to the one that was packed. Files, folders and links take the place
 * of what is there, whatever that is; times of folders in which that happens stay. */
int tree_unpack_changes(int dirfd, tree_read_fn read, void *ctx, const struct tree_limits *limits,
			struct tree_stats *ret, struct error *err);

/* Copies a tree (pack into unpack, in one process), for image import. */
int tree_copy(int from_dirfd, int to_dirfd, struct tree_stats *ret, struct error *err);

/* What a tree occupies, without reading contents: entries and bytes
 * (st_blocks * 512). */
int tree_measure(int dirfd, struct tree_stats *ret, struct error *err);

/* SHA-256 over a canonical form of the tree (sorted names, types, modes,
 * owners, sizes, contents, link targets, device numbers, extended attributes;
 * no times), as 64 hex digits: the same image on two nodes has the same. */
#define TREE_DIGEST_SIZE 65
int tree_digest(int dirfd, char ret[TREE_DIGEST_SIZE], struct error *err);

/* The same with times of modification. */
int tree_digest_exact(int dirfd, char ret[TREE_DIGEST_SIZE], struct error *err);

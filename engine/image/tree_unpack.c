#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "engine/image/libarchive.h"
#include "engine/image/tree_writer.h"

#define END_SIZE 1024		/* two blocks of zeros end a tar archive */
#define TAIL_MAX (1 << 20)	/* padding that may follow it */

struct unpacker {
	struct libarchive lib;
	struct archive *archive;
	struct tree_writer *writer;
	const struct tree_contents *contents;	/* may be NULL */
	tree_read_fn read;
	void *ctx;
	struct error read_err;		/* code 0: the stream is sound */
	uint64_t bytes_read;
	bool strict;			/* a peer's stream: only what tree_pack writes */
	bool changes;			/* of tree_pack_changes */
};

static la_ssize_t unpack_bytes(struct archive *a, void *ctx, const void **ret_data)
{
	struct unpacker *u = ctx;
	ssize_t n = u->read_err.code ? -1 : u->read(u->ctx, ret_data, &u->read_err);

	if (n < 0) {
		u->lib.archive_set_error(a, EIO, "stream failed");
		return -1;
	}
	u->bytes_read += (uint64_t)n;
	return n;
}

static int unpack_failed(struct unpacker *u, struct error *err)
{
	if (!u->read_err.code)
		return libarchive_fail(&u->lib, u->archive, "bad archive", err);
	*err = u->read_err;
	return -err->code;
}

/* tree_pack's libarchive writes the names of attributes as a URL does (a=b as
 * a%3Db) and reads them as they are; other writers don't encode them. */
static void decode(char *name)
{
	char *out = name;

	for (const char *in = name; *in; out++) {
		char hex[3] = { in[0] == '%' ? in[1] : '\0' };

		hex[1] = hex[0] ? in[2] : '\0';
		if (isxdigit((unsigned char)hex[0]) && isxdigit((unsigned char)hex[1]) &&
		    strcmp(hex, "00") != 0) {
			*out = (char)strtoul(hex, NULL, 16);
			in += 3;
		} else {
			*out = *in++;
		}
	}
	*out = '\0';
}

static enum tree_change mark_of(const char *name)
{
	return !strcmp(name, TREE_MARK_GONE) ? TREE_GONE : !strcmp(name, TREE_MARK_PATCH) ? TREE_PATCH : TREE_WHOLE;
}

static int take_xattrs(struct unpacker *u, struct archive_entry *entry, struct tree_entry *e, struct error *err)
{
	struct tree_xattrs *ret = &e->xattrs;
	const char *name;
	const void *value;
	size_t size;

	(void)u->lib.archive_entry_xattr_reset(entry);
	while (u->lib.archive_entry_xattr_next(entry, &name, &value, &size) == ARCHIVE_OK) {
		if (u->changes && name && mark_of(name) != TREE_WHOLE)
			e->change = mark_of(name);
		if (!name || !tree_xattr_travels(name))
			continue;
		if (tree_xattrs_add(ret, name, value, size, err) < 0)
			return -err->code;
		if (u->strict)
			decode(ret->list[ret->n - 1].name);
	}
	return 0;
}

static int unpack_content(struct unpacker *u, struct error *err)
{
	const void *data;
	la_int64_t offset;
	size_t len;

	for (;;) {
		int r = u->lib.archive_read_data_block(u->archive, &data, &len, &offset);

		if (r == ARCHIVE_EOF)
			return 0;
		if (r != ARCHIVE_OK)
			return unpack_failed(u, err);
		if (offset < 0)
			return error_set(err, EPROTO, "content before the start of the file");
		if (tree_writer_data(u->writer, data, len, (uint64_t)offset, err) < 0)
			return -err->code;
	}
}

static int unpack_file(struct unpacker *u, const struct tree_entry *e, struct error *err)
{
	if (tree_writer_begin(u->writer, e, err) < 0 || unpack_content(u, err) < 0)
		return -err->code;
	return tree_writer_end(u->writer, err);
}

static int unpack_entry(struct unpacker *u, struct archive_entry *entry, struct error *err)
{
	const struct libarchive *lib = &u->lib;
	la_int64_t size = lib->archive_entry_size(entry), uid = lib->archive_entry_uid(entry),
		   gid = lib->archive_entry_gid(entry);
	struct tree_entry e = {
		.path = lib->archive_entry_pathname(entry),
		.hardlink = lib->archive_entry_hardlink(entry),
		.target = lib->archive_entry_symlink(entry),
		.mode = lib->archive_entry_mode(entry),
		.uid = (uid_t)uid,
		.gid = (gid_t)gid,
		.rdev = lib->archive_entry_rdev(entry),
		.mtime = { lib->archive_entry_mtime(entry), lib->archive_entry_mtime_nsec(entry) },
	};
	int r;

	if (!e.path)
		return error_set(err, EPROTO, "bad archive: a name that can't be read");
	if (size < 0 || uid < 0 || gid < 0 || uid >= UINT32_MAX || gid >= UINT32_MAX)
		return error_set(err, EPROTO, "%s: impossible size or owner", e.path);
	e.size = S_ISREG(e.mode) || e.hardlink ? (uint64_t)size : 0;
	r = take_xattrs(u, entry, &e, err);
	if (r == 0 && u->contents && u->contents->translate)
		r = u->contents->translate(u->contents->ids, &e, err);
	if (r == 0)
		r = unpack_file(u, &e, err);
	if (r < 0)
		r = error_wrap(err, "%s", e.path);
	tree_xattrs_clear(&e.xattrs);
	return r;
}

/* Drains the stream after the last entry; position is where the end mark
 * should be. A tar archive cut between two entries looks whole but for that. */
static int check_end(struct unpacker *u, struct error *err)
{
	uint64_t position = (uint64_t)u->lib.archive_read_header_position(u->archive);
	const void *data;
	ssize_t n;

	while ((n = u->read(u->ctx, &data, err)) > 0) {
		u->bytes_read += (uint64_t)n;
		if (u->bytes_read > position + TAIL_MAX)
			return error_set(err, EPROTO, "bad archive: more data after its end");
	}
	if (n < 0)
		return -err->code;
	if (u->bytes_read < position + END_SIZE)
		return error_set(err, EPROTO, "bad archive: it ends too early");
	return 0;
}

static int unpack_all(struct unpacker *u, struct error *err)
{
	for (;;) {
		struct archive_entry *entry;
		int r = u->lib.archive_read_next_header(u->archive, &entry);

		if (r == ARCHIVE_EOF)
			return u->strict ? check_end(u, err) : 0;
		if (r != ARCHIVE_OK && (u->strict || r != ARCHIVE_WARN))
			return unpack_failed(u, err);
		if (unpack_entry(u, entry, err) < 0)
			return -err->code;
	}
}

/* No filter that starts a program, no format that names files of this host (mtree). */
static int support(const struct libarchive *lib, struct archive *a, bool any_format)
{
	int (*const more[])(struct archive *) = {
		lib->archive_read_support_format_cpio,	  lib->archive_read_support_filter_gzip,
		lib->archive_read_support_filter_bzip2,	  lib->archive_read_support_filter_xz,
		lib->archive_read_support_filter_lzma,	  lib->archive_read_support_filter_lz4,
		lib->archive_read_support_filter_zstd,	  lib->archive_read_support_filter_compress,
	};
	int r = lib->archive_read_support_format_tar(a);

	for (size_t i = 0; any_format && r == ARCHIVE_OK && i < sizeof(more) / sizeof(more[0]); i++)
		r = more[i](a);
	return r;
}

static int unpack_open(struct unpacker *u, struct error *err)
{
	u->archive = u->lib.archive_read_new();
	if (!u->archive)
		return error_set(err, ENOMEM, "out of memory");
	if (support(&u->lib, u->archive, !u->strict) != ARCHIVE_OK)
		return libarchive_fail(&u->lib, u->archive, "libarchive lacks a format", err);
	if (u->lib.archive_read_open(u->archive, u, NULL, unpack_bytes, NULL) != ARCHIVE_OK)
		return unpack_failed(u, err);
	return 0;
}

static void unpacker_clear(struct unpacker *u)
{
	if (u->archive)
		(void)u->lib.archive_read_free(u->archive);
	tree_writer_free(u->writer);
}

static int unpack(int dirfd, struct unpacker *u, const struct tree_contents *contents,
		  const struct tree_limits *limits, struct tree_stats *ret, struct error *err)
{
	CLEANUP(libarchive_utf8_leave) struct libarchive_utf8 utf8 = libarchive_utf8_enter();

	(void)utf8;
	if (libarchive_load(&u->lib, err) < 0 || tree_writer_new(dirfd, limits, &u->writer, err) < 0)
		return -err->code;
	u->contents = contents;
	tree_writer_set_contents(u->writer, contents);
	if (u->changes)
		tree_writer_set_changes(u->writer);
	if (unpack_open(u, err) < 0 || unpack_all(u, err) < 0)
		return -err->code;
	return tree_writer_finish(u->writer, ret, err);
}

int tree_unpack(int dirfd, tree_read_fn read, void *ctx, const struct tree_limits *limits,
		bool any_format, struct tree_stats *ret, struct error *err)
{
	CLEANUP(unpacker_clear) struct unpacker u = { .read = read, .ctx = ctx, .strict = !any_format };

	return unpack(dirfd, &u, NULL, limits, ret, err);
}

int tree_unpack_contents(int dirfd, const struct tree_contents *contents, tree_read_fn read, void *ctx,
			 const struct tree_limits *limits, struct tree_stats *ret, struct error *err)
{
	CLEANUP(unpacker_clear) struct unpacker u = { .read = read, .ctx = ctx, .strict = true };

	return unpack(dirfd, &u, contents, limits, ret, err);
}

int tree_unpack_changes(int dirfd, tree_read_fn read, void *ctx, const struct tree_limits *limits,
			struct tree_stats *ret, struct error *err)
{
	CLEANUP(unpacker_clear) struct unpacker u = { .read = read, .ctx = ctx, .strict = true, .changes = true };

	return unpack(dirfd, &u, NULL, limits, ret, err);
}

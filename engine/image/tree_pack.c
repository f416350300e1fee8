#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/base/cleanup.h"
#include "engine/image/libarchive.h"
#include "engine/image/tree_walk.h"

#define BUFFER_SIZE (256 << 10)
#define ZEROS_SIZE ((size_t)1 << 30)
#define HOLE_SIZE (64 << 10)	/* smaller holes are sent as zeros */
#define HOLES_MAX 10000		/* of one file, the rest is sent as zeros */

struct packer {
	struct libarchive lib;
	struct archive *archive;
	struct archive_entry *entry;
	const struct tree_contents *contents;	/* NULL: all of them */
	const struct tree_changes *changes;	/* NULL: all of it */
	tree_write_fn write;
	void *ctx;
	struct error write_err;		/* code 0: the stream is sound */
	bool complete;
	uint64_t bytes;
	void *zeros;			/* never written, so without memory behind it */
	char buf[BUFFER_SIZE];
};

static la_ssize_t pack_bytes(struct archive *a, void *ctx, const void *data, size_t len)
{
	struct packer *p = ctx;

	if (p->write_err.code || p->write(p->ctx, data, len, &p->write_err) < 0) {
		p->lib.archive_set_error(a, EIO, "stream failed");
		return -1;
	}
	return (la_ssize_t)len;
}

static int pack_failed(struct packer *p, const char *what, struct error *err)
{
	if (!p->write_err.code)
		return libarchive_fail(&p->lib, p->archive, what, err);
	*err = p->write_err;
	return -err->code;
}

static void fill_header(struct packer *p, const struct tree_entry *e)
{
	const struct libarchive *lib = &p->lib;

	lib->archive_entry_clear(p->entry);
	lib->archive_entry_set_pathname(p->entry, e->path);
	lib->archive_entry_set_mode(p->entry, e->mode);
	lib->archive_entry_set_uid(p->entry, e->uid);
	lib->archive_entry_set_gid(p->entry, e->gid);
	lib->archive_entry_set_mtime(p->entry, e->mtime.tv_sec, e->mtime.tv_nsec);
	lib->archive_entry_set_rdev(p->entry, e->rdev);
	lib->archive_entry_set_size(p->entry, 0);
	if (e->hardlink)
		lib->archive_entry_set_hardlink(p->entry, e->hardlink);
	else if (e->target)
		lib->archive_entry_set_symlink(p->entry, e->target);
	else if (S_ISREG(e->mode))
		lib->archive_entry_set_size(p->entry, (la_int64_t)e->size);
	for (size_t i = 0; i < e->xattrs.n; i++)
		lib->archive_entry_xattr_add_entry(p->entry, e->xattrs.list[i].name,
						   e->xattrs.list[i].value, e->xattrs.list[i].size);
	if (e->change != TREE_WHOLE)
		lib->archive_entry_xattr_add_entry(
			p->entry, e->change == TREE_GONE ? TREE_MARK_GONE : TREE_MARK_PATCH, "1", 1);
}

/* The pieces of a file that go into the stream: its data, with small holes. */
struct pieces {
	struct piece {
		uint64_t offset, len;
	} *list;
	size_t n;
};

static int add_piece(struct pieces *pieces, uint64_t offset, uint64_t len, struct error *err)
{
	struct piece *last = pieces->n ? &pieces->list[pieces->n - 1] : NULL;
	uint64_t end = last ? last->offset + last->len : 0;
	struct piece *more;

	if (offset - end < HOLE_SIZE || pieces->n == HOLES_MAX) {
		if (last) {
			last->len = offset + len - last->offset;
			return 0;
		}
		len += offset;
		offset = 0;
	}
	more = realloc(pieces->list, (pieces->n + 1) * sizeof(*more));
	if (!more)
		return error_set(err, ENOMEM, "out of memory");
	pieces->list = more;
	pieces->list[pieces->n++] = (struct piece){ .offset = offset, .len = len };
	return 0;
}

static int next_piece(const struct packer *p, int fd, uint64_t size, uint64_t *offset, uint64_t *len,
		      struct error *err)
{
	return p->changes ? p->changes->next_piece(p->changes->ctx, fd, offset, len, err) :
			    tree_next_data(fd, size, offset, len, err);
}

static int find_pieces(const struct packer *p, int fd, uint64_t size, struct pieces *pieces, struct error *err)
{
	uint64_t offset = 0, len;
	int r;

	while ((r = next_piece(p, fd, size, &offset, &len, err)) > 0) {
		if (add_piece(pieces, offset, len, err) < 0)
			return -err->code;
		offset += len;
	}
	return r;
}

/* libarchive steps over those in a hole without reading them: in large steps,
 * a file of terabytes takes no time. */
static int pack_zeros(struct packer *p, uint64_t len, struct error *err)
{
	while (len) {
		size_t n = len < ZEROS_SIZE ? (size_t)len : ZEROS_SIZE;

		if (p->lib.archive_write_data(p->archive, p->zeros, n) != (la_ssize_t)n)
			return pack_failed(p, "pack", err);
		len -= n;
	}
	return 0;
}

static int pack_piece(struct packer *p, int fd, const struct piece *piece, struct error *err)
{
	uint64_t offset = piece->offset, end = piece->offset + piece->len;

	while (offset < end) {
		size_t want = end - offset < sizeof(p->buf) ? (size_t)(end - offset) : sizeof(p->buf);
		ssize_t n = pread(fd, p->buf, want, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return error_set(err, errno, "read: %s", strerror(errno));
		if (n == 0)	/* became shorter */
			return pack_zeros(p, end - offset, err);
		if (p->lib.archive_write_data(p->archive, p->buf, (size_t)n) != n)
			return pack_failed(p, "pack", err);
		if (p->changes)
			p->changes->packed(p->changes->ctx, p->buf, (size_t)n, offset);
		offset += (uint64_t)n;
		p->bytes += (uint64_t)n;
	}
	return 0;
}

/* The pax writer wants every byte of the file and drops those in holes. */
static int pack_pieces(struct packer *p, int fd, uint64_t size, const struct pieces *pieces,
		       struct error *err)
{
	uint64_t offset = 0;

	for (size_t i = 0; i < pieces->n; i++) {
		const struct piece *piece = &pieces->list[i];

		if (pack_zeros(p, piece->offset - offset, err) < 0 ||
		    pack_piece(p, fd, piece, err) < 0)
			return -err->code;
		offset = piece->offset + piece->len;
	}
	return pack_zeros(p, size - offset, err);
}

static int pack_file(struct packer *p, const struct tree_entry *e, int fd, struct error *err)
{
	struct pieces pieces = { 0 };
	struct tree_entry packed = *e;
	CLEANUP(freep) struct piece *list = NULL;
	bool away = fd >= 0 && p->contents && p->contents->away && p->contents->away(p->contents->ctx, e->path, fd);
	int r = fd >= 0 && !away ? find_pieces(p, fd, e->size, &pieces, err) : 0;

	list = pieces.list;
	if (r == 0 && p->contents && p->contents->translate)
		r = p->contents->translate(p->contents->ids, &packed, err);
	if (r < 0)
		return r;
	fill_header(p, &packed);
	for (size_t i = 0; i < pieces.n; i++)
		p->lib.archive_entry_sparse_add_entry(p->entry, (la_int64_t)list[i].offset,
						      (la_int64_t)list[i].len);
	if (fd >= 0 && e->size && !pieces.n)
		p->lib.archive_entry_sparse_add_entry(p->entry, (la_int64_t)e->size, 0);
	if (p->lib.archive_write_header(p->archive, p->entry) != ARCHIVE_OK)
		return pack_failed(p, "pack", err);
	if (fd >= 0 && pack_pieces(p, fd, e->size, &pieces, err) < 0)
		return -err->code;
	if (p->lib.archive_write_finish_entry(p->archive) != ARCHIVE_OK)
		return pack_failed(p, "pack", err);
	return 0;
}

static int pack_entry(void *ctx, const struct tree_entry *e, int fd, struct error *err)
{
	struct packer *p = ctx;
	struct tree_entry as = *e;

	if (p->changes && p->changes->begin(p->changes->ctx, e, fd, &as.change, err) < 0)
		return -err->code;
	return pack_file(p, &as, fd, err);
}

static int pack_gone(struct packer *p, const struct tree_entry *next, struct error *err)
{
	struct tree_entry e = { .mode = S_IFREG, .change = TREE_GONE };
	int r;

	while ((r = p->changes->gone(p->changes->ctx, next, &e.path, err)) > 0)
		if (pack_file(p, &e, -EBADF, err) < 0)
			return -err->code;
	return r;
}

static int pack_wanted(void *ctx, const struct tree_entry *e, struct error *err)
{
	struct packer *p = ctx;

	return pack_gone(p, e, err) < 0 ? -err->code : p->changes->wanted(p->changes->ctx, e, err);
}

static int pack_open(struct packer *p, struct error *err)
{
	p->archive = p->lib.archive_write_new();
	p->entry = p->lib.archive_entry_new();
	p->zeros = mmap(NULL, ZEROS_SIZE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
			-1, 0);
	if (!p->archive || !p->entry || p->zeros == MAP_FAILED)
		return error_set(err, ENOMEM, "out of memory");
	if (p->lib.archive_write_set_format_pax(p->archive) != ARCHIVE_OK ||
	    p->lib.archive_write_set_options(p->archive, "hdrcharset=BINARY,xattrheader=SCHILY") !=
		    ARCHIVE_OK ||
	    p->lib.archive_write_set_bytes_per_block(p->archive, BUFFER_SIZE) != ARCHIVE_OK ||
	    p->lib.archive_write_set_bytes_in_last_block(p->archive, 1) != ARCHIVE_OK ||
	    p->lib.archive_write_open(p->archive, p, NULL, pack_bytes, NULL) != ARCHIVE_OK)
		return libarchive_fail(&p->lib, p->archive, "pack", err);
	return 0;
}

static void packer_free(struct packer *p)
{
	/* after an error, what libarchive still holds must not look like an end */
	if (!p->complete)
		p->write_err.code = ECANCELED;
	if (p->archive)
		(void)p->lib.archive_write_free(p->archive);
	if (p->entry)
		p->lib.archive_entry_free(p->entry);
	if (p->zeros && p->zeros != MAP_FAILED)
		(void)munmap(p->zeros, ZEROS_SIZE);
	free(p);
}
DEFINE_CLEANUP(struct packer *, packer_free)

int tree_pack(int dirfd, tree_write_fn write, void *ctx, struct tree_stats *ret,
	      struct error *err)
{
	return tree_pack_contents(dirfd, NULL, write, ctx, ret, err);
}

static int pack_tree(struct packer *p, int dirfd, struct tree_stats *stats, struct error *err)
{
	const struct tree_choice choice = { .wanted = pack_wanted, .live = p->changes && p->changes->live };

	if (!p->changes)
		return tree_walk(dirfd, true, pack_entry, p, stats, err);
	return tree_walk_chosen(dirfd, &choice, pack_entry, p, stats, err) < 0 ? -err->code : pack_gone(p, NULL, err);
}

static int pack(int dirfd, const struct tree_contents *contents, const struct tree_changes *changes,
		tree_write_fn write, void *ctx, struct tree_stats *ret, struct error *err)
{
	CLEANUP(packer_freep) struct packer *p = calloc(1, sizeof(*p));
	CLEANUP(libarchive_utf8_leave) struct libarchive_utf8 utf8 = libarchive_utf8_enter();
	struct tree_stats stats;

	(void)utf8;
	if (!p)
		return error_set(err, ENOMEM, "out of memory");
	p->contents = contents;
	p->changes = changes;
	p->write = write;
	p->ctx = ctx;
	if (libarchive_load(&p->lib, err) < 0 || pack_open(p, err) < 0 ||
	    pack_tree(p, dirfd, &stats, err) < 0)
		return -err->code;
	if (p->lib.archive_write_close(p->archive) != ARCHIVE_OK)
		return pack_failed(p, "pack", err);
	p->complete = true;
	stats.bytes = p->bytes;
	if (ret)
		*ret = stats;
	return 0;
}

int tree_pack_contents(int dirfd, const struct tree_contents *contents, tree_write_fn write, void *ctx,
		       struct tree_stats *ret, struct error *err)
{
	return pack(dirfd, contents, NULL, write, ctx, ret, err);
}

int tree_pack_changes(int dirfd, const struct tree_changes *changes, tree_write_fn write, void *ctx,
		      struct tree_stats *ret, struct error *err)
{
	return pack(dirfd, NULL, changes, write, ctx, ret, err);
}

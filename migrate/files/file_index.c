#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "migrate/files/file_index.h"

struct file_index {
	FILE *file;
};

/* As it is in the file; path and blocks follow. */
struct on_disk {
	uint64_t ino, size, n_blocks;
	int64_t ctime_s;
	uint32_t ctime_ns, mode, links, block_shift;
	uint32_t path_len;
	uint8_t known, hardlink;
};

void file_record_clear(struct file_record *r)
{
	free(r->blocks);
	r->blocks = NULL;
	r->n_blocks = 0;
	r->path[0] = '\0';
}

int file_index_new(int dirfd, struct file_index **ret, struct error *err)
{
	CLEANUP(file_index_freep) struct file_index *index = calloc(1, sizeof(*index));
	int fd = openat(dirfd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	if (fd < 0)			/* not every file system has files without names */
		fd = memfd_create("files", MFD_CLOEXEC);
	if (fd < 0 || !index) {
		fd_close(&fd);
		return error_set(err, ENOMEM, "no room for a list of files");
	}
	index->file = fdopen(fd, "w+");
	if (!index->file) {
		fd_close(&fd);
		return error_set(err, ENOMEM, "out of memory");
	}
	*ret = TAKE_PTR(index);
	return 0;
}

void file_index_free(struct file_index *index)
{
	if (!index)
		return;
	if (index->file)
		(void)fclose(index->file);
	free(index);
}

static int failed(struct error *err)
{
	return error_set(err, errno ? errno : EIO, "list of files: %s", strerror(errno ? errno : EIO));
}

int file_index_put(struct file_index *index, const struct file_record *r, struct error *err)
{
	const struct on_disk d = {
		.ino = r->ino, .size = r->size, .n_blocks = r->n_blocks, .ctime_s = r->ctime.tv_sec,
		.ctime_ns = (uint32_t)r->ctime.tv_nsec, .mode = r->mode, .links = r->links,
		.block_shift = r->block_shift, .path_len = (uint32_t)strlen(r->path), .known = r->known,
		.hardlink = r->hardlink,
	};

	errno = 0;
	if (fwrite(&d, sizeof(d), 1, index->file) != 1 || fwrite(r->path, d.path_len, 1, index->file) != 1 ||
	    (d.n_blocks && fwrite(r->blocks, sizeof(*r->blocks), d.n_blocks, index->file) != d.n_blocks))
		return failed(err);
	return 0;
}

int file_index_rewind(struct file_index *index, struct error *err)
{
	errno = 0;
	return fflush(index->file) != 0 || fseek(index->file, 0, SEEK_SET) != 0 ? failed(err) : 0;
}

int file_index_empty(struct file_index *index, struct error *err)
{
	if (file_index_rewind(index, err) < 0)
		return -err->code;
	return ftruncate(fileno(index->file), 0) < 0 ? failed(err) : 0;
}

static int read_blocks(struct file_index *index, struct file_record *r, uint64_t n, struct error *err)
{
	if (!n)
		return 0;
	r->blocks = reallocarray(NULL, n, sizeof(*r->blocks));
	if (!r->blocks)
		return error_set(err, ENOMEM, "out of memory");
	r->n_blocks = n;
	errno = 0;
	return fread(r->blocks, sizeof(*r->blocks), n, index->file) != n ? failed(err) : 0;
}

int file_index_next(struct file_index *index, struct file_record *r, struct error *err)
{
	struct on_disk d;

	file_record_clear(r);
	errno = 0;
	if (fread(&d, sizeof(d), 1, index->file) != 1)
		return feof(index->file) ? 0 : failed(err);
	if (d.path_len >= sizeof(r->path) || d.n_blocks > FILE_INDEX_BLOCKS_MAX)
		return error_set(err, EIO, "list of files: it is damaged");
	if (fread(r->path, d.path_len, 1, index->file) != 1)
		return failed(err);
	r->path[d.path_len] = '\0';
	r->ino = d.ino;
	r->size = d.size;
	r->ctime = (struct timespec){ d.ctime_s, d.ctime_ns };
	r->mode = d.mode;
	r->links = d.links;
	r->known = d.known;
	r->hardlink = d.hardlink;
	r->block_shift = d.block_shift;
	return read_blocks(index, r, d.n_blocks, err) < 0 ? -err->code : 1;
}

static const char *from_top(const char *path)
{
	return strcmp(path, ".") != 0 ? path : "";
}

static int rank(char c)
{
	return c == '/' ? 1 : c ? (unsigned char)c + 1 : 0;
}

/* Names are visited in the order of their bytes, and what is in a folder right after it. */
int file_index_compare(const char *a, const char *b)
{
	a = from_top(a);
	b = from_top(b);
	while (*a && *a == *b) {
		a++;
		b++;
	}
	return rank(*a) - rank(*b);
}

bool file_index_is_below(const char *path, const char *folder)
{
	size_t len = strlen(folder);

	return !strncmp(path, folder, len) && path[len] == '/';
}

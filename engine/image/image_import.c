#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "engine/image/image_json.h"
#include "engine/image/image_store.h"

#define READ_SIZE (256 << 10)

struct file_reader {
	int fd;				/* borrowed */
	char buf[READ_SIZE];
};

static ssize_t read_file(void *ctx, const void **ret_data, struct error *err)
{
	struct file_reader *r = ctx;
	ssize_t n;

	do {
		n = read(r->fd, r->buf, sizeof(r->buf));
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return error_set(err, errno, "read: %s", strerror(errno));
	*ret_data = r->buf;
	return n;
}

static int unpack_file(int fd, int rootfs_fd, struct tree_stats *stats, struct error *err)
{
	CLEANUP(freep) struct file_reader *reader = malloc(sizeof(*reader));

	if (!reader)
		return error_set(err, ENOMEM, "out of memory");
	reader->fd = fd;
	if (tree_unpack(rootfs_fd, read_file, reader, NULL, true, stats, err) < 0)
		return -err->code;
	if (!stats->entries)
		return error_set(err, EINVAL, "the archive holds no files");
	return 0;
}

/* The name is taken: by the same image it is as good as imported. */
static int take_existing(int state_fd, const struct image *wanted, struct image **ret,
			 struct error *err)
{
	CLEANUP(image_freep) struct image *existing = NULL;

	if (image_open(state_fd, wanted->name, &existing, err) < 0)
		return -err->code;
	if (strcmp(existing->digest, wanted->digest) != 0)
		return error_set(err, EEXIST, "an image of this name is there with other content: "
				 "choose another name or remove it with godwit image rm");
	*ret = TAKE_PTR(existing);
	return 0;
}

/* digest is what it has to be, or NULL. */
static int finish(int state_fd, struct image_stage *stage, const char *name, const char *digest,
		  const struct tree_stats *stats, struct image **ret, struct error *err)
{
	CLEANUP(image_freep) struct image *image = NULL;
	int r;

	if (image_new(name, &image, err) < 0)
		return -err->code;
	image->entries = stats->entries;
	image->bytes = stats->bytes;
	image->created_us = clock_real_us();
	if (tree_digest(stage->rootfs_fd, image->digest, err) < 0)
		return -err->code;
	if (digest && strcmp(digest, image->digest) != 0)
		return error_set(err, EBADMSG, "what arrived has the digest %.12s..., announced was "
				 "%.12s...", image->digest, digest);
	r = image_stage_commit(stage, image, err);
	if (r == -EEXIST)
		return take_existing(state_fd, image, ret, err);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(image);
	return 0;
}

static int import(int state_fd, const char *name, int fd, bool is_folder, struct image **ret,
		  struct error *err)
{
	CLEANUP(image_stage_end) struct image_stage stage = IMAGE_STAGE_EMPTY;
	struct tree_stats stats;
	int r;

	if (image_stage_begin(state_fd, &stage, err) < 0)
		return -err->code;
	r = is_folder ? tree_copy(fd, stage.rootfs_fd, &stats, err) :
			unpack_file(fd, stage.rootfs_fd, &stats, err);
	if (r < 0)
		return r;
	return finish(state_fd, &stage, name, NULL, &stats, ret, err);
}

int image_import(int state_fd, const char *name, const char *path, struct image **ret,
		 struct error *err)
{
	CLEANUP(fd_closep) int fd = -EBADF;
	struct stat st;

	if (image_check_name(name, err) < 0)
		return -err->code;
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (fd < 0 || fstat(fd, &st) < 0)
		return error_set(err, errno, "import image %s: open %s: %s", name, path,
				 strerror(errno));
	if (import(state_fd, name, fd, S_ISDIR(st.st_mode), ret, err) < 0)
		return error_wrap(err, "import image %s from %s", name, path);
	return 0;
}

static int receive(int state_fd, const char *name, const char *digest, tree_read_fn read,
		   void *ctx, const struct tree_limits *limits, struct image **ret,
		   struct error *err)
{
	CLEANUP(image_stage_end) struct image_stage stage = IMAGE_STAGE_EMPTY;
	struct tree_stats stats;

	if (image_stage_begin(state_fd, &stage, err) < 0 ||
	    tree_unpack(stage.rootfs_fd, read, ctx, limits, false, &stats, err) < 0)
		return -err->code;
	return finish(state_fd, &stage, name, digest, &stats, ret, err);
}

int image_receive(int state_fd, const char *name, const char *digest, tree_read_fn read,
		  void *ctx, const struct tree_limits *limits, struct image **ret,
		  struct error *err)
{
	if (image_check_name(name, err) < 0)
		return -err->code;
	if (!image_json_is_digest(digest))
		return error_set(err, EINVAL, "receive image %s: bad digest", name);
	if (receive(state_fd, name, digest, read, ctx, limits, ret, err) < 0)
		return error_wrap(err, "receive image %s", name);
	return 0;
}

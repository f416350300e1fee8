#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/base/fd.h"
#include "engine/image/image_json.h"
#include "engine/image/image_store.h"

#define PREFIX ".tmp-"
#define STAGES_MAX 1000

int image_store_open(int state_fd, int *ret_fd, struct error *err)
{
	return fd_open_dir_at(state_fd, "images", true, 0700, ret_fd, err);
}

/* Locks a stage; false when its maker still lives, or it is gone. */
static bool lock(int images_fd, const char *name, int *ret_fd)
{
	CLEANUP(fd_closep) int fd = openat(images_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW |
					   O_CLOEXEC);
	struct stat st;

	if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0 || fstat(fd, &st) < 0 || st.st_nlink == 0)
		return false;
	*ret_fd = TAKE_FD(fd);
	return true;
}

static int remove_abandoned(int images_fd, struct error *err)
{
	CLEANUP(dir_closep) DIR *dir = NULL;
	struct dirent *e;
	int dir_fd;

	if (fd_open_dir_at(images_fd, ".", false, 0, &dir_fd, err) < 0)
		return -err->code;
	dir = fdopendir(dir_fd);
	if (!dir) {
		fd_close(&dir_fd);
		return error_set(err, ENOMEM, "out of memory");
	}
	while ((e = readdir(dir))) {
		CLEANUP(fd_closep) int fd = -EBADF;

		if (strncmp(e->d_name, PREFIX, strlen(PREFIX)) != 0 || !lock(images_fd, e->d_name, &fd))
			continue;
		if (fd_remove_tree_at(images_fd, e->d_name, err) < 0)
			return -err->code;
	}
	return 0;
}

/* A stage that is made but not yet locked may be taken for abandoned: then
 * another one is made. */
static int make_stage(struct image_stage *stage, struct error *err)
{
	for (int i = 0; i < STAGES_MAX; i++) {
		(void)snprintf(stage->name, sizeof(stage->name), PREFIX "%d-%d", (int)getpid(), i);
		if (mkdirat(stage->images_fd, stage->name, 0700) == 0) {
			if (lock(stage->images_fd, stage->name, &stage->fd))
				return 0;
		} else if (errno != EEXIST) {
			return error_set(err, errno, "mkdir %s: %s", stage->name, strerror(errno));
		}
	}
	stage->name[0] = '\0';
	return error_set(err, EBUSY, "too many imports at once");
}

int image_stage_begin(int state_fd, struct image_stage *ret, struct error *err)
{
	struct image_stage stage = IMAGE_STAGE_EMPTY;

	if (image_store_open(state_fd, &stage.images_fd, err) < 0)
		return -err->code;
	if (remove_abandoned(stage.images_fd, err) < 0 || make_stage(&stage, err) < 0 ||
	    fd_open_dir_at(stage.fd, "rootfs", true, 0755, &stage.rootfs_fd, err) < 0) {
		image_stage_end(&stage);
		return error_wrap(err, "images");
	}
	*ret = stage;
	return 0;
}

int image_stage_commit(struct image_stage *stage, const struct image *image, struct error *err)
{
	if (image_json_write(stage->fd, image, err) < 0)
		return -err->code;
	if (syncfs(stage->fd) < 0)
		return error_set(err, errno, "write to the disk: %s", strerror(errno));
	if (renameat2(stage->images_fd, stage->name, stage->images_fd, image->name,
		      RENAME_NOREPLACE) < 0)
		return error_set(err, errno, "give it its name: %s", strerror(errno));
	stage->name[0] = '\0';
	if (fsync(stage->images_fd) < 0)
		return error_set(err, errno, "write to the disk: %s", strerror(errno));
	return 0;
}

void image_stage_end(struct image_stage *stage)
{
	struct error ignored;

	fd_close(&stage->rootfs_fd);
	if (stage->name[0])	/* what can't be removed now, the next stage removes */
		(void)fd_remove_tree_at(stage->images_fd, stage->name, &ignored);
	fd_close(&stage->fd);
	fd_close(&stage->images_fd);
}

/* The name goes first: nobody sees an image that is half there. */
int image_remove(int state_fd, const char *name, struct error *err)
{
	CLEANUP(fd_closep) int images_fd = -EBADF;
	CLEANUP(fd_closep) int lock_fd = -EBADF;
	char tmp[sizeof(PREFIX) + 160];

	if (image_check_name(name, err) < 0 || image_store_open(state_fd, &images_fd, err) < 0)
		return -err->code;
	(void)snprintf(tmp, sizeof(tmp), PREFIX "rm-%d-%s", (int)getpid(), name);
	if (renameat2(images_fd, name, images_fd, tmp, RENAME_NOREPLACE) < 0) {
		if (errno == ENOENT)
			return error_set(err, ENOENT, "no image %s: godwit image ls lists what there is",
					 name);
		return error_set(err, errno, "remove image %s: %s", name, strerror(errno));
	}
	if (!lock(images_fd, tmp, &lock_fd))	/* somebody removes it already */
		return 0;
	if (fd_remove_tree_at(images_fd, tmp, err) < 0)
		return error_wrap(err, "remove image %s", name);
	return 0;
}

/*
 * image_store.h - how an image appears and disappears in one step
 *
 *   CLEANUP(image_stage_end) struct image_stage stage = IMAGE_STAGE_EMPTY;
 *   image_stage_begin(state_fd, &stage, err);
 *   ... fill stage.rootfs_fd ...
 *   image_stage_commit(&stage, image, err);
 *
 * A stage is a folder images/.tmp-*, locked (flock(2)) as long as its maker
 * lives; what nobody holds a lock on was left by a crash, and is removed by
 * the next stage. The folder images is for root alone: an image holds programs
 * with setuid bits.
 */
#pragma once

#include "engine/image/image.h"

struct image_stage {
	int images_fd;
	int fd;				/* holds the lock */
	int rootfs_fd;
	char name[32];			/* empty when committed */
};

#define IMAGE_STAGE_EMPTY { .images_fd = -EBADF, .fd = -EBADF, .rootfs_fd = -EBADF }

/* Opens STATE/images, made if need be. */
int image_store_open(int state_fd, int *ret_fd, struct error *err);

int image_stage_begin(int state_fd, struct image_stage *ret, struct error *err);

/* Writes image.json, brings everything to the disk and gives the image its
 * name. -EEXIST when it is taken. */
int image_stage_commit(struct image_stage *stage, const struct image *image, struct error *err);

/* Removes what isn't committed. */
void image_stage_end(struct image_stage *stage);

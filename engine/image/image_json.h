/*
 * image_json.h - image.json, the description beside the rootfs of an image
 */
#pragma once

#include "engine/image/image.h"

/* image_fd (borrowed) is the folder of the image. What is read is checked;
 * -EBADMSG when it can't be right. */
int image_json_read(int image_fd, const char *name, struct image **ret, struct error *err);

/* Not brought to the disk: image_stage_commit does that for everything. */
int image_json_write(int image_fd, const struct image *image, struct error *err);

/* An image of which nothing is known but the name. */
int image_new(const char *name, struct image **ret, struct error *err);

/* Whether text could be what tree_digest makes. */
bool image_json_is_digest(const char *text);

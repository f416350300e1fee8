/*
 * workdir.h - a folder in memory that nobody has to clean up
 *
 * A tmpfs that is mounted nowhere (fsopen(2), fsmount(2)): it is reached by
 * its descriptor alone and is gone with the last one. CRIU's images live there
 * between dump and restore, so there is no copy on disk.
 *
 *   images/   CRIU's
 */
#pragma once

#include "engine/base/error.h"

int workdir_create(int *ret_fd, struct error *err);

/* Makes and opens a folder of it: "images". */
int workdir_open(int workdir_fd, const char *path, int *ret_fd, struct error *err);

/* A folder and the files in it become those of the container's root, when it has ids of its own:
 * CRIU's tasks read images as that. */
struct userns;
int workdir_give(int dir_fd, const struct userns *u, struct error *err);

/* Copies workdir/path (a log of CRIU) to STATE/logs/NAME-base(path) and says so
 * behind *err's message. */
struct container;
void workdir_keep_log(int dir_fd, const char *path, const struct container *c, struct error *err);

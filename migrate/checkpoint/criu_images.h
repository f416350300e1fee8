/*
 * criu_images.h - a complete set of CRIU's images, for CRIU itself
 *
 * CRIU dumped no page of the memory that the page store has. Here both are put
 * together again: pagemap-PID.img, pagemap-shmem-ID.img and pages-N.img with all
 * pages, the other images as they are. What comes out is what CRIU would have written by itself, so
 * `criu restore` and crit take it.
 */
#pragma once

#include "engine/spec.h"
#include "migrate/manifest.h"
#include "migrate/memory/shared_store.h"
#include "migrate/memory/store.h"

/* images_fd (borrowed) has CRIU's images as they were dumped, the sealed store the
 * pages, also those of shared objects; to_fd (borrowed) is an empty directory. */
int criu_images_write(int images_fd, const struct store *pages, const struct shared_store *shared, int to_fd,
		      struct error *err);

#define CRIU_IMAGES_SCRIPT "restore.sh"

/* Writes the command line that restores them into to_fd (borrowed), as a shell
 * script that says what it needs. */
int criu_images_write_script(const struct spec *spec, const struct manifest *m, int to_fd, struct error *err);

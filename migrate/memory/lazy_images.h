/*
 * lazy_images.h - CRIU's images of a container whose memory is in a page store
 *
 * CRIU dumped no page of the carried ranges; here its pagemap images learn of
 * the pages that the store has, as lazy ones, so that a lazy restore asks for
 * them. criu-glue/pagemap.h has the format. Pages of locked memory CRIU wants at once
 * (criu-glue/mappings.h): they leave the store and go into pages-N.img.
 */
#pragma once

#include "engine/base/error.h"
#include "migrate/memory/store.h"

/* Rewrites every pagemap-PID.img in the directory (borrowed): what the sealed store has of that
 * address space is lazy, and nothing else, as a lazy restore would leave CRIU's own pages out
 * (CRIU calls them lazy as well), also of a process of which the store has nothing. -EPROTO
 * when the store has a process that the images don't have. */
int lazy_images_rewrite(int images_fd, struct store *s, struct error *err);

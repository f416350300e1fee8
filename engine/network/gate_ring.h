/*
 * gate_ring.h - reads a BPF ring buffer
 *
 * The kernel's side of the layout is in Documentation/bpf/ringbuf.rst: a page
 * with the reader's position, a page with the writers', then the data, mapped
 * twice in a row, so that no record is ever cut in two. One reader only.
 */
#pragma once

#include <stddef.h>

#include "engine/base/cleanup.h"
#include "engine/base/error.h"

struct gate_ring;

/* Called for each record, which is borrowed. Other than 0 ends the taking; with a positive
 * number the record stays. */
typedef int gate_ring_visit(const void *record, size_t size, void *data);

/* map_fd is borrowed and not needed after this. bytes is the map's size. */
int gate_ring_open(int map_fd, size_t bytes, struct gate_ring **ret, struct error *err);
void gate_ring_free(struct gate_ring *ring);
DEFINE_CLEANUP(struct gate_ring *, gate_ring_free)

/* Visits what is there, oldest first, and gives its room back. Returns what visit
 * returned if that was not 0; 1 when the next record is still being written. */
int gate_ring_take(struct gate_ring *ring, gate_ring_visit *visit, void *data);

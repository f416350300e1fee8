/*
 * reservation.h - what containers on their way here will still take
 *
 * Until it has arrived, a container's folder holds a file "reservation" with
 * what it needs. It counts as long as the container is incoming and the
 * process that its state.json names, the receiver or the new monitor, lives:
 * whoever is killed holds nothing any more. Name and address are reserved by
 * the folder itself. All of it under node_lock.
 */
#pragma once

#include "engine/container.h"

struct reservation {
	uint64_t memory_bytes, disk_bytes, tasks;
	uint64_t containers;		/* of a sum: how many count */
};

/* Makes it, or says what is left of it. */
int reservation_write(const struct container *c, const struct reservation *r, struct error *err);

/* The sum of those that count, without that of except (may be NULL). */
int reservation_sum(const struct node *node, const char *except, struct reservation *ret, struct error *err);

/*
 * userns.h - user namespaces: which ids of the host the ids inside stand for
 *
 *   int user = -EBADF, net = -EBADF;
 *   r = userns_create(&maps, &user, &net, err);
 *   ... in a child ...
 *   r = userns_enter(user, err);
 *
 * Ids of the host are those of the engine's own user namespace. user_namespaces(7).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "engine/base/error.h"

#define ID_RANGES_MAX 340		/* of the kernel, for each of the two maps */
#define ID_NONE UINT32_MAX		/* no id; (uid_t)-1 */

struct id_range {
	uint32_t container_id, host_id, size;
};

struct id_map {
	struct id_range ranges[ID_RANGES_MAX];
	size_t n;
};

/* No ranges: the container has the user namespace of the engine. */
struct userns {
	struct id_map uids, gids;
};

bool userns_is_own(const struct userns *u);

/* One more. -EINVAL: empty, beyond 32 bits, or overlapping one that is there, inside or on
 * the host; -E2BIG. */
int id_map_add(struct id_map *map, uint64_t container_id, uint64_t host_id, uint64_t size, struct error *err);

/* What an id inside is on the host; ID_NONE: nothing. A map without ranges changes nothing. */
uint32_t id_map_host(const struct id_map *map, uint32_t id);
/* The other way. */
uint32_t id_map_container(const struct id_map *map, uint32_t host_id);

/* -EINVAL unless both maps have ranges, and id 0, or none has. */
int userns_check(const struct userns *u, struct error *err);

/* A new one that nobody is in, and (NULL: not) a network namespace that belongs to it. */
int userns_create(const struct userns *u, int *ret_user_fd, int *ret_net_fd, struct error *err);

/* Writes the maps of a process that has just made a user namespace. */
int userns_write_maps(const struct userns *u, pid_t pid, struct error *err);

/* Joins it and becomes its root, so that what is made afterwards belongs to it. */
int userns_enter(int user_fd, struct error *err);
/* The second half, for those who have joined already. */
int userns_take_root(struct error *err);

/* In a child that mounts for a container: has the ids of its root, and the rights of the
 * host's root, so that what it makes belongs to the container. */
int userns_work_for(const struct userns *u, struct error *err);

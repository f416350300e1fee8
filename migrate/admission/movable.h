/*
 * movable.h - what of a container can't move, found before anything starts
 *
 * Reads /proc of its processes while they run: namespaces, debuggers, sessions
 * of exec, descriptors (movable_files.c, movable_sockets.c). What is seen twice
 * counts, so that what merely comes and goes is no reason. CRIU has the last
 * word, at the freeze: what a program opens after the look, it finds.
 */
#pragma once

#include "engine/container.h"
#include "migrate/admission/reasons.h"

/* s is the container's state now. Adds to ret, which may hold reasons already;
 * a negative return only when it can't be looked at. */
int movable_check(const struct container *c, const struct container_state *s, struct reasons *ret,
		  struct error *err);

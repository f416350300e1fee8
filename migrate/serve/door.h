/*
 * door.h - how a connection reaches the process that it is for
 *
 * The daemon has a process for each connection (server.h). One that joins a
 * migration under way is for the process of that migration, which listens for it
 * at a socket in the container's folder. Whoever knocks gives it a descriptor,
 * or with none only says that somebody was there.
 */
#pragma once

#include "engine/base/error.h"

/* Listens at this name in the folder (borrowed); the socket does not block. */
int door_open(int dir_fd, const char *name, int *ret_fd, struct error *err);

/* fd_ref may hold -EBADF. */
void door_close(int dir_fd, const char *name, int *fd_ref);

/* Who has knocked: *ret_caller is the connection to them, *ret_passed what they have
 * given, or -EBADF; both owned. -EAGAIN when nobody is there. */
int door_answer(int door_fd, int *ret_caller, int *ret_passed, struct error *err);

/* Goes to the door: *ret_fd, owned, is where passed_fd (borrowed) may be given. */
int door_reach(int dir_fd, const char *name, int *ret_fd, struct error *err);
int door_pass(int fd, int passed_fd, struct error *err);

/* Both. Gives passed_fd (borrowed; -EBADF: nothing). *ret_caller, owned, becomes readable
 * when whoever opened has let go of it; NULL to hang up at once. -ENOENT and
 * -ECONNREFUSED when nobody listens. */
int door_knock(int dir_fd, const char *name, int passed_fd, int *ret_caller, struct error *err);

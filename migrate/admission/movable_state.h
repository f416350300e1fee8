/*
 * movable_state.h - the inside of a look at a container, shared by movable*.c
 */
#pragma once

#include "migrate/admission/movable.h"

#define MOVABLE_FINDINGS_MAX 48

/* One reason, whoever else has the same. */
struct finding {
	enum reason code;
	char what[160];			/* "a perf event" */
	pid_t pid;
	int fd;				/* -1: not about a descriptor */
};

struct mounted {
	int id;
	unsigned major, minor;
	char type[24];
};

/* A process; tasks of exec sessions are outside. */
struct moving_task {
	pid_t pid, parent, session, foreground;
	bool inside;
	bool holds_tty;			/* has /dev/tty itself open */
};

/* An open end of a pipe. */
struct pipe_end {
	uint64_t inode;
	pid_t pid;
	int fd;
	bool reads, writes;
};

/* A local socket that a task has. */
struct unix_end {
	uint64_t inode;
	pid_t pid;
	int fd;
};

struct look {
	const struct container *container;
	pid_t init, monitor;
	struct moving_task *tasks;
	size_t n_tasks;
	struct mounted *mounts;
	size_t n_mounts;
	struct pipe_end *pipes;
	size_t n_pipes;
	struct unix_end *unixes;
	size_t n_unixes;
	bool in_flight;			/* descriptors wait in a local socket to be received */
	int diag;			/* a netlink socket in its network namespace */
	uint64_t netns_cookie;
	struct finding findings[MOVABLE_FINDINGS_MAX];
	size_t n_findings;
};

/* Once for each code and what. */
void look_find(struct look *l, enum reason code, pid_t pid, int fd, const char *fmt, ...)
	__attribute__((format(printf, 5, 6)));

/* movable_files.c: the descriptors of one task; then what only all together tell. */
int look_read_mounts(struct look *l, struct error *err);
void look_at_files(struct look *l, struct moving_task *t);
void look_at_pipes(struct look *l);

/* movable_sockets.c */
int look_open_diag(struct look *l, struct error *err);
void look_at_socket(struct look *l, const struct moving_task *t, int pidfd, int fd, uint64_t inode);
void look_at_peers(struct look *l);
void look_at_queues(struct look *l);

/* Grows an array of *n elements of size bytes by one, zeroed; NULL without memory. */
void *look_grow(void **list, size_t *n, size_t size);

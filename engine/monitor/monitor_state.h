/*
 * monitor_state.h - the inside of a monitor, shared by monitor.c (birth and
 * end) and monitor_loop.c (what happens in between)
 */
#pragma once

#include "engine/monitor/monitor.h"
#include "engine/monitor/output.h"

#define MONITOR_CLIENTS_MAX 64

struct client {
	int fd;
	bool attached;			/* gets OUTPUT */
	bool waiting;			/* gets the exit code */
	bool mover;			/* may have armed a gate */
	bool settling;			/* gets SETTLED when the guard is through */
	bool feeds;			/* sends STDIN */
	bool cancelling;		/* gets CANCEL when the mover has let go */
	char *pending;			/* OUTPUT that its socket did not take yet */
	size_t pending_len;
};

/* Who froze the container; ended by THAW, by DISCARD, or by the death of the
 * client and of the tracer. */
struct lease {
	bool active;
	bool was_paused;		/* stays frozen afterwards */
	int client_fd;			/* one of clients[].fd, -EBADF: it went away */
	int tracer_fd;			/* pidfd, owned; -EBADF: none */
};

struct monitor {
	struct monitor_setup setup;
	int listen_fd, signal_fd;
	int pipes[3];			/* our ends: [0] written, [1] and [2] read */
	uint64_t pipe_inodes[3];
	int terminal_fd;
	char *input;			/* for stdin, not taken yet; see monitor_input.c */
	size_t input_len;
	struct output output;
	pid_t pid;
	int pidfd;			/* of an init that is no child of ours, as another monitor has
					   started it; -EBADF: it is one */
	struct container_state state;
	bool unwritten;			/* state.json does not say so yet: the disk is full */
	struct client clients[MONITOR_CLIENTS_MAX];
	size_t n_clients;
	struct lease lease;
	bool done, discarded;
	pid_t check_pid;		/* of a health check; 0: none is under way */
	uint64_t check_at_us;		/* clock_us of the next one */
	uint32_t tries;			/* restart.h */
	int wait_status;
	int end_code;			/* of the clean-up, with end_error */
	struct error end_error;
};

/* Runs until the container has exited or was discarded. */
void monitor_loop(struct monitor *m);

/* Reads what is left in the pipes without waiting. */
void monitor_drain(struct monitor *m);

/* Tells WAITing clients; ATTACHed ones learn it by the end of the stream. */
void monitor_tell_exit(struct monitor *m);

/* Input for the container; none of it is its end. */
void monitor_input_put(struct monitor *m, const char *data, size_t len);

/* Writes what waits, as far as it is taken. */
void monitor_input_flush(struct monitor *m);

/* The descriptor to poll for POLLOUT; -EBADF: nothing waits. */
int monitor_input_waits_for(struct monitor *m);

/* text and value may be NULL. */
void monitor_answer(int fd, uint32_t op, int code, const char *text);
void monitor_reply(int fd, uint32_t op, int code, const uint64_t value[4], const char *text);
void monitor_reply_result(int fd, uint32_t op, int r, const struct error *err);

void monitor_write_state(struct monitor *m);
void monitor_set_status(struct monitor *m, enum container_status s);
int monitor_gate(const struct monitor *m, enum network_gate g, struct error *err);

/* A decision is on disk: only the migration may take it back. */
bool monitor_is_decided(const struct monitor *m);

/* monitor_lease.c: the requests about freezing, and what follows when nobody is there
 * any more who made them. */
void monitor_freeze(struct monitor *m, struct client *c, const struct monitor_message *q);
void monitor_tracer(struct monitor *m, struct client *c, const struct monitor_message *q, int *fd);
void monitor_thaw(struct monitor *m, struct client *c, const struct monitor_message *q);
void monitor_lease_expire(struct monitor *m);

/* monitor_health.c. Checks rest while somebody moves or saves the container. */
void monitor_health_begin(struct monitor *m);
void monitor_health_turn(struct monitor *m);
bool monitor_health_reaped(struct monitor *m, pid_t pid, int status);
int monitor_health_pause(struct monitor *m, struct error *err);
uint64_t monitor_health_due_us(const struct monitor *m);	/* UINT64_MAX: none */

/* Between two lives: answers who connects, until until_us (clock_us). False: a person
 * has said that it shall not begin again. */
bool monitor_wait_restart(struct monitor *m, uint64_t until_us);

/* A request to cancel; and its answer, as soon as there is one. */
void monitor_cancel(struct monitor *m, struct client *c);
void monitor_cancel_settle(struct monitor *m);

int monitor_add_client(struct monitor *m, int fd_consumed);

/* Makes monitor.sock, in place of one that is there. */
int monitor_listen(struct monitor *m, struct error *err);

/* monitor_adopt.c: instead of a start, for what runs already; and that its init has ended. */
int monitor_take_over(struct monitor *m, struct error *err);
void monitor_lose_init(struct monitor *m);

/*
 * container.h - a container's folder and the records in it
 *
 *   STATE/containers/NAME/
 *     config.json   what it is (spec.h); only container_rewrite changes it
 *     state.json    what it does now; written by its monitor, replaced durably
 *     handover.json a migration's decision (migrate/handover.h); its presence
 *                   means that nobody but the migration may thaw the container
 *     token         it came by a migration and is not on disk for sure (migrate/protocol.h)
 *     filling       its memory is not complete (monitor.h)
 *     meta/         what moves with it: log, its output (output.h)
 *     monitor.sock  where its monitor listens (monitor.h)
 *     lock          flock(2): one operation at a time
 *     upper, work, merged   overlay; merged is mounted only in the monitor's
 *                   and the container's own mount namespaces
 *
 * What state.json says is checked against the kernel by container_state: the
 * boot id, the pid's start time, cgroup.events. So the truth is told also
 * after a reboot or when a monitor was killed.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "engine/base/cleanup.h"
#include "engine/base/error.h"
#include "engine/cgroup/cgroup.h"
#include "engine/monitor/health.h"
#include "engine/node.h"
#include "engine/spec.h"

#define CONTAINER_MARK "token"

enum container_status {
	CONTAINER_CREATED,	/* folder made, nothing started yet */
	CONTAINER_RUNNING,
	CONTAINER_PAUSED,	/* running, frozen by pause */
	CONTAINER_MIGRATING,	/* running, frozen by a checkpoint or migration */
	CONTAINER_IN_DOUBT,	/* frozen, or dead: a migration is decided but not confirmed */
	CONTAINER_INCOMING,	/* being received; not ours until committed */
	CONTAINER_RESTARTING,	/* has ended; its monitor will start it again */
	CONTAINER_EXITED,
	CONTAINER_STATUS_MAX_,
};

struct container_state {
	enum container_status status;
	pid_t pid;			/* init, as the host sees it; 0: none */
	uint64_t pid_start;		/* field 22 of /proc/PID/stat: tells reuse */
	pid_t monitor_pid;
	uint64_t monitor_start;
	bool alive, monitor_alive;	/* found out, not stored: its first process is there, its monitor */
	bool was_paused;		/* while MIGRATING: before */
	bool abandoned;			/* found out: PAUSED by an operation, whose end no monitor can undo */
	char boot_id[40];
	int exit_code;			/* 0-255, 128+n: signal n; -1: unknown */
	uint64_t started_us, finished_us;	/* real time; 0: not yet */
	uint32_t migrations;		/* how often it has moved */
	uint32_t oom_kills;		/* processes of it that the kernel has killed for their memory,
					   since it was started; while it runs: cgroup_usage has more */
	uint32_t restarts;		/* how often its policy has started it again */
	bool stopped;			/* ended by a person: its policy leaves it alone */
	struct health health;
	uint64_t stdio[3];		/* inodes of the pipes to its monitor; 0: none */
	char reason[256];		/* why it exited, when there is more to say */
};

struct container {
	const struct node *node;	/* borrowed, outlives it */
	char name[SPEC_NAME_MAX + 1];
	int dir_fd;
	int lock_fd;			/* -EBADF while not locked */
	struct spec *spec;		/* NULL until loaded or given */
};

void container_free(struct container *c);
DEFINE_CLEANUP(struct container *, container_free)

/* Makes the folder with config.json and a first state.json (status given);
 * takes over spec on success only. -EEXIST when the name is taken. The
 * container comes back locked. */
int container_create(const struct node *node, struct spec *spec, enum container_status status,
		     struct container **ret, struct error *err);

/* -ENOENT: no such container. */
int container_open(const struct node *node, const char *name, struct container **ret,
		   struct error *err);

/* Reads config.json again, for another process may have changed it. */
int container_reload(struct container *c, struct error *err);

/* Writes its spec, which the caller has changed, to config.json. Locked. */
int container_rewrite(const struct container *c, struct error *err);

/* Makes this process the only one that operates on it. -EBUSY when another
 * one does and wait is false; with wait it blocks. What one that was killed
 * did not finish to write goes; and when the monitor was killed, too, it goes on
 * if that one had frozen or slowed it, and gets a new one (monitor_adopt). The
 * caller is single-threaded. */
int container_lock(struct container *c, bool wait, struct error *err);
void container_unlock(struct container *c);

/* The truth now, see above. */
int container_state(const struct container *c, struct container_state *ret, struct error *err);
int container_state_write(const struct container *c, const struct container_state *state,
			  struct error *err);
const char *container_status_name(enum container_status s);
/* It has ended because the kernel killed it for its memory. */
bool container_state_is_oom(const struct container_state *s);
/* True for the states in which a process of it exists. */
bool container_status_is_live(enum container_status s);
/* For these, and while it waits to be started again. */
bool container_status_is_active(enum container_status s);

int container_cgroup(const struct container *c, bool create, struct cgroup **ret,
		     struct error *err);

/* The name of the host's end of its interface: "gw" and 12 hex digits that
 * depend on the state directory and the container's name. */
void container_host_ifname(const struct container *c, char ret[IFNAMSIZ]);

/* The spec's, with what is this node's filled in. */
void container_endpoint(const struct container *c, struct network_endpoint *ret);

/* What its monitor, which is dead, would do when it goes on: network_resume. init is its pid. */
int container_reconnect(const struct container *c, pid_t init, struct error *err);

/* The name of what stands in its place for a while when it has left (network_stand_in):
 * the same with "gf". */
void container_stand_in_ifname(const struct container *c, char ret[IFNAMSIZ]);

/* The limits of its config.json again, whatever a migration has set. */
int container_unthrottle(const struct container *c, struct error *err);

/* Tells the network where it is, once more; its gate stays as it is. */
int container_announce(const struct container *c, pid_t init, struct error *err);

/* Kills what is left of it, removes its interface, published ports, cgroup and, when keep is
 * false, its folder. For containers whose monitor is gone or that have exited;
 * what is gone already is no error. */
int container_clean(const struct container *c, bool keep_folder, struct error *err);

/* Takes the name away at once (by a rename) and then the folder: a folder that
 * can be seen under its name is whole. Leftovers go too. */
int container_remove_folder(const struct container *c, struct error *err);

/* Removes from a directory what processes that were killed did not finish to write
 * (fd_replace_file_at's temporary files). */
void container_remove_temporary_at(int dirfd);

/* Removes what is left of folders whose creator or remover was killed over it. */
void container_remove_leftovers(const struct node *node);

/* Names of all containers, sorted; free each and the array. */
int container_list(const struct node *node, char ***ret, size_t *ret_n, struct error *err);

/* Start time of a process in clock ticks since boot; 0 when there is none, or
 * only what is left of it until its parent looks (a zombie). */
uint64_t container_pid_start(pid_t pid);

/* A debugger has it, or CRIU. */
bool container_is_traced(pid_t pid);

/* Which start of the machine this is: another one killed every process. */
void container_boot_id(char ret[40]);

/* Fills boot_id, and pid and monitor with their start times. */
void container_state_stamp(struct container_state *s, pid_t pid, pid_t monitor);

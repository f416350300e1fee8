/*
 * fault.h - named places where a test can make things go wrong
 *
 * A program that was built with GODWIT_FAULTS (CMake; on unless it is switched
 * off) passes fault points: before and after whatever must hold when the
 * process, its peer or its disk fails just there. Unless faults are set a point
 * is one test of a flag. They are set by fault_init, from the environment:
 *
 *	GODWIT_FAULT=FAULT[,FAULT]...	or	GODWIT_FAULT=@FILE
 *	FAULT = POINT[@ROLE]:ACTION[=ARGUMENT][:MARKER]
 *
 * FILE is read anew at each point, so that a test can reach processes that have
 * been there for long. ROLE: only in this kind of process, see fault_role.
 * MARKER is a path; the fault happens to whoever creates that file, that is,
 * once, and the file says who it was ("PID ROLE POINT").
 *
 *	die		the process kills itself (SIGKILL)
 *	hang		it stops here for good
 *	wait		it stops here until there is a file MARKER.go
 *	fail=ERRNO	what comes next fails, for example with ENOSPC
 *	reset		its connection to the peer is reset
 *	drop		its connection is silently dead: what comes in is dropped
 *	corrupt		a byte of what it sends next is flipped
 *	kill-criu	the CRIU that it has started is killed
 *	trace		"MICROSECONDS PID ROLE POINT" is appended to MARKER; POINT may be *, any
 *	value=NUMBER	instead of the usual one (fault_value)
 *
 * The points are listed in fault_table.c; those that are made from a name and
 * a row of another table (stages, messages, CRIU's notifications) are put
 * together in migrate/fault_list.c. 'godwit fault-points' prints all of them.
 */
#pragma once

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/error.h"

struct fault_name {
	const char *name;
	const char *roles;		/* of processes that pass it: "restore", "command,receive" */
	bool fails;			/* fail=ERRNO has an effect here */
};

/* What fault_value is asked for. */
struct fault_value {
	const char *name;
	const char *roles;
};

/* Both end with a name that is NULL. */
extern const struct fault_name fault_table[];
extern const struct fault_value fault_values[];

/* Files of a container that fd_replace_file_at writes, and what it does to each,
 * for points named FILE-STEP. "record" is any whose name begins with a dot: a
 * token's, before it is linked. Both end with a NULL. */
struct fault_file {
	const char *name;
	const char *roles;
	bool durable;
};
extern const struct fault_file fault_files[];

struct fault_file_step {
	const char *name;
	bool fails;
	bool durable;			/* of durable files only */
};
extern const struct fault_file_step fault_file_steps[];

#ifdef GODWIT_FAULTS

/* Set once, before there is a second thread or process. */
extern bool fault_armed;

/* text may be NULL: no faults. -EINVAL tells what of it makes no sense; points
 * that do not exist are not found out here. */
int fault_init(const char *text, struct error *err);

/* What this process is from now on: command (at first), resolve, serve, receive
 * (a connection of serve), announce, restore (the monitor of a container that arrives),
 * monitor, filler, forward. A connection is forgotten. */
void fault_role(const char *role);

/* The socket that "reset" and "drop" mean. */
void fault_connection(int fd);

/* The part after the '-' may be NULL. */
int fault_hit(const char *name, const char *part, struct error *err);
bool fault_take_corrupt(void);
uint64_t fault_look_up_value(const char *name, uint64_t usual);

#else

#define fault_armed false
static inline int fault_init(const char *text, struct error *err)
{
	return text ? error_set(err, ENOTSUP, "GODWIT_FAULT is set, but godwit was built without fault points") : 0;
}
static inline void fault_role(const char *role) { (void)role; }
static inline void fault_connection(int fd) { (void)fd; }
static inline int fault_hit(const char *name, const char *part, struct error *err)
{
	(void)name;
	(void)part;
	(void)err;
	return 0;
}
static inline bool fault_take_corrupt(void) { return false; }
static inline uint64_t fault_look_up_value(const char *name, uint64_t usual)
{
	(void)name;
	return usual;
}

#endif

/* A point that can fail: 0, or what fail= says. */
static inline int fault_point(const char *name, struct error *err)
{
	return fault_armed ? fault_hit(name, NULL, err) : 0;
}

/* A point where nothing can fail, or after it was done. */
static inline void fault_pass(const char *name)
{
	struct error ignored;

	if (fault_armed)
		(void)fault_hit(name, NULL, &ignored);
}

/* The same for the point NAME-PART. */
static inline int fault_point_of(const char *name, const char *part, struct error *err)
{
	return fault_armed ? fault_hit(name, part, err) : 0;
}

static inline void fault_pass_of(const char *name, const char *part)
{
	struct error ignored;

	if (fault_armed)
		(void)fault_hit(name, part, &ignored);
}

/* True once after "corrupt" has happened. */
static inline bool fault_corrupts(void)
{
	return fault_armed && fault_take_corrupt();
}

/* What value= says, else the usual one. */
static inline uint64_t fault_value(const char *name, uint64_t usual)
{
	return fault_armed ? fault_look_up_value(name, usual) : usual;
}

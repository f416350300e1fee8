/*
 * world.h - two machines, their disks, processes and the network between, small
 * enough to be explored whole
 *
 * A world is everything that matters to migrate/protocol.h, at one moment. Its
 * rules are the program's own table, or a mutant of it; what an action does to
 * the disks is written in world_actions.c. Everything that may happen next is
 * in world.c: a process does its next action or dies, a machine loses power or
 * comes back, a message arrives (and stays, so it may arrive again, later, in
 * any order) or is lost.
 *
 * What is on a disk has two values: what processes see, and what a loss of
 * power leaves. A durable action changes the first, and then makes both equal;
 * between, or where nobody cares for durability, a loss of power leaves either.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "migrate/protocol.h"

enum life { NO_PROCESS, FROZEN, RUNNING };	/* of a copy's processes */

enum record { NO_RECORD, REFUSED, RESUMED, SYNCED, LOST };

/* Messages under way, each at most once: it stays until it is lost. */
enum letter {
	LETTER_RESTORED = 1 << 0, LETTER_COMMIT = 1 << 1, LETTER_QUERY = 1 << 2, LETTER_RELEASE = 1 << 3,
	LETTER_RESUMED = 1 << 4, LETTER_SYNCED = 1 << 5, LETTER_REFUSED = 1 << 6, LETTER_LOST = 1 << 7,
	LETTER_FORGOTTEN = 1 << 8,
};

struct fact {
	uint8_t seen, disk;
};

/* A process; it may be in the middle of a row of the table. */
struct actor {
	uint8_t alive;
	uint8_t rule;			/* number + 1; 0: it waits */
	uint8_t at;			/* which action of it */
	uint8_t half;			/* seen, but not yet on disk */
};

struct world {
	/* the source's machine */
	uint8_t original;		/* enum life */
	struct fact folder, decision, release;	/* the decision lies in the folder */
	struct actor command;
	uint8_t state;			/* the command's */

	/* the target's */
	uint8_t copy;			/* enum life */
	struct fact copy_folder, mark, says_running;	/* mark and state.json lie in the folder */
	struct fact record;		/* enum record */
	uint8_t files;			/* the copy's files are on disk */
	struct actor worker, restorer, answerer, sweeper;

	uint8_t offered;		/* a connection has one OFFER */
	uint8_t copy_ran;		/* ever */
	uint8_t broken;			/* enum broken: what must never be */
	uint8_t padding[3];
	uint16_t letters;
};

enum broken { WHOLE, TWO_COPIES, NO_COPY, REMOVED_TOO_EARLY, KILLED_WHAT_RAN, UNTRUE_ANSWER, BROKEN_MAX_ };
const char *broken_name(enum broken b);

struct rules {
	const struct protocol_rule *rows;
	size_t n;
	bool believes_strangers;	/* a mutant: any node of that name answers */
};

enum step_kind { STEP_WORK, STEP_FAILURE };	/* what happens by itself; what needs bad luck */

/* Called for each world that may be next. */
struct visit {
	void (*found)(struct visit *v, const struct world *next, enum step_kind kind);
	char what[96];			/* how it came to be */
};

struct world world_begin(void);
void world_next(const struct world *w, const struct rules *rules, struct visit *v);

/* The container is in one place, and nobody has anything left to do. */
bool world_is_settled(const struct world *w);

/* The decision is there, or comes back with a loss of power. */
bool world_is_decided(const struct world *w);

/* For world_next: one action, or the half of it that is due. False: it can't be
 * done, and the row ends here. */
bool world_act(struct world *w, struct actor *by, enum protocol_action action, bool *ret_done);

/* Sets broken when w is so. */
void world_judge(struct world *w);

enum protocol_state world_target_state(const struct world *w);

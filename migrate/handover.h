/*
 * handover.h - the source's decision: containers/NAME/handover.json
 *
 * Written durably before COMMIT is sent. From then on only the answer of the
 * target (or an operator) may thaw the container: while the file is there the
 * monitor keeps it frozen, whoever dies.
 */
#pragma once

#include "engine/container.h"
#include "migrate/token.h"

struct handover {
	char token[TOKEN_SIZE];
	char name[SPEC_NAME_MAX + 1];	/* of the container */
	char peer[256];			/* as given to migrate: HOST[:PORT] */
	char node[129];			/* how that node called itself, */
	char node_id[NODE_ID_SIZE];	/* and who it is: only its answer counts */
	uint64_t decided_us;		/* real time */
	bool was_paused;		/* before: then it is not thawed */
};

/* The same record in any folder, durable. */
int handover_save(int dir, const char *file, const struct handover *h, struct error *err);
int handover_load(int dir, const char *file, struct handover *ret, struct error *err);

int handover_write(const struct container *c, const struct handover *h, struct error *err);

/* -ENOENT when nothing was decided. */
int handover_read(const struct container *c, struct handover *ret, struct error *err);

/* -EBUSY when there is a decision, or it can't be known: the container may be another node's,
 * also when it is not alive here any more, and may be neither started nor removed. */
int handover_check_none(const struct container *c, struct error *err);

/* Takes the decision back; durable. */
int handover_remove(const struct container *c, struct error *err);

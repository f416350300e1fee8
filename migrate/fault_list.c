#include <stdio.h>

#include "criu-glue/criu.h"
#include "migrate/fault_list.h"
#include "migrate/protocol.h"
#include "migrate/stage.h"
#include "proto/wire.h"

struct teller {
	void (*tell)(void *ctx, const struct fault_name *point);
	void *ctx;
};

static void tell_of(const struct teller *t, const char *name, const char *part, const char *roles, bool fails)
{
	char full[64];
	const struct fault_name point = { full, roles, fails };

	(void)snprintf(full, sizeof(full), "%s-%s", name, part);
	t->tell(t->ctx, &point);
}

static void tell_stage(const struct teller *t, const char *side, const struct migrate_stage *stage, const char *when,
		       const char *role)
{
	char name[48];
	const struct fault_name point = { name, role, false };

	stage_point_name(side, stage, when, name);
	t->tell(t->ctx, &point);
}

static void tell_stages(const struct teller *t)
{
	for (int row = 0; row < STAGE_MAX_; row++) {
		const struct migrate_stage *s = &migrate_stages[row];

		for (int end = 0; end < 2; end++) {
			if (s->source)
				tell_stage(t, "source", s, end ? "end" : "begin", "command");
			if (s->target)
				tell_stage(t, "target", s, end ? "end" : "begin", "receive");
		}
		if (s->undo_source)
			tell_stage(t, "source", s, "undo", "command");
		if (s->undo_target)
			tell_stage(t, "target", s, "undo", "receive");
	}
}

/* The roles of those whose row it is; NULL: it is not done by protocol_step. */
static const char *roles_of(enum protocol_action action)
{
	static const char *const roles[] = {
		[ACTOR_COMMAND] = "command,settle", [ACTOR_RESTORER] = "restore", [ACTOR_WORKER] = "receive",
		[ACTOR_ANSWERER] = "receive", [ACTOR_SWEEPER] = "receive,serve,settle", [ACTOR_LEASE] = NULL,
	};

	if (action == ACTION_FREEZE || action == ACTION_RESERVE || action == ACTION_RESTORE ||
	    action == ACTION_TELL_RESTORED)
		return NULL;
	for (size_t i = 0; i < protocol_n_rules; i++)
		for (size_t j = 0; j < PROTOCOL_ROW_ACTIONS; j++)
			if (protocol_rules[i].actions[j] == action && roles[protocol_rules[i].by])
				return roles[protocol_rules[i].by];
	return NULL;
}

static void tell_actions(const struct teller *t)
{
	for (int a = ACTION_NONE + 1; a < PROTOCOL_ACTION_MAX_; a++) {
		const char *name = protocol_action_name((enum protocol_action)a);
		const char *roles = roles_of((enum protocol_action)a);

		if (!roles)
			continue;
		tell_of(t, "act", name, roles, true);
		tell_of(t, "acted", name, roles, false);
	}
}

static void tell_messages(const struct teller *t)
{
	for (unsigned type = 1; type < WIRE_TYPE_END; type++) {
		tell_of(t, "send", wire_type_name(type), "command,receive", false);
		if (type == WIRE_DATA)		/* no message */
			continue;
		tell_of(t, "sent", wire_type_name(type), "command,receive", false);
		tell_of(t, "received", wire_type_name(type), "command,receive", false);
	}
}

static void tell_files(const struct teller *t)
{
	for (const struct fault_file *file = fault_files; file->name; file++)
		for (const struct fault_file_step *step = fault_file_steps; step->name; step++)
			if (file->durable || !step->durable)
				tell_of(t, file->name, step->name, file->roles, step->fails);
}

void fault_list(void (*tell)(void *ctx, const struct fault_name *point), void *ctx)
{
	const struct teller t = { tell, ctx };

	tell_stages(&t);
	tell_actions(&t);
	tell_messages(&t);
	for (int stage = 0; criu_stage_name((enum criu_stage)stage); stage++)
		tell_of(&t, "criu", criu_stage_name((enum criu_stage)stage), "command,restore", false);
	tell_files(&t);
	for (const struct fault_name *p = fault_table; p->name; p++)
		tell(ctx, p);
}

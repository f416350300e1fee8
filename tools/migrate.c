#include <string.h>

#include "engine/base/units.h"
#include "migrate/cancel.h"
#include "migrate/channel/compression.h"
#include "migrate/source.h"
#include "tools/check.h"
#include "tools/commands.h"
#include "tools/progress.h"
#include "tools/rounds.h"

/* Exit code: the container is frozen here and may run there. */
#define EXIT_IN_DOUBT 3
/* Exit code: it was to be given up, and is there already or will be. */
#define EXIT_TOO_LATE 4
#define CANCEL_US 60000000

struct migrate_options {
	struct rounds_options rounds;
	const char *compress;
	const char *gate;
	uint64_t settle_us, retry_us, forward_us;
	uint32_t connections;
	bool json, quiet, verify, check, cancel;
};

static const struct migrate_options defaults = { .settle_us = 30000000, .retry_us = 10000000, .connections = 1,
						 .forward_us = 3000000,
						 .rounds = ROUNDS_DEFAULTS };

static const struct option_row rows[] = {
	OPTION(0, "compress", TEXT, "LEVEL", struct migrate_options, compress,
	       "zstd level, 'none', or 'auto': what the link is worth [auto]"),
	OPTION(0, "max-downtime", DURATION, "TIME", struct migrate_options, rounds.max_downtime_us,
	       "freeze when the downtime is predicted to be below this [300ms]"),
	OPTION(0, "max-rounds", COUNT, "N", struct migrate_options, rounds.max_rounds,
	       "rounds of memory before it counts as diverging [30]; 0: any number"),
	OPTION(0, "max-time", DURATION, "TIME", struct migrate_options, rounds.max_time_us,
	       "time for the rounds before it counts as diverging [any]"),
	OPTION(0, "on-diverge", TEXT, "HOW", struct migrate_options, rounds.on_diverge,
	       "when more rounds won't help: 'stop' anyway, 'throttle', or 'abort' [stop]"),
	OPTION(0, "throttle", COUNT, "PCT", struct migrate_options, rounds.throttle_pct,
	       "the least of its processor time that throttling may leave [20]"),
	OPTION(0, "bwlimit", SIZE, "BYTES", struct migrate_options, rounds.bwlimit,
	       "a second, for memory while the container runs; at the freeze there is no limit"),
	OPTION(0, "tracker", TEXT, "KIND", struct migrate_options, rounds.tracker,
	       "how writes are followed: 'userfaultfd', 'soft-dirty', 'none', or 'any': the best [any]"),
	OPTION(0, "verify", FLAG, NULL, struct migrate_options, verify,
	       "compare hashes of all memory and files before the commit; costs downtime"),
	OPTION(0, "connections", COUNT, "N", struct migrate_options, connections,
	       "that memory goes over at once, 1 to 8, each with a thread on either side [1]"),
	OPTION(0, "retry-for", DURATION, "TIME", struct migrate_options, retry_us,
	       "try to come back when the connection is lost while memory is copied [10s]; 0: don't"),
	OPTION(0, "settle", DURATION, "TIME", struct migrate_options, settle_us,
	       "how long to ask a target that fell silent after the decision [30s]"),
	OPTION(0, "check", FLAG, NULL, struct migrate_options, check,
	       "only tell whether it could move, and every reason why not"),
	OPTION(0, "cancel", FLAG, NULL, struct migrate_options, cancel,
	       "give up the migration of NAME that another process has begun"),
	OPTION(0, "forward", DURATION, "TIME", struct migrate_options, forward_us,
	       "how long to send on what still comes here for it afterwards [3s]"),
	OPTION(0, "gate", TEXT, "HOW", struct migrate_options, gate,
	       "frames that come for it while it stands still: 'hold', or 'drop' as without a gate [hold]"),
	OPTION(0, "json", FLAG, NULL, struct migrate_options, json, "print the report as JSON"),
	OPTION('q', "quiet", FLAG, NULL, struct migrate_options, quiet, "no progress"),
	OPTION_END,
};

/* What state it is in now, if there is anything to say. */
static void explain_failure(const struct container *c, const struct source_report *r)
{
	struct container_state st;
	struct error ignored;

	progress_print_reasons(&r->reasons, stderr);
	if (r->state == MIGRATE_IN_DOUBT && r->runs_there)
		fprintf(stderr, "container '%s' runs on %s; the original is kept here, frozen, until that says that "
			"it is on disk there. 'godwit resolve %s' asks again.\n", c->name, r->peer, c->name);
	else if (r->state == MIGRATE_IN_DOUBT)
		fprintf(stderr, "container '%s' is frozen here and in doubt: %s may run it. 'godwit resolve %s' asks "
			"again.\n", c->name, r->peer[0] ? r->peer : "the target", c->name);
	else if (container_state(c, &st, &ignored) == 0 && container_status_is_live(st.status))
		fprintf(stderr, "container '%s' goes on here as before\n", c->name);
}

static int report(const struct container *c, const struct source_report *r,
		  const struct migrate_options *o, const volatile sig_atomic_t *cancelled, const struct error *err)
{
	if (o->json)
		progress_print_json(c, r, err);
	else if (!err)
		progress_print_report(c, r);
	if (!err && *cancelled)
		fprintf(stderr, "godwit: migrate '%s': too late to give up, it runs on %s\n", c->name, r->peer);
	if (!err)
		return *cancelled ? EXIT_TOO_LATE : EXIT_OK;
	(void)command_fail(err, EXIT_FAILED);
	explain_failure(c, r);
	return r->state == MIGRATE_IN_DOUBT ? EXIT_IN_DOUBT : EXIT_FAILED;
}

static int cancel(const struct node *node, const char *name)
{
	CLEANUP(container_freep) struct container *c = NULL;
	struct container_state st;
	struct error err;
	int r = container_open(node, name, &c, &err);

	if (r == 0)
		r = container_state(c, &st, &err);
	if (r == 0 && !container_status_is_live(st.status))
		r = error_set(&err, ESRCH, "container '%s' is %s: there is nothing to give up", name,
			      container_status_name(st.status));
	if (r == 0)
		r = cancel_operation(c, CANCEL_US, &err);
	if (r == 0)
		printf("given up; container '%s' goes on here\n", name);
	if (r > 0)
		fprintf(stderr, "godwit: migrate --cancel '%s': too late, it is decided that it moves\n", name);
	if (r < 0)
		(void)error_wrap(&err, "migrate --cancel '%s'", name);
	return r < 0 ? command_fail(&err, EXIT_FAILED) : r > 0 ? EXIT_TOO_LATE : EXIT_OK;
}

static int parse_gate(const char *how, bool *ret_drop, struct error *err)
{
	*ret_drop = how && strcmp(how, "drop") == 0;
	return !how || *ret_drop || strcmp(how, "hold") == 0
		       ? 0 : error_set(err, EINVAL, "--gate: '%.20s' is not hold or drop", how);
}

static int migrate_run(const struct invocation *inv)
{
	const struct migrate_options *o = inv->options;
	CLEANUP(container_freep) struct container *c = NULL;
	struct progress progress;
	struct source_report r = { 0 };
	struct source_options options = {
		.host = inv->argv[1], .settle_us = o->settle_us, .retry_us = o->retry_us,
		.forward_us = o->forward_us, .connections = o->connections, .verify = o->verify,
		.rate = o->rounds.bwlimit, .progress = progress_update, .ctx = &progress,
	};
	struct error err;
	int result;

	if (inv->argc != (o->cancel ? 1 : 2))
		return command_usage_error(inv->command, o->cancel ? "migrate --cancel needs NAME" :
					   "migrate needs NAME HOST[:PORT]");
	if (o->cancel)
		return cancel(inv->node, inv->argv[0]);
	if (o->connections < 1 || o->connections > WIRE_CONNECTIONS_MAX)
		return command_usage_error(inv->command, "--connections: %u is not within 1 to %u", o->connections,
					   WIRE_CONNECTIONS_MAX);
	if (compression_parse(o->compress, &options.level, &err) < 0)
		return command_usage_error(inv->command, "--compress: %s", err.msg);
	if (parse_gate(o->gate, &options.drop_frames, &err) < 0)
		return command_usage_error(inv->command, "%s", err.msg);
	if (rounds_parse(&o->rounds, &options.policy, &options.tracker, &err) < 0)
		return command_usage_error(inv->command, "%s", err.msg);
	if (o->check)
		return check_container(inv->node, inv->argv[0], options.host, o->json, rounds_catch_signals());
	if (container_open(inv->node, inv->argv[0], &c, &err) < 0 || container_lock(c, false, &err) < 0)
		return command_fail(&err, EXIT_FAILED);
	options.cancelled = rounds_catch_signals();
	progress_init(&progress, o->quiet);
	result = source_migrate(c, &options, &r, &err);
	progress_end(&progress);
	if (result < 0)
		(void)error_wrap(&err, "migrate '%s' to %s", c->name, options.host);
	result = report(c, &r, o, options.cancelled, result < 0 ? &err : NULL);
	source_report_free(&r);
	return result;
}

const struct command command_migrate = {
	.name = "migrate", .usage = "NAME HOST[:PORT]",
	.summary = "move a running container to another node",
	.notes = "Its memory, open files, connections, file changes and address move; clients see a\n"
		 "pause. On HOST 'godwit serve' must be running. Until the decision a failure, Ctrl-C\n"
		 "or the death of this command leave the container running here.\n\n"
		 "Exit codes: 0 it runs on HOST; 1 it does not, and runs here; 3 in doubt: decided,\n"
		 "but HOST fell silent; the container is frozen here until 'godwit resolve'; 4 it was\n"
		 "to be given up (Ctrl-C, SIGTERM, --cancel) when it was decided already.\n",
	.options = rows, .options_size = sizeof(struct migrate_options), .defaults = &defaults,
	.min_args = 1, .max_args = 2, .run = migrate_run,
};

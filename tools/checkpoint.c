#include "migrate/checkpoint/checkpoint.h"
#include "tools/commands.h"
#include "tools/progress.h"
#include "tools/rounds.h"

struct checkpoint_arguments {
	struct rounds_options rounds;
	bool leave_running, criu_images, json, quiet;
};

static const struct checkpoint_arguments checkpoint_defaults = { .rounds = ROUNDS_DEFAULTS };

static const struct option_row checkpoint_rows[] = {
	OPTION(0, "leave-running", FLAG, NULL, struct checkpoint_arguments, leave_running,
	       "let the container go on afterwards"),
	OPTION(0, "criu-images", FLAG, NULL, struct checkpoint_arguments, criu_images,
	       "also a complete set of CRIU's images, for CRIU alone, in DIR/criu"),
	OPTION(0, "max-downtime", DURATION, "TIME", struct checkpoint_arguments, rounds.max_downtime_us,
	       "freeze when the pause is predicted to be below this [300ms]"),
	OPTION(0, "max-rounds", COUNT, "N", struct checkpoint_arguments, rounds.max_rounds,
	       "rounds of memory before it counts as diverging [30]; 0: any number"),
	OPTION(0, "max-time", DURATION, "TIME", struct checkpoint_arguments, rounds.max_time_us,
	       "time for the rounds before it counts as diverging [any]"),
	OPTION(0, "on-diverge", TEXT, "HOW", struct checkpoint_arguments, rounds.on_diverge,
	       "when more rounds won't help: 'stop' anyway, 'throttle', or 'abort' [stop]"),
	OPTION(0, "throttle", COUNT, "PCT", struct checkpoint_arguments, rounds.throttle_pct,
	       "the least of its processor time that throttling may leave [20]"),
	OPTION(0, "bwlimit", SIZE, "BYTES", struct checkpoint_arguments, rounds.bwlimit,
	       "a second, for memory while the container runs; at the freeze there is no limit"),
	OPTION(0, "tracker", TEXT, "KIND", struct checkpoint_arguments, rounds.tracker,
	       "how writes are followed: 'userfaultfd', 'soft-dirty', 'none', or 'any': the best [any]"),
	OPTION(0, "json", FLAG, NULL, struct checkpoint_arguments, json, "print the report as JSON"),
	OPTION('q', "quiet", FLAG, NULL, struct checkpoint_arguments, quiet, "no progress"),
	OPTION_END,
};

static int report(const struct container *c, const struct checkpoint_options *o,
		  const struct checkpoint_report *r, bool json, const struct error *err)
{
	struct container_state st;
	struct error ignored;

	if (json)
		progress_print_checkpoint_json(c, o, r, err);
	else if (!err)
		progress_print_checkpoint(c, o, r);
	if (!err)
		return EXIT_OK;
	(void)command_fail(err, EXIT_FAILED);
	progress_print_reasons(&r->source.reasons, stderr);
	if (r->source.total_us && container_state(c, &st, &ignored) == 0 && container_status_is_live(st.status))
		fprintf(stderr, "container '%s' goes on as before\n", c->name);
	return EXIT_FAILED;
}

static int checkpoint_run(const struct invocation *inv)
{
	const struct checkpoint_arguments *a = inv->options;
	CLEANUP(container_freep) struct container *c = NULL;
	struct checkpoint_report r = { 0 };
	struct progress progress;
	struct checkpoint_options o = { .dir = inv->argv[1], .leave_running = a->leave_running,
					.criu_images = a->criu_images,
					.rate = a->rounds.bwlimit, .progress = progress_update, .ctx = &progress };
	struct error err;
	int result;

	if (rounds_parse(&a->rounds, &o.policy, &o.tracker, &err) < 0)
		return command_usage_error(inv->command, "%s", err.msg);
	if (container_open(inv->node, inv->argv[0], &c, &err) < 0 || container_lock(c, false, &err) < 0)
		return command_fail(&err, EXIT_FAILED);
	o.cancelled = rounds_catch_signals();
	progress_init(&progress, a->quiet);
	result = checkpoint_save(c, &o, &r, &err);
	progress_end(&progress);
	result = report(c, &o, &r, a->json, result < 0 ? &err : NULL);
	source_report_free(&r.source);
	return result;
}

const struct command command_checkpoint = {
	.name = "checkpoint", .usage = "NAME DIR", .summary = "save a running container into a directory",
	.notes = "DIR must not exist; it appears when all of it is on disk. Memory goes first, in rounds,\n"
		 "while the container runs; then it stands still for what is left. Without\n"
		 "--leave-running it ends when all is on disk. A failure leaves it running, and no DIR.\n",
	.options = checkpoint_rows, .options_size = sizeof(struct checkpoint_arguments),
	.defaults = &checkpoint_defaults, .min_args = 2, .max_args = 2, .run = checkpoint_run,
};

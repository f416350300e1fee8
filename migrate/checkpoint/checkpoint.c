/* The source's half of a checkpoint: checkpoint.h. */
#include <fcntl.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "engine/base/fd.h"
#include "engine/image/tree.h"
#include "engine/monitor/monitor.h"
#include "migrate/checkpoint/checkpoint.h"
#include "migrate/checkpoint/checkpoint_write.h"
#include "migrate/target.h"
#include "proto/block.h"

#define PAST_FILE "checkpoint_downtimes"

struct saving {
	struct source source;		/* first: the stages get a pointer to it */
	const struct checkpoint_options *options;
	struct checkpoint_dir dir;
};

static struct saving *saving_of(struct source *s)
{
	return (struct saving *)s;
}

/* What the images and the log were when it stood still goes on while it runs. */
static int dump(struct source *s, struct error *err)
{
	if (source_dump(s, err) < 0)
		return -err->code;
	if (!saving_of(s)->options->leave_running)
		return 0;
	if (source_go_on(s, err) < 0)
		return -err->code;
	s->report->downtime_us = clock_us() - s->lease.frozen_us;
	source_learn(s);
	source_untrack(s);
	return 0;
}

/* It is there, or it is not: nobody has to be asked. */
static int appear(struct source *s, struct error *err)
{
	const struct message m = { .type = WIRE_COMMIT, .commit.token = s->report->token };
	struct error ignored;

	if (source_check_cancelled(s, err) < 0)
		return -err->code;
	if (checkpoint_dir_appear(&saving_of(s)->dir, err) < 0) {
		err->code = ECANCELED;
		return -ECANCELED;
	}
	(void)channel_send(s->channel, &m, &ignored);
	return 0;
}

/* From here on the checkpoint may be all that there is: it stays. What the kill
 * leaves to do is the monitor's, which hangs up when that is done. */
static int end_original(struct source *s, struct error *err)
{
	struct monitor_message m;
	struct error ignored;

	(void)unlinkat(s->meta, MANIFEST_JSON, 0);
	if (saving_of(s)->options->leave_running)
		return 0;
	(void)monitor_call(s->lease.fd, MONITOR_STOP, -EBADF, &m, &ignored);	/* no policy starts it again */
	if (cgroup_kill(s->cgroup, 10000000, err) < 0)
		return error_wrap(err, "it is complete in %s, but the original does not end",
				  saving_of(s)->options->dir);
	while (monitor_receive(s->lease.fd, &m, &ignored) == 0)
		;
	s->report->downtime_us = clock_us() - s->lease.frozen_us;
	return 0;
}

static const struct migrate_stage stages[STAGE_MAX_] = {
	[STAGE_NEGOTIATE] = { "negotiate", MIGRATE_NEGOTIATE, source_negotiate, checkpoint_write_accept, NULL, NULL },
	[STAGE_PREPARE]   = { "prepare", MIGRATE_PREPARE, source_prepare, checkpoint_write_prepare, NULL, NULL },
	[STAGE_PRECOPY]   = { "precopy", MIGRATE_PRECOPY, source_precopy, target_precopy, source_untrack, NULL },
	[STAGE_DUMP]      = { "dump", MIGRATE_FROZEN, dump, NULL, source_thaw, NULL },
	[STAGE_TRANSFER]  = { "transfer", MIGRATE_FROZEN, source_transfer, target_transfer, NULL, NULL },
	[STAGE_RESTORE]   = { "store", MIGRATE_FROZEN, source_await_restore, checkpoint_write_finish, NULL, NULL },
	[STAGE_COMMIT]    = { "appear", MIGRATE_HANDOVER, appear, checkpoint_write_commit, NULL, NULL },
	[STAGE_RELEASE]   = { "end", MIGRATE_HANDOVER, end_original, NULL, NULL, NULL },
};

static int save(struct saving *saving, struct checkpoint_writer *writer, struct error *err)
{
	struct source *s = &saving->source;
	const struct checkpoint_write_plan plan = { .node = s->container->node, .dir = &saving->dir,
						    .table = stages, .criu_images = saving->options->criu_images };
	int sock = -EBADF, r;

	if (checkpoint_writer_start(&plan, writer, &sock, err) < 0)
		return -err->code;
	r = channel_connected(sock, s->options->cancelled, &s->channel, err);
	if (r == 0)
		r = source_run(s, stages, err);
	return r;
}

static void measure(const struct saving *saving, struct checkpoint_report *report)
{
	struct tree_stats stats = { 0 };
	struct error ignored;

	if (tree_measure(saving->dir.fd, &stats, &ignored) == 0)
		report->bytes = stats.bytes;
}

int checkpoint_save(struct container *c, const struct checkpoint_options *o,
		    struct checkpoint_report *report, struct error *err)
{
	const struct source_options options = { .level = BLOCK_LEVEL_STORE, .policy = o->policy, .tracker = o->tracker,
						.rate = o->rate,
						.whole_trees = true, .past_file = PAST_FILE,
						.cancelled = o->cancelled,
						.progress = o->progress, .ctx = o->ctx };
	CLEANUP(checkpoint_dir_closep) struct checkpoint_dir dir = CHECKPOINT_DIR_EMPTY;
	struct checkpoint_writer writer = CHECKPOINT_WRITER_EMPTY;
	struct saving saving = { .source = { .container = c, .options = &options, .report = &report->source,
					     SOURCE_EMPTY }, .options = o };
	int r;

	*report = (struct checkpoint_report){ 0 };
	if (checkpoint_dir_create(o->dir, &dir, err) < 0)
		return error_wrap(err, "checkpoint '%s'", c->name);
	saving.dir = dir;
	r = save(&saving, &writer, err);
	source_closep(&saving.source);
	r = checkpoint_writer_finish(&writer, r, err);
	if (r < 0)
		checkpoint_dir_discard(&dir);
	if (r == -ENOSPC)
		return error_wrap(err, "checkpoint '%s': there is no room for it in %s", c->name, o->dir);
	if (r < 0)
		return error_wrap(err, "checkpoint '%s'", c->name);
	measure(&saving, report);
	return 0;
}

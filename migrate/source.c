#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "engine/base/fault.h"
#include "engine/base/fd.h"
#include "engine/image/image.h"
#include "migrate/admission/machine.h"
#include "migrate/dump.h"
#include "migrate/network/sockets.h"
#include "migrate/network/unaccepted.h"
#include "migrate/source.h"
#include "migrate/source_rejoin.h"
#include "migrate/tree_ids.h"
#include "migrate/trees.h"
#include "migrate/workdir.h"

#define PEER_ENDS_US 5000000
#define FREEZE_MAX_US 1000000	/* a program that takes longer to stop loses new connections */

int source_check_cancelled(const struct source *s, struct error *err)
{
	return s->options->cancelled && *s->options->cancelled ? error_set(err, ECANCELED, "cancelled") : 0;
}

/* ---- prepare ---- */

static void on_progress(void *ctx, const struct channel_stats *stats)
{
	const struct source *s = ctx;

	if (s->options->progress)
		s->options->progress(s->options->ctx, s->phase, stats);
}

static int send_image(struct source *s, struct error *err)
{
	CLEANUP(fd_closep) int rootfs = -EBADF;

	if (image_rootfs_fd(s->container->node->state_fd, s->container->spec->image, &rootfs, err) < 0)
		return -err->code;
	return trees_send(s->channel, MESSAGE_TREE_IMAGE, "", rootfs, err);
}

int source_prepare(struct source *s, struct error *err)
{
	struct message m = { 0 };

	channel_on_progress(s->channel, on_progress, s);
	if (s->image_wanted && send_image(s, err) < 0)
		return -err->code;
	trees_warm_up();		/* while the target prepares */
	if (channel_receive(s->channel, WIRE_PREPARED, &m, err) < 0)
		return -err->code;
	message_free(&m);
	return source_rejoin_begin(s, err);
}

/* ---- dump ---- */

struct mounted {
	const struct source *source;
	const char *mount_point;
};

static bool went_with_memory(void *ctx, const char *path, int fd)
{
	const struct mounted *m = ctx;
	char full[WIRE_PATH_MAX + 1];

	return snprintf(full, sizeof(full), "%s/%s", m->mount_point, path) < (int)sizeof(full) &&
	       memory_has_sent(m->source->memory, full, fd);
}

static int send_tmpfs(struct source *s, const struct manifest *m, struct error *err)
{
	for (size_t i = 0; m->tmpfs[i]; i++) {
		CLEANUP(fd_closep) int fd = -EBADF;
		struct mounted mounted = { s, m->tmpfs[i] };
		const struct tree_contents contents = { .away = went_with_memory, .ctx = &mounted,
							.translate = tree_ids_to_inside,
							.ids = &s->container->spec->userns };

		if (dump_open_inside(s->state.pid, m->tmpfs[i], &fd, err) < 0 ||
		    trees_send_contents(s->channel, MESSAGE_TREE_TMPFS, m->tmpfs[i], fd, &contents, err) < 0)
			return -err->code;
	}
	return 0;
}

static int on_freezing(void *ctx, struct error *err)
{
	struct source *s = ctx;

	if (s->gate)
		gate_hold_new(s->gate, UNACCEPTED_WAIT_US + UNACCEPTED_SILENT_US + FREEZE_MAX_US);
	return unaccepted_wait(s->state.pid, UNACCEPTED_WAIT_US, err);
}

static int on_frozen(void *ctx, struct error *err)
{
	struct source *s = ctx;
	const struct message frozen = { .type = WIRE_FROZEN,
					.frozen.frozen_at_real_us = s->lease.frozen_real_us };

	timeline_begin(&s->report->frozen, s->lease.frozen_us);
	if (s->gate)
		gate_set(s->gate, GATE_HELD_IN);
	source_rejoin_end(s);
	if (channel_send(s->channel, &frozen, err) < 0)
		return -err->code;
	timeline_step(&s->report->frozen, "gate");
	return source_last_round(s, err);
}

/* A peer takes nothing whose timestamp is older than one that it has seen (RFC 7323 section 5),
 * and that of a restored socket goes on from where the dump found it. */
static void on_seized(void *ctx)
{
	const struct source *s = ctx;

	if (s->gate)
		gate_set(s->gate, GATE_HELD);
	timeline_step(&s->report->frozen, "seize");
}

static int send_files(void *ctx, const struct manifest *m, struct error *err)
{
	struct source *s = ctx;

	timeline_step(&s->report->frozen, "dump");
	if (source_last_shared(s, err) < 0)
		return -err->code;
	timeline_step(&s->report->frozen, "last-shared");
	if (sockets_save(s->container, s->state.pid, s->meta, &s->report->held.unreceived, err) < 0)
		return -err->code;
	timeline_step(&s->report->frozen, "sockets");
	if (source_last_files(s, err) < 0 || send_tmpfs(s, m, err) < 0 ||
	    (s->options->verify && tree_digest_exact(s->upper, s->files_digest, err) < 0))
		return -err->code;
	timeline_step(&s->report->frozen, "files");
	return 0;
}

int source_dump(struct source *s, struct error *err)
{
	struct dump_hooks hooks = { .freezing = on_freezing, .frozen = on_frozen, .seized = on_seized,
				    .files = send_files, .ctx = s, .cancelled = s->options->cancelled,
				    .carried = s->carried };

	if (workdir_create(&s->workdir, err) < 0 ||
	    workdir_open(s->workdir, "images", &s->images, err) < 0 ||
	    fd_open_dir_at(s->container->dir_fd, "meta", false, 0, &s->meta, err) < 0)
		return -err->code;
	source_arm_gate(s);
	hooks.own_gate = s->gate != NULL;
	if (dump_container(s->container, &s->state, &s->criu, &s->lease, s->images, &hooks,
			   &s->manifest, err) < 0) {
		if (err->code != ECANCELED)
			workdir_keep_log(s->images, CRIU_DUMP_LOG, s->container, err);
		return -err->code;
	}
	timeline_step(&s->report->frozen, "let-go");
	strcpy(s->manifest->files, s->files_digest);
	if (fault_value("files-hash", 0))
		s->manifest->files[0] ^= 1;
	return manifest_write(s->meta, s->manifest, err);
}

int source_go_on(struct source *s, struct error *err)
{
	source_open_gate(s);
	return lease_thaw(&s->lease, err);
}

static void forget_meta(const struct source *s)
{
	(void)unlinkat(s->meta, MANIFEST_JSON, 0);
	sockets_forget(s->meta);
}

void source_thaw(struct source *s)
{
	struct error ignored;

	(void)source_go_on(s, &ignored);
	gate_free(s->gate);
	s->gate = NULL;
	lease_closep(&s->lease);
	if (s->meta >= 0)
		forget_meta(s);
}

/* ---- transfer ---- */

int source_transfer(struct source *s, struct error *err)
{
	const struct message m = { .type = WIRE_RESTORE };

	if (trees_send(s->channel, MESSAGE_TREE_CHECKPOINT, "", s->images, err) < 0 ||
	    trees_send(s->channel, MESSAGE_TREE_META, "", s->meta, err) < 0 ||
	    channel_send(s->channel, &m, err) < 0)
		return -err->code;
	timeline_step(&s->report->frozen, "images");
	return 0;
}

/* ---- restore ---- */

int source_await_restore(struct source *s, struct error *err)
{
	struct message m = { 0 };

	if (channel_receive(s->channel, WIRE_RESTORED, &m, err) < 0)
		return -err->code;
	s->report->restore_us = m.restored.restore_us;
	timeline_from_message(m.restored.steps, m.restored.n_steps, &s->report->restore);
	timeline_step(&s->report->frozen, "restore");
	message_free(&m);
	return 0;
}

/* ---- the whole ---- */

static void on_stage(struct source *s, enum stage_id stage)
{
	const struct channel_stats none = { 0 };
	struct channel_stats now = s->channel ? channel_stats(s->channel) : none;

	s->phase = s->stages[stage].name;
	on_progress(s, &now);
}

void source_count_bytes(struct source *s, const struct channel *ch)
{
	const struct channel_stats none = { 0 };
	struct channel_stats stats = ch ? channel_stats(ch) : none;

	s->report->bytes_raw += stats.raw_bytes;
	s->report->bytes_wire += stats.wire_bytes;
	s->report->reconnects += stats.reconnects;
	s->report->bytes_resent += stats.resent_bytes;
}

void source_closep(struct source *s)
{
	source_untrack(s);
	source_rejoin_close(s);
	gate_free(s->gate);
	gate_free(s->stand_in);
	held_frames_free(&s->held);
	fd_close(&s->netns);
	files_free(s->files);
	fd_close(&s->upper);
	carried_free(s->carried);
	cgroup_free(s->cgroup);
	lease_closep(&s->lease);
	manifest_free(s->manifest);
	channel_free(s->channel);
	fd_close(&s->images);
	fd_close(&s->workdir);
	fd_close(&s->meta);
}

void source_report_free(struct source_report *report)
{
	reasons_free(&report->reasons);
}

static const char *state_in_words(enum migrate_state state)
{
	return state == MIGRATE_IN_DOUBT ? "the source is in doubt" : "the container runs at the source";
}

int source_run(struct source *s, const struct migrate_stage table[STAGE_MAX_], struct error *err)
{
	struct source_report *report = s->report;
	uint64_t t0 = clock_us();
	int r;

	*report = (struct source_report){ .state = MIGRATE_IDLE };
	s->stages = table;
	if (container_state(s->container, &s->state, err) < 0)
		return -err->code;
	r = stage_run_source(table, s, &report->state, report->phase_us, on_stage, err);
	source_untrack(s);		/* no thread uses a channel any more */
	source_rejoin_close(s);
	if (r < 0)
		channel_abort(s->channel, err, state_in_words(report->state));
	/* When this is over, it is over on both sides. */
	if (report->state == MIGRATE_ROLLED_BACK && s->channel)
		channel_await_end(s->channel, PEER_ENDS_US);
	report->total_us = clock_us() - t0;
	source_count_bytes(s, s->channel);
	return r;
}

int source_migrate(struct container *c, const struct source_options *options,
		   struct source_report *report, struct error *err)
{
	CLEANUP(source_closep) struct source s = { .node = c->node, .container = c, .options = options,
						   .report = report, SOURCE_EMPTY };

	return source_run(&s, migrate_stages, err);
}

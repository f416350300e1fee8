/* The source's first stage: what the container is, what of it can't move, and what the target says. */
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "engine/base/fd.h"
#include "engine/image/image.h"
#include "migrate/admission/machine.h"
#include "migrate/admission/movable.h"
#include "migrate/admission/needs.h"
#include "migrate/incoming.h"
#include "migrate/source.h"

/* What must live until the offer is sent. */
struct offering {
	struct message message;
	struct image *image;
	char *config;
	struct machine_features features;
	struct needs needs;
	struct utsname un;
};

static void offering_closep(struct offering *o)
{
	image_free(o->image);
	free(o->config);
	machine_features_freep(&o->features);
	needs_free(&o->needs);
}

/* Threads have a folder each. */
static uint64_t count_tasks(const pid_t *pids, size_t n)
{
	uint64_t tasks = 0;
	struct stat st;
	char path[32];

	for (size_t i = 0; i < n; i++) {
		(void)snprintf(path, sizeof(path), "/proc/%d/task", (int)pids[i]);
		if (stat(path, &st) == 0 && st.st_nlink > 2)
			tasks += st.st_nlink - 2;
	}
	return tasks;
}

static int measure(const struct source *s, struct offering *offering, struct error *err)
{
	struct message_offer *o = &offering->message.offer;
	CLEANUP(cgroup_freep) struct cgroup *cg = NULL;
	CLEANUP(freep) pid_t *pids = NULL;
	CLEANUP(fd_closep) int upper = -EBADF;
	struct tree_stats disk = { 0 };
	size_t n = 0;

	if (fd_open_dir_at(s->container->dir_fd, "upper", false, 0, &upper, err) < 0 ||
	    tree_measure(upper, &disk, err) < 0 || container_cgroup(s->container, false, &cg, err) < 0 ||
	    cgroup_pids(cg, &pids, &n, err) < 0 || needs_collect(pids, n, &offering->needs, err) < 0 ||
	    machine_container_memory(s->container, &o->memory_bytes, err) < 0)
		return -err->code;
	o->disk_bytes = disk.bytes;
	o->tasks = count_tasks(pids, n);
	o->needs = offering->needs.list;
	o->n_needs = offering->needs.n;
	return 0;
}

static int describe(const struct source *s, struct offering *ret, struct error *err)
{
	const struct container *c = s->container;
	struct message_offer *o = &ret->message.offer;

	ret->message.type = WIRE_OFFER;
	(void)uname(&ret->un);
	if (image_open(c->node->state_fd, c->spec->image, &ret->image, err) < 0 ||
	    spec_to_json(c->spec, &ret->config, err) < 0 || measure(s, ret, err) < 0 ||
	    machine_cpu_features(&ret->features, err) < 0)
		return -err->code;
	o->token = s->report->token;
	o->name = c->name;
	o->config_json = ret->config;
	o->image_name = ret->image->name;
	o->image_digest = ret->image->digest;
	o->image_bytes = ret->image->bytes;
	o->image_entries = ret->image->entries;
	o->arch = ret->un.machine;
	o->kernel_release = ret->un.release;
	o->criu_version = s->criu.version ? s->criu.version : 1;	/* missing here: a reason of its own */
	o->cpu_features = ret->features.names;
	o->n_cpu_features = ret->features.n;
	o->only_asking = s->only_asking;
	o->retry_us = s->options->retry_us;
	o->connections = s->options->connections ? s->options->connections : 1;
	return 0;
}

static int hear_verdict(struct source *s, struct error *err)
{
	struct message m = { 0 };

	if (channel_receive(s->channel, WIRE_VERDICT, &m, err) < 0)
		return -err->code;
	s->image_wanted = m.verdict.image_wanted;
	if (!m.verdict.accepted)
		reasons_add_peer(&s->report->reasons, m.verdict.reasons, m.verdict.n_reasons);
	message_free(&m);
	return 0;
}

static int ask_target(struct source *s, struct error *err)
{
	CLEANUP(offering_closep) struct offering offering = { 0 };

	const struct node *node = s->container->node;

	if ((!s->channel && channel_connect(node, s->options->host, s->options->cancelled, &s->channel, err) < 0) ||
	    channel_greet(s->channel, node->config.name, node->id, &s->peer, err) < 0)
		return -err->code;
	(void)snprintf(s->report->peer, sizeof(s->report->peer), "%s", s->peer.name);
	channel_set_level(s->channel, s->options->level);
	if (describe(s, &offering, err) < 0 || channel_send(s->channel, &offering.message, err) < 0)
		return -err->code;
	return hear_verdict(s, err);
}

static int look_here(struct source *s, struct error *err)
{
	struct reasons *why = &s->report->reasons;
	struct error missing;

	if (movable_check(s->container, &s->state, why, err) < 0)
		return -err->code;
	if (criu_find(&s->criu, &missing) < 0)
		reasons_add(why, REASON_CRIU_MISSING, "%s", missing.msg);
	why->n_here = why->n;
	return 0;
}

static bool is_live(const struct source *s)
{
	return s->state.status == CONTAINER_RUNNING || s->state.status == CONTAINER_PAUSED;
}

static int refuse(const struct source *s, struct error *err)
{
	const struct reasons *why = &s->report->reasons;

	(void)reasons_to_error(why, err);
	return why->n_here ? -err->code : error_wrap(err, "%s refuses it", s->report->peer);
}

/* What stands in the way here does not keep us from asking what more does there. */
int source_negotiate(struct source *s, struct error *err)
{
	struct reasons *why = &s->report->reasons;

	if (token_make(s->report->token, err) < 0 || look_here(s, err) < 0)
		return -err->code;
	s->only_asking = why->n > 0;
	if (!s->only_asking && (incoming_finish(s->container, err) < 0 ||
				lease_open(s->container, &s->lease, err) < 0 ||
				lease_wait_settled(&s->lease, s->options->cancelled, err) < 0))
		return -err->code;
	if (is_live(s) && ask_target(s, err) < 0)
		return -err->code;
	return why->n ? refuse(s, err) : 0;
}

int source_check(struct container *c, const struct source_options *options, struct source_report *report,
		 struct error *err)
{
	struct source s = { .container = c, .options = options, .report = report, .only_asking = true };
	int r = 0;

	*report = (struct source_report){ .state = MIGRATE_IDLE };
	if (container_state(c, &s.state, err) < 0 || token_make(report->token, err) < 0 || look_here(&s, err) < 0)
		return -err->code;
	if (options->host && is_live(&s))
		r = ask_target(&s, err);
	channel_free(s.channel);
	return r < 0 ? r : report->reasons.n > 0;
}

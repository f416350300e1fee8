/* The source's column of the stages in which memory and files move. */
#include <string.h>

#include "engine/base/clock.h"
#include "engine/base/fd.h"
#include "migrate/source.h"
#include "migrate/trees.h"

#define PAST_FILE "downtimes"

static const char *past_file(const struct source *s)
{
	return s->options->past_file ? s->options->past_file : PAST_FILE;
}

static void load_past(struct source *s)
{
	CLEANUP(freep) char *text = NULL;
	char path[64];
	struct error ignored;

	(void)snprintf(path, sizeof(path), "cache/%s", past_file(s));
	if (fd_read_file_at(s->container->node->state_fd, path, PAST_DOWNTIMES_TEXT, &text, NULL, &ignored) == 0)
		past_downtimes_parse(&s->past, text);
}

/* After the first round it is known how much memory there is. */
static void expect(struct source *s, const struct policy_round *first)
{
	struct past_downtime next;

	s->memory_bytes = first->bytes;
	next = past_downtimes_expect(&s->past, first->bytes);
	policy_expect(&s->decision, next.fixed_us, next.lead_us);
}

void source_learn(struct source *s)
{
	uint64_t memory_us = s->last_round.scan_us + s->last_round.send_us;
	CLEANUP(fd_closep) int cache = -EBADF;
	char text[PAST_DOWNTIMES_TEXT];
	struct error ignored;
	size_t len;

	if (s->report->downtime_us <= memory_us)
		return;
	past_downtimes_add(&s->past, &(struct past_downtime){
		.memory_bytes = s->memory_bytes, .fixed_us = s->report->downtime_us - memory_us,
		.lead_us = s->lease.frozen_us - s->decided_us });
	len = past_downtimes_format(&s->past, text);
	if (fd_open_dir_at(s->container->node->state_fd, "cache", true, 0700, &cache, &ignored) == 0)
		(void)fd_replace_file_at(cache, past_file(s), text, len, 0600, FD_REPLACE, &ignored);
}

static int slow_down(struct source *s, struct error *err)
{
	struct cgroup_limits l = s->container->spec->limits;
	uint32_t all = l.cpu_millis ? l.cpu_millis : (uint32_t)sysconf(_SC_NPROCESSORS_ONLN) * 1000;

	l.cpu_millis = all * s->decision.quota_pct / 100;
	s->throttled = true;
	return cgroup_set_limits(s->cgroup, &l, err);
}

/* Full speed again; the frozen container does not mind when. */
static void unthrottle(struct source *s)
{
	struct error ignored;

	if (s->throttled)
		(void)cgroup_set_limits(s->cgroup, &s->container->spec->limits, &ignored);
	s->throttled = false;
}

static void tell_round(struct source *s, const struct policy_round *round)
{
	struct source_report *r = s->report;

	if (r->n_rounds == SOURCE_ROUNDS_TOLD)
		memmove(r->rounds, r->rounds + 1, --r->n_rounds * sizeof(*r->rounds));
	r->rounds[r->n_rounds++] = (struct source_round){ *round, s->decision.predicted_us };
}

static void add_round(struct policy_round *sum, const struct policy_round *more)
{
	sum->bytes += more->bytes;
	sum->sent_bytes += more->sent_bytes;
	sum->wire_bytes += more->wire_bytes;
	sum->scan_us += more->scan_us;
	sum->send_us += more->send_us;
	sum->compress_us += more->compress_us;
	sum->idle_us += more->idle_us;
}

/* Files first: less is written to memory until its turn than to files. */
static int go_round(struct source *s, struct policy_round *ret, struct error *err)
{
	struct policy_round files = { 0 };

	if (s->files && files_round(s->files, &files, err) < 0)
		return -err->code;
	if (memory_round(s->memory, ret, err) < 0)
		return -err->code;
	if (s->decision.rounds == 0)
		expect(s, ret);
	add_round(ret, &files);
	return 0;
}

static int run_rounds(struct source *s, struct error *err)
{
	struct policy_round round;

	for (;;) {
		if (source_check_cancelled(s, err) < 0 || go_round(s, &round, err) < 0)
			return -err->code;
		s->report->verdict = policy_judge(&s->decision, &round);
		tell_round(s, &round);
		switch (s->report->verdict) {
		case POLICY_GO_ON:
			break;
		case POLICY_SLOW_DOWN:
			if (slow_down(s, err) < 0)
				return -err->code;
			break;
		case POLICY_GIVE_UP:
			return error_set(err, EBUSY, "it writes memory faster than it can be sent: freezing now would "
					 "mean %llu ms of downtime, and %llu ms are allowed; raise --max-downtime, or "
					 "say --on-diverge stop or throttle",
					 (unsigned long long)s->decision.predicted_us / 1000,
					 (unsigned long long)s->decision.limits.max_downtime_us / 1000);
		case POLICY_FREEZE:
		case POLICY_FREEZE_ANYWAY:
			return 0;
		}
	}
}

int source_precopy(struct source *s, struct error *err)
{
	struct channel *channels[WIRE_CONNECTIONS_MAX] = { s->channel };
	unsigned n = s->n_connections ? s->n_connections : 1;

	for (unsigned i = 1; i < n; i++)
		channels[i] = s->connections[i].channel;
	load_past(s);
	policy_init(&s->decision, &s->options->policy);
	if (container_cgroup(s->container, false, &s->cgroup, err) < 0 ||
	    memory_open(s->cgroup, s->options->tracker, s->state.pid, !s->options->whole_trees, channels, n,
			&s->memory, err) < 0 ||
	    carried_new(&s->carried, err) < 0 ||
	    fd_open_dir_at(s->container->dir_fd, "upper", false, 0, &s->upper, err) < 0 ||
	    (!s->options->whole_trees && files_open(s->upper, s->channel, &s->files, err) < 0))
		return -err->code;
	(void)snprintf(s->report->tracker, sizeof(s->report->tracker), "%s", memory_tracker_name(s->memory));
	channel_set_rate(s->channel, s->options->rate);
	if (run_rounds(s, err) < 0)
		return -err->code;
	s->decided_us = clock_us();
	channel_set_rate(s->channel, 0);	/* it stands still soon: no time to lose */
	s->report->predicted_us = s->decision.predicted_us;
	return 0;
}

void source_untrack(struct source *s)
{
	unthrottle(s);
	memory_free(s->memory);
	s->memory = NULL;
}

int source_last_round(struct source *s, struct error *err)
{
	return memory_last_round(s->memory, s->carried, s->options->verify, &s->report->frozen,
				 &s->last_round, err);
}

int source_last_shared(struct source *s, struct error *err)
{
	return memory_last_shared(s->memory, s->options->verify, &s->last_round, err);
}

int source_last_files(struct source *s, struct error *err)
{
	int r = s->files ? files_last(s->files, &s->last_round, err) :
			   trees_send(s->channel, MESSAGE_TREE_UPPER, "", s->upper, err);

	if (r < 0)
		return r;
	tell_round(s, &s->last_round);
	s->report->memory = memory_stats(s->memory);
	if (s->files)
		s->report->files = files_stats(s->files);
	return 0;
}

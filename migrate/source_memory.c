/* The source's column of the stages in which memory moves. */
#include <string.h>

#include "engine/base/fd.h"
#include "migrate/source.h"

#define FIXED_FILE "downtime_fixed_us"
#define FIXED_GUESS_US 80000u		/* of the very first migration on a node */
#define FIXED_MAX_US 60000000u

static const char *fixed_file(const struct source *s)
{
	return s->options->fixed_file ? s->options->fixed_file : FIXED_FILE;
}

/* What freeze, dump, restore and commit cost the last times, whatever the
 * memory was: a moving average, kept in the cache folder. */
static uint64_t load_fixed(const struct source *s)
{
	CLEANUP(freep) char *text = NULL;
	char path[64];
	struct error ignored;
	uint64_t v;

	(void)snprintf(path, sizeof(path), "cache/%s", fixed_file(s));
	if (fd_read_file_at(s->container->node->state_fd, path, 64, &text, NULL, &ignored) < 0)
		return FIXED_GUESS_US;
	v = strtoull(text, NULL, 10);
	return v && v < FIXED_MAX_US ? v : FIXED_GUESS_US;
}

static void save_fixed(const struct source *s, uint64_t measured)
{
	CLEANUP(fd_closep) int cache = -EBADF;
	struct error ignored;
	char text[32];
	int n = snprintf(text, sizeof(text), "%llu\n", (unsigned long long)((s->decision.fixed_us + measured) / 2));

	if (fd_open_dir_at(s->container->node->state_fd, "cache", true, 0700, &cache, &ignored) == 0)
		(void)fd_replace_file_at(cache, fixed_file(s), text, (size_t)n, 0600, FD_REPLACE,
					 &ignored);
}

void source_learn(struct source *s)
{
	uint64_t memory_us = s->last_round.scan_us + s->last_round.send_us;

	if (s->report->downtime_us > memory_us)
		save_fixed(s, s->report->downtime_us - memory_us);
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

static int run_rounds(struct source *s, struct error *err)
{
	struct policy_round round;

	for (;;) {
		if (source_check_cancelled(s, err) < 0 || memory_round(s->memory, &round, err) < 0)
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
	policy_init(&s->decision, &s->options->policy, load_fixed(s));
	if (container_cgroup(s->container, false, &s->cgroup, err) < 0 ||
	    memory_open(s->cgroup, s->options->tracker, s->state.pid, !s->options->whole_trees, channels, n,
			&s->memory, err) < 0 ||
	    carried_new(&s->carried, err) < 0)
		return -err->code;
	(void)snprintf(s->report->tracker, sizeof(s->report->tracker), "%s", memory_tracker_name(s->memory));
	channel_set_rate(s->channel, s->options->rate);
	if (run_rounds(s, err) < 0)
		return -err->code;
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
	if (memory_last_shared(s->memory, s->options->verify, &s->last_round, err) < 0)
		return -err->code;
	tell_round(s, &s->last_round);
	s->report->memory = memory_stats(s->memory);
	return 0;
}

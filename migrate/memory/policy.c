#include "migrate/memory/policy.h"

#define PATIENCE_ROUNDS 3		/* without progress, before it is divergence */
#define QUOTA_STEP_PCT 20
#define RATE_HOLDS 16			/* times the span that it was measured over */
#define THROUGHPUT_GUESS (200ull << 20)	/* bytes a second, before anything was sent */
#define MEASURABLE_BYTES (1u << 20)	/* less says nothing about the throughput */

void policy_init(struct policy *p, const struct policy_limits *limits)
{
	*p = (struct policy){ .limits = *limits, .best_us = UINT64_MAX, .throughput = THROUGHPUT_GUESS,
			      .quota_pct = 100 };
}

void policy_expect(struct policy *p, uint64_t fixed_us, uint64_t lead_us)
{
	p->fixed_us = fixed_us;
	p->lead_us = lead_us;
}

static uint64_t per_second(uint64_t bytes, uint64_t us)
{
	return us ? (uint64_t)((double)bytes * 1e6 / (double)us) : 0;
}

/* While this round was sent, the container went on writing: at its rate, but
 * never more than it writes again and again, which is what this round found. */
static uint64_t expect_written(const struct policy *p, const struct policy_round *r)
{
	uint64_t at_rate = (uint64_t)((double)p->write_rate * (double)(r->scan_us + r->send_us + p->lead_us) / 1e6);

	return r->since_us == 0 ? at_rate : at_rate < r->bytes ? at_rate : r->bytes;
}

/* Would one more round lower the downtime by an eighth? While that is sent, what
 * will be left for the next scan is written at the same rate. A rate over a time
 * much longer than this round says little: pages written many times count once. */
static bool pays(const struct policy *p, const struct policy_round *r)
{
	double left_us = (double)(p->predicted_us - p->fixed_us - r->scan_us);
	double next_us = left_us * (double)p->write_rate / (double)(p->throughput ? p->throughput : 1);

	return r->since_us > RATE_HOLDS * (r->scan_us + r->send_us) ||
	       left_us - next_us > (double)p->predicted_us / 8;
}

static void measure(struct policy *p, const struct policy_round *r)
{
	uint64_t remaining;

	p->rounds++;
	p->time_us += r->scan_us + r->send_us;
	if (r->sent_bytes >= MEASURABLE_BYTES && r->send_us > r->idle_us)
		p->throughput = per_second(r->sent_bytes, r->send_us - r->idle_us);
	if (r->since_us)
		p->write_rate = per_second(r->bytes, r->since_us);
	remaining = r->since_us ? expect_written(p, r) : 0;
	p->predicted_us = p->fixed_us + r->scan_us +
			  (uint64_t)((double)remaining * 1e6 / (double)(p->throughput ? p->throughput : 1));
}

static bool out_of_budget(const struct policy *p)
{
	const struct policy_limits *l = &p->limits;

	return (l->max_rounds && p->rounds >= l->max_rounds) ||
	       (l->max_time_us && p->time_us >= l->max_time_us);
}

static enum policy_verdict diverged(struct policy *p)
{
	switch (p->limits.on_diverge) {
	case POLICY_ABORT:
		return POLICY_GIVE_UP;
	case POLICY_THROTTLE:
		if (p->quota_pct <= p->limits.throttle_pct || out_of_budget(p))
			return POLICY_FREEZE_ANYWAY;
		p->quota_pct = p->quota_pct > p->limits.throttle_pct + QUOTA_STEP_PCT ?
			       p->quota_pct - QUOTA_STEP_PCT : p->limits.throttle_pct;
		p->worse = 0;
		p->best_us = UINT64_MAX;
		return POLICY_SLOW_DOWN;
	case POLICY_STOP:
		break;
	}
	return POLICY_FREEZE_ANYWAY;
}

enum policy_verdict policy_judge(struct policy *p, const struct policy_round *r)
{
	measure(p, r);
	if (r->since_us == 0)		/* the first says nothing about writing */
		return out_of_budget(p) ? diverged(p) : POLICY_GO_ON;
	if (p->predicted_us <= p->limits.max_downtime_us && r->bytes <= MEASURABLE_BYTES * 4)
		return POLICY_FREEZE;
	/* A lower downtime than asked for is worth a few rounds, not many. */
	if (p->predicted_us < p->best_us - p->best_us / 8) {
		p->best_us = p->predicted_us;
		p->worse = 0;
	} else {
		p->worse++;
	}
	if (p->predicted_us <= p->limits.max_downtime_us && (p->worse || !pays(p, r)))
		return POLICY_FREEZE;
	if (p->worse >= PATIENCE_ROUNDS || out_of_budget(p))
		return diverged(p);
	return POLICY_GO_ON;
}

const char *policy_verdict_name(enum policy_verdict v)
{
	static const char *const names[] = {
		[POLICY_GO_ON] = "go on", [POLICY_FREEZE] = "freeze",
		[POLICY_FREEZE_ANYWAY] = "freeze anyway", [POLICY_SLOW_DOWN] = "slow down",
		[POLICY_GIVE_UP] = "give up",
	};

	return names[v];
}

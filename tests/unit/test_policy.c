#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>

#include "migrate/memory/policy.h"

#define MB (1ull << 20)
#define LEAD_US 20000u

/* A container and a link, as simple as they can be: it writes at a rate into a
 * working set, each page of it as likely as the other. */
struct world {
	uint64_t memory, working_set, rate, link;	/* bytes, bytes a second */
	uint64_t fixed_us;
};

struct outcome {
	enum policy_verdict verdict;
	uint32_t rounds;
	uint64_t predicted_us, real_us;
	uint32_t quota_pct;
};

static uint64_t written(const struct world *w, uint64_t us, uint32_t quota_pct)
{
	double n = (double)w->rate * (double)us / 1e6 * quota_pct / 100;

	return n < (double)w->working_set ? (uint64_t)n : w->working_set;
}

static uint64_t send_us(const struct world *w, uint64_t bytes)
{
	return bytes * 1000000 / w->link;
}

static struct outcome run(const struct world *w, const struct policy_limits *limits)
{
	struct outcome o = { .verdict = POLICY_GO_ON };
	uint64_t since = 0, dirty = w->memory;
	struct policy p;

	policy_init(&p, limits);
	policy_expect(&p, w->fixed_us, LEAD_US);
	while (o.verdict == POLICY_GO_ON || o.verdict == POLICY_SLOW_DOWN) {
		const struct policy_round r = { .bytes = dirty, .sent_bytes = dirty, .scan_us = 3000,
						.send_us = send_us(w, dirty), .since_us = since };

		o.verdict = policy_judge(&p, &r);
		o.rounds = p.rounds;
		assert_true(o.rounds < 1000);
		since = r.scan_us + r.send_us;
		dirty = written(w, since, p.quota_pct);
	}
	dirty = written(w, since + LEAD_US, p.quota_pct);
	o.predicted_us = p.predicted_us;
	o.real_us = w->fixed_us + 3000 + send_us(w, dirty);
	o.quota_pct = p.quota_pct;
	return o;
}

static const struct policy_limits usual = { .max_downtime_us = POLICY_DOWNTIME_US, .max_rounds = 30,
					    .throttle_pct = 20 };

static void idle_takes_two_rounds(void **state)
{
	const struct world w = { .memory = 4096 * MB, .working_set = 0, .link = 1000 * MB, .fixed_us = 60000 };
	struct outcome o = run(&w, &usual);

	(void)state;
	assert_int_equal(o.verdict, POLICY_FREEZE);
	assert_int_equal(o.rounds, 2);
	assert_true(o.predicted_us <= 65000);
}

static void a_slow_writer_converges(void **state)
{
	const struct world w = { .memory = 1024 * MB, .working_set = 512 * MB, .rate = 100 * MB,
				 .link = 1000 * MB, .fixed_us = 60000 };
	struct outcome o = run(&w, &usual);

	(void)state;
	assert_int_equal(o.verdict, POLICY_FREEZE);
	assert_in_range(o.rounds, 3, 8);
	assert_true(o.real_us <= usual.max_downtime_us);
	assert_in_range(o.predicted_us * 100 / o.real_us, 70, 130);
}

static void a_small_working_set_written_fast_converges(void **state)
{
	const struct world w = { .memory = 2048 * MB, .working_set = 20 * MB, .rate = 5000 * MB,
				 .link = 500 * MB, .fixed_us = 60000 };
	struct outcome o = run(&w, &usual);

	(void)state;
	assert_int_equal(o.verdict, POLICY_FREEZE);
	assert_true(o.real_us <= usual.max_downtime_us);
	assert_in_range(o.predicted_us * 100 / o.real_us, 70, 130);
}

static const struct world faster_than_the_link = {
	.memory = 2048 * MB, .working_set = 1024 * MB, .rate = 900 * MB, .link = 300 * MB,
	.fixed_us = 60000,
};

static void divergence_stops_anyway(void **state)
{
	struct outcome o = run(&faster_than_the_link, &usual);

	(void)state;
	assert_int_equal(o.verdict, POLICY_FREEZE_ANYWAY);
	assert_in_range(o.rounds, 3, 8);
	assert_in_range(o.predicted_us * 100 / o.real_us, 70, 130);
	assert_int_equal(o.quota_pct, 100);
}

static void divergence_gives_up(void **state)
{
	struct policy_limits l = usual;

	(void)state;
	l.on_diverge = POLICY_ABORT;
	assert_int_equal(run(&faster_than_the_link, &l).verdict, POLICY_GIVE_UP);
}

static void throttling_stays_above_its_bound(void **state)
{
	struct policy_limits l = usual;
	struct outcome o;

	(void)state;
	l.on_diverge = POLICY_THROTTLE;
	l.throttle_pct = 15;
	o = run(&faster_than_the_link, &l);
	assert_int_equal(o.verdict, POLICY_FREEZE);
	assert_in_range(o.quota_pct, 15, 40);
	assert_true(o.real_us <= l.max_downtime_us);

	l.throttle_pct = 60;		/* not slow enough for this link */
	o = run(&faster_than_the_link, &l);
	assert_int_equal(o.verdict, POLICY_FREEZE_ANYWAY);
	assert_int_equal(o.quota_pct, 60);
}

static void bounds_on_rounds_and_time_hold(void **state)
{
	struct policy_limits l = usual;

	(void)state;
	l.max_rounds = 2;
	assert_int_equal(run(&faster_than_the_link, &l).rounds, 2);
	l.max_rounds = 1;
	assert_int_equal(run(&faster_than_the_link, &l).rounds, 1);
	l.max_rounds = 0;
	l.max_time_us = 1;
	assert_int_equal(run(&faster_than_the_link, &l).rounds, 1);
}

/* Rounds of the shape that a redis of 1 GB under SET load makes. */
static void a_trace_like_redis(void **state)
{
#define ROUND(written, sent, scan, send, since) { .bytes = (written) * MB, .sent_bytes = (sent) * MB, \
						  .scan_us = scan, .send_us = send, .since_us = since }
	static const struct policy_round rounds[] = {
		ROUND(1100, 1050, 25000, 1400000, 0), ROUND(210, 205, 9000, 260000, 1425000),
		ROUND(61, 60, 5000, 75000, 269000), ROUND(22, 21, 4000, 27000, 80000),
		ROUND(11, 11, 4000, 14000, 31000), ROUND(9, 9, 4000, 11000, 18000),
	};
	enum policy_verdict v = POLICY_GO_ON;
	struct policy p;
	size_t i;

	(void)state;
	policy_init(&p, &usual);
	policy_expect(&p, 60000, 0);
	for (i = 0; i < sizeof(rounds) / sizeof(*rounds) && v == POLICY_GO_ON; i++)
		v = policy_judge(&p, &rounds[i]);
	assert_int_equal(v, POLICY_FREEZE);
	assert_in_range(i, 3, 4);	/* the downtime falls no more worth mentioning */
	assert_in_range(p.predicted_us, 60000, 100000);
	assert_string_equal(policy_verdict_name(POLICY_FREEZE_ANYWAY), "freeze anyway");
}

/* Allowed or not, the downtime is lowered as long as that is to be had. */
static void a_round_that_pays_is_made(void **state)
{
	const struct policy_round first = { .bytes = 1000 * MB, .sent_bytes = 1000 * MB, .send_us = 2000000 };
	const struct policy_round much = { .bytes = 300 * MB, .sent_bytes = 300 * MB, .send_us = 600000,
					   .since_us = 2000000 };
	const struct policy_round little = { .bytes = 30 * MB, .sent_bytes = 30 * MB, .send_us = 60000,
					     .since_us = 600000 };
	struct policy p;

	(void)state;
	policy_init(&p, &usual);
	policy_expect(&p, 60000, 0);
	assert_int_equal(policy_judge(&p, &first), POLICY_GO_ON);
	assert_int_equal(policy_judge(&p, &much), POLICY_GO_ON);
	assert_in_range(p.predicted_us, 200000, 300000);	/* below the limit */
	assert_int_equal(policy_judge(&p, &little), POLICY_FREEZE);
	assert_in_range(p.predicted_us, 60000, 70000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(idle_takes_two_rounds),
		cmocka_unit_test(a_slow_writer_converges),
		cmocka_unit_test(a_small_working_set_written_fast_converges),
		cmocka_unit_test(divergence_stops_anyway),
		cmocka_unit_test(divergence_gives_up),
		cmocka_unit_test(throttling_stays_above_its_bound),
		cmocka_unit_test(bounds_on_rounds_and_time_hold),
		cmocka_unit_test(a_trace_like_redis),
		cmocka_unit_test(a_round_that_pays_is_made),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * policy.h - when to stop copying memory and freeze
 *
 * Pure arithmetic, no clock and no I/O. What decides is the downtime that
 * freezing now would mean:
 *
 *   predicted = fixed + scan + remaining / throughput
 *
 * fixed is what freeze, dump, restore and commit cost besides the last round;
 * scan what the walk over the page tables took in the round before, which grows
 * with the memory;
 * remaining is what the next scan will find: it grows with the write rate
 * while a round is being sent, and until the freeze. Both rates are measured in the
 * rounds so far.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* What to do when another round would not help. */
enum policy_diverge { POLICY_STOP, POLICY_THROTTLE, POLICY_ABORT };

struct policy_limits {
	uint64_t max_downtime_us;
	uint32_t max_rounds;		/* 0: any number */
	uint64_t max_time_us;		/* of the rounds together; 0: any time */
	enum policy_diverge on_diverge;
	uint32_t throttle_pct;		/* the least that may be left of its processors */
};

/* One round that is over. */
struct policy_round {
	uint64_t bytes;			/* that were written since the round before */
	uint64_t sent_bytes;		/* of them sent, after zero and unchanged pages */
	uint64_t wire_bytes;		/* what that took on the wire */
	uint64_t scan_us;		/* finding them */
	uint64_t send_us;		/* from the first to the last byte, without scan_us */
	uint64_t compress_us;		/* of that, compressing */
	uint64_t idle_us;		/* of that, waited to keep to a rate */
	uint64_t since_us;		/* between this scan and the one before; 0: the first */
};

enum policy_verdict {
	POLICY_GO_ON,			/* another round */
	POLICY_FREEZE,			/* the target is met */
	POLICY_FREEZE_ANYWAY,		/* it is not, but nothing better will come */
	POLICY_SLOW_DOWN,		/* lower the container's quota, then another round */
	POLICY_GIVE_UP,
};

struct policy {
	struct policy_limits limits;
	uint64_t fixed_us;
	uint64_t lead_us;		/* from the decision to the freeze; it goes on writing */
	uint32_t rounds;
	uint64_t time_us;
	uint64_t best_us;		/* the lowest prediction so far */
	uint32_t worse;			/* rounds in a row that did not lower it */
	uint64_t write_rate;		/* bytes a second, of the last round */
	uint64_t throughput;		/* bytes a second */
	uint64_t predicted_us;		/* the downtime of freezing now */
	uint32_t quota_pct;		/* of its processors that the container has now */
};

#define POLICY_DOWNTIME_US 300000u

void policy_init(struct policy *p, const struct policy_limits *limits);

/* Before the first round is judged, from what moves have taken before (past_downtimes.h). */
void policy_expect(struct policy *p, uint64_t fixed_us, uint64_t lead_us);

/* After each round. POLICY_SLOW_DOWN has lowered quota_pct. */
enum policy_verdict policy_judge(struct policy *p, const struct policy_round *round);

const char *policy_verdict_name(enum policy_verdict v);

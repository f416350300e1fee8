#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "engine/base/error.h"
#include "tools/rounds.h"

static volatile sig_atomic_t cancelled;

static void on_signal(int signal)
{
	(void)signal;
	cancelled = 1;
}

/* Without SA_RESTART, so that waiting calls come back. */
const volatile sig_atomic_t *rounds_catch_signals(void)
{
	struct sigaction sa = { .sa_handler = on_signal };

	for (const int *s = (const int[]){ SIGINT, SIGTERM, SIGHUP, 0 }; *s; s++)
		(void)sigaction(*s, &sa, NULL);
	(void)signal(SIGPIPE, SIG_IGN);
	return &cancelled;
}

static int parse_policy(const struct rounds_options *o, struct policy_limits *ret, struct error *err)
{
	static const char *const names[] = { [POLICY_STOP] = "stop", [POLICY_THROTTLE] = "throttle",
					     [POLICY_ABORT] = "abort" };

	*ret = (struct policy_limits){ .max_downtime_us = o->max_downtime_us, .max_rounds = o->max_rounds,
				       .max_time_us = o->max_time_us,
				       .throttle_pct = o->throttle_pct ? o->throttle_pct : 20 };
	if (ret->throttle_pct > 100)
		return error_set(err, EINVAL, "--throttle: %u is not a percentage", o->throttle_pct);
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		if (!strcmp(names[i], o->on_diverge ? o->on_diverge : "stop")) {
			ret->on_diverge = (enum policy_diverge)i;
			return 0;
		}
	return error_set(err, EINVAL, "--on-diverge: '%.20s' is not stop, throttle or abort", o->on_diverge);
}

int rounds_parse(const struct rounds_options *o, struct policy_limits *ret_policy,
		 enum tracker_kind *ret_tracker, struct error *err)
{
	if (tracker_parse_kind(o->tracker ? o->tracker : "any", ret_tracker, err) < 0)
		return error_wrap(err, "--tracker");
	return parse_policy(o, ret_policy, err);
}

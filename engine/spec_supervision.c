#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/spec_supervision.h"

#define PREFIX "org.godwit."
#define COMMAND_MAX 65536
#define TIME_MAX_US UINT64_C(86400000000)

struct number {
	const char *key;
	uint64_t min, max;
};

enum { INTERVAL, TIMEOUT, START_PERIOD, RETRIES, NUMBERS };

static const struct number numbers[NUMBERS] = {
	[INTERVAL] = { PREFIX "health-interval-us", 1000, TIME_MAX_US },
	[TIMEOUT] = { PREFIX "health-timeout-us", 1000, TIME_MAX_US },
	[START_PERIOD] = { PREFIX "health-start-period-us", 0, TIME_MAX_US },
	[RETRIES] = { PREFIX "health-retries", 1, INT32_MAX },
};

json_t *spec_supervision_add(json_t *a, const struct spec *s)
{
	const struct health_check *h = &s->health;
	const uint64_t values[NUMBERS] = { [INTERVAL] = h->interval_us, [TIMEOUT] = h->timeout_us,
					   [START_PERIOD] = h->start_period_us, [RETRIES] = h->retries };
	char text[RESTART_TEXT_MAX];

	if (s->restart.kind != RESTART_NO)
		(void)json_object_set_new(a, PREFIX "restart", json_string(restart_format(&s->restart, text)));
	if (!h->command)
		return a;
	(void)json_object_set_new(a, PREFIX "health-command", json_string(h->command));
	for (int i = 0; i < NUMBERS; i++)
		(void)json_object_set_new(a, numbers[i].key, json_sprintf("%llu", (unsigned long long)values[i]));
	return a;
}

/* NULL when it is not there. */
static json_t *take(json_t *a, const char *key)
{
	json_t *v = json_incref(json_object_get(a, key));

	(void)json_object_del(a, key);
	return v;
}

static int take_number(json_t *a, const struct number *n, uint64_t *ret, struct error *err)
{
	CLEANUP(json_decrefp) json_t *v = take(a, n->key);
	const char *text = json_string_value(v);
	char *end;

	*ret = text ? strtoull(text, &end, 10) : 0;
	if (!text || *text < '0' || *text > '9' || *end || *ret < n->min || *ret > n->max)
		return error_set(err, EINVAL, "'%s' must be a number from %llu to %llu, as a string", n->key,
				 (unsigned long long)n->min, (unsigned long long)n->max);
	return 0;
}

static int take_health(json_t *a, struct health_check *h, struct error *err)
{
	CLEANUP(json_decrefp) json_t *command = take(a, PREFIX "health-command");
	const char *text = json_string_value(command);
	uint64_t values[NUMBERS];

	if (!command)
		return 0;
	if (!text || !*text || strlen(text) > COMMAND_MAX)
		return error_set(err, EINVAL, "'" PREFIX "health-command' must be a string of 1 to %d bytes",
				 COMMAND_MAX);
	for (int i = 0; i < NUMBERS; i++)
		if (take_number(a, &numbers[i], &values[i], err) < 0)
			return -err->code;
	*h = (struct health_check){ .command = strdup(text), .interval_us = values[INTERVAL],
				    .timeout_us = values[TIMEOUT], .start_period_us = values[START_PERIOD],
				    .retries = (uint32_t)values[RETRIES] };
	return h->command ? 0 : error_set(err, ENOMEM, "out of memory");
}

int spec_supervision_take(json_t *a, struct spec *s, struct error *err)
{
	CLEANUP(json_decrefp) json_t *restart = take(a, PREFIX "restart");

	if (restart && !json_is_string(restart))
		return error_set(err, EINVAL, "'" PREFIX "restart' has the wrong type");
	if (restart && restart_parse(json_string_value(restart), &s->restart, err) < 0)
		return -err->code;
	return take_health(a, &s->health, err);
}

#include <stdio.h>
#include <string.h>

#include "engine/base/clock.h"
#include "migrate/timeline.h"

void timeline_begin(struct timeline *t, uint64_t since_us)
{
	*t = (struct timeline){ .last_us = since_us };
}

static void add(struct timeline *t, const char *name, uint64_t us)
{
	size_t i = 0;

	while (i < t->n && strncmp(t->steps[i].name, name, TIMELINE_NAME - 1) != 0)
		i++;
	if (i == TIMELINE_STEPS)
		i--;
	if (i == t->n)
		(void)snprintf(t->steps[t->n++].name, TIMELINE_NAME, "%s", name);
	t->steps[i].us += us;
}

void timeline_step(struct timeline *t, const char *name)
{
	uint64_t now = clock_us();

	if (!t)
		return;
	add(t, name, now - t->last_us);
	t->last_us = now;
}

void timeline_append(struct timeline *t, const struct timeline *more, const char *around)
{
	uint64_t now = clock_us(), us = 0;

	for (size_t i = 0; i < more->n && i < TIMELINE_STEPS; i++)
		us += more->steps[i].us;
	add(t, around, now - t->last_us > us ? now - t->last_us - us : 0);
	for (size_t i = 0; i < more->n && i < TIMELINE_STEPS; i++)
		add(t, more->steps[i].name, more->steps[i].us);
	t->last_us = now;
}

size_t timeline_to_message(const struct timeline *t, struct message_step ret[MESSAGE_STEPS_MAX])
{
	for (size_t i = 0; i < t->n; i++)
		ret[i] = (struct message_step){ .name = t->steps[i].name, .us = t->steps[i].us };
	return t->n;
}

void timeline_from_message(const struct message_step *steps, size_t n, struct timeline *ret)
{
	*ret = (struct timeline){ 0 };
	for (size_t i = 0; i < n; i++)
		add(ret, steps[i].name, steps[i].us);
}

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/monitor/restart.h"

#define DELAY_US 100000
#define DELAY_MAX_US 60000000

static const char *const names[] = {
	[RESTART_NO] = "no",
	[RESTART_ON_FAILURE] = "on-failure",
	[RESTART_ALWAYS] = "always",
	[RESTART_UNLESS_STOPPED] = "unless-stopped",
};

#define KINDS (sizeof(names) / sizeof(*names))

int restart_parse(const char *text, struct restart_policy *ret, struct error *err)
{
	size_t len = strcspn(text, ":");
	unsigned long max = 0;
	char *end;

	for (size_t i = 0; i < KINDS; i++) {
		if (strlen(names[i]) != len || strncmp(names[i], text, len) != 0)
			continue;
		if (text[len] && i == RESTART_ON_FAILURE) {
			max = strtoul(text + len + 1, &end, 10);
			if (text[len + 1] < '1' || text[len + 1] > '9' || *end || max > INT32_MAX)
				break;
		} else if (text[len]) {
			break;
		}
		*ret = (struct restart_policy){ .kind = (enum restart_kind)i, .max = (uint32_t)max };
		return 0;
	}
	return error_set(err, EINVAL, "'%.40s' is no restart policy; write no, on-failure, on-failure:5, always or "
			 "unless-stopped", text);
}

char *restart_format(const struct restart_policy *p, char buf[RESTART_TEXT_MAX])
{
	int n = snprintf(buf, RESTART_TEXT_MAX, "%s", names[p->kind]);

	if (p->max)
		(void)snprintf(buf + n, (size_t)(RESTART_TEXT_MAX - n), ":%u", p->max);
	return buf;
}

bool restart_wanted(const struct restart_policy *p, int exit_code, uint32_t tries)
{
	switch (p->kind) {
	case RESTART_ON_FAILURE:
		return exit_code != 0 && (!p->max || tries < p->max);
	case RESTART_ALWAYS:
	case RESTART_UNLESS_STOPPED:
		return true;
	case RESTART_NO:
		break;
	}
	return false;
}

uint64_t restart_delay_us(uint32_t tries)
{
	return tries > 9 ? DELAY_MAX_US : (uint64_t)DELAY_US << tries;
}

bool restart_at_boot(const struct restart_policy *p, bool stopped)
{
	return p->kind == RESTART_ALWAYS || (p->kind == RESTART_UNLESS_STOPPED && !stopped);
}

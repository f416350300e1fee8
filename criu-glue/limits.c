#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/resource.h>

#include "criu-glue/limits.h"

static const char *const names[] = {
	[RLIMIT_CPU] = "Max cpu time",
	[RLIMIT_FSIZE] = "Max file size",
	[RLIMIT_DATA] = "Max data size",
	[RLIMIT_STACK] = "Max stack size",
	[RLIMIT_CORE] = "Max core file size",
	[RLIMIT_RSS] = "Max resident set",
	[RLIMIT_NPROC] = "Max processes",
	[RLIMIT_NOFILE] = "Max open files",
	[RLIMIT_MEMLOCK] = "Max locked memory",
	[RLIMIT_AS] = "Max address space",
	[RLIMIT_LOCKS] = "Max file locks",
	[RLIMIT_SIGPENDING] = "Max pending signals",
	[RLIMIT_MSGQUEUE] = "Max msgqueue size",
	[RLIMIT_NICE] = "Max nice priority",
	[RLIMIT_RTPRIO] = "Max realtime priority",
	[RLIMIT_RTTIME] = "Max realtime timeout",
};

/* Takes one number or "unlimited", and the blank behind it, off *p. */
static int take_value(const char **p, uint64_t *ret)
{
	static const char unlimited[] = "unlimited";
	uint64_t value = 0;
	const char *s = *p + strspn(*p, " ");

	if (!strncmp(s, unlimited, sizeof(unlimited) - 1)) {
		value = LIMITS_UNLIMITED;
		s += sizeof(unlimited) - 1;
	} else if (*s < '0' || *s > '9') {
		return -EPROTO;
	}
	for (; *s >= '0' && *s <= '9'; s++)
		if (__builtin_mul_overflow(value, 10, &value) ||
		    __builtin_add_overflow(value, (uint64_t)(*s - '0'), &value))
			return -EPROTO;
	if (*s != ' ')
		return -EPROTO;
	*p = s;
	*ret = value;
	return 0;
}

int limits_parse(const char *text, unsigned resource, struct limits *ret)
{
	struct limits found;
	const char *name;

	if (resource >= sizeof(names) / sizeof(names[0]))
		return -EINVAL;
	name = names[resource];
	for (const char *line = text; line; line = strchr(line, '\n')) {
		const char *p;

		line += *line == '\n';
		p = line + strlen(name);
		if (strncmp(line, name, strlen(name)) != 0 || *p != ' ')
			continue;
		if (take_value(&p, &found.soft) < 0 || take_value(&p, &found.hard) < 0)
			return -EPROTO;
		*ret = found;
		return 0;
	}
	return -EPROTO;
}

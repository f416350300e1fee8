#include <fcntl.h>
#include <linux/capability.h>
#include <linux/userfaultfd.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "criu-glue/limits.h"
#include "engine/base/fd.h"
#include "migrate/admission/needs.h"

#define NR_OPEN "/proc/sys/fs/nr_open"

/* By RLIMIT_ number. */
static const char *const rlimits[] = {
	[RLIMIT_CPU] = "cpu", [RLIMIT_FSIZE] = "fsize", [RLIMIT_DATA] = "data", [RLIMIT_STACK] = "stack",
	[RLIMIT_CORE] = "core", [RLIMIT_RSS] = "rss", [RLIMIT_NPROC] = "nproc", [RLIMIT_NOFILE] = "nofile",
	[RLIMIT_MEMLOCK] = "memlock", [RLIMIT_AS] = "as", [RLIMIT_LOCKS] = "locks",
	[RLIMIT_SIGPENDING] = "sigpending", [RLIMIT_MSGQUEUE] = "msgqueue", [RLIMIT_NICE] = "nice",
	[RLIMIT_RTPRIO] = "rtprio", [RLIMIT_RTTIME] = "rttime",
};
#define N_RLIMITS (sizeof(rlimits) / sizeof(*rlimits))

static bool has_userfaultfd(void)
{
	struct uffdio_api api = { .api = UFFD_API };
	CLEANUP(fd_closep) int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);

	return fd >= 0 && ioctl(fd, UFFDIO_API, &api) == 0;
}

static bool has_time_namespaces(void)
{
	return access("/proc/self/ns/time_for_children", F_OK) == 0;
}

static bool has_cgroup_namespaces(void)
{
	return access("/proc/self/ns/cgroup", F_OK) == 0;
}

static bool has_overlay(void)
{
	CLEANUP(fd_closep) int fd = (int)syscall(SYS_fsopen, "overlay", 1 /* FSOPEN_CLOEXEC */);

	return fd >= 0;
}

static const struct feature {
	const char *name, *what;
	bool (*is_here)(void);
} features[] = {
	{ "userfaultfd", "userfaultfd(2)", has_userfaultfd },
	{ "time-namespace", "time namespaces", has_time_namespaces },
	{ "cgroup-namespace", "cgroup namespaces", has_cgroup_namespaces },
	{ "overlay", "the overlay file system", has_overlay },
};
#define N_FEATURES (sizeof(features) / sizeof(*features))

void needs_free(struct needs *needs)
{
	for (size_t i = 0; i < needs->n; i++)
		free((void *)(uintptr_t)needs->list[i]);
	*needs = (struct needs){ 0 };
}

static int add(struct needs *needs, const char *name, const char *value, struct error *err)
{
	char *line;

	_Static_assert(N_FEATURES + N_RLIMITS <= WIRE_NEEDS_MAX, "room for all");
	if (asprintf(&line, value ? "%s=%s" : "%s", name, value) < 0)
		return error_set(err, ENOMEM, "out of memory");
	needs->list[needs->n++] = line;
	return 0;
}

static void raise_to(uint64_t hard[N_RLIMITS], pid_t pid)
{
	CLEANUP(freep) char *text = NULL;
	struct limits l;
	struct error ignored;
	char path[32];

	(void)snprintf(path, sizeof(path), "/proc/%d/limits", (int)pid);
	if (fd_read_file_at(-EBADF, path, 65536, &text, NULL, &ignored) < 0)
		return;
	for (unsigned i = 0; i < N_RLIMITS; i++)
		if (limits_parse(text, i, &l) == 0 && l.hard > hard[i])
			hard[i] = l.hard;
}

int needs_collect(const pid_t *pids, size_t n_pids, struct needs *ret, struct error *err)
{
	CLEANUP(needs_free) struct needs needs = { 0 };
	uint64_t hard[N_RLIMITS] = { 0 };
	char name[32], value[32];

	for (size_t i = 0; i < N_FEATURES; i++)
		if (add(&needs, features[i].name, NULL, err) < 0)
			return -err->code;
	for (size_t i = 0; i < n_pids; i++)
		raise_to(hard, pids[i]);
	for (unsigned i = 0; i < N_RLIMITS; i++) {
		(void)snprintf(name, sizeof(name), "rlimit-%s", rlimits[i]);
		(void)snprintf(value, sizeof(value), "%llu", (unsigned long long)hard[i]);
		if (hard[i] && add(&needs, name, hard[i] == LIMITS_UNLIMITED ? "unlimited" : value, err) < 0)
			return -err->code;
	}
	*ret = TAKE(needs, (struct needs){ 0 });
	return 0;
}

/* capget(2): glibc has no wrapper. */
static bool may_raise_limits(void)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2] = { 0 };

	return syscall(SYS_capget, &head, data) == 0 && (data[0].effective & (1u << CAP_SYS_RESOURCE));
}

/* The highest hard limit that a process from here can have. */
static uint64_t highest(unsigned resource)
{
	CLEANUP(freep) char *text = NULL;
	struct rlimit own = { .rlim_max = RLIM_INFINITY };
	struct error ignored;

	if (!may_raise_limits())
		(void)getrlimit((__rlimit_resource_t)resource, &own);
	else if (resource == RLIMIT_NOFILE && fd_read_file_at(-EBADF, NR_OPEN, 64, &text, NULL, &ignored) == 0)
		return strtoull(text, NULL, 10);
	return own.rlim_max == RLIM_INFINITY ? LIMITS_UNLIMITED : own.rlim_max;
}

/* False when it is no limit that is known here. */
static bool check_rlimit(const char *name, const char *value, struct reasons *reasons)
{
	uint64_t wanted, here;
	unsigned i = 0;

	while (i < N_RLIMITS && strcmp(rlimits[i], name) != 0)
		i++;
	if (i == N_RLIMITS || (!strspn(value, "0123456789") && strcmp(value, "unlimited") != 0))
		return false;
	wanted = !strcmp(value, "unlimited") ? LIMITS_UNLIMITED : strtoull(value, NULL, 10);
	here = highest(i);
	if (wanted > here)
		reasons_add(reasons, REASON_RLIMIT_SHORT, "its processes have the resource limit %s=%s, and at most "
			    "%llu can be had on this node", name, value, (unsigned long long)here);
	return true;
}

static bool check_feature(const char *name, struct reasons *reasons)
{
	for (size_t i = 0; i < N_FEATURES; i++) {
		if (strcmp(features[i].name, name) != 0)
			continue;
		if (!features[i].is_here())
			reasons_add(reasons, REASON_KERNEL_FEATURE, "this node's kernel lacks %s", features[i].what);
		return true;
	}
	return false;
}

void needs_check(const char *const *list, size_t n, struct reasons *reasons)
{
	static const char rlimit[] = "rlimit-";

	for (size_t i = 0; i < n; i++) {
		CLEANUP(freep) char *name = strdup(list[i]);
		char *value = name ? strchr(name, '=') : NULL;
		bool known;

		if (!name)
			continue;
		if (value)
			*value++ = '\0';
		known = value ? !strncmp(name, rlimit, strlen(rlimit)) &&
				check_rlimit(name + strlen(rlimit), value, reasons) :
				check_feature(name, reasons);
		if (!known)
			reasons_add(reasons, REASON_NEED_UNKNOWN, "the container needs '%s', of which this node knows "
				    "nothing", list[i]);
	}
}

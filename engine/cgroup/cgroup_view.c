#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "engine/base/fd.h"
#include "engine/cgroup/cgroup_layout.h"

#define LOCKED (MS_NOSUID | MS_NODEV | MS_NOEXEC)
#define TABLE_MAX (64 << 10)
#define HIERARCHIES_MAX 64

/* "4:cpu,cpuacct:/path" and "9:name=systemd:/path" give "cpu,cpuacct" and
 * "name=systemd"; "0::/path" gives "". NULL for what is no such line. */
static char *controllers_of(char *line)
{
	char *start = strchr(line, ':');
	char *end = start ? strchr(start + 1, ':') : NULL;

	if (!end)
		return NULL;
	*end = '\0';
	return start + 1;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* A co-mounted hierarchy is also found by each of its controllers' names. */
static int link_controllers(int dirfd, const char *controllers, struct error *err)
{
	char name[NAME_MAX + 1];
	size_t len;

	if (!strchr(controllers, ','))
		return 0;
	for (const char *c = controllers; *c; c += len + (c[len] == ',')) {
		len = strcspn(c, ",");
		(void)snprintf(name, sizeof(name), "%.*s", (int)len, c);
		if (symlinkat(controllers, dirfd, name) < 0)
			return error_set(err, errno, "link %s: %s", name, strerror(errno));
	}
	return 0;
}

static int mount_hierarchy(int dirfd, const char *controllers, unsigned long flags, struct error *err)
{
	bool v2 = *controllers == '\0';
	bool named = !strncmp(controllers, "name=", 5);
	const char *dir = v2 ? "unified" : named ? controllers + 5 : controllers;
	const char *type = v2 ? "cgroup2" : "cgroup";
	CLEANUP(fd_closep) int fd = -EBADF;
	char target[64], options[256];

	if (strchr(dir, '/') || *dir == '.' || *dir == '\0')
		return error_set(err, EINVAL, "cgroup hierarchy '%s' has a strange name",
				 controllers);
	(void)snprintf(options, sizeof(options), "%s%s", named ? "none," : "", controllers);
	if (fd_open_dir_at(dirfd, dir, true, 0755, &fd, err) < 0)
		return -err->code;
	(void)snprintf(target, sizeof(target), "/proc/self/fd/%d", fd);
	if (mount(type, target, type, flags, v2 ? NULL : options) < 0)
		return error_set(err, errno, "mount %s %s: %s", type, dir, strerror(errno));
	return v2 ? 0 : link_controllers(dirfd, controllers, err);
}

/* Sorted, because the order of a host's hierarchies is an accident of its boot
 * and a checkpoint should not depend on it. */
static int mount_hierarchies(int dirfd, unsigned long flags, struct error *err)
{
	CLEANUP(freep) char *text = NULL;
	const char *all[HIERARCHIES_MAX];
	size_t n = 0;
	char *save = NULL;

	if (fd_read_file_at(AT_FDCWD, "/proc/self/cgroup", TABLE_MAX, &text, NULL, err) < 0)
		return -err->code;
	for (char *l = strtok_r(text, "\n", &save); l; l = strtok_r(NULL, "\n", &save)) {
		const char *controllers = controllers_of(l);

		if (controllers && n == HIERARCHIES_MAX)
			return error_set(err, E2BIG, "more than %d cgroup hierarchies",
					 HIERARCHIES_MAX);
		if (controllers)
			all[n++] = controllers;
	}
	qsort(all, n, sizeof(*all), by_name);
	for (size_t i = 0; i < n; i++)
		if (mount_hierarchy(dirfd, all[i], flags, err) < 0)
			return -err->code;
	return 0;
}

static int mount_tmpfs_view(const char *target, unsigned long flags, struct error *err)
{
	CLEANUP(fd_closep) int fd = -EBADF;

	if (mount("tmpfs", target, "tmpfs", LOCKED, "mode=755,size=64k") < 0)
		return error_set(err, errno, "mount tmpfs: %s", strerror(errno));
	if (fd_open_dir_at(AT_FDCWD, target, false, 0, &fd, err) < 0 ||
	    mount_hierarchies(fd, flags, err) < 0)
		return -err->code;
	if (mount(NULL, target, NULL, LOCKED | MS_RDONLY | MS_REMOUNT | MS_BIND, NULL) < 0)
		return error_set(err, errno, "make it read-only: %s", strerror(errno));
	return 0;
}

int cgroup_mount_view(const char *target, bool writable, struct error *err)
{
	unsigned long flags = LOCKED | (writable ? 0 : MS_RDONLY);
	bool pure_v2;
	int r = cgroup_is_pure_v2(&pure_v2, err);

	if (r == 0 && pure_v2 && mount("cgroup2", target, "cgroup2", flags, NULL) < 0)
		r = error_set(err, errno, "mount cgroup2: %s", strerror(errno));
	else if (r == 0 && !pure_v2)
		r = mount_tmpfs_view(target, flags, err);
	return r < 0 ? error_wrap(err, "cgroup view at %s", target) : 0;
}

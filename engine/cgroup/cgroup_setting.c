/* Single files of a container's control groups (cgroup.h), for whoever knows their names. */
#include <string.h>

#include "engine/base/fd.h"
#include "engine/cgroup/cgroup_layout.h"

#define VALUE_LIMIT (256 << 10)

static const struct { const char *name; enum cgroup_hierarchy v1; } controllers[] = {
	{ "", CGROUP_V2 },		{ "memory", CGROUP_MEMORY },   { "cpu", CGROUP_CPU },
	{ "cpuacct", CGROUP_CPUACCT },	{ "pids", CGROUP_PIDS },       { "cpuset", CGROUP_CPUSET },
	{ "io", CGROUP_BLKIO },		{ "hugetlb", CGROUP_HUGETLB }, { "net_cls", CGROUP_NET_CLS },
	{ "net_prio", CGROUP_NET_PRIO }, { "rdma", CGROUP_RDMA },
};

static int find_fd(const struct cgroup *cg, const char *controller, struct error *err)
{
	for (size_t i = 0; i < sizeof(controllers) / sizeof(*controllers); i++) {
		int fd;

		if (strcmp(controllers[i].name, controller) != 0)
			continue;
		fd = cgroup_controller_fd(cg, controllers[i].v1);
		return fd >= 0 ? fd : error_set(err, EOPNOTSUPP, "this host has no %s controller", controller);
	}
	return error_set(err, EINVAL, "no controller is called '%s'", controller);
}

int cgroup_write_setting(const struct cgroup *cg, const struct cgroup_setting *s, struct error *err)
{
	int fd = find_fd(cg, s->controller, err), r;

	if (fd < 0)
		return fd;
	r = fd_write_file_at(fd, s->file, s->value, err);
	if (r == -ENOENT && s->other)
		r = fd_write_file_at(fd, s->other, *s->other_value ? s->other_value : s->value, err);
	return r == -ENOENT ? error_set(err, EOPNOTSUPP, "this kernel has no %s", s->file) : r;
}

int cgroup_read_setting(const struct cgroup *cg, const char *controller, const char *file, char **ret,
			struct error *err)
{
	int fd = find_fd(cg, controller, err);

	return fd < 0 ? fd : fd_read_file_at(fd, file, VALUE_LIMIT, ret, NULL, err);
}

#include <fcntl.h>
#include <grp.h>
#include <inttypes.h>
#include <linux/capability.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/base/cleanup.h"
#include "engine/base/fd.h"
#include "engine/userns.h"

#define LINE_MAX_BYTES 36

bool userns_is_own(const struct userns *u)
{
	return u->uids.n > 0;
}

static bool overlap(uint64_t a, uint64_t a_size, uint64_t b, uint64_t b_size)
{
	return a < b + b_size && b < a + a_size;
}

int id_map_add(struct id_map *map, uint64_t container_id, uint64_t host_id, uint64_t size, struct error *err)
{
	if (size == 0 || size > ID_NONE || container_id > ID_NONE - size || host_id > ID_NONE - size)
		return error_set(err, EINVAL, "%" PRIu64 ":%" PRIu64 ":%" PRIu64 " is no range of ids: they are below "
				 "%u", container_id, host_id, size, ID_NONE);
	for (size_t i = 0; i < map->n; i++) {
		const struct id_range *r = &map->ranges[i];

		if (overlap(r->container_id, r->size, container_id, size) ||
		    overlap(r->host_id, r->size, host_id, size))
			return error_set(err, EINVAL, "%" PRIu64 ":%" PRIu64 ":%" PRIu64 " overlaps %u:%u:%u",
					 container_id, host_id, size, r->container_id, r->host_id, r->size);
	}
	if (map->n == ID_RANGES_MAX)
		return error_set(err, E2BIG, "more than %d ranges of ids", ID_RANGES_MAX);
	map->ranges[map->n++] = (struct id_range){ (uint32_t)container_id, (uint32_t)host_id, (uint32_t)size };
	return 0;
}

uint32_t id_map_host(const struct id_map *map, uint32_t id)
{
	for (size_t i = 0; i < map->n; i++)
		if (id >= map->ranges[i].container_id && id - map->ranges[i].container_id < map->ranges[i].size)
			return id - map->ranges[i].container_id + map->ranges[i].host_id;
	return map->n ? ID_NONE : id;
}

uint32_t id_map_container(const struct id_map *map, uint32_t host_id)
{
	for (size_t i = 0; i < map->n; i++)
		if (host_id >= map->ranges[i].host_id && host_id - map->ranges[i].host_id < map->ranges[i].size)
			return host_id - map->ranges[i].host_id + map->ranges[i].container_id;
	return map->n ? ID_NONE : host_id;
}

int userns_check(const struct userns *u, struct error *err)
{
	if (!u->uids.n && !u->gids.n)
		return 0;
	if (!u->uids.n || !u->gids.n)
		return error_set(err, EINVAL, "a user namespace needs both uids and gids mapped");
	if (id_map_host(&u->uids, 0) == ID_NONE || id_map_host(&u->gids, 0) == ID_NONE)
		return error_set(err, EINVAL, "a user namespace needs uid 0 and gid 0 mapped");
	return 0;
}

static int write_map(const struct id_map *map, pid_t pid, const char *file, struct error *err)
{
	char text[ID_RANGES_MAX * LINE_MAX_BYTES], path[40];
	size_t n = 0;

	for (size_t i = 0; i < map->n; i++)
		n += (size_t)snprintf(text + n, sizeof(text) - n, "%u %u %u\n", map->ranges[i].container_id,
				      map->ranges[i].host_id, map->ranges[i].size);
	(void)snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, file);
	return fd_write_file_at(AT_FDCWD, path, text, err);
}

int userns_write_maps(const struct userns *u, pid_t pid, struct error *err)
{
	return write_map(&u->uids, pid, "uid_map", err) < 0 || write_map(&u->gids, pid, "gid_map", err) < 0 ?
		error_wrap(err, "map of the user namespace") : 0;
}

static int open_namespace(pid_t pid, const char *type, int *ret_fd, struct error *err)
{
	char path[40];

	(void)snprintf(path, sizeof(path), "/proc/%d/ns/%s", (int)pid, type);
	*ret_fd = open(path, O_RDONLY | O_CLOEXEC);
	return *ret_fd < 0 ? error_set(err, errno, "open %s: %s", path, strerror(errno)) : 0;
}

/* A process is in it until it is killed: only open descriptors are wanted. */
int userns_create(const struct userns *u, int *ret_user_fd, int *ret_net_fd, struct error *err)
{
	struct clone_args args = { .flags = CLONE_NEWUSER | (ret_net_fd ? CLONE_NEWNET : 0), .exit_signal = SIGCHLD };
	CLEANUP(fd_closep) int user = -EBADF, net = -EBADF;
	pid_t pid = (pid_t)syscall(SYS_clone3, &args, sizeof(args));
	int r;

	if (pid == 0)
		for (;;)
			(void)pause();
	if (pid < 0)
		return error_set(err, errno, "new user namespace: %s", strerror(errno));
	r = userns_write_maps(u, pid, err);
	if (r == 0)
		r = open_namespace(pid, "user", &user, err);
	if (r == 0 && ret_net_fd)
		r = open_namespace(pid, "net", &net, err);
	(void)kill(pid, SIGKILL);
	(void)waitpid(pid, NULL, 0);
	if (r < 0)
		return r;
	*ret_user_fd = TAKE_FD(user);
	if (ret_net_fd)
		*ret_net_fd = TAKE_FD(net);
	return 0;
}

int userns_take_root(struct error *err)
{
	if (setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0)
		return error_set(err, errno, "become root of the user namespace: %s: map id 0", strerror(errno));
	(void)setgroups(0, NULL);
	return 0;
}

int userns_enter(int user_fd, struct error *err)
{
	if (setns(user_fd, CLONE_NEWUSER) < 0)
		return error_set(err, errno, "enter the user namespace: %s", strerror(errno));
	return userns_take_root(err);
}

int userns_work_for(const struct userns *u, struct error *err)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];
	uid_t uid = id_map_host(&u->uids, 0);
	gid_t gid = id_map_host(&u->gids, 0);

	if (syscall(SYS_capget, &header, data) < 0 || prctl(PR_SET_KEEPCAPS, 1) < 0 || setgroups(0, NULL) < 0 ||
	    setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0 || syscall(SYS_capset, &header, data) < 0)
		return error_set(err, errno, "take the ids of the container's root: %s", strerror(errno));
	return 0;
}

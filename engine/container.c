#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "engine/base/clock.h"
#include "engine/base/fault.h"
#include "engine/base/fd.h"
#include "engine/base/hash.h"
#include "engine/container.h"
#include "engine/monitor/monitor.h"
#include "engine/network/named_network.h"
#include "engine/network/nat.h"

#define CONFIG_JSON "config.json"
#define KILL_TIMEOUT_US 10000000

void container_free(struct container *c)
{
	if (!c)
		return;
	fd_closep(&c->lock_fd);
	fd_closep(&c->dir_fd);
	spec_free(c->spec);
	free(c);
}

static int new_container(const struct node *node, const char *name, struct container **ret,
			 struct error *err)
{
	CLEANUP(container_freep) struct container *c = calloc(1, sizeof(*c));

	if (!c)
		return error_set(err, ENOMEM, "out of memory");
	c->node = node;
	c->dir_fd = c->lock_fd = -EBADF;
	if (spec_check_name(name, err) < 0)
		return -err->code;
	(void)snprintf(c->name, sizeof(c->name), "%s", name);
	*ret = TAKE_PTR(c);
	return 0;
}

void container_remove_temporary_at(int dirfd)
{
	int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CLEANUP(dir_closep) DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;
	int pid;

	while (d && (e = readdir(d)))
		if (e->d_name[0] == '.' && sscanf(strrchr(e->d_name, '.'), ".tmp%d", &pid) == 1 && pid > 0 &&
		    container_pid_start(pid) == 0)
			(void)unlinkat(dirfd, e->d_name, 0);
}

static void remove_temporary(const struct container *c)
{
	CLEANUP(fd_closep) int meta = openat(c->dir_fd, "meta", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	container_remove_temporary_at(c->dir_fd);
	container_remove_temporary_at(meta);
}

int container_unthrottle(const struct container *c, struct error *err)
{
	CLEANUP(container_freep) struct container *now = NULL;
	CLEANUP(cgroup_freep) struct cgroup *cg = NULL;

	if (container_open(c->node, c->name, &now, err) < 0 || container_cgroup(c, false, &cg, err) < 0)
		return -err->code;
	return cgroup_set_limits(cg, &now->spec->limits, err);
}

/* What its monitor would have done when whoever froze or slowed it was gone. */
static void repair(struct container *c)
{
	CLEANUP(cgroup_freep) struct cgroup *cg = NULL;
	struct container_state st;
	struct error ignored;

	if (container_state(c, &st, &ignored) < 0 || !st.alive || st.monitor_alive || st.status == CONTAINER_IN_DOUBT ||
	    st.status == CONTAINER_INCOMING || container_cgroup(c, false, &cg, &ignored) < 0)
		return;
	(void)container_unthrottle(c, &ignored);
	/* CRIU outlives whoever started it, and leaves it as frozen as it was. */
	if (st.abandoned && (container_is_traced(st.pid) || (!st.was_paused && cgroup_thaw(cg, &ignored) < 0) ||
			     container_reconnect(c, st.pid, &ignored) < 0))
		return;
	if (st.abandoned) {
		st.status = CONTAINER_RUNNING;
		(void)container_state_write(c, &st, &ignored);
	}
	(void)monitor_adopt(c, &ignored);
}

int container_lock(struct container *c, bool wait, struct error *err)
{
	CLEANUP(fd_closep) int fd = openat(c->dir_fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	if (fd < 0)
		return error_set(err, errno, "container '%s': open its lock: %s", c->name, strerror(errno));
	if (flock(fd, LOCK_EX | (wait ? 0 : LOCK_NB)) < 0)
		return errno == EWOULDBLOCK ?
			error_set(err, EBUSY, "container '%s': another operation on it is under way", c->name) :
			error_set(err, errno, "container '%s': lock: %s", c->name, strerror(errno));
	c->lock_fd = TAKE_FD(fd);
	remove_temporary(c);
	repair(c);
	return 0;
}

void container_unlock(struct container *c)
{
	fd_close(&c->lock_fd);
}

static int write_spec(const struct container *c, const struct spec *spec, enum fd_replace how, struct error *err)
{
	CLEANUP(freep) char *json = NULL;

	if (spec_to_json(spec, &json, err) < 0)
		return -err->code;
	return fd_replace_file_at(c->dir_fd, CONFIG_JSON, json, strlen(json), 0600, how, err);
}

int container_rewrite(const struct container *c, struct error *err)
{
	return write_spec(c, c->spec, FD_REPLACE_DURABLE, err) < 0 ? error_wrap(err, "container '%s'", c->name) : 0;
}

static int fill_folder(struct container *c, const struct spec *spec, enum container_status status,
		       struct error *err)
{
	struct container_state state = { .status = status, .exit_code = -1 };
	int fd = -EBADF;

	for (const char *const *d = (const char *const[]){ "meta", "upper", "work", "merged", NULL }; *d; d++) {
		if (fd_open_dir_at(c->dir_fd, *d, true, 0755, &fd, err) < 0)
			return -err->code;
		fd_close(&fd);
	}
	if (write_spec(c, spec, FD_REPLACE, err) < 0)
		return -err->code;
	container_state_stamp(&state, 0, 0);
	return container_state_write(c, &state, err);
}

/* Folders that are being made or removed: ".new-PID-NAME", ".gone-PID-NAME". */
static void hidden_name(const struct container *c, const char *what, char ret[NAME_MAX + 1])
{
	(void)snprintf(ret, NAME_MAX + 1, ".%s-%d-%s", what, (int)getpid(), c->name);
}

void container_remove_leftovers(const struct node *node)
{
	int fd = openat(node->containers_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CLEANUP(dir_closep) DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct error ignored;
	struct dirent *e;

	while (d && (e = readdir(d))) {
		int pid = 0;

		if ((sscanf(e->d_name, ".new-%d-", &pid) == 1 || sscanf(e->d_name, ".gone-%d-", &pid) == 1) &&
		    container_pid_start(pid) == 0)
			(void)fd_remove_tree_at(node->containers_fd, e->d_name, &ignored);
	}
}

int container_remove_folder(const struct container *c, struct error *err)
{
	int dir = c->node->containers_fd;
	char gone[NAME_MAX + 1];

	hidden_name(c, "gone", gone);
	if (fd_remove_tree_at(dir, gone, err) < 0)
		return -err->code;
	if (fault_point("folder-vanish", err) < 0)
		return error_wrap(err, "remove its folder");
	if (renameat(dir, c->name, dir, gone) < 0)
		return errno == ENOENT ? 0 : error_set(err, errno, "remove its folder: %s", strerror(errno));
	fault_pass("folder-vanished");
	if (fd_remove_tree_at(dir, gone, err) < 0)
		return error_wrap(err, "remove its folder");
	fault_pass("folder-removed");
	container_remove_leftovers(c->node);
	return 0;
}

/* Made under another name, so that it appears whole. */
static int make_folder(struct container *c, const struct spec *spec, enum container_status status,
		       struct error *err)
{
	int dir = c->node->containers_fd;
	char fresh[NAME_MAX + 1];
	struct error ignored;

	hidden_name(c, "new", fresh);
	if (fd_open_dir_at(dir, fresh, true, 0700, &c->dir_fd, err) < 0 ||
	    container_lock(c, true, err) < 0 || fill_folder(c, spec, status, err) < 0 ||
	    fault_point("folder-appear", err) < 0)
		(void)error_wrap(err, "container '%s': make its folder", c->name);
	else if (renameat2(dir, fresh, dir, c->name, RENAME_NOREPLACE) == 0) {
		fault_pass("folder-appeared");
		return 0;
	} else if (errno == EEXIST)
		(void)error_set(err, EEXIST, "container '%s': the name is in use; choose another, or remove it with "
				"'godwit rm %s'", c->name, c->name);
	else
		(void)error_set(err, errno, "container '%s': make its folder: %s", c->name, strerror(errno));
	(void)fd_remove_tree_at(dir, fresh, &ignored);
	return -err->code;
}

int container_create(const struct node *node, struct spec *spec, enum container_status status,
		     struct container **ret, struct error *err)
{
	CLEANUP(container_freep) struct container *c = NULL;

	if (new_container(node, spec->name, &c, err) < 0 || make_folder(c, spec, status, err) < 0)
		return -err->code;
	c->spec = spec;
	*ret = TAKE_PTR(c);
	return 0;
}

int container_reload(struct container *c, struct error *err)
{
	CLEANUP(freep) char *text = NULL;
	struct spec *fresh = NULL;
	size_t len;

	if (fd_read_file_at(c->dir_fd, CONFIG_JSON, SPEC_JSON_LIMIT, &text, &len, err) < 0 ||
	    spec_from_json(text, len, &fresh, err) < 0)
		return -err->code;
	spec_free(c->spec);
	c->spec = fresh;
	return 0;
}

int container_open(const struct node *node, const char *name, struct container **ret,
		   struct error *err)
{
	CLEANUP(container_freep) struct container *c = NULL;
	int r;

	if (new_container(node, name, &c, err) < 0)
		return -err->code;
	r = fd_open_dir_at(node->containers_fd, name, false, 0, &c->dir_fd, err);
	if (r == 0)
		r = container_reload(c, err);
	if (r == -ENOENT)
		return error_set(err, ENOENT, "no container '%s' on %s; 'godwit ps -a' lists them",
				 name, node->config.name);
	if (r < 0)
		return error_wrap(err, "container '%s'", name);
	*ret = TAKE_PTR(c);
	return 0;
}

int container_cgroup(const struct container *c, bool create, struct cgroup **ret,
		     struct error *err)
{
	const char *parent = c->node->config.cgroup;

	return create ? cgroup_create(parent, c->name, &c->spec->limits, ret, err) :
			cgroup_open(parent, c->name, ret, err);
}

static void make_ifname(const struct container *c, const char *prefix, char ret[IFNAMSIZ])
{
	uint64_t h = hash_add(HASH_START, c->node->path, strlen(c->node->path));

	h = hash_add(h, c->name, strlen(c->name));
	(void)snprintf(ret, IFNAMSIZ, "%s%012llx", prefix, (unsigned long long)(h & 0xffffffffffffu));
}

void container_host_ifname(const struct container *c, char ret[IFNAMSIZ])
{
	make_ifname(c, "gw", ret);
}

void container_stand_in_ifname(const struct container *c, char ret[IFNAMSIZ])
{
	make_ifname(c, "gf", ret);
}

void container_endpoint(const struct container *c, struct network_endpoint *ret)
{
	const struct node_config *config = &c->node->config;
	size_t len = strcspn(config->bridge_address, "/");

	*ret = c->spec->endpoint;
	container_host_ifname(c, ret->host_ifname);
	if (ret->network[0]) {		/* every node's bridge is the gateway */
		named_network_bridge(c->node, ret->network, ret->bridge);
		ret->behind_node = true;
		return;
	}
	(void)snprintf(ret->bridge, sizeof(ret->bridge), "%s", ret->address[0] ? config->bridge : "");
	ret->behind_node = len && strlen(ret->gateway) == len && !strncmp(ret->gateway, config->bridge_address, len);
}

static int clean_cgroup(const struct container *c, struct error *err)
{
	CLEANUP(cgroup_freep) struct cgroup *cg = NULL;
	uint64_t end = clock_us() + KILL_TIMEOUT_US;
	int r = container_cgroup(c, false, &cg, err);

	if (r < 0)
		return r == -ENOENT ? 0 : r;
	/* A dying CRIU outside may have put another process in: no event tells. */
	while ((r = cgroup_kill(cg, KILL_TIMEOUT_US, err)) == 0 &&
	       (r = cgroup_remove(cg, err)) == -EBUSY && clock_us() < end)
		(void)usleep(1000);
	return r;
}

static int netns_of(pid_t init)
{
	char path[32];

	(void)snprintf(path, sizeof(path), "/proc/%d/ns/net", (int)init);
	return open(path, O_RDONLY | O_CLOEXEC);
}

int container_reconnect(const struct container *c, pid_t init, struct error *err)
{
	CLEANUP(fd_closep) int netns = netns_of(init);
	struct network_endpoint ep;

	container_endpoint(c, &ep);
	return network_resume(netns, &ep, err);
}

int container_announce(const struct container *c, pid_t init, struct error *err)
{
	CLEANUP(fd_closep) int netns = netns_of(init);
	struct network_endpoint ep;

	container_endpoint(c, &ep);
	return network_announce(netns, &ep, NULL, err);
}

/* The name may be another container's by now. */
static bool name_was_given_away(const struct container *c)
{
	struct stat ours, now;

	return fstat(c->dir_fd, &ours) == 0 &&
	       fstatat(c->node->containers_fd, c->name, &now, AT_SYMLINK_NOFOLLOW) == 0 &&
	       (ours.st_ino != now.st_ino || ours.st_dev != now.st_dev);
}

int container_clean(const struct container *c, bool keep_folder, struct error *err)
{
	struct network_endpoint endpoint;

	if (name_was_given_away(c))
		return 0;
	fault_pass("clean-begin");
	container_endpoint(c, &endpoint);
	if (clean_cgroup(c, err) < 0 || nat_detach(&endpoint, err) < 0 ||
	    network_detach(endpoint.host_ifname, err) < 0)
		return error_wrap(err, "container '%s'", c->name);
	if (!keep_folder && container_remove_folder(c, err) < 0)
		return error_wrap(err, "container '%s'", c->name);
	fault_pass("clean-end");
	return 0;
}

int container_list(const struct node *node, char ***ret, size_t *ret_n, struct error *err)
{
	if (fd_list_at(node->containers_fd, ".", ret, ret_n, err) < 0)
		return error_wrap(err, "list containers of %s", node->path);
	return 0;
}

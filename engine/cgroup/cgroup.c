#include <fcntl.h>
#include <limits.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "engine/base/fd.h"
#include "engine/cgroup/cgroup_layout.h"

#define PROCS_MAX (1 << 20)

void cgroup_free(struct cgroup *cg)
{
	for (int h = 0; cg && h < CGROUP_HIERARCHY_MAX_; h++) {
		fd_close(&cg->fd[h]);
		fd_close(&cg->parent_fd[h]);
	}
	if (cg) {
		free(cg->parent);
		free(cg->name);
		free(cg->path);
	}
	free(cg);
}

int cgroup_fd(const struct cgroup *cg)
{
	return cg->fd[CGROUP_V2];
}

const char *cgroup_path(const struct cgroup *cg)
{
	return cg->path;
}

int cgroup_controller_fd(const struct cgroup *cg, enum cgroup_hierarchy v1)
{
	return cg->pure_v2 ? cg->fd[CGROUP_V2] : cg->fd[v1];
}

/* NULL on failure. */
static struct cgroup *make(const char *parent, const char *name, bool full, struct error *err)
{
	CLEANUP(cgroup_freep) struct cgroup *cg = NULL;

	if (cgroup_layout_check(full && !*parent ? "/none" : parent, name, err) < 0)
		return NULL;
	cg = calloc(1, sizeof(*cg));
	if (!cg) {
		(void)error_set(err, ENOMEM, "out of memory");
		return NULL;
	}
	for (int h = 0; h < CGROUP_HIERARCHY_MAX_; h++)
		cg->fd[h] = cg->parent_fd[h] = -EBADF;
	if (cgroup_is_pure_v2(&cg->pure_v2, err) < 0)
		return NULL;
	cg->parent = strdup(parent);
	cg->name = strdup(name);
	if (asprintf(&cg->path, "%s%s/%s", cgroup_layout_v2_path(cg->pure_v2), parent, name) < 0)
		cg->path = NULL;
	if (!cg->parent || !cg->name || !cg->path) {
		(void)error_set(err, ENOMEM, "out of memory");
		return NULL;
	}
	return TAKE_PTR(cg);
}

static int no_v2(struct error *err)
{
	return error_set(err, EOPNOTSUPP,
			 "no cgroup2 at %s: mount it there (mount -t cgroup2 none %s)",
			 cgroup_layout_v2_path(false), cgroup_layout_v2_path(false));
}

/* What create makes. */
enum making { BASIC, FULL, ADOPTED };

/* Replaces what an earlier container left, so that its limits, its device
 * rules and its frozen state go with it. */
static int make_leaf(struct cgroup *cg, enum cgroup_hierarchy h, enum making how, struct error *err)
{
	int parent = cg->parent_fd[h];

	if (mkdirat(parent, cg->name, 0755) < 0) {
		bool populated = false;

		if (errno != EEXIST)
			return error_set(err, errno, "mkdir: %s", strerror(errno));
		if (fd_open_dir_at(parent, cg->name, false, 0, &cg->fd[h], err) < 0)
			return -err->code;
		if (how == ADOPTED)
			return 0;
		if (h == CGROUP_V2 && cgroup_is_populated(cg, &populated, err) < 0)
			return -err->code;
		fd_close(&cg->fd[h]);
		if (populated)
			return error_set(err, EBUSY, "processes live in it already");
		if (cgroup_layout_remove(parent, cg->name, err) < 0)
			return -err->code;
		if (mkdirat(parent, cg->name, 0755) < 0)
			return error_set(err, errno, "mkdir: %s", strerror(errno));
	}
	return fd_open_dir_at(parent, cg->name, false, 0, &cg->fd[h], err);
}

static int fill_cpuset(const struct cgroup *cg, int root, struct error *err)
{
	char path[PATH_MAX];

	(void)snprintf(path, sizeof(path), "%s/%s", cg->parent, cg->name);
	return cgroup_layout_fill_cpuset(root, path, err);
}

static int make_in_hierarchy(struct cgroup *cg, enum cgroup_hierarchy h, enum making how, struct error *err)
{
	CLEANUP(fd_closep) int root = -EBADF;

	if (cgroup_layout_root(cg->pure_v2, h, &root, err) < 0)
		return -err->code;
	if (root < 0)
		return h == CGROUP_V2 ? no_v2(err) : 0;
	if (cgroup_layout_open(root, cg->parent, true, &cg->parent_fd[h], err) < 0)
		return -err->code;
	if (cg->pure_v2 && cgroup_layout_delegate(root, cg->parent, how != BASIC, err) < 0)
		return -err->code;
	if (make_leaf(cg, h, how, err) < 0)
		return -err->code;
	return h == CGROUP_CPUSET ? fill_cpuset(cg, root, err) : 0;
}

static void undo_create(struct cgroup *cg)
{
	struct error ignored;

	for (int h = CGROUP_HIERARCHY_MAX_; h-- > 0;)
		if (cg->fd[h] >= 0)
			(void)cgroup_layout_remove(cg->parent_fd[h], cg->name, &ignored);
}

/* limits for a basic one. */
static int create(const char *parent, const char *name, enum making how, const struct cgroup_limits *limits,
		  struct cgroup **ret, struct error *err)
{
	CLEANUP(cgroup_freep) struct cgroup *cg = make(parent, name, how != BASIC, err);
	int r = 0;

	if (!cg)
		return -err->code;
	for (int h = 0; r == 0 && h < (how == BASIC ? CGROUP_BASIC_MAX_ : CGROUP_HIERARCHY_MAX_); h++)
		r = make_in_hierarchy(cg, (enum cgroup_hierarchy)h, how, err);
	if (r == 0 && how == BASIC)
		r = cgroup_init_limits(cg, limits, err);
	if (r < 0) {
		undo_create(cg);
		return error_wrap(err, "make cgroup %s/%s", parent, name);
	}
	*ret = TAKE_PTR(cg);
	return 0;
}

int cgroup_create(const char *parent, const char *name, const struct cgroup_limits *limits,
		  struct cgroup **ret, struct error *err)
{
	return create(parent, name, BASIC, limits, ret, err);
}

int cgroup_create_full(const char *parent, const char *name, struct cgroup **ret, struct error *err)
{
	return create(parent, name, FULL, NULL, ret, err);
}

int cgroup_adopt_full(const char *parent, const char *name, struct cgroup **ret, struct error *err)
{
	return create(parent, name, ADOPTED, NULL, ret, err);
}

static int open_in_hierarchy(struct cgroup *cg, enum cgroup_hierarchy h, struct error *err)
{
	CLEANUP(fd_closep) int root = -EBADF;
	struct error found;
	int r;

	if (cgroup_layout_root(cg->pure_v2, h, &root, err) < 0)
		return -err->code;
	if (root < 0)
		return h == CGROUP_V2 ? no_v2(err) : 0;
	r = cgroup_layout_open(root, cg->parent, false, &cg->parent_fd[h], &found);
	if (r == 0)
		r = fd_open_dir_at(cg->parent_fd[h], cg->name, false, 0, &cg->fd[h], &found);
	if (r == 0 || (r == -ENOENT && h != CGROUP_V2))
		return 0;
	*err = found;
	return r;
}

static int open_all(const char *parent, const char *name, bool full, struct cgroup **ret, struct error *err)
{
	CLEANUP(cgroup_freep) struct cgroup *cg = make(parent, name, full, err);

	if (!cg)
		return -err->code;
	for (int h = 0; h < CGROUP_HIERARCHY_MAX_; h++)
		if (open_in_hierarchy(cg, (enum cgroup_hierarchy)h, err) < 0)
			return error_wrap(err, "cgroup %s/%s", parent, name);
	*ret = TAKE_PTR(cg);
	return 0;
}

int cgroup_open(const char *parent, const char *name, struct cgroup **ret, struct error *err)
{
	return open_all(parent, name, false, ret, err);
}

int cgroup_open_full(const char *parent, const char *name, struct cgroup **ret, struct error *err)
{
	return open_all(parent, name, true, ret, err);
}

int cgroup_of_process(pid_t pid, char **ret_parent, char **ret_name, struct error *err)
{
	CLEANUP(freep) char *text = NULL;
	char path[40], *line, *end, *slash;

	(void)snprintf(path, sizeof(path), "/proc/%d/cgroup", (int)pid);
	if (fd_read_file_at(AT_FDCWD, path, PROCS_MAX, &text, NULL, err) < 0)
		return -err->code;
	line = strncmp(text, "0::", 3) == 0 ? text : strstr(text, "\n0::");
	end = line ? strchr(line + 1, '\n') : NULL;
	if (end)
		*end = '\0';
	line = line ? strchr(line, '/') : NULL;
	slash = line ? strrchr(line, '/') : NULL;
	if (!slash || !slash[1])
		return error_set(err, EINVAL, "%s: it is at the root of cgroup2", path);
	*slash = '\0';
	*ret_parent = strdup(line);
	*ret_name = strdup(slash + 1);
	return *ret_parent && *ret_name ? 0 : error_set(err, ENOMEM, "out of memory");
}

/* v2 directories last: they say when all is gone, so that an interrupted
 * removal can be found and finished. */
int cgroup_remove(const struct cgroup *cg, struct error *err)
{
	bool populated = false;
	struct error found;
	int r = cgroup_is_populated(cg, &populated, &found);

	if (r < 0 && r != -ENODEV && r != -ENOENT) {
		*err = found;
		return r;
	}
	if (populated)
		return error_set(err, EBUSY, "remove cgroup %s/%s: processes live in it",
				 cg->parent, cg->name);
	for (int h = CGROUP_HIERARCHY_MAX_; h-- > 0;)
		if (cg->parent_fd[h] >= 0 &&
		    cgroup_layout_remove(cg->parent_fd[h], cg->name, err) < 0)
			return error_wrap(err, "%s", cg->parent);
	return 0;
}

int cgroup_remove_rest(const char *parent, const char *name, struct error *err)
{
	CLEANUP(cgroup_freep) struct cgroup *cg = make(parent, name, true, err);

	if (!cg)
		return -err->code;
	for (int h = 0; h < CGROUP_HIERARCHY_MAX_; h++) {
		struct error found;
		int r = open_in_hierarchy(cg, (enum cgroup_hierarchy)h, &found);

		if (r < 0 && r != -ENOENT)
			return error_set(err, -r, "cgroup %s/%s: %s", parent, name, found.msg);
		if (cg->fd[h] >= 0 && cgroup_layout_remove(cg->parent_fd[h], name, err) < 0)
			return error_wrap(err, "%s", parent);
	}
	return 0;
}

static bool is_alone(void)
{
	struct stat st;

	return stat("/proc/self/task", &st) == 0 && st.st_nlink == 3; /* ".", ".." and one thread */
}

static bool is_inside(int dirfd, pid_t pid)
{
	CLEANUP(freep) char *text = NULL;
	struct error ignored;
	char *save = NULL;

	if (fd_read_file_at(dirfd, "cgroup.procs", PROCS_MAX, &text, NULL, &ignored) < 0)
		return false;
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		if (strtol(line, NULL, 10) == pid)
			return true;
	return false;
}

/*
 * Writing cgroup.procs waits for an RCU grace period (up to 16 ms) whenever
 * nobody did so a moment ago: cgroup_procs_write_start of the kernel's
 * kernel/cgroup/cgroup.c. A thread that writes "0" to a v1 "tasks" file is let
 * off, and who was cloned into the v2 directory is there already.
 */
static int move_to(int dirfd, enum cgroup_hierarchy h, pid_t pid, bool alone, struct error *err)
{
	char text[16];

	if (h == CGROUP_V2 && is_inside(dirfd, pid ? pid : getpid()))
		return 0;
	(void)snprintf(text, sizeof(text), "%d", (int)pid);
	return fd_write_file_at(dirfd, h != CGROUP_V2 && alone ? "tasks" : "cgroup.procs", text,
				err);
}

int cgroup_join(const struct cgroup *cg, pid_t pid, struct error *err)
{
	bool alone = pid == 0 && is_alone();

	for (int h = CGROUP_HIERARCHY_MAX_; h-- > 0;)
		if (cg->fd[h] >= 0 &&
		    move_to(cg->fd[h], (enum cgroup_hierarchy)h, pid, alone, err) < 0)
			return error_wrap(err, "join cgroup %s/%s", cg->parent, cg->name);
	return 0;
}

int cgroup_join_v1(const struct cgroup *cg, struct error *err)
{
	for (int h = CGROUP_V2 + 1; h < CGROUP_HIERARCHY_MAX_; h++)
		if (cg->fd[h] >= 0 && move_to(cg->fd[h], (enum cgroup_hierarchy)h, 0, is_alone(), err) < 0)
			return error_wrap(err, "join cgroup %s/%s", cg->parent, cg->name);
	return 0;
}

int cgroup_open_leaf(const struct cgroup *cg, int *ret_fd, struct error *err)
{
	if (fd_open_dir_at(cg->fd[CGROUP_V2], "init", true, 0755, ret_fd, err) < 0)
		return error_wrap(err, "cgroup %s/%s", cg->parent, cg->name);
	return 0;
}

int cgroup_enter_leaf(const struct cgroup *cg, struct error *err)
{
	CLEANUP(fd_closep) int leaf = -EBADF;

	if (cgroup_open_leaf(cg, &leaf, err) < 0)
		return -err->code;
	return fd_write_file_at(leaf, "cgroup.procs", "0", err);
}

bool cgroup_contains(const struct cgroup *cg, pid_t pid)
{
	return is_inside(cg->fd[CGROUP_V2], pid);
}

/* The namespace's first and only process: waits until its namespace is open. */
static _Noreturn void namespace_main(const struct cgroup *cg, int userns_fd, int sock)
{
	struct error err = { 0 };
	char byte;

	if (cgroup_join_v1(cg, &err) == 0 &&
	    ((userns_fd >= 0 && setns(userns_fd, CLONE_NEWUSER) < 0) || unshare(CLONE_NEWCGROUP) < 0))
		(void)error_set(&err, errno, "unshare: %s", strerror(errno));
	(void)!write(sock, &err, sizeof(err));
	(void)!read(sock, &byte, 1);
	_exit(0);
}

static int open_namespace(pid_t pid, int sock, int *ret_fd, struct error *err)
{
	struct error said;
	char path[40];

	if (fd_read_full(sock, &said, sizeof(said), err) < 0)
		return -err->code;
	if (said.code) {
		*err = said;
		return -err->code;
	}
	(void)snprintf(path, sizeof(path), "/proc/%d/ns/cgroup", (int)pid);
	*ret_fd = open(path, O_RDONLY | O_CLOEXEC);
	return *ret_fd < 0 ? error_set(err, errno, "open %s: %s", path, strerror(errno)) : 0;
}

int cgroup_namespace_create(const struct cgroup *cg, int userns_fd, int *ret_fd, struct error *err)
{
	struct clone_args args = { .flags = CLONE_INTO_CGROUP, .exit_signal = SIGCHLD,
				   .cgroup = (uint64_t)cg->fd[CGROUP_V2] };
	int sock[2], r;
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sock) < 0)
		return error_set(err, errno, "socketpair: %s", strerror(errno));
	pid = (pid_t)syscall(SYS_clone3, &args, sizeof(args));
	if (pid == 0) {
		fd_close(&sock[0]);
		namespace_main(cg, userns_fd, sock[1]);
	}
	fd_close(&sock[1]);
	r = pid < 0 ? error_set(err, errno, "clone3: %s", strerror(errno)) :
		      open_namespace(pid, sock[0], ret_fd, err);
	fd_close(&sock[0]);
	if (pid > 0)
		(void)waitpid(pid, NULL, 0);
	return r < 0 ? error_wrap(err, "cgroup namespace of %s/%s", cg->parent, cg->name) : 0;
}


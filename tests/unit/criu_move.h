/*
 * criu_move.h - dumps and restores of a box, as the engine does them
 */
#pragma once

#include <arpa/inet.h>
#include <stdint.h>
#include <sys/socket.h>

#include "engine/base/clock.h"
#include "tests/unit/criu_box.h"
#include "tests/unit/criu_payload.h"

/* One dump or restore of a box. */
struct move {
	struct box *b;
	const struct criu *criu_binary;
	pid_t criu;
	uint64_t began, at[16];
	enum criu_stage refuse, die;		/* NO_STAGE: none */
	bool lazy;
};
#define NO_STAGE ((enum criu_stage)-1)
#define MOVE(box)                                                      \
	{                                                              \
		.b = (box), .criu_binary = &the_criu, .began = clock_us(), \
		.refuse = NO_STAGE, .die = NO_STAGE                    \
	}

/* CRIU leaves the box's cgroups, which can be frozen then. */
static void expel(const struct move *m)
{
	for (int i = 0; i < m->b->n_cgroups; i++)
		put(fmt("%s/../cgroup.procs", m->b->cgroup[i]), fmt("%d", m->criu));
}

static int on_notify(void *ctx, enum criu_stage stage, pid_t pid, struct error *err)
{
	struct move *m = ctx;

	(void)pid;
	m->at[stage] = clock_us();
	if (stage == m->die)
		(void)kill(getpid(), SIGKILL);
	if (stage == m->refuse)
		return error_set(err, ECANCELED, "refused by the test");
	if (stage == CRIU_PRE_DUMP)
		box_freeze(m->b, true);
	if (stage == CRIU_PRE_RESUME) {
		expel(m);
		box_freeze(m->b, true);
	}
	return 0;
}

static int on_terminal(void *ctx, int fd_consume, struct error *err)
{
	struct move *m = ctx;

	(void)err;
	fd_close(&m->b->out[0]);
	m->b->out[0] = fd_consume;
	return 0;
}

static int on_started(void *ctx, pid_t pid, struct error *err)
{
	(void)err;
	((struct move *)ctx)->criu = pid;
	return 0;
}

static int dump(struct move *m, int images, uint64_t ghost_limit, struct error *err)
{
	struct criu_hooks hooks = { .notify = on_notify, .ctx = m };
	struct criu_mount mounts[BOX_MOUNTS_MAX];
	struct stat netns;
	struct criu_dump_plan plan = {
		.pid = m->b->init, .images_fd = images, .freeze_cgroup = m->b->cgroup[0],
		.netns_key = "extnet", .mounts = mounts, .n_mounts = n_box_mounts(),
		.ghost_limit_bytes = ghost_limit,
	};

	MUST(fstat(m->b->netns, &netns));
	plan.netns_inode = netns.st_ino;
	for (size_t i = 0; i < n_box_mounts(); i++)
		mounts[i] = (struct criu_mount){ box_mounts[i].key, box_mounts[i].inside };
	return criu_dump(m->criu_binary, &plan, &hooks, err);
}

/* What the engine's prepare_child does: cgroups, their namespace, and the
 * mounts whose view depends on them. */
static int in_child(void *ctx)
{
	struct move *m = ctx;
	char *ext = strdup(box_ext(m->b));

	box_cgroups_join(m->b);
	MUST(unshare(CLONE_NEWCGROUP));
	box_prepare_mounts(m->b, ext);
	sh(fmt("cp -a %s/shm/. %s/shm/", m->b->dir, ext));
	return 0;
}

/* keys: of stdout and stderr, as they were at the dump. */
static int restore(struct move *m, int images, char *const keys[2], struct error *err)
{
	struct criu_hooks hooks = { .notify = on_notify, .ctx = m, .prepare_child = in_child,
				    .terminal = on_terminal, .started = on_started };
	char paths[BOX_MOUNTS_MAX][128];
	struct criu_mount mounts[BOX_MOUNTS_MAX];
	struct criu_inherit files[2];
	struct box *b = m->b;
	struct criu_restore_plan plan = {
		.images_fd = images, .root = b->root,
		.netns_key = "extnet", .mounts = mounts, .n_mounts = n_box_mounts(),
		.files = files, .n_files = b->terminal ? 0 : b->one_pipe ? 1 : 2,
	};
	int fds[2];
	struct criu_restorer_plan start = { .netns_fd = b->netns, .lazy = m->lazy, .files = fds,
					    .n_files = 2, .prepared_fd = -EBADF };
	struct criu_restorer *restorer = NULL;
	int r;

	b->generation++;
	box_mount_root(b);
	MUST(pipe2(b->out, O_CLOEXEC));
	MUST(pipe2(b->err, O_CLOEXEC));
	files[0] = (struct criu_inherit){ keys[0], b->out[1] };
	files[1] = (struct criu_inherit){ keys[1], b->err[1] };
	for (size_t i = 0; i < n_box_mounts(); i++) {
		(void)snprintf(paths[i], sizeof(paths[i]), "%s/%s", box_ext(b), box_mounts[i].key);
		mounts[i] = (struct criu_mount){ box_mounts[i].key, paths[i] };
	}
	fds[0] = b->out[1];
	fds[1] = b->err[1];
	r = criu_restorer_start(m->criu_binary, &start, &hooks, &restorer, err);
	if (r == 0)
		r = criu_restore(restorer, &plan, &hooks, &b->init, err);
	criu_restorer_free(restorer);
	fd_close(&b->out[1]);
	fd_close(&b->err[1]);
	MUST(umount2(b->root, MNT_DETACH));
	return r;
}

static void pipe_keys(pid_t pid, char *ret[2])
{
	for (int i = 0; i < 2; i++) {
		ret[i] = calloc(1, 64);
		MUST(readlink(fmt("/proc/%d/fd/%d", (int)pid, i + 1), ret[i], 63));
	}
}

static const char *ask(int conn, const char *question)
{
	static char text[64];
	struct pollfd p = { .fd = conn, .events = POLLIN };
	ssize_t n;

	MUST(write(conn, question, strlen(question)));
	if (poll(&p, 1, 5000) <= 0)
		return "no answer";
	n = MUST(read(conn, text, sizeof(text) - 1));
	text[n] = '\0';
	text[strcspn(text, "\n")] = '\0';
	return text;
}

static int connect_there(void)
{
	struct sockaddr_in addr = { .sin_family = AF_INET, .sin_port = htons(PORT) };
	int fd = (int)MUST(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));

	(void)inet_pton(AF_INET, "10.9.0.1", &addr.sin_addr);
	MUST(connect(fd, (struct sockaddr *)&addr, sizeof(addr)));
	return fd;
}

static char *slurp(const char *path)
{
	struct error err;
	char *text;

	if (fd_read_file_at(AT_FDCWD, path, 65536, &text, NULL, &err) < 0)
		DIE(err.msg);
	return text;
}

/* The pid of the box's second process, as we see it. */
static pid_t worker_of(const struct box *b)
{
	CLEANUP(freep) char *pids = slurp(fmt("%s/cgroup.procs", b->cgroup[0]));
	char *p = strstr(pids, "\n");

	return (pid_t)atoi(p + 1);
}

/* What has to be the same after a move, of one process. */
static char *identity(pid_t pid)
{
	static const char *const kept[] = { "Uid:", "Gid:", "Groups:", "CapInh:", "CapPrm:",
					    "CapEff:", "CapBnd:", "CapAmb:", "NoNewPrivs:",
					    "Seccomp:", "Seccomp_filters:", "Umask:" };
	CLEANUP(freep) char *status = slurp(fmt("/proc/%d/status", (int)pid));
	CLEANUP(freep) char *groups = slurp(fmt("/proc/%d/cgroup", (int)pid));
	char *ret = calloc(1, 65536), *end = ret;

	for (char *line = strtok(status, "\n"); line; line = strtok(NULL, "\n"))
		for (size_t i = 0; i < sizeof(kept) / sizeof(kept[0]); i++)
			if (!strncmp(line, kept[i], strlen(kept[i])))
				end += sprintf(end, "%s\n", line);
	end += sprintf(end, "%s\n", groups);
	(void)sprintf(end, "%s", slurp(fmt("/proc/%d/limits", (int)pid)));
	return ret;
}

static void check_private_namespaces(pid_t pid)
{
	static const char *const names[] = { "pid", "mnt", "net", "uts", "ipc", "cgroup" };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		struct stat ours, theirs;

		MUST(stat(fmt("/proc/self/ns/%s", names[i]), &ours));
		MUST(stat(fmt("/proc/%d/ns/%s", (int)pid, names[i]), &theirs));
		CHECK(ours.st_ino != theirs.st_ino);
	}
}

/* Every mount of before is there, and as many. */
static void check_mounts(char *before, pid_t pid)
{
	CLEANUP(freep) char *after = slurp(fmt("/proc/%d/mounts", (int)pid));
	int n = 0;

	for (char *p = after; (p = strchr(p, '\n')); p++)
		n++;
	for (char *line = strtok(before, "\n"); line; line = strtok(NULL, "\n"), n--) {
		char *options = strstr(line, ",uuid=on");	/* overlayfs, as it pleases */

		if (options)
			*options = '\0';
		if (!strstr(after, line))
			DIE(fmt("lost mount %s", line));
	}
	CHECK(n == 0);
}

static int images_dir(const struct box *b, int round)
{
	MUST(mkdir(fmt("%s/images-%d", b->dir, round), 0700));
	return (int)MUST(open(fmt("%s/images-%d", b->dir, round),
			      O_RDONLY | O_DIRECTORY | O_CLOEXEC));
}

/* From a dumped, frozen box to a dead one with a fresh network, gate closed. */
static void destroy_source(struct box *b)
{
	int status;

	sh(fmt("cp -a /proc/%d/root/dev/shm/. %s/shm/", b->init, b->dir));
	box_gate(b, false);
	status = box_kill(b);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	box_unwire(b);
	box_wire(b);
	fd_close(&b->out[0]);
	fd_close(&b->err[0]);
}

/* Tasks that CRIU lets go pass from its stop into the freezer's without running,
 * but the kernel may count them as not frozen for a moment. */
static bool is_frozen(const struct box *b)
{
	for (int i = 0; i < 100; i++) {
		CLEANUP(freep) char *events = slurp(fmt("%s/cgroup.events", b->cgroup[0]));

		if (strstr(events, "frozen 1") && strstr(events, "populated 1"))
			return true;
		(void)usleep(10000);
	}
	return false;
}

static void await_empty(const struct box *b)
{
	for (int i = 0; i < 500; i++) {
		CLEANUP(freep) char *events = slurp(fmt("%s/cgroup.events", b->cgroup[0]));

		if (strstr(events, "populated 0"))
			return;
		usleep(10000);
	}
	DIE("processes are left in the cgroup");
}

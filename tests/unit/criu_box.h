/*
 * criu_box.h - a container-like process tree for test_criu.c
 *
 * A box is what the engine makes of a container, with the least code: private
 * pid, mount, uts, ipc and cgroup namespaces in cgroups of its own, a network
 * namespace joined from outside, overlay root, and the usual mounts. Its
 * program is this test's binary with the argument "payload".
 */
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>

#include "criu-glue/criu.h"
#include "engine/base/cleanup.h"
#include "engine/base/fd.h"

/* In a process that has nobody to report to but its exit status. */
#define DIE(what) (fprintf(stderr, "%s:%d: %s: %m\n", __func__, __LINE__, what), _exit(99))
#define MUST(call) ({ long must_ = (long)(call); if (must_ < 0) DIE(#call); must_; })

#define CHECK(cond) do { if (!(cond)) DIE("not true: " #cond); } while (0)

#define BOX_HIERARCHIES 4

struct box {
	char dir[64];				/* a tmpfs of ours */
	char name[64];				/* the cgroups' path */
	char cgroup[BOX_HIERARCHIES][160];	/* [0] is v2 */
	int n_cgroups;
	int netns, peer_netns;
	int out[2], err[2];			/* the box's stdio: [0] is ours */
	pid_t init;
	char root[96];
	int generation;				/* of the prepared mounts */
	bool one_pipe;				/* stdout and stderr share it */
	bool terminal;				/* stdio is a pty; out[0] is its master */
	int hand_over[2];			/* the master's way out */
};

struct box_mount {
	const char *key;
	const char *inside;
	bool dir;
};

/* What CRIU must not make itself. Order: parents first. */
static const struct box_mount box_mounts[] = {
	{ "dev", "/dev", true },
	{ "shm", "/dev/shm", true },
	{ "sys", "/sys", true },
	{ "cg", "/sys/fs/cgroup", true },
	{ "mask-kcore", "/proc/timer_list", false },
	{ "mask-dir", "/proc/fs", true },
	{ "hosts", "/etc/hosts", false },
	/* from here on only on a hybrid host */
	{ "cg-unified", "/sys/fs/cgroup/unified", true },
	{ "cg-memory", "/sys/fs/cgroup/memory", true },
	{ "cg-cpu", "/sys/fs/cgroup/cpu", true },
	{ "cg-pids", "/sys/fs/cgroup/pids", true },
};
#define BOX_MOUNTS_MAX (sizeof(box_mounts) / sizeof(box_mounts[0]))

static bool host_is_pure_v2(void)
{
	return access("/sys/fs/cgroup/cgroup.controllers", F_OK) == 0;
}

static size_t n_box_mounts(void)
{
	return host_is_pure_v2() ? BOX_MOUNTS_MAX - BOX_HIERARCHIES : BOX_MOUNTS_MAX;
}

static int n_box_hierarchies(void)
{
	return host_is_pure_v2() ? 1 : BOX_HIERARCHIES;
}

static const char *const box_hierarchies[BOX_HIERARCHIES] = { "unified", "memory", "cpu", "pids" };

__attribute__((format(printf, 1, 2))) static const char *fmt(const char *f, ...)
{
	static char ring[8][512];
	static unsigned next;
	char *s = ring[next++ % 8];
	va_list ap;

	va_start(ap, f);
	(void)vsnprintf(s, sizeof(ring[0]), f, ap);
	va_end(ap);
	return s;
}

static void put(const char *path, const char *text)
{
	struct error err;

	if (fd_write_file_at(AT_FDCWD, path, text, &err) < 0)
		DIE(err.msg);
}

static void sh(const char *command)
{
	if (system(command) != 0)
		DIE(command);
}

static void box_cgroups_join(const struct box *b)
{
	for (int i = 0; i < b->n_cgroups; i++)
		put(fmt("%s/cgroup.procs", b->cgroup[i]), "0");
}

static void box_freeze(const struct box *b, bool freeze)
{
	CLEANUP(fd_closep) int fd = open(fmt("%s/cgroup.events", b->cgroup[0]), O_RDONLY);
	const char *want = freeze ? "frozen 1" : "frozen 0";
	char text[256];

	put(fmt("%s/cgroup.freeze", b->cgroup[0]), freeze ? "1" : "0");
	for (;;) {
		struct pollfd p = { .fd = fd, .events = POLLPRI };
		ssize_t n = pread(fd, text, sizeof(text) - 1, 0);

		if (n < 0)
			DIE("cgroup.events");
		text[n] = '\0';
		if (strstr(text, want))
			return;
		if (poll(&p, 1, 5000) <= 0)
			DIE("freeze");
	}
}

static const char *box_ext(const struct box *b)
{
	return fmt("%s/ext-%d", b->dir, b->generation);
}

/* A cgroup2, or a tmpfs with a mount for each hierarchy, which CRIU gets one by one. */
static void box_prepare_cgroups(const struct box *b, const char *ext)
{
	const unsigned long flags = MS_NOSUID | MS_NODEV | MS_NOEXEC;

	if (host_is_pure_v2()) {
		MUST(mount("cgroup", fmt("%s/cg", ext), "cgroup2", flags | MS_RDONLY, NULL));
		return;
	}
	MUST(mount("tmpfs", fmt("%s/cg", ext), "tmpfs", flags, "mode=755,size=4k"));
	for (int i = 0; i < b->n_cgroups; i++) {
		const char *name = box_hierarchies[i];

		MUST(mkdir(fmt("%s/cg/%s", ext, name), 0755));
		MUST(mkdir(fmt("%s/cg-%s", ext, name), 0755));
		MUST(mount("cgroup", fmt("%s/cg-%s", ext, name), i ? "cgroup" : "cgroup2",
			   flags | MS_RDONLY, i ? name : NULL));
	}
	MUST(mount("", fmt("%s/cg", ext), "", MS_REMOUNT | MS_BIND | flags | MS_RDONLY, NULL));
}

/* All but native mounts, below ext, as the engine prepares them; the caller is
 * in the box's cgroups and cgroup namespace. */
static void box_prepare_mounts(const struct box *b, const char *ext)
{
	static const struct { const char *name; mode_t mode; unsigned major, minor; } nodes[] = {
		{ "null", 0666, 1, 3 }, { "zero", 0666, 1, 5 }, { "full", 0666, 1, 7 },
		{ "random", 0666, 1, 8 }, { "urandom", 0666, 1, 9 }, { "tty", 0666, 5, 0 },
	};

	(void)umask(0);
	MUST(mkdir(ext, 0700));
	for (size_t i = 0; i < n_box_mounts(); i++) {
		if (strncmp(box_mounts[i].key, "cg-", 3) == 0)
			continue;
		if (box_mounts[i].dir)
			MUST(mkdir(fmt("%s/%s", ext, box_mounts[i].key), 0755));
		else
			close((int)MUST(open(fmt("%s/%s", ext, box_mounts[i].key),
					     O_CREAT | O_WRONLY, 0644)));
	}
	MUST(mount("tmpfs", fmt("%s/dev", ext), "tmpfs", MS_NOSUID, "mode=755,size=64k"));
	for (size_t i = 0; i < sizeof(nodes) / sizeof(nodes[0]); i++)
		MUST(mknod(fmt("%s/dev/%s", ext, nodes[i].name), S_IFCHR | nodes[i].mode,
			   makedev(nodes[i].major, nodes[i].minor)));
	MUST(symlink("pts/ptmx", fmt("%s/dev/ptmx", ext)));
	MUST(symlink("/proc/self/fd", fmt("%s/dev/fd", ext)));
	MUST(mkdir(fmt("%s/dev/pts", ext), 0755));
	MUST(mkdir(fmt("%s/dev/shm", ext), 01777));
	MUST(mkdir(fmt("%s/dev/mqueue", ext), 0755));
	MUST(mount("shm", fmt("%s/shm", ext), "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC,
		   "mode=1777,size=1m"));
	MUST(mount("sysfs", fmt("%s/sys", ext), "sysfs",
		   MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY, NULL));
	box_prepare_cgroups(b, ext);
	MUST(mount("/dev/null", fmt("%s/mask-kcore", ext), NULL, MS_BIND, NULL));
	MUST(mount("tmpfs", fmt("%s/mask-dir", ext), "tmpfs", MS_RDONLY, "size=0k"));
	put(fmt("%s/hosts", ext), "127.0.0.1 localhost\n");
}

static void box_mount_root(const struct box *b)
{
	MUST(mount("overlay", b->root, "overlay", 0,
		   fmt("lowerdir=/,upperdir=%s/upper,workdir=%s/work", b->dir, b->dir)));
}

/* In the box's init: moves into the tree and locks it down. */
static void box_enter(const struct box *b)
{
	const char *ext = strdup(box_ext(b));

	MUST(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
	box_prepare_mounts(b, ext);
	box_mount_root(b);
	MUST(mount("proc", fmt("%s/proc", b->root), "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC,
		   NULL));
	for (size_t i = 0; i < n_box_mounts(); i++)
		if (mount(fmt("%s/%s", ext, box_mounts[i].key),
			  fmt("%s%s", b->root, box_mounts[i].inside), NULL, MS_BIND, NULL) < 0)
			DIE(box_mounts[i].inside);
	MUST(mount("devpts", fmt("%s/dev/pts", b->root), "devpts", MS_NOSUID | MS_NOEXEC,
		   "newinstance,ptmxmode=0666,mode=0620,gid=5"));
	MUST(mount("mqueue", fmt("%s/dev/mqueue", b->root), "mqueue",
		   MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL));
	MUST(mount(fmt("%s/proc/sys", b->root), fmt("%s/proc/sys", b->root), NULL, MS_BIND, NULL));
	MUST(mount("", fmt("%s/proc/sys", b->root), NULL, MS_REMOUNT | MS_BIND | MS_RDONLY |
		   MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL));
	MUST(chdir(b->root));
	MUST(syscall(SYS_pivot_root, ".", "."));
	MUST(umount2(".", MNT_DETACH));
	MUST(chdir("/"));
	MUST(sethostname("box", 3));
}

/* A pty of the box's own /dev/pts; its master goes to the monitor. */
static void box_terminal(const struct box *b)
{
	int master = (int)MUST(open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC)), slave;
	struct error err;

	MUST(grantpt(master));
	MUST(unlockpt(master));
	slave = (int)MUST(open("/dev/pts/0", O_RDWR | O_NOCTTY));
	MUST(fd_send_msg(b->hand_over[1], "m", 1, &master, 1, &err));
	MUST(ioctl(slave, TIOCSCTTY, 0));
	for (int i = 0; i < 3; i++)
		MUST(dup2(slave, i));
}

static void box_stdio(const struct box *b)
{
	int null = (int)MUST(open("/dev/null", O_RDONLY));

	MUST(dup2(null, 0));
	MUST(dup2(b->out[1], 1));
	MUST(dup2(b->one_pipe ? b->out[1] : b->err[1], 2));
}

static void box_start(struct box *b)
{
	struct clone_args args = {
		.flags = CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC |
			 CLONE_INTO_CGROUP,
		.exit_signal = SIGCHLD,
		.cgroup = (uint64_t)MUST(open(b->cgroup[0], O_RDONLY | O_DIRECTORY | O_CLOEXEC)),
	};
	struct error err;
	char mark;

	MUST(pipe2(b->out, O_CLOEXEC));
	MUST(pipe2(b->err, O_CLOEXEC));
	MUST(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, b->hand_over));
	b->init = (pid_t)MUST(syscall(SYS_clone3, &args, sizeof(args)));
	if (b->init == 0) {
		box_cgroups_join(b);
		MUST(unshare(CLONE_NEWCGROUP));
		MUST(setns(b->netns, CLONE_NEWNET));
		box_enter(b);
		MUST(setsid());
		if (b->terminal)
			box_terminal(b);
		else
			box_stdio(b);
		MUST(syscall(SYS_close_range, 3, ~0U, 0));
		execl("/payload", "payload", "payload", NULL);
		DIE("exec");
	}
	close((int)args.cgroup);
	fd_close(&b->hand_over[1]);
	if (b->terminal) {
		fd_close(&b->out[0]);
		MUST(fd_recv_msg(b->hand_over[0], &mark, 1, &b->out[0], 1, &err));
	}
	fd_close(&b->hand_over[0]);
	fd_close(&b->out[1]);
	fd_close(&b->err[1]);
}

static int in_netns(int netns, int (*fn)(void))
{
	CLEANUP(fd_closep) int own = (int)MUST(open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC));
	int r;

	MUST(setns(netns, CLONE_NEWNET));
	r = fn();
	MUST(setns(own, CLONE_NEWNET));
	return r;
}

static int netns_new(void)
{
	CLEANUP(fd_closep) int own = (int)MUST(open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC));
	int fd;

	MUST(unshare(CLONE_NEWNET));
	sh("ip link set lo up");
	fd = (int)MUST(open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC));
	MUST(setns(own, CLONE_NEWNET));
	return fd;
}

/* A network namespace for the box, wired to the peer's bridge, port closed. */
static void box_wire(struct box *b)
{
	const char *peer = fmt("nsenter --net=/proc/%d/fd/%d", (int)getpid(), b->peer_netns);

	b->netns = netns_new();
	sh(fmt("%s ip link add port type veth peer name eth0 address 02:67:0a:09:00:01 "
	       "netns /proc/%d/fd/%d", peer, (int)getpid(), b->netns));
	sh(fmt("%s ip link set port master bridge", peer));
	sh(fmt("nsenter --net=/proc/%d/fd/%d sh -c 'ip addr add 10.9.0.1/24 dev eth0; "
	       "ip link set eth0 up'", (int)getpid(), b->netns));
}

static void box_gate(const struct box *b, bool open)
{
	sh(fmt("nsenter --net=/proc/%d/fd/%d ip link set port %s", (int)getpid(), b->peer_netns,
	       open ? "up" : "down"));
}

/* With the namespace the pair goes, at some time: the port's name is freed now. */
static void box_unwire(struct box *b)
{
	sh(fmt("nsenter --net=/proc/%d/fd/%d ip link del port", (int)getpid(), b->peer_netns));
	fd_close(&b->netns);
}

/* Names only, by the process that cleans up. */
static void box_name(struct box *b)
{
	*b = (struct box){ .netns = -EBADF, .peer_netns = -EBADF, .n_cgroups = n_box_hierarchies(),
			   .out = { -EBADF, -EBADF }, .err = { -EBADF, -EBADF } };
	snprintf(b->dir, sizeof(b->dir), "/tmp/godwit-criu-XXXXXX");
	if (!mkdtemp(b->dir))
		DIE("mkdtemp");
	snprintf(b->root, sizeof(b->root), "%s/root", b->dir);
	snprintf(b->name, sizeof(b->name), "godwit-test-criu-%d", (int)getpid());
	for (int i = 0; i < b->n_cgroups; i++)
		snprintf(b->cgroup[i], sizeof(b->cgroup[i]), "/sys/fs/cgroup/%s/%s/box",
			 host_is_pure_v2() ? "." : box_hierarchies[i], b->name);
}

/* Files, cgroups and network of a box, in the monitor, which has a mount
 * namespace of its own; the process comes with box_start. */
static void box_make(struct box *b)
{
	MUST(mount("tmpfs", b->dir, "tmpfs", 0, NULL));
	MUST(mkdir(b->root, 0755));
	MUST(mkdir(fmt("%s/upper", b->dir), 0755));
	MUST(mkdir(fmt("%s/work", b->dir), 0755));
	MUST(mkdir(fmt("%s/shm", b->dir), 01777));
	sh(fmt("cp /proc/%d/exe %s/upper/payload", (int)getpid(), b->dir));
	for (int i = 0; i < b->n_cgroups; i++)
		sh(fmt("mkdir -p %s", b->cgroup[i]));
	b->peer_netns = netns_new();
	sh(fmt("nsenter --net=/proc/%d/fd/%d sh -c 'ip link add bridge type bridge; "
	       "ip addr add 10.9.0.2/24 dev bridge; ip link set bridge up'",
	       (int)getpid(), b->peer_netns));
	box_wire(b);
	box_gate(b, true);
}

/* Everything inside dies, also when frozen; returns init's wait status. */
static int box_kill(struct box *b)
{
	int status = 0;

	put(fmt("%s/cgroup.kill", b->cgroup[0]), "1");
	MUST(waitpid(b->init, &status, 0));
	b->init = 0;
	put(fmt("%s/cgroup.freeze", b->cgroup[0]), "0");
	return status;
}

/* After the monitor, whatever became of it. */
static void box_clean(struct box *b)
{
	struct error err;

	if (access(b->cgroup[0], F_OK) == 0)
		(void)fd_write_file_at(AT_FDCWD, fmt("%s/cgroup.kill", b->cgroup[0]), "1", &err);
	for (int i = 0; i < b->n_cgroups; i++) {
		for (int n = 0; rmdir(b->cgroup[i]) < 0 && errno == EBUSY && n < 300; n++)
			usleep(10000);
		*strrchr(b->cgroup[i], '/') = '\0';
		(void)rmdir(b->cgroup[i]);
	}
	(void)rmdir(b->dir);
}

/* odd WHAT: things that few programs have; some of them can't move. */
#include <linux/landlock.h>
#include <linux/netlink.h>
#include <mqueue.h>
#include <sched.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/un.h>

#include "tests/workloads/workload.h"

#define SOCKET "/srv/sock"

static int made = -1;

static int watch_proc(void)
{
	int fd = inotify_init1(0);

	return inotify_add_watch(fd, "/proc", IN_CREATE) < 0 ? -1 : fd;
}

/* Whose name nobody knows. */
static int watch_deleted(void)
{
	int file = open("/tmp/watched", O_RDWR | O_CREAT, 0600), fd = inotify_init1(0);

	MUST(file >= 0 && inotify_add_watch(fd, "/tmp/watched", IN_MODIFY) >= 0 && unlink("/tmp/watched") == 0);
	return fd;
}

static int make_ruleset(void)
{
	struct landlock_ruleset_attr attr = { .handled_access_fs = LANDLOCK_ACCESS_FS_READ_FILE };

	return (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof(attr), 0);
}

/* To somebody outside who listens there. */
static int connect_out(void)
{
	const struct sockaddr_un sun = { .sun_family = AF_UNIX, .sun_path = SOCKET };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	return connect(fd, (const struct sockaddr *)&sun, sizeof(sun)) < 0 ? -1 : fd;
}

/* What somebody outside sends. */
static int receive(void)
{
	char byte, room[CMSG_SPACE(sizeof(int))];
	struct iovec iov = { &byte, 1 };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof(room) };
	int fd = -1, from = connect_out();

	MUST(recvmsg(from, &m, 0) == 1 && CMSG_FIRSTHDR(&m));
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(fd));
	MUST(close(from) == 0);
	return fd;
}

/* A pipe that is nowhere but in a queue. */
static int send_to_self(void)
{
	char byte = 'x', room[CMSG_SPACE(sizeof(int))] = { 0 };
	struct iovec iov = { &byte, 1 };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof(room) };
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	int s[2], p[2];

	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0 && pipe(p) == 0);
	*c = (struct cmsghdr){ .cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS };
	memcpy(CMSG_DATA(c), &p[0], sizeof(int));
	MUST(sendmsg(s[0], &m, 0) == 1 && close(p[0]) == 0);
	return p[1];
}

static void workload_setup(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";

	if (!strcmp(what, "netlink"))
		made = socket(AF_NETLINK, SOCK_RAW, NETLINK_KOBJECT_UEVENT);
	else if (!strcmp(what, "pagemap"))
		made = open("/proc/self/pagemap", O_RDONLY);
	else if (!strcmp(what, "mem"))
		made = open("/proc/self/mem", O_RDWR);
	else if (!strcmp(what, "namespace"))
		made = open("/proc/self/ns/net", O_RDONLY);
	else if (!strcmp(what, "vsock"))
		made = socket(AF_VSOCK, SOCK_STREAM, 0);
	else if (!strcmp(what, "mptcp"))
		made = socket(AF_INET, SOCK_STREAM, IPPROTO_MPTCP);
	else if (!strcmp(what, "hugetlb"))
		made = memfd_create("huge", MFD_HUGETLB);
	else if (!strcmp(what, "mqueue"))
		made = mq_open("/odd", O_RDWR | O_CREAT, 0600, NULL);
	else if (!strcmp(what, "watch-proc"))
		made = watch_proc();
	else if (!strcmp(what, "watch-deleted"))
		made = watch_deleted();
	else if (!strcmp(what, "landlock"))
		made = make_ruleset();
	else if (!strcmp(what, "pidfd"))
		made = (int)syscall(SYS_pidfd_open, getpid(), 0);
	else if (!strcmp(what, "user-namespace"))
		made = unshare(CLONE_NEWUSER);
	else if (!strcmp(what, "connected-out"))
		made = connect_out();
	else if (!strcmp(what, "received"))
		made = receive();
	else if (!strcmp(what, "in-flight"))
		made = send_to_self();
	MUST(made >= 0);
}

static bool workload_check(void)
{
	HOLDS(fcntl(made, F_GETFD) >= 0);
	return true;
}

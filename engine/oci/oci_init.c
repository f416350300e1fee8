/* The init of an OCI container until it becomes the container's program: oci_launch.h. */
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "engine/base/fd.h"
#include "engine/oci/oci_hooks.h"
#include "engine/oci/oci_launch.h"

#define KEEP_MAX 32

static int bring_up_loopback(struct error *err)
{
	CLEANUP(fd_closep) int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq r = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING };

	if (sock < 0 || ioctl(sock, SIOCSIFFLAGS, &r) < 0)
		return error_set(err, errno, "bring up lo: %s", strerror(errno));
	return 0;
}

/* /proc/sys of the host shows to each process what is its namespaces'. */
static int set_sysctls(const struct oci_linux *l, struct error *err)
{
	OCI_EACH(struct oci_pair, s, l->sysctl) {
		char path[256];
		int n = snprintf(path, sizeof(path), "/proc/sys/%s", s->key);

		if ((size_t)n >= sizeof(path))
			return error_set(err, EINVAL, "linux.sysctl: '%.80s' is too long", s->key);
		if (!strchr(s->key, '/'))
			for (char *p = path + strlen("/proc/sys/"); *p; p++)
				*p = *p == '.' ? '/' : *p;
		if (fd_write_file_at(AT_FDCWD, path, s->value, err) < 0)
			return error_wrap(err, "linux.sysctl: %s", s->key);
	}
	return 0;
}

static int name_host(const struct oci_spec *s, struct error *err)
{
	if (s->hostname && sethostname(s->hostname, strlen(s->hostname)) < 0)
		return error_set(err, errno, "hostname: %s", strerror(errno));
	if (s->domainname && setdomainname(s->domainname, strlen(s->domainname)) < 0)
		return error_set(err, errno, "domainname: %s", strerror(errno));
	return 0;
}

static int set_up_namespaces(struct oci_launch *l, struct error *err)
{
	if ((l->namespaces.create & CLONE_NEWNET) && bring_up_loopback(err) < 0)
		return -err->code;
	return name_host(l->c->spec, err) < 0 || set_sysctls(l->c->spec->linux_, err) < 0 ? -err->code : 0;
}

static int say(int sock, char what, int fd, struct error *err)
{
	return fd_send_msg(sock, &what, 1, &fd, fd >= 0, err);
}

/* Silence means that the runtime is gone: then so are we. */
static void hear(int sock, void *answer, size_t len)
{
	struct error ignored;

	if (fd_read_full(sock, answer, len, &ignored) < 0)
		_exit(1);
}

static int set_up_root(struct oci_launch *l, struct error *err)
{
	const struct oci_hooks *hooks = l->c->spec->hooks;
	int32_t pid;

	if (l->plan.process.label)
		l->plan.process.label_fd = open("/proc/thread-self/attr/exec", O_WRONLY | O_CLOEXEC);
	if (oci_mounts_make(&l->mounts, l->c->rootfs, err) < 0 || say(l->sock[1], OCI_MOUNTED, -EBADF, err) < 0)
		return -err->code;
	hear(l->sock[1], &pid, sizeof(pid));
	l->c->pid = pid;
	if (hooks && oci_hooks_run(&hooks->create_container, "createContainer", l->c, OCI_CREATING, err) < 0)
		return -err->code;
	return oci_mounts_pivot(&l->mounts, err);
}

static int prepare(struct oci_launch *l, int *ret_slave, struct error *err)
{
	CLEANUP(fd_closep) int master = -EBADF, slave = -EBADF;
	char go;

	if (setsid() < 0)
		return error_set(err, errno, "setsid: %s", strerror(errno));
	if (set_up_namespaces(l, err) < 0 || set_up_root(l, err) < 0 ||
	    oci_terminal_open(l->plan.spec, &master, &slave, err) < 0 ||
	    (slave >= 0 && oci_mounts_console(slave, err) < 0) || oci_mounts_finish(&l->mounts, err) < 0 ||
	    process_find_program(&l->plan.process, err) < 0)
		return -err->code;
	if (say(l->sock[1], OCI_PREPARED, master, err) < 0)
		return -err->code;
	hear(l->sock[1], &go, 1);
	*ret_slave = TAKE_FD(slave);
	return 0;
}

/* Nothing of the host stays open while it waits. */
static int let_go(struct oci_launch *l, struct error *err)
{
	int keep[KEEP_MAX] = { 0, 1, 2, l->listen_fd, l->plan.process.label_fd };
	size_t n = 5;

	for (unsigned i = 0; i < l->o->preserve_fds && n < KEEP_MAX; i++)
		keep[n++] = 3 + (int)i;
	oci_mounts_close(&l->mounts);
	return fd_close_all_except(keep, n, err);
}

/* A connection that ends without the word is somebody who gave up. */
static int await_start(int listen_fd)
{
	for (;;) {
		int sock = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC);
		char byte;

		if (sock < 0 && errno != EINTR && errno != ECONNABORTED)
			_exit(1);
		if (sock >= 0 && read(sock, &byte, 1) == 1)
			return sock;
		fd_close(&sock);
	}
}

static int become(struct oci_launch *l, int sock, struct error *err)
{
	const struct oci_hooks *hooks = l->c->spec->hooks;

	l->plan.process.keep_fds = l->o->preserve_fds;
	l->plan.process.listener_sock = sock;
	l->plan.process.keep_keyring = l->o->no_new_keyring;
	if (hooks && oci_hooks_run(&hooks->start_container, "startContainer", l->c, OCI_CREATED, err) < 0)
		return -err->code;
	return process_become(&l->plan.process, err);
}

_Noreturn void oci_init_main(struct oci_launch *l)
{
	struct error err = { 0 }, ignored;
	int slave = -EBADF, sock = l->sock[1];

	if (prepare(l, &slave, &err) == 0 && oci_terminal_take(l->plan.spec, slave, &err) == 0 &&
	    let_go(l, &err) == 0) {
		sock = await_start(l->listen_fd);
		(void)become(l, sock, &err);
	}
	(void)fd_send_msg(sock, &err, sizeof(err), NULL, 0, &ignored);
	_exit(1);
}

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "criu-glue/shim/shim.h"
#include "criu-glue/worker.h"
#include "engine/base/cleanup.h"
#include "engine/base/fd.h"

/* The shim's file, in our read-only data. */
extern const char shim_file[];
extern const uint64_t shim_bytes;
__asm__(".pushsection .rodata\n"
	".globl shim_file, shim_bytes\n"
	"shim_file: .incbin \"" SHIM_LIBRARY "\"\n"
	"shim_end: .balign 8\n"
	"shim_bytes: .8byte shim_end - shim_file\n"
	".popsection\n");

/* Above every number that the child gives out. */
#define FD_PARKING (WORKER_FD_BASE + WORKER_FDS_MAX)

/* The descriptors of a start, each end in the process that its name tells. */
struct channels {
	int ours, theirs;			/* RPC */
	int report, their_report;		/* the child's error, or the end: executed */
	int output;				/* stderr */
	int shim;
};
#define CHANNELS_EMPTY { -EBADF, -EBADF, -EBADF, -EBADF, -EBADF, -EBADF }

static void channels_closep(struct channels *c)
{
	fd_close(&c->ours);
	fd_close(&c->theirs);
	fd_close(&c->report);
	fd_close(&c->their_report);
	fd_close(&c->output);
	fd_close(&c->shim);
}

/* Ignored signals would stay ignored: CRIU ends its helpers by SIGTERM. */
static int reset_signals(struct error *err)
{
	sigset_t none;

	for (int s = 1; s < NSIG; s++)
		(void)signal(s, SIG_DFL);
	(void)sigemptyset(&none);
	if (sigprocmask(SIG_SETMASK, &none, NULL) < 0)
		return error_set(err, errno, "reset signals: %s", strerror(errno));
	return 0;
}

/* Duplicates fd to the number to, where it survives exec. */
static int place(int fd, int to, struct error *err)
{
	if (dup2(fd, to) < 0)
		return error_set(err, errno, "dup2: %s", strerror(errno));
	return 0;
}

static int park(int fd, int *ret, struct error *err)
{
	*ret = fcntl(fd, F_DUPFD_CLOEXEC, FD_PARKING);
	if (*ret < 0)
		return error_set(err, errno, "descriptor %d: %s", fd, strerror(errno));
	return 0;
}

/* First everything moves out of the way, then to its number. */
static int place_all(const struct worker_plan *plan, const struct channels *c, struct error *err)
{
	int parked[WORKER_FDS_MAX], null, sock, out, shim;

	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null < 0)
		return error_set(err, errno, "open /dev/null: %s", strerror(errno));
	if (park(null, &null, err) < 0 || park(c->theirs, &sock, err) < 0 ||
	    park(c->output, &out, err) < 0 || park(c->shim, &shim, err) < 0)
		return -err->code;
	for (size_t i = 0; i < plan->n_fds; i++)
		if (park(plan->fds[i], &parked[i], err) < 0)
			return -err->code;
	if (place(null, 0, err) < 0 || place(null, 1, err) < 0 || place(out, 2, err) < 0 ||
	    place(sock, WORKER_SOCKET, err) < 0 || place(shim, SHIM_FD, err) < 0)
		return -err->code;
	for (size_t i = 0; i < plan->n_fds; i++)
		if (place(parked[i], WORKER_FD_BASE + (int)i, err) < 0)
			return -err->code;
	return 0;
}

/* Everything until exec. */
static int child_prepare(const struct worker_plan *plan, const struct channels *c, pid_t parent,
			 struct error *err)
{
	int r;

	if (plan->dies_with_caller && (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent))
		return error_set(err, ESRCH, "the parent is gone");
	/* Ctrl-C is for the caller; CRIU, killed by it, would leave its code in the tasks. */
	if (!plan->dies_with_caller)
		(void)setsid();
	if (reset_signals(err) < 0)
		return -err->code;
	r = plan->prepare ? plan->prepare(plan->ctx) : 0;
	if (r < 0)
		return error_set(err, -r, "prepare CRIU's process: %s", strerror(-r));
	if (place_all(plan, c, err) < 0)
		return -err->code;
	return fd_cloexec_from(WORKER_FD_BASE + (unsigned)plan->n_fds, err);
}

static _Noreturn void child_main(const struct worker_plan *plan, const struct channels *c,
				 pid_t parent)
{
	char exitkill[] = SHIM_EXITKILL "=1", no_conntrack[] = SHIM_NO_CONNTRACK "=1";
	char small_pages[] = SHIM_SMALL_PAGES "=1";
	char carried[sizeof(SHIM_CARRIED) + 12], smaps[sizeof(SHIM_SMAPS) + 12];
	char prepared[sizeof(SHIM_PREPARED) + 12], userns[sizeof(SHIM_USERNS) + 12];
	char cgroup[PATH_MAX + sizeof(SHIM_CGROUP) + 1], yard[PATH_MAX + sizeof(SHIM_YARD) + 16];
	char *env[13] = {
		(char[]){ "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" },
		(char[]){ "LC_ALL=C" }, (char[]){ "LD_PRELOAD=" SHIM_PATH } };
	size_t n = 3;
	char *const argv[] = { (char[]){ "criu" }, (char[]){ "--no-default-config" },
			       (char[]){ "swrk" }, (char[]){ "3" }, NULL };
	struct error err = { 0 };
	int report;

	_Static_assert(WORKER_SOCKET == 3 && SHIM_RPC_FD == WORKER_SOCKET, "as in argv");
	_Static_assert(SHIM_FD == 4 && WORKER_FD_BASE == 5, "as in SHIM_PATH");
	if (plan->dies_with_caller)
		env[n++] = exitkill;
	if (plan->small_pages)
		env[n++] = small_pages;
	if (plan->no_conntrack)
		env[n++] = no_conntrack;
	if (plan->cgroup) {
		(void)snprintf(cgroup, sizeof(cgroup), SHIM_CGROUP "=%s", plan->cgroup);
		env[n++] = cgroup;
	}
	if (plan->yard) {
		(void)snprintf(yard, sizeof(yard), SHIM_YARD "=%s/.criu.XXXXXX", plan->yard);
		env[n++] = yard;
	}
	if (plan->carried) {
		(void)snprintf(carried, sizeof(carried), SHIM_CARRIED "=%d", plan->carried);
		env[n++] = carried;
	}
	if (plan->smaps) {
		(void)snprintf(smaps, sizeof(smaps), SHIM_SMAPS "=%d", plan->smaps);
		env[n++] = smaps;
	}
	if (plan->userns) {
		(void)snprintf(userns, sizeof(userns), SHIM_USERNS "=%d", plan->userns);
		env[n++] = userns;
	}
	if (plan->prepared) {
		(void)snprintf(prepared, sizeof(prepared), SHIM_PREPARED "=%d", plan->prepared);
		env[n++] = prepared;
	}
	if (park(c->their_report, &report, &err) < 0)
		_exit(127);
	if (child_prepare(plan, c, parent, &err) == 0) {
		(void)execve(plan->path, argv, env);
		(void)error_set(&err, errno, "execute %s: %s", plan->path, strerror(errno));
	}
	(void)!write(report, &err, sizeof(err));
	_exit(127);
}

/* Until the report ends: nothing, or the child's error. */
static int await_start(int report, struct error *err)
{
	struct error theirs;
	int r = fd_read_full(report, &theirs, sizeof(theirs), err);

	if (r == -ENODATA)
		return 0;
	if (r < 0)
		return r;
	*err = theirs;
	return -err->code;
}

static int make_shim(int *ret_fd, struct error *err)
{
	*ret_fd = memfd_create("godwit-criu-shim", MFD_CLOEXEC);
	if (*ret_fd < 0)
		return error_set(err, errno, "memfd_create: %s", strerror(errno));
	return fd_write_full(*ret_fd, shim_file, shim_bytes, err);
}

static int make_channels(struct channels *ret, struct error *err)
{
	int rpc[2], report[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, rpc) < 0)
		return error_set(err, errno, "socketpair: %s", strerror(errno));
	ret->ours = rpc[0];
	ret->theirs = rpc[1];
	if (pipe2(report, O_CLOEXEC) < 0)
		return error_set(err, errno, "pipe: %s", strerror(errno));
	ret->report = report[0];
	ret->their_report = report[1];
	ret->output = memfd_create("criu-stderr", MFD_CLOEXEC);
	if (ret->output < 0)
		return error_set(err, errno, "memfd_create: %s", strerror(errno));
	return make_shim(&ret->shim, err);
}

int worker_start(const struct worker_plan *plan, struct worker *ret, struct error *err)
{
	CLEANUP(channels_closep) struct channels c = CHANNELS_EMPTY;
	struct worker w = WORKER_EMPTY;
	pid_t self = getpid();
	int r;

	if (plan->n_fds > WORKER_FDS_MAX)
		return error_set(err, E2BIG, "more than %d descriptors for CRIU", WORKER_FDS_MAX);
	r = make_channels(&c, err);
	if (r < 0)
		return error_wrap(err, "start CRIU");
	w.pid = fork();
	if (w.pid == 0)
		child_main(plan, &c, self);
	if (w.pid < 0)
		return error_set(err, errno, "start CRIU: fork: %s", strerror(errno));
	fd_close(&c.their_report);
	w.pidfd = (int)syscall(SYS_pidfd_open, w.pid, 0);
	if (w.pidfd < 0)
		r = error_set(err, errno, "pidfd_open: %s", strerror(errno));
	else
		r = await_start(c.report, err);
	if (r < 0) {
		worker_stop(&w);
		return error_wrap(err, "start CRIU");
	}
	w.socket = TAKE_FD(c.ours);
	w.output = TAKE_FD(c.output);
	*ret = w;
	return 0;
}

int worker_reap(struct worker *w, int *ret_status, struct error *err)
{
	int status;

	while (waitpid(w->pid, &status, 0) < 0)
		if (errno != EINTR)
			return error_set(err, errno, "wait for CRIU: %s", strerror(errno));
	w->pid = 0;
	if (ret_status)
		*ret_status = status;
	return 0;
}

void worker_last_words(const struct worker *w, char *ret, size_t size)
{
	char text[2048];
	off_t end = w->output >= 0 ? lseek(w->output, 0, SEEK_END) : 0;
	off_t from = end > (off_t)sizeof(text) ? end - (off_t)sizeof(text) : 0;
	ssize_t n = end > 0 ? pread(w->output, text, sizeof(text) - 1, from) : 0;
	const char *line;

	ret[0] = '\0';
	while (n > 0 && (text[n - 1] == '\n' || text[n - 1] == ' '))
		n--;
	if (n <= 0)
		return;
	text[n] = '\0';
	line = strrchr(text, '\n');
	(void)snprintf(ret, size, "%s", line ? line + 1 : text);
}

void worker_stop(struct worker *w)
{
	struct error ignored;

	if (w->pid > 0) {
		(void)kill(w->pid, SIGKILL);
		(void)worker_reap(w, NULL, &ignored);
	}
	fd_close(&w->pidfd);
	fd_close(&w->socket);
	fd_close(&w->output);
}

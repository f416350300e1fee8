#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/base/cleanup.h"
#include "engine/base/fd.h"
#include "engine/container.h"
#include "engine/exec.h"
#include "engine/monitor/health.h"

#define END_TIMEOUT_MS 2000

static const char *const names[HEALTH_STATUS_MAX_] = {
	[HEALTH_NONE] = "none",
	[HEALTH_STARTING] = "starting",
	[HEALTH_HEALTHY] = "healthy",
	[HEALTH_UNHEALTHY] = "unhealthy",
};

const char *health_name(enum health_status s)
{
	return names[s];
}

enum health_status health_from_name(const char *name)
{
	for (int i = 0; i < HEALTH_STATUS_MAX_; i++)
		if (!strcmp(names[i], name))
			return (enum health_status)i;
	return HEALTH_NONE;
}

bool health_note(struct health *h, const struct health_check *check, bool good, uint64_t age_us)
{
	enum health_status before = h->status;

	if (good) {
		*h = (struct health){ .status = HEALTH_HEALTHY };
	} else if (h->status != HEALTH_STARTING || age_us >= check->start_period_us) {
		h->failures++;
		if (h->failures >= check->retries)
			h->status = HEALTH_UNHEALTHY;
	}
	return h->status != before;
}

/* 0: done; 1: the time is over, or somebody wants us to end. */
static int wait_for(pid_t pid, uint64_t timeout_us, int *ret_status)
{
	CLEANUP(fd_closep) int pidfd = pidfd_open(pid, 0), signals = -EBADF;
	struct pollfd p[2];
	sigset_t set;

	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGTERM);
	signals = signalfd(-1, &set, SFD_CLOEXEC);
	if (pidfd < 0 || signals < 0)
		return 1;
	p[0] = (struct pollfd){ .fd = pidfd, .events = POLLIN };
	p[1] = (struct pollfd){ .fd = signals, .events = POLLIN };
	if (poll(p, 2, (int)(timeout_us / 1000)) <= 0 || p[1].revents)
		return 1;
	return waitpid(pid, ret_status, 0) == pid ? 0 : 1;
}

/* What it writes goes nowhere; its session is its own, see exec.c. */
static int run_check(const struct container *c)
{
	const struct health_check *check = &c->spec->health;
	char *const args[] = { (char[]){ "sh" }, (char[]){ "-c" }, check->command, NULL };
	const struct exec_plan plan = { .args = (char **)(uintptr_t)args, .env = c->spec->env, .cwd = c->spec->cwd,
					.quiet = true };
	struct container_state st;
	struct error err;
	struct exec e;
	int status = 0;

	if (container_state(c, &st, &err) < 0 || exec_start(c, &st, &plan, &e, &err) < 0)
		return 1;
	if (wait_for(e.pid, check->timeout_us, &status) == 0)
		return !(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	(void)kill(-e.pid, SIGKILL);
	(void)kill(e.pid, SIGKILL);
	(void)waitpid(e.pid, &status, 0);
	return 1;
}

static _Noreturn void check_main(const struct container *c, pid_t monitor)
{
	const int keep[] = { 0, 1, 2, c->node->state_fd, c->node->containers_fd, c->dir_fd };
	struct error err;
	sigset_t set;

	(void)prctl(PR_SET_NAME, HEALTH_PROCESS);
	(void)prctl(PR_SET_PDEATHSIG, SIGTERM);
	(void)signal(SIGTERM, SIG_DFL);
	(void)sigfillset(&set);
	(void)sigprocmask(SIG_UNBLOCK, &set, NULL);
	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGTERM);
	(void)sigprocmask(SIG_BLOCK, &set, NULL);
	if (getppid() != monitor || fd_close_all_except(keep, sizeof(keep) / sizeof(*keep), &err) < 0)
		_exit(1);
	_exit(run_check(c));
}

int health_start(const struct container *c, pid_t *ret_pid, struct error *err)
{
	pid_t monitor = getpid(), pid = fork();

	if (pid == 0)
		check_main(c, monitor);
	if (pid < 0)
		return error_set(err, errno, "fork a health check: %s", strerror(errno));
	*ret_pid = pid;
	return 0;
}

int health_end(pid_t pid, struct error *err)
{
	CLEANUP(fd_closep) int pidfd = pidfd_open(pid, 0);
	struct pollfd p = { .fd = pidfd, .events = POLLIN };

	(void)kill(pid, SIGTERM);
	if (poll(&p, 1, END_TIMEOUT_MS) <= 0)
		return error_set(err, ETIMEDOUT, "a health check does not end");
	(void)waitpid(pid, NULL, 0);
	return 0;
}

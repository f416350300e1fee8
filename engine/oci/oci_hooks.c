#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/wait.h>

#include "engine/base/fd.h"
#include "engine/oci/oci_hooks.h"

#define OUTPUT_TAIL 300

static int write_state(const struct oci_container *c, enum oci_status status, int *ret_fd, struct error *err)
{
	json_t *state = oci_container_state(c, status, false);
	CLEANUP(freep) char *text = state ? json_dumps(state, JSON_COMPACT) : NULL;
	CLEANUP(fd_closep) int fd = memfd_create("state", MFD_CLOEXEC);

	json_decref(state);
	if (!text || fd < 0)
		return error_set(err, ENOMEM, "out of memory");
	if (fd_write_full(fd, text, strlen(text), err) < 0)
		return -err->code;
	(void)lseek(fd, 0, SEEK_SET);
	*ret_fd = TAKE_FD(fd);
	return 0;
}

static _Noreturn void child(const struct oci_hook *h, int input, int output)
{
	const char *const no_env[] = { NULL };
	const char *const only_path[] = { h->path, NULL };
	const char *const *args = h->args && h->args[0] ? h->args : only_path;
	sigset_t none;

	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	(void)signal(SIGPIPE, SIG_DFL);
	if (dup2(input, 0) == 0 && dup2(output, 1) == 1 && dup2(output, 2) == 2)
		(void)execve(h->path, (char *const *)(uintptr_t)args,
			     (char *const *)(uintptr_t)(h->env ? h->env : (const char **)(uintptr_t)no_env));
	(void)dprintf(2, "%s\n", strerror(errno));
	_exit(127);
}

static void last_line(int output, char *ret, size_t size)
{
	off_t end = lseek(output, 0, SEEK_END);
	ssize_t n;
	char *line;

	n = pread(output, ret, size - 1, end > (off_t)(size - 1) ? end - (off_t)(size - 1) : 0);
	ret[n > 0 ? n : 0] = '\0';
	while (n > 0 && ret[n - 1] == '\n')
		ret[--n] = '\0';
	line = strrchr(ret, '\n');
	if (line)
		memmove(ret, line + 1, strlen(line + 1) + 1);
}

static int wait_for(pid_t pid, const struct oci_hook *h, int *ret_status, struct error *err)
{
	CLEANUP(fd_closep) int fd = pidfd_open(pid, 0);
	struct pollfd p = { .fd = fd, .events = POLLIN };
	int64_t ms = h->timeout.set && h->timeout.value < INT32_MAX / 1000 ? h->timeout.value * 1000 : -1;
	int n;

	do {
		n = fd < 0 ? -1 : poll(&p, 1, (int)ms);
	} while (n < 0 && errno == EINTR);
	if (n <= 0)
		(void)kill(pid, SIGKILL);
	while (waitpid(pid, ret_status, 0) < 0 && errno == EINTR)
		;
	return n == 0 ? error_set(err, ETIMEDOUT, "took longer than its timeout of %lld s",
				  (long long)h->timeout.value) : 0;
}

static int run_one(const struct oci_hook *h, int input, struct error *err)
{
	CLEANUP(fd_closep) int output = memfd_create("output", MFD_CLOEXEC);
	char tail[OUTPUT_TAIL];
	int status = 0;
	pid_t pid;

	if (output < 0)
		return error_set(err, errno, "memfd_create: %s", strerror(errno));
	(void)lseek(input, 0, SEEK_SET);
	pid = fork();
	if (pid == 0)
		child(h, input, output);
	if (pid < 0)
		return error_set(err, errno, "fork: %s", strerror(errno));
	if (wait_for(pid, h, &status, err) < 0)
		return -err->code;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	last_line(output, tail, sizeof(tail));
	return error_set(err, ECANCELED, "%s %d%s%s", WIFEXITED(status) ? "exit" : "killed by signal",
			 WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status), *tail ? ": " : "", tail);
}

int oci_hooks_run(const struct oci_list *hooks, const char *kind, const struct oci_container *c,
		  enum oci_status status, struct error *err)
{
	CLEANUP(fd_closep) int input = -EBADF;

	if (hooks->n == 0)
		return 0;
	if (write_state(c, status, &input, err) < 0)
		return -err->code;
	OCI_EACH(struct oci_hook, h, *hooks)
		if (run_one(h, input, err) < 0)
			return error_wrap(err, "hook %s: %s", kind, h->path);
	return 0;
}

/* criu_find: which CRIU binary, and which version of it. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "criu-glue/criu.h"
#include "engine/base/cleanup.h"

#define PRIVATE_PREFIX "/usr/local/lib/godwit/criu/usr/sbin/criu"
#define VERSION_MIN 40100
#define REMEDY "run tools/setup, or install criu 4.1 or later"

/* The first executable criu of $PATH. */
static int find_in_path(char *ret, size_t size)
{
	const char *path = getenv("PATH");

	for (const char *p = path ? path : ""; *p;) {
		size_t len = strcspn(p, ":");
		int n = snprintf(ret, size, "%.*s/criu", (int)len, p);

		if (len && n > 0 && (size_t)n < size && access(ret, X_OK) == 0)
			return 0;
		p += len + (p[len] == ':');
	}
	return -ENOENT;
}

static int find_path(char *ret, size_t size, struct error *err)
{
	const char *named = getenv("GODWIT_CRIU");

	if (named && *named) {
		if ((size_t)snprintf(ret, size, "%s", named) >= size)
			return error_set(err, ENAMETOOLONG, "$GODWIT_CRIU is too long");
		if (access(named, X_OK) < 0)
			return error_set(err, ENOENT, "$GODWIT_CRIU is %s: %s; %s", named,
					 strerror(errno), REMEDY);
		return 0;
	}
	(void)snprintf(ret, size, "%s", PRIVATE_PREFIX);
	if (access(ret, X_OK) == 0 || find_in_path(ret, size) == 0)
		return 0;
	return error_set(err, ENOENT, "CRIU is not installed (no %s, no criu in $PATH); %s",
			 PRIVATE_PREFIX, REMEDY);
}

static int spawn_version(const char *path, int out, pid_t *ret)
{
	char *const argv[] = { (char[]){ "criu" }, (char[]){ "--version" }, NULL };
	posix_spawn_file_actions_t actions;
	int r = posix_spawn_file_actions_init(&actions);

	if (r)
		return r;
	r = posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
	if (!r)
		r = posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null",
						     O_WRONLY, 0);
	if (!r)
		r = posix_spawn(ret, path, &actions, NULL, argv, environ);
	(void)posix_spawn_file_actions_destroy(&actions);
	return r;
}

/* What `criu --version` prints, at most size - 1 bytes. */
static int read_version(const char *path, char *ret, size_t size, struct error *err)
{
	CLEANUP(fd_closep) int in = -EBADF;
	CLEANUP(fd_closep) int out = -EBADF;
	int fds[2], r, status = 0;
	size_t len = 0;
	ssize_t n;
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return error_set(err, errno, "pipe: %s", strerror(errno));
	in = fds[0];
	out = fds[1];
	r = spawn_version(path, out, &pid);
	if (r)
		return error_set(err, r, "execute %s: %s", path, strerror(r));
	fd_close(&out);
	while (len < size - 1 && ((n = read(in, ret + len, size - 1 - len)) > 0 ||
				  (n < 0 && errno == EINTR)))
		len += n > 0 ? (size_t)n : 0;
	ret[len] = '\0';
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		return error_set(err, ENOEXEC, "%s --version failed; %s", path, REMEDY);
	return 0;
}

/* "Version: 4.1.1" anywhere in text; each part is below 100. */
static int parse_version(const char *text, unsigned *ret)
{
	static const char label[] = "Version: ";
	const char *p = strstr(text, label);
	unsigned version = 0, parts = 0;

	for (p = p ? p + strlen(label) : ""; parts < 3; parts++) {
		char *end;
		unsigned long n = strtoul(p, &end, 10);

		if (*p < '0' || *p > '9' || n >= 100)
			break;
		version = version * 100 + (unsigned)n;
		p = *end == '.' ? end + 1 : "";
	}
	if (parts < 2)
		return -EPROTO;
	*ret = parts == 2 ? version * 100 : version;
	return 0;
}

int criu_find(struct criu *ret, struct error *err)
{
	struct criu found = { 0 };
	char text[256];

	if (find_path(found.path, sizeof(found.path), err) < 0 ||
	    read_version(found.path, text, sizeof(text), err) < 0)
		return -err->code;
	if (parse_version(text, &found.version) < 0)
		return error_set(err, EPROTO, "%s --version says no version; %s", found.path,
				 REMEDY);
	if (found.version < VERSION_MIN)
		return error_set(err, EOPNOTSUPP, "%s is version %u.%u.%u; %s", found.path,
				 found.version / 10000, found.version / 100 % 100,
				 found.version % 100, REMEDY);
	*ret = found;
	return 0;
}

#include "engine/base/fault.h"

#ifdef GODWIT_FAULTS
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/filter.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "engine/base/cleanup.h"
#include "engine/base/clock.h"
#include "engine/base/fd.h"

#define FILE_LIMIT 65536
#define LOOK_US 500

struct fault {
	char point[64], role[16], action[16], argument[32], marker[512];
};

struct action {
	const char *name;
	int (*act)(const struct fault *f, struct error *err);	/* NULL: it is looked up */
};

bool fault_armed;

/* Those of this process: there is no other way to reach one that was forked. */
static struct {
	const char *text;
	const char *role;
	_Atomic int connection;
	_Atomic bool corrupts;
} now = { .role = "command", .connection = -EBADF };

/* ---- actions ---- */

static int act_die(const struct fault *f, struct error *err)
{
	(void)f;
	(void)err;
	(void)kill(getpid(), SIGKILL);
	return 0;
}

_Noreturn static int act_hang(const struct fault *f, struct error *err)
{
	(void)f;
	(void)err;
	for (;;)
		(void)pause();
}

static int act_wait(const struct fault *f, struct error *err)
{
	char go[sizeof(f->marker) + 4];

	(void)err;
	(void)snprintf(go, sizeof(go), "%s.go", f->marker);
	while (access(go, F_OK) < 0)
		(void)usleep(LOOK_US);
	return 0;
}

static int errno_from_name(const char *name)
{
	for (int code = 1; code < 200; code++) {
		const char *known = strerrorname_np(code);

		if (known && !strcmp(known, name))
			return code;
	}
	return 0;
}

static int act_fail(const struct fault *f, struct error *err)
{
	int code = errno_from_name(f->argument);

	return error_set(err, code, "%s: %s", f->point, strerror(code));
}

/* connect(2) to nobody resets a connection at once. */
static int act_reset(const struct fault *f, struct error *err)
{
	const struct sockaddr nobody = { .sa_family = AF_UNSPEC };

	(void)f;
	(void)err;
	if (now.connection >= 0)
		(void)connect(now.connection, &nobody, sizeof(nobody));
	return 0;
}

static int act_drop(const struct fault *f, struct error *err)
{
	struct sock_filter nothing = BPF_STMT(BPF_RET | BPF_K, 0);
	const struct sock_fprog filter = { .len = 1, .filter = &nothing };

	(void)f;
	(void)err;
	if (now.connection >= 0)
		(void)setsockopt(now.connection, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof(filter));
	return 0;
}

static int act_corrupt(const struct fault *f, struct error *err)
{
	(void)f;
	(void)err;
	now.corrupts = true;
	return 0;
}

static int act_kill_criu(const struct fault *f, struct error *err)
{
	CLEANUP(freep) char *children = NULL;
	char path[64];
	int pid, used;

	(void)f;
	(void)snprintf(path, sizeof(path), "/proc/self/task/%d/children", (int)getpid());
	if (fd_read_file_at(-EBADF, path, FILE_LIMIT, &children, NULL, err) < 0)
		return 0;
	for (const char *p = children; sscanf(p, "%d %n", &pid, &used) == 1; p += used) {
		CLEANUP(freep) char *words = NULL;
		size_t len;

		(void)snprintf(path, sizeof(path), "/proc/%d/cmdline", pid);
		if (fd_read_file_at(-EBADF, path, FILE_LIMIT, &words, &len, err) == 0 &&
		    memmem(words, len, "swrk", 5))
			(void)kill(pid, SIGKILL);
	}
	return 0;
}

static const struct action actions[] = {
	{ "die", act_die }, { "hang", act_hang }, { "wait", act_wait }, { "fail", act_fail },
	{ "reset", act_reset }, { "drop", act_drop }, { "corrupt", act_corrupt },
	{ "kill-criu", act_kill_criu }, { "trace", NULL }, { "value", NULL },
};

static const struct action *find_action(const char *name)
{
	for (size_t i = 0; i < sizeof(actions) / sizeof(*actions); i++)
		if (!strcmp(actions[i].name, name))
			return &actions[i];
	return NULL;
}

/* ---- what is set ---- */

/* Up to one of the ends (or the end), which is left to be read. */
static const char *take(const char *p, const char *ends, char *ret, size_t size, bool *bad)
{
	size_t len = strcspn(p, ends);

	if (len >= size)
		*bad = true;
	(void)snprintf(ret, size, "%.*s", (int)len, p);
	return p + len;
}

#define ENDS ", \n"

/* Returns what comes after it, NULL when it makes no sense. */
static const char *parse(const char *p, struct fault *ret)
{
	bool bad = false;

	*ret = (struct fault){ 0 };
	p = take(p, "@:" ENDS, ret->point, sizeof(ret->point), &bad);
	if (*p == '@')
		p = take(p + 1, ":" ENDS, ret->role, sizeof(ret->role), &bad);
	if (*p == ':')
		p = take(p + 1, "=:" ENDS, ret->action, sizeof(ret->action), &bad);
	if (*p == '=')
		p = take(p + 1, ":" ENDS, ret->argument, sizeof(ret->argument), &bad);
	if (*p == ':')
		p = take(p + 1, ENDS, ret->marker, sizeof(ret->marker), &bad);
	if (!ret->point[0] || !find_action(ret->action) ||
	    (!strcmp(ret->action, "fail") && !errno_from_name(ret->argument)) ||
	    ((!strcmp(ret->action, "wait") || !strcmp(ret->action, "trace")) && !ret->marker[0]))
		bad = true;
	return bad ? NULL : p;
}

static const char *skip_ends(const char *p)
{
	return p + strspn(p, ENDS);
}

int fault_init(const char *text, struct error *err)
{
	struct fault f;

	now.text = text;
	fault_armed = text && *text;
	for (const char *p = fault_armed && *text != '@' ? skip_ends(text) : ""; *p;) {
		const char *next = parse(p, &f);

		if (!next)
			return error_set(err, EINVAL, "GODWIT_FAULT: '%.*s' is not POINT[@ROLE]:ACTION[=ARGUMENT]"
					 "[:MARKER]", (int)strcspn(p, ENDS), p);
		p = skip_ends(next);
	}
	return 0;
}

void fault_role(const char *role)
{
	now.role = role;
	now.connection = -EBADF;
	now.corrupts = false;
}

void fault_connection(int fd)
{
	now.connection = fd;
}

/* True for whoever comes first; without a marker each time. */
static bool take_marker(const struct fault *f)
{
	CLEANUP(fd_closep) int fd = -EBADF;
	char line[128];
	struct error ignored;
	int n;

	if (!f->marker[0])
		return true;
	fd = open(f->marker, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return false;
	n = snprintf(line, sizeof(line), "%d %s %s\n", (int)getpid(), now.role, f->point);
	(void)fd_write_full(fd, line, (size_t)n, &ignored);
	return true;
}

static void trace(const struct fault *f, const char *point)
{
	CLEANUP(fd_closep) int fd = open(f->marker, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	char line[128];
	struct error ignored;
	int n = snprintf(line, sizeof(line), "%llu %d %s %s\n", (unsigned long long)clock_us(), (int)getpid(),
			 now.role, point);

	if (fd >= 0)
		(void)fd_write_full(fd, line, (size_t)n, &ignored);
}

static bool is_for(const struct fault *f, const char *point)
{
	return (!strcmp(f->point, point) || !strcmp(f->point, "*")) && (!f->role[0] || !strcmp(f->role, now.role));
}

/* The first fault that is set for this point in this process. */
static bool find(const char *point, bool is_value, struct fault *ret)
{
	CLEANUP(freep) char *text = NULL;
	struct error ignored;
	const char *p = now.text;

	if (*p == '@') {
		if (fd_read_file_at(AT_FDCWD, p + 1, FILE_LIMIT, &text, NULL, &ignored) < 0)
			return false;
		p = text;
	}
	for (p = skip_ends(p); *p; p = skip_ends(p)) {
		p = parse(p, ret);
		if (!p)
			return false;
		if (!is_for(ret, point))
			continue;
		if (!strcmp(ret->action, "trace"))
			trace(ret, point);
		else if (!strcmp(ret->action, "value") == is_value && take_marker(ret))
			return true;
	}
	return false;
}

int fault_hit(const char *name, const char *part, struct error *err)
{
	struct fault f;
	char point[sizeof(f.point)];
	int before = errno, r = 0;

	(void)snprintf(point, sizeof(point), "%s%s%s", name, part ? "-" : "", part ? part : "");
	if (find(point, false, &f))
		r = find_action(f.action)->act(&f, err);
	errno = before;
	return r;
}

bool fault_take_corrupt(void)
{
	bool was = now.corrupts;

	now.corrupts = false;
	return was;
}

uint64_t fault_look_up_value(const char *name, uint64_t usual)
{
	struct fault f;

	return find(name, true, &f) ? strtoull(f.argument, NULL, 10) : usual;
}
#endif

#include <dirent.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/base/fd.h"
#include "engine/monitor/health.h"
#include "migrate/admission/movable_state.h"

#define SECOND_LOOK_US 20000

void *look_grow(void **list, size_t *n, size_t size)
{
	char *more = reallocarray(*list, *n + 1, size);

	if (!more)
		return NULL;
	*list = more;
	memset(more + *n * size, 0, size);
	return more + (*n)++ * size;
}

void look_find(struct look *l, enum reason code, pid_t pid, int fd, const char *fmt, ...)
{
	struct finding f = { .code = code, .pid = pid, .fd = fd };
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(f.what, sizeof(f.what), fmt, ap);
	va_end(ap);
	for (size_t i = 0; i < l->n_findings; i++)
		if (l->findings[i].code == code && !strcmp(l->findings[i].what, f.what))
			return;
	if (l->n_findings < MOVABLE_FINDINGS_MAX)
		l->findings[l->n_findings++] = f;
}

static void look_closep(struct look *l)
{
	free(l->tasks);
	free(l->mounts);
	free(l->pipes);
	free(l->unixes);
	fd_close(&l->diag);
}

/* proc_pid_stat(5): the fields behind the name. */
static bool read_task(pid_t pid, struct moving_task *ret)
{
	CLEANUP(freep) char *text = NULL;
	char path[32], *end;
	struct error ignored;
	int parent, session, foreground;
	char state;

	(void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	if (fd_read_file_at(-EBADF, path, 8192, &text, NULL, &ignored) < 0)
		return false;
	end = strrchr(text, ')');
	if (!end || sscanf(end, ") %c %d %*d %d %*d %d", &state, &parent, &session, &foreground) != 4)
		return false;
	*ret = (struct moving_task){ .pid = pid, .parent = parent, .session = session, .foreground = foreground };
	return true;
}

static int read_tasks(struct look *l, struct error *err)
{
	CLEANUP(cgroup_freep) struct cgroup *cg = NULL;
	CLEANUP(freep) pid_t *pids = NULL;
	size_t n = 0;

	if (container_cgroup(l->container, false, &cg, err) < 0 || cgroup_pids(cg, &pids, &n, err) < 0)
		return -err->code;
	l->tasks = calloc(n + 1, sizeof(*l->tasks));
	if (!l->tasks)
		return error_set(err, ENOMEM, "out of memory");
	for (size_t i = 0; i < n; i++)
		l->n_tasks += read_task(pids[i], &l->tasks[l->n_tasks]);
	return 0;
}

static struct moving_task *find_task(const struct look *l, pid_t pid)
{
	for (size_t i = 0; i < l->n_tasks; i++)
		if (l->tasks[i].pid == pid)
			return &l->tasks[i];
	return NULL;
}

/* The monitor ends a health check before the container is frozen. */
static bool is_health_check(pid_t parent)
{
	CLEANUP(freep) char *name = NULL;
	struct error ignored;
	char path[32];

	(void)snprintf(path, sizeof(path), "/proc/%d/comm", (int)parent);
	return fd_read_file_at(-EBADF, path, 64, &name, NULL, &ignored) == 0 && !strcmp(name, HEALTH_PROCESS "\n");
}

/* A process in the container's cgroup whose parent is outside of it was put
 * there by exec: its parent and stdio belong to this machine. */
static void tell_exec_sessions(struct look *l)
{
	for (size_t i = 0; i < l->n_tasks; i++) {
		const struct moving_task *t = &l->tasks[i], *up = t;

		for (size_t depth = 0; up && up->pid != l->init && depth < l->n_tasks; depth++)
			up = find_task(l, up->parent);
		l->tasks[i].inside = up && up->pid == l->init;
		if (t->pid != l->init && !find_task(l, t->parent) && !is_health_check(t->parent))
			look_find(l, REASON_EXEC_SESSION, t->pid, -1, "an exec session is open and can't move");
	}
}

static bool same_namespace(pid_t a, pid_t b, const char *kind)
{
	struct stat mine, theirs;
	char path[64];

	(void)snprintf(path, sizeof(path), "/proc/%d/ns/%s", (int)a, kind);
	if (stat(path, &mine) < 0)
		return true;		/* has ended, or the kernel has none of this kind */
	(void)snprintf(path, sizeof(path), "/proc/%d/ns/%s", (int)b, kind);
	return stat(path, &theirs) < 0 || (mine.st_ino == theirs.st_ino && mine.st_dev == theirs.st_dev);
}

/* False when its descriptors mean something else. */
static bool check_namespaces(struct look *l, const struct moving_task *t)
{
	static const char *const kinds[] = { "user", "mnt", "pid", "pid_for_children", "net", "ipc", "uts", "cgroup",
					     "time", "time_for_children" };
	/* All others need one of these first, without more rights than a container has. */
	bool own = userns_is_own(&l->container->spec->userns);
	bool same = own || same_namespace(l->init, getpid(), kinds[0]);

	if (!same)
		look_find(l, REASON_NAMESPACE_NESTED, l->init, -1, "it is in a user namespace of its own");
	for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++) {
		if (same_namespace(t->pid, l->init, kinds[i]))
			continue;
		same = false;
		look_find(l, REASON_NAMESPACE_NESTED, t->pid, -1, "there is a %s namespace of its own in it", kinds[i]);
	}
	return same;
}

/* CRIU's limit: /dev/tty can be open in the session's leader only, and its own
 * process group must be in the foreground. */
static void check_terminal(struct look *l, const struct moving_task *t)
{
	const struct moving_task *leader = find_task(l, t->session);

	if (t->holds_tty && (!leader || !leader->holds_tty || t->foreground != t->session))
		look_find(l, REASON_TERMINAL_BUSY, t->pid, -1, "a program holds /dev/tty open while another one than "
			  "the terminal's first is in the foreground");
}

static int look_once(struct look *l, struct error *err)
{
	if (read_tasks(l, err) < 0 || look_read_mounts(l, err) < 0 || look_open_diag(l, err) < 0)
		return -err->code;
	tell_exec_sessions(l);
	for (size_t i = 0; i < l->n_tasks; i++) {
		struct moving_task *t = &l->tasks[i];

		if (!t->inside)
			continue;
		if (container_is_traced(t->pid))
			look_find(l, REASON_TRACED, t->pid, -1, "a debugger traces it");
		if (check_namespaces(l, t))
			look_at_files(l, t);
	}
	for (size_t i = 0; i < l->n_tasks; i++)
		check_terminal(l, &l->tasks[i]);
	if (!l->in_flight) {		/* else nobody knows what the container has */
		look_at_pipes(l);
		look_at_peers(l);
	}
	look_at_queues(l);
	return 0;
}

static void read_name(pid_t pid, char ret[32])
{
	CLEANUP(freep) char *text = NULL;
	char path[32];
	struct error ignored;

	(void)snprintf(path, sizeof(path), "/proc/%d/comm", (int)pid);
	if (fd_read_file_at(-EBADF, path, 64, &text, NULL, &ignored) < 0)
		(void)snprintf(ret, 32, "ended");
	else
		(void)snprintf(ret, 32, "%.*s", (int)strcspn(text, "\n"), text);
}

static void tell(const struct finding *f, struct reasons *ret)
{
	char name[32];

	read_name(f->pid, name);
	if (f->fd < 0)
		reasons_add(ret, f->code, "%s (process %d, %s)", f->what, (int)f->pid, name);
	else
		reasons_add(ret, f->code, "%s is open (process %d, %s, descriptor %d)", f->what, (int)f->pid, name,
			    f->fd);
}

static bool was_seen(const struct look *l, const struct finding *f)
{
	for (size_t i = 0; i < l->n_findings; i++)
		if (l->findings[i].code == f->code && !strcmp(l->findings[i].what, f->what))
			return true;
	return false;
}

static int look_twice(const struct container *c, const struct container_state *s, struct reasons *ret,
		      struct error *err)
{
	const struct look start = { .container = c, .init = s->pid, .monitor = s->monitor_pid, .diag = -EBADF };
	CLEANUP(look_closep) struct look first = start, second = start;

	if (look_once(&first, err) < 0)
		return -err->code;
	if (!first.n_findings)
		return 0;
	(void)usleep(SECOND_LOOK_US);
	if (look_once(&second, err) < 0)
		return -err->code;
	for (size_t i = 0; i < second.n_findings; i++)
		if (was_seen(&first, &second.findings[i]))
			tell(&second.findings[i], ret);
	return 0;
}

int movable_check(const struct container *c, const struct container_state *s, struct reasons *ret,
		  struct error *err)
{
	if (s->status != CONTAINER_RUNNING && s->status != CONTAINER_PAUSED) {
		reasons_add(ret, REASON_NOT_RUNNING, "container '%s' is %s, not running", c->name,
			    container_status_name(s->status));
		return 0;
	}
	if (!s->monitor_alive) {
		reasons_add(ret, REASON_MONITOR_LOST, "container '%s' has lost its monitor, and gets no other now",
			    c->name);
		return 0;
	}
	if (c->spec->nested)
		reasons_add(ret, REASON_NESTED, "container '%s' may run containers itself (--nested): its mounts and "
			    "control groups can't be moved", c->name);
	if (look_twice(c, s, ret, err) < 0)
		return error_wrap(err, "look at container '%s'", c->name);
	return 0;
}

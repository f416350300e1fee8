#include <ctype.h>
#include <fcntl.h>
#include <string.h>

#include "engine/base/fd.h"
#include "tools/oci.h"
#include "tools/relay.h"

struct exec_options {
	struct oci_launch_options launch;
	const char *process, *cwd, *user, *label, *apparmor;
	struct option_list env, caps, groups;
	uint32_t preserve_fds;
	bool terminal, detach, no_new_privileges, ignore_paused;
};

#define ROW(letter, name, kind, value, member, help) \
	OPTION(letter, name, kind, value, struct exec_options, member, help)

static const struct option_row rows[] = {
	ROW('p', "process", TEXT, "FILE", process, "a process object; instead of a command"),
	ROW(0, "cwd", TEXT, "DIR", cwd, "working directory [the container's]"),
	ROW('e', "env", LIST, "K=V", env, "set a variable; repeatable"),
	ROW('t', "tty", FLAG, NULL, terminal, "give it a terminal"),
	ROW('u', "user", TEXT, "UID[:GID]", user, "user and group [the container's]"),
	ROW('g', "additional-gids", LIST, "GID", groups, "one more group; repeatable"),
	ROW('d', "detach", FLAG, NULL, detach, "return when it has started"),
	ROW(0, "console-socket", TEXT, "SOCKET", launch.console_socket, "who gets the terminal's master"),
	ROW(0, "pid-file", TEXT, "FILE", launch.pid_file, "write its pid there"),
	ROW(0, "process-label", TEXT, "LABEL", label, "SELinux label"),
	ROW(0, "apparmor", TEXT, "PROFILE", apparmor, "AppArmor profile"),
	ROW(0, "no-new-privs", FLAG, NULL, no_new_privileges, "it can't gain privileges"),
	ROW('c', "cap", LIST, "CAP", caps, "one more capability; repeatable"),
	ROW(0, "preserve-fds", COUNT, "N", preserve_fds, "descriptors from 3 on that it gets too [0]"),
	ROW(0, "ignore-paused", FLAG, NULL, ignore_paused, "also in a paused container: it waits there"),
	OPTION_END,
};

static int no_memory(struct error *err)
{
	return error_set(err, ENOMEM, "out of memory");
}

static int read_process(struct oci_arena *a, const char *path, struct oci_process **ret, struct error *err)
{
	CLEANUP(freep) char *text = NULL;
	size_t len;

	if (fd_read_file_at(AT_FDCWD, path, OCI_JSON_LIMIT, &text, &len, err) < 0)
		return error_wrap(err, "--process");
	return oci_process_parse(a, text, len, ret, err);
}

/* Two lists of words, one after the other; the first may be NULL. */
static const char **join(struct oci_arena *a, const char **first, const struct option_list *more)
{
	size_t n = 0;
	const char **all;

	while (first && first[n])
		n++;
	all = oci_arena_alloc(a, n + more->n + 1, sizeof(*all));
	if (!all)
		return NULL;
	if (n)
		memcpy(all, first, n * sizeof(*all));
	memcpy(all + n, more->items, more->n * sizeof(*all));
	return all;
}

static int parse_id(const char *text, const char **ret_end, struct oci_number *ret, struct error *err)
{
	char *end;
	unsigned long v = strtoul(text, &end, 10);

	if (!isdigit((unsigned char)*text) || v >= UINT32_MAX)
		return error_set(err, EINVAL, "'%.40s' is no user or group id: give a number", text);
	*ret = (struct oci_number){ true, (int64_t)v };
	*ret_end = end;
	return 0;
}

static int set_user(struct oci_arena *a, const struct exec_options *o, struct oci_process *p, struct error *err)
{
	struct oci_user *u = oci_arena_alloc(a, 1, sizeof(*u));
	struct oci_number *groups = oci_arena_alloc(a, o->groups.n + 1, sizeof(*groups));
	const char *end;

	if (!u || !groups)
		return no_memory(err);
	if (p->user)
		*u = *p->user;
	p->user = u;
	if (o->user) {
		if (parse_id(o->user, &end, &u->uid, err) < 0 ||
		    (*end == ':' && parse_id(end + 1, &end, &u->gid, err) < 0))
			return error_wrap(err, "--user");
		if (*end)
			return error_set(err, EINVAL, "--user: '%s' is not UID or UID:GID", o->user);
	}
	for (size_t i = 0; i < o->groups.n; i++)
		if (parse_id(o->groups.items[i], &end, &groups[i], err) < 0 || *end)
			return error_set(err, EINVAL, "--additional-gids: '%s' is no group id", o->groups.items[i]);
	if (o->groups.n)
		u->additional_gids = (struct oci_list){ groups, o->groups.n };
	return 0;
}

static int add_capabilities(struct oci_arena *a, const struct exec_options *o, struct oci_process *p,
	struct error *err)
{
	struct oci_capabilities *c = oci_arena_alloc(a, 1, sizeof(*c));

	if (o->caps.n == 0)
		return 0;
	if (!c)
		return no_memory(err);
	if (p->capabilities)
		*c = *p->capabilities;
	p->capabilities = c;
	c->bounding = join(a, c->bounding, &o->caps);
	c->effective = join(a, c->effective, &o->caps);
	c->permitted = join(a, c->permitted, &o->caps);
	return c->bounding && c->effective && c->permitted ? 0 : no_memory(err);
}

/* The container's own process with what the options say otherwise. */
static int make_process(const struct oci_container *c, const struct exec_options *o, int argc, char **argv,
			struct oci_process **ret, struct error *err)
{
	struct oci_arena *a = c->spec->arena;
	struct oci_process *p = oci_arena_alloc(a, 1, sizeof(*p));

	if (!p)
		return no_memory(err);
	if (argc == 0)
		return error_set(err, EINVAL, "give a command, or --process");
	*p = *c->spec->process;
	p->args = (const char **)(uintptr_t)argv;
	p->terminal = o->terminal;
	p->console_size = NULL;
	p->cwd = o->cwd ? o->cwd : p->cwd;
	p->no_new_privileges = p->no_new_privileges || o->no_new_privileges;
	p->selinux_label = o->label ? o->label : p->selinux_label;
	p->apparmor_profile = o->apparmor ? o->apparmor : p->apparmor_profile;
	p->env = join(a, p->env, &o->env);
	if (!p->env)
		return no_memory(err);
	if (set_user(a, o, p, err) < 0 || add_capabilities(a, o, p, err) < 0)
		return -err->code;
	*ret = p;
	return 0;
}

static int check_status(const struct oci_container *c, const struct exec_options *o, struct error *err)
{
	enum oci_status s = oci_container_status(c);

	if (s == OCI_STOPPED || s == OCI_CREATING)
		return error_set(err, EINVAL, "container '%s' is %s", c->id, oci_status_name(s));
	if (s == OCI_PAUSED && !o->ignore_paused)
		return error_set(err, EBUSY, "container '%s' is paused: resume it first", c->id);
	return 0;
}

static int start(const struct invocation *inv, struct oci_container *c, struct exec *ret, struct error *err)
{
	const struct exec_options *o = inv->options;
	struct oci_launch_options launch = o->launch;
	struct oci_process *p;

	launch.preserve_fds = o->preserve_fds;
	if (check_status(c, o, err) < 0 ||
	    (o->process ? read_process(c->spec->arena, o->process, &p, err) :
			  make_process(c, o, inv->argc - 1, inv->argv + 1, &p, err)) < 0)
		return -err->code;
	if (o->process && o->terminal)
		p->terminal = true;
	if (p->terminal && o->detach && !launch.console_socket)
		return error_set(err, EINVAL, "a terminal of a detached process needs --console-socket");
	return oci_exec(c, p, &launch, &ret->pid, &ret->terminal, err);
}

static int exec_run(const struct invocation *inv)
{
	const struct exec_options *o = inv->options;
	CLEANUP(oci_container_freep) struct oci_container *c = oci_open(inv);
	struct exec e = { .fds = { -EBADF, -EBADF, -EBADF }, .terminal = -EBADF };
	struct error err;
	int code = EXIT_OK;

	if (!c)
		return EXIT_FAILED;
	if (start(inv, c, &e, &err) < 0)
		return oci_fail(inv, &err);
	if (o->detach)
		return EXIT_OK;
	return relay_attend(&e, e.terminal >= 0, e.terminal >= 0, &code, &err) < 0 ? oci_fail(inv, &err) : code;
}

const struct command command_oci_exec = {
	.name = "oci exec", .usage = "ID [COMMAND [ARGUMENT]...]", .summary = "start one more process in a container",
	.options = rows, .options_size = sizeof(struct exec_options), .min_args = 1, .max_args = ARGS_MANY,
	.command_follows = true, .enters_container = true, .run = exec_run,
};

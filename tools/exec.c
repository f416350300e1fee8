#include <string.h>

#include "engine/base/cleanup.h"
#include "engine/exec.h"
#include "tools/commands.h"
#include "tools/end.h"
#include "tools/launch.h"
#include "tools/relay.h"
#include "tools/run.h"

struct exec_options {
	bool interactive, terminal;
	const char *cwd, *user;
	struct option_list env;
};

#define ROW(letter, name, kind, value, member, help) \
	OPTION(letter, name, kind, value, struct exec_options, member, help)

static const struct option_row rows[] = {
	ROW('i', "interactive", FLAG, NULL, interactive, "give it our standard input"),
	ROW('t', "tty", FLAG, NULL, terminal, "give it a terminal"),
	ROW('e', "env", LIST, "K[=V]", env, "set a variable, or pass ours on; repeatable"),
	ROW('w', "workdir", TEXT, "DIR", cwd, "working directory [the container's]"),
	ROW('u', "user", TEXT, "USER[:GROUP]", user, "user and group [the container's]"),
	OPTION_END,
};

static int make_env(const struct container *c, const struct container_state *st,
		    const struct exec_options *o, char ***env, struct error *err)
{
	char home[256];

	if (o->user) {
		CLEANUP(freep) char *text = NULL;

		if (exec_find_home(c, st, o->user, home, err) < 0)
			return -err->code;
		if (asprintf(&text, "HOME=%s", home) < 0)
			return error_set(err, ENOMEM, "out of memory");
		if (run_add_env(env, text, err) < 0)
			return -err->code;
	}
	for (char **e = c->spec->env; *e; e++)
		if ((!o->user || strncmp(*e, "HOME=", 5) != 0) && run_add_env(env, *e, err) < 0)
			return -err->code;
	if (o->terminal && run_default_env(env, "TERM", "xterm", err) < 0)
		return -err->code;
	for (size_t i = 0; i < o->env.n; i++)
		if (run_add_env(env, o->env.items[i], err) < 0)
			return -err->code;
	return 0;
}

static int exec_in(const struct invocation *inv, char ***env, int *ret_code, struct error *err)
{
	const struct exec_options *o = inv->options;
	CLEANUP(container_freep) struct container *c = NULL;
	struct container_state st;
	struct exec_plan plan;
	struct exec e;

	if (container_open(inv->node, inv->argv[0], &c, err) < 0 || end_check(c, &st, err) < 0)
		return -err->code;
	if (st.status == CONTAINER_PAUSED)
		return error_set(err, EBUSY, "container '%s' is paused; 'godwit unpause %s' first", c->name, c->name);
	if (make_env(c, &st, o, env, err) < 0)
		return -err->code;
	plan = (struct exec_plan){ .args = inv->argv + 1, .env = *env, .cwd = o->cwd ? o->cwd : c->spec->cwd,
				   .user = o->user, .terminal = o->terminal, .input = o->interactive };
	if (exec_start(c, &st, &plan, &e, err) < 0)
		return -err->code;
	return relay_attend(&e, o->terminal, o->interactive, ret_code, err);
}

static int exec_run(const struct invocation *inv)
{
	const struct exec_options *o = inv->options;
	char **env = NULL;
	struct error err;
	int code = EXIT_OK, r;

	if (o->cwd && o->cwd[0] != '/')
		return command_usage_error(inv->command, "exec: working directory '%s' is not absolute", o->cwd);
	r = exec_in(inv, &env, &code, &err);
	for (char **e = env; e && *e; e++)
		free(*e);
	free(env);
	return r < 0 ? command_fail(&err, launch_exit_code(&err)) : code;
}

const struct command command_exec = {
	.name = "exec",
	.usage = "NAME COMMAND [ARGUMENT]...",
	.summary = "start one more program in a running container",
	.notes = "Ends with the exit code of the program; 125 when godwit itself failed, 126 when\n"
		 "the program can't be executed, 127 when there is none. Signals are passed on.\n",
	.options = rows, .options_size = sizeof(struct exec_options),
	.min_args = 2, .max_args = ARGS_MANY, .command_follows = true, .enters_container = true, .run = exec_run,
};

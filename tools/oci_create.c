
#include "engine/base/cleanup.h"
#include "tools/oci.h"
#include "tools/relay.h"

struct create_options {
	const char *bundle;
	struct oci_launch_options launch;
	uint32_t preserve_fds;
	bool detach, keep, no_subreaper, no_pivot;
};

#define ROW(letter, name, kind, value, member, help) \
	OPTION(letter, name, kind, value, struct create_options, member, help)

static const struct option_row create_rows[] = {
	ROW('b', "bundle", TEXT, "DIR", bundle, "the folder with config.json [.]"),
	ROW(0, "console-socket", TEXT, "SOCKET", launch.console_socket, "who gets the terminal's master"),
	ROW(0, "pid-file", TEXT, "FILE", launch.pid_file, "write the pid of the first process there"),
	ROW(0, "preserve-fds", COUNT, "N", preserve_fds, "descriptors from 3 on that the program gets too [0]"),
	ROW(0, "no-new-keyring", FLAG, NULL, launch.no_new_keyring, "stay in the session keyring of the caller"),
	ROW(0, "no-pivot", FLAG, NULL, no_pivot, "refused: the root is always left for good"),
	OPTION_END,
};

static const struct option_row run_rows[] = {
	ROW('b', "bundle", TEXT, "DIR", bundle, "the folder with config.json [.]"),
	ROW(0, "console-socket", TEXT, "SOCKET", launch.console_socket, "who gets the terminal's master"),
	ROW(0, "pid-file", TEXT, "FILE", launch.pid_file, "write the pid of the first process there"),
	ROW(0, "preserve-fds", COUNT, "N", preserve_fds, "descriptors from 3 on that the program gets too [0]"),
	ROW(0, "no-new-keyring", FLAG, NULL, launch.no_new_keyring, "stay in the session keyring of the caller"),
	ROW(0, "no-pivot", FLAG, NULL, no_pivot, "refused: the root is always left for good"),
	ROW('d', "detach", FLAG, NULL, detach, "return when it has started"),
	ROW(0, "keep", FLAG, NULL, keep, "don't delete it when it has ended"),
	ROW(0, "no-subreaper", FLAG, NULL, no_subreaper, "accepted: this is never the reaper of others' processes"),
	OPTION_END,
};

static const struct create_options defaults = { .bundle = "." };

static int create(const struct invocation *inv, struct oci_container **ret, int *ret_terminal, struct error *err)
{
	const struct create_options *o = inv->options;
	CLEANUP(oci_container_freep) struct oci_container *c = NULL;
	struct oci_launch_options launch = o->launch;

	if (o->no_pivot)
		return error_set(err, ENOTSUP, "--no-pivot: what the container leaves behind could be reached again; "
				 "put its root on another file system than the initial ramdisk, such as a tmpfs");
	launch.preserve_fds = o->preserve_fds;
	if (oci_container_create(inv->oci->root, inv->argv[0], o->bundle, inv->oci->systemd_cgroup, &c, err) < 0 ||
	    oci_create(c, &launch, ret_terminal, err) < 0)
		return -err->code;
	*ret = TAKE_PTR(c);
	return 0;
}

/* Nobody would have the terminal. */
static int check_terminal(const struct oci_container *c, const struct create_options *o, bool foreground,
			  struct error *err)
{
	if (c->spec->process->terminal && !o->launch.console_socket && !foreground)
		return error_set(err, EINVAL, "process.terminal: give --console-socket");
	return 0;
}

static int create_run(const struct invocation *inv)
{
	CLEANUP(oci_container_freep) struct oci_container *c = NULL;
	CLEANUP(fd_closep) int terminal = -EBADF;
	struct error err, ignored;

	if (create(inv, &c, &terminal, &err) < 0)
		return oci_fail(inv, &err);
	if (check_terminal(c, inv->options, false, &err) < 0) {
		(void)oci_container_destroy(c, &ignored);
		return oci_fail(inv, &err);
	}
	return EXIT_OK;
}

static int start_run(const struct invocation *inv)
{
	CLEANUP(oci_container_freep) struct oci_container *c = oci_open(inv);
	struct error err;

	if (!c)
		return EXIT_FAILED;
	return oci_start(c, &err) < 0 ? oci_fail(inv, &err) : EXIT_OK;
}

static int attend(const struct oci_container *c, int terminal, bool keep, int *ret_code, struct error *err)
{
	struct exec e = { .pid = c->pid, .fds = { -EBADF, -EBADF, -EBADF }, .terminal = terminal };

	if (relay_attend(&e, terminal >= 0, terminal >= 0, ret_code, err) < 0)
		return -err->code;
	return keep ? 0 : oci_delete(c, err);
}

static int run_run(const struct invocation *inv)
{
	const struct create_options *o = inv->options;
	CLEANUP(oci_container_freep) struct oci_container *c = NULL;
	struct error err, ignored;
	int terminal = -EBADF, code = EXIT_OK;

	if (create(inv, &c, &terminal, &err) < 0)
		return oci_fail(inv, &err);
	if (check_terminal(c, o, !o->detach, &err) < 0 || oci_start(c, &err) < 0) {
		(void)oci_container_destroy(c, &ignored);
		return oci_fail(inv, &err);
	}
	if (o->detach)
		return EXIT_OK;
	return attend(c, terminal, o->keep, &code, &err) < 0 ? oci_fail(inv, &err) : code;
}

const struct command command_oci_create = {
	.name = "oci create", .usage = "ID", .summary = "make a container of a bundle, up to its program",
	.options = create_rows, .options_size = sizeof(struct create_options), .defaults = &defaults,
	.min_args = 1, .max_args = 1, .enters_container = true, .run = create_run,
};

const struct command command_oci_start = {
	.name = "oci start", .usage = "ID", .summary = "start the program of a created container",
	.min_args = 1, .max_args = 1, .run = start_run,
};

const struct command command_oci_run = {
	.name = "oci run", .usage = "ID", .summary = "create and start, and delete at the end",
	.options = run_rows, .options_size = sizeof(struct create_options), .defaults = &defaults,
	.min_args = 1, .max_args = 1, .enters_container = true, .run = run_run,
};

#include "engine/base/cleanup.h"
#include "migrate/checkpoint/oci_checkpoint.h"
#include "tools/oci.h"
#include "tools/relay.h"

struct cr_options {
	struct oci_checkpoint_options criu;
	struct oci_launch_options launch;
	const char *work_path, *bundle;
	bool detach;
};

#define ROW(letter, name, kind, value, member, help) OPTION(letter, name, kind, value, struct cr_options, member, help)

static const struct option_row checkpoint_rows[] = {
	ROW(0, "image-path", TEXT, "DIR", criu.image_path, "where the images go [checkpoint]"),
	ROW(0, "work-path", TEXT, "DIR", work_path, "accepted: logs are beside the images"),
	ROW(0, "leave-running", FLAG, NULL, criu.leave_running, "don't end it"),
	ROW(0, "tcp-established", FLAG, NULL, criu.tcp_established, "allow established connections"),
	ROW(0, "ext-unix-sk", FLAG, NULL, criu.ext_unix_sk, "allow unix sockets whose peer is outside"),
	ROW(0, "shell-job", FLAG, NULL, criu.shell_job, "allow a session that began outside"),
	ROW(0, "file-locks", FLAG, NULL, criu.file_locks, "allow file locks"),
	OPTION_END,
};

static const struct option_row restore_rows[] = {
	ROW('b', "bundle", TEXT, "DIR", bundle, "the folder with config.json [.]"),
	ROW(0, "image-path", TEXT, "DIR", criu.image_path, "where the images are [checkpoint]"),
	ROW(0, "work-path", TEXT, "DIR", work_path, "accepted: logs are beside the images"),
	ROW(0, "pid-file", TEXT, "FILE", launch.pid_file, "write the pid of the first process there"),
	ROW('d', "detach", FLAG, NULL, detach, "return when it runs"),
	ROW(0, "tcp-established", FLAG, NULL, criu.tcp_established, "as at the checkpoint"),
	ROW(0, "ext-unix-sk", FLAG, NULL, criu.ext_unix_sk, "as at the checkpoint"),
	ROW(0, "shell-job", FLAG, NULL, criu.shell_job, "as at the checkpoint"),
	ROW(0, "file-locks", FLAG, NULL, criu.file_locks, "as at the checkpoint"),
	OPTION_END,
};

static const struct cr_options defaults = { .bundle = ".", .criu = { .image_path = "checkpoint" } };

static int checkpoint_run(const struct invocation *inv)
{
	const struct cr_options *o = inv->options;
	CLEANUP(oci_container_freep) struct oci_container *c = oci_open(inv);
	struct error err;

	if (!c)
		return EXIT_FAILED;
	return oci_checkpoint(c, &o->criu, &err) < 0 ? oci_fail(inv, &err) : EXIT_OK;
}

static int restore_run(const struct invocation *inv)
{
	const struct cr_options *o = inv->options;
	CLEANUP(oci_container_freep) struct oci_container *c = NULL;
	struct exec e = { .fds = { -EBADF, -EBADF, -EBADF }, .terminal = -EBADF };
	struct error err;
	int code = EXIT_OK;

	if (oci_container_create(inv->oci->root, inv->argv[0], o->bundle, inv->oci->systemd_cgroup, &c, &err) < 0 ||
	    oci_restore(c, &o->criu, &o->launch, &err) < 0)
		return oci_fail(inv, &err);
	if (o->detach)
		return EXIT_OK;
	e.pid = c->pid;
	return relay_attend(&e, false, false, &code, &err) < 0 || oci_delete(c, &err) < 0 ? oci_fail(inv, &err) : code;
}

const struct command command_oci_checkpoint = {
	.name = "oci checkpoint", .usage = "ID", .summary = "save a running container as images of CRIU",
	.options = checkpoint_rows, .options_size = sizeof(struct cr_options), .defaults = &defaults,
	.min_args = 1, .max_args = 1, .run = checkpoint_run,
};

const struct command command_oci_restore = {
	.name = "oci restore", .usage = "ID", .summary = "make a container of a bundle and such images",
	.options = restore_rows, .options_size = sizeof(struct cr_options), .defaults = &defaults,
	.min_args = 1, .max_args = 1, .enters_container = true, .run = restore_run,
};

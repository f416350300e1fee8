/*
 * oci.h - the command line of an OCI runtime: `godwit oci ...`, or this program as godwit-oci
 *
 * Options and commands are those of runc(8), so that container engines can use
 * it in its place. An error is one line on stderr, and one of the log that
 * --log names, in the form that those engines read.
 */
#pragma once

#include "engine/oci/oci_launch.h"
#include "tools/command.h"

struct oci_globals {
	const char *root, *log, *log_format;
	bool debug, systemd_cgroup;
	const char *criu;
};

/* argv[0] is the program or "oci"; whole is argv of main. Returns an exit code. */
int oci_main(char *const *whole, int argc, char **argv);
void oci_print_overview(FILE *out);

/* Says an error (err may be NULL: then it is said already) and returns EXIT_FAILED. */
int oci_fail(const struct invocation *inv, const struct error *err);

/* The container that the first argument names; NULL: the error is said. */
struct oci_container *oci_open(const struct invocation *inv);

/* Prints a document (consumed) and returns an exit code. */
int oci_print(json_t *document);

extern const struct command command_oci_create, command_oci_start, command_oci_run, command_oci_state,
	command_oci_kill, command_oci_delete, command_oci_exec, command_oci_ps, command_oci_list,
	command_oci_pause, command_oci_resume, command_oci_update, command_oci_events, command_oci_spec,
	command_oci_features, command_oci_checkpoint, command_oci_restore;

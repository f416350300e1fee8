/*
 * commands.h - the subcommands that main.c's table is made of
 */
#pragma once

#include "tools/command.h"

extern const struct command command_attach, command_check, command_checkpoint, command_doctor,
	command_exec, command_fault_points, command_image_import, command_image_ls,
	command_image_rm, command_inspect, command_kill, command_logs, command_migrate,
	command_network_create, command_network_inspect, command_network_ls, command_network_rm,
	command_oci, command_pause, command_ps, command_resolve, command_restore, command_rm,
	command_run, command_serve, command_start, command_stats, command_stop, command_tls_init,
	command_tls_install, command_tls_issue, command_tls_revoke, command_tls_show, command_top,
	command_unpause, command_update;

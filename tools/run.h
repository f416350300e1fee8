/*
 * run.h - from the options of `run` to a container's specification
 */
#pragma once

#include "tools/command.h"
#include "tools/disk_options.h"

#define RUN_PIDS_DEFAULT UINT32_MAX	/* pids was not given */

struct run_options {
	bool detach, remove, interactive, terminal, nested;
	const char *name, *hostname, *cwd, *user, *address, *network;
	struct option_list env, volumes, ports, uid_maps, gid_maps;
	uint64_t memory_bytes, shm_bytes;
	uint32_t cpu_millis, pids;
	struct disk_options disks;
	const char *restart, *health_cmd, *userns;
	uint64_t health_interval_us, health_timeout_us, health_start_period_us;
	uint32_t health_retries;
};

/* All of it but the name, when none is given, and the address: those are
 * given out under the node's lock. */
int run_spec(const struct node *node, const struct run_options *o, const char *image, char **args,
	     struct spec **ret, struct error *err);

/* NAME=VALUE as given, NAME taken from our own environment; *env grows. */
int run_add_env(char ***env, const char *text, struct error *err);

/* Adds NAME=VALUE unless env has NAME. */
int run_default_env(char ***env, const char *name, const char *value, struct error *err);

/* A name that people can read and say, and that is free on the node now. */
int run_choose_name(const struct node *node, char **ret, struct error *err);

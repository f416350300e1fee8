/*
 * oci_spec.h - a bundle's config.json: the OCI runtime specification 1.1 for Linux
 *
 * The structs are the document's objects (config.md, config-linux.md) with its
 * names; what each field means is written there. What is unknown, what belongs
 * to other systems, and what this runtime can't do is refused by name. It is
 * not godwit's own spec.h: that says what godwit chose, this what a container
 * engine asks for. Both are made real by the same code (process.h, mounts.h,
 * cgroup.h, devices.h, seccomp.h).
 */
#pragma once

#include "engine/oci/oci_decode.h"

#define OCI_VERSION "1.1.0"

struct oci_box {
	struct oci_number height, width;
};

struct oci_capabilities {
	const char **bounding, **effective, **inheritable, **permitted, **ambient;
};

struct oci_rlimit {
	const char *type;
	struct oci_number soft, hard;
};

struct oci_scheduler {
	const char *policy;
	struct oci_number nice, priority, runtime, deadline, period;
	const char **flags;
};

struct oci_io_priority {
	const char *class;
	struct oci_number priority;
};

struct oci_user {
	struct oci_number uid, gid, umask;
	struct oci_list additional_gids;	/* struct oci_number */
};

struct oci_process {
	bool terminal;
	struct oci_box *console_size;
	const char *cwd;
	const char **env, **args;
	struct oci_capabilities *capabilities;
	struct oci_list rlimits;		/* struct oci_rlimit */
	bool no_new_privileges;
	const char *apparmor_profile, *selinux_label;
	struct oci_number oom_score_adj;
	struct oci_scheduler *scheduler;
	struct oci_io_priority *io_priority;
	struct oci_user *user;
};

struct oci_root {
	const char *path;
	bool read_only;
};

struct oci_id_mapping {
	struct oci_number container_id, host_id, size;
};

struct oci_mount {
	const char *destination, *source, *type;
	const char **options;
	struct oci_list uid_mappings, gid_mappings;	/* struct oci_id_mapping */
};

struct oci_hook {
	const char *path;
	const char **args, **env;
	struct oci_number timeout;		/* seconds */
};

/* In the order in which they run; lists of struct oci_hook. */
struct oci_hooks {
	struct oci_list prestart, create_runtime, create_container, start_container, poststart, poststop;
};

struct oci_namespace {
	const char *type, *path;
};

struct oci_device {
	const char *path, *type;
	struct oci_number major, minor, file_mode, uid, gid;
};

struct oci_device_rule {
	bool allow;
	const char *type, *access;
	struct oci_number major, minor;
};

struct oci_memory {
	struct oci_number limit, reservation, swap, kernel, kernel_tcp, swappiness;
	bool disable_oom_killer, use_hierarchy, check_before_update;
};

struct oci_cpu {
	struct oci_number shares, quota, burst, period, realtime_runtime, realtime_period, idle;
	const char *cpus, *mems;
};

struct oci_pids {
	struct oci_number limit;
};

struct oci_weight_device {
	struct oci_number major, minor, weight, leaf_weight;
};

struct oci_throttle_device {
	struct oci_number major, minor, rate;
};

/* Lists of struct oci_throttle_device but the first. */
struct oci_block_io {
	struct oci_number weight, leaf_weight;
	struct oci_list weight_device;		/* struct oci_weight_device */
	struct oci_list read_bps, write_bps, read_iops, write_iops;
};

struct oci_hugepage_limit {
	const char *page_size;
	struct oci_number limit;
};

struct oci_interface_priority {
	const char *name;
	struct oci_number priority;
};

struct oci_network {
	struct oci_number class_id;
	struct oci_list priorities;		/* struct oci_interface_priority */
};

struct oci_rdma {
	const char *key;
	struct oci_number hca_handles, hca_objects;
};

struct oci_resources {
	struct oci_list devices;		/* struct oci_device_rule */
	struct oci_memory *memory;
	struct oci_cpu *cpu;
	struct oci_pids *pids;
	struct oci_block_io *block_io;
	struct oci_list hugepage_limits;	/* struct oci_hugepage_limit */
	struct oci_network *network;
	struct oci_list rdma;			/* struct oci_rdma */
	struct oci_list unified;		/* struct oci_pair */
};

struct oci_seccomp_arg {
	struct oci_number index, value, value_two;
	const char *op;
};

struct oci_syscalls {
	const char **names;
	const char *action;
	struct oci_number errno_ret;
	struct oci_list args;			/* struct oci_seccomp_arg */
};

struct oci_seccomp {
	const char *default_action;
	struct oci_number default_errno_ret;
	const char **architectures, **flags;
	const char *listener_path, *listener_metadata;
	struct oci_list syscalls;		/* struct oci_syscalls */
};

struct oci_personality {
	const char *domain;
	const char **flags;
};

struct oci_time_offset {
	const char *key;			/* "monotonic", "boottime" */
	struct oci_number secs, nanosecs;
};

struct oci_linux {
	struct oci_list uid_mappings, gid_mappings;	/* struct oci_id_mapping */
	struct oci_list sysctl;			/* struct oci_pair */
	struct oci_resources *resources;
	const char *cgroups_path;
	struct oci_list namespaces;		/* struct oci_namespace */
	struct oci_list devices;		/* struct oci_device */
	struct oci_seccomp *seccomp;
	const char *rootfs_propagation;
	const char **masked_paths, **readonly_paths;
	const char *mount_label;
	struct oci_personality *personality;
	struct oci_list time_offsets;		/* struct oci_time_offset */
};

struct oci_spec {
	struct oci_arena *arena;
	const char *oci_version;
	struct oci_root *root;
	struct oci_list mounts;			/* struct oci_mount */
	struct oci_process *process;
	const char *hostname, *domainname;
	struct oci_hooks *hooks;
	struct oci_list annotations;		/* struct oci_pair */
	struct oci_linux *linux_;		/* "linux" is a macro of compilers */
};

extern const struct oci_type oci_spec_type, oci_process_type, oci_resources_type;

/* Parses and checks what can be checked without a container. */
int oci_spec_parse(const char *text, size_t len, struct oci_spec **ret, struct error *err);
void oci_spec_free(struct oci_spec *spec);
DEFINE_CLEANUP(struct oci_spec *, oci_spec_free)

/* The same for a process alone (exec --process) or for resources (update);
 * *ret is the arena's. */
int oci_process_parse(struct oci_arena *a, const char *text, size_t len, struct oci_process **ret,
		      struct error *err);
int oci_resources_parse(struct oci_arena *a, const char *text, size_t len, struct oci_resources **ret,
			struct error *err);

/* The value of an annotation, or NULL. */
const char *oci_spec_annotation(const struct oci_spec *spec, const char *key);

#define OCI_EACH(type, item, list) \
	for (const type *item = (list).items, *item##_end = item ? item + (list).n : item; item < item##_end; item++)

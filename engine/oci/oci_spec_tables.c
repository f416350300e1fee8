/* The keys of config.json (oci_spec.h), as config.md and config-linux.md list them. */
#include "engine/oci/oci_spec.h"

#define TYPE(name, struct_type, ...) \
	static const struct oci_field name##_fields[] = { __VA_ARGS__, OCI_FIELDS_END }; \
	static const struct oci_type name = { sizeof(struct_type), name##_fields, NULL }
#define REFUSE(name, why) static const struct oci_type name = { 0, NULL, why }
#define REFUSED(key, type) { key, OCI_KIND_REFUSED, 0, &type, 0 }

REFUSE(other_system, "is for another system; leave it out");
REFUSE(windows_only, "is for Windows; leave it out");
REFUSE(no_rdt, "this runtime does not manage Intel RDT; leave it out");

/* --- process ---------------------------------------------------------------- */

TYPE(box, struct oci_box,
     OCI_FIELD("height", NUMBER, struct oci_box, height, NULL, OCI_REQUIRED),
     OCI_FIELD("width", NUMBER, struct oci_box, width, NULL, OCI_REQUIRED));

TYPE(capabilities, struct oci_capabilities,
     OCI_FIELD("bounding", TEXTS, struct oci_capabilities, bounding, NULL, 0),
     OCI_FIELD("effective", TEXTS, struct oci_capabilities, effective, NULL, 0),
     OCI_FIELD("inheritable", TEXTS, struct oci_capabilities, inheritable, NULL, 0),
     OCI_FIELD("permitted", TEXTS, struct oci_capabilities, permitted, NULL, 0),
     OCI_FIELD("ambient", TEXTS, struct oci_capabilities, ambient, NULL, 0));

TYPE(rlimit, struct oci_rlimit,
     OCI_FIELD("type", TEXT, struct oci_rlimit, type, NULL, OCI_REQUIRED),
     OCI_FIELD("soft", NUMBER, struct oci_rlimit, soft, NULL, OCI_REQUIRED),
     OCI_FIELD("hard", NUMBER, struct oci_rlimit, hard, NULL, OCI_REQUIRED));

TYPE(scheduler, struct oci_scheduler,
     OCI_FIELD("policy", TEXT, struct oci_scheduler, policy, NULL, OCI_REQUIRED),
     OCI_FIELD("nice", NUMBER, struct oci_scheduler, nice, NULL, 0),
     OCI_FIELD("priority", NUMBER, struct oci_scheduler, priority, NULL, 0),
     OCI_FIELD("flags", TEXTS, struct oci_scheduler, flags, NULL, 0),
     OCI_FIELD("runtime", NUMBER, struct oci_scheduler, runtime, NULL, 0),
     OCI_FIELD("deadline", NUMBER, struct oci_scheduler, deadline, NULL, 0),
     OCI_FIELD("period", NUMBER, struct oci_scheduler, period, NULL, 0));

TYPE(io_priority, struct oci_io_priority,
     OCI_FIELD("class", TEXT, struct oci_io_priority, class, NULL, OCI_REQUIRED),
     OCI_FIELD("priority", NUMBER, struct oci_io_priority, priority, NULL, 0));

TYPE(user, struct oci_user,
     OCI_FIELD("uid", NUMBER, struct oci_user, uid, NULL, 0),
     OCI_FIELD("gid", NUMBER, struct oci_user, gid, NULL, 0),
     OCI_FIELD("umask", NUMBER, struct oci_user, umask, NULL, 0),
     OCI_FIELD("additionalGids", NUMBERS, struct oci_user, additional_gids, NULL, 0),
     REFUSED("username", windows_only));

static const struct oci_field process_fields[] = {
	OCI_FIELD("terminal", BOOL, struct oci_process, terminal, NULL, 0),
	OCI_FIELD("consoleSize", OBJECT, struct oci_process, console_size, &box, 0),
	OCI_FIELD("cwd", TEXT, struct oci_process, cwd, NULL, OCI_REQUIRED),
	OCI_FIELD("env", TEXTS, struct oci_process, env, NULL, 0),
	OCI_FIELD("args", TEXTS, struct oci_process, args, NULL, OCI_REQUIRED),
	REFUSED("commandLine", windows_only),
	OCI_FIELD("capabilities", OBJECT, struct oci_process, capabilities, &capabilities, 0),
	OCI_FIELD("rlimits", OBJECTS, struct oci_process, rlimits, &rlimit, 0),
	OCI_FIELD("noNewPrivileges", BOOL, struct oci_process, no_new_privileges, NULL, 0),
	OCI_FIELD("apparmorProfile", TEXT, struct oci_process, apparmor_profile, NULL, 0),
	OCI_FIELD("oomScoreAdj", NUMBER, struct oci_process, oom_score_adj, NULL, 0),
	OCI_FIELD("selinuxLabel", TEXT, struct oci_process, selinux_label, NULL, 0),
	OCI_FIELD("scheduler", OBJECT, struct oci_process, scheduler, &scheduler, 0),
	OCI_FIELD("ioPriority", OBJECT, struct oci_process, io_priority, &io_priority, 0),
	OCI_FIELD("user", OBJECT, struct oci_process, user, &user, 0),
	OCI_FIELDS_END,
};
const struct oci_type oci_process_type = { sizeof(struct oci_process), process_fields, NULL };

/* --- root, mounts, hooks ---------------------------------------------------- */

TYPE(root, struct oci_root,
     OCI_FIELD("path", TEXT, struct oci_root, path, NULL, OCI_REQUIRED),
     OCI_FIELD("readonly", BOOL, struct oci_root, read_only, NULL, 0));

TYPE(id_mapping, struct oci_id_mapping,
     OCI_FIELD("containerID", NUMBER, struct oci_id_mapping, container_id, NULL, OCI_REQUIRED),
     OCI_FIELD("hostID", NUMBER, struct oci_id_mapping, host_id, NULL, OCI_REQUIRED),
     OCI_FIELD("size", NUMBER, struct oci_id_mapping, size, NULL, OCI_REQUIRED));

TYPE(mount, struct oci_mount,
     OCI_FIELD("destination", TEXT, struct oci_mount, destination, NULL, OCI_REQUIRED),
     OCI_FIELD("source", TEXT, struct oci_mount, source, NULL, 0),
     OCI_FIELD("type", TEXT, struct oci_mount, type, NULL, 0),
     OCI_FIELD("options", TEXTS, struct oci_mount, options, NULL, 0),
     OCI_FIELD("uidMappings", OBJECTS, struct oci_mount, uid_mappings, &id_mapping, 0),
     OCI_FIELD("gidMappings", OBJECTS, struct oci_mount, gid_mappings, &id_mapping, 0));

TYPE(hook, struct oci_hook,
     OCI_FIELD("path", TEXT, struct oci_hook, path, NULL, OCI_REQUIRED),
     OCI_FIELD("args", TEXTS, struct oci_hook, args, NULL, 0),
     OCI_FIELD("env", TEXTS, struct oci_hook, env, NULL, 0),
     OCI_FIELD("timeout", NUMBER, struct oci_hook, timeout, NULL, 0));

TYPE(hooks, struct oci_hooks,
     OCI_FIELD("prestart", OBJECTS, struct oci_hooks, prestart, &hook, 0),
     OCI_FIELD("createRuntime", OBJECTS, struct oci_hooks, create_runtime, &hook, 0),
     OCI_FIELD("createContainer", OBJECTS, struct oci_hooks, create_container, &hook, 0),
     OCI_FIELD("startContainer", OBJECTS, struct oci_hooks, start_container, &hook, 0),
     OCI_FIELD("poststart", OBJECTS, struct oci_hooks, poststart, &hook, 0),
     OCI_FIELD("poststop", OBJECTS, struct oci_hooks, poststop, &hook, 0));

/* --- linux.resources -------------------------------------------------------- */

TYPE(device_rule, struct oci_device_rule,
     OCI_FIELD("allow", BOOL, struct oci_device_rule, allow, NULL, OCI_REQUIRED),
     OCI_FIELD("type", TEXT, struct oci_device_rule, type, NULL, 0),
     OCI_FIELD("major", NUMBER, struct oci_device_rule, major, NULL, 0),
     OCI_FIELD("minor", NUMBER, struct oci_device_rule, minor, NULL, 0),
     OCI_FIELD("access", TEXT, struct oci_device_rule, access, NULL, 0));

TYPE(memory, struct oci_memory,
     OCI_FIELD("limit", NUMBER, struct oci_memory, limit, NULL, 0),
     OCI_FIELD("reservation", NUMBER, struct oci_memory, reservation, NULL, 0),
     OCI_FIELD("swap", NUMBER, struct oci_memory, swap, NULL, 0),
     OCI_FIELD("kernel", NUMBER, struct oci_memory, kernel, NULL, 0),
     OCI_FIELD("kernelTCP", NUMBER, struct oci_memory, kernel_tcp, NULL, 0),
     OCI_FIELD("swappiness", NUMBER, struct oci_memory, swappiness, NULL, 0),
     OCI_FIELD("disableOOMKiller", BOOL, struct oci_memory, disable_oom_killer, NULL, 0),
     OCI_FIELD("useHierarchy", BOOL, struct oci_memory, use_hierarchy, NULL, 0),
     OCI_FIELD("checkBeforeUpdate", BOOL, struct oci_memory, check_before_update, NULL, 0));

TYPE(cpu, struct oci_cpu,
     OCI_FIELD("shares", NUMBER, struct oci_cpu, shares, NULL, 0),
     OCI_FIELD("quota", NUMBER, struct oci_cpu, quota, NULL, 0),
     OCI_FIELD("burst", NUMBER, struct oci_cpu, burst, NULL, 0),
     OCI_FIELD("period", NUMBER, struct oci_cpu, period, NULL, 0),
     OCI_FIELD("realtimeRuntime", NUMBER, struct oci_cpu, realtime_runtime, NULL, 0),
     OCI_FIELD("realtimePeriod", NUMBER, struct oci_cpu, realtime_period, NULL, 0),
     OCI_FIELD("cpus", TEXT, struct oci_cpu, cpus, NULL, 0),
     OCI_FIELD("mems", TEXT, struct oci_cpu, mems, NULL, 0),
     OCI_FIELD("idle", NUMBER, struct oci_cpu, idle, NULL, 0));

TYPE(pids, struct oci_pids,
     OCI_FIELD("limit", NUMBER, struct oci_pids, limit, NULL, OCI_REQUIRED));

TYPE(weight_device, struct oci_weight_device,
     OCI_FIELD("major", NUMBER, struct oci_weight_device, major, NULL, OCI_REQUIRED),
     OCI_FIELD("minor", NUMBER, struct oci_weight_device, minor, NULL, OCI_REQUIRED),
     OCI_FIELD("weight", NUMBER, struct oci_weight_device, weight, NULL, 0),
     OCI_FIELD("leafWeight", NUMBER, struct oci_weight_device, leaf_weight, NULL, 0));

TYPE(throttle_device, struct oci_throttle_device,
     OCI_FIELD("major", NUMBER, struct oci_throttle_device, major, NULL, OCI_REQUIRED),
     OCI_FIELD("minor", NUMBER, struct oci_throttle_device, minor, NULL, OCI_REQUIRED),
     OCI_FIELD("rate", NUMBER, struct oci_throttle_device, rate, NULL, OCI_REQUIRED));

TYPE(block_io, struct oci_block_io,
     OCI_FIELD("weight", NUMBER, struct oci_block_io, weight, NULL, 0),
     OCI_FIELD("leafWeight", NUMBER, struct oci_block_io, leaf_weight, NULL, 0),
     OCI_FIELD("weightDevice", OBJECTS, struct oci_block_io, weight_device, &weight_device, 0),
     OCI_FIELD("throttleReadBpsDevice", OBJECTS, struct oci_block_io, read_bps, &throttle_device, 0),
     OCI_FIELD("throttleWriteBpsDevice", OBJECTS, struct oci_block_io, write_bps, &throttle_device, 0),
     OCI_FIELD("throttleReadIOPSDevice", OBJECTS, struct oci_block_io, read_iops, &throttle_device, 0),
     OCI_FIELD("throttleWriteIOPSDevice", OBJECTS, struct oci_block_io, write_iops, &throttle_device, 0));

TYPE(hugepage_limit, struct oci_hugepage_limit,
     OCI_FIELD("pageSize", TEXT, struct oci_hugepage_limit, page_size, NULL, OCI_REQUIRED),
     OCI_FIELD("limit", NUMBER, struct oci_hugepage_limit, limit, NULL, OCI_REQUIRED));

TYPE(interface_priority, struct oci_interface_priority,
     OCI_FIELD("name", TEXT, struct oci_interface_priority, name, NULL, OCI_REQUIRED),
     OCI_FIELD("priority", NUMBER, struct oci_interface_priority, priority, NULL, OCI_REQUIRED));

TYPE(network, struct oci_network,
     OCI_FIELD("classID", NUMBER, struct oci_network, class_id, NULL, 0),
     OCI_FIELD("priorities", OBJECTS, struct oci_network, priorities, &interface_priority, 0));

TYPE(rdma, struct oci_rdma,
     OCI_FIELD("hcaHandles", NUMBER, struct oci_rdma, hca_handles, NULL, 0),
     OCI_FIELD("hcaObjects", NUMBER, struct oci_rdma, hca_objects, NULL, 0));

static const struct oci_field resources_fields[] = {
	OCI_FIELD("devices", OBJECTS, struct oci_resources, devices, &device_rule, 0),
	OCI_FIELD("memory", OBJECT, struct oci_resources, memory, &memory, 0),
	OCI_FIELD("cpu", OBJECT, struct oci_resources, cpu, &cpu, 0),
	OCI_FIELD("pids", OBJECT, struct oci_resources, pids, &pids, 0),
	OCI_FIELD("blockIO", OBJECT, struct oci_resources, block_io, &block_io, 0),
	OCI_FIELD("hugepageLimits", OBJECTS, struct oci_resources, hugepage_limits, &hugepage_limit, 0),
	OCI_FIELD("network", OBJECT, struct oci_resources, network, &network, 0),
	OCI_FIELD("rdma", KEYED, struct oci_resources, rdma, &rdma, 0),
	OCI_FIELD("unified", MAP, struct oci_resources, unified, NULL, 0),
	OCI_FIELDS_END,
};
const struct oci_type oci_resources_type = { sizeof(struct oci_resources), resources_fields, NULL };

/* --- the rest of linux ------------------------------------------------------ */

TYPE(namespace, struct oci_namespace,
     OCI_FIELD("type", TEXT, struct oci_namespace, type, NULL, OCI_REQUIRED),
     OCI_FIELD("path", TEXT, struct oci_namespace, path, NULL, 0));

TYPE(device, struct oci_device,
     OCI_FIELD("path", TEXT, struct oci_device, path, NULL, OCI_REQUIRED),
     OCI_FIELD("type", TEXT, struct oci_device, type, NULL, OCI_REQUIRED),
     OCI_FIELD("major", NUMBER, struct oci_device, major, NULL, 0),
     OCI_FIELD("minor", NUMBER, struct oci_device, minor, NULL, 0),
     OCI_FIELD("fileMode", NUMBER, struct oci_device, file_mode, NULL, 0),
     OCI_FIELD("uid", NUMBER, struct oci_device, uid, NULL, 0),
     OCI_FIELD("gid", NUMBER, struct oci_device, gid, NULL, 0));

TYPE(seccomp_arg, struct oci_seccomp_arg,
     OCI_FIELD("index", NUMBER, struct oci_seccomp_arg, index, NULL, OCI_REQUIRED),
     OCI_FIELD("value", NUMBER, struct oci_seccomp_arg, value, NULL, OCI_REQUIRED),
     OCI_FIELD("valueTwo", NUMBER, struct oci_seccomp_arg, value_two, NULL, 0),
     OCI_FIELD("op", TEXT, struct oci_seccomp_arg, op, NULL, OCI_REQUIRED));

TYPE(syscalls, struct oci_syscalls,
     OCI_FIELD("names", TEXTS, struct oci_syscalls, names, NULL, OCI_REQUIRED),
     OCI_FIELD("action", TEXT, struct oci_syscalls, action, NULL, OCI_REQUIRED),
     OCI_FIELD("errnoRet", NUMBER, struct oci_syscalls, errno_ret, NULL, 0),
     OCI_FIELD("args", OBJECTS, struct oci_syscalls, args, &seccomp_arg, 0));

TYPE(seccomp, struct oci_seccomp,
     OCI_FIELD("defaultAction", TEXT, struct oci_seccomp, default_action, NULL, OCI_REQUIRED),
     OCI_FIELD("defaultErrnoRet", NUMBER, struct oci_seccomp, default_errno_ret, NULL, 0),
     OCI_FIELD("architectures", TEXTS, struct oci_seccomp, architectures, NULL, 0),
     OCI_FIELD("flags", TEXTS, struct oci_seccomp, flags, NULL, 0),
     OCI_FIELD("listenerPath", TEXT, struct oci_seccomp, listener_path, NULL, 0),
     OCI_FIELD("listenerMetadata", TEXT, struct oci_seccomp, listener_metadata, NULL, 0),
     OCI_FIELD("syscalls", OBJECTS, struct oci_seccomp, syscalls, &syscalls, 0));

TYPE(personality, struct oci_personality,
     OCI_FIELD("domain", TEXT, struct oci_personality, domain, NULL, OCI_REQUIRED),
     OCI_FIELD("flags", TEXTS, struct oci_personality, flags, NULL, 0));

TYPE(time_offset, struct oci_time_offset,
     OCI_FIELD("secs", NUMBER, struct oci_time_offset, secs, NULL, 0),
     OCI_FIELD("nanosecs", NUMBER, struct oci_time_offset, nanosecs, NULL, 0));

TYPE(linux_type, struct oci_linux,
     OCI_FIELD("uidMappings", OBJECTS, struct oci_linux, uid_mappings, &id_mapping, 0),
     OCI_FIELD("gidMappings", OBJECTS, struct oci_linux, gid_mappings, &id_mapping, 0),
     OCI_FIELD("sysctl", MAP, struct oci_linux, sysctl, NULL, 0),
     OCI_FIELD("resources", OBJECT, struct oci_linux, resources, &oci_resources_type, 0),
     OCI_FIELD("cgroupsPath", TEXT, struct oci_linux, cgroups_path, NULL, 0),
     OCI_FIELD("namespaces", OBJECTS, struct oci_linux, namespaces, &namespace, 0),
     OCI_FIELD("devices", OBJECTS, struct oci_linux, devices, &device, 0),
     OCI_FIELD("seccomp", OBJECT, struct oci_linux, seccomp, &seccomp, 0),
     OCI_FIELD("rootfsPropagation", TEXT, struct oci_linux, rootfs_propagation, NULL, 0),
     OCI_FIELD("maskedPaths", TEXTS, struct oci_linux, masked_paths, NULL, 0),
     OCI_FIELD("readonlyPaths", TEXTS, struct oci_linux, readonly_paths, NULL, 0),
     OCI_FIELD("mountLabel", TEXT, struct oci_linux, mount_label, NULL, 0),
     REFUSED("intelRdt", no_rdt),
     OCI_FIELD("personality", OBJECT, struct oci_linux, personality, &personality, 0),
     OCI_FIELD("timeOffsets", KEYED, struct oci_linux, time_offsets, &time_offset, 0));

static const struct oci_field spec_fields[] = {
	OCI_FIELD("ociVersion", TEXT, struct oci_spec, oci_version, NULL, OCI_REQUIRED),
	OCI_FIELD("root", OBJECT, struct oci_spec, root, &root, OCI_REQUIRED),
	OCI_FIELD("mounts", OBJECTS, struct oci_spec, mounts, &mount, 0),
	OCI_FIELD("process", OBJECT, struct oci_spec, process, &oci_process_type, 0),
	OCI_FIELD("hostname", TEXT, struct oci_spec, hostname, NULL, 0),
	OCI_FIELD("domainname", TEXT, struct oci_spec, domainname, NULL, 0),
	OCI_FIELD("hooks", OBJECT, struct oci_spec, hooks, &hooks, 0),
	OCI_FIELD("annotations", MAP, struct oci_spec, annotations, NULL, 0),
	OCI_FIELD("linux", OBJECT, struct oci_spec, linux_, &linux_type, 0),
	REFUSED("windows", other_system),
	REFUSED("solaris", other_system),
	REFUSED("vm", other_system),
	REFUSED("zos", other_system),
	OCI_FIELDS_END,
};
const struct oci_type oci_spec_type = { sizeof(struct oci_spec), spec_fields, NULL };

/*
 * spec.h - what a container is: the part that never changes while it lives
 *
 * Kept as STATE/containers/NAME/config.json, sent with a migration, stored in
 * a checkpoint. The file follows the OCI runtime specification 1.1 (config.md,
 * config-linux.md) as far as it goes: process, root, hostname, mounts (volumes,
 * and /dev/shm for its size), linux.resources, linux.uidMappings and gidMappings
 * (which imply a user namespace); linux.maskedPaths and readonlyPaths are implied
 * defaults; what OCI has no word for is under annotations "org.godwit.*".
 * A file may come from a peer: parsing bounds and checks everything.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/cleanup.h"
#include "engine/base/error.h"
#include "engine/cgroup/cgroup.h"
#include "engine/monitor/health.h"
#include "engine/monitor/restart.h"
#include "engine/network/network.h"
#include "engine/userns.h"

#define SPEC_NAME_MAX 64
#define SPEC_LIST_MAX 1024		/* arguments, variables, volumes */
#define SPEC_JSON_LIMIT (256 * 1024)

struct spec_volume {
	char *source;			/* on the host, absolute */
	char *destination;		/* in the container, absolute */
	bool read_only;
	bool id_mapped;			/* owners are as inside, see mounts_map_ids */
};

struct spec {
	char *name;
	char *image;
	char *image_digest;
	char *hostname;
	char **args;			/* NULL-terminated, at least one */
	char **env;			/* NULL-terminated, NAME=VALUE */
	char *cwd;
	uint32_t uid, gid;
	uint32_t *groups;
	size_t n_groups;
	bool terminal;
	bool stdin_open;		/* else stdin is /dev/null */
	bool auto_remove;
	bool nested;			/* an engine may run in it: writable cgroups, its own /proc/sys/net */
	struct userns userns;		/* ids; of none, the host's own */
	bool userns_auto;		/* chosen by the node, so another node may choose others */
	uint64_t capabilities;		/* bounding set; capability.h */
	struct spec_volume *volumes;
	size_t n_volumes;
	uint64_t shm_bytes;		/* what /dev/shm may hold; 0: 64 MiB */
	struct cgroup_limits limits;
	struct network_endpoint endpoint;	/* bridge and host_ifname are the node's */
	uint64_t created_us;		/* real time */
	struct restart_policy restart;
	struct health_check health;
};

void spec_free(struct spec *spec);
DEFINE_CLEANUP(struct spec *, spec_free)

/* A container name: [a-zA-Z0-9][a-zA-Z0-9_.-]*, at most SPEC_NAME_MAX. */
int spec_check_name(const char *name, struct error *err);

/* -EINVAL: its id maps are none, its user is not in them, or a volume asks for maps that are not there. */
int spec_check_userns(const struct spec *spec, struct error *err);

/* The text is the caller's to free. */
int spec_to_json(const struct spec *spec, char **ret_text, struct error *err);

/* -EINVAL names the key that is wrong; unknown keys are refused by name. */
int spec_from_json(const char *text, size_t len, struct spec **ret, struct error *err);

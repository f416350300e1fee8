#include <string.h>
#include <sys/utsname.h>

#include "criu-glue/criu.h"
#include "engine/base/fd.h"
#include "engine/image/image.h"
#include "engine/network/address.h"
#include "engine/network/nat.h"
#include "engine/network/placement.h"
#include "engine/userns_pool.h"
#include "migrate/admission/admission.h"
#include "migrate/admission/machine.h"
#include "migrate/admission/needs.h"

#define MIB (1024.0 * 1024.0)
#define MEMORY_RESERVE_BYTES (64ull << 20)
#define DISK_RESERVE_BYTES (64ull << 20)
#define TASKS_RESERVE 16		/* CRIU's and ours */

void admission_free(struct admission *a)
{
	reasons_free(&a->reasons);
	spec_free(a->spec);
	*a = (struct admission){ 0 };
}

static void check_config(struct admission *a, const struct message_offer *o)
{
	struct error err;

	if (spec_from_json(o->config_json, strlen(o->config_json), &a->spec, &err) < 0)
		reasons_add(&a->reasons, REASON_CONFIG_INVALID, "%s", err.msg);
	else if (strcmp(a->spec->name, o->name) != 0 || strcmp(a->spec->image, o->image_name) != 0)
		reasons_add(&a->reasons, REASON_CONFIG_INVALID,
			    "the configuration speaks of another container than the offer");
}

static bool has_feature(const struct machine_features *f, const char *name)
{
	for (size_t i = 0; i < f->n; i++)
		if (!strcmp(f->names[i], name))
			return true;
	return false;
}

/* As many as a line takes, and how many more. */
static void refuse_features(struct admission *a, const struct message_offer *o, const struct machine_features *here)
{
	char missing[WIRE_LINE_MAX - 64] = "";
	size_t len = 0, more = 0;

	for (size_t i = 0; i < o->n_cpu_features; i++) {
		const char *name = o->cpu_features[i];

		if (has_feature(here, name))
			continue;
		if (more || len + strlen(name) + 2 > sizeof(missing))
			more++;
		else
			len += (size_t)snprintf(missing + len, sizeof(missing) - len, " %s", name);
	}
	if (more)
		reasons_add(&a->reasons, REASON_CPU_FEATURES, "this node's processor lacks:%s and %zu more", missing,
			    more);
	else if (len)
		reasons_add(&a->reasons, REASON_CPU_FEATURES, "this node's processor lacks:%s", missing);
}

static int check_cpu(struct admission *a, const struct message_offer *o, struct error *err)
{
	CLEANUP(machine_features_freep) struct machine_features here = { 0 };
	struct utsname un;

	(void)uname(&un);
	if (strcmp(un.machine, o->arch) != 0)
		reasons_add(&a->reasons, REASON_ARCH_DIFFERS, "this node is %s, the container runs on %s",
			    un.machine, o->arch);
	else if (machine_cpu_features(&here, err) < 0)
		return -err->code;
	else
		refuse_features(a, o, &here);
	return 0;
}

static void check_criu(struct admission *a, const struct message_offer *o)
{
	struct criu criu;
	struct error err;

	if (criu_find(&criu, &err) < 0)
		reasons_add(&a->reasons, REASON_CRIU_MISSING, "%s", err.msg);
	else if (criu.version < o->criu_version)
		reasons_add(&a->reasons, REASON_CRIU_OLDER, "CRIU here is %u, the source's is newer: %u",
			    criu.version, o->criu_version);
}

static void check_network(struct admission *a, const struct node *node)
{
	struct error err;
	int r = placement_check(node, &a->spec->endpoint, a->spec->created_us, &err);
	enum reason code = r == -ENOENT ? REASON_NETWORK_MISSING :
			   r == -EADDRINUSE ? REASON_ADDRESS_TAKEN : REASON_NETWORK_DIFFERS;

	if (r < 0)
		reasons_add(&a->reasons, code, "%s", err.msg);
}

static void check_name_and_address(struct admission *a, const struct node *node,
				   const struct message_offer *o)
{
	CLEANUP(container_freep) struct container *taken = NULL;
	struct error err;

	if (container_open(node, o->name, &taken, &err) != -ENOENT)
		reasons_add(&a->reasons, REASON_NAME_TAKEN, "a container '%s' is already on %s", o->name,
			    node->config.name);
	/* Neighbours are not asked: the container itself would answer, at the source. */
	if (a->spec && a->spec->endpoint.network[0])
		check_network(a, node);
	else if (a->spec && a->spec->endpoint.address[0] &&
		 address_check_free(node, a->spec->endpoint.address, 0, &err) < 0)
		reasons_add(&a->reasons, REASON_ADDRESS_TAKEN, "%s", err.msg);
	if (a->spec && nat_check_free(&a->spec->endpoint, &err) < 0)
		reasons_add(&a->reasons, REASON_PORT_TAKEN, "%s", err.msg);
}

static void check_image(struct admission *a, const struct node *node, const struct message_offer *o)
{
	CLEANUP(image_freep) struct image *image = NULL;
	struct error err;
	int r = image_open(node->state_fd, o->image_name, &image, &err);

	a->image_wanted = r == -ENOENT;
	if (r < 0 && r != -ENOENT)
		reasons_add(&a->reasons, REASON_IMAGE_BROKEN, "%s", err.msg);
	else if (r == 0 && strcmp(image->digest, o->image_digest) != 0)
		reasons_add(&a->reasons, REASON_IMAGE_DIFFERS,
			    "image '%s' has other content here (digest %.12s) than at the source (%.12s)",
				 o->image_name, image->digest, o->image_digest);
}

static uint64_t less(uint64_t a, uint64_t b)
{
	return a > b ? a - b : 0;
}

static int check_memory(struct admission *a, uint64_t reserved, struct error *err)
{
	uint64_t available, needed = a->needed.memory_bytes + MEMORY_RESERVE_BYTES;

	if (machine_free_memory(&available, err) < 0)
		return -err->code;
	if (less(available, reserved) < needed)
		reasons_add(&a->reasons, REASON_MEMORY_SHORT, "it needs %.0f MiB of memory here, %.0f MiB are free and "
			    "%.0f of them reserved for others", (double)needed / MIB, (double)available / MIB,
			    (double)reserved / MIB);
	return 0;
}

static int check_disk(struct admission *a, const struct node *node, uint64_t reserved, struct error *err)
{
	uint64_t available, needed = a->needed.disk_bytes + DISK_RESERVE_BYTES;

	if (machine_free_disk(node->state_fd, &available, err) < 0)
		return -err->code;
	if (less(available, reserved) < needed)
		reasons_add(&a->reasons, REASON_DISK_SHORT, "it needs %.0f MiB in %s, %.0f MiB are free and "
			    "%.0f of them reserved for others", (double)needed / MIB, node->path,
			    (double)available / MIB, (double)reserved / MIB);
	return 0;
}

static int check_tasks(struct admission *a, uint64_t reserved, struct error *err)
{
	uint64_t available;

	if (machine_free_tasks(&available, err) < 0)
		return -err->code;
	if (less(available, reserved) < a->needed.tasks)
		reasons_add(&a->reasons, REASON_TASKS_SHORT, "it needs %llu processes and threads, %llu are free on "
			    "this node and %llu of them reserved for others", (unsigned long long)a->needed.tasks,
			    (unsigned long long)available, (unsigned long long)reserved);
	return 0;
}

/* Twice the memory: while it is restored, it is in CRIU's images as well. */
static int check_room(struct admission *a, const struct node *node, const struct message_offer *o,
		      struct error *err)
{
	struct reservation others;

	a->needed = (struct reservation){ .memory_bytes = 2 * o->memory_bytes, .tasks = o->tasks + TASKS_RESERVE,
					  .disk_bytes = o->disk_bytes + (a->image_wanted ? o->image_bytes : 0) };
	if (reservation_sum(node, NULL, &others, err) < 0)
		return -err->code;
	if (others.containers >= ADMISSION_AT_ONCE_MAX)
		reasons_add(&a->reasons, REASON_NODE_BUSY, "%llu containers are on their way here already",
			    (unsigned long long)others.containers);
	if (check_memory(a, others.memory_bytes, err) < 0 ||
	    check_disk(a, node, others.disk_bytes, err) < 0)
		return -err->code;
	return check_tasks(a, others.tasks, err);
}

static void refuse_limit(void *ctx, const char *why)
{
	struct admission *a = ctx;

	reasons_add(&a->reasons, REASON_LIMIT_UNAVAILABLE, "%s", why);
}

/* Those that are not here need not be tried. */
static void check_disks(struct admission *a, struct disk_limits *l)
{
	uint32_t major, minor, kept = 0;
	struct error why;

	for (size_t i = 0; i < l->n; i++) {
		if (disk_find(l->items[i].path, &major, &minor, &why) == 0)
			l->items[kept++] = l->items[i];
		else
			reasons_add(&a->reasons, REASON_DEVICE_MISSING, "it has limits for a disk: %s", why.msg);
	}
	l->n = kept;
}

/* The token is a name that nobody has. */
static int check_limits(struct admission *a, const struct node *node, const struct message_offer *o,
			struct error *err)
{
	struct cgroup_limits l;

	if (!a->spec)
		return 0;
	l = a->spec->limits;
	check_disks(a, &l.disks);
	return cgroup_try_limits(node->config.cgroup, o->token, &l, refuse_limit, a, err);
}

static void check_volumes(struct admission *a)
{
	for (size_t i = 0; a->spec && i < a->spec->n_volumes; i++)
		if (access(a->spec->volumes[i].source, F_OK) < 0)
			reasons_add(&a->reasons, REASON_VOLUME_MISSING, "volume %s is not on this node",
				    a->spec->volumes[i].source);
}

static void check_ids(struct admission *a, const struct node *node)
{
	struct error err;

	if (!a->spec || !userns_is_own(&a->spec->userns))
		return;
	if (userns_place(node, a->spec, &err) < 0)
		reasons_add(&a->reasons, REASON_IDS_TAKEN, "%s", err.msg);
	if (machine_check_inside(&err) < 0)
		reasons_add(&a->reasons, REASON_KERNEL_FEATURE, "%s", err.msg);
}

int admission_check(const struct node *node, const struct message_offer *o, struct admission *ret,
		    struct error *err)
{
	struct admission a = { 0 };

	check_config(&a, o);
	check_criu(&a, o);
	check_name_and_address(&a, node, o);
	check_image(&a, node, o);
	check_volumes(&a);
	check_ids(&a, node);
	needs_check((const char *const *)o->needs, o->n_needs, &a.reasons);
	if (check_cpu(&a, o, err) < 0 || check_limits(&a, node, o, err) < 0 || check_room(&a, node, o, err) < 0) {
		admission_free(&a);
		return -err->code;
	}
	*ret = a;
	return 0;
}

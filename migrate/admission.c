#include <stdarg.h>
#include <string.h>
#include <sys/utsname.h>

#include "criu-glue/criu.h"
#include "engine/address.h"
#include "engine/base/fd.h"
#include "engine/image.h"
#include "migrate/admission.h"
#include "migrate/machine.h"

#define MIB (1024.0 * 1024.0)
#define MEMORY_RESERVE_BYTES (64ull << 20)
#define DISK_RESERVE_BYTES (64ull << 20)

void admission_refuse(struct admission *a, const char *code, const char *remedy, const char *fmt, ...)
{
	char message[WIRE_LINE_MAX];
	va_list ap;

	if (a->n == WIRE_REASONS_MAX)
		return;
	va_start(ap, fmt);
	(void)vsnprintf(message, sizeof(message), fmt, ap);
	va_end(ap);
	a->reasons[a->n++] = (struct message_reason){ .code = strdup(code), .message = strdup(message),
						      .remedy = strdup(remedy) };
}

void admission_free(struct admission *a)
{
	for (size_t i = 0; i < a->n; i++) {
		free((void *)(uintptr_t)a->reasons[i].code);
		free((void *)(uintptr_t)a->reasons[i].message);
		free((void *)(uintptr_t)a->reasons[i].remedy);
	}
	spec_free(a->spec);
	*a = (struct admission){ 0 };
}

static void check_config(struct admission *a, const struct message_offer *o)
{
	struct error err;

	if (spec_from_json(o->config_json, strlen(o->config_json), &a->spec, &err) < 0)
		admission_refuse(a, "config-invalid", "use the same version of godwit on both nodes", "%s", err.msg);
	else if (strcmp(a->spec->name, o->name) != 0 || strcmp(a->spec->image, o->image_name) != 0)
		admission_refuse(a, "config-invalid", "use the same version of godwit on both nodes",
				 "the configuration speaks of another container than the offer");
}

static bool has_feature(const struct machine_features *f, const char *name)
{
	for (size_t i = 0; i < f->n; i++)
		if (!strcmp(f->names[i], name))
			return true;
	return false;
}

static int check_cpu(struct admission *a, const struct message_offer *o, struct error *err)
{
	CLEANUP(machine_features_freep) struct machine_features here = { 0 };
	char missing[256] = "";
	struct utsname un;
	size_t len = 0;

	(void)uname(&un);
	if (strcmp(un.machine, o->arch) != 0) {
		admission_refuse(a, "arch-differs", "choose a node of the same architecture",
				 "this node is %s, the container runs on %s", un.machine, o->arch);
		return 0;
	}
	if (machine_cpu_features(&here, err) < 0)
		return -err->code;
	for (size_t i = 0; i < o->n_cpu_features; i++)
		if (!has_feature(&here, o->cpu_features[i]) && len < sizeof(missing) - 1)
			len += (size_t)snprintf(missing + len, sizeof(missing) - len, " %s", o->cpu_features[i]);
	if (len)
		admission_refuse(a, "cpu-features", "choose a node whose processor has them",
				 "this node's processor lacks:%s", missing);
	return 0;
}

static void check_criu(struct admission *a, const struct message_offer *o)
{
	struct criu criu;
	struct error err;

	if (criu_find(&criu, &err) < 0)
		admission_refuse(a, "criu-missing", "run tools/setup on this node", "%s", err.msg);
	else if (criu.version < o->criu_version)
		admission_refuse(a, "criu-missing", "install the same version or a newer one on this node",
				 "CRIU here is %u, the source's is newer: %u", criu.version, o->criu_version);
}

static void check_name_and_address(struct admission *a, const struct node *node,
				   const struct message_offer *o)
{
	CLEANUP(container_freep) struct container *taken = NULL;
	struct error err;

	if (container_open(node, o->name, &taken, &err) != -ENOENT)
		admission_refuse(a, "name-taken", "rename or remove one of the two",
				 "a container '%s' is already on %s", o->name, node->config.name);
	/* Neighbours are not asked: the container itself would answer, at the source. */
	if (a->spec && a->spec->endpoint.address[0] &&
	    address_check_free(node, a->spec->endpoint.address, 0, &err) < 0)
		admission_refuse(a, "address-taken", "free the address on this node", "%s", err.msg);
}

static void check_image(struct admission *a, const struct node *node, const struct message_offer *o)
{
	CLEANUP(image_freep) struct image *image = NULL;
	struct error err;
	int r = image_open(node->state_fd, o->image_name, &image, &err);

	a->image_wanted = r == -ENOENT;
	if (r < 0 && r != -ENOENT)
		admission_refuse(a, "image-differs", "remove or import it again on this node", "%s", err.msg);
	else if (r == 0 && strcmp(image->digest, o->image_digest) != 0)
		admission_refuse(a, "image-differs", "import one of them under another name",
				 "image '%s' has other content here (digest %.12s) than at the source (%.12s)",
				 o->image_name, image->digest, o->image_digest);
}

/* Twice the memory: while it is restored, it is in CRIU's images as well. */
static int check_room(struct admission *a, const struct node *node, const struct message_offer *o,
		      struct error *err)
{
	uint64_t memory, disk, need_memory = 2 * o->memory_bytes + MEMORY_RESERVE_BYTES;
	uint64_t need_disk = o->disk_bytes + (a->image_wanted ? o->image_bytes : 0) + DISK_RESERVE_BYTES;

	if (machine_free_memory(&memory, err) < 0 || machine_free_disk(node->state_fd, &disk, err) < 0)
		return -err->code;
	if (memory < need_memory)
		admission_refuse(a, "memory-short", "free memory on this node, or choose another",
				 "it needs %.0f MiB of memory here, %.0f MiB are free", (double)need_memory / MIB,
				 (double)memory / MIB);
	if (disk < need_disk)
		admission_refuse(a, "disk-short", "free space on this node, or choose another",
				 "it needs %.0f MiB in %s, %.0f MiB are free", (double)need_disk / MIB, node->path,
				 (double)disk / MIB);
	return 0;
}

static void check_volumes(struct admission *a)
{
	for (size_t i = 0; a->spec && i < a->spec->n_volumes; i++)
		if (access(a->spec->volumes[i].source, F_OK) < 0)
			admission_refuse(a, "volume-missing", "make the path available on this node",
					 "volume %s is not on this node", a->spec->volumes[i].source);
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
	if (check_cpu(&a, o, err) < 0 || check_room(&a, node, o, err) < 0) {
		admission_free(&a);
		return -err->code;
	}
	*ret = a;
	return 0;
}

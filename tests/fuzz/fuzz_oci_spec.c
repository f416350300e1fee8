/*
 * Input: a bundle's config.json. What is refused says why; of what is accepted the limits
 * can be planned for both kinds of hosts, and the mount options read, or that is refused
 * with a reason.
 */
#include <stdlib.h>

#include "engine/oci/oci_mounts.h"
#include "engine/oci/oci_resources.h"
#include "tests/fuzz/fuzz.h"

static void check(int r, const struct error *err)
{
	if (r < 0 && (err->code != -r || !*err->msg))
		abort();
}

static void look_at_resources(const struct oci_resources *resources, bool pure_v2)
{
	CLEANUP(oci_arena_freep) struct oci_arena *a = NULL;
	struct oci_settings settings;
	struct error err = { 0 };

	if (oci_arena_new(&a, &err) == 0)
		check(oci_resources_plan(a, resources, pure_v2, &settings, &err), &err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	CLEANUP(oci_spec_freep) struct oci_spec *spec = NULL;
	struct error err = { 0 };
	int r = oci_spec_parse((const char *)data, size, &spec, &err);

	check(r, &err);
	if ((r < 0) != !spec)
		abort();
	for (int v2 = 0; spec && spec->linux_ && spec->linux_->resources && v2 < 2; v2++)
		look_at_resources(spec->linux_->resources, v2);
	for (size_t i = 0; spec && i < spec->mounts.n; i++) {
		struct oci_mount_options options;

		err = (struct error){ 0 };
		check(oci_mount_options_parse((const struct oci_mount *)spec->mounts.items + i, &options, &err), &err);
	}
	return 0;
}

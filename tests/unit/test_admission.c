/*
 * A node with one real image "base"; offers that differ from a good one in one
 * thing each.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <sys/utsname.h>

#include "criu-glue/criu.h"
#include "engine/image/image.h"
#include "migrate/admission/admission.h"
#include "migrate/admission/machine.h"
#include "tests/unit/node_fixture.h"

struct offer {
	struct message_offer o;
	struct spec *spec;
	char *json;
	struct machine_features features;
	struct utsname un;
	char digest[TREE_DIGEST_SIZE];
};

static void import_base(const struct home *h, char ret_digest[TREE_DIGEST_SIZE])
{
	CLEANUP(image_freep) struct image *image = NULL;
	char path[128];
	struct error err;

	home_put(h, "file", "x");
	(void)snprintf(path, sizeof(path), "%s/tree", h->path);
	assert_int_equal(mkdir(path, 0755), 0);
	assert_int_equal(renameat(h->node->state_fd, "file", h->node->state_fd, "tree/file"), 0);
	OK(image_import(h->node->state_fd, "base", path, &image, &err));
	memcpy(ret_digest, image->digest, TREE_DIGEST_SIZE);
}

static struct offer *offer_new(const struct home *h, const char *address)
{
	struct offer *f = calloc(1, sizeof(*f));
	struct criu criu;
	struct error err;

	import_base(h, f->digest);
	f->spec = home_spec("web", address);
	OK(spec_to_json(f->spec, &f->json, &err));
	OK(machine_cpu_features(&f->features, &err));
	OK(criu_find(&criu, &err));
	(void)uname(&f->un);
	f->o = (struct message_offer){
		.token = "0123456789abcdef0123456789abcdef", .name = "web", .config_json = f->json,
		.image_name = "base", .image_digest = f->digest, .image_bytes = 1, .image_entries = 1,
		.memory_bytes = 1, .disk_bytes = 1, .arch = f->un.machine, .kernel_release = f->un.release,
		.criu_version = criu.version, .cpu_features = f->features.names,
		.n_cpu_features = f->features.n,
	};
	return f;
}

static void offer_free(struct offer *f)
{
	spec_free(f->spec);
	free(f->json);
	machine_features_freep(&f->features);
	free(f);
}

/* All codes, in order, and whether the image is wanted. Reasons are lines that
 * a verdict can carry. */
static const char *codes(const struct home *h, const struct offer *f, bool *ret_wanted)
{
	static char text[512];
	struct message m = { .type = WIRE_VERDICT };
	CLEANUP(buffer_free) struct buffer bytes = { 0 };
	struct admission a;
	struct error err;

	OK(admission_check(h->node, &f->o, &a, &err));
	text[0] = '\0';
	for (size_t i = 0; i < a.reasons.n; i++)
		strcat(strcat(text, " "), a.reasons.list[i].code);
	m.verdict = (struct message_verdict){ .accepted = a.reasons.n == 0, .reasons = a.reasons.list,
					      .n_reasons = a.reasons.n,
					      .node_name = "walrus" };
	OK(message_encode(&m, &bytes, &err));
	if (ret_wanted)
		*ret_wanted = a.image_wanted;
	admission_free(&a);
	return text;
}

static void welcome(void **state)
{
	const struct home *h = *state;
	struct offer *f = offer_new(h, "10.231.7.9/16");
	struct error err;
	bool wanted;

	assert_string_equal(codes(h, f, &wanted), "");
	assert_false(wanted);
	OK(image_remove(h->node->state_fd, "base", &err));
	assert_string_equal(codes(h, f, &wanted), "");
	assert_true(wanted);
	offer_free(f);
}

static void each_reason(void **state)
{
	static const char *const exotic[] = { "fpu", "warp_drive" };
	const struct home *h = *state;
	struct offer *f = offer_new(h, "");
	const struct message_offer good = f->o;

#define ONE(field, value, code)						\
	do {								\
		f->o = good;						\
		f->o.field = (value);					\
		assert_string_equal(codes(h, f, NULL), " " code);	\
	} while (0)
	ONE(config_json, "{}", "config-invalid");
	ONE(config_json, "nonsense", "config-invalid");
	ONE(name, "other", "config-invalid");
	ONE(arch, "vax", "arch-differs");
	ONE(criu_version, 999999, "criu-older");
	ONE(tasks, 1ull << 31, "tasks-short");
	ONE(image_digest, "0123456789012345678901234567890123456789012345678901234567890123", "image-differs");
	ONE(memory_bytes, WIRE_BYTES_MAX, "memory-short");
	ONE(disk_bytes, WIRE_BYTES_MAX, "disk-short");
	f->o = good;
	f->o.cpu_features = (const char **)(uintptr_t)exotic;
	f->o.n_cpu_features = 2;
	assert_string_equal(codes(h, f, NULL), " cpu-features");
	offer_free(f);
}

/* Its size counts only when it must be sent. */
static void room_for_the_image(void **state)
{
	const struct home *h = *state;
	struct offer *f = offer_new(h, "");
	struct error err;

	f->o.image_bytes = WIRE_BYTES_MAX;
	assert_string_equal(codes(h, f, NULL), "");
	OK(image_remove(h->node->state_fd, "base", &err));
	assert_string_equal(codes(h, f, NULL), " disk-short");
	offer_free(f);
}

static void names_and_addresses_that_are_taken(void **state)
{
	const struct home *h = *state;
	struct offer *f = offer_new(h, "10.231.7.9/16");
	struct container *other = home_container(h, "other", "10.231.7.9/16", CONTAINER_EXITED);
	struct error err;

	assert_string_equal(codes(h, f, NULL), " address-taken");
	OK(container_clean(other, false, &err));
	container_free(other);
	other = home_container(h, "web", "", CONTAINER_EXITED);
	assert_string_equal(codes(h, f, NULL), " name-taken");
	/* Not even one that can't be read is replaced. */
	assert_int_equal(unlinkat(other->dir_fd, "config.json", 0), 0);
	OK(fd_replace_file_at(other->dir_fd, "config.json", "{", 1, 0600, FD_REPLACE, &err));
	assert_string_equal(codes(h, f, NULL), " name-taken");
	container_free(other);
	offer_free(f);
}

/* Those whose receiver lives: this process. */
static void too_many_on_their_way(void **state)
{
	const struct home *h = *state;
	struct offer *f = offer_new(h, "");
	const struct reservation little = { .memory_bytes = 1 };
	struct container *c[ADMISSION_AT_ONCE_MAX];
	struct error err;
	char name[16];

	for (int i = 0; i < ADMISSION_AT_ONCE_MAX; i++) {
		struct container_state st = { .status = CONTAINER_INCOMING, .exit_code = -1 };

		assert_string_equal(codes(h, f, NULL), "");
		(void)snprintf(name, sizeof(name), "other%d", i);
		c[i] = home_container(h, name, "", CONTAINER_INCOMING);
		container_state_stamp(&st, 0, getpid());
		OK(container_state_write(c[i], &st, &err));
		OK(reservation_write(c[i], &little, &err));
	}
	assert_string_equal(codes(h, f, NULL), " node-busy");
	for (int i = 0; i < ADMISSION_AT_ONCE_MAX; i++)
		container_free(c[i]);
	offer_free(f);
}

static void volume_that_is_not_here(void **state)
{
	const struct home *h = *state;
	struct offer *f = offer_new(h, "");
	struct spec_volume v = { .source = (char[]){ "/no/such/folder" }, .destination = (char[]){ "/data" } };
	struct error err;

	free(f->json);
	f->spec->volumes = &v;
	f->spec->n_volumes = 1;
	OK(spec_to_json(f->spec, &f->json, &err));
	f->o.config_json = f->json;
	assert_string_equal(codes(h, f, NULL), " volume-missing");
	v.source = (char[]){ "/usr" };
	free(f->json);
	OK(spec_to_json(f->spec, &f->json, &err));
	f->o.config_json = f->json;
	assert_string_equal(codes(h, f, NULL), "");
	f->spec->volumes = NULL;
	f->spec->n_volumes = 0;
	offer_free(f);
}

static void all_reasons_at_once(void **state)
{
	const struct home *h = *state;
	struct offer *f = offer_new(h, "127.0.0.1/8");
	CLEANUP(container_freep) struct container *c = home_container(h, "web", "", CONTAINER_EXITED);

	assert_non_null(c);
	f->o.arch = "vax";
	f->o.criu_version = 999999;
	f->o.memory_bytes = f->o.disk_bytes = WIRE_BYTES_MAX;
	f->o.image_digest = "x";
	assert_string_equal(codes(h, f, NULL), " criu-older name-taken address-taken image-differs "
			    "arch-differs memory-short disk-short");
	offer_free(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(welcome, home_setup, home_teardown),
		cmocka_unit_test_setup_teardown(each_reason, home_setup, home_teardown),
		cmocka_unit_test_setup_teardown(room_for_the_image, home_setup, home_teardown),
		cmocka_unit_test_setup_teardown(names_and_addresses_that_are_taken, home_setup, home_teardown),
		cmocka_unit_test_setup_teardown(too_many_on_their_way, home_setup, home_teardown),
		cmocka_unit_test_setup_teardown(volume_that_is_not_here, home_setup, home_teardown),
		cmocka_unit_test_setup_teardown(all_reasons_at_once, home_setup, home_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

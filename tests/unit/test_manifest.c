#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "migrate/manifest.h"
#include "tests/unit/node_fixture.h"

#define GOOD									\
	"{\"version\":2,\"criu_version\":40201,\"external_mounts\":[\"/dev/shm\"],\"tmpfs\":[\"/dev/shm\"],"	\
	"\"pipe_inodes\":[0,7,8],\"was_paused\":true,\"migrations\":3,\"started_us\":5,\"frozen_at_us\":6,"	\
	"\"log_bytes\":9}"

static int read_text(const struct home *h, const char *text, struct manifest **ret, struct error *err)
{
	*ret = NULL;
	home_put(h, MANIFEST_JSON, text);
	return manifest_read(h->node->state_fd, ret, err);
}

static void survives_the_way_to_disk_and_back(void **state)
{
	const struct home *h = *state;
	char *mounts[] = { "/dev/shm", "/etc/\"odd\"\n", NULL }, *none[] = { NULL };
	const struct manifest m = {
		.criu_version = 40201, .external_mounts = mounts, .tmpfs = none,
		.pipe_inodes = { 0, 1ull << 62, 8 }, .was_paused = true, .migrations = 3,
		.started_us = 1795286726294378, .frozen_at_us = 1795286726294379,
		.log_bytes = 1ull << 40, .restarts = 7, .oom_kills = 8, .health = { HEALTH_UNHEALTHY, 9 },
	};
	CLEANUP(manifest_freep) struct manifest *back = NULL;
	struct error err;

	OK(manifest_write(h->node->state_fd, &m, &err));
	OK(manifest_read(h->node->state_fd, &back, &err));
	assert_int_equal(back->criu_version, 40201);
	assert_string_equal(back->external_mounts[1], mounts[1]);
	assert_null(back->external_mounts[2]);
	assert_null(back->tmpfs[0]);
	assert_true(back->pipe_inodes[0] == 0 && back->pipe_inodes[1] == 1ull << 62);
	assert_true(back->was_paused && back->migrations == 3);
	assert_true(back->started_us == m.started_us && back->frozen_at_us == m.frozen_at_us);
	assert_true(back->log_bytes == m.log_bytes);
	assert_true(back->restarts == 7 && back->oom_kills == 8);
	assert_true(back->health.status == HEALTH_UNHEALTHY && back->health.failures == 9);
}

static void what_is_wrong_is_refused(void **state)
{
	static const struct { const char *from, *to, *words; } cases[] = {
		{ "\"version\":2", "\"version\":3", "version 3" },
		{ "\"version\":2,", "", "version" },
		{ "\"version\":2", "\"version\":\"1\"", "" },
		{ "\"version\":2", "\"version\":2,\"version\":2", "duplicate" },
		{ "\"version\":2", "\"version\":2,\"hooks\":[]", "" },
		{ "40201", "-1", "criu_version" },
		{ "[\"/dev/shm\"],\"tmpfs\"", "\"/dev/shm\",\"tmpfs\"", "" },
		{ "[\"/dev/shm\"],\"tmpfs\"", "[7],\"tmpfs\"", "absolute" },
		{ "[\"/dev/shm\"],\"tmpfs\"", "{},\"tmpfs\"", "" },
		{ "\"/dev/shm\"", "\"/dev/../etc\"", "absolute" },
		{ "\"/dev/shm\"", "\"/..\"", "absolute" },
		{ "\"/dev/shm\"", "\"/dev/.\"", "absolute" },
		{ "\"/dev/shm\"", "\"//dev\"", "absolute" },
		{ "\"/dev/shm\"", "\"/dev/\"", "absolute" },
		{ "\"/dev/shm\"", "\"/\"", "absolute" },
		{ "\"/dev/shm\"", "\"\"", "absolute" },
		{ "\"/dev/shm\"", "\"dev\"", "absolute" },
		{ "\"/dev/shm\"", "\"/a\\u0000b\"", "" },
		{ "[0,7,8]", "[0,7]", "" },
		{ "[0,7,8]", "[0,-7,8]", "pipe_inodes" },
		{ "[0,7,8]", "[0,7,8,9]", "" },
		{ "true", "1", "" },
		{ "\"migrations\":3", "\"migrations\":-3", "migrations" },
		{ "\"migrations\":3", "\"migrations\":4294967296", "migrations" },
		{ "\"started_us\":5", "\"started_us\":-5", "started_us" },
		{ "\"frozen_at_us\":6", "\"frozen_at_us\":6.5", "" },
		{ "\"log_bytes\":9", "\"log_bytes\":-1", "log_bytes" },
		{ "}", "", "line" },
		{ "}", "}}", "line" },
	};
	const struct home *h = *state;
	struct manifest *m;
	struct error err;

	OK(read_text(h, GOOD, &m, &err));
	manifest_free(m);
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		const char *at = strstr(GOOD, cases[i].from);
		char text[1024];

		assert_non_null(at);
		(void)snprintf(text, sizeof(text), "%.*s%s%s", (int)(at - GOOD), GOOD, cases[i].to,
			       at + strlen(cases[i].from));
		err = (struct error){ 0 };
		if (read_text(h, text, &m, &err) == 0)
			fail_msg("accepted: %s", text);
		assert_null(m);
		if (!strstr(err.msg, MANIFEST_JSON) || !strstr(err.msg, cases[i].words))
			fail_msg("'%s' is not in: %s", cases[i].words, err.msg);
	}
}

static void too_many_and_too_long(void **state)
{
	const struct home *h = *state;
	CLEANUP(freep) char *text = calloc(1, 2 << 20);
	struct manifest *m;
	struct error err;

	for (int paths = MANIFEST_MOUNTS_MAX; paths <= MANIFEST_MOUNTS_MAX + 1; paths++) {
		char *end = text + sprintf(text, "{\"version\":2,\"criu_version\":1,\"tmpfs\":[],"
					   "\"external_mounts\":[");

		for (int i = 0; i < paths; i++)
			end += sprintf(end, "%s\"/m%d\"", i ? "," : "", i);
		(void)sprintf(end, "],\"pipe_inodes\":[0,0,0],\"was_paused\":false,\"migrations\":0,"
			      "\"started_us\":0,\"frozen_at_us\":0,\"log_bytes\":0}");
		if (paths > MANIFEST_MOUNTS_MAX)
			FAILS(read_text(h, text, &m, &err), EINVAL, "at most 256");
		else
			OK(read_text(h, text, &m, &err));
		manifest_free(m);
	}
	memset(text, ' ', (1 << 20) + 1);
	text[(1 << 20) + 1] = '\0';
	FAILS(read_text(h, text, &m, &err), EFBIG, MANIFEST_JSON);
	(void)unlinkat(h->node->state_fd, MANIFEST_JSON, 0);
	FAILS(manifest_read(h->node->state_fd, &m, &err), ENOENT, MANIFEST_JSON);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(survives_the_way_to_disk_and_back, home_setup, home_teardown),
		cmocka_unit_test_setup_teardown(what_is_wrong_is_refused, home_setup, home_teardown),
		cmocka_unit_test_setup_teardown(too_many_and_too_long, home_setup, home_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "engine/spec.h"

static const char good[] =
	"{\"ociVersion\":\"1.1.0\",\"process\":{\"terminal\":true,\"user\":{\"uid\":101,\"gid\":102,"
	"\"additionalGids\":[5,29]},\"args\":[\"redis-server\",\"--port\",\"7\"],\"env\":[\"A=b\",\"C=\\n\"],"
	"\"cwd\":\"/data\",\"capabilities\":{\"bounding\":[\"CAP_CHOWN\",\"CAP_KILL\"]},"
	"\"noNewPrivileges\":true},\"root\":{\"path\":\"merged\"},\"hostname\":\"walrus\",\"mounts\":["
	"{\"source\":\"/srv\",\"destination\":\"/data\",\"type\":\"bind\",\"options\":[\"rbind\",\"ro\",\"ridmap\"]},"
	"{\"source\":\"shm\",\"destination\":\"/dev/shm\",\"type\":\"tmpfs\",\"options\":[\"size=1073741824\"]}],"
	"\"linux\":{\"uidMappings\":[{\"containerID\":0,\"hostID\":7000,\"size\":200},"
	"{\"containerID\":900,\"hostID\":9,\"size\":1}],\"gidMappings\":[{\"containerID\":0,\"hostID\":8000,"
	"\"size\":200}],\"resources\":{\"memory\":{\"limit\":67108864},\"cpu\":{\"quota\":150000,"
	"\"period\":100000},\"pids\":{\"limit\":32},\"blockIO\":{\"weight\":300,\"throttleReadBpsDevice\":["
	"{\"path\":\"/dev/vda\",\"rate\":1048576}],\"throttleWriteIOPSDevice\":[{\"path\":\"/dev/vda\",\"rate\":50},"
	"{\"path\":\"/dev/vdb\",\"rate\":60}]}}},\"annotations\":{\"org.godwit.name\":\"web\","
	"\"org.godwit.image\":\"base\",\"org.godwit.image-digest\":\"abc\",\"org.godwit.address\":"
	"\"10.88.0.7/16\",\"org.godwit.gateway\":\"\",\"org.godwit.mac\":\"02:67:0a:58:00:07\","
	"\"org.godwit.created-us\":\"1795286726294378\",\"org.godwit.flags\":\"stdin,rm,nested,userns-auto\","
	"\"org.godwit.restart\":\"on-failure:5\",\"org.godwit.health-command\":\"true\","
	"\"org.godwit.health-interval-us\":\"1000\",\"org.godwit.health-timeout-us\":\"2000\","
	"\"org.godwit.health-start-period-us\":\"0\",\"org.godwit.health-retries\":\"3\"}}";

static void check(const struct spec *s)
{
	assert_string_equal(s->name, "web");
	assert_string_equal(s->image, "base");
	assert_string_equal(s->image_digest, "abc");
	assert_string_equal(s->hostname, "walrus");
	assert_string_equal(s->args[2], "7");
	assert_null(s->args[3]);
	assert_string_equal(s->env[1], "C=\n");
	assert_null(s->env[2]);
	assert_string_equal(s->cwd, "/data");
	assert_int_equal(s->uid, 101);
	assert_int_equal(s->gid, 102);
	assert_int_equal(s->n_groups, 2);
	assert_int_equal(s->groups[1], 29);
	assert_true(s->terminal && s->stdin_open && s->auto_remove && s->nested && s->userns_auto);
	assert_int_equal(s->capabilities, 1 << 0 | 1 << 5);
	assert_int_equal(s->n_volumes, 1);
	assert_string_equal(s->volumes[0].source, "/srv");
	assert_true(s->volumes[0].read_only && s->volumes[0].id_mapped);
	assert_true(s->userns.uids.n == 2 && s->userns.gids.n == 1);
	assert_int_equal(id_map_host(&s->userns.uids, 900), 9);
	assert_int_equal(id_map_host(&s->userns.gids, 199), 8199);
	assert_int_equal(s->shm_bytes, 1u << 30);
	assert_int_equal(s->limits.memory_bytes, 67108864);
	assert_int_equal(s->limits.cpu_millis, 1500);
	assert_int_equal(s->limits.pids, 32);
	assert_int_equal(s->limits.disks.weight, 300);
	assert_int_equal(s->limits.disks.n, 2);
	assert_int_equal(s->limits.disks.items[0].rates[DISK_READ_BPS], 1048576);
	assert_int_equal(s->limits.disks.items[1].rates[DISK_WRITE_IOPS], 60);
	assert_string_equal(s->limits.disks.items[1].path, "/dev/vdb");
	assert_string_equal(s->endpoint.address, "10.88.0.7/16");
	assert_int_equal(s->endpoint.mac[5], 7);
	assert_int_equal(s->created_us, 1795286726294378);
	assert_true(s->restart.kind == RESTART_ON_FAILURE && s->restart.max == 5);
	assert_string_equal(s->health.command, "true");
	assert_true(s->health.interval_us == 1000 && s->health.timeout_us == 2000 && s->health.retries == 3);
}

static void survives_the_way_to_json_and_back(void **state)
{
	CLEANUP(spec_freep) struct spec *a = NULL;
	CLEANUP(spec_freep) struct spec *b = NULL;
	CLEANUP(freep) char *text = NULL;
	struct error err;

	(void)state;
	assert_int_equal(spec_from_json(good, sizeof(good) - 1, &a, &err), 0);
	check(a);
	assert_int_equal(spec_to_json(a, &text, &err), 0);
	assert_int_equal(spec_from_json(text, strlen(text), &b, &err), 0);
	check(b);
}

/* good with one piece replaced must be refused, with words in the error. */
static void refuse(const char *from, const char *to, const char *words)
{
	CLEANUP(freep) char *text = calloc(1, sizeof(good) + 256);
	const char *at = strstr(good, from);
	CLEANUP(spec_freep) struct spec *s = NULL;
	struct error err = { 0 };

	assert_non_null(at);
	(void)sprintf(text, "%.*s%s%s", (int)(at - good), good, to, at + strlen(from));
	assert_true(spec_from_json(text, strlen(text), &s, &err) < 0);
	assert_null(s);
	if (!strstr(err.msg, words))
		fail_msg("'%s' is not in: %s", words, err.msg);
}

static void what_is_wrong_is_named(void **state)
{
	static const struct { const char *from, *to, *words; } cases[] = {
		{ "\"1.1.0\"", "\"2.0\"", "2.0" },
		{ "\"hostname\":\"walrus\",", "", "'hostname' is missing" },
		{ "\"hostname\":\"walrus\"", "\"hostname\":7", "'hostname' has the wrong type" },
		{ "\"walrus\"", "\"wal\\u0001rus\"", "control character" },
		{ "\"cwd\":\"/data\"", "\"cwd\":\"data\"", "absolute" },
		{ "\"args\":[\"redis-server\",\"--port\",\"7\"]", "\"args\":[]", "'args' is empty" },
		{ "\"--port\"", "7", "'args'" },
		{ "CAP_KILL", "CAP_NOSUCH", "CAP_NOSUCH" },
		{ "\"noNewPrivileges\":true", "\"noNewPrivileges\":false", "noNewPrivileges" },
		{ "\"uid\":101", "\"uid\":-1", "'uid' is out of range" },
		{ "\"uid\":101", "\"uid\":200", "user 200 is not in the uid map" },
		{ "[5,29]", "[5,200]", "group 200 is not in the gid map" },
		{ "\"hostID\":9,", "\"hostID\":7100,", "overlaps" },
		{ "\"hostID\":9,", "\"hostID\":-1,", "is no range" },
		{ "\"hostID\":9,", "", "hostID" },
		{ "\"gidMappings\"", "\"gidmappings\"", "both uids and gids" },
		{ "\"containerID\":0,\"hostID\":8000", "\"containerID\":1,\"hostID\":8000", "gid 0" },
		{ "\"uid\":101", "\"uid\":4294967295", "'uid' is out of range" },
		{ "[5,29]", "[5,-29]", "additionalGids" },
		{ "\"bind\"", "\"tmpfs\"", "tmpfs" },
		{ "\"ro\"", "\"exec\"", "exec" },
		{ "\"source\":\"/srv\"", "\"source\":\"srv\"", "absolute" },
		{ "\"pids\":{\"limit\":32}", "\"pids\":{\"limit\":32,\"x\":1}", "'x'" },
		{ "\"weight\":300", "\"weight\":9", "'weight'" },
		{ "\"/dev/vdb\"", "\"dev/vdb\"", "absolute" },
		{ "\"rate\":60", "\"rate\":0", "throttleWriteIOPSDevice" },
		{ "\"rate\":60", "\"rate\":60,\"x\":1", "throttleWriteIOPSDevice" },
		{ "\"weight\":300", "\"leafWeight\":300", "blockIO.leafWeight" },
		{ ".name\":\"web\"", ".name\":\"../web\"", "../web" },
		{ "stdin,rm", "stdin,root", "root" },
		{ "on-failure:5", "sometimes", "sometimes" },
		{ "\"true\"", "\"\"", "health-command" },
		{ "\"1000\"", "\"999\"", "health-interval-us" },
		{ "\"2000\"", "2000", "health-timeout-us" },
		{ "02:67:0a:58:00:07", "02:67", "02:67" },
		{ "\"linux\"", "\"hooks\":{},\"linux\"", "'hooks'" },
		{ "}}", "}", "" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
		refuse(cases[i].from, cases[i].to, cases[i].words);
}

static void sizes_are_bounded(void **state)
{
	CLEANUP(freep) char *big = malloc(SPEC_JSON_LIMIT + 2);
	CLEANUP(spec_freep) struct spec *s = NULL;
	struct error err;

	(void)state;
	memset(big, ' ', SPEC_JSON_LIMIT + 2);
	assert_int_equal(spec_from_json(big, SPEC_JSON_LIMIT + 1, &s, &err), -EFBIG);
	assert_true(spec_from_json("[]", 2, &s, &err) < 0);
	assert_true(spec_from_json("", 0, &s, &err) < 0);
}

static void names(void **state)
{
	static const char *const bad[] = { "", ".", "..", "-a", "_a", "a/b", "a b", "\xc3\xa4",
		"0123456789012345678901234567890123456789012345678901234567890123x" };
	static const char *const fine[] = { "a", "0", "web-1.x_y" };
	struct error err;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		assert_int_equal(spec_check_name(bad[i], &err), -EINVAL);
	for (size_t i = 0; i < sizeof(fine) / sizeof(*fine); i++)
		assert_int_equal(spec_check_name(fine[i], &err), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(survives_the_way_to_json_and_back),
		cmocka_unit_test(what_is_wrong_is_named),
		cmocka_unit_test(sizes_are_bounded),
		cmocka_unit_test(names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <linux/capability.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/base/cleanup.h"
#include "engine/capability.h"

/* The mask behind a key of /proc/self/status. */
static uint64_t own_mask(const char *key)
{
	CLEANUP(file_closep) FILE *f = fopen("/proc/self/status", "re");
	char line[256];

	while (f && fgets(line, sizeof(line), f))
		if (!strncmp(line, key, strlen(key)))
			return strtoull(line + strlen(key) + 1, NULL, 16);
	return UINT64_MAX;
}

static void names_and_numbers_agree(void **state)
{
	struct error err;
	unsigned n = 0;

	(void)state;
	for (; capability_name(n); n++)
		assert_int_equal(capability_from_name(capability_name(n), &err), n);
	assert_int_equal(n, CAP_LAST_CAP + 1);
	assert_int_equal(capability_from_name("CAP_SYS_ADMIN", &err), CAP_SYS_ADMIN);
	assert_int_equal(capability_from_name("sys_admin", &err), CAP_SYS_ADMIN);
	assert_int_equal(capability_from_name("Cap_Chown", &err), CAP_CHOWN);
	assert_string_equal(capability_name(CAP_CHECKPOINT_RESTORE), "CAP_CHECKPOINT_RESTORE");
}

static void what_is_unknown_is_refused(void **state)
{
	static const char *const bad[] = { "",	  "CAP_", "CAP_SYS_ADMI",  "CAP_SYS_ADMINX",
					   "ALL", "0",	  "CAP_CAP_CHOWN", " CHOWN" };
	struct error err;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		assert_int_equal(capability_from_name(bad[i], &err), -EINVAL);
		assert_non_null(strstr(err.msg, bad[i]));
	}
	assert_null(capability_name(64));
	assert_null(capability_name(UINT32_MAX));
}

static void default_is_the_eleven_of_podman(void **state)
{
	static const char *const expected[] = {
		"CHOWN",   "DAC_OVERRIDE", "FOWNER",  "FSETID", "KILL",	      "NET_BIND_SERVICE",
		"SETFCAP", "SETGID",	   "SETPCAP", "SETUID", "SYS_CHROOT",
	};
	uint64_t mask = 0;
	struct error err;

	(void)state;
	for (size_t i = 0; i < sizeof(expected) / sizeof(*expected); i++)
		mask |= UINT64_C(1) << capability_from_name(expected[i], &err);
	assert_true(capability_default_mask() == mask);
}

#define REQUIRE(cond)                                                            \
	do {                                                                     \
		if (!(cond)) {                                                   \
			(void)fprintf(stderr, "line %d: %s\n", __LINE__, #cond); \
			_exit(1);                                                \
		}                                                                \
	} while (0)

static int apply(uint64_t mask, uint32_t uid)
{
	struct capability_sets sets = capability_sets_for(mask, uid);

	return capability_apply(&sets);
}

static void in_child(void (*body)(void))
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		body();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void become_root_of_container(void)
{
	uint64_t mask = capability_default_mask();

	REQUIRE(capability_limit_bounding(mask) == 0);
	REQUIRE(own_mask("CapBnd:") == mask);
	REQUIRE(apply(mask, 0) == 0);
	REQUIRE(own_mask("CapPrm:") == mask);
	REQUIRE(own_mask("CapEff:") == mask);
	REQUIRE(own_mask("CapInh:") == 0);
	REQUIRE(own_mask("CapAmb:") == 0);
	REQUIRE(capability_limit_bounding(mask) == 0);
	REQUIRE(apply(mask | (UINT64_C(1) << CAP_SYS_ADMIN), 0) == -EPERM);
	REQUIRE(own_mask("CapPrm:") == mask);
}

static void become_user_of_container(void)
{
	uint64_t mask = capability_default_mask();

	REQUIRE(capability_limit_bounding(mask) == 0);
	REQUIRE(prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) == 0);
	REQUIRE(setresgid(1000, 1000, 1000) == 0 && setresuid(1000, 1000, 1000) == 0);
	REQUIRE(own_mask("CapPrm:") != 0);
	REQUIRE(apply(mask, 1000) == 0);
	REQUIRE(own_mask("CapPrm:") == 0);
	REQUIRE(own_mask("CapEff:") == 0);
	REQUIRE(own_mask("CapBnd:") == mask);
	REQUIRE(capability_limit_bounding(0) == -EPERM);
}

/* What a carelessly started engine might hand on. */
static void inherit_nothing(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2] = { 0 };

	REQUIRE(syscall(SYS_capget, &header, data) == 0);
	data[0].inheritable |= 1U << CAP_CHOWN;
	REQUIRE(syscall(SYS_capset, &header, data) == 0);
	REQUIRE(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_CHOWN, 0, 0) == 0);
	REQUIRE(own_mask("CapAmb:") != 0);
	REQUIRE(apply(capability_default_mask(), 0) == 0);
	REQUIRE(own_mask("CapInh:") == 0);
	REQUIRE(own_mask("CapAmb:") == 0);
}

static void root_gets_the_mask(void **state)
{
	(void)state;
	in_child(become_root_of_container);
}

static void other_users_get_nothing(void **state)
{
	(void)state;
	in_child(become_user_of_container);
}

static void nothing_is_inheritable(void **state)
{
	(void)state;
	in_child(inherit_nothing);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_and_numbers_agree),
		cmocka_unit_test(what_is_unknown_is_refused),
		cmocka_unit_test(default_is_the_eleven_of_podman),
		cmocka_unit_test(root_gets_the_mask),
		cmocka_unit_test(other_users_get_nothing),
		cmocka_unit_test(nothing_is_inheritable),
	};

	if (geteuid() != 0)
		return 77;
	return cmocka_run_group_tests(tests, NULL, NULL);
}

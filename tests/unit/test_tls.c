/* Certificates and their files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>
#include <sys/stat.h>

#include "tests/unit/tls_fixture.h"

static int load(const struct node *n, struct error *err)
{
	CLEANUP(credentials_freep) struct credentials *c = NULL;

	return credentials_load(n, &c, err);
}

/* ---- files ---- */

static void a_cluster_begins_once(void **state)
{
	const struct cluster *c = *state;
	CLEANUP(freep) char *text = NULL;
	struct stat st;
	struct error err;
	size_t len;

	OK(load(&c->nodes[WALRUS], &err));
	OK(load(&c->nodes[SEAL], &err));
	FAILS(authority_init(&c->nodes[WALRUS], DAYS, &err), EEXIST, "belongs to a cluster already");
	FAILS(authority_issue(&c->nodes[SEAL], "orca", NULL, 0, DAYS, &text, &len, &err), ENOKEY,
	      "is not on node 'seal'");
	FAILS(authority_issue(&c->nodes[WALRUS], "a/b", NULL, 0, DAYS, &text, &len, &err), EINVAL, "no name of a node");
	for (const char *const *f = (const char *const[]){ "tls/key.pem", "tls/ca-key.pem", NULL }; *f; f++) {
		assert_int_equal(fstatat(c->nodes[WALRUS].state_fd, *f, &st, 0), 0);
		assert_int_equal(st.st_mode & 07777, 0600);
	}
}

static void what_is_missing_or_open_to_others_is_told(void **state)
{
	const struct cluster *c = *state;
	const struct node *seal = &c->nodes[SEAL];
	struct error err;

	assert_int_equal(fchmodat(seal->state_fd, "tls/key.pem", 0640, 0), 0);
	FAILS(load(seal, &err), EPERM, "can be read by others (mode 0640): chmod 0600");
	assert_int_equal(fchmodat(seal->state_fd, "tls/key.pem", 0600, 0), 0);
	assert_int_equal(unlinkat(seal->state_fd, "tls/cert.pem", 0), 0);
	FAILS(load(seal, &err), ENOKEY, "godwit tls issue seal");
	OK(fd_remove_tree_at(seal->state_fd, "tls", &err));
	FAILS(load(seal, &err), ENOKEY, "godwit tls init");
}

static void what_does_not_fit_is_not_installed(void **state)
{
	const struct cluster *c = *state;
	CLEANUP(freep) char *text = NULL, *mixed = NULL;
	CLEANUP(fd_closep) int dir = -EBADF;
	struct error err;
	size_t len;

	OK(authority_issue(&c->nodes[WALRUS], "seal", NULL, 0, DAYS, &text, &len, &err));
	FAILS(credentials_install(&c->nodes[ORCA], text, len, &err), EINVAL,
	      "of 'seal', but this node is called 'orca'");
	FAILS(credentials_install(&c->nodes[SEAL], "nonsense", 8, &err), EINVAL, "no private key");
	FAILS(credentials_install(&c->nodes[SEAL], text, len / 3, &err), EINVAL, "no private key");
	OK(load(&c->nodes[SEAL], &err));
	OK(load(&c->nodes[ORCA], &err));
	/* Parts of two clusters. */
	OK(fd_read_file_at(c->nodes[ORCA].state_fd, "tls/ca.pem", 65536, &mixed, &len, &err));
	OK(fd_open_dir_at(c->nodes[SEAL].state_fd, "tls", false, 0, &dir, &err));
	OK(fd_replace_file_at(dir, "ca.pem", mixed, len, 0644, FD_REPLACE, &err));
	FAILS(load(&c->nodes[SEAL], &err), EINVAL, "not signed by the CA beside it");
}

static void names_of_nodes(void **state)
{
	char longest[CERTIFICATE_NAME_MAX + 2];
	struct error err;

	(void)state;
	OK(certificate_check_name("node-1.example_2", &err));
	for (const char *const *bad = (const char *const[]){ "", "-a", "*", "a b", "a,DNS:b", NULL }; *bad; bad++)
		FAILS(certificate_check_name(*bad, &err), EINVAL, "no name of a node");
	memset(longest, 'a', sizeof(longest));
	longest[CERTIFICATE_NAME_MAX + 1] = '\0';
	FAILS(certificate_check_name(longest, &err), EINVAL, "no name of a node");
	longest[CERTIFICATE_NAME_MAX] = '\0';
	OK(certificate_check_name(longest, &err));
}

static void dates_are_told(void **state)
{
	const time_t now = time(NULL);
	struct certificate_facts f = { .name = "seal", .not_before = now - 10, .not_after = now + 10 };
	struct error err;

	(void)state;
	OK(certificate_check_dates(&f, "it", &err));
	f.not_after = 86400;
	FAILS(certificate_check_dates(&f, "it", &err), EKEYEXPIRED,
	      "it expired on 1970-01-02 00:00 UTC; 'godwit tls issue seal'");
	f = (struct certificate_facts){ .not_before = now + 100, .not_after = now + 200 };
	FAILS(certificate_check_dates(&f, "it", &err), EKEYEXPIRED, "compare the clocks");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_cluster_begins_once, setup, teardown),
		cmocka_unit_test_setup_teardown(what_is_missing_or_open_to_others_is_told, setup, teardown),
		cmocka_unit_test_setup_teardown(what_does_not_fit_is_not_installed, setup, teardown),
		cmocka_unit_test(names_of_nodes),
		cmocka_unit_test(dates_are_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

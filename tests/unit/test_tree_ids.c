#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "migrate/tree_ids.h"

/* acl(5) as the kernel stores it: user::rw-, user:33:r--, group::r--, group:5:rw-, mask::rw-, other::--- */
#define ACL(user, group) { 2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255, 2, 0, 4, 0, user, 0, 0, 16, \
			   4, 0, 4, 0, 255, 255, 255, 255, 8, 0, 6, 0, group, 0, 0, 32, \
			   16, 0, 6, 0, 255, 255, 255, 255, 32, 0, 0, 0, 255, 255, 255, 255 }

static const unsigned char acl_of_host[] = ACL(33, 5);
/* Revision 3: cap_net_bind_service+ep of uid 0x10000000's namespace. */
static const unsigned char capability_of_host[] = { 1, 0, 0, 3, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
						    0, 16 };

static struct userns ids(uint32_t uid, uint32_t gid)
{
	struct userns u = { 0 };
	struct error err;

	assert_int_equal(id_map_add(&u.uids, 0, uid, 65536, &err), 0);
	assert_int_equal(id_map_add(&u.gids, 0, gid, 65536, &err), 0);
	return u;
}

static struct tree_entry entry(void)
{
	struct tree_entry e = { .uid = 0x10000021, .gid = 0x20000022 };
	struct error err;

	assert_int_equal(tree_xattrs_add(&e.xattrs, "system.posix_acl_access", acl_of_host, sizeof(acl_of_host),
					 &err), 0);
	assert_int_equal(tree_xattrs_add(&e.xattrs, "security.capability", capability_of_host,
					 sizeof(capability_of_host), &err), 0);
	assert_int_equal(tree_xattrs_add(&e.xattrs, "user.word", "33", 2, &err), 0);
	return e;
}

static uint32_t word(const struct tree_entry *e, size_t nth, size_t at)
{
	uint32_t value;

	memcpy(&value, (const char *)e->xattrs.list[nth].value + at, sizeof(value));
	return value;
}

static void whose_it_is_inside_is_the_same_on_another_node(void **state)
{
	struct userns here = ids(0x10000000, 0x20000000), there = ids(700000, 800000);
	struct tree_entry e = entry();
	struct error err;

	(void)state;
	assert_int_equal(tree_ids_to_inside(&here, &e, &err), 0);
	assert_true(e.uid == 33 && e.gid == 34);
	assert_true(word(&e, 0, 16) == 33 && word(&e, 0, 32) == 5 && word(&e, 1, 20) == 0);
	assert_int_equal(word(&e, 0, 8), UINT32_MAX);
	assert_int_equal(tree_ids_to_host(&there, &e, &err), 0);
	assert_true(e.uid == 700033 && e.gid == 800034);
	assert_true(word(&e, 0, 16) == 700033 && word(&e, 0, 32) == 800005 && word(&e, 1, 20) == 700000);
	assert_memory_equal(e.xattrs.list[2].value, "33", 2);
	tree_xattrs_clear(&e.xattrs);
}

static void ids_of_the_host_stay(void **state)
{
	const struct userns none = { 0 };
	struct tree_entry e = entry();
	struct error err;

	(void)state;
	assert_int_equal(tree_ids_to_inside(&none, &e, &err), 0);
	assert_int_equal(tree_ids_to_host(&none, &e, &err), 0);
	assert_true(e.uid == 0x10000021 && e.gid == 0x20000022);
	assert_memory_equal(e.xattrs.list[0].value, acl_of_host, sizeof(acl_of_host));
	tree_xattrs_clear(&e.xattrs);
}

static void what_has_no_owner_inside_is_refused(void **state)
{
	struct userns u = ids(0x10000000, 0x20000000), other = ids(0x10000000, 70000);
	struct tree_entry e = entry();
	struct error err;

	(void)state;
	e.uid = 5;
	assert_int_equal(tree_ids_to_inside(&u, &e, &err), -EPROTO);
	e.uid = 0x10000000;
	assert_int_equal(tree_ids_to_inside(&other, &e, &err), -EPROTO);
	e.uid = 0x10000000;
	e.gid = 0x20000000;
	e.xattrs.list[0].size--;
	assert_int_equal(tree_ids_to_inside(&u, &e, &err), -EPROTO);
	assert_non_null(strstr(err.msg, "posix_acl"));
	e.uid = 65536;
	assert_int_equal(tree_ids_to_host(&u, &e, &err), -EPROTO);
	tree_xattrs_clear(&e.xattrs);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(whose_it_is_inside_is_the_same_on_another_node),
		cmocka_unit_test(ids_of_the_host_stay),
		cmocka_unit_test(what_has_no_owner_inside_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

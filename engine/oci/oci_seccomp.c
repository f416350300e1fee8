#include <errno.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/cleanup.h"
#include "engine/oci/oci_process.h"
#include "engine/seccomp.h"
#include "engine/seccomp_cache.h"

#define FORMAT 1 /* raise it when the code below changes what is compiled */

#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1UL << 5)
#endif

DEFINE_CLEANUP(scmp_filter_ctx, seccomp_release)

struct word {
	const char *name;
	uint32_t value;
};

static const struct word actions[] = {
	{ "SCMP_ACT_KILL", SCMP_ACT_KILL_THREAD },
	{ "SCMP_ACT_KILL_PROCESS", SCMP_ACT_KILL_PROCESS },
	{ "SCMP_ACT_KILL_THREAD", SCMP_ACT_KILL_THREAD },
	{ "SCMP_ACT_TRAP", SCMP_ACT_TRAP },
	{ "SCMP_ACT_ERRNO", SCMP_ACT_ERRNO(0) },
	{ "SCMP_ACT_TRACE", SCMP_ACT_TRACE(0) },
	{ "SCMP_ACT_ALLOW", SCMP_ACT_ALLOW },
	{ "SCMP_ACT_LOG", SCMP_ACT_LOG },
	{ "SCMP_ACT_NOTIFY", SCMP_ACT_NOTIFY },
	{ NULL, 0 },
};

static const struct word operators[] = {
	{ "SCMP_CMP_NE", SCMP_CMP_NE }, { "SCMP_CMP_LT", SCMP_CMP_LT }, { "SCMP_CMP_LE", SCMP_CMP_LE },
	{ "SCMP_CMP_EQ", SCMP_CMP_EQ }, { "SCMP_CMP_GE", SCMP_CMP_GE }, { "SCMP_CMP_GT", SCMP_CMP_GT },
	{ "SCMP_CMP_MASKED_EQ", SCMP_CMP_MASKED_EQ }, { NULL, 0 },
};

static const struct word architectures[] = {
	{ "SCMP_ARCH_X86", SCMP_ARCH_X86 },	    { "SCMP_ARCH_X86_64", SCMP_ARCH_X86_64 },
	{ "SCMP_ARCH_X32", SCMP_ARCH_X32 },	    { "SCMP_ARCH_ARM", SCMP_ARCH_ARM },
	{ "SCMP_ARCH_AARCH64", SCMP_ARCH_AARCH64 }, { "SCMP_ARCH_MIPS", SCMP_ARCH_MIPS },
	{ "SCMP_ARCH_MIPS64", SCMP_ARCH_MIPS64 },   { "SCMP_ARCH_MIPS64N32", SCMP_ARCH_MIPS64N32 },
	{ "SCMP_ARCH_MIPSEL", SCMP_ARCH_MIPSEL },   { "SCMP_ARCH_MIPSEL64", SCMP_ARCH_MIPSEL64 },
	{ "SCMP_ARCH_MIPSEL64N32", SCMP_ARCH_MIPSEL64N32 }, { "SCMP_ARCH_PPC", SCMP_ARCH_PPC },
	{ "SCMP_ARCH_PPC64", SCMP_ARCH_PPC64 },	    { "SCMP_ARCH_PPC64LE", SCMP_ARCH_PPC64LE },
	{ "SCMP_ARCH_S390", SCMP_ARCH_S390 },	    { "SCMP_ARCH_S390X", SCMP_ARCH_S390X },
	{ "SCMP_ARCH_PARISC", SCMP_ARCH_PARISC },   { "SCMP_ARCH_PARISC64", SCMP_ARCH_PARISC64 },
	{ "SCMP_ARCH_RISCV64", SCMP_ARCH_RISCV64 }, { NULL, 0 },
};

static const struct word flags[] = {
	{ "SECCOMP_FILTER_FLAG_TSYNC", SECCOMP_FILTER_FLAG_TSYNC },
	{ "SECCOMP_FILTER_FLAG_LOG", SECCOMP_FILTER_FLAG_LOG },
	{ "SECCOMP_FILTER_FLAG_SPEC_ALLOW", SECCOMP_FILTER_FLAG_SPEC_ALLOW },
	{ "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV },
	{ NULL, 0 },
};

#define NAMES(fn, words)								\
	const char *const *fn(void)							\
	{										\
		static const char *names[sizeof(words) / sizeof(*(words))];		\
		for (size_t i = 0; (words)[i].name; i++)				\
			names[i] = (words)[i].name;					\
		return names;								\
	}
NAMES(oci_seccomp_actions, actions)
NAMES(oci_seccomp_operators, operators)
NAMES(oci_seccomp_architectures, architectures)
NAMES(oci_seccomp_flags, flags)

static int find(const struct word *words, const char *name, const char *field, uint32_t *ret, struct error *err)
{
	for (; words->name; words++)
		if (!strcmp(words->name, name)) {
			*ret = words->value;
			return 0;
		}
	return error_set(err, EINVAL, "linux.seccomp.%s: '%s' is unknown", field, name);
}

static int make_action(const char *name, const struct oci_number *ret_errno, const char *field, uint32_t *ret,
		       struct error *err)
{
	bool carries;

	if (find(actions, name, field, ret, err) < 0)
		return -err->code;
	carries = *ret == SCMP_ACT_ERRNO(0) || *ret == SCMP_ACT_TRACE(0);
	if (ret_errno->set && !carries)
		return error_set(err, EINVAL, "linux.seccomp.%s: %s takes no errno", field, name);
	if (carries)
		*ret |= ret_errno->set ? (uint32_t)ret_errno->value & 0xffff : EPERM;
	return 0;
}

static int make_comparison(const struct oci_seccomp_arg *a, struct scmp_arg_cmp *ret, struct error *err)
{
	uint32_t op = 0;

	if (find(operators, a->op, "syscalls.args.op", &op, err) < 0)
		return -err->code;
	if (a->index.value < 0 || a->index.value > 5)
		return error_set(err, EINVAL, "linux.seccomp.syscalls.args.index: %lld is not within 0 and 5",
				 (long long)a->index.value);
	*ret = (struct scmp_arg_cmp){ .arg = (unsigned)a->index.value, .op = (enum scmp_compare)op,
				      .datum_a = (uint64_t)a->value.value, .datum_b = (uint64_t)a->value_two.value };
	return 0;
}

static int add(scmp_filter_ctx ctx, uint32_t action, int call, const struct scmp_arg_cmp *args, unsigned n,
	       const char *name, struct error *err)
{
	int r = seccomp_rule_add_array(ctx, action, call, n, args);

	return r == 0 || r == -EEXIST ? 0 : error_set(err, -r, "linux.seccomp: rule for %s: %s", name, strerror(-r));
}

/* libseccomp takes one comparison an argument: more of them are alternatives (as runc and
 * the specification's text have it). */
static int add_call(scmp_filter_ctx ctx, uint32_t action, int call, const struct oci_syscalls *s, const char *name,
		    struct error *err)
{
	struct scmp_arg_cmp args[6];
	const struct oci_seccomp_arg *given = s->args.items;
	unsigned per_argument[6] = { 0 };
	bool repeated = false;

	for (size_t i = 0; i < s->args.n; i++) {
		struct scmp_arg_cmp one;

		if (make_comparison(&given[i], &one, err) < 0)
			return -err->code;
		repeated = repeated || per_argument[one.arg]++ > 0;
	}
	for (size_t i = 0; i < s->args.n && !repeated; i++)
		(void)make_comparison(&given[i], &args[i], err);
	if (!repeated)
		return add(ctx, action, call, args, (unsigned)s->args.n, name, err);
	for (size_t i = 0; i < s->args.n; i++)
		if (make_comparison(&given[i], &args[0], err) < 0 || add(ctx, action, call, args, 1, name, err) < 0)
			return -err->code;
	return 0;
}

static int add_syscalls(scmp_filter_ctx ctx, const struct oci_syscalls *s, uint32_t fallback, struct error *err)
{
	uint32_t action = 0;

	if (make_action(s->action, &s->errno_ret, "syscalls.action", &action, err) < 0)
		return -err->code;
	if (!s->names[0])
		return error_set(err, EINVAL, "linux.seccomp.syscalls.names is empty");
	for (size_t i = 0; s->names[i]; i++) {
		int call = seccomp_syscall_resolve_name(s->names[i]);

		if (call == __NR_SCMP_ERROR || action == fallback)
			continue;
		if (add_call(ctx, action, call, s, s->names[i], err) < 0)
			return -err->code;
	}
	return 0;
}

static int add_architectures(scmp_filter_ctx ctx, const struct oci_seccomp *s, struct error *err)
{
	for (size_t i = 0; s->architectures && s->architectures[i]; i++) {
		uint32_t arch = 0;
		int r;

		if (find(architectures, s->architectures[i], "architectures", &arch, err) < 0)
			return -err->code;
		r = seccomp_arch_add(ctx, arch);
		if (r < 0 && r != -EEXIST)
			return error_set(err, -r, "linux.seccomp.architectures: %s: %s", s->architectures[i],
					 strerror(-r));
	}
	return 0;
}

static int make_flags(const struct oci_seccomp *s, bool notifies, unsigned *ret, struct error *err)
{
	uint32_t flag = 0;

	*ret = 0;
	for (size_t i = 0; s->flags && s->flags[i]; i++) {
		if (find(flags, s->flags[i], "flags", &flag, err) < 0)
			return -err->code;
		*ret |= flag;
	}
	if (notifies && (!s->listener_path || !*s->listener_path))
		return error_set(err, EINVAL, "linux.seccomp.listenerPath is missing: SCMP_ACT_NOTIFY needs it");
	if (!notifies && s->listener_path && *s->listener_path)
		return error_set(err, EINVAL, "linux.seccomp.listenerPath: no action is SCMP_ACT_NOTIFY");
	if (notifies)
		*ret |= SECCOMP_FILTER_FLAG_NEW_LISTENER;
	if (notifies && (*ret & SECCOMP_FILTER_FLAG_TSYNC))
		return error_set(err, EINVAL, "linux.seccomp.flags: SECCOMP_FILTER_FLAG_TSYNC can't go with "
				 "SCMP_ACT_NOTIFY");
	return 0;
}

/* Whether some call is one that a listener shall answer. */
static int find_notified(const struct oci_seccomp *s, bool *ret, struct error *err)
{
	OCI_EACH(struct oci_syscalls, c, s->syscalls) {
		if (strcmp(c->action, "SCMP_ACT_NOTIFY") != 0)
			continue;
		for (size_t i = 0; c->names[i]; i++) {
			if (!strcmp(c->names[i], "write"))
				return error_set(err, ENOTSUP, "linux.seccomp: SCMP_ACT_NOTIFY of write can't be: "
						 "the listener is handed over by it");
			*ret = *ret || seccomp_syscall_resolve_name(c->names[i]) != __NR_SCMP_ERROR;
		}
	}
	return 0;
}

static int compile(const struct oci_seccomp *s, struct sock_fprog *ret, struct error *err)
{
	CLEANUP(seccomp_releasep) scmp_filter_ctx ctx = NULL;
	uint32_t fallback = 0;

	if (make_action(s->default_action, &s->default_errno_ret, "defaultAction", &fallback, err) < 0)
		return -err->code;
	if (fallback == SCMP_ACT_NOTIFY)
		return error_set(err, ENOTSUP,
			"linux.seccomp.defaultAction: SCMP_ACT_NOTIFY can't be: name the calls");
	ctx = seccomp_init(fallback);
	if (!ctx)
		return error_set(err, ENOMEM, "linux.seccomp: out of memory");
	(void)seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	if (add_architectures(ctx, s, err) < 0)
		return -err->code;
	OCI_EACH(struct oci_syscalls, c, s->syscalls)
		if (add_syscalls(ctx, c, fallback, err) < 0)
			return -err->code;
	return seccomp_export(ctx, ret, err) < 0 ? error_wrap(err, "linux.seccomp") : 0;
}

static void add_number(struct seccomp_key *key, const struct oci_number *n)
{
	const int64_t number[] = { n->set, n->value };

	seccomp_key_add(key, number, sizeof(number));
}

/* With how many they are in front, so that no two different lists read the same. */
static void add_words(struct seccomp_key *key, const char **words)
{
	size_t n = 0;

	while (words && words[n])
		n++;
	seccomp_key_add(key, &n, sizeof(n));
	for (size_t i = 0; i < n; i++)
		seccomp_key_add_string(key, words[i]);
}

/* Of all that compile looks at. */
static void make_key(const struct oci_seccomp *s, struct seccomp_key *ret)
{
	static const int format = FORMAT;

	seccomp_key_begin(ret);
	seccomp_key_add(ret, &format, sizeof(format));
	seccomp_key_add_string(ret, s->default_action);
	add_number(ret, &s->default_errno_ret);
	add_words(ret, s->architectures);
	OCI_EACH(struct oci_syscalls, c, s->syscalls) {
		add_words(ret, c->names);
		seccomp_key_add_string(ret, c->action);
		add_number(ret, &c->errno_ret);
		seccomp_key_add(ret, &c->args.n, sizeof(c->args.n));
		OCI_EACH(struct oci_seccomp_arg, a, c->args) {
			add_number(ret, &a->index);
			add_number(ret, &a->value);
			add_number(ret, &a->value_two);
			seccomp_key_add_string(ret, a->op);
		}
	}
}

int oci_seccomp_compile(const struct oci_seccomp *s, int cache_dirfd, struct sock_fprog *ret, unsigned *ret_flags,
			struct error *err)
{
	struct seccomp_key key;
	bool notifies = false;

	if (find_notified(s, &notifies, err) < 0 || make_flags(s, notifies, ret_flags, err) < 0)
		return -err->code;
	make_key(s, &key);
	if (seccomp_cache_load(cache_dirfd, &key, ret))
		return 0;
	if (compile(s, ret, err) < 0)
		return -err->code;
	seccomp_cache_store(cache_dirfd, &key, ret);
	return 0;
}

#include <fcntl.h>
#include <linux/ioprio.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "engine/base/cleanup.h"
#include "engine/base/fd.h"
#include "engine/oci/oci_process.h"

#define COUNT(a) (sizeof(a) / sizeof(*(a)))

/* What sched_setattr(2) takes; linux/sched/types.h can't be had beside sched.h. */
struct scheduling {
	uint32_t size, policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime, deadline, period;
};

struct word {
	const char *name;
	unsigned long value;
};

static int find_word(const struct word *words, size_t n, const char *name, const char *field,
		     unsigned long *ret, struct error *err)
{
	for (size_t i = 0; i < n; i++)
		if (!strcmp(words[i].name, name)) {
			*ret = words[i].value;
			return 0;
		}
	return error_set(err, EINVAL, "%s: '%s' is unknown", field, name);
}

/* --- capabilities ----------------------------------------------------------- */

static int make_set(const char **names, const char *field, uint64_t *ret, struct error *err)
{
	for (size_t i = 0; names && names[i]; i++) {
		int n = capability_from_name(names[i], err);

		if (n < 0)
			return error_wrap(err, "process.capabilities.%s", field);
		if (prctl(PR_CAPBSET_READ, (unsigned long)n, 0, 0, 0) != 1)
			return error_set(err, ENOTSUP, "process.capabilities.%s: %s: this runtime does not have it "
					 "itself", field, names[i]);
		*ret |= UINT64_C(1) << n;
	}
	return 0;
}

static int make_capabilities(const struct oci_capabilities *c, struct capability_sets *ret, struct error *err)
{
	if (!c)
		return 0;
	if (make_set(c->bounding, "bounding", &ret->bounding, err) < 0 ||
	    make_set(c->effective, "effective", &ret->effective, err) < 0 ||
	    make_set(c->permitted, "permitted", &ret->permitted, err) < 0 ||
	    make_set(c->inheritable, "inheritable", &ret->inheritable, err) < 0 ||
	    make_set(c->ambient, "ambient", &ret->ambient, err) < 0)
		return -err->code;
	if (ret->effective & ~ret->permitted)
		return error_set(err, EINVAL, "process.capabilities.effective: not all of them are permitted");
	if (ret->ambient & ~(ret->permitted & ret->inheritable))
		return error_set(err, EINVAL, "process.capabilities.ambient: not all of them are permitted and "
				 "inheritable");
	return 0;
}

/* --- user, labels, personality ------------------------------------------------ */

static int make_groups(struct oci_arena *a, const struct oci_user *u, struct process *p, struct error *err)
{
	uint32_t *groups = oci_arena_alloc(a, u->additional_gids.n, sizeof(*groups));
	size_t n = 0;

	if (!groups)
		return error_set(err, ENOMEM, "out of memory");
	OCI_EACH(struct oci_number, g, u->additional_gids)
		groups[n++] = (uint32_t)g->value;
	p->groups = groups;
	p->n_groups = n;
	return 0;
}

bool oci_process_has_apparmor(void)
{
	CLEANUP(freep) char *text = NULL;
	struct error ignored;

	return fd_read_file_at(AT_FDCWD, "/sys/module/apparmor/parameters/enabled", 16, &text, NULL, &ignored) == 0 &&
	       text[0] == 'Y';
}

bool oci_process_has_selinux(void)
{
	return access("/sys/fs/selinux/enforce", F_OK) == 0;
}

static int make_label(const struct oci_process *p, struct oci_process_plan *ret, struct error *err)
{
	const char *apparmor = p->apparmor_profile, *selinux = p->selinux_label;

	if (apparmor && *apparmor && !oci_process_has_apparmor())
		return error_set(err, ENOTSUP, "process.apparmorProfile: '%s': this host has no AppArmor", apparmor);
	if (selinux && *selinux && !oci_process_has_selinux())
		return error_set(err, ENOTSUP, "process.selinuxLabel: '%s': this host has no SELinux", selinux);
	if (apparmor && *apparmor)
		(void)snprintf(ret->label, sizeof(ret->label), "exec %s", apparmor);
	else if (selinux && *selinux)
		(void)snprintf(ret->label, sizeof(ret->label), "%s", selinux);
	if (ret->label[0])
		ret->process.label = ret->label;
	return 0;
}

static const struct word domains[] = { { "LINUX", PER_LINUX }, { "LINUX32", PER_LINUX32 } };

static int make_personality(const struct oci_personality *p, struct process *ret, struct error *err)
{
	unsigned long domain = 0;

	if (!p)
		return 0;
	if (find_word(domains, COUNT(domains), p->domain, "linux.personality.domain", &domain, err) < 0)
		return -err->code;
	if (p->flags && p->flags[0])
		return error_set(err, ENOTSUP, "linux.personality.flags: '%s': the specification defines none",
				 p->flags[0]);
	ret->set_personality = true;
	ret->personality = domain;
	return 0;
}

/* --- attributes from outside ---------------------------------------------------- */

static const struct word rlimits[] = {
	{ "RLIMIT_AS", RLIMIT_AS },		{ "RLIMIT_CORE", RLIMIT_CORE },
	{ "RLIMIT_CPU", RLIMIT_CPU },		{ "RLIMIT_DATA", RLIMIT_DATA },
	{ "RLIMIT_FSIZE", RLIMIT_FSIZE },	{ "RLIMIT_LOCKS", RLIMIT_LOCKS },
	{ "RLIMIT_MEMLOCK", RLIMIT_MEMLOCK },	{ "RLIMIT_MSGQUEUE", RLIMIT_MSGQUEUE },
	{ "RLIMIT_NICE", RLIMIT_NICE },		{ "RLIMIT_NOFILE", RLIMIT_NOFILE },
	{ "RLIMIT_NPROC", RLIMIT_NPROC },	{ "RLIMIT_RSS", RLIMIT_RSS },
	{ "RLIMIT_RTPRIO", RLIMIT_RTPRIO },	{ "RLIMIT_RTTIME", RLIMIT_RTTIME },
	{ "RLIMIT_SIGPENDING", RLIMIT_SIGPENDING }, { "RLIMIT_STACK", RLIMIT_STACK },
};

static const struct word policies[] = {
	{ "SCHED_OTHER", SCHED_OTHER }, { "SCHED_FIFO", SCHED_FIFO }, { "SCHED_RR", SCHED_RR },
	{ "SCHED_BATCH", SCHED_BATCH }, { "SCHED_IDLE", SCHED_IDLE }, { "SCHED_DEADLINE", SCHED_DEADLINE },
};

static const struct word sched_flags[] = {
	{ "SCHED_FLAG_RESET_ON_FORK", SCHED_FLAG_RESET_ON_FORK },
	{ "SCHED_FLAG_RECLAIM", SCHED_FLAG_RECLAIM },
	{ "SCHED_FLAG_DL_OVERRUN", SCHED_FLAG_DL_OVERRUN },
	{ "SCHED_FLAG_KEEP_POLICY", SCHED_FLAG_KEEP_POLICY },
	{ "SCHED_FLAG_KEEP_PARAMS", SCHED_FLAG_KEEP_PARAMS },
	{ "SCHED_FLAG_UTIL_CLAMP_MIN", SCHED_FLAG_UTIL_CLAMP_MIN },
	{ "SCHED_FLAG_UTIL_CLAMP_MAX", SCHED_FLAG_UTIL_CLAMP_MAX },
};

static const struct word io_classes[] = {
	{ "IOPRIO_CLASS_RT", IOPRIO_CLASS_RT }, { "IOPRIO_CLASS_BE", IOPRIO_CLASS_BE },
	{ "IOPRIO_CLASS_IDLE", IOPRIO_CLASS_IDLE },
};

static int check_rlimits(const struct oci_process *p, struct error *err)
{
	uint64_t seen = 0;
	unsigned long which = 0;

	OCI_EACH(struct oci_rlimit, l, p->rlimits) {
		if (find_word(rlimits, COUNT(rlimits), l->type, "process.rlimits", &which, err) < 0)
			return -err->code;
		if (seen & (UINT64_C(1) << which))
			return error_set(err, EINVAL, "process.rlimits: %s is there twice", l->type);
		seen |= UINT64_C(1) << which;
	}
	return 0;
}

static int set_rlimits(const struct oci_process *p, pid_t pid, struct error *err)
{
	OCI_EACH(struct oci_rlimit, l, p->rlimits) {
		struct rlimit limit = { (rlim_t)l->soft.value, (rlim_t)l->hard.value };
		unsigned long which = 0;

		if (find_word(rlimits, COUNT(rlimits), l->type, "process.rlimits", &which, err) < 0)
			return -err->code;
		if (prlimit(pid, (enum __rlimit_resource)which, &limit, NULL) < 0)
			return error_set(err, errno, "process.rlimits: %s: %s%s", l->type, strerror(errno),
					 errno == EPERM ? ": above the hard limit of this runtime, which has no "
					 "CAP_SYS_RESOURCE" : "");
	}
	return 0;
}

static int make_sched(const struct oci_scheduler *s, struct scheduling *ret, struct error *err)
{
	unsigned long policy = 0, flag = 0;

	if (find_word(policies, COUNT(policies), s->policy, "process.scheduler.policy", &policy, err) < 0)
		return -err->code;
	*ret = (struct scheduling){
		.size = sizeof(*ret), .policy = (uint32_t)policy, .nice = (int32_t)s->nice.value,
		.priority = (uint32_t)s->priority.value, .runtime = (uint64_t)s->runtime.value,
		.deadline = (uint64_t)s->deadline.value, .period = (uint64_t)s->period.value,
	};
	for (size_t i = 0; s->flags && s->flags[i]; i++) {
		if (find_word(sched_flags, COUNT(sched_flags), s->flags[i], "process.scheduler.flags", &flag,
			err) < 0)
			return -err->code;
		ret->flags |= flag;
	}
	return 0;
}

static int make_io_priority(const struct oci_io_priority *p, int *ret, struct error *err)
{
	unsigned long class = 0;

	if (find_word(io_classes, COUNT(io_classes), p->class, "process.ioPriority.class", &class, err) < 0)
		return -err->code;
	if (p->priority.value < 0 || p->priority.value >= IOPRIO_BE_NR)
		return error_set(err, EINVAL, "process.ioPriority.priority: %lld is not within 0 and 7",
				 (long long)p->priority.value);
	*ret = (int)(class << IOPRIO_CLASS_SHIFT) | (int)p->priority.value;
	return 0;
}

int oci_process_attributes(const struct oci_process_plan *plan, pid_t pid, struct error *err)
{
	const struct oci_process *p = plan->spec;
	struct scheduling attr;
	char path[40], text[16];
	int priority;

	if (p->oom_score_adj.set) {
		(void)snprintf(path, sizeof(path), "/proc/%d/oom_score_adj", (int)pid);
		(void)snprintf(text, sizeof(text), "%d", (int)p->oom_score_adj.value);
		if (fd_write_file_at(AT_FDCWD, path, text, err) < 0)
			return error_wrap(err, "process.oomScoreAdj");
	}
	if (p->scheduler) {
		if (make_sched(p->scheduler, &attr, err) < 0)
			return -err->code;
		if (syscall(SYS_sched_setattr, pid, &attr, 0) < 0)
			return error_set(err, errno, "process.scheduler: %s", strerror(errno));
	}
	if (p->io_priority) {
		if (make_io_priority(p->io_priority, &priority, err) < 0)
			return -err->code;
		if (syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, pid, priority) < 0)
			return error_set(err, errno, "process.ioPriority: %s", strerror(errno));
	}
	return set_rlimits(p, pid, err);
}

/* What can be refused is refused before anything is made. */
static int check_attributes(const struct oci_process *p, struct error *err)
{
	struct scheduling attr;
	int priority;

	if (check_rlimits(p, err) < 0 || (p->scheduler && make_sched(p->scheduler, &attr, err) < 0) ||
	    (p->io_priority && make_io_priority(p->io_priority, &priority, err) < 0))
		return -err->code;
	return 0;
}

int oci_process_plan(struct oci_arena *a, const struct oci_process *p, const struct oci_linux *linux_,
		     int cache_dirfd, struct oci_process_plan *ret, struct error *err)
{
	static const char *const no_env[] = { NULL };
	struct process *q = &ret->process;

	*ret = (struct oci_process_plan){ .spec = p };
	q->args = (char *const *)(uintptr_t)p->args;
	q->env = (char *const *)(uintptr_t)(p->env ? p->env : (const char **)(uintptr_t)no_env);
	q->cwd = p->cwd;
	q->umask = p->user && p->user->umask.set ? (uint32_t)p->user->umask.value : 0022;
	q->may_gain_privileges = !p->no_new_privileges;
	q->listener_sock = q->label_fd = -EBADF;
	if (p->user) {
		q->uid = (uint32_t)p->user->uid.value;
		q->gid = (uint32_t)p->user->gid.value;
		if (make_groups(a, p->user, q, err) < 0)
			return -err->code;
	}
	if (make_capabilities(p->capabilities, &q->capabilities, err) < 0 || make_label(p, ret, err) < 0 ||
	    (linux_ && make_personality(linux_->personality, q, err) < 0) || check_attributes(p, err) < 0)
		return -err->code;
	if (!linux_ || !linux_->seccomp)
		return 0;
	if (oci_seccomp_compile(linux_->seccomp, cache_dirfd, &ret->filter, &q->filter_flags, err) < 0)
		return -err->code;
	q->filter = &ret->filter;
	return 0;
}

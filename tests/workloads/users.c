/* Processes of several users, with groups, limits, masks and priorities of
 * their own; one is a session leader with a process group and a zombie. */
#include <grp.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "tests/workloads/workload.h"

#define SLOTS 3

static int ask[SLOTS][2], tell[SLOTS][2];

static const struct self {
	uid_t uid;
	gid_t gid;
	gid_t more;
	mode_t mask;
	int nice;
} selves[SLOTS] = {
	{ 101, 101, 1000, 027, 5 },
	{ 1000, 1000, 5, 077, 0 },
	{ 65534, 65534, 65534, 022, 10 },
};

static const char *look(const struct self *s, pid_t group)
{
	struct rlimit files;
	gid_t groups[4];
	uid_t r, e, saved;
	mode_t mask = umask(s->mask);

	if (getresuid(&r, &e, &saved) < 0 || r != s->uid || e != s->uid || saved != s->uid)
		return "user";
	if (getgid() != s->gid || getgroups(4, groups) != 1 || groups[0] != s->more)
		return "groups";
	if (mask != s->mask)
		return "umask";
	if (getpriority(PRIO_PROCESS, 0) != s->nice)
		return "nice";
	if (getrlimit(RLIMIT_NOFILE, &files) < 0 || files.rlim_cur != 100 + s->uid % 50)
		return "limit of files";
	if (getsid(0) != getpid() || getpgid(group) != group || getsid(group) != getpid())
		return "session";
	if (prctl(PR_GET_DUMPABLE) != 1)
		return "dumpable";
	return "fine";
}

static _Noreturn void live(int slot)
{
	const struct self *s = &selves[slot];
	struct rlimit files = { .rlim_cur = 100 + s->uid % 50, .rlim_max = 1000 };
	char byte;
	pid_t group;

	MUST(setsid() == getpid() && setrlimit(RLIMIT_NOFILE, &files) == 0);
	MUST(setpriority(PRIO_PROCESS, 0, s->nice) == 0);
	(void)umask(s->mask);
	MUST(setgroups(1, &s->more) == 0 && setresgid(s->gid, s->gid, s->gid) == 0);
	MUST(setresuid(s->uid, s->uid, s->uid) == 0 && prctl(PR_SET_DUMPABLE, 1) == 0);
	group = fork();
	if (group == 0)
		for (;;)
			(void)pause();
	MUST(setpgid(group, group) == 0);
	if (fork() == 0)
		_exit(7);		/* nobody ever looks: a zombie */
	while (read(ask[slot][0], &byte, 1) == 1) {
		const char *what = look(s, group);

		(void)!write(tell[slot][1], what, strlen(what) + 1);
	}
	_exit(0);
}

static void workload_setup(int argc, char **argv)
{
	(void)argc, (void)argv;
	for (int i = 0; i < SLOTS; i++) {
		pid_t pid;

		MUST(pipe(ask[i]) == 0 && pipe(tell[i]) == 0);
		pid = fork();
		MUST(pid >= 0);
		if (pid == 0)
			live(i);
	}
	(void)umask(031);
}

static bool workload_check(void)
{
	for (int i = 0; i < SLOTS; i++) {
		char what[64] = "";

		HOLDS(write(ask[i][1], "?", 1) == 1 && read(tell[i][0], what, sizeof(what) - 1) > 0);
		if (strcmp(what, "fine") != 0)
			return workload_blame("%s of user %u", what, selves[i].uid);
	}
	HOLDS(umask(031) == 031);
	return true;
}

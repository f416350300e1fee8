/*
 * criu_payload.h - what runs in the box of test_criu.c
 *
 * Init serves nothing: it writes a line to stdout each second. Its child is the
 * interesting one: another user, fewer capabilities, no_new_privs, a seccomp
 * filter; it holds files of many kinds and answers questions over one TCP
 * connection: "check" (are they all as they were?), "mono" (CLOCK_MONOTONIC in
 * microseconds), anything else is echoed.
 */
#pragma once

#include <grp.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "engine/base/clock.h"
#include "tests/unit/criu_box.h"

#define PORT 7777

static void payload_confine(void)
{
	struct sock_filter filter[] = { BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW) };
	struct sock_fprog program = { .len = 1, .filter = filter };

	MUST(prctl(PR_CAPBSET_DROP, 12));
	MUST(setgroups(0, NULL));
	MUST(setresgid(1000, 1000, 1000));
	MUST(setresuid(1000, 1000, 1000));
	MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	MUST(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program));
}

struct holdings {
	int deleted, lock, shm, memfd, mono_base;
	char *map;
};

static struct holdings payload_hold(void)
{
	struct holdings h;

	h.deleted = (int)MUST(open("/var/tmp/deleted", O_CREAT | O_RDWR, 0600));
	MUST(write(h.deleted, "ghost", 5));
	MUST(unlink("/var/tmp/deleted"));
	h.lock = (int)MUST(open("/var/tmp/lock", O_CREAT | O_RDWR, 0600));
	MUST(flock(h.lock, LOCK_EX));
	h.shm = (int)MUST(open("/dev/shm/ring", O_CREAT | O_RDWR, 0600));
	MUST(ftruncate(h.shm, 4096));
	h.map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, h.shm, 0);
	strcpy(h.map, "shared");
	h.memfd = (int)MUST(memfd_create("m", 0));
	MUST(write(h.memfd, "memfd", 5));
	return h;
}

/* Every hierarchy that the box is in shows the box's cgroup as its root. */
static bool payload_sees_own_cgroups(void)
{
	bool hybrid = access("/sys/fs/cgroup/unified", F_OK) == 0;
	CLEANUP(file_closep) FILE *f = fopen("/proc/self/cgroup", "re");
	char line[256];
	int n = hybrid ? BOX_HIERARCHIES : 1, roots = 0;

	while (f && fgets(line, sizeof(line), f)) {
		const char *names = strchr(line, ':') + 1, *path = strchr(names, ':') + 1;

		for (int i = 0; i < n; i++)
			if (!strncmp(names, i ? box_hierarchies[i] : ":",
				     i ? strlen(box_hierarchies[i]) : 1))
				roots += !strcmp(path, "/\n");
	}
	if (access(hybrid ? "/sys/fs/cgroup/unified/cgroup.freeze" : "/sys/fs/cgroup/cgroup.freeze",
		   F_OK) < 0)
		return false;
	return roots >= n;
}

static const char *payload_check(const struct holdings *h)
{
	char text[16] = "";
	int other;

	if (pread(h->deleted, text, 5, 0) != 5 || strcmp(text, "ghost") != 0)
		return "deleted file";
	if (pread(h->memfd, text, 5, 0) != 5 || strcmp(text, "memfd") != 0)
		return "memfd";
	if (strcmp(h->map, "shared") != 0)
		return "shm";
	other = open("/var/tmp/lock", O_RDWR);
	if (other < 0 || flock(other, LOCK_EX | LOCK_NB) == 0)
		return "lock is lost";
	close(other);
	other = open("/dev/shm/ring", O_RDWR);
	if (other < 0)
		return "shm name";
	close(other);
	if (!payload_sees_own_cgroups())
		return "cgroup view";
	return "fine";
}

static void payload_serve(int listener)
{
	struct holdings h = payload_hold();
	int conn = (int)MUST(accept(listener, NULL, NULL));
	char line[64];
	ssize_t n;

	while ((n = read(conn, line, sizeof(line) - 1)) > 0) {
		line[n] = '\0';
		if (line[0] == 'c')
			dprintf(conn, "%s\n", payload_check(&h));
		else if (line[0] == 'm')
			dprintf(conn, "%llu\n", (unsigned long long)clock_us());
		else
			MUST(write(conn, line, (size_t)n));
	}
	pause();
}

static int payload_main(void)
{
	struct sockaddr_in addr = { .sin_family = AF_INET, .sin_port = htons(PORT) };
	int listener = (int)MUST(socket(AF_INET, SOCK_STREAM, 0));
	pid_t worker;

	MUST(bind(listener, (struct sockaddr *)&addr, sizeof(addr)));
	MUST(listen(listener, 5));
	(void)signal(SIGPIPE, SIG_IGN);
	worker = (pid_t)MUST(fork());
	if (worker == 0) {
		payload_confine();
		payload_serve(listener);
		_exit(0);
	}
	dprintf(1, "started\n");
	for (int n = 0;; n++) {
		char text[32];

		sleep(1);
		(void)snprintf(text, sizeof(text), "tick %d\n", n);
		(void)!write(1, text, strlen(text));
	}
}

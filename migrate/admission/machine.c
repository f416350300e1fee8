#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "engine/base/fd.h"
#include "migrate/admission/machine.h"
#include "proto/wire.h"

void machine_features_freep(struct machine_features *f)
{
	free(f->names);
	free(f->text);
}

/* x86 says "flags", arm64 "Features". */
int machine_cpu_features(struct machine_features *ret, struct error *err)
{
	struct machine_features f = { 0 };
	CLEANUP(freep) char *text = NULL;
	char *line, *save = NULL;

	if (fd_read_file_at(-EBADF, "/proc/cpuinfo", 16 << 20, &text, NULL, err) < 0)
		return -err->code;
	line = strstr(text, "\nflags");
	if (!line)
		line = strstr(text, "\nFeatures");
	line = line ? strchr(line, ':') : NULL;
	f.text = line ? strndup(line + 1, strcspn(line + 1, "\n")) : strdup("");
	f.names = calloc(WIRE_CPU_FEATURES_MAX, sizeof(*f.names));
	if (!f.text || !f.names) {
		machine_features_freep(&f);
		return error_set(err, ENOMEM, "out of memory");
	}
	for (char *w = strtok_r(f.text, " \t", &save); w && f.n < WIRE_CPU_FEATURES_MAX;
	     w = strtok_r(NULL, " \t", &save))
		f.names[f.n++] = w;
	*ret = f;
	return 0;
}

int machine_container_memory(const struct container *c, uint64_t *ret, struct error *err)
{
	CLEANUP(cgroup_freep) struct cgroup *cg = NULL;
	CLEANUP(freep) pid_t *pids = NULL;
	uint64_t pages = 0;
	size_t n;

	if (container_cgroup(c, false, &cg, err) < 0 || cgroup_pids(cg, &pids, &n, err) < 0)
		return -err->code;
	for (size_t i = 0; i < n; i++) {
		CLEANUP(freep) char *text = NULL;
		unsigned long long resident = 0;
		struct error ignored;
		char path[32];

		(void)snprintf(path, sizeof(path), "/proc/%d/statm", (int)pids[i]);
		if (fd_read_file_at(-EBADF, path, 4096, &text, NULL, &ignored) == 0 &&
		    sscanf(text, "%*u %llu", &resident) == 1)
			pages += resident;
	}
	*ret = pages * (uint64_t)sysconf(_SC_PAGESIZE);
	return 0;
}

int machine_free_memory(uint64_t *ret, struct error *err)
{
	CLEANUP(freep) char *text = NULL;
	unsigned long long kib;
	char *line;

	if (fd_read_file_at(-EBADF, "/proc/meminfo", 65536, &text, NULL, err) < 0)
		return -err->code;
	line = strstr(text, "MemAvailable:");
	if (!line || sscanf(line, "MemAvailable: %llu", &kib) != 1)
		return error_set(err, EIO, "/proc/meminfo has no MemAvailable");
	*ret = (uint64_t)kib * 1024;
	return 0;
}

static int read_number(const char *path, uint64_t *ret, struct error *err)
{
	CLEANUP(freep) char *text = NULL;

	if (fd_read_file_at(-EBADF, path, 64, &text, NULL, err) < 0)
		return -err->code;
	*ret = strtoull(text, NULL, 10);
	return 0;
}

int machine_free_tasks(uint64_t *ret, struct error *err)
{
	CLEANUP(freep) char *load = NULL;
	unsigned long long now;
	uint64_t pids, threads, most;

	if (read_number("/proc/sys/kernel/pid_max", &pids, err) < 0 ||
	    read_number("/proc/sys/kernel/threads-max", &threads, err) < 0 ||
	    fd_read_file_at(-EBADF, "/proc/loadavg", 128, &load, NULL, err) < 0)
		return -err->code;
	if (sscanf(load, "%*s %*s %*s %*u/%llu", &now) != 1)
		return error_set(err, EIO, "/proc/loadavg is not as expected");
	most = pids < threads ? pids : threads;
	*ret = most > now ? most - now : 0;
	return 0;
}

int machine_free_disk(int dirfd, uint64_t *ret, struct error *err)
{
	struct statvfs st;

	if (fstatvfs(dirfd, &st) < 0)
		return error_set(err, errno, "free space: %s", strerror(errno));
	*ret = (uint64_t)st.f_bavail * st.f_frsize;
	return 0;
}

int machine_check_inside(struct error *err)
{
	return access("/dev/userfaultfd", R_OK | W_OK) < 0 ?
		error_set(err, ENOTSUP, "this node has no /dev/userfaultfd, which a container with ids of its own "
			  "needs: Linux 6.1") : 0;
}

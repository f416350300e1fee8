#include <fcntl.h>
#include <linux/capability.h>
#include <linux/userfaultfd.h>
#include <sched.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>

#include "engine/base/fd.h"
#include "engine/base/units.h"
#include "engine/capability.h"
#include "engine/cgroup/cgroup.h"
#include "engine/devices.h"
#include "engine/network/network.h"
#include "engine/seccomp.h"
#include "migrate/admission/needs.h"
#include "migrate/criu_program.h"
#include "migrate/tls/credentials.h"
#include "tools/doctor.h"

#define WP_ASYNC (UINT64_C(1) << 15)	/* UFFD_FEATURE_WP_ASYNC, Linux 6.7 */
#define SOFT_DIRTY (UINT64_C(1) << 55)	/* of /proc/PID/pagemap */
#define DISK_WANTED (UINT64_C(1) << 30)
#define FILES_WANTED 1024
#define CERTIFICATE_SOON_S (30 * 86400)
#define TRIED "doctor-%d"

__attribute__((format(printf, 3, 4)))
static void tell(struct finding *f, enum finding_grade grade, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	f->grade = grade;
	(void)vsnprintf(f->found, sizeof(f->found), fmt, ap);
	va_end(ap);
}

static void advise(struct finding *f, const char *remedy)
{
	(void)snprintf(f->remedy, sizeof(f->remedy), "%s", remedy);
}

/* Calls try in a child, which may unshare and mount as it likes. */
static int apart(int (*try)(const struct node *node, struct error *err), const struct node *node, struct error *err)
{
	struct error said = { .code = ECHILD, .msg = "the process that tried it was killed" };
	int p[2];
	pid_t pid;

	if (pipe2(p, O_CLOEXEC) < 0)
		return error_set(err, errno, "pipe: %s", strerror(errno));
	pid = fork();
	if (pid == 0) {
		struct error out = { 0 };

		if (try(node, &out) == 0)
			out.code = 0;
		_exit(write(p[1], &out, sizeof(out)) != sizeof(out));
	}
	(void)close(p[1]);
	if (pid > 0) {
		(void)!read(p[0], &said, sizeof(said));
		(void)waitpid(pid, NULL, 0);
	}
	(void)close(p[0]);
	if (!said.code)
		return 0;
	*err = said;
	return -said.code;
}

/* ---- kernel ---- */

static void look_kernel(const struct node *node, struct finding *f)
{
	struct utsname u;
	unsigned major = 0, minor = 0;

	(void)node;
	(void)uname(&u);
	(void)sscanf(u.release, "%u.%u", &major, &minor);
	tell(f, FINDING_GOOD, "Linux %s, %s", u.release, u.machine);
	if (strcmp(u.machine, "x86_64") != 0) {
		tell(f, FINDING_BAD, "%s", u.machine);
		advise(f, "godwit is for x86-64 only");
	} else if (major < 5 || (major == 5 && minor < 15)) {
		tell(f, FINDING_BAD, "Linux %s is too old", u.release);
		advise(f, "install Linux 5.15 or newer; 6.7 to follow writes to memory with userfaultfd");
	}
}

static bool has_wp_async(void)
{
	CLEANUP(fd_closep) int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
	struct uffdio_api api = { .api = UFFD_API, .features = WP_ASYNC };

	return fd >= 0 && ioctl(fd, UFFDIO_API, &api) == 0 && (api.features & WP_ASYNC);
}

/* A page that was written has the bit only on kernels that follow it. */
static bool has_soft_dirty(void)
{
	CLEANUP(fd_closep) int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	size_t size = (size_t)sysconf(_SC_PAGESIZE);
	char *page = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint64_t entry = 0;

	if (page == MAP_FAILED)
		return false;
	*(volatile char *)page = 1;
	(void)!pread(pagemap, &entry, sizeof(entry), (off_t)((uintptr_t)page / size * sizeof(entry)));
	(void)munmap(page, size);
	return entry & SOFT_DIRTY;
}

static void look_tracking(const struct node *node, struct finding *f)
{
	(void)node;
	if (has_wp_async()) {
		tell(f, FINDING_GOOD, "writes to memory are followed with userfaultfd");
	} else if (has_soft_dirty()) {
		tell(f, FINDING_GOOD, "writes to memory are followed with soft-dirty bits");
	} else {
		tell(f, FINDING_LIMITED, "the kernel does not tell which memory was written: each round of a move "
		     "compares all of it");
		advise(f, "Linux 6.7 or newer, or CONFIG_MEM_SOFT_DIRTY");
	}
}

static void look_needs(const struct node *node, struct finding *f)
{
	static const char *const list[] = { "userfaultfd", "time-namespace", "cgroup-namespace", "overlay" };
	struct reasons why = { 0 };

	(void)node;
	needs_check(list, sizeof(list) / sizeof(*list), &why);
	tell(f, FINDING_GOOD, "userfaultfd, time and cgroup namespaces, overlay");
	if (why.n) {
		tell(f, FINDING_BAD, "containers can't move here: %s", why.list[0].message);
		advise(f, "a kernel that is configured for it");
	}
	reasons_free(&why);
}

/* ---- privileges ---- */

static void look_root(const struct node *node, struct finding *f)
{
	static const unsigned wanted[] = { CAP_SYS_ADMIN, CAP_NET_ADMIN, CAP_SYS_PTRACE, CAP_CHOWN, CAP_DAC_OVERRIDE,
					   CAP_FOWNER, CAP_KILL, CAP_MKNOD, CAP_SETUID, CAP_SETGID, CAP_SETPCAP,
					   CAP_SYS_CHROOT, CAP_SYS_RESOURCE };
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = { 0 };
	char missing[256] = "";

	(void)node;
	(void)syscall(SYS_capget, &header, data);
	for (size_t i = 0; i < sizeof(wanted) / sizeof(*wanted); i++)
		if (!(data[wanted[i] / 32].effective & (1u << (wanted[i] % 32))))
			(void)snprintf(missing + strlen(missing), sizeof(missing) - strlen(missing), " %s",
				       capability_name(wanted[i]));
	tell(f, FINDING_GOOD, "root with all capabilities that are needed");
	if (!strcmp(missing, " CAP_SYS_RESOURCE")) {
		tell(f, FINDING_LIMITED, "root, but without CAP_SYS_RESOURCE: a container whose limits (ulimit) are "
		     "above this process's own can't be restored here");
		advise(f, "run godwit where root has CAP_SYS_RESOURCE");
	} else if (missing[0]) {
		tell(f, FINDING_BAD, "missing:%s", missing);
		advise(f, "run godwit as root, outside of containers that take capabilities away");
	}
}

static void look_user_namespace(const struct node *node, struct finding *f)
{
	CLEANUP(freep) char *map = NULL;
	unsigned inside = 0, outside = 0, count = 0;
	struct error err;

	(void)node;
	tell(f, FINDING_GOOD, "the first user namespace");
	if (fd_read_file_at(-EBADF, "/proc/self/uid_map", 4096, &map, NULL, &err) < 0 ||
	    sscanf(map, "%u %u %u", &inside, &outside, &count) != 3 || inside || outside || count != UINT32_MAX) {
		tell(f, FINDING_BAD, "in a user namespace: device rules, CRIU and overlay want the machine's root");
		advise(f, "run godwit outside of it");
	}
}

static void look_files(const struct node *node, struct finding *f)
{
	struct rlimit l = { 0 };

	(void)node;
	(void)getrlimit(RLIMIT_NOFILE, &l);
	tell(f, FINDING_GOOD, "up to %llu open files a process", (unsigned long long)l.rlim_max);
	if (l.rlim_max < FILES_WANTED) {
		tell(f, FINDING_LIMITED, "only %llu open files a process", (unsigned long long)l.rlim_max);
		advise(f, "raise it: ulimit -Hn 1048576");
	}
}

static void look_seccomp(const struct node *node, struct finding *f)
{
	struct sock_fprog filter = { 0 };
	struct error err;

	(void)node;
	if (seccomp_filter(-EBADF, capability_default_mask(), &filter, &err) < 0) {
		tell(f, FINDING_BAD, "system call filter: %s", err.msg);
		advise(f, "a kernel with CONFIG_SECCOMP_FILTER, and libseccomp 2.5");
	} else {
		tell(f, FINDING_GOOD, "system call filter of %u instructions", filter.len);
	}
	free(filter.filter);
}

/* ---- cgroups ---- */

struct refused {
	char text[FINDING_TEXT_MAX];
};

static void note_refused(void *ctx, const char *why)
{
	struct refused *r = ctx;

	(void)snprintf(r->text + strlen(r->text), sizeof(r->text) - strlen(r->text), "%s%s", r->text[0] ? "; " : "",
		       why);
}

static void look_cgroup(const struct node *node, struct finding *f)
{
	const struct cgroup_limits limits = { .memory_bytes = 64 << 20, .cpu_millis = 500, .pids = 32 };
	struct refused refused = { "" };
	struct error err;
	bool pure = false;
	char name[32];

	(void)snprintf(name, sizeof(name), TRIED, (int)getpid());
	if (cgroup_is_pure_v2(&pure, &err) < 0 ||
	    cgroup_try_limits(node->config.cgroup, name, &limits, note_refused, &refused, &err) < 0) {
		tell(f, FINDING_BAD, "%s", err.msg);
		advise(f, "mount cgroup2 at /sys/fs/cgroup, or at /sys/fs/cgroup/unified beside version 1");
	} else if (refused.text[0]) {
		tell(f, FINDING_LIMITED, "no limits here: %s", refused.text);
		advise(f, "enable memory, cpu and pids (cgroup.subtree_control, or version 1 hierarchies)");
	} else {
		tell(f, FINDING_GOOD, "%s; limits of memory, processors and processes",
		     pure ? "pure version 2" : "hybrid: version 1 controllers, version 2 to freeze");
	}
}

static void look_freezer(const struct node *node, struct finding *f)
{
	static const struct cgroup_limits none;
	CLEANUP(cgroup_freep) struct cgroup *cg = NULL;
	struct error err, ignored;
	char name[32];
	int r;

	(void)snprintf(name, sizeof(name), TRIED, (int)getpid());
	r = cgroup_create(node->config.cgroup, name, &none, &cg, &err);
	if (r == 0)
		r = cgroup_freeze(cg, 1000000, &err);
	if (r == 0)
		r = cgroup_thaw(cg, &err);
	if (r == 0)
		r = devices_attach_default(cgroup_fd(cg), &err);
	if (r == 0)
		r = cgroup_kill(cg, 1000000, &err);
	if (cg)
		(void)cgroup_remove(cg, &ignored);
	tell(f, FINDING_GOOD, "freezing, killing and device rules (BPF) work");
	if (r < 0) {
		tell(f, FINDING_BAD, "%s", err.msg);
		advise(f, "a kernel with CONFIG_CGROUP_BPF and cgroup.kill (Linux 5.14)");
	}
}

/* ---- CRIU ---- */

static void look_criu(const struct node *node, struct finding *f)
{
	char text[CRIU_PROGRAM_TEXT_MAX];
	struct error err;

	(void)node;
	if (criu_program_describe(text, &err) < 0) {
		tell(f, FINDING_BAD, "containers can't move here: %s", err.msg);
		advise(f, "tools/setup installs it, or set GODWIT_CRIU to a CRIU of 4.1 or newer");
	} else {
		tell(f, FINDING_GOOD, "%s", text);
	}
}

static void look_criu_check(const struct node *node, struct finding *f)
{
	struct error err;

	(void)node;
	tell(f, FINDING_GOOD, "CRIU finds in this kernel what it needs");
	if (criu_program_check(&err) < 0) {
		tell(f, FINDING_BAD, "%s", err.msg);
		advise(f, "run it by hand: it says what is missing; a newer CRIU, or another kernel");
	}
}

/* ---- file system ---- */

static int try_overlay(const struct node *node, struct error *err)
{
	char base[NODE_TEXT_MAX + 64], options[4 * sizeof(base)], part[sizeof(base) + 16], name[32];
	static const char *const parts[] = { "", "/lower", "/upper", "/work", "/merged", NULL };
	struct error ignored;
	int r = 0;

	(void)snprintf(name, sizeof(name), TRIED, (int)getpid());
	(void)snprintf(base, sizeof(base), "%s/cache/%s", node->path, name);
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return error_set(err, errno, "new mount namespace: %s", strerror(errno));
	for (const char *const *d = parts; *d; d++) {
		(void)snprintf(part, sizeof(part), "%s%s", base, *d);
		if (r == 0 && mkdir(part, 0700) < 0)
			r = error_set(err, errno, "mkdir %s: %s", part, strerror(errno));
	}
	(void)snprintf(options, sizeof(options), "lowerdir=%s/lower,upperdir=%s/upper,workdir=%s/work", base,
		       base, base);
	(void)snprintf(part, sizeof(part), "%s/merged", base);
	if (r == 0 && mount("overlay", part, "overlay", 0, options) < 0)
		r = error_set(err, errno, "mount an overlay in %s: %s", node->path, strerror(errno));
	else if (r == 0)
		(void)umount(part);
	(void)fd_remove_tree_at(AT_FDCWD, base, &ignored);
	return r;
}

static void look_overlay(const struct node *node, struct finding *f)
{
	struct error err;

	tell(f, FINDING_GOOD, "overlay works in %s", node->path);
	if (apart(try_overlay, node, &err) < 0) {
		tell(f, FINDING_BAD, "%s", err.msg);
		advise(f, "put the state directory (--state) on ext4, xfs or btrfs, not on an overlay");
	}
}

static void look_space(const struct node *node, struct finding *f)
{
	struct statvfs st = { 0 };
	char text[UNITS_TEXT_SIZE];
	uint64_t bytes;

	(void)fstatvfs(node->state_fd, &st);
	bytes = (uint64_t)st.f_bavail * st.f_frsize;
	tell(f, FINDING_GOOD, "%s free in %s", units_format_size(bytes, text), node->path);
	if (st.f_flag & ST_RDONLY) {
		tell(f, FINDING_BAD, "%s is read-only", node->path);
		advise(f, "another state directory (--state)");
	} else if (bytes < DISK_WANTED) {
		tell(f, FINDING_LIMITED, "only %s free in %s", text, node->path);
		advise(f, "make room: memory that moves here passes through files there");
	}
}

/* ---- network ---- */

static int try_network(const struct node *node, struct error *err)
{
	struct network_endpoint ep = { .host_ifname = "gwdoctor1", .bridge = "gwdoctor0",
				       .address = "192.0.2.2/24", .mac = { 2, 0x67, 0, 0, 0, 2 } };
	CLEANUP(fd_closep) int netns = -EBADF;

	(void)node;
	if (unshare(CLONE_NEWNET) < 0)
		return error_set(err, errno, "new network namespace: %s", strerror(errno));
	if (network_bridge_ensure(ep.bridge, "192.0.2.1/24", err) < 0 ||
	    network_namespace_create(&netns, err) < 0 ||
	    network_attach(netns, &ep, NETWORK_GATE_CLOSED, err) < 0 ||
	    network_gate_set(ep.host_ifname, NETWORK_GATE_OPEN, err) < 0)
		return -err->code;
	return network_detach(ep.host_ifname, err);
}

static void look_network(const struct node *node, struct finding *f)
{
	struct error err;

	tell(f, FINDING_GOOD, "bridge, veth and the gate (tc) work");
	if (apart(try_network, node, &err) < 0) {
		tell(f, FINDING_BAD, "only --network none works: %s", err.msg);
		advise(f, "a kernel with bridge, veth, sch_ingress and cls_bpf (modprobe)");
	}
}

static void look_forwarding(const struct node *node, struct finding *f)
{
	CLEANUP(freep) char *text = NULL;
	struct error err;

	(void)node;
	tell(f, FINDING_GOOD, "IPv4 packets are forwarded");
	if (fd_read_file_at(-EBADF, "/proc/sys/net/ipv4/ip_forward", 16, &text, NULL, &err) < 0 || text[0] != '1') {
		tell(f, FINDING_LIMITED, "IPv4 packets are not forwarded: containers reach one another and "
		     "their node only");
		advise(f, "sysctl net.ipv4.ip_forward=1");
	}
}

/* ---- cluster ---- */

static void look_certificate(const struct node *node, struct finding *f)
{
	CLEANUP(credentials_freep) struct credentials *c = NULL;
	char until[CERTIFICATE_DATE_SIZE];
	struct error err;
	int r;

	if (node->insecure) {
		tell(f, FINDING_LIMITED, "not used: nodes talk without TLS, as --insecure says; who reaches this one "
		     "is root on it");
		return;
	}
	r = credentials_load(node, &c, &err);
	if (r < 0) {
		tell(f, r == -ENOKEY ? FINDING_LIMITED : FINDING_BAD, "containers can't move: %s", err.msg);
		return;
	}
	certificate_date(c->facts.not_after, until);
	tell(f, FINDING_GOOD, "node '%s' is of '%s' until %s", c->facts.name, c->facts.issuer, until);
	if (c->facts.not_after - time(NULL) < CERTIFICATE_SOON_S) {
		f->grade = FINDING_LIMITED;
		advise(f, "'godwit tls issue' on the node that has the CA, then 'godwit tls install' here");
	}
}

const struct doctor_look doctor_looks[] = {
	{ "kernel", "version", look_kernel },
	{ "kernel", "memory tracking", look_tracking },
	{ "kernel", "what a move needs", look_needs },
	{ "privileges", "capabilities", look_root },
	{ "privileges", "user namespace", look_user_namespace },
	{ "privileges", "open files", look_files },
	{ "privileges", "seccomp", look_seccomp },
	{ "cgroups", "limits", look_cgroup },
	{ "cgroups", "freezer", look_freezer },
	{ "CRIU", "program", look_criu },
	{ "CRIU", "kernel", look_criu_check },
	{ "file system", "overlay", look_overlay },
	{ "file system", "space", look_space },
	{ "network", "interfaces", look_network },
	{ "network", "forwarding", look_forwarding },
	{ "cluster", "certificate", look_certificate },
	{ NULL, NULL, NULL },
};

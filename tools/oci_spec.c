#include <fcntl.h>
#include <string.h>

#include "engine/base/fd.h"
#include "engine/oci/oci_namespaces.h"
#include "tools/oci.h"

struct spec_options {
	const char *bundle;
};

static const struct option_row rows[] = {
	OPTION('b', "bundle", TEXT, "DIR", struct spec_options, bundle, "the folder to write config.json into [.]"),
	OPTION_END,
};

static const struct spec_options defaults = { .bundle = "." };

/* What runc's spec command writes: a shell in a terminal with the usual isolation. */
static const char template[] = "{"
	"\"ociVersion\": \"" OCI_VERSION "\","
	"\"process\": {\"terminal\": true, \"user\": {\"uid\": 0, \"gid\": 0}, \"args\": [\"sh\"],"
	" \"env\": [\"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\", \"TERM=xterm\"],"
	" \"cwd\": \"/\", \"capabilities\": {"
	"  \"bounding\": [\"CAP_AUDIT_WRITE\", \"CAP_KILL\", \"CAP_NET_BIND_SERVICE\"],"
	"  \"effective\": [\"CAP_AUDIT_WRITE\", \"CAP_KILL\", \"CAP_NET_BIND_SERVICE\"],"
	"  \"permitted\": [\"CAP_AUDIT_WRITE\", \"CAP_KILL\", \"CAP_NET_BIND_SERVICE\"]},"
	" \"rlimits\": [{\"type\": \"RLIMIT_NOFILE\", \"hard\": 1024, \"soft\": 1024}], \"noNewPrivileges\": true},"
	"\"root\": {\"path\": \"rootfs\", \"readonly\": true}, \"hostname\": \"godwit\","
	"\"mounts\": ["
	" {\"destination\": \"/proc\", \"type\": \"proc\", \"source\": \"proc\"},"
	" {\"destination\": \"/dev\", \"type\": \"tmpfs\", \"source\": \"tmpfs\","
	"  \"options\": [\"nosuid\", \"strictatime\", \"mode=755\", \"size=65536k\"]},"
	" {\"destination\": \"/dev/pts\", \"type\": \"devpts\", \"source\": \"devpts\","
	"  \"options\": [\"nosuid\", \"noexec\", \"newinstance\", \"ptmxmode=0666\", \"mode=0620\", \"gid=5\"]},"
	" {\"destination\": \"/dev/shm\", \"type\": \"tmpfs\", \"source\": \"shm\","
	"  \"options\": [\"nosuid\", \"noexec\", \"nodev\", \"mode=1777\", \"size=65536k\"]},"
	" {\"destination\": \"/dev/mqueue\", \"type\": \"mqueue\", \"source\": \"mqueue\","
	"  \"options\": [\"nosuid\", \"noexec\", \"nodev\"]},"
	" {\"destination\": \"/sys\", \"type\": \"sysfs\", \"source\": \"sysfs\","
	"  \"options\": [\"nosuid\", \"noexec\", \"nodev\", \"ro\"]},"
	" {\"destination\": \"/sys/fs/cgroup\", \"type\": \"cgroup\", \"source\": \"cgroup\","
	"  \"options\": [\"nosuid\", \"noexec\", \"nodev\", \"relatime\", \"ro\"]}],"
	"\"linux\": {\"resources\": {\"devices\": [{\"allow\": false, \"access\": \"rwm\"}]},"
	" \"namespaces\": [{\"type\": \"pid\"}, {\"type\": \"network\"}, {\"type\": \"ipc\"}, {\"type\": \"uts\"},"
	"  {\"type\": \"mount\"}, {\"type\": \"cgroup\"}],"
	" \"maskedPaths\": [\"/proc/acpi\", \"/proc/asound\", \"/proc/kcore\", \"/proc/keys\", \"/proc/latency_stats\","
	"  \"/proc/timer_list\", \"/proc/timer_stats\", \"/proc/sched_debug\", \"/sys/firmware\", \"/proc/scsi\"],"
	" \"readonlyPaths\": [\"/proc/bus\", \"/proc/fs\", \"/proc/irq\", \"/proc/sys\", \"/proc/sysrq-trigger\"]}}";

static int write_spec(const char *bundle, struct error *err)
{
	json_t *j = json_loads(template, 0, NULL);
	CLEANUP(freep) char *text = j ? json_dumps(j, JSON_INDENT(2)) : NULL;
	CLEANUP(fd_closep) int dir = -EBADF, fd = -EBADF;

	json_decref(j);
	if (!text)
		return error_set(err, ENOMEM, "out of memory");
	if (fd_open_dir_at(AT_FDCWD, bundle, false, 0, &dir, err) < 0)
		return error_wrap(err, "--bundle");
	fd = openat(dir, "config.json", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
	if (fd < 0)
		return error_set(err, errno, "config.json: %s%s", strerror(errno),
				 errno == EEXIST ? ": move it away first" : "");
	return fd_write_full(fd, text, strlen(text), err);
}

static int spec_run(const struct invocation *inv)
{
	const struct spec_options *o = inv->options;
	struct error err;

	return write_spec(o->bundle, &err) < 0 ? oci_fail(inv, &err) : EXIT_OK;
}

static json_t *words(const char *const *list)
{
	json_t *all = json_array();

	for (size_t i = 0; list[i]; i++)
		(void)json_array_append_new(all, json_string(list[i]));
	return all;
}

static json_t *namespace_names(void)
{
	json_t *all = json_array();
	const char *name, *proc;
	unsigned flag;

	for (size_t i = 0; (name = oci_namespace_name(i, &flag, &proc)); i++)
		(void)json_array_append_new(all, json_string(name));
	return all;
}

static json_t *capability_names(void)
{
	json_t *all = json_array();
	const char *name;

	for (unsigned i = 0; (name = capability_name(i)); i++)
		(void)json_array_append_new(all, json_string(name));
	return all;
}

static void add_key(void *ctx, const char *path, bool refused)
{
	if (!refused)
		(void)json_array_append_new(ctx, json_string(path));
}

/* features.md and features-linux.md; the fields of config.json are an annotation of ours. */
static int features_run(const struct invocation *inv)
{
	static const char *const hooks[] = { "prestart", "createRuntime", "createContainer", "startContainer",
					     "poststart", "poststop", NULL };
	json_t *linux_ = json_pack("{s:o, s:o, s:{s:b, s:b, s:b, s:b, s:b}, s:{s:b, s:o, s:o, s:o, s:o}, "
				   "s:{s:b}, s:{s:b}, s:{s:b}, s:{s:{s:b}}}",
				   "namespaces", namespace_names(), "capabilities", capability_names(),
				   "cgroup", "v1", 1, "v2", 1, "systemd", 1, "systemdUser", 0, "rdma", 1,
				   "seccomp", "enabled", 1, "actions", words(oci_seccomp_actions()),
				   "operators", words(oci_seccomp_operators()),
				   "archs", words(oci_seccomp_architectures()),
				   "knownFlags", words(oci_seccomp_flags()),
				   "apparmor", "enabled", oci_process_has_apparmor(),
				   "selinux", "enabled", oci_process_has_selinux(), "intelRdt", "enabled", 0,
				   "mountExtensions", "idmap", "enabled", 1);
	json_t *fields = json_array();

	(void)inv;
	oci_decode_each_key(&oci_spec_type, "", add_key, fields);
	return oci_print(json_pack("{s:s, s:s, s:o, s:o, s:o, s:{s:s}, s:o}", "ociVersionMin", "1.0.0",
		"ociVersionMax",
				   OCI_VERSION, "hooks", words(hooks), "mountOptions",
				   words(oci_mount_option_names()),
				   "linux", linux_, "annotations", "org.godwit.version", GODWIT_VERSION,
				   "configFields", fields));
}

const struct command command_oci_spec = {
	.name = "oci spec", .usage = "", .summary = "write a config.json to begin with", .options = rows,
	.options_size = sizeof(struct spec_options), .defaults = &defaults, .run = spec_run,
};

const struct command command_oci_features = {
	.name = "oci features", .usage = "", .summary = "print what this runtime can do as JSON", .run = features_run,
};

#include <jansson.h>
#include <string.h>
#include <sys/stat.h>

#include "engine/base/cleanup.h"
#include "tools/commands.h"
#include "tools/gate_json.h"

static json_t *state_json(const struct container_state *st)
{
	return json_pack("{s:s,s:i,s:i,s:b,s:i,s:I,s:I,s:i,s:i,s:i,s:b,s:s,s:i,s:s}",
			 "status", container_status_name(st->status),
			 "pid", (int)st->pid, "monitor_pid", (int)st->monitor_pid, "monitor_alive", st->monitor_alive,
			 "exit_code", st->exit_code, "started_us", (json_int_t)st->started_us,
			 "finished_us", (json_int_t)st->finished_us, "migrations", (int)st->migrations,
			 "oom_kills", (int)st->oom_kills, "restarts", (int)st->restarts,
			 "stopped", st->stopped, "health", health_name(st->health.status),
			 "health_failures", (int)st->health.failures, "reason", st->reason);
}

/* null while nothing is on its interface that counts; that is, while it does not move. */
static json_t *gate_of(const char *host_ifname)
{
	struct gate_counters counters;
	enum gate_state state;
	struct error ignored;
	json_t *o;

	if (gate_look(host_ifname, &state, &counters, &ignored) != 1)
		return json_null();
	o = gate_json(&counters);
	(void)json_object_set_new(o, "state", json_string(gate_state_name(state)));
	return o;
}

static json_t *network_json(const struct container *c)
{
	const struct network_endpoint *ep = &c->spec->endpoint;
	char mac[18], ports[PORT_LIST_TEXT_MAX];
	struct network_endpoint here;

	if (!ep->address[0])
		return json_pack("{s:s}", "mode", "none");
	network_mac_format(ep->mac, mac);
	container_endpoint(c, &here);
	port_list_format(ep->ports, ep->n_ports, ports);
	return json_pack("{s:s,s:s,s:s,s:s,s:s,s:s,s:s,s:o,s:s*,s:s*,s:s*}", "mode", "bridge",
			 "address", ep->address, "ports", ports, "gateway", ep->gateway, "mac", mac,
			 "bridge", here.bridge, "host_interface", here.host_ifname, "gate", gate_of(here.host_ifname),
			 "network", *ep->network ? ep->network : NULL,
			 "address2", *ep->address2 ? ep->address2 : NULL,
			 "gateway2", *ep->gateway2 ? ep->gateway2 : NULL);
}

static json_t *limits_json(const struct cgroup_limits *l)
{
	return json_pack("{s:I,s:I,s:I}", "memory_bytes", (json_int_t)l->memory_bytes,
			 "cpu_millis", (json_int_t)l->cpu_millis, "pids", (json_int_t)l->pids);
}

/* null while there is no cgroup. */
static json_t *cgroup_json(const struct container *c)
{
	CLEANUP(cgroup_freep) struct cgroup *cg = NULL;
	struct cgroup_limits limits = { 0 };
	struct cgroup_usage usage = { 0 };
	struct error ignored;

	if (container_cgroup(c, false, &cg, &ignored) < 0 ||
	    cgroup_get_limits(cg, &limits, &ignored) < 0 || cgroup_get_usage(cg, &usage, &ignored) < 0)
		return json_null();
	return json_pack("{s:s,s:o,s:{s:I,s:I,s:I,s:I,s:I,s:I,s:I}}", "path", cgroup_path(cg),
			 "limits", limits_json(&limits), "usage", "memory_bytes", (json_int_t)usage.memory_bytes,
			 "memory_peak_bytes", (json_int_t)usage.peak_bytes, "oom_kills", (json_int_t)usage.oom_kills,
			 "cpu_us", (json_int_t)usage.cpu_us, "pids", (json_int_t)usage.pids,
			 "read_bytes", (json_int_t)usage.read_bytes,
			 "written_bytes", (json_int_t)usage.written_bytes);
}

static json_t *namespaces_json(pid_t pid)
{
	static const char *const kinds[] = { "cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts" };
	json_t *o = json_object();

	for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++) {
		char path[64];
		struct stat st;

		(void)snprintf(path, sizeof(path), "/proc/%d/ns/%s", (int)pid, kinds[i]);
		if (pid > 0 && stat(path, &st) == 0)
			(void)json_object_set_new(o, kinds[i], json_integer((json_int_t)st.st_ino));
	}
	return o;
}

static json_t *spec_json(const struct spec *s, struct error *err)
{
	CLEANUP(freep) char *text = NULL;
	json_t *v = NULL;

	if (spec_to_json(s, &text, err) < 0)
		return NULL;
	v = json_loads(text, 0, NULL);
	if (!v)
		(void)error_set(err, ENOMEM, "out of memory");
	return v;
}

static int inspect_one(const struct node *node, const char *name, json_t *list, struct error *err)
{
	CLEANUP(container_freep) struct container *c = NULL;
	char folder[NODE_TEXT_MAX + SPEC_NAME_MAX + 32];
	struct container_state st;
	json_t *spec;

	if (container_open(node, name, &c, err) < 0 || container_state(c, &st, err) < 0)
		return -err->code;
	spec = spec_json(c->spec, err);
	if (!spec)
		return error_wrap(err, "container '%s'", name);
	(void)snprintf(folder, sizeof(folder), "%s/containers/%s", node->path, name);
	return json_array_append_new(list, json_pack("{s:s,s:s,s:s,s:s,s:s,s:I,s:o,s:o,s:o,s:o,s:o}",
		"name", name, "node", node->config.name, "image", c->spec->image,
		"image_digest", c->spec->image_digest, "folder", folder,
		"created_us", (json_int_t)c->spec->created_us, "state", state_json(&st),
		"network", network_json(c), "cgroup", cgroup_json(c),
		"namespaces", namespaces_json(container_status_is_live(st.status) ? st.pid : 0),
		"spec", spec)) < 0 ? error_set(err, ENOMEM, "out of memory") : 0;
}

static int inspect_run(const struct invocation *inv)
{
	json_t *list = json_array();
	int code = EXIT_OK;
	struct error err;

	for (int i = 0; i < inv->argc; i++)
		if (inspect_one(inv->node, inv->argv[i], list, &err) < 0)
			code = command_fail(&err, EXIT_FAILED);
	if (json_dumpf(list, stdout, JSON_INDENT(2)) < 0 || puts("") < 0)
		code = EXIT_FAILED;
	json_decref(list);
	return code;
}

const struct command command_inspect = {
	.name = "inspect", .usage = "NAME...", .summary = "print all about containers, as JSON",
	.notes = "The array has an object for each: state, network, cgroup (the limits in force, the\n"
		 "usage), inodes of the namespaces, and spec, its configuration as OCI has it.\n",
	.min_args = 1, .max_args = ARGS_MANY, .run = inspect_run,
};

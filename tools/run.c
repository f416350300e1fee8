#include <string.h>

#include "engine/monitor/monitor.h"
#include "engine/network/address.h"
#include "engine/network/named_network.h"
#include "engine/network/nat.h"
#include "engine/userns_pool.h"
#include "tools/commands.h"
#include "tools/launch.h"
#include "tools/run.h"
#include "tools/session.h"

#define ROW(letter, name, kind, value, member, help) \
	OPTION(letter, name, kind, value, struct run_options, member, help)

static const struct option_row rows[] = {
	ROW('d', "detach", FLAG, NULL, detach, "leave it running, print its name"),
	ROW(0, "rm", FLAG, NULL, remove, "remove the container when it has exited"),
	ROW('i', "interactive", FLAG, NULL, interactive, "give it our standard input"),
	ROW('t', "tty", FLAG, NULL, terminal, "give it a terminal"),
	ROW(0, "nested", FLAG, NULL, nested, "let an engine run in it; such a container can take the machine over"),
	ROW(0, "name", TEXT, "NAME", name, "its name [a random one]"),
	ROW(0, "hostname", TEXT, "NAME", hostname, "its host name [its name]"),
	ROW('e', "env", LIST, "K[=V]", env, "set a variable, or pass ours on; repeatable"),
	ROW('w', "workdir", TEXT, "DIR", cwd, "working directory [/]"),
	ROW('u', "user", TEXT, "USER[:GROUP]", user, "user and group, names or numbers [0]"),
	ROW('v', "volume", LIST, "SRC:DST[:ro,idmap]", volumes, "bind a path of this machine; repeatable"),
	ROW(0, "userns", TEXT, "auto|map|host", userns, "ids of its own, or the host's [host]"),
	ROW(0, "uidmap", LIST, "CTR:HOST:SIZE", uid_maps, "uids of the host that those inside are; repeatable"),
	ROW(0, "gidmap", LIST, "CTR:HOST:SIZE", gid_maps, "the same of groups [as --uidmap]; repeatable"),
	ROW(0, "shm-size", SIZE, "SIZE", shm_bytes, "what /dev/shm may hold [64m]"),
	ROW('m', "memory", SIZE, "SIZE", memory_bytes, "memory limit, like 64m or 1.5g [none]"),
	ROW(0, "cpus", CPUS, "N", cpu_millis, "processors it may use, like 0.5 [all]"),
	ROW(0, "pids-limit", COUNT, "N", pids, "processes it may have; 0: no limit [2048]"),
	ROW(0, "device-read-bps", LIST, "PATH:RATE", disks.rates[DISK_READ_BPS],
	    "bytes a second from that disk, like /dev/sda:10m; repeatable"),
	ROW(0, "device-write-bps", LIST, "PATH:RATE", disks.rates[DISK_WRITE_BPS],
	    "bytes a second to it"),
	ROW(0, "device-read-iops", LIST, "PATH:RATE", disks.rates[DISK_READ_IOPS],
	    "reads a second from it"),
	ROW(0, "device-write-iops", LIST, "PATH:RATE", disks.rates[DISK_WRITE_IOPS],
	    "writes a second to it"),
	ROW(0, "blkio-weight", COUNT, "N", disks.weight, "its share of disk I/O, 10 to 1000"),
	ROW(0, "ip", TEXT, "ADDRESS", address, "its address [the lowest that is free]"),
	ROW('p', "publish", LIST, "PORT", ports,
	    "[ADDRESS:]PORT:CONTAINER-PORT[/udp] of this node leads to it; repeatable"),
	ROW(0, "restart", TEXT, "POLICY", restart, "no, on-failure[:N], always or unless-stopped [no]"),
	ROW(0, "health-cmd", TEXT, "COMMAND", health_cmd, "what tells whether it is well, for sh -c in it"),
	ROW(0, "health-interval", DURATION, "TIME", health_interval_us, "between two checks [30s]"),
	ROW(0, "health-timeout", DURATION, "TIME", health_timeout_us, "how long one may take [30s]"),
	ROW(0, "health-retries", COUNT, "N", health_retries, "failures in a row that make it unhealthy [3]"),
	ROW(0, "health-start-period", DURATION, "TIME", health_start_period_us, "failures before do not count [0]"),
	ROW(0, "network", TEXT, "NAME|bridge|none", network, "its network, or the node's own bridge [bridge]"),
	OPTION_END,
};

static int choose_address(const struct node *node, const struct run_options *o, struct network_endpoint *ep,
			  struct error *err)
{
	struct named_network n;

	if (!strcmp(o->network, "bridge"))
		return address_choose(node, o->address, ep, err);
	if (named_network_load(node, o->network, &n, err) < 0)
		return -err->code;
	return named_network_choose(node, &n, o->address, ep, err);
}

static int give_address(const struct node *node, const struct run_options *o, struct spec *s,
			struct error *err)
{
	if (!strcmp(o->network, "none"))
		return 0;
	if (choose_address(node, o, &s->endpoint, err) < 0)
		return -err->code;
	for (size_t i = 0; i < o->ports.n; i++)
		if (port_list_add(s->endpoint.ports, &s->endpoint.n_ports, o->ports.items[i], err) < 0)
			return error_wrap(err, "-p %s", o->ports.items[i]);
	return nat_check_free(&s->endpoint, err);
}

static int give_ids(const struct node *node, const struct run_options *o, struct spec *s, struct error *err)
{
	s->userns_auto = o->userns && !strcmp(o->userns, "auto");
	if (s->userns_auto && userns_choose(node, s, err) < 0)
		return error_wrap(err, "--userns auto");
	return spec_check_userns(s, err) < 0 ? -err->code : userns_check_free(node, &s->userns, err);
}

/* Under the node's lock from looking at the image to having a folder, so that
 * neither the image nor the name nor the address nor the ids go to somebody else. */
static int create(const struct invocation *inv, struct container **ret, struct error *err)
{
	const struct run_options *o = inv->options;
	CLEANUP(spec_freep) struct spec *s = NULL;
	CLEANUP(fd_closep) int lock = -EBADF;

	if (node_lock(inv->node, &lock, err) < 0 ||
	    run_spec(inv->node, o, inv->argv[0], inv->argv + 1, &s, err) < 0 ||
	    give_address(inv->node, o, s, err) < 0 || give_ids(inv->node, o, s, err) < 0 ||
	    container_create(inv->node, s, CONTAINER_CREATED, ret, err) < 0)
		return -err->code;
	s = NULL;
	return 0;
}

static const char *wrong_ids(const struct run_options *o)
{
	const char *mode = o->userns ? o->userns : o->uid_maps.n || o->gid_maps.n ? "map" : "host";
	bool map = !strcmp(mode, "map");

	if (!map && strcmp(mode, "auto") != 0 && strcmp(mode, "host") != 0)
		return "--userns is auto, map or host";
	if (map && !o->uid_maps.n && !o->gid_maps.n)
		return "--userns map needs --uidmap or --gidmap";
	if (o->nested && strcmp(mode, "host") != 0)
		return "--nested needs --userns host";
	return !map && (o->uid_maps.n || o->gid_maps.n) ? "--uidmap and --gidmap need --userns map" : NULL;
}

static const char *wrong_options(const struct run_options *o)
{
	if (o->ports.n && !strcmp(o->network, "none"))
		return "-p and --network none exclude one another";
	if (o->address && !strcmp(o->network, "none"))
		return "--ip and --network none exclude one another";
	if (o->remove && o->restart && strcmp(o->restart, "no") != 0)
		return "--rm and --restart exclude one another";
	if (wrong_ids(o))
		return wrong_ids(o);
	if (!o->health_interval_us || !o->health_timeout_us || !o->health_retries)
		return "--health-interval, --health-timeout and --health-retries are more than 0";
	if (o->terminal && !o->detach && o->interactive && !isatty(STDIN_FILENO))
		return "-t: standard input is not a terminal";
	return NULL;
}

static int attend(struct container *c, const struct run_options *o, int control, pid_t pid)
{
	const struct session s = { .control = control, .pid = pid, .terminal = o->terminal && isatty(STDIN_FILENO),
				   .input = o->interactive };
	struct error err;
	int code, r;

	r = session_run(&s, &code, &err);
	if (r < 0) {
		(void)error_wrap(&err, "container '%s'", c->name);
		return command_fail(&err, EXIT_ENGINE);
	}
	if (r > 0)
		return EXIT_OK;
	launch_reap();
	return code;
}

static int run_run(const struct invocation *inv)
{
	const struct run_options *o = inv->options;
	CLEANUP(container_freep) struct container *c = NULL;
	CLEANUP(fd_closep) int control = -EBADF;
	const struct launch how = { .first = true, .attach = !o->detach };
	struct error err;
	pid_t pid;

	if (wrong_options(o))
		return command_usage_error(inv->command, "run: %s", wrong_options(o));
	if (create(inv, &c, &err) < 0)
		return command_fail(&err, EXIT_ENGINE);
	if (launch(c, &how, &control, &pid, &err) < 0)
		return command_fail(&err, launch_exit_code(&err));
	container_unlock(c);
	if (!o->detach)
		return attend(c, o, control, pid);
	return puts(c->name) < 0;
}

const struct command command_run = {
	.name = "run",
	.usage = "IMAGE COMMAND [ARGUMENT]...",
	.summary = "start a program in a new container",
	.notes = "Attached, godwit ends with the exit code of the program; 125 when godwit itself\n"
		 "failed, 126 when the program can't be executed, 127 when there is none. Signals\n"
		 "are passed on. ctrl-p ctrl-q on a terminal leaves the container running.\n",
	.options = rows, .options_size = sizeof(struct run_options),
	.defaults = &(const struct run_options){ .pids = RUN_PIDS_DEFAULT, .network = "bridge",
						 .health_interval_us = HEALTH_INTERVAL_US,
						 .health_timeout_us = HEALTH_TIMEOUT_US,
						 .health_retries = HEALTH_RETRIES },
	.min_args = 2, .max_args = ARGS_MANY, .command_follows = true, .enters_container = true, .run = run_run,
};

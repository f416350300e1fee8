#include <time.h>

#include "migrate/serve/server.h"
#include "tools/commands.h"

struct serve_options {
	const char *listen;
	bool insecure;
};

static const struct serve_options defaults = { .listen = ":4967" };

static const struct option_row rows[] = {
	OPTION('l', "listen", TEXT, "ADDR[:PORT]", struct serve_options, listen,
	       "where to listen [all addresses, port 4967]"),
	OPTION(0, "insecure", FLAG, NULL, struct serve_options, insecure,
	       "accept containers from anybody who can connect"),
	OPTION_END,
};

static void print_line(void *ctx, const char *line)
{
	char stamp[32];
	time_t now = time(NULL);
	struct tm tm;

	(void)ctx;
	(void)strftime(stamp, sizeof(stamp), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &tm));
	fprintf(stderr, "%s %s\n", stamp, line);
}

static int serve_run(const struct invocation *inv)
{
	const struct serve_options *o = inv->options;
	const struct server_options options = { .listen = o->listen, .log = print_line };
	CLEANUP(server_freep) struct server *server = NULL;
	char address[128];
	struct error err;

	if (!o->insecure)
		return command_usage_error(inv->command, "peers are not authenticated yet, and who may send a "
					   "container runs code as root here; on a trusted network say --insecure");
	if (server_open(inv->node, &options, &server, address, &err) < 0)
		return command_fail(&err, EXIT_FAILED);
	printf("%s listens on %s\n", inv->node->config.name, address);
	(void)fflush(stdout);
	if (server_run(server, &err) < 0)
		return command_fail(&err, EXIT_FAILED);
	return EXIT_OK;
}

const struct command command_serve = {
	.name = "serve", .usage = "", .summary = "accept containers from other nodes",
	.notes = "Runs in the foreground until SIGTERM; what it does goes to stderr. Containers don't\n"
		 "depend on it. It also settles this node's migrations that are in doubt, as\n"
		 "'godwit resolve' does, and asks again until the target answers.\n",
	.options = rows, .options_size = sizeof(struct serve_options), .defaults = &defaults,
	.min_args = 0, .max_args = 0, .enters_container = true, .run = serve_run,
};

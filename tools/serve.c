#include <time.h>

#include "migrate/serve/server.h"
#include "migrate/tls/credentials.h"
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
	       "without TLS: accept containers from anybody who can connect"),
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
	CLEANUP(credentials_freep) struct credentials *credentials = NULL;
	CLEANUP(server_freep) struct server *server = NULL;
	char address[128];
	struct error err;

	inv->node->insecure |= o->insecure;
	if (!inv->node->insecure && credentials_load(inv->node, &credentials, &err) < 0)
		return command_fail(&err, EXIT_FAILED);
	if (server_open(inv->node, &options, &server, address, &err) < 0)
		return command_fail(&err, EXIT_FAILED);
	credentials_free(TAKE_PTR(credentials));	/* read again for each connection */
	printf("%s listens on %s%s\n", inv->node->config.name, address,
	       inv->node->insecure ? ", without TLS: who can connect can run code as root here" : "");
	(void)fflush(stdout);
	if (server_run(server, &err) < 0)
		return command_fail(&err, EXIT_FAILED);
	return EXIT_OK;
}

const struct command command_serve = {
	.name = "serve", .usage = "", .summary = "accept containers from other nodes",
	.notes = "Other nodes are those with a certificate of the same CA, see 'godwit help tls init'.\n"
		 "Runs in the foreground until SIGTERM; what it does goes to stderr. Containers don't\n"
		 "depend on it. It also settles this node's migrations that are in doubt, as\n"
		 "'godwit resolve' does, and asks again until the target answers.\n",
	.options = rows, .options_size = sizeof(struct serve_options), .defaults = &defaults,
	.min_args = 0, .max_args = 0, .enters_container = true, .run = serve_run,
};

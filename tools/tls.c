#include <fcntl.h>
#include <jansson.h>
#include <string.h>
#include <unistd.h>

#include "engine/base/fd.h"
#include "migrate/tls/authority.h"
#include "migrate/tls/credentials.h"
#include "tools/commands.h"

#define DAY_S 86400
#define DAYS_MAX 36500

struct init_options {
	uint32_t days;
};

struct issue_options {
	const char *output;
	struct option_list hosts;
	uint32_t days;
};

struct show_options {
	bool json;
};

static const struct init_options init_defaults = { .days = AUTHORITY_NODE_DAYS };
static const struct issue_options issue_defaults = { .days = AUTHORITY_NODE_DAYS };

static const struct option_row init_rows[] = {
	OPTION(0, "days", COUNT, "N", struct init_options, days, "how long this node's certificate is good [825]"),
	OPTION_END,
};

static const struct option_row issue_rows[] = {
	OPTION('o', "output", TEXT, "FILE", struct issue_options, output, "a new file, only root's [standard output]"),
	OPTION(0, "host", LIST, "HOST", struct issue_options, hosts,
	       "a name by which others call the node, beside its own; repeatable"),
	OPTION(0, "days", COUNT, "N", struct issue_options, days, "how long it is good [825]"),
	OPTION_END,
};

static const struct option_row show_rows[] = {
	OPTION(0, "json", FLAG, NULL, struct show_options, json, "a JSON object"),
	OPTION_END,
};

static bool is_wrong(uint32_t days)
{
	return days == 0 || days > DAYS_MAX;
}

/* ---- init, issue ---- */

static int init_run(const struct invocation *inv)
{
	const struct init_options *o = inv->options;
	const char *name = inv->node->config.name;
	struct error err;

	if (is_wrong(o->days))
		return command_usage_error(inv->command, "--days is between 1 and %d", DAYS_MAX);
	if (authority_init(inv->node, o->days, &err) < 0)
		return command_fail(&err, EXIT_FAILED);
	printf("node '%s' has the CA of a new cluster, and a certificate; for each other node:\n"
	       "  godwit tls issue NODE -o FILE    here\n"
	       "  godwit tls install FILE          there; then remove FILE\n", name);
	return EXIT_OK;
}

static int write_bundle(const char *path, const char *text, size_t len, struct error *err)
{
	CLEANUP(fd_closep) int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	if (fd < 0)
		return error_set(err, errno, "%s: %s", path, strerror(errno));
	return fd_write_full(fd, text, len, err) < 0 ? error_wrap(err, "%s", path) : 0;
}

static int issue_run(const struct invocation *inv)
{
	const struct issue_options *o = inv->options;
	CLEANUP(freep) char *text = NULL;
	struct error err;
	size_t len = 0;
	int r;

	if (is_wrong(o->days))
		return command_usage_error(inv->command, "--days is between 1 and %d", DAYS_MAX);
	if (authority_issue(inv->node, inv->argv[0], o->hosts.items, o->hosts.n, o->days, &text, &len, &err) < 0)
		return command_fail(&err, EXIT_FAILED);
	r = o->output ? write_bundle(o->output, text, len, &err) : fd_write_full(STDOUT_FILENO, text, len, &err);
	explicit_bzero(text, len);
	return r < 0 ? command_fail(&err, EXIT_FAILED) : EXIT_OK;
}

/* ---- install, revoke ---- */

static int install_run(const struct invocation *inv)
{
	const char *path = strcmp(inv->argv[0], "-") != 0 ? inv->argv[0] : "/dev/stdin";
	CLEANUP(freep) char *text = NULL;
	struct error err;
	size_t len = 0;
	int r = fd_read_file_at(AT_FDCWD, path, CREDENTIALS_FILE_MAX, &text, &len, &err);

	if (r == 0) {
		r = credentials_install(inv->node, text, len, &err);
		explicit_bzero(text, len);
	}
	if (r < 0) {
		(void)error_wrap(&err, "%s", inv->argv[0]);
		return command_fail(&err, EXIT_FAILED);
	}
	return EXIT_OK;
}

static int revoke_run(const struct invocation *inv)
{
	struct error err;
	size_t n = 0;

	if (authority_revoke(inv->node, inv->argv[0], &n, &err) < 0)
		return command_fail(&err, EXIT_FAILED);
	printf("%zu certificate%s of '%s' revoked here; on each other node:\n"
	       "  godwit tls install FILE    a copy of %s/tls/" CREDENTIALS_CRL "\n", n, n == 1 ? "" : "s",
	       inv->argv[0], inv->node->path);
	return EXIT_OK;
}

/* ---- show ---- */

static int show_json(const struct certificate_facts *f, bool has_ca, bool has_crl)
{
	json_t *o = json_pack("{s:s,s:s,s:o,s:I,s:I,s:s,s:b,s:b}", "name", f->name, "issuer", f->issuer, "serial",
			      json_sprintf("%016llx", (unsigned long long)f->serial), "not_before",
			      (json_int_t)f->not_before, "not_after", (json_int_t)f->not_after, "fingerprint",
			      f->fingerprint, "ca_key", has_ca, "crl", has_crl);
	int r = json_dumpf(o, stdout, JSON_INDENT(2));

	json_decref(o);
	return r < 0 || puts("") < 0 ? EXIT_FAILED : EXIT_OK;
}

static void show_text(const struct certificate_facts *f, bool has_ca, bool has_crl)
{
	char from[CERTIFICATE_DATE_SIZE], until[CERTIFICATE_DATE_SIZE];

	certificate_date(f->not_before, from);
	certificate_date(f->not_after, until);
	printf("node         %s\nissued by    %s%s\nvalid from   %s\nvalid until  %s (%lld days)\n"
	       "serial       %016llx\nfingerprint  %s\nrevoked      %s\n", f->name, f->issuer,
	       has_ca ? ", whose key is here" : "", from, until,
	       (long long)(f->not_after - time(NULL)) / DAY_S, (unsigned long long)f->serial, f->fingerprint,
	       has_crl ? "those in tls/" CREDENTIALS_CRL : "no list");
}

/* What is wrong is told, too. */
static int show_run(const struct invocation *inv)
{
	const struct show_options *o = inv->options;
	CLEANUP(credentials_freep) struct credentials *c = NULL, *good = NULL;
	struct error err;
	bool has_ca;

	if (credentials_read(inv->node, &c, &err) < 0)
		return command_fail(&err, EXIT_FAILED);
	has_ca = faccessat(inv->node->state_fd, CREDENTIALS_DIR "/" AUTHORITY_KEY, F_OK, 0) == 0;
	if (o->json)
		(void)show_json(&c->facts, has_ca, c->crl != NULL);
	else
		show_text(&c->facts, has_ca, c->crl != NULL);
	return credentials_load(inv->node, &good, &err) < 0 ? command_fail(&err, EXIT_FAILED) : EXIT_OK;
}

const struct command command_tls_init = {
	.name = "tls init", .usage = "", .summary = "make a cluster's CA, and this node's certificate",
	.notes = "On the cluster's first node. All is in STATE/tls; who has ca-key.pem decides which\n"
		 "nodes are of the cluster.\n",
	.options = init_rows, .options_size = sizeof(struct init_options), .defaults = &init_defaults,
	.min_args = 0, .max_args = 0, .run = init_run,
};

const struct command command_tls_issue = {
	.name = "tls issue", .usage = "NODE", .summary = "make another node's key and certificate",
	.notes = "On the node that has the CA. NODE is the other one's name, as in its node.json, else its\n"
		 "host name. What is written is secret.\n",
	.options = issue_rows, .options_size = sizeof(struct issue_options), .defaults = &issue_defaults,
	.min_args = 1, .max_args = 1, .run = issue_run,
};

const struct command command_tls_install = {
	.name = "tls install", .usage = "FILE|-", .summary = "use the key and certificate of 'tls issue'",
	.notes = "Or the list of revoked certificates, crl.pem. Used from the next connection on;\n"
		 "nothing has to be started again.\n",
	.min_args = 1, .max_args = 1, .run = install_run,
};

const struct command command_tls_revoke = {
	.name = "tls revoke", .usage = "NODE", .summary = "refuse all certificates that were issued for a node",
	.notes = "On the node that has the CA. One issued later is good again.\n",
	.min_args = 1, .max_args = 1, .run = revoke_run,
};

const struct command command_tls_show = {
	.name = "tls show", .usage = "", .summary = "show this node's certificate, and what is wrong with it",
	.options = show_rows, .options_size = sizeof(struct show_options),
	.min_args = 0, .max_args = 0, .run = show_run,
};

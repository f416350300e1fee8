/*
 * tls_fixture.h - nodes with certificates: two of one cluster, and one of another
 */
#pragma once

#include <fcntl.h>
#include <string.h>

#include "migrate/tls/authority.h"
#include "migrate/tls/credentials.h"
#include "tests/unit/node_fixture.h"

#define DAYS 100

/* walrus has the CA, seal a certificate of it; orca is of another cluster. */
enum { WALRUS, SEAL, ORCA, NODES };

struct cluster {
	struct node nodes[NODES];
};

static void make_node(struct node *n, const char *name)
{
	strcpy(n->path, "/var/tmp/godwit-tls-XXXXXX");
	assert_non_null(mkdtemp(n->path));
	n->state_fd = open(n->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(n->state_fd >= 0);
	(void)snprintf(n->config.name, sizeof(n->config.name), "%s", name);
}

static void issue_to(const struct cluster *c, const char *name, uint32_t days, const struct node *to)
{
	CLEANUP(freep) char *text = NULL;
	const char *hosts[] = { "seal.example", "10.1.2.3" };
	struct error err;
	size_t len;

	OK(authority_issue(&c->nodes[WALRUS], name, hosts, 2, days, &text, &len, &err));
	OK(credentials_install(to, text, len, &err));
}

static int setup(void **state)
{
	static const char *const names[] = { "walrus", "seal", "orca" };
	struct cluster *c = calloc(1, sizeof(*c));
	struct error err;

	assert_non_null(c);
	for (size_t i = 0; i < NODES; i++)
		make_node(&c->nodes[i], names[i]);
	OK(authority_init(&c->nodes[WALRUS], DAYS, &err));
	OK(authority_init(&c->nodes[ORCA], DAYS, &err));
	issue_to(c, "seal", DAYS, &c->nodes[SEAL]);
	*state = c;
	return 0;
}

static int teardown(void **state)
{
	struct cluster *c = *state;
	struct error err;

	for (size_t i = 0; i < NODES; i++) {
		(void)close(c->nodes[i].state_fd);
		OK(fd_remove_tree_at(AT_FDCWD, c->nodes[i].path, &err));
	}
	free(c);
	return 0;
}

/*
 * node.h - this machine's part of the cluster: the state directory and its settings
 *
 *   STATE/node.json         optional settings, see struct node_config
 *   STATE/id                who this node is, whatever it is called: made once, 32 random hex
 *                           digits. A copy of the directory on another machine needs another
 *   STATE/images/           image.h
 *   STATE/containers/NAME/  container.h
 *   STATE/networks/NAME/    named_network.h
 *   STATE/tls/              certificates (migrate/tls/credentials.h)
 *   STATE/tokens/           what became of migrations that arrived (migrate/token.h)
 *   STATE/releases/         migrations that are settled, and whose target may not know it (migrate/release.h)
 *   STATE/cache/            compiled filters; may be deleted at any time
 *   STATE/lock              held while names and addresses are given out
 *
 * STATE is --state, else $GODWIT_STATE, else /var/lib/godwit.
 */
#pragma once

#include <net/if.h>
#include <stdbool.h>
#include <netinet/in.h>

#include "engine/base/cleanup.h"
#include "engine/base/error.h"

#define NODE_TEXT_MAX 256
#define NODE_ID_SIZE 33

/* Keys of node.json; what is absent has the default in brackets. */
struct node_config {
	char name[65];			/* "name" [the host's name] */
	char cgroup[NODE_TEXT_MAX];	/* "cgroup" [/godwit] parent of all containers */
	char bridge[IFNAMSIZ];		/* "bridge" [godwit0] */
	char bridge_address[64];	/* "bridge_address" [10.88.0.1/16]; may be "" */
	char subnet[64];		/* "subnet" [10.88.0.0/16] */
	char range[64];			/* "range" [""] part of subnet this node gives out */
	char gateway[64];		/* "gateway" [""] default route of containers */
};

struct node {
	char path[NODE_TEXT_MAX];	/* absolute */
	char id[NODE_ID_SIZE];
	int state_fd;
	int containers_fd;
	bool insecure;			/* it speaks without TLS, and with anybody: $GODWIT_INSECURE is 1 */
	struct node_config config;
};

/* Opens the state directory (path, or NULL for the default), making it and its
 * folders, mode 0700, when they are missing. -EINVAL for a bad node.json. */
int node_open(const char *path, struct node **ret, struct error *err);
void node_free(struct node *node);
DEFINE_CLEANUP(struct node *, node_free)

/* Waits until all that was written into the directory is on disk, also where parts of it are mounted. */
int node_sync(const struct node *node, struct error *err);

/* Blocks until no other process gives out names and addresses on this node.
 * The lock ends with the returned fd (and its copies in children). */
int node_lock(const struct node *node, int *ret_fd, struct error *err);

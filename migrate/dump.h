/*
 * dump.h - freezing a container and dumping it with CRIU: the source's half of
 * a migration and of a checkpoint alike
 */
#pragma once

#include "criu-glue/criu.h"
#include "migrate/lease.h"
#include "migrate/manifest.h"

/* The key under which CRIU knows the network namespace, on both sides. */
#define DUMP_NETNS_KEY "godwit-net"

/* What the caller does while CRIU waits. */
struct dump_hooks {
	bool own_gate;			/* as for lease_freeze */
	/* About to be frozen. May be NULL. */
	int (*freezing)(void *ctx, struct error *err);
	/* Just frozen, nothing is seized yet. May be NULL. */
	int (*frozen)(void *ctx, struct error *err);
	/* No socket was looked at yet; from here on none may send. May be NULL. */
	void (*seized)(void *ctx);
	/* Copies the container's files away, while CRIU still keeps the names that
	 * it made for unlinked ones (link_remap.*). m lists the tmpfs mounts. */
	int (*files)(void *ctx, const struct manifest *m, struct error *err);
	void *ctx;
	const volatile sig_atomic_t *cancelled;	/* looked at while CRIU waits; may be NULL */
	const struct carried *carried;	/* NULL, or memory that CRIU leaves out */
};

/* CRIU is started and probes while the container runs; the freeze comes last
 * before CRIU seizes the tasks. Afterwards the container is whole and frozen
 * under the lease, also after a failure once it was frozen: the caller thaws.
 * images_fd (borrowed) gets CRIU's images. */
int dump_container(const struct container *c, const struct container_state *s,
		   const struct criu *criu, struct lease_hold *lease, int images_fd,
		   const struct dump_hooks *hooks, struct manifest **ret, struct error *err);

/* Opens a folder of the (frozen) container by its mount point, through
 * /proc/PID/root. */
int dump_open_inside(pid_t pid, const char *path, int *ret_fd, struct error *err);

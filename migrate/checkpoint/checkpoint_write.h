/*
 * checkpoint_write.h - the process that writes a checkpoint
 *
 * The target's half of a checkpoint: it receives what a source sends (source.h,
 * over the protocol of a migration) and keeps it in files instead of bringing it
 * to life. A child of the process that has the source, so that neither waits for
 * the other's work. When anything fails, or the source goes away, it removes the
 * directory.
 *
 *   r = checkpoint_writer_start(&plan, &writer, &socket, err);
 *   ... channel_connected(socket), the source's stages up to RESTORED ...
 *   r = checkpoint_dir_appear(&dir, err);		before COMMIT
 *   r = checkpoint_writer_finish(&writer, r, err);	after the channel was closed
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "engine/node.h"
#include "migrate/checkpoint/checkpoint_dir.h"
#include "migrate/stage.h"

struct checkpoint_write_plan {
	const struct node *node;	/* borrowed, as all of this */
	const struct checkpoint_dir *dir;
	const struct migrate_stage *table;	/* whose target's column it runs */
	bool criu_images;		/* also a complete set: criu_images.h */
};

/* The tree of a tmpfs mount, below DIR/tmpfs. */
#define CHECKPOINT_TMPFS_SIZE 256
int checkpoint_tmpfs_name(const char *mount_point, char ret[CHECKPOINT_TMPFS_SIZE], struct error *err);

/* Which shared objects there are, below DIR/memory, if any. */
#define CHECKPOINT_SHARED "shared"

struct checkpoint_writer {
	pid_t pid;			/* 0: none */
	int words_fd;			/* its last ones */
};
#define CHECKPOINT_WRITER_EMPTY { .words_fd = -EBADF }

/* Forks it. *ret_socket is the source's end of the connection. */
int checkpoint_writer_start(const struct checkpoint_write_plan *plan, struct checkpoint_writer *ret,
			    int *ret_socket, struct error *err);

/* Waits until it has ended. result is what became of the source; when that failed
 * because the writer had, *err becomes what the writer says. */
int checkpoint_writer_finish(struct checkpoint_writer *w, int result, struct error *err);

/* The target's column of the stages, for the table in checkpoint.c. */
int checkpoint_write_accept(struct target *t, struct error *err);
int checkpoint_write_prepare(struct target *t, struct error *err);
int checkpoint_write_finish(struct target *t, struct error *err);
int checkpoint_write_commit(struct target *t, struct error *err);

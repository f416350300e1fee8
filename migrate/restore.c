#include <poll.h>
#include <string.h>

#include "engine/base/clock.h"
#include "engine/base/fd.h"
#include "migrate/memory/lazy_images.h"
#include "migrate/restore.h"
#include "migrate/restore_monitor.h"
#include "migrate/workdir.h"

/* ret_fd may be NULL: none is to come. */
static int hear_monitor(int control, uint32_t expected, struct monitor_message *ret, int *ret_fd,
			struct error *err)
{
	if (monitor_receive_fd(control, ret, ret_fd, err) < 0)
		return -err->code;
	if (ret->op == MONITOR_STARTED && ret->value[0])
		return error_set(err, (int)ret->value[0], "%.*s", (int)ret->len, ret->data);
	if (ret->op != expected)
		return error_set(err, EPROTO, "unexpected message %u from the monitor", ret->op);
	return 0;
}

static void take_timeline(const struct monitor_message *m, struct timeline *to)
{
	struct timeline its;

	if (m->len != sizeof(its))
		return;
	memcpy(&its, m->data, sizeof(its));
	timeline_append(to, &its, "wake-up");
}

int restore_begin(struct container *c, const struct restore_plan *plan, int *ret_control,
		  struct prepared **ret_prepared, struct error *err)
{
	const struct monitor_plan monitor = { .start = restore_monitor_start,
					      .ctx = (void *)(uintptr_t)plan };
	CLEANUP(fd_closep) int control = -EBADF;
	struct monitor_message reply;
	int list = -EBADF;

	if (monitor_spawn(c, &monitor, &control, err) < 0 ||
	    hear_monitor(control, RESTORE_PREPARED, &reply, &list, err) < 0 ||
	    prepared_adopt(list, ret_prepared, err) < 0)
		return -err->code;
	*ret_control = TAKE_FD(control);
	return 0;
}

static void wait_patiently(int control, void (*on_wait)(void *ctx), void *ctx)
{
	struct pollfd p = { .fd = control, .events = POLLIN };

	while (on_wait && poll(&p, 1, 2000) == 0)
		on_wait(ctx);
}

/* The filler lives as long as the monitor needs it; that this process ends means
 * nothing to it. */
static int start_filler(int workdir_fd, int folder_fd, struct store *store, struct filler *ret, struct timeline *line,
			struct error *err)
{
	CLEANUP(fd_closep) int images = -EBADF;

	if (workdir_open(workdir_fd, "images", &images, err) < 0 || lazy_images_rewrite(images, store, err) < 0)
		return -err->code;
	timeline_step(line, "page-images");
	if (filler_start(images, folder_fd, store, ret, err) < 0)
		return -err->code;
	timeline_step(line, "filler");
	return 0;
}

static int send_go(int control, int workdir_fd, const struct filler *filler, const struct tmpfs *tmpfs,
		   struct error *err)
{
	const struct monitor_message go = { .op = RESTORE_GO };
	int fds[RESTORE_GO_FDS] = { workdir_fd, filler->report_fd, filler->uffds_fd };
	size_t n = RESTORE_GO_TMPFS;

	for (size_t i = 0; rootfs_tmpfs[i]; i++)
		fds[n++] = tmpfs->mounts[i];
	return fd_send_msg(control, &go, offsetof(struct monitor_message, data), fds, n, err);
}

int restore_go(int control, const struct container *c, struct prepared *prepared, int workdir_fd,
	       struct store *store, struct shared_store *shared, const struct tmpfs *tmpfs, struct filler *ret_filler,
	       void (*on_wait)(void *ctx), void *ctx, struct restore_times *times, struct error *err)
{
	struct monitor_message reply;

	if (start_filler(workdir_fd, c->dir_fd, store, ret_filler, &times->restore, err) < 0 ||
	    shared_store_prepare(shared, prepared, err) < 0)
		return -err->code;
	timeline_step(&times->restore, "shared-memory");
	if (send_go(control, workdir_fd, ret_filler, tmpfs, err) < 0)
		return -err->code;
	wait_patiently(control, on_wait, ctx);
	if (hear_monitor(control, RESTORE_DONE, &reply, NULL, err) < 0)
		return -err->code;
	take_timeline(&reply, &times->restore);
	times->restore_us = reply.value[0];
	times->pid = (pid_t)reply.value[1];
	return 0;
}

int restore_commit(int control, struct restore_times *times, struct error *err)
{
	struct monitor_message reply;

	timeline_begin(&times->resume, clock_us());
	if (monitor_send(control, RESTORE_COMMIT, NULL, NULL, 0, -EBADF, err) < 0 ||
	    hear_monitor(control, RESTORE_RESUMED, &reply, NULL, err) < 0)
		return -err->code;
	take_timeline(&reply, &times->resume);
	times->resume_us = reply.value[0];
	times->resumed_real_us = reply.value[1];
	return 0;
}

void restore_open(int control)
{
	struct error ignored;

	(void)monitor_send(control, RESTORE_OPEN, NULL, NULL, 0, -EBADF, &ignored);
}

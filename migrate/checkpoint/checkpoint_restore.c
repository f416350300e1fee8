/* The target's half of a checkpoint: checkpoint.h. */
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "engine/base/fd.h"
#include "engine/image/image.h"
#include "engine/image/tree.h"
#include "engine/monitor/output.h"
#include "engine/network/address.h"
#include "engine/network/placement.h"
#include "engine/userns_pool.h"
#include "migrate/admission/machine.h"
#include "migrate/checkpoint/checkpoint.h"
#include "migrate/checkpoint/checkpoint_write.h"
#include "migrate/checkpoint/sums.h"
#include "migrate/memory/store_file.h"
#include "migrate/restore.h"
#include "migrate/workdir.h"

#define SMALL_LIMIT 65536u
#define SHARED_LIMIT (4u << 20)
#define INDEX_LIMIT (16ul << 30)
#define ENTRIES_MAX 100000000u
#define KILL_TIMEOUT_MS 30000

/* Everything of one restore. */
struct reviving {
	const struct checkpoint_restore_options *options;
	int dir;			/* the checkpoint */
	struct sums *sums;
	struct container *container;
	int workdir, control;
	struct store *store;
	struct prepared *prepared;
	struct cgroup *cgroup;		/* the container's */
	struct shared_store *shared;
	struct tmpfs tmpfs;
};

static void reviving_closep(struct reviving *r)
{
	sums_free(r->sums);
	container_free(r->container);
	store_free(r->store);
	shared_store_free(r->shared);
	cgroup_free(r->cgroup);
	prepared_free(r->prepared);
	tmpfs_closep(&r->tmpfs);
	fd_close(&r->dir);
	fd_close(&r->workdir);
	fd_close(&r->control);
}

/* ---- what it is ---- */

static int read_spec(const struct reviving *r, struct spec **ret, struct error *err)
{
	CLEANUP(spec_freep) struct spec *s = NULL;
	CLEANUP(freep) char *text = NULL;
	size_t len;

	if (sums_load(r->sums, "config.json", SPEC_JSON_LIMIT, &text, &len, err) < 0 ||
	    spec_from_json(text, len, &s, err) < 0)
		return -err->code;
	if (r->options->name) {
		if (spec_check_name(r->options->name, err) < 0)
			return -err->code;
		free(s->name);
		s->name = strdup(r->options->name);
	}
	*ret = TAKE_PTR(s);
	return 0;
}

static int check_image(const struct reviving *r, const struct node *node, struct error *err)
{
	CLEANUP(image_freep) struct image *image = NULL;
	CLEANUP(freep) char *text = NULL;
	const char *name, *digest;
	json_t *root;
	int result = 0;

	if (sums_load(r->sums, "image.json", SMALL_LIMIT, &text, NULL, err) < 0)
		return -err->code;
	root = json_loads(text, 0, NULL);
	if (!root || json_unpack(root, "{s:s,s:s}", "name", &name, "digest", &digest) < 0)
		result = error_set(err, EINVAL, "image.json is damaged");
	else if (image_open(node->state_fd, name, &image, err) < 0)
		result = error_wrap(err, "import the image that it was made of first");
	else if (strcmp(image->digest, digest) != 0)
		result = error_set(err, EBADMSG, "image '%s' has changed since the checkpoint: digest %.12s, "
				   "then %.12s", name, image->digest, digest);
	json_decref(root);
	return result;
}

static int check_address(const struct node *node, const struct network_endpoint *ep, struct error *err)
{
	if (ep->network[0])
		return placement_check(node, ep, 0, err);
	return ep->address[0] ? address_check_free(node, ep->address, 0, err) : 0;
}

/* Name and address are taken together, as run does it. */
static int reserve(struct reviving *r, const struct node *node, struct error *err)
{
	CLEANUP(container_freep) struct container *taken = NULL;
	CLEANUP(spec_freep) struct spec *spec = NULL;
	CLEANUP(fd_closep) int lock = -EBADF;
	struct error ignored;

	if (read_spec(r, &spec, err) < 0 || check_image(r, node, err) < 0 || node_lock(node, &lock, err) < 0)
		return -err->code;
	if (container_open(node, spec->name, &taken, &ignored) != -ENOENT)
		return error_set(err, EEXIST, "container '%s': the name is in use; remove it with 'godwit rm %s', "
				 "or restore with --name", spec->name, spec->name);
	if (check_address(node, &spec->endpoint, err) < 0 || userns_place(node, spec, err) < 0)
		return -err->code;
	if (container_create(node, spec, CONTAINER_INCOMING, &r->container, err) < 0)
		return -err->code;
	TAKE_PTR(spec);
	return 0;
}

/* ---- what it has ---- */

static int unpack(const struct reviving *r, const char *name, int place, struct error *err)
{
	CLEANUP(sums_file_freep) struct sums_file *file = NULL;
	struct tree_limits limits = { .entries = ENTRIES_MAX };
	struct tree_stats stats;
	uint64_t room;

	if (machine_free_disk(place, &room, err) < 0 || sums_open(r->sums, name, &file, err) < 0)
		return -err->code;
	limits.bytes = room + 1;
	return sums_file_end(file, tree_unpack(place, sums_file_read, file, &limits, false, &stats, err), err);
}

static int copy_folder(const struct reviving *r, const char *from, int parent, const char *to, struct error *err)
{
	CLEANUP(fd_closep) int place = -EBADF;

	return fd_open_dir_at(parent, to, true, 0700, &place, err) < 0 ? -err->code :
	       sums_copy(r->sums, from, place, err);
}

/* Its log ends where it stood still. */
static int bring_meta(const struct reviving *r, struct manifest **ret, struct error *err)
{
	CLEANUP(manifest_freep) struct manifest *m = NULL;
	CLEANUP(fd_closep) int meta = -EBADF, log = -EBADF;

	if (copy_folder(r, "meta", r->container->dir_fd, "meta", err) < 0 ||
	    fd_open_dir_at(r->container->dir_fd, "meta", false, 0, &meta, err) < 0 ||
	    manifest_read(meta, &m, err) < 0)
		return -err->code;
	log = openat(r->container->dir_fd, OUTPUT_LOG, O_WRONLY | O_CLOEXEC);
	if (log >= 0 && lseek(log, 0, SEEK_END) > (off_t)m->log_bytes && ftruncate(log, (off_t)m->log_bytes) < 0)
		return error_set(err, errno, "cut its log: %s", strerror(errno));
	*ret = TAKE_PTR(m);
	return 0;
}

static int bring_files(struct reviving *r, struct error *err)
{
	CLEANUP(manifest_freep) struct manifest *m = NULL;
	CLEANUP(fd_closep) int upper = -EBADF;

	if (bring_meta(r, &m, err) < 0 || fd_open_dir_at(r->container->dir_fd, "upper", false, 0, &upper, err) < 0 ||
	    unpack(r, "upper.tar", upper, err) < 0 || workdir_create(&r->workdir, err) < 0 ||
	    copy_folder(r, "images", r->workdir, "images", err) < 0)
		return -err->code;
	for (size_t i = 0; m->tmpfs[i]; i++) {
		CLEANUP(sums_file_freep) struct sums_file *file = NULL;
		char name[CHECKPOINT_TMPFS_SIZE];

		if (checkpoint_tmpfs_name(m->tmpfs[i], name, err) < 0 || sums_open(r->sums, name, &file, err) < 0 ||
		    sums_file_end(file, tmpfs_unpack(&r->tmpfs, m->tmpfs[i], r->shared, sums_file_read, file, err),
				  err) < 0)
			return -err->code;
	}
	return tmpfs_complete(&r->tmpfs, r->container->spec, err);
}

/* The pages are held open: that the checkpoint is removed while they are read does
 * no harm. */
static int open_memory(struct reviving *r, struct error *err)
{
	CLEANUP(freep) char *index = NULL;
	size_t len;
	int pages;

	if (sums_load(r->sums, "memory/" STORE_INDEX, INDEX_LIMIT, &index, &len, err) < 0)
		return -err->code;
	pages = openat(r->dir, "memory/" STORE_PAGES, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (pages < 0)
		return error_set(err, errno, "memory/" STORE_PAGES ": %s", strerror(errno));
	if (store_load(index, len, pages, &r->store, err) < 0)
		return -err->code;
	return r->options->verify ? store_check(r->store, err) : 0;
}

/* What several processes share must be there before one of them runs. */
static int bring_shared(struct reviving *r, struct error *err)
{
	CLEANUP(freep) char *list = NULL;
	size_t len;

	if (container_cgroup(r->container, false, &r->cgroup, err) < 0 || shared_store_new(&r->shared, err) < 0)
		return -err->code;
	shared_store_set_tmpfs(r->shared, &r->tmpfs);
	shared_store_set_cgroup(r->shared, r->cgroup);
	if (!sums_has(r->sums, "memory/" CHECKPOINT_SHARED))
		return 0;
	if (sums_load(r->sums, "memory/" CHECKPOINT_SHARED, SHARED_LIMIT, &list, &len, err) < 0)
		return -err->code;
	return shared_store_load(r->shared, list, len, r->store, err);
}

/* ---- life ---- */

/* The monitor removes what it made when its asker hangs up; wait for that. */
static void give_up(struct reviving *r, struct filler *filler)
{
	struct monitor_message m;
	struct error ignored;

	if (r->control >= 0) {
		(void)shutdown(r->control, SHUT_WR);
		while (monitor_receive(r->control, &m, &ignored) == 0)
			;
	}
	filler_stop(filler);
	(void)container_clean(r->container, false, &ignored);
}

static int revive(struct reviving *r, struct filler *filler, struct error *err)
{
	const struct restore_plan plan = { .token = NULL };
	struct restore_times times = { 0 };

	timeline_begin(&times.restore, clock_us());
	if (tmpfs_make(r->container->spec, &r->tmpfs, err) < 0 ||
	    restore_begin(r->container, &plan, &r->control, &r->prepared, err) < 0 || open_memory(r, err) < 0 ||
	    bring_shared(r, err) < 0 || bring_files(r, err) < 0 ||
	    restore_go(r->control, r->container, r->prepared, r->workdir, r->store, r->shared, &r->tmpfs, filler,
		       NULL, NULL, &times, err) < 0)
		return -err->code;
	if (restore_commit(r->control, &times, err) < 0)
		return -err->code;
	restore_open(r->control);
	return 0;
}

static int restore(struct reviving *r, const struct node *node, struct checkpoint_restored *ret, struct error *err)
{
	struct filler filler = FILLER_EMPTY;
	uint64_t t0 = clock_us();

	if (fd_open_dir_at(AT_FDCWD, r->options->dir, false, 0, &r->dir, err) < 0 ||
	    sums_read(r->dir, &r->sums, err) < 0 || reserve(r, node, err) < 0)
		return -err->code;
	if (revive(r, &filler, err) < 0) {
		give_up(r, &filler);
		return -err->code;
	}
	*ret = (struct checkpoint_restored){ .resume_us = clock_us() - t0, .filler = filler.pid };
	(void)snprintf(ret->name, sizeof(ret->name), "%s", r->container->name);
	/* The monitor watches over it now, and hears its last words. */
	filler.pid = 0;
	filler_stop(&filler);
	return 0;
}

int checkpoint_restore(const struct node *node, const struct checkpoint_restore_options *options,
		       struct checkpoint_restored *ret, struct error *err)
{
	CLEANUP(reviving_closep) struct reviving r = { .options = options, .dir = -EBADF, .workdir = -EBADF,
						       .control = -EBADF, .tmpfs = TMPFS_EMPTY };

	return restore(&r, node, ret, err) < 0 ? error_wrap(err, "restore %s", options->dir) : 0;
}

/* Its monitor kills it, writes down why, and ends. */
static void wait_for_monitor(const struct container_state *st)
{
	CLEANUP(fd_closep) int pidfd = st->monitor_alive ? (int)syscall(SYS_pidfd_open, st->monitor_pid, 0) : -EBADF;
	struct pollfd p = { .fd = pidfd, .events = POLLIN };

	while (pidfd >= 0 && poll(&p, 1, KILL_TIMEOUT_MS) < 0 && errno == EINTR)
		;
}

static int tell_why(const struct node *node, const char *name, struct error *err)
{
	CLEANUP(container_freep) struct container *c = NULL;
	struct container_state st = { 0 };
	struct error ignored;

	if (container_open(node, name, &c, &ignored) == 0 && container_state(c, &st, &ignored) == 0) {
		wait_for_monitor(&st);
		(void)container_state(c, &st, &ignored);
	}
	return error_set(err, EIO, "container '%s' was killed: %s", name,
			 st.reason[0] ? st.reason : "its memory could not be read");
}

int checkpoint_restore_wait(const struct node *node, const struct checkpoint_restored *r, struct error *err)
{
	int status = 0;

	while (waitpid(r->filler, &status, 0) < 0 && errno == EINTR)
		;
	return status ? tell_why(node, r->name, err) : 0;
}

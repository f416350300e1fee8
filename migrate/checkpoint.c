#include <fcntl.h>
#include <jansson.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "engine/address.h"
#include "engine/base/clock.h"
#include "engine/base/fd.h"
#include "engine/image.h"
#include "engine/tree.h"
#include "migrate/checkpoint.h"
#include "migrate/dump.h"
#include "migrate/restore.h"
#include "migrate/sums.h"
#include "migrate/workdir.h"

#define CONFIG_JSON "config.json"
#define IMAGE_JSON "image.json"

static int copy_tree(int from_parent, const char *from, int to_parent, const char *to,
		     struct error *err)
{
	CLEANUP(fd_closep) int a = -EBADF, b = -EBADF;
	struct tree_stats stats;

	if (fd_open_dir_at(from_parent, from, false, 0, &a, err) < 0 ||
	    fd_open_dir_at(to_parent, to, true, 0700, &b, err) < 0 || tree_copy(a, b, &stats, err) < 0)
		return error_wrap(err, "copy %s", from);
	return 0;
}

struct saving {
	const struct container *container;
	pid_t pid;
	int dir;
};

static int copy_files(void *ctx, const struct manifest *m, struct error *err)
{
	const struct saving *s = ctx;

	if (copy_tree(s->container->dir_fd, "upper", s->dir, "upper", err) < 0)
		return -err->code;
	for (size_t i = 0; m->tmpfs[i]; i++) {
		CLEANUP(fd_closep) int from = -EBADF, to = -EBADF;
		struct tree_stats stats;

		if (dump_open_inside(s->pid, m->tmpfs[i], &from, err) < 0 ||
		    workdir_open_tmpfs(s->dir, m->tmpfs[i], &to, err) < 0 ||
		    tree_copy(from, to, &stats, err) < 0)
			return error_wrap(err, "copy %s", m->tmpfs[i]);
	}
	return 0;
}

static int write_description(const struct container *c, int dir, struct error *err)
{
	CLEANUP(image_freep) struct image *image = NULL;
	CLEANUP(freep) char *config = NULL, *text = NULL;
	json_t *root;

	if (spec_to_json(c->spec, &config, err) < 0 ||
	    image_open(c->node->state_fd, c->spec->image, &image, err) < 0 ||
	    fd_replace_file_at(dir, CONFIG_JSON, config, strlen(config), 0600, FD_REPLACE, err) < 0)
		return -err->code;
	root = json_pack("{s:s,s:s}", "name", image->name, "digest", image->digest);
	text = root ? json_dumps(root, JSON_INDENT(2)) : NULL;
	json_decref(root);
	return text ? fd_replace_file_at(dir, IMAGE_JSON, text, strlen(text), 0600, FD_REPLACE, err) :
		      error_set(err, ENOMEM, "out of memory");
}

/* From the first look to the last byte; the container is frozen at its end. */
static int save_frozen(const struct container *c, struct lease_hold *lease, int dir, struct error *err)
{
	CLEANUP(manifest_freep) struct manifest *m = NULL;
	CLEANUP(fd_closep) int images = -EBADF, meta = -EBADF;
	struct container_state st;
	struct criu criu;
	struct saving saving = { .container = c, .dir = dir };
	const struct dump_hooks hooks = { .files = copy_files, .ctx = &saving };

	if (container_state(c, &st, err) < 0 || dump_check(c, &st, err) < 0 || criu_find(&criu, err) < 0 ||
	    write_description(c, dir, err) < 0 || lease_open(c, lease, err) < 0 ||
	    lease_wait_settled(lease, err) < 0 ||
	    workdir_open(dir, "images", &images, err) < 0)
		return -err->code;
	saving.pid = st.pid;
	if (dump_container(c, &st, &criu, lease, images, &hooks, &m, err) < 0) {
		workdir_keep_log(images, CRIU_DUMP_LOG, c, err);
		return -err->code;
	}
	if (copy_tree(c->dir_fd, "meta", dir, "meta", err) < 0 ||
	    fd_open_dir_at(dir, "meta", false, 0, &meta, err) < 0)
		return -err->code;
	return manifest_write(meta, m, err);
}

static int make_dir(const char *path, int *ret_fd, struct error *err)
{
	if (mkdir(path, 0700) < 0)
		return error_set(err, errno, "checkpoint directory %s: %s", path, errno == EEXIST ?
				 "it exists already; give a new one" : strerror(errno));
	return fd_open_dir_at(AT_FDCWD, path, false, 0, ret_fd, err);
}

static int sync_all(int dir, struct error *err)
{
	return syncfs(dir) < 0 ? error_set(err, errno, "sync: %s", strerror(errno)) : 0;
}

/* From here on the checkpoint may be all that there is: it stays. What the kill
 * leaves to do is the monitor's, which hangs up when that is done. */
static int end_original(const struct container *c, const struct lease_hold *lease, struct error *err)
{
	CLEANUP(cgroup_freep) struct cgroup *cg = NULL;
	struct monitor_message m;
	struct error ignored;

	if (container_cgroup(c, false, &cg, err) < 0 || cgroup_kill(cg, 10000000, err) < 0)
		return -err->code;
	while (monitor_receive(lease->fd, &m, &ignored) == 0)
		;
	return 0;
}

int checkpoint_save(struct container *c, const char *path, bool leave_running,
		    struct checkpoint_report *report, struct error *err)
{
	CLEANUP(lease_closep) struct lease_hold lease = LEASE_HOLD_EMPTY;
	CLEANUP(fd_closep) int dir = -EBADF;
	uint64_t t0 = clock_us(), frozen_us;
	struct tree_stats stats = { 0 };
	struct error ignored;
	int r;

	if (make_dir(path, &dir, err) < 0)
		return -err->code;
	r = save_frozen(c, &lease, dir, err);
	if (r == 0 && leave_running)
		r = lease_thaw(&lease, err);
	frozen_us = clock_us() - lease.frozen_us;
	if (r == 0)
		r = sums_write(dir, err);
	if (r == 0 && !leave_running)
		r = sync_all(dir, err);
	if (r < 0) {
		(void)lease_thaw(&lease, &ignored);
		(void)fd_remove_tree_at(AT_FDCWD, path, &ignored);
		return error_wrap(err, "checkpoint '%s'", c->name);
	}
	if (!leave_running && end_original(c, &lease, err) < 0)
		return error_wrap(err, "checkpoint '%s': it is complete in %s, but the original does not end",
				  c->name, path);
	report->frozen_us = leave_running ? frozen_us : clock_us() - lease.frozen_us;
	if (syncfs(dir) < 0 || tree_measure(dir, &stats, err) < 0)
		return error_set(err, EIO, "checkpoint '%s': it is not safe on disk", c->name);
	report->total_us = clock_us() - t0;
	report->bytes = stats.bytes;
	return 0;
}

/* ---- restore ---- */

static int read_spec(int dir, const char *name, struct spec **ret, struct error *err)
{
	CLEANUP(spec_freep) struct spec *s = NULL;
	CLEANUP(freep) char *text = NULL;
	size_t len;

	if (fd_read_file_at(dir, CONFIG_JSON, SPEC_JSON_LIMIT, &text, &len, err) < 0 ||
	    spec_from_json(text, len, &s, err) < 0)
		return -err->code;
	if (name) {
		if (spec_check_name(name, err) < 0)
			return -err->code;
		free(s->name);
		s->name = strdup(name);
	}
	*ret = TAKE_PTR(s);
	return 0;
}

static int check_image(const struct node *node, int dir, struct error *err)
{
	CLEANUP(image_freep) struct image *image = NULL;
	CLEANUP(freep) char *text = NULL;
	const char *name, *digest;
	json_t *root;
	int r = 0;

	if (fd_read_file_at(dir, IMAGE_JSON, 65536, &text, NULL, err) < 0)
		return -err->code;
	root = json_loads(text, 0, NULL);
	if (!root || json_unpack(root, "{s:s,s:s}", "name", &name, "digest", &digest) < 0)
		r = error_set(err, EINVAL, IMAGE_JSON " is damaged");
	else if (image_open(node->state_fd, name, &image, err) < 0)
		r = error_wrap(err, "import the image that it was made of first");
	else if (strcmp(image->digest, digest) != 0)
		r = error_set(err, EBADMSG, "image '%s' has changed since the checkpoint: digest %.12s, then %.12s",
			      name, image->digest, digest);
	json_decref(root);
	return r;
}

/* Name and address are taken together, as run does it. */
static int reserve(const struct node *node, struct spec **spec, struct container **ret, struct error *err)
{
	CLEANUP(container_freep) struct container *taken = NULL;
	CLEANUP(fd_closep) int lock = -EBADF;
	struct error ignored;

	if (node_lock(node, &lock, err) < 0)
		return -err->code;
	if (container_open(node, (*spec)->name, &taken, &ignored) != -ENOENT)
		return error_set(err, EEXIST, "container '%s': the name is in use; remove it with 'godwit rm %s', "
				 "or restore with --name", (*spec)->name, (*spec)->name);
	if ((*spec)->endpoint.address[0] && address_check_free(node, (*spec)->endpoint.address, 0, err) < 0)
		return -err->code;
	if (container_create(node, *spec, CONTAINER_INCOMING, ret, err) < 0)
		return -err->code;
	*spec = NULL;
	return 0;
}

static int revive(struct container *c, int dir, struct checkpoint_report *report, struct error *err)
{
	const struct restore_plan plan = { .token = NULL };
	CLEANUP(fd_closep) int control = -EBADF;
	struct restore_times times;
	uint64_t t0 = clock_us();
	int r;

	if (copy_tree(dir, "upper", c->dir_fd, "upper", err) < 0 ||
	    copy_tree(dir, "meta", c->dir_fd, "meta", err) < 0)
		return -err->code;
	r = restore_begin(c, &plan, &control, err);
	if (r == 0)
		r = restore_go(control, dir, NULL, NULL, NULL, &times, err);
	if (r == 0)
		r = restore_commit(control, &times, err);
	report->total_us = clock_us() - t0;
	return r;
}

int checkpoint_restore(const struct node *node, const char *path, const char *name, char **ret_name,
		       struct checkpoint_report *report, struct error *err)
{
	CLEANUP(fd_closep) int dir = -EBADF;
	CLEANUP(spec_freep) struct spec *spec = NULL;
	CLEANUP(container_freep) struct container *c = NULL;
	struct error ignored;

	if (fd_open_dir_at(AT_FDCWD, path, false, 0, &dir, err) < 0 || read_spec(dir, name, &spec, err) < 0 ||
	    check_image(node, dir, err) < 0 || sums_check(dir, err) < 0 || reserve(node, &spec, &c, err) < 0)
		return error_wrap(err, "restore %s", path);
	if (revive(c, dir, report, err) < 0) {
		(void)container_clean(c, false, &ignored);
		return error_wrap(err, "restore %s", path);
	}
	*ret_name = strdup(c->name);
	return 0;
}

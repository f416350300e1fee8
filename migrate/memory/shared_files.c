/*
 * Files of the container's tmpfs mounts, by the path that the tree of such a mount
 * has their content at (engine/image/tree_walk.h): of several links the first. An unlinked
 * file is CRIU's.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "engine/image/tree_walk.h"
#include "engine/rootfs.h"
#include "migrate/dump.h"
#include "migrate/memory/shared_state.h"

struct visiting {
	struct shared *shared;
	const char *mount_point;
	int top;
};

static void rename_object(struct shared_object *o, const char *path)
{
	if (!strcmp(o->about.name, path))
		return;
	(void)snprintf(o->about.name, sizeof(o->about.name), "%s", path);
	o->renamed = true;
}

static int add_file(const struct visiting *v, const struct tree_entry *e, const char *path, struct error *err)
{
	CLEANUP(fd_closep) int fd = -EBADF;
	struct error ignored;
	struct stat st;

	/* another one may be there by now, or none */
	if (mounts_open(v->top, e->path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0, &fd, &ignored) < 0 ||
	    fstat(fd, &st) < 0 || st.st_dev != e->dev || st.st_ino != e->ino)
		return 0;
	return shared_add(v->shared, TAKE_FD(fd), &st, PAGES_FILE, path, err);
}

static int visit(void *ctx, const struct tree_entry *e, int fd, struct error *err)
{
	const struct visiting *v = ctx;
	char path[PAGES_NAME_MAX + 1];
	struct shared_object *o;

	(void)fd;
	if (!S_ISREG(e->mode) || e->hardlink ||
	    snprintf(path, sizeof(path), "%s/%s", v->mount_point, e->path) >= (int)sizeof(path))
		return 0;
	o = shared_known(v->shared, e->dev, e->ino, PAGES_FILE);
	if (!o)
		return add_file(v, e, path, err);
	o->seen = v->shared->rounds;
	rename_object(o, path);
	return 0;
}

int shared_find_files(struct shared *s, struct error *err)
{
	for (size_t i = 0; s->files && rootfs_tmpfs[i]; i++) {
		CLEANUP(fd_closep) int top = -EBADF;
		struct visiting v = { .shared = s, .mount_point = rootfs_tmpfs[i] };
		struct error why;
		int r = dump_open_inside(s->init, rootfs_tmpfs[i], &top, &why);

		if (r == -ENOENT)	/* a program without it, as tests have */
			continue;
		v.top = top;
		if (r == 0)
			r = tree_walk(top, false, visit, &v, NULL, &why);
		if (r < 0) {
			*err = why;
			return error_wrap(err, "%s", rootfs_tmpfs[i]);
		}
	}
	return 0;
}

bool shared_has_sent(const struct shared *s, const char *path, int fd)
{
	const struct shared_object *o;
	struct stat st;

	if (fstat(fd, &st) < 0)
		return false;
	o = shared_known(s, st.st_dev, st.st_ino, PAGES_FILE);
	return o && !strcmp(o->about.name, path);
}

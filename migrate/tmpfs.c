#include <fcntl.h>
#include <string.h>

#include "engine/base/fd.h"
#include "migrate/admission/machine.h"
#include "migrate/tmpfs.h"
#include "migrate/tree_ids.h"

#define ENTRIES_MAX 100000000u

int tmpfs_make(const struct spec *s, struct tmpfs *ret, struct error *err)
{
	ret->ids = &s->userns;
	for (size_t i = 0; rootfs_tmpfs[i]; i++) {
		if (rootfs_make_tmpfs(s, rootfs_tmpfs[i], &ret->mounts[i], err) < 0 ||
		    fd_open_dir_at(ret->mounts[i], ".", false, 0, &ret->tops[i], err) < 0)
			return error_wrap(err, "%s", rootfs_tmpfs[i]);
	}
	return 0;
}

void tmpfs_closep(struct tmpfs *t)
{
	for (size_t i = 0; i < ROOTFS_TMPFS_MAX; i++) {
		fd_close(&t->tops[i]);
		fd_close(&t->mounts[i]);
	}
}

int tmpfs_top(const struct tmpfs *t, const char *path, int *ret_fd, struct error *err)
{
	for (size_t i = 0; rootfs_tmpfs[i]; i++) {
		size_t len = strlen(rootfs_tmpfs[i]);

		if (strncmp(path, rootfs_tmpfs[i], len) != 0 || (path[len] && path[len] != '/') || t->tops[i] < 0)
			continue;
		*ret_fd = t->tops[i];
		return 0;
	}
	return error_set(err, EPROTO, "%.200s is in no tmpfs of the container", path);
}

struct filling {
	const char *mount_point;
	struct shared_store *shared;
};

static int bring(void *ctx, const char *path, int parent_fd, const char *name, struct error *err)
{
	const struct filling *f = ctx;
	char full[PAGES_NAME_MAX + 1];

	if (snprintf(full, sizeof(full), "%s/%s", f->mount_point, path) >= (int)sizeof(full))
		return 0;
	return shared_store_link(f->shared, full, parent_fd, name, err);
}

static int make_room(void *ctx, int fd, uint64_t offset, uint64_t len, struct error *err)
{
	const struct filling *f = ctx;

	return shared_store_make_room(f->shared, fd, offset, len, err);
}

int tmpfs_unpack(const struct tmpfs *t, const char *mount_point, struct shared_store *shared,
		 tree_read_fn read, void *ctx, struct error *err)
{
	struct filling filling = { mount_point, shared };
	const struct tree_contents contents = { .bring = bring, .make_room = make_room, .ctx = &filling,
						.translate = tree_ids_to_host, .ids = t->ids };
	struct tree_limits limits = { .entries = ENTRIES_MAX };
	struct tree_stats stats;
	uint64_t room;
	int top = -EBADF;

	if (tmpfs_top(t, mount_point, &top, err) < 0 || machine_free_disk(top, &room, err) < 0)
		return -err->code;
	limits.bytes = room + 1;
	if (tree_unpack_contents(top, &contents, read, ctx, &limits, &stats, err) < 0)
		return error_wrap(err, "%s", mount_point);
	return 0;
}

int tmpfs_complete(const struct tmpfs *t, const struct spec *s, struct error *err)
{
	for (size_t i = 0; rootfs_tmpfs[i]; i++)
		if (t->mounts[i] >= 0 && rootfs_limit_tmpfs(s, rootfs_tmpfs[i], t->mounts[i], err) < 0)
			return -err->code;
	return 0;
}

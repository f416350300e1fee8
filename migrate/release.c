#include <fcntl.h>
#include <string.h>

#include "engine/base/fd.h"
#include "migrate/release.h"

static int open_folder(const struct node *node, int *ret_fd, struct error *err)
{
	return fd_open_dir_at(node->state_fd, "releases", true, 0700, ret_fd, err);
}

int release_write(const struct node *node, const struct handover *h, struct error *err)
{
	CLEANUP(fd_closep) int dir = -EBADF;

	if (open_folder(node, &dir, err) < 0)
		return -err->code;
	if (handover_save(dir, h->token, h, err) < 0)
		return error_wrap(err, "write what the target may forget");
	return 0;
}

int release_read(const struct node *node, const char *token, struct handover *ret, struct error *err)
{
	CLEANUP(fd_closep) int dir = -EBADF;

	if (open_folder(node, &dir, err) < 0)
		return -err->code;
	if (handover_load(dir, token, ret, err) < 0)
		return error_wrap(err, "releases");
	return 0;
}

int release_remove(const struct node *node, const char *token, struct error *err)
{
	CLEANUP(fd_closep) int dir = -EBADF;

	if (open_folder(node, &dir, err) < 0)
		return -err->code;
	if (unlinkat(dir, token, 0) < 0 && errno != ENOENT)
		return error_set(err, errno, "releases: remove %s: %s", token, strerror(errno));
	return 0;
}

void release_remove_temporary(const struct node *node)
{
	CLEANUP(fd_closep) int dir = openat(node->state_fd, "releases", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	container_remove_temporary_at(dir);
}

int release_list(const struct node *node, char ***ret, size_t *ret_n, struct error *err)
{
	return fd_list_at(node->state_fd, "releases", ret, ret_n, err);
}

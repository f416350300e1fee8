#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "engine/base/cleanup.h"
#include "engine/base/fd.h"
#include "engine/container.h"
#include "migrate/workdir.h"

#define LOG_LIMIT (64u << 20)

int workdir_create(int *ret_fd, struct error *err)
{
	CLEANUP(fd_closep) int fs = fsopen("tmpfs", FSOPEN_CLOEXEC);
	CLEANUP(fd_closep) int mnt = -EBADF;
	int top;

	/* No size but the machine's memory: what is needed was negotiated. */
	if (fs < 0 || fsconfig(fs, FSCONFIG_SET_STRING, "mode", "0700", 0) < 0 ||
	    fsconfig(fs, FSCONFIG_SET_STRING, "size", "100%", 0) < 0 ||
	    fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return error_set(err, errno, "make a tmpfs: %s", strerror(errno));
	mnt = fsmount(fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
	top = mnt < 0 ? -1 : openat(mnt, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (top < 0)
		return error_set(err, errno, "open a tmpfs: %s", strerror(errno));
	*ret_fd = top;
	return 0;
}

int workdir_open(int workdir_fd, const char *path, int *ret_fd, struct error *err)
{
	CLEANUP(freep) char *copy = strdup(path);

	for (char *p = copy ? strchr(copy, '/') : NULL; p; p = strchr(p + 1, '/')) {
		*p = '\0';
		if (mkdirat(workdir_fd, copy, 0700) < 0 && errno != EEXIST)
			return error_set(err, errno, "make %s: %s", copy, strerror(errno));
		*p = '/';
	}
	return fd_open_dir_at(workdir_fd, path, true, 0700, ret_fd, err);
}

int workdir_give(int dir_fd, const struct userns *u, struct error *err)
{
	uid_t uid = id_map_host(&u->uids, 0);
	gid_t gid = id_map_host(&u->gids, 0);
	char **names = NULL;
	size_t n = 0;
	int r = userns_is_own(u) ? fd_list_at(dir_fd, ".", &names, &n, err) : 0;

	for (size_t i = 0; r == 0 && i < n; i++)
		if (fchownat(dir_fd, names[i], uid, gid, AT_SYMLINK_NOFOLLOW) < 0)
			r = error_set(err, errno, "image %s: chown: %s", names[i], strerror(errno));
	fd_list_free(names, n);
	if (r == 0 && userns_is_own(u) && fchown(dir_fd, uid, gid) < 0)
		r = error_set(err, errno, "CRIU's images: chown: %s", strerror(errno));
	return r;
}

void workdir_keep_log(int dir_fd, const char *path, const struct container *c, struct error *err)
{
	const char *base = strrchr(path, '/');
	CLEANUP(fd_closep) int logs = -EBADF;
	CLEANUP(freep) char *text = NULL;
	char name[SPEC_NAME_MAX + 32];
	struct error ignored;
	size_t len, at = strlen(err->msg);

	(void)snprintf(name, sizeof(name), "%s-%s", c->name, base ? base + 1 : path);
	if (fd_read_file_at(dir_fd, path, LOG_LIMIT, &text, &len, &ignored) < 0 ||
	    fd_open_dir_at(c->node->state_fd, "logs", true, 0700, &logs, &ignored) < 0 ||
	    fd_replace_file_at(logs, name, text, len, 0600, FD_REPLACE, &ignored) < 0)
		return;
	(void)snprintf(err->msg + at, sizeof(err->msg) - at, "; CRIU's log: %s/logs/%s", c->node->path, name);
}

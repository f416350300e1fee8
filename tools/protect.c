#include <fcntl.h>
#include <linux/mount.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>

#include "engine/base/cleanup.h"
#include "tools/protect.h"

#define SELF "/proc/self/exe"

int protect_self(char *const *argv, struct error *err)
{
	struct mount_attr attr = { .attr_set = MOUNT_ATTR_RDONLY };
	CLEANUP(fd_closep) int tree = -EBADF;
	struct statvfs st;

	if (statvfs(SELF, &st) < 0)
		return error_set(err, errno, SELF ": %s", strerror(errno));
	if (st.f_flag & ST_RDONLY) {
		(void)prctl(PR_SET_NAME, "godwit");	/* execveat took the number of the fd */
		return 0;
	}
	tree = (int)syscall(SYS_open_tree, AT_FDCWD, SELF, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	if (tree < 0 || syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH, &attr, sizeof(attr)) < 0)
		return error_set(err, errno, "mount this program read-only: %s%s", strerror(errno),
				 errno == EPERM ? "; godwit needs root" : "");
	(void)syscall(SYS_execveat, tree, "", argv, environ, AT_EMPTY_PATH);
	return error_set(err, errno, "execute this program again: %s", strerror(errno));
}

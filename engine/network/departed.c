#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "engine/base/cleanup.h"
#include "engine/base/fd.h"
#include "engine/network/departed.h"
#include "engine/network/network.h"

#define FOLDER "departed"

static void path_of(const char *address, char ret[sizeof(FOLDER) + NETWORK_CIDR_MAX])
{
	(void)snprintf(ret, sizeof(FOLDER) + NETWORK_CIDR_MAX, FOLDER "/%.*s", (int)strcspn(address, "/"), address);
}

int departed_note(const struct node *node, const char *address, struct error *err)
{
	CLEANUP(fd_closep) int dir = -EBADF, file = -EBADF;
	char path[sizeof(FOLDER) + NETWORK_CIDR_MAX];

	path_of(address, path);
	if (fd_open_dir_at(node->state_fd, FOLDER, true, 0700, &dir, err) < 0)
		return error_wrap(err, FOLDER);
	file = openat(node->state_fd, path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (file < 0 || fsync(dir) < 0)
		return error_set(err, errno, "%s: %s", path, strerror(errno));
	return 0;
}

bool departed_has(const struct node *node, const char *address)
{
	char path[sizeof(FOLDER) + NETWORK_CIDR_MAX];

	path_of(address, path);
	return faccessat(node->state_fd, path, F_OK, 0) == 0;
}

void departed_forget(const struct node *node, const char *address)
{
	char path[sizeof(FOLDER) + NETWORK_CIDR_MAX];

	path_of(address, path);
	(void)unlinkat(node->state_fd, path, 0);
}

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "engine/base/cleanup.h"
#include "engine/image/tree_places.h"

void tree_places_init(struct tree_places *p, int top_fd)
{
	*p = (struct tree_places){ .top_fd = top_fd, .parent_fd = -EBADF };
}

void tree_places_clear(struct tree_places *p)
{
	fd_close(&p->parent_fd);
}

int tree_path_normalize(const char *path, char ret[PATH_MAX], struct error *err)
{
	size_t len = 0;

	if (*path == '/')
		return error_set(err, EPROTO, "absolute name");
	for (const char *p = path; *p; ) {
		size_t n = strcspn(p, "/");

		if (n == 2 && !memcmp(p, "..", 2))
			return error_set(err, EPROTO, "name with '..'");
		if (n > NAME_MAX || len + n + 2 > PATH_MAX)
			return error_set(err, ENAMETOOLONG, "name too long");
		if (n && !(n == 1 && *p == '.')) {
			if (len)
				ret[len++] = '/';
			memcpy(ret + len, p, n);
			len += n;
		}
		p += n + (p[n] == '/');
	}
	ret[len] = '\0';
	return 0;
}

void tree_places_forget(struct tree_places *p)
{
	fd_close(&p->parent_fd);
}

static int open_beneath(int dirfd, const char *path, int flags)
{
	struct open_how how = {
		.flags = (uint64_t)(flags | O_CLOEXEC | O_NOFOLLOW),
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV,
	};

	return (int)syscall(SYS_openat2, dirfd, path, &how, sizeof(how));
}

int tree_places_open(const struct tree_places *p, const char *path, int flags)
{
	return open_beneath(p->top_fd, *path ? path : ".", flags);
}

/* Makes what is missing of a path, from the top down; -1 and errno. */
static int make_parents(struct tree_places *p, const char *path)
{
	CLEANUP(fd_closep) int fd = tree_places_open(p, "", O_PATH | O_DIRECTORY);
	char name[NAME_MAX + 1];

	while (fd >= 0 && *path) {
		size_t n = strcspn(path, "/");
		int next;

		memcpy(name, path, n);
		name[n] = '\0';
		if (mkdirat(fd, name, 0755) == 0) {
			p->made++;
			(void)fchmodat(fd, name, 0755, 0);	/* whatever the umask is */
		} else if (errno != EEXIST) {
			return -1;
		}
		next = open_beneath(fd, name, O_PATH | O_DIRECTORY);
		fd_close(&fd);
		fd = next;
		path += n + (path[n] == '/');
	}
	return TAKE_FD(fd);
}

static int open_parent(struct tree_places *p, const char *parent, struct error *err)
{
	int fd;

	if (p->parent_fd >= 0 && !strcmp(parent, p->parent))
		return 0;
	fd = tree_places_open(p, parent, O_PATH | O_DIRECTORY);
	if (fd < 0 && errno == ENOENT)
		fd = make_parents(p, parent);
	if (fd < 0 && (errno == ELOOP || errno == ENOTDIR))
		return error_set(err, EPROTO, "its folder is a symlink or no folder");
	if (fd < 0 && errno == EXDEV)
		return error_set(err, EPROTO, "its folder is on another file system");
	if (fd < 0)
		return error_set(err, errno, "open its folder: %s", strerror(errno));
	fd_close(&p->parent_fd);
	p->parent_fd = fd;
	strcpy(p->parent, parent);
	return 0;
}

int tree_places_find(struct tree_places *p, const char *path, struct tree_place *ret,
		     struct error *err)
{
	char clean[PATH_MAX];
	char *slash;

	if (tree_path_normalize(path, clean, err) < 0)
		return -err->code;
	slash = strrchr(clean, '/');
	strcpy(ret->name, slash ? slash + 1 : clean);
	if (slash)
		*slash = '\0';
	if (open_parent(p, slash ? clean : "", err) < 0)
		return -err->code;
	ret->parent_fd = p->parent_fd;
	return 0;
}

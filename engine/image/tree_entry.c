#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "engine/base/cleanup.h"
#include "engine/image/tree_entry.h"

#define LIST_SIZE 65536		/* XATTR_LIST_MAX and XATTR_SIZE_MAX of the kernel */

bool tree_xattr_travels(const char *name)
{
	return !strncmp(name, "user.", 5) || !strncmp(name, "trusted.", 8) ||
	       !strcmp(name, "security.capability") ||
	       !strcmp(name, "system.posix_acl_access") ||
	       !strcmp(name, "system.posix_acl_default");
}

void tree_xattrs_clear(struct tree_xattrs *xattrs)
{
	for (size_t i = 0; i < xattrs->n; i++) {
		free(xattrs->list[i].name);
		free(xattrs->list[i].value);
	}
	free(xattrs->list);
	*xattrs = (struct tree_xattrs){ 0 };
}

int tree_xattrs_add(struct tree_xattrs *xattrs, const char *name, const void *value, size_t size,
		    struct error *err)
{
	CLEANUP(freep) char *name_copy = strdup(name);
	CLEANUP(freep) void *value_copy = malloc(size + 1);
	struct tree_xattr *more = realloc(xattrs->list, (xattrs->n + 1) * sizeof(*more));

	if (more)
		xattrs->list = more;
	if (!more || !name_copy || !value_copy)
		return error_set(err, ENOMEM, "out of memory");
	memcpy(value_copy, value, size);
	xattrs->list[xattrs->n++] = (struct tree_xattr){
		.name = TAKE_PTR(name_copy), .value = TAKE_PTR(value_copy), .size = size,
	};
	return 0;
}

/* There is no *xattrat before kernel 6.13: go through the parent's link in /proc. */
static int proc_path(int parent_fd, const char *name, char path[PATH_MAX], struct error *err)
{
	if (snprintf(path, PATH_MAX, "/proc/self/fd/%d/%s", parent_fd, name) >= PATH_MAX)
		return error_set(err, ENAMETOOLONG, "%s: name too long", name);
	return 0;
}

static int read_one(int fd, const char *path, const char *name, void *buf,
		    struct tree_xattrs *xattrs, struct error *err)
{
	ssize_t n = fd >= 0 ? fgetxattr(fd, name, buf, LIST_SIZE) :
			      lgetxattr(path, name, buf, LIST_SIZE);

	if (n < 0 && errno == ENODATA)	/* removed meanwhile */
		return 0;
	if (n < 0)
		return error_set(err, errno, "read attribute %s: %s", name, strerror(errno));
	return tree_xattrs_add(xattrs, name, buf, (size_t)n, err);
}

static int by_name(const void *a, const void *b)
{
	const struct tree_xattr *x = a, *y = b;

	return strcmp(x->name, y->name);
}

static int read_named(int fd, const char *path, const char *names, size_t len,
		      struct tree_xattrs *xattrs, struct error *err)
{
	CLEANUP(freep) char *buf = NULL;

	for (const char *name = names; name < names + len; name += strlen(name) + 1) {
		if (!tree_xattr_travels(name))
			continue;
		if (!buf && !(buf = malloc(LIST_SIZE)))
			return error_set(err, ENOMEM, "out of memory");
		if (read_one(fd, path, name, buf, xattrs, err) < 0)
			return -err->code;
	}
	if (xattrs->n)
		qsort(xattrs->list, xattrs->n, sizeof(xattrs->list[0]), by_name);
	return 0;
}

int tree_xattrs_read(int fd, int parent_fd, const char *name, struct tree_xattrs *ret,
		     struct error *err)
{
	char names[LIST_SIZE], path[PATH_MAX] = "";
	struct tree_xattrs xattrs = { 0 };
	ssize_t len;

	if (fd < 0 && proc_path(parent_fd, name, path, err) < 0)
		return -err->code;
	len = fd >= 0 ? flistxattr(fd, names, sizeof(names)) :
			llistxattr(path, names, sizeof(names));
	if (len < 0 && errno != ENOTSUP)
		return error_set(err, errno, "list attributes: %s", strerror(errno));
	if (len > 0 && read_named(fd, path, names, (size_t)len, &xattrs, err) < 0) {
		tree_xattrs_clear(&xattrs);
		return -err->code;
	}
	*ret = xattrs;
	return 0;
}

int tree_xattrs_write(int fd, int parent_fd, const char *name, const struct tree_xattrs *xattrs,
		      struct error *err)
{
	char path[PATH_MAX] = "";

	if (!xattrs->n)
		return 0;
	if (fd < 0 && proc_path(parent_fd, name, path, err) < 0)
		return -err->code;
	for (size_t i = 0; i < xattrs->n; i++) {
		const struct tree_xattr *x = &xattrs->list[i];
		int r = fd >= 0 ? fsetxattr(fd, x->name, x->value, x->size, 0) :
				  lsetxattr(path, x->name, x->value, x->size, 0);

		if (r < 0)
			return error_set(err, errno, "set attribute %s: %s", x->name, strerror(errno));
	}
	return 0;
}

static bool has_xattr(const struct tree_xattrs *xattrs, const char *name)
{
	for (size_t i = 0; i < xattrs->n; i++)
		if (!strcmp(xattrs->list[i].name, name))
			return true;
	return false;
}

int tree_xattrs_remove_others(int fd, const struct tree_xattrs *xattrs, bool keep_overlay, struct error *err)
{
	char names[LIST_SIZE];
	ssize_t len = flistxattr(fd, names, sizeof(names));

	if (len < 0 && errno != ENOTSUP)
		return error_set(err, errno, "list attributes: %s", strerror(errno));
	for (const char *name = names; len > 0 && name < names + len; name += strlen(name) + 1) {
		if (!tree_xattr_travels(name) || has_xattr(xattrs, name) ||
		    (keep_overlay && !strncmp(name, "trusted.overlay.", 16)))
			continue;
		if (fremovexattr(fd, name) < 0 && errno != ENODATA)
			return error_set(err, errno, "remove attribute %s: %s", name, strerror(errno));
	}
	return 0;
}

int tree_entry_copy_meta(const struct tree_entry *from, struct tree_entry *to, struct error *err)
{
	*to = *from;
	to->path = to->hardlink = to->target = NULL;
	to->xattrs = (struct tree_xattrs){ 0 };
	for (size_t i = 0; i < from->xattrs.n; i++) {
		const struct tree_xattr *x = &from->xattrs.list[i];

		if (tree_xattrs_add(&to->xattrs, x->name, x->value, x->size, err) < 0) {
			tree_xattrs_clear(&to->xattrs);
			return -err->code;
		}
	}
	return 0;
}

/* In this order: chown takes away setuid bits and capabilities, and an access
 * ACL may change the group's bits. fd is open, or -EBADF: name in parent_fd. */
int tree_entry_set_meta(int fd, int parent_fd, const char *name, const struct tree_entry *e,
		    struct error *err)
{
	struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, e->mtime };
	int at = fd >= 0 ? fd : parent_fd;
	int flags = fd >= 0 ? AT_EMPTY_PATH : AT_SYMLINK_NOFOLLOW;
	const char *path = fd >= 0 ? "" : name;
	int r;

	if (fchownat(at, path, e->uid, e->gid, flags) < 0)
		return error_set(err, errno, "set owner %u:%u: %s", e->uid, e->gid, strerror(errno));
	if (tree_xattrs_write(fd, parent_fd, name, &e->xattrs, err) < 0)
		return -err->code;
	if (!S_ISLNK(e->mode)) {
		r = fd >= 0 ? fchmod(fd, e->mode & 07777) : fchmodat(at, path, e->mode & 07777, 0);
		if (r < 0)
			return error_set(err, errno, "set mode %o: %s", e->mode & 07777,
					 strerror(errno));
	}
	r = fd >= 0 ? futimens(fd, times) : utimensat(at, path, times, flags);
	if (r < 0)
		return error_set(err, errno, "set time: %s", strerror(errno));
	return 0;
}

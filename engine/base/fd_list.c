#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/cleanup.h"
#include "engine/base/fd.h"

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int append(char ***names, size_t *n, const char *name, struct error *err)
{
	char **more = reallocarray(*names, *n + 1, sizeof(**names));
	char *copy = strdup(name);

	if (more)
		*names = more;
	if (!more || !copy) {
		free(copy);
		return error_set(err, ENOMEM, "out of memory");
	}
	more[(*n)++] = copy;
	return 0;
}

int fd_list_at(int dirfd, const char *path, char ***ret, size_t *ret_n, struct error *err)
{
	int fd = openat(dirfd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CLEANUP(dir_closep) DIR *d = fd < 0 ? NULL : fdopendir(fd);
	char **names = NULL;
	struct dirent *e;
	size_t n = 0;
	int r = 0;

	if (!d)
		return error_set(err, errno, "open %s: %s", path, strerror(errno));
	while (r == 0 && (e = readdir(d)))
		if (e->d_name[0] != '.')
			r = append(&names, &n, e->d_name, err);
	if (r < 0) {
		fd_list_free(names, n);
		return r;
	}
	if (n)
		qsort(names, n, sizeof(*names), compare_names);
	*ret = names;
	*ret_n = n;
	return 0;
}

void fd_list_free(char **names, size_t n)
{
	for (size_t i = 0; i < n; i++)
		free(names[i]);
	free(names);
}

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "engine/base/fd.h"
#include "engine/image/image_json.h"
#include "engine/image/image_store.h"

#define LETTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
#define NAME_LEN_MAX 128

void image_free(struct image *image)
{
	if (!image)
		return;
	free(image->name);
	free(image);
}

int image_new(const char *name, struct image **ret, struct error *err)
{
	struct image *image = calloc(1, sizeof(*image));

	if (image)
		image->name = strdup(name);
	if (!image || !image->name) {
		image_free(image);
		return error_set(err, ENOMEM, "out of memory");
	}
	*ret = image;
	return 0;
}

int image_check_name(const char *name, struct error *err)
{
	size_t len = strlen(name);

	if (len >= 1 && len <= NAME_LEN_MAX && strspn(name, LETTERS) >= 1 &&
	    strspn(name, LETTERS "_.-") == len)
		return 0;
	return error_set(err, EINVAL, "bad image name '%.140s': it must begin with a letter or digit "
			 "and have at most %d letters, digits, '_', '.' and '-'", name, NAME_LEN_MAX);
}

/* The folder of one image, in images_fd. */
static int open_folder(int images_fd, const char *name, int *ret_fd, struct error *err)
{
	int fd = openat(images_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);

	if (fd < 0 && errno == ENOENT)
		return error_set(err, ENOENT, "no image %s: godwit image ls lists what there is", name);
	if (fd < 0)
		return error_set(err, errno, "image %s: %s", name, strerror(errno));
	*ret_fd = fd;
	return 0;
}

static int open_in(int images_fd, const char *name, struct image **ret, struct error *err)
{
	CLEANUP(fd_closep) int fd = -EBADF;

	if (open_folder(images_fd, name, &fd, err) < 0)
		return -err->code;
	if (image_json_read(fd, name, ret, err) < 0)
		return error_wrap(err, "image %s is damaged (remove it and import it again)", name);
	return 0;
}

int image_open(int state_fd, const char *name, struct image **ret, struct error *err)
{
	CLEANUP(fd_closep) int fd = -EBADF;

	if (image_check_name(name, err) < 0 || image_store_open(state_fd, &fd, err) < 0)
		return -err->code;
	return open_in(fd, name, ret, err);
}

int image_rootfs_fd(int state_fd, const char *name, int *ret_fd, struct error *err)
{
	CLEANUP(fd_closep) int images_fd = -EBADF;
	CLEANUP(fd_closep) int fd = -EBADF;

	if (image_check_name(name, err) < 0 || image_store_open(state_fd, &images_fd, err) < 0 ||
	    open_folder(images_fd, name, &fd, err) < 0)
		return -err->code;
	if (fd_open_dir_at(fd, "rootfs", false, 0, ret_fd, err) < 0)
		return error_wrap(err, "image %s is damaged (remove it and import it again)", name);
	return 0;
}

struct list {
	struct image **images;
	size_t n;
};

static void list_clear(struct list *list)
{
	for (size_t i = 0; i < list->n; i++)
		image_free(list->images[i]);
	free(list->images);
}

static int list_add(struct list *list, int images_fd, const char *name, struct error *err)
{
	struct image **more = realloc(list->images, (list->n + 1) * sizeof(struct image *));

	if (!more)
		return error_set(err, ENOMEM, "out of memory");
	list->images = more;
	if (open_in(images_fd, name, &more[list->n], err) < 0) {
		/* removed since its name was read? */
		return faccessat(images_fd, name, F_OK, 0) < 0 && errno == ENOENT ? 0 : -err->code;
	}
	list->n++;
	return 0;
}

static int by_name(const void *a, const void *b)
{
	return strcmp((*(struct image *const *)a)->name, (*(struct image *const *)b)->name);
}

int image_list(int state_fd, struct image ***ret, size_t *ret_n, struct error *err)
{
	CLEANUP(fd_closep) int fd = -EBADF;
	CLEANUP(dir_closep) DIR *dir = NULL;
	CLEANUP(list_clear) struct list list = { 0 };
	struct dirent *e;
	int dir_fd;

	if (image_store_open(state_fd, &fd, err) < 0 ||
	    fd_open_dir_at(fd, ".", false, 0, &dir_fd, err) < 0)
		return -err->code;
	dir = fdopendir(dir_fd);
	if (!dir) {
		fd_close(&dir_fd);
		return error_set(err, ENOMEM, "out of memory");
	}
	while ((errno = 0, e = readdir(dir))) {
		if (*e->d_name != '.' && list_add(&list, fd, e->d_name, err) < 0)
			return -err->code;
	}
	if (errno)
		return error_set(err, errno, "list images: %s", strerror(errno));
	if (list.n)
		qsort(list.images, list.n, sizeof(struct image *), by_name);
	*ret_n = TAKE(list.n, 0);
	*ret = TAKE_PTR(list.images);
	return 0;
}

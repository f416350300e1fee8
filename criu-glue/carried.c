#include <string.h>
#include <sys/mman.h>

#include "criu-glue/carried.h"
#include "criu-glue/shim/shim.h"

struct carried {
	int fd;
	struct shim_carried *list;
};

int carried_new(struct carried **ret, struct error *err)
{
	CLEANUP(carried_freep) struct carried *c = calloc(1, sizeof(*c));

	if (!c)
		return error_set(err, ENOMEM, "out of memory");
	c->fd = memfd_create("godwit-carried", MFD_CLOEXEC);
	if (c->fd < 0 || ftruncate(c->fd, SHIM_CARRIED_BYTES) < 0)
		return error_set(err, errno, "list of carried memory: %s", strerror(errno));
	c->list = mmap(NULL, SHIM_CARRIED_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, c->fd, 0);
	if (c->list == MAP_FAILED) {
		c->list = NULL;
		return error_set(err, errno, "list of carried memory: %s", strerror(errno));
	}
	*ret = TAKE_PTR(c);
	return 0;
}

void carried_free(struct carried *c)
{
	if (!c)
		return;
	if (c->list)
		(void)munmap(c->list, SHIM_CARRIED_BYTES);
	fd_close(&c->fd);
	free(c);
}

int carried_add(struct carried *c, pid_t pid, uint64_t start, uint64_t end, struct error *err)
{
	uint64_t n = c->list->n;

	if (n == SHIM_CARRIED_MAX)
		return error_set(err, E2BIG, "more than %d ranges of memory to carry", SHIM_CARRIED_MAX);
	c->list->ranges[n] = (struct shim_range){ .pid = (uint64_t)pid, .start = start, .end = end };
	c->list->n = n + 1;
	return 0;
}

_Static_assert(CARRIED_OBJECTS_MAX == SHIM_OBJECTS_MAX, "one limit");

int carried_add_object(struct carried *c, dev_t dev, ino_t ino, bool sysv, struct error *err)
{
	uint64_t n = c->list->n_objects;

	if (n == SHIM_OBJECTS_MAX)
		return error_set(err, E2BIG, "more than %d shared objects to carry", SHIM_OBJECTS_MAX);
	c->list->objects[n] = (struct shim_object){ .dev = dev, .ino = ino, .sysv = sysv };
	c->list->n_objects = n + 1;
	return 0;
}

int carried_fd(const struct carried *c)
{
	return c->fd;
}

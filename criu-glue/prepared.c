#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "criu-glue/prepared.h"
#include "criu-glue/shim/shim.h"

_Static_assert(PREPARED_INSIDE_MAX == SHIM_STORE_MAX, "told by the header");

struct prepared {
	int fd;
	struct shim_prepared *list;
};

int prepared_new(struct prepared **ret, struct error *err)
{
	CLEANUP(fd_closep) int fd = memfd_create("godwit-prepared", MFD_CLOEXEC);

	if (fd < 0 || ftruncate(fd, SHIM_PREPARED_BYTES) < 0)
		return error_set(err, errno, "list of shared memory: %s", strerror(errno));
	return prepared_adopt(TAKE_FD(fd), ret, err);
}

int prepared_adopt(int fd_consume, struct prepared **ret, struct error *err)
{
	CLEANUP(fd_closep) int fd = fd_consume;
	CLEANUP(prepared_freep) struct prepared *p = calloc(1, sizeof(*p));

	if (!p)
		return error_set(err, ENOMEM, "out of memory");
	p->fd = TAKE_FD(fd);
	p->list = mmap(NULL, SHIM_PREPARED_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, p->fd, 0);
	if (p->list == MAP_FAILED) {
		p->list = NULL;
		return error_set(err, errno, "list of shared memory: %s", strerror(errno));
	}
	*ret = TAKE_PTR(p);
	return 0;
}

void prepared_free(struct prepared *p)
{
	if (!p)
		return;
	if (p->list)
		(void)munmap(p->list, SHIM_PREPARED_BYTES);
	fd_close(&p->fd);
	free(p);
}

int prepared_add(struct prepared *p, const struct prepared_memory *m, struct error *err)
{
	if (p->list->n == SHIM_OBJECTS_MAX)
		return error_set(err, E2BIG, "more than %d shared objects", SHIM_OBJECTS_MAX);
	p->list->list[p->list->n++] = (struct shim_memory){
		.id = m->id, .size = m->size, .sysv = m->sysv, .pid = (int)getpid(), .fd = m->fd,
		.huge_shift = (int)m->huge_shift };
	return 0;
}

int prepared_fd(const struct prepared *p)
{
	return p->fd;
}

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "engine/base/fd.h"
#include "migrate/memory/shared_allocator.h"

struct piece {
	uint64_t offset, len;
};

static int allocate(const struct piece *p, int fd, struct error *err)
{
	while (fallocate(fd, FALLOC_FL_KEEP_SIZE, (off_t)p->offset, (off_t)p->len) < 0)
		if (errno != EINTR)
			return error_set(err, errno, "allocate shared memory: %s", strerror(errno));
	return 0;
}

/* In the container's control group; each piece is answered by a struct error. */
static void work(int sock, const void *what)
{
	const struct cgroup *const *cgroup = what;
	struct error err = { 0 }, ignored;
	struct piece p;
	int fd;

	if (cgroup_join(*cgroup, 0, &err) < 0 || fd_close_all_except(&sock, 1, &err) < 0) {
		(void)fd_send_msg(sock, &err, sizeof(err), NULL, 0, &ignored);
		return;
	}
	while (fd_recv_msg(sock, &p, sizeof(p), &fd, 1, &ignored) == sizeof(p)) {
		err.code = 0;
		(void)allocate(&p, fd, &err);
		fd_close(&fd);
		if (fd_send_msg(sock, &err, sizeof(err), NULL, 0, &ignored) < 0)
			return;
	}
}

/* The kernel kills it when there is nothing else to kill. */
static int no_room(struct error *err)
{
	return error_set(err, ENOMEM, "the container's memory limit has no room for the memory that its processes "
			 "share and its files in memory; raise it (godwit update --memory)");
}

static int ask(const struct shared_allocator *a, const struct piece *p, int fd, struct error *err)
{
	struct error its, ignored;

	if (fd_send_msg(a->helper.sock, p, sizeof(*p), &fd, 1, &ignored) < 0 ||
	    fd_recv_msg(a->helper.sock, &its, sizeof(its), NULL, 0, &ignored) != sizeof(its))
		return no_room(err);
	if (its.code == 0)
		return 0;
	*err = its;
	return its.code == ENOMEM ? no_room(err) : -its.code;
}

int shared_allocator_take(struct shared_allocator *a, int fd, uint64_t offset, uint64_t len, struct error *err)
{
	const struct piece p = { offset, len };
	off_t hole = lseek(fd, (off_t)offset, SEEK_HOLE);

	if (!a->cgroup || (hole >= 0 && (uint64_t)hole >= offset + len))
		return 0;
	if (a->helper.pid == 0 && helper_start(work, &a->cgroup, &a->helper, err) < 0)
		return -err->code;
	return ask(a, &p, fd, err);
}

void shared_allocator_free(struct shared_allocator *a)
{
	helper_end(&a->helper);
}

#include <fcntl.h>
#include <linux/magic.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/timerfd.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "engine/base/fd.h"
#include "migrate/files/file_times.h"

#define MARGIN_NS 20000000		/* two ticks of the slowest clock */
#define FAR_FUTURE_S 4000000000

#ifndef XFS_SUPER_MAGIC
#define XFS_SUPER_MAGIC 0x58465342
#endif

struct file_times {
	int timer;			/* tells when the clock is set; -EBADF: nobody does */
	bool maps_tell;			/* the first write through a mapping sets the time */
};

int file_times_new(int dirfd, struct file_times **ret, struct error *err)
{
	struct file_times *t = calloc(1, sizeof(*t));
	struct statfs fs;

	if (!t)
		return error_set(err, ENOMEM, "out of memory");
	/* tmpfs, for one, maps pages writable at once. */
	t->maps_tell = fstatfs(dirfd, &fs) == 0 && (fs.f_type == EXT4_SUPER_MAGIC || fs.f_type == XFS_SUPER_MAGIC ||
						    fs.f_type == BTRFS_SUPER_MAGIC);
	t->timer = timerfd_create(CLOCK_REALTIME, TFD_CLOEXEC | TFD_NONBLOCK);
	(void)file_times_hold(t);
	*ret = t;
	return 0;
}

void file_times_free(struct file_times *t)
{
	if (!t)
		return;
	fd_close(&t->timer);
	free(t);
}

bool file_times_hold(struct file_times *t)
{
	const struct itimerspec when = { .it_value.tv_sec = FAR_FUTURE_S };
	uint64_t n;
	bool was_set = read(t->timer, &n, sizeof(n)) < 0 && errno == ECANCELED;

	return timerfd_settime(t->timer, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &when, NULL) == 0 && !was_set;
}

struct timespec file_times_now(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_REALTIME_COARSE, &now);
	return now;
}

/* Without a fraction it may be that of a file system that keeps seconds only. */
bool file_times_settled(struct timespec ctime, struct timespec looked)
{
	if (ctime.tv_nsec == 0)
		return ctime.tv_sec + 1 < looked.tv_sec;
	return (looked.tv_sec - ctime.tv_sec) * 1000000000ll + looked.tv_nsec - ctime.tv_nsec > MARGIN_NS;
}

/* A lease on reading is granted only while no one can write. It is given back at once; who opens the file
 * for writing in between waits for that, and the signal that tells of it is one that does nothing. */
bool file_times_closed(const struct file_times *t, int fd)
{
	if (!t->maps_tell || fcntl(fd, F_SETSIG, SIGURG) < 0 || fcntl(fd, F_SETLEASE, F_RDLCK) < 0)
		return false;
	(void)fcntl(fd, F_SETLEASE, F_UNLCK);
	return true;
}

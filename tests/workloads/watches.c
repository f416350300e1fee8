/* inotify watches of a file and of a folder. */
#include <sys/inotify.h>

#include "tests/workloads/workload.h"

static int notify, on_file, on_folder, file;

static void workload_setup(int argc, char **argv)
{
	(void)argc, (void)argv;
	MUST(mkdir("/var/tmp/watched", 0755) == 0);
	file = workload_file("/var/tmp/watched/file", "text");
	notify = inotify_init1(IN_NONBLOCK);
	MUST(notify >= 0);
	on_file = inotify_add_watch(notify, "/var/tmp/watched/file", IN_MODIFY);
	on_folder = inotify_add_watch(notify, "/var/tmp/watched", IN_CREATE | IN_DELETE);
	MUST(on_file >= 0 && on_folder >= 0);
}

static bool next_is(int wd, uint32_t mask)
{
	char room[4096] __attribute__((aligned(8)));
	ssize_t n = read(notify, room, sizeof(room));
	const struct inotify_event *e = (const struct inotify_event *)room;

	if (n < (ssize_t)sizeof(*e))
		return workload_blame("no event %x of watch %d: %s", mask, wd, strerror(errno));
	if (e->wd != wd || !(e->mask & mask))
		return workload_blame("event %x of watch %d instead of %x of %d", e->mask, e->wd, mask, wd);
	return true;
}

/* CRIU itself may have touched the files: what is there before is dropped. */
static void forget(void)
{
	char room[4096];

	while (read(notify, room, sizeof(room)) > 0)
		;
}

static bool workload_check(void)
{
	int fd;

	forget();
	HOLDS(pwrite(file, "more", 4, 0) == 4);
	if (!next_is(on_file, IN_MODIFY))
		return false;
	fd = open("/var/tmp/watched/new", O_CREAT | O_WRONLY, 0600);
	HOLDS(fd >= 0 && close(fd) == 0);
	if (!next_is(on_folder, IN_CREATE))
		return false;
	HOLDS(unlink("/var/tmp/watched/new") == 0);
	return next_is(on_folder, IN_DELETE);
}

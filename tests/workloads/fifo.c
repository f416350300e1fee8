/* A FIFO in the file system, open at both ends, with something in it; devices. */
#include "tests/workloads/workload.h"

static int reader, writer, null, zero, urandom;

static void workload_setup(int argc, char **argv)
{
	(void)argc, (void)argv;
	MUST(mkfifo("/tmp/fifo", 0640) == 0);
	reader = open("/tmp/fifo", O_RDONLY | O_NONBLOCK);
	writer = open("/tmp/fifo", O_WRONLY);
	null = open("/dev/null", O_RDWR);
	zero = open("/dev/zero", O_RDONLY);
	urandom = open("/dev/urandom", O_RDONLY);
	MUST(reader >= 0 && writer >= 0 && null >= 0 && zero >= 0 && urandom >= 0);
	MUST(write(writer, "in the fifo", 11) == 11);
}

static bool workload_check(void)
{
	char text[64];
	struct stat st;

	HOLDS(read(reader, text, sizeof(text)) == 11 && !memcmp(text, "in the fifo", 11));
	HOLDS(read(reader, text + 16, 1) < 0 && errno == EAGAIN);
	HOLDS(write(writer, text, 11) == 11);
	HOLDS(stat("/tmp/fifo", &st) == 0 && S_ISFIFO(st.st_mode) && (st.st_mode & 0777) == 0640);
	HOLDS(write(null, text, 11) == 11 && read(null, text, 1) == 0);
	HOLDS(read(zero, text, 1) == 1 && text[0] == '\0' && read(urandom, text, 1) == 1);
	return true;
}

/* odd WHAT: things that few programs have; some of them CRIU can't dump. */
#include <linux/netlink.h>
#include <sys/mman.h>

#include "tests/workloads/workload.h"

static int made = -1;

static void workload_setup(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";

	if (!strcmp(what, "netlink"))
		made = socket(AF_NETLINK, SOCK_RAW, NETLINK_KOBJECT_UEVENT);
	else if (!strcmp(what, "pagemap"))
		made = open("/proc/self/pagemap", O_RDONLY);
	else if (!strcmp(what, "mem"))
		made = open("/proc/self/mem", O_RDWR);
	else if (!strcmp(what, "namespace"))
		made = open("/proc/self/ns/net", O_RDONLY);
	else if (!strcmp(what, "vsock"))
		made = socket(AF_VSOCK, SOCK_STREAM, 0);
	else if (!strcmp(what, "hugetlb"))
		made = memfd_create("huge", MFD_HUGETLB);
	MUST(made >= 0);
}

static bool workload_check(void)
{
	HOLDS(fcntl(made, F_GETFD) >= 0);
	return true;
}

/* refused packet|netlink|...: things that CRIU can't dump, to see how that is told. */
#include <linux/netlink.h>
#include <net/ethernet.h>
#include <sys/mman.h>
#include <sys/timerfd.h>

#include "tests/workloads/workload.h"

static int made = -1;

static void workload_setup(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";

	if (!strcmp(what, "packet"))
		made = socket(AF_PACKET, SOCK_RAW, htons(ETH_P_ALL));
	else if (!strcmp(what, "netlink"))
		made = socket(AF_NETLINK, SOCK_RAW, NETLINK_KOBJECT_UEVENT);
	else if (!strcmp(what, "raw"))
		made = socket(AF_INET, SOCK_RAW, IPPROTO_ICMP);
	else if (!strcmp(what, "alg"))
		made = socket(AF_ALG, SOCK_SEQPACKET, 0);
	else if (!strcmp(what, "vsock"))
		made = socket(AF_VSOCK, SOCK_STREAM, 0);
	else if (!strcmp(what, "boottime"))
		made = timerfd_create(CLOCK_BOOTTIME_ALARM, 0);
	else if (!strcmp(what, "kmsg"))
		made = open("/proc/self/pagemap", O_RDONLY);
	else if (!strcmp(what, "secret"))
		made = memfd_create("huge", MFD_HUGETLB);
	else if (!strcmp(what, "sctp"))
		made = socket(AF_INET, SOCK_STREAM, 132);
	else if (!strcmp(what, "ns"))
		made = open("/proc/self/ns/net", O_RDONLY);
	else if (!strcmp(what, "pidfd"))
		made = open("/proc/self/mem", O_RDWR);
	MUST(made >= 0);
}

static bool workload_check(void)
{
	HOLDS(fcntl(made, F_GETFD) >= 0);
	return true;
}

/* states WHAT: connections in states that last, and what is set on sockets.
 *
 *	options		what can be set on a TCP, a UDP and a listening socket
 *	multicast	memberships of groups, and what is sent to one
 *	half-closed	one direction closed, with data on its way in the other
 *	full		a connection to somebody else, whose queues are as full as they get
 *	time-wait	a connection that was closed here just now
 *	queued		datagrams that nobody has received
 *	waiting		connections that nobody has accepted
 *	unix		local sockets: connected, queued, descriptors in flight
 */
#include <net/if.h>
#include <netinet/tcp.h>
#include <sys/un.h>

#include "tests/workloads/workload.h"

#define PORT 7100
#define GROUP "239.7.7.7"
#define GROUP6 "ff15::7777"

static const char *what;
static int server = -1, client = -1, listener = -1, udp = -1, other = -1;

static struct sockaddr_in loopback(void)
{
	return (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons(PORT),
				     .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
}

static void connect_self(void)
{
	const struct sockaddr_in sa = loopback();

	listener = socket(AF_INET, SOCK_STREAM, 0);
	client = socket(AF_INET, SOCK_STREAM, 0);
	MUST(bind(listener, (const struct sockaddr *)&sa, sizeof(sa)) == 0 && listen(listener, 5) == 0);
	MUST(connect(client, (const struct sockaddr *)&sa, sizeof(sa)) == 0);
	server = accept(listener, NULL, NULL);
	MUST(server >= 0);
}

static bool says(int from, int to, const char *text)
{
	char have[64];
	ssize_t n = (ssize_t)strlen(text);

	HOLDS(send(from, text, (size_t)n, MSG_NOSIGNAL) == n);
	HOLDS(recv(to, have, sizeof(have), 0) == n && !memcmp(have, text, (size_t)n));
	return true;
}

/* ---- options ---- */

static const struct option {
	const char *name;
	int *fd, level, option, value, expected;
} options[] = {
#define OPTION(fd, level, option, value) { #option " of " #fd, &fd, level, option, value, value }
	OPTION(client, SOL_SOCKET, SO_KEEPALIVE, 1),
	OPTION(client, IPPROTO_TCP, TCP_KEEPIDLE, 77),
	OPTION(client, IPPROTO_TCP, TCP_KEEPINTVL, 7),
	OPTION(client, IPPROTO_TCP, TCP_KEEPCNT, 5),
	OPTION(client, IPPROTO_TCP, TCP_NODELAY, 1),
	OPTION(client, IPPROTO_TCP, TCP_USER_TIMEOUT, 12345),
	OPTION(client, IPPROTO_TCP, TCP_LINGER2, 7),
	OPTION(client, IPPROTO_TCP, TCP_SYNCNT, 3),
	OPTION(client, IPPROTO_TCP, TCP_NOTSENT_LOWAT, 65536),
	OPTION(server, IPPROTO_TCP, TCP_CORK, 1),
	OPTION(client, IPPROTO_IP, IP_TOS, 0x10),
	OPTION(client, IPPROTO_IP, IP_TTL, 33),
	OPTION(client, IPPROTO_IP, IP_FREEBIND, 1),
	OPTION(client, SOL_SOCKET, SO_PRIORITY, 4),
	OPTION(client, SOL_SOCKET, SO_OOBINLINE, 1),
	OPTION(client, SOL_SOCKET, SO_RCVLOWAT, 2),
	OPTION(listener, SOL_SOCKET, SO_REUSEADDR, 1),
	OPTION(listener, SOL_SOCKET, SO_REUSEPORT, 1),
	OPTION(listener, IPPROTO_TCP, TCP_DEFER_ACCEPT, 7),
	OPTION(udp, SOL_SOCKET, SO_BROADCAST, 1),
	OPTION(udp, IPPROTO_IP, IP_PKTINFO, 1),
	OPTION(udp, IPPROTO_IP, IP_RECVTTL, 1),
	OPTION(udp, IPPROTO_IP, IP_MULTICAST_TTL, 9),
	OPTION(udp, IPPROTO_IP, IP_MULTICAST_LOOP, 0),
};
#define N_OPTIONS (sizeof(options) / sizeof(*options))

static const struct timeval second = { .tv_sec = 33 };

static void set_options(void)
{
	connect_self();
	udp = socket(AF_INET, SOCK_DGRAM, 0);
	for (size_t i = 0; i < N_OPTIONS; i++)
		MUST(setsockopt(*options[i].fd, options[i].level, options[i].option, &options[i].value,
				sizeof(int)) == 0);
	MUST(setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &second, sizeof(second)) == 0);
	MUST(setsockopt(client, SOL_SOCKET, SO_SNDTIMEO, &second, sizeof(second)) == 0);
	MUST(setsockopt(client, IPPROTO_TCP, TCP_CONGESTION, "reno", 4) == 0);
}

static bool check_options(void)
{
	struct timeval t = { 0 };
	socklen_t len = sizeof(t);
	char name[16] = "", missing[200] = "";

	for (size_t i = 0; i < N_OPTIONS; i++) {
		int value = -1;

		len = sizeof(value);
		(void)getsockopt(*options[i].fd, options[i].level, options[i].option, &value, &len);
		if (value != options[i].expected)
			(void)snprintf(missing + strlen(missing), sizeof(missing) - strlen(missing), " %s=%d",
				       options[i].name, value);
	}
	if (missing[0])
		return workload_blame("changed:%s", missing);
	len = sizeof(t);
	HOLDS(getsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &t, &len) == 0 && t.tv_sec == second.tv_sec);
	HOLDS(getsockopt(client, SOL_SOCKET, SO_SNDTIMEO, &t, &len) == 0 && t.tv_sec == second.tv_sec);
	len = sizeof(name);
	HOLDS(getsockopt(client, IPPROTO_TCP, TCP_CONGESTION, name, &len) == 0 && !strcmp(name, "reno"));
	return true;
}

/* ---- groups ---- */

static void join(void)
{
	const struct ip_mreqn four = { .imr_multiaddr.s_addr = inet_addr(GROUP),
				       .imr_ifindex = (int)if_nametoindex("eth0") };
	struct sockaddr_in any = { .sin_family = AF_INET, .sin_port = htons(PORT) };
	struct ipv6_mreq six = { .ipv6mr_interface = if_nametoindex("eth0") };

	udp = socket(AF_INET, SOCK_DGRAM, 0);
	other = socket(AF_INET6, SOCK_DGRAM, 0);
	MUST(inet_pton(AF_INET6, GROUP6, &six.ipv6mr_multiaddr) == 1);
	MUST(bind(udp, (const struct sockaddr *)&any, sizeof(any)) == 0);
	MUST(setsockopt(udp, IPPROTO_IP, IP_ADD_MEMBERSHIP, &four, sizeof(four)) == 0);
	MUST(setsockopt(udp, IPPROTO_IP, IP_MULTICAST_IF, &four, sizeof(four)) == 0);
	MUST(setsockopt(other, IPPROTO_IPV6, IPV6_JOIN_GROUP, &six, sizeof(six)) == 0);
}

/* It hears itself. */
static bool check_groups(void)
{
	const struct timeval patience = { .tv_sec = 1 };
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(PORT), .sin_addr.s_addr = inet_addr(GROUP) };
	struct ipv6_mreq six = { .ipv6mr_interface = if_nametoindex("eth0") };
	char text[16];

	HOLDS(setsockopt(udp, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) == 0);
	HOLDS(sendto(udp, "group", 5, 0, (struct sockaddr *)&to, sizeof(to)) == 5);
	HOLDS(recv(udp, text, sizeof(text), 0) == 5 && !memcmp(text, "group", 5));
	HOLDS(inet_pton(AF_INET6, GROUP6, &six.ipv6mr_multiaddr) == 1);
	if (setsockopt(other, IPPROTO_IPV6, IPV6_JOIN_GROUP, &six, sizeof(six)) == 0)
		return workload_blame("it was no longer a member of " GROUP6);
	return true;
}

/* ---- connections ---- */

static void half_close(void)
{
	connect_self();
	MUST(send(server, "late", 4, 0) == 4 && shutdown(client, SHUT_WR) == 0);
}

static bool check_half_closed(void)
{
	char text[16];

	HOLDS(recv(client, text, sizeof(text), MSG_DONTWAIT) == 4 && !memcmp(text, "late", 4));
	HOLDS(recv(server, text, sizeof(text), MSG_DONTWAIT) == 0);
	HOLDS(send(client, "x", 1, MSG_NOSIGNAL) < 0 && errno == EPIPE);
	HOLDS(send(server, "late", 4, MSG_NOSIGNAL) == 4);
	return true;
}

static size_t fill(int fd)
{
	char text[1024];
	size_t all = 0;
	ssize_t n;

	memset(text, 'f', sizeof(text));
	while ((n = send(fd, text, sizeof(text), MSG_DONTWAIT)) > 0)
		all += (size_t)n;
	return all;
}

static void listen_to_all(void)
{
	const struct sockaddr_in any = { .sin_family = AF_INET, .sin_port = htons(PORT) };

	listener = socket(AF_INET, SOCK_STREAM, 0);
	MUST(bind(listener, (const struct sockaddr *)&any, sizeof(any)) == 0 && listen(listener, 5) == 0);
}

/* First it sends what there is room for to who has connected, then it reads all that comes. */
static bool check_full(void)
{
	char text[4096];
	size_t came = 0;
	ssize_t n;

	if (server < 0) {
		server = accept(listener, NULL, NULL);
		HOLDS(server >= 0);
		(void)snprintf(workload_note, sizeof(workload_note), "%zu", fill(server));
		return true;
	}
	while ((n = recv(server, text, sizeof(text), 0)) > 0) {
		HOLDS(text[0] == 'f' && text[n - 1] == 'f');
		came += (size_t)n;
	}
	HOLDS(n == 0 && shutdown(server, SHUT_WR) == 0);
	(void)snprintf(workload_note, sizeof(workload_note), "%zu", came);
	return true;
}

/* Closed by whoever made it, so that the port it came from is kept for a minute. */
static void close_first(void)
{
	connect_self();
	MUST(close(client) == 0 && close(server) == 0);
}

static bool check_listener(void)
{
	const struct sockaddr_in sa = loopback();
	bool fine;

	client = socket(AF_INET, SOCK_STREAM, 0);
	HOLDS(connect(client, (const struct sockaddr *)&sa, sizeof(sa)) == 0);
	server = accept(listener, NULL, NULL);
	fine = server >= 0 && says(client, server, "hello") && says(server, client, "yes");
	HOLDS(close(client) == 0 && close(server) == 0);
	return fine;
}

/* ---- what nobody has taken ---- */

/* The one of a connected socket, with its text, comes after two of others, one of them empty and one long. */
static void queue_datagrams(void)
{
	static char text[9000];
	struct sockaddr_in sa = loopback();

	memset(text, 'l', sizeof(text));
	udp = socket(AF_INET, SOCK_DGRAM, 0);
	other = socket(AF_INET, SOCK_DGRAM, 0);
	MUST(bind(udp, (const struct sockaddr *)&sa, sizeof(sa)) == 0);
	MUST(connect(other, (const struct sockaddr *)&sa, sizeof(sa)) == 0);
	MUST(send(other, text, sizeof(text), 0) == sizeof(text) && send(other, "", 0, 0) == 0);
	MUST(send(other, "third", 5, 0) == 5);
}

static bool check_queued(void)
{
	char text[10000];
	struct sockaddr_in from, mine;
	socklen_t len = sizeof(from), its = sizeof(mine);

	HOLDS(recv(udp, text, sizeof(text), MSG_DONTWAIT) == 9000 && text[8999] == 'l');
	HOLDS(recv(udp, text, sizeof(text), MSG_DONTWAIT) == 0);
	HOLDS(recvfrom(udp, text, sizeof(text), MSG_DONTWAIT, (struct sockaddr *)&from, &len) == 5);
	HOLDS(!memcmp(text, "third", 5) && getsockname(other, (struct sockaddr *)&mine, &its) == 0);
	HOLDS(from.sin_port == mine.sin_port && from.sin_addr.s_addr == mine.sin_addr.s_addr);
	HOLDS(recv(udp, text, sizeof(text), MSG_DONTWAIT) < 0 && errno == EAGAIN);
	memset(text, 'l', sizeof(text));
	HOLDS(send(other, text, 9000, 0) == 9000 && send(other, "", 0, 0) == 0 && send(other, "third", 5, 0) == 5);
	return true;
}

static void let_wait(void)
{
	const struct sockaddr_in sa = loopback();

	listener = socket(AF_INET, SOCK_STREAM, 0);
	client = socket(AF_INET, SOCK_STREAM, 0);
	MUST(bind(listener, (const struct sockaddr *)&sa, sizeof(sa)) == 0 && listen(listener, 5) == 0);
	MUST(connect(client, (const struct sockaddr *)&sa, sizeof(sa)) == 0 && send(client, "early", 5, 0) == 5);
}

static bool check_waiting(void)
{
	return true;
}

/* ---- local ---- */

static void pair_up(void)
{
	char byte = 'x', room[CMSG_SPACE(sizeof(int))] = { 0 };
	struct iovec iov = { &byte, 1 };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof(room) };
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	int s[2], p[2];

	MUST(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, s) == 0 && pipe(p) == 0 && write(p[1], "in pipe", 7) == 7);
	server = s[0];
	client = s[1];
	*c = (struct cmsghdr){ .cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS };
	memcpy(CMSG_DATA(c), &p[0], sizeof(int));
	MUST(sendmsg(client, &m, 0) == 1 && close(p[0]) == 0);
	other = p[1];
}

/* Receives it, reads through it, and sends it again. */
static bool check_pair(void)
{
	char byte, text[16], room[CMSG_SPACE(sizeof(int))] = { 0 };
	struct iovec iov = { &byte, 1 };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof(room) };
	int fd = -1;

	HOLDS(recvmsg(server, &m, MSG_DONTWAIT) == 1 && byte == 'x' && CMSG_FIRSTHDR(&m));
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(fd));
	HOLDS(read(fd, text, sizeof(text)) == 7 && !memcmp(text, "in pipe", 7));
	HOLDS(write(other, text, 7) == 7 && sendmsg(client, &m, 0) == 1 && close(fd) == 0);
	return true;
}

static const struct {
	const char *name;
	void (*setup)(void);
	bool (*check)(void);
} states[] = {
	{ "options", set_options, check_options },
	{ "multicast", join, check_groups },
	{ "half-closed", half_close, check_half_closed },
	{ "full", listen_to_all, check_full },
	{ "time-wait", close_first, check_listener },
	{ "queued", queue_datagrams, check_queued },
	{ "waiting", let_wait, check_waiting },
	{ "unix", pair_up, check_pair },
};

static int chosen = -1;

static void workload_setup(int argc, char **argv)
{
	what = argc > 1 ? argv[1] : "";
	for (size_t i = 0; i < sizeof(states) / sizeof(*states); i++)
		if (!strcmp(states[i].name, what))
			chosen = (int)i;
	MUST(chosen >= 0);
	states[chosen].setup();
}

static bool workload_check(void)
{
	return states[chosen].check();
}

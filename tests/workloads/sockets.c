/* Sockets: TCP to itself with data in flight, over IPv4 and IPv6, UDP, unix
 * stream, datagram and by name, with a descriptor in flight. */
#include <netinet/tcp.h>
#include <sys/un.h>

#include "tests/workloads/workload.h"

struct pair {
	int listener, client, server;
};

static struct pair four, six, named;
static int udp, datagram[2];

static struct pair connect_self(const struct sockaddr *sa, socklen_t len)
{
	struct pair p = { .listener = socket(sa->sa_family, SOCK_STREAM, 0),
			  .client = socket(sa->sa_family, SOCK_STREAM, 0) };

	MUST(p.listener >= 0 && p.client >= 0 && bind(p.listener, sa, len) == 0);
	MUST(listen(p.listener, 5) == 0 && connect(p.client, sa, len) == 0);
	p.server = accept(p.listener, NULL, NULL);
	MUST(p.server >= 0);
	MUST(send(p.client, "to the server", 13, 0) == 13);
	MUST(send(p.server, "to the client", 13, 0) == 13);
	return p;
}

static void workload_setup(int argc, char **argv)
{
	const struct sockaddr_in in4 = { .sin_family = AF_INET, .sin_port = htons(7100),
					 .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	const struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_port = htons(7100),
					  .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	const struct sockaddr_un un = { .sun_family = AF_UNIX, .sun_path = "/tmp/named.sock" };
	const int one = 1;

	(void)argc, (void)argv;
	four = connect_self((const struct sockaddr *)&in4, sizeof(in4));
	MUST(setsockopt(four.client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) == 0);
	six = connect_self((const struct sockaddr *)&in6, sizeof(in6));
	named = connect_self((const struct sockaddr *)&un, sizeof(un));
	udp = socket(AF_INET, SOCK_DGRAM, 0);
	MUST(udp >= 0 && bind(udp, (const struct sockaddr *)&in4, sizeof(in4)) == 0);
	MUST(connect(udp, (const struct sockaddr *)&in4, sizeof(in4)) == 0);
	MUST(socketpair(AF_UNIX, SOCK_DGRAM, 0, datagram) == 0);
	MUST(send(datagram[0], "one", 3, 0) == 3 && send(datagram[0], "three", 5, 0) == 5);
}

/* Takes what is in flight and sends it again. */
static bool check_pair(const struct pair *p)
{
	char text[64];

	HOLDS(recv(p->server, text, sizeof(text), 0) == 13 && !memcmp(text, "to the server", 13));
	HOLDS(send(p->client, text, 13, 0) == 13);
	HOLDS(recv(p->client, text, sizeof(text), 0) == 13 && !memcmp(text, "to the client", 13));
	HOLDS(send(p->server, text, 13, 0) == 13);
	return true;
}

static bool check_listener(const struct pair *p)
{
	struct sockaddr_storage sa;
	socklen_t len = sizeof(sa);
	int fd, accepted;

	HOLDS(getsockname(p->listener, (struct sockaddr *)&sa, &len) == 0);
	fd = socket(sa.ss_family, SOCK_STREAM, 0);
	HOLDS(fd >= 0 && connect(fd, (struct sockaddr *)&sa, len) == 0);
	accepted = accept(p->listener, NULL, NULL);
	HOLDS(accepted >= 0 && close(accepted) == 0 && close(fd) == 0);
	return true;
}

static bool workload_check(void)
{
	char text[64];
	int value = 0;
	socklen_t len = sizeof(value);

	if (!check_pair(&four) || !check_pair(&six) || !check_pair(&named) || !check_listener(&four) ||
	    !check_listener(&six) || !check_listener(&named))
		return false;
	HOLDS(getsockopt(four.client, IPPROTO_TCP, TCP_NODELAY, &value, &len) == 0 && value == 1);
	HOLDS(send(udp, "round", 5, 0) == 5 && recv(udp, text, sizeof(text), 0) == 5);
	HOLDS(recv(datagram[1], text, sizeof(text), 0) == 3 && recv(datagram[1], text, sizeof(text), 0) == 5);
	HOLDS(send(datagram[0], "one", 3, 0) == 3 && send(datagram[0], "three", 5, 0) == 5);
	return true;
}

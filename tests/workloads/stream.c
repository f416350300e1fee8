/* stream [ADDRESS]: bytes that can be foretold, on port 7001: a TCP client says "down" and is sent
 * them for ever, or "up" and sends them, and each is compared. UDP: each datagram goes back.
 * With an address it is itself a client there, of both kinds, and tells what came from there
 * and what has gone. */
#include <pthread.h>

#include "tests/workloads/workload.h"

#define STREAM_PORT 7001
#define PERIOD 1048573		/* a prime: not a multiple of any segment */
#define PIECE 65536
#define PAUSE_US 1000		/* between two pieces of a client's: others work here, too */

static unsigned char pattern[PERIOD + PIECE];
static volatile uint64_t wrong, came, went;

static void make_pattern(void)
{
	uint32_t x = 1;

	for (size_t i = 0; i < sizeof(pattern); i++) {
		if (i >= PERIOD) {
			pattern[i] = pattern[i - PERIOD];
			continue;
		}
		x = x * 1664525u + 1013904223u;
		pattern[i] = (unsigned char)(x >> 24);
	}
}

static void send_all(int fd)
{
	for (uint64_t at = 0;;) {
		ssize_t n = send(fd, pattern + at % PERIOD, PIECE, MSG_NOSIGNAL);

		if (n <= 0)
			return;
		at += (uint64_t)n;
	}
}

static uint64_t differing(const unsigned char *piece, uint64_t at, ssize_t n)
{
	uint64_t bad = 0;

	if (memcmp(piece, pattern + at % PERIOD, (size_t)n) != 0)
		for (ssize_t i = 0; i < n; i++)
			bad += piece[i] != pattern[at % PERIOD + (uint64_t)i];
	return bad;
}

/* Says how much came, and how much of it was wrong, once there is no more. */
static void receive_all(int fd)
{
	unsigned char *piece = malloc(PIECE);
	uint64_t at = 0, bad = 0;
	char line[64];
	ssize_t n;
	int len;

	MUST(piece);
	while ((n = recv(fd, piece, PIECE, 0)) > 0) {
		uint64_t now = differing(piece, at, n);

		bad += now;
		wrong += now;
		at += (uint64_t)n;
	}
	free(piece);
	len = snprintf(line, sizeof(line), "%llu %llu\n", (unsigned long long)at, (unsigned long long)bad);
	(void)send(fd, line, (size_t)len, MSG_NOSIGNAL);
}

static void *serve_one(void *arg)
{
	int fd = (int)(intptr_t)arg;
	char kind[8] = { 0 };

	if (recv(fd, kind, 5, MSG_WAITALL | MSG_PEEK) > 0 && !memcmp(kind, "down\n", 5))
		send_all(fd);
	else if (recv(fd, kind, 3, MSG_WAITALL) == 3)
		receive_all(fd);
	(void)close(fd);
	return NULL;
}

static void start(void *(*what)(void *), void *arg)
{
	pthread_t thread;

	MUST(pthread_create(&thread, NULL, what, arg) == 0 && pthread_detach(thread) == 0);
}

static void *serve_tcp(void *arg)
{
	for (;;) {
		int fd = accept((int)(intptr_t)arg, NULL, NULL);

		if (fd >= 0)
			start(serve_one, (void *)(intptr_t)fd);
	}
	return NULL;
}

/* ---- a client ---- */

static int connect_to(const char *address, const char *way)
{
	struct sockaddr_in to4 = { .sin_family = AF_INET, .sin_port = htons(STREAM_PORT) };
	struct sockaddr_in6 to6 = { .sin6_family = AF_INET6, .sin6_port = htons(STREAM_PORT) };
	bool four = inet_pton(AF_INET, address, &to4.sin_addr) == 1;
	const struct sockaddr *to = four ? (const struct sockaddr *)&to4 : (const struct sockaddr *)&to6;
	int fd = socket(four ? AF_INET : AF_INET6, SOCK_STREAM, 0);

	MUST(four || inet_pton(AF_INET6, address, &to6.sin6_addr) == 1);
	MUST(fd >= 0 && connect(fd, to, four ? sizeof(to4) : sizeof(to6)) == 0);
	MUST(send(fd, way, strlen(way), MSG_NOSIGNAL) == (ssize_t)strlen(way));
	return fd;
}

/* A connection that ends is as bad as a wrong byte. */
static void *draw(void *arg)
{
	static unsigned char piece[PIECE];
	ssize_t n;

	while ((n = recv((int)(intptr_t)arg, piece, PIECE, 0)) > 0) {
		wrong += differing(piece, came, n);
		came += (uint64_t)n;
		(void)usleep(PAUSE_US);
	}
	wrong++;
	return NULL;
}

static void *push(void *arg)
{
	ssize_t n;

	while ((n = send((int)(intptr_t)arg, pattern + went % PERIOD, PIECE, MSG_NOSIGNAL)) > 0) {
		went += (uint64_t)n;
		(void)usleep(PAUSE_US);
	}
	wrong++;
	return NULL;
}

/* ---- */


static void *serve_udp(void *arg)
{
	int fd = (int)(intptr_t)arg;
	char datagram[2048];

	for (;;) {
		struct sockaddr_in from;
		socklen_t len = sizeof(from);
		ssize_t n = recvfrom(fd, datagram, sizeof(datagram), 0, (struct sockaddr *)&from, &len);

		if (n >= 0)
			(void)sendto(fd, datagram, (size_t)n, 0, (struct sockaddr *)&from, len);
	}
	return NULL;
}

static void *listen_on(int family, int type)
{
	const struct sockaddr_in any4 = { .sin_family = AF_INET, .sin_port = htons(STREAM_PORT) };
	const struct sockaddr_in6 any6 = { .sin6_family = AF_INET6, .sin6_port = htons(STREAM_PORT) };
	const struct sockaddr *any = family == AF_INET ? (const struct sockaddr *)&any4 :
							 (const struct sockaddr *)&any6;
	const int one = 1;
	int fd = socket(family, type, 0);

	MUST(fd >= 0);
	MUST(family == AF_INET || setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one)) == 0);
	MUST(bind(fd, any, family == AF_INET ? sizeof(any4) : sizeof(any6)) == 0);
	MUST(type != SOCK_STREAM || listen(fd, 8) == 0);
	return (void *)(intptr_t)fd;
}

static void workload_setup(int argc, char **argv)
{
	make_pattern();
	start(serve_tcp, listen_on(AF_INET, SOCK_STREAM));
	start(serve_tcp, listen_on(AF_INET6, SOCK_STREAM));
	start(serve_udp, listen_on(AF_INET, SOCK_DGRAM));
	if (argc > 1) {
		start(draw, (void *)(intptr_t)connect_to(argv[1], "down\n"));
		start(push, (void *)(intptr_t)connect_to(argv[1], "up\n"));
	}
}

static bool workload_check(void)
{
	(void)snprintf(workload_note, sizeof(workload_note), "%llu %llu", (unsigned long long)came,
		       (unsigned long long)went);
	HOLDS(wrong == 0);
	return true;
}

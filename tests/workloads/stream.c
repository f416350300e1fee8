/* Streams of bytes that can be foretold, on port 7001: a TCP client says "down" and is sent
 * them for ever, or "up" and sends them, and each is compared. UDP: each datagram goes back. */
#include <pthread.h>

#include "tests/workloads/workload.h"

#define STREAM_PORT 7001
#define PERIOD 1048573		/* a prime: not a multiple of any segment */
#define PIECE 65536

static unsigned char pattern[PERIOD + PIECE];
static volatile uint64_t wrong;

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

/* Says how much came, and how much of it was wrong, once there is no more. */
static void receive_all(int fd)
{
	static unsigned char piece[PIECE];
	uint64_t at = 0, bad = 0;
	char line[64];
	ssize_t n;
	int len;

	while ((n = recv(fd, piece, PIECE, 0)) > 0) {
		if (memcmp(piece, pattern + at % PERIOD, (size_t)n) != 0)
			for (ssize_t i = 0; i < n; i++)
				bad += piece[i] != pattern[at % PERIOD + (uint64_t)i];
		at += (uint64_t)n;
	}
	wrong += bad;
	len = snprintf(line, sizeof(line), "%llu %llu\n", (unsigned long long)at, (unsigned long long)bad);
	(void)send(fd, line, (size_t)len, MSG_NOSIGNAL);
}

static void *serve_tcp(void *arg)
{
	int listener = *(int *)arg;

	for (;;) {
		int fd = accept(listener, NULL, NULL);
		char kind[8] = { 0 };

		if (fd < 0)
			continue;
		if (recv(fd, kind, 5, MSG_WAITALL | MSG_PEEK) > 0 && !memcmp(kind, "down\n", 5))
			send_all(fd);
		else if (recv(fd, kind, 3, MSG_WAITALL) == 3)
			receive_all(fd);
		(void)close(fd);
	}
	return NULL;
}

static void *serve_udp(void *arg)
{
	int fd = *(int *)arg;
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

static int listen_on(int type)
{
	const struct sockaddr_in any = { .sin_family = AF_INET, .sin_port = htons(STREAM_PORT) };
	int fd = socket(AF_INET, type, 0);

	MUST(fd >= 0 && bind(fd, (const struct sockaddr *)&any, sizeof(any)) == 0);
	MUST(type != SOCK_STREAM || listen(fd, 8) == 0);
	return fd;
}

static void workload_setup(int argc, char **argv)
{
	static int tcp, udp;
	pthread_t thread;

	(void)argc, (void)argv;
	make_pattern();
	tcp = listen_on(SOCK_STREAM);
	udp = listen_on(SOCK_DGRAM);
	MUST(pthread_create(&thread, NULL, serve_tcp, &tcp) == 0);
	MUST(pthread_create(&thread, NULL, serve_udp, &udp) == 0);
}

static bool workload_check(void)
{
	HOLDS(wrong == 0);
	return true;
}

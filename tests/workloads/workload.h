/*
 * workload.h - a program that is moved, and says afterwards whether all is well
 *
 * A workload defines workload_setup, which makes what shall move and runs once,
 * and workload_check, which looks at it and may be called any number of times.
 * main is here: it prints "ready", counts in memory, and answers each line that
 * a client sends to port 7000 with
 *
 *	NONCE COUNT ok[: NOTE]    NONCE COUNT bad: what is wrong
 *
 * (the line "plant HOW" spoils something first, in workloads that can do that).
 * The nonce is drawn once, so another one is another process; the count never
 * goes back in one and the same.
 */
#pragma once

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define WORKLOAD_PORT 7000
#define WORKLOAD_CLIENTS_MAX 8

/* argv of the program; leaves by MUST when it can't be set up. */
static void workload_setup(int argc, char **argv);

/* True when all is as it was; else it has called workload_blame. */
static bool workload_check(void);

static char workload_reason[256];

/* What a client may want to know although all is well. */
static char workload_note[128];

/* Called each time it has counted; NULL: nothing to do. */
static void (*workload_tick)(void);

/* Spoils something, so that the next check has to find it; NULL: can't. */
static void (*workload_plant)(int how);

__attribute__((format(printf, 1, 2), unused))
static bool workload_blame(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(workload_reason, sizeof(workload_reason), fmt, ap);
	va_end(ap);
	return false;
}

/* In setup: it works, or the program ends. */
#define MUST(expression) \
	do { \
		if (!(expression)) { \
			fprintf(stderr, "%s: %s\n", #expression, strerror(errno)); \
			exit(1); \
		} \
	} while (0)

/* In check: it holds, or that is what is wrong. */
#define HOLDS(expression) \
	do { \
		errno = 0; \
		if (!(expression)) \
			return workload_blame("%s (%s)", #expression, strerror(errno)); \
	} while (0)

/* A file with this content; to be used in setup. */
__attribute__((unused)) static int workload_file(const char *path, const char *text)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0644);

	MUST(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	return fd;
}

/* True when a file has exactly this content, whatever its offset is. */
__attribute__((unused)) static bool workload_file_is(int fd, const char *text)
{
	char have[4096];
	ssize_t n = pread(fd, have, sizeof(have), 0);

	return n == (ssize_t)strlen(text) && memcmp(have, text, (size_t)n) == 0;
}

static uint64_t workload_nonce, workload_count;

static int workload_listen(void)
{
	const struct sockaddr_in any = { .sin_family = AF_INET, .sin_port = htons(WORKLOAD_PORT) };
	const int one = 1;
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	MUST(fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) == 0);
	MUST(bind(fd, (const struct sockaddr *)&any, sizeof(any)) == 0 && listen(fd, 8) == 0);
	return fd;
}

static bool workload_answer(int fd)
{
	char line[512];
	ssize_t n = recv(fd, line, sizeof(line), 0);
	bool fine;

	if (n <= 0)
		return false;
	if (workload_plant && n > 6 && !memcmp(line, "plant ", 6))
		workload_plant(line[6] - '0');
	fine = workload_check();
	n = snprintf(line, sizeof(line), "%llx %llu %s%s%s\n", (unsigned long long)workload_nonce,
		     (unsigned long long)workload_count, fine ? "ok" : "bad: ",
		     fine && workload_note[0] ? ": " : "", fine ? workload_note : workload_reason);
	return send(fd, line, (size_t)n, MSG_NOSIGNAL) == n;
}

static void workload_serve(int listener)
{
	struct pollfd p[1 + WORKLOAD_CLIENTS_MAX] = { { .fd = listener, .events = POLLIN } };
	nfds_t n = 1;

	for (;;) {
		(void)poll(p, n, 1);
		workload_count++;
		if (workload_tick)
			workload_tick();
		for (nfds_t i = n; i-- > 1;)
			if (p[i].revents && !workload_answer(p[i].fd)) {
				(void)close(p[i].fd);
				p[i] = p[--n];
			}
		if (p[0].revents && n <= WORKLOAD_CLIENTS_MAX)
			p[n++] = (struct pollfd){ .fd = accept(listener, NULL, NULL), .events = POLLIN };
	}
}

int main(int argc, char **argv)
{
	int listener;

	MUST(getrandom(&workload_nonce, sizeof(workload_nonce), 0) == sizeof(workload_nonce));
	workload_setup(argc, argv);
	listener = workload_listen();
	puts("ready");
	(void)fflush(stdout);
	workload_serve(listener);
}

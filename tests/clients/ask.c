/*
 * ask redis|http ADDRESS PORT CONNECTIONS THINK_US - many clients of one server
 *
 * Each connection asks, waits for the answer, thinks, and asks again; it is never
 * made again. No two questions are alike, and each answer must be, byte by byte, the
 * one to the question of that connection: redis is asked for an ECHO and for the next
 * number of a counter in turn (so that a command that is lost or done twice shows),
 * a web server for a path that it answers with.
 *
 * A JSON line {"event": "ready"} says that every connection has had an answer. Then
 * lines are expected on standard input:
 *
 *	window BEGIN END	seconds of CLOCK_REALTIME: the longest time from a question
 *				to its answer of each connection, of those that were open
 *				in that span, in ms; and the longest before it
 *	end			totals; then it ends
 *
 * An answer that does not come for 60 s, a wrong one, one more than asked for, and a
 * connection that breaks are errors; such a connection is not used any more.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CONNECTIONS_MAX 10000
#define ANSWER_MAX 4096
#define PATIENCE_US 60000000
#define LOST_US 500000		/* so long without an answer: not just asked */
#define STDIN_MARK UINT32_MAX

enum kind { REDIS, HTTP };

struct connection {
	int fd;				/* -1: broken */
	uint64_t asked;			/* questions so far */
	uint64_t counted;		/* of those, INCRs */
	uint64_t sent_us;		/* CLOCK_MONOTONIC; 0: nothing is asked */
	uint64_t due_us;		/* of the next question */
	char token[64];
	char answer[ANSWER_MAX];
	size_t len;
};

/* One question and its answer. */
struct sample {
	double begun;			/* CLOCK_REALTIME, seconds */
	float took_ms;
	uint32_t connection;
};

static enum kind kind;
static uint64_t nonce, think_us;
static struct connection *all;
static uint32_t n_all;
static struct sample *samples;
static size_t n_samples, room_samples;
static uint64_t requests, errors;
static char first_error[256];
static uint32_t *queue;			/* of those that think, by due_us */
static size_t queue_first, queue_n;
static int poller;

static uint64_t clock_of(clockid_t id)
{
	struct timespec t;

	(void)clock_gettime(id, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static _Noreturn void give_up(const char *what)
{
	printf("{\"event\": \"failed\", \"error\": \"%s: %s\"}\n", what, strerror(errno));
	exit(1);
}

__attribute__((format(printf, 2, 3)))
static void fail(struct connection *c, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	if (errors++ == 0)
		(void)vsnprintf(first_error, sizeof(first_error), fmt, ap);
	va_end(ap);
	(void)close(c->fd);
	c->fd = -1;
	c->sent_us = 0;
}

/* ---- questions and answers ---- */

static bool is_count(const struct connection *c)
{
	return kind == REDIS && c->asked % 2 == 0;
}

static int question(struct connection *c, char *text, size_t size)
{
	unsigned who = (unsigned)(c - all);

	c->asked++;
	(void)snprintf(c->token, sizeof(c->token), "%016llx-%u-%llu", (unsigned long long)nonce, who,
		       (unsigned long long)c->asked);
	if (kind == HTTP)
		return snprintf(text, size, "GET /%s HTTP/1.1\r\nHost: web\r\n\r\n", c->token);
	if (!is_count(c))
		return snprintf(text, size, "*2\r\n$4\r\nECHO\r\n$%zu\r\n%s\r\n", strlen(c->token), c->token);
	c->counted++;
	return snprintf(text, size, "*2\r\n$4\r\nINCR\r\n$22\r\n%016llx-%05u\r\n",
			(unsigned long long)nonce, who);
}

/* 1: complete and right; 0: not complete; -1: wrong. */
static int compare(const struct connection *c, const char *expected)
{
	size_t len = strlen(expected);

	if (c->len > len || memcmp(c->answer, expected, c->len) != 0)
		return -1;
	return c->len == len;
}

static int check_http(const struct connection *c)
{
	const char *length, *body = memmem(c->answer, c->len, "\r\n\r\n", 4);
	size_t n;

	if (c->len >= 13 && memcmp(c->answer, "HTTP/1.1 200 ", 13) != 0)
		return -1;
	if (!body)
		return 0;
	length = memmem(c->answer, (size_t)(body - c->answer), "Content-Length: ", 16);
	if (!length)
		return -1;
	n = strtoul(length + 16, NULL, 10);
	body += 4;
	if (n != strlen(c->token) + 1 || (size_t)(c->answer + c->len - body) > n)
		return -1;
	if ((size_t)(c->answer + c->len - body) < n)
		return 0;
	return body[0] == '/' && memcmp(body + 1, c->token, n - 1) == 0 ? 1 : -1;
}

static int check(const struct connection *c)
{
	char expected[128];

	if (kind == HTTP)
		return check_http(c);
	if (is_count(c))
		(void)snprintf(expected, sizeof(expected), ":%llu\r\n", (unsigned long long)c->counted);
	else
		(void)snprintf(expected, sizeof(expected), "$%zu\r\n%s\r\n", strlen(c->token), c->token);
	return compare(c, expected);
}

static void ask(struct connection *c)
{
	char text[256];
	int n = question(c, text, sizeof(text));

	c->len = 0;
	c->sent_us = clock_of(CLOCK_MONOTONIC);
	if (send(c->fd, text, (size_t)n, MSG_NOSIGNAL) != n)
		fail(c, "connection %u: send: %s", (unsigned)(c - all), strerror(errno));
}

static void keep_sample(const struct connection *c, uint64_t now_us)
{
	uint64_t took_us = now_us - c->sent_us;

	if (n_samples == room_samples) {
		room_samples = room_samples ? 2 * room_samples : 1 << 16;
		samples = realloc(samples, room_samples * sizeof(*samples));
		if (!samples)
			give_up("samples");
	}
	samples[n_samples++] = (struct sample){
		.begun = (double)(clock_of(CLOCK_REALTIME) - took_us) / 1e6,
		.took_ms = (float)took_us / 1000, .connection = (uint32_t)(c - all),
	};
}

static void hear(struct connection *c)
{
	ssize_t n = recv(c->fd, c->answer + c->len, sizeof(c->answer) - c->len, MSG_DONTWAIT);
	uint64_t now_us = clock_of(CLOCK_MONOTONIC);
	int verdict;

	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0) {
		fail(c, "connection %u: %s", (unsigned)(c - all), n ? strerror(errno) : "it was closed");
		return;
	}
	c->len += (size_t)n;
	verdict = c->sent_us && c->len < sizeof(c->answer) ? check(c) : -1;
	if (verdict < 0)
		fail(c, "connection %u: a wrong answer to question %llu: %.40s", (unsigned)(c - all),
		     (unsigned long long)c->asked, c->answer);
	if (verdict <= 0)
		return;
	requests++;
	keep_sample(c, now_us);
	c->sent_us = 0;
	c->due_us = now_us + think_us;
	queue[(queue_first + queue_n++) % n_all] = (uint32_t)(c - all);
}

/* All think equally long: who was answered first is due first. */
static void ask_due(void)
{
	uint64_t now_us = clock_of(CLOCK_MONOTONIC);

	while (queue_n && all[queue[queue_first]].due_us <= now_us) {
		struct connection *c = &all[queue[queue_first]];

		queue_first = (queue_first + 1) % n_all;
		queue_n--;
		if (c->fd >= 0)
			ask(c);
	}
}

static void find_silent(void)
{
	uint64_t now_us = clock_of(CLOCK_MONOTONIC);

	for (uint32_t i = 0; i < n_all; i++)
		if (all[i].sent_us && all[i].sent_us + PATIENCE_US < now_us)
			fail(&all[i], "connection %u: no answer to question %llu", i,
			     (unsigned long long)all[i].asked);
}

/* ---- what is told ---- */

static uint64_t retransmitted(void)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < n_all; i++) {
		struct tcp_info info = { 0 };
		socklen_t len = sizeof(info);

		if (all[i].fd >= 0 && getsockopt(all[i].fd, IPPROTO_TCP, TCP_INFO, &info, &len) == 0)
			sum += info.tcpi_total_retrans;
	}
	return sum;
}

/* What lies before the window is forgotten. */
static void tell_window(double begin, double end)
{
	float *longest = calloc(n_all, sizeof(*longest)), before = 0;
	size_t kept = 0;

	if (!longest)
		give_up("window");
	for (size_t i = 0; i < n_samples; i++) {
		const struct sample *s = &samples[i];
		double ended = s->begun + s->took_ms / 1e3;

		if (ended < begin)
			before = s->took_ms > before ? s->took_ms : before;
		else if (s->begun > end)
			samples[kept++] = *s;
		else if (s->took_ms > longest[s->connection])
			longest[s->connection] = s->took_ms;
	}
	n_samples = kept;
	printf("{\"event\": \"window\", \"before_ms\": %.3f, \"retransmitted\": %llu, \"errors\": %llu, "
	       "\"pauses_ms\": [", (double)before, (unsigned long long)retransmitted(),
	       (unsigned long long)errors);
	for (uint32_t i = 0; i < n_all; i++)
		printf("%s%.3f", i ? ", " : "", (double)longest[i]);
	puts("]}");
	free(longest);
}

static void tell_end(void)
{
	uint64_t waiting = 0, now_us = clock_of(CLOCK_MONOTONIC);

	for (uint32_t i = 0; i < n_all; i++)
		waiting += all[i].sent_us != 0 && all[i].sent_us + LOST_US < now_us;
	for (char *at = first_error; *at; at++)
		if (*at < ' ' || *at == '"' || *at == '\\')
			*at = ' ';
	printf("{\"event\": \"done\", \"connections\": %u, \"requests\": %llu, \"errors\": %llu, "
	       "\"waiting\": %llu, \"retransmitted\": %llu, \"first_error\": \"%s\"}\n",
	       n_all, (unsigned long long)requests, (unsigned long long)errors,
	       (unsigned long long)waiting, (unsigned long long)retransmitted(), first_error);
}

/* False when it is time to end. */
static bool obey(void)
{
	double begin, end;
	char line[256];

	if (!fgets(line, sizeof(line), stdin))
		return false;
	if (sscanf(line, "window %lf %lf", &begin, &end) == 2) {
		tell_window(begin, end);
		return true;
	}
	tell_end();
	return false;
}

/* ---- all of it ---- */

/* The server may still be starting. */
static void connect_one(struct connection *c, const struct sockaddr_in *to)
{
	const struct timespec pause = { .tv_nsec = 20000000 };
	struct epoll_event e = { .events = EPOLLIN, .data.u32 = (uint32_t)(c - all) };
	const int one = 1;

	for (int i = 0;; i++) {
		c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (c->fd >= 0 && connect(c->fd, (const struct sockaddr *)to, sizeof(*to)) == 0)
			break;
		if (errno != ECONNREFUSED || i == 500)
			give_up("connect");
		(void)close(c->fd);
		(void)nanosleep(&pause, NULL);
	}
	(void)setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (fcntl(c->fd, F_SETFL, O_NONBLOCK) < 0 || epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &e) < 0)
		give_up("connect");
	c->due_us = clock_of(CLOCK_MONOTONIC);
	queue[(queue_first + queue_n++) % n_all] = (uint32_t)(c - all);
}

static int time_left(void)
{
	uint64_t now_us = clock_of(CLOCK_MONOTONIC), due_us;

	if (!queue_n)
		return 1000;
	due_us = all[queue[queue_first]].due_us;
	return due_us <= now_us ? 0 : (int)((due_us - now_us + 999) / 1000);
}

static void run(void)
{
	struct epoll_event events[256];
	bool ready = false, go_on = true;

	while (go_on) {
		int n = epoll_wait(poller, events, 256, time_left());

		for (int i = 0; i < n; i++)
			if (events[i].data.u32 == STDIN_MARK)
				go_on = obey();
			else if (all[events[i].data.u32].fd >= 0)
				hear(&all[events[i].data.u32]);
		ask_due();
		if (n == 0)
			find_silent();
		if (!ready && requests >= 2ull * n_all) {
			ready = true;
			n_samples = 0;
			puts("{\"event\": \"ready\"}");
		}
	}
}

static void prepare(const char *connections)
{
	struct epoll_event e = { .events = EPOLLIN, .data.u32 = STDIN_MARK };
	const struct rlimit files = { CONNECTIONS_MAX + 64, CONNECTIONS_MAX + 64 };

	n_all = (uint32_t)atoi(connections);
	if (n_all < 1 || n_all > CONNECTIONS_MAX)
		exit(2);
	(void)setrlimit(RLIMIT_NOFILE, &files);
	(void)setvbuf(stdout, NULL, _IOLBF, 0);
	(void)setvbuf(stdin, NULL, _IONBF, 0);
	all = calloc(n_all, sizeof(*all));
	queue = calloc(n_all, sizeof(*queue));
	poller = epoll_create1(EPOLL_CLOEXEC);
	if (!all || !queue || poller < 0 || epoll_ctl(poller, EPOLL_CTL_ADD, 0, &e) < 0 ||
	    getrandom(&nonce, sizeof(nonce), 0) != sizeof(nonce))
		give_up("prepare");
}

int main(int argc, char **argv)
{
	struct sockaddr_in to = { .sin_family = AF_INET };

	if (argc != 6 || inet_pton(AF_INET, argv[2], &to.sin_addr) != 1)
		return 2;
	kind = strcmp(argv[1], "http") == 0 ? HTTP : REDIS;
	to.sin_port = htons((uint16_t)atoi(argv[3]));
	think_us = strtoull(argv[5], NULL, 10);
	prepare(argv[4]);
	for (uint32_t i = 0; i < n_all; i++)
		connect_one(&all[i], &to);
	run();
	return errors != 0;
}

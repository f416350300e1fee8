/*
 * fill MEGABYTES [RATE REGION [KIND]] - memory that no compression makes smaller, to measure with
 *
 * Each page's content follows from its number and from how often it was written,
 * which its first word tells. With a RATE the first REGION megabytes are written
 * again and again, page after page, RATE megabytes in a second. KIND of memory is
 * private, locked, shared, memfd, sysv, or the path of a file. It prints "ready"
 * and answers each line that a client sends to port 7000:
 *
 *	ping	COUNT GAP_US WRITTEN
 *	check	ok, or: bad PAGE
 *
 * COUNT is the number of the answer. GAP_US is the longest time, by CLOCK_REALTIME,
 * that this program, which looks at the clock each millisecond, did not run; a move
 * is in it, whatever a time namespace does to other clocks. WRITTEN counts pages.
 * After a check the gap starts from 0.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PORT 7000
#define CLIENTS_MAX 4
#define PAGE 4096
#define WORDS (PAGE / sizeof(uint64_t))
#define PAGES_PER_MB (1024 * 1024 / PAGE)
#define BURST_US 20000		/* after a longer time without running nothing is made up for */

struct fill {
	uint64_t *memory;
	size_t n_pages, n_region;
	uint64_t rate_pages;	/* a second */
	uint64_t next, written, count;
	uint64_t owed;		/* pages times 10^6 */
	uint64_t last_us, gap_us;
};

static uint64_t now_us(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_REALTIME, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

/* The finalizer of splitmix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators). */
static uint64_t mix(uint64_t x)
{
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
	x = (x ^ x >> 27) * 0x94d049bb133111ebu;
	return x ^ x >> 31;
}

static uint64_t word_of(size_t page, uint64_t version, size_t k)
{
	return k == 0 ? version : mix((version << 48) + page * WORDS + k);
}

static void page_write(const struct fill *f, size_t page, uint64_t version)
{
	uint64_t *p = f->memory + page * WORDS;

	for (size_t k = 0; k < WORDS; k++)
		p[k] = word_of(page, version, k);
}

static bool page_good(const struct fill *f, size_t page)
{
	const uint64_t *p = f->memory + page * WORDS;
	uint64_t rounds = f->n_region ? f->written / f->n_region : 0;
	uint64_t version = page < f->n_region ? rounds + (page < f->next) : 0;

	for (size_t k = 0; k < WORDS; k++)
		if (p[k] != word_of(page, version, k))
			return false;
	return true;
}

static void tick(struct fill *f)
{
	uint64_t now = now_us(), passed = now > f->last_us ? now - f->last_us : 0;

	if (passed > f->gap_us)
		f->gap_us = passed;
	f->last_us = now;
	f->owed += (passed < BURST_US ? passed : BURST_US) * f->rate_pages;
	for (; f->owed >= 1000000; f->owed -= 1000000) {
		page_write(f, f->next, f->memory[f->next * WORDS] + 1);
		f->next = (f->next + 1) % f->n_region;
		f->written++;
	}
}

static int check(struct fill *f, char *line, size_t size)
{
	size_t page = 0;

	while (page < f->n_pages && page_good(f, page))
		page++;
	f->gap_us = 0;
	f->last_us = now_us();
	return page == f->n_pages ? snprintf(line, size, "ok\n") : snprintf(line, size, "bad %zu\n", page);
}

static bool answer(struct fill *f, int fd)
{
	char line[128];
	ssize_t n = recv(fd, line, sizeof(line), 0);

	if (n <= 0)
		return false;
	if (line[0] == 'c')
		n = check(f, line, sizeof(line));
	else
		n = snprintf(line, sizeof(line), "%llu %llu %llu\n", (unsigned long long)++f->count,
			     (unsigned long long)f->gap_us, (unsigned long long)f->written);
	return send(fd, line, (size_t)n, MSG_NOSIGNAL) == n;
}

static void serve(struct fill *f, int listener)
{
	struct pollfd p[1 + CLIENTS_MAX] = { { .fd = listener, .events = POLLIN } };
	nfds_t n = 1;

	f->last_us = now_us();
	for (;;) {
		(void)poll(p, n, 1);
		tick(f);
		for (nfds_t i = n; i-- > 1;)
			if (p[i].revents && !answer(f, p[i].fd)) {
				(void)close(p[i].fd);
				p[i] = p[--n];
			}
		if (p[0].revents && n <= CLIENTS_MAX)
			p[n++] = (struct pollfd){ .fd = accept(listener, NULL, NULL), .events = POLLIN };
	}
}

static int listen_on_port(void)
{
	const struct sockaddr_in any = { .sin_family = AF_INET, .sin_port = htons(PORT) };
	const int one = 1;
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
	    bind(fd, (const struct sockaddr *)&any, sizeof(any)) < 0 || listen(fd, CLIENTS_MAX) < 0) {
		perror("fill: cannot listen");
		exit(1);
	}
	return fd;
}

static size_t megabytes(const char *text)
{
	char *end;
	unsigned long n = strtoul(text, &end, 10);

	if (*end || n > 1024 * 1024) {
		fprintf(stderr, "fill: not a number of megabytes: %s\n", text);
		exit(2);
	}
	return n * PAGES_PER_MB;
}

static void *map(size_t size, int flags, int fd)
{
	if (fd >= 0 && ftruncate(fd, (off_t)size) < 0)
		return MAP_FAILED;
	return mmap(NULL, size, PROT_READ | PROT_WRITE, flags, fd, 0);
}

static void *memory_of(const char *kind, size_t size)
{
	if (!strcmp(kind, "private"))
		return map(size, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	if (!strcmp(kind, "locked"))
		return map(size, MAP_PRIVATE | MAP_ANONYMOUS | MAP_LOCKED, -1);
	if (!strcmp(kind, "shared"))
		return map(size, MAP_SHARED | MAP_ANONYMOUS, -1);
	if (!strcmp(kind, "memfd"))
		return map(size, MAP_SHARED, memfd_create("fill", 0));
	if (!strcmp(kind, "sysv"))
		return shmat(shmget(IPC_PRIVATE, size, IPC_CREAT | 0600), NULL, 0);
	return map(size, MAP_SHARED, open(kind, O_RDWR | O_CREAT, 0600));
}

int main(int argc, char **argv)
{
	struct fill f = { 0 };
	int listener;

	if (argc != 2 && argc != 4 && argc != 5) {
		fprintf(stderr, "usage: fill MEGABYTES [RATE REGION [KIND]]\n");
		return 2;
	}
	f.n_pages = megabytes(argv[1]);
	f.rate_pages = argc > 2 ? megabytes(argv[2]) : 0;
	f.n_region = argc > 2 ? megabytes(argv[3]) : 0;
	if (!f.n_pages || f.n_region > f.n_pages || (f.rate_pages && !f.n_region)) {
		fprintf(stderr, "fill: REGION is 1 to MEGABYTES\n");
		return 2;
	}
	f.memory = memory_of(argc == 5 ? argv[4] : "private", f.n_pages * PAGE);
	if (f.memory == MAP_FAILED) {
		perror("fill: no memory");
		return 1;
	}
	for (size_t page = 0; page < f.n_pages; page++)
		page_write(&f, page, 0);
	listener = listen_on_port();
	puts("ready");
	(void)fflush(stdout);
	serve(&f, listener);
}

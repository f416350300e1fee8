/*
 * driver.c - runs a fuzz target where libFuzzer is not at hand
 *
 *	fuzz_NAME CORPUS [ROUNDS [SEED]]
 *
 * First every file of the directory as it is, then ROUNDS mutations of them,
 * the same ones for the same SEED and corpus. When the target dies, the last
 * line tells the input, which is kept in a file of the working directory.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/base/cleanup.h"
#include "engine/base/fd.h"
#include "tests/fuzz/fuzz.h"

#define INPUT_MAX (1u << 20)
#define DEFAULT_ROUNDS 5000

struct seed {
	uint8_t *data;
	size_t size;
};

struct corpus {
	struct seed *seeds;
	size_t n;
};

/* For the handler of fatal signals only. */
static const uint8_t *volatile current_data;
static volatile size_t current_size;

static void keep_input(int sig)
{
	char path[64];
	int fd;

	(void)snprintf(path, sizeof(path), "crash-%d", (int)getpid());
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (fd < 0 || write(fd, (const void *)current_data, current_size) < 0)
		path[0] = '\0';
	dprintf(STDERR_FILENO, "signal %d; the input of %zu bytes is in %s\n", sig,
		(size_t)current_size, path);
	_exit(1);
}

static void run(const uint8_t *data, size_t size)
{
	uint8_t *exact = malloc(size + !size);	/* so that ASan sees one byte too far */

	if (!exact)
		abort();
	memcpy(exact, data, size);
	current_data = exact;
	current_size = size;
	(void)LLVMFuzzerTestOneInput(exact, size);
	free(exact);
}

static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

static size_t below(uint64_t *state, size_t n)
{
	return n ? (size_t)(next_random(state) % n) : 0;
}

/* Moves a piece of data to somewhere else in it, growing it by the piece. */
static size_t repeat_piece(uint8_t *data, size_t size, uint64_t *rng)
{
	size_t from = below(rng, size), to = below(rng, size + 1);
	uint8_t piece[64];
	size_t n = 1 + below(rng, size - from < sizeof(piece) ? size - from : sizeof(piece));

	if (size + n > INPUT_MAX)
		return size;
	memcpy(piece, data + from, n);
	memmove(data + to + n, data + to, size - to);
	memcpy(data + to, piece, n);
	return size + n;
}

static size_t cut_piece(uint8_t *data, size_t size, uint64_t *rng)
{
	size_t from = below(rng, size);
	size_t n = 1 + below(rng, size - from);

	memmove(data + from, data + from + n, size - from - n);
	return size - n;
}

static size_t graft(uint8_t *data, size_t size, const struct seed *other, uint64_t *rng)
{
	size_t at = below(rng, size + 1), from = below(rng, other->size);
	size_t n = other->size - from;

	if (at + n > INPUT_MAX)
		n = INPUT_MAX - at;
	memcpy(data + at, other->data + from, n);
	return at + n;
}

static size_t mutate(uint8_t *data, size_t size, const struct corpus *corpus, uint64_t *rng)
{
	static const uint8_t edges[] = { 0x00, 0x01, 0x7f, 0x80, 0xff, '/', '.', 0x1b };

	if (size == 0) {
		data[0] = (uint8_t)next_random(rng);
		return 1;
	}
	switch (below(rng, 7)) {
	case 0:
		data[below(rng, size)] = (uint8_t)next_random(rng);
		return size;
	case 1:
		data[below(rng, size)] = edges[below(rng, sizeof(edges))];
		return size;
	case 2:
		return repeat_piece(data, size, rng);
	case 3:
		return cut_piece(data, size, rng);
	case 4:
		return below(rng, 4) ? size : below(rng, size);
	case 5:
		return graft(data, size, &corpus->seeds[below(rng, corpus->n)], rng);
	default:
		data[below(rng, size)] ^= (uint8_t)(1u << below(rng, 8));
		return size;
	}
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static int is_seed(const struct dirent *entry)
{
	return entry->d_name[0] != '.';
}

static int load(const char *dir, struct corpus *ret, struct error *err)
{
	struct dirent **names;
	int n = scandir(dir, &names, is_seed, by_name);
	int r = 0;

	if (n <= 0)
		return error_set(err, n ? errno : ENODATA, "no seeds in %s", dir);
	ret->seeds = calloc((size_t)n, sizeof(*ret->seeds));
	for (int i = 0; i < n; i++) {
		struct seed *seed = ret->seeds ? &ret->seeds[ret->n] : NULL;
		char path[PATH_MAX], *text;

		(void)snprintf(path, sizeof(path), "%s/%s", dir, names[i]->d_name);
		free(names[i]);
		if (r < 0 || !seed)
			continue;
		r = fd_read_file_at(AT_FDCWD, path, INPUT_MAX, &text, &seed->size, err);
		if (r < 0)
			continue;
		seed->data = (uint8_t *)text;
		ret->n++;
	}
	free(names);
	return ret->seeds ? r : error_set(err, ENOMEM, "no memory for the seeds");
}

static void unload(struct corpus *corpus)
{
	for (size_t i = 0; i < corpus->n; i++)
		free(corpus->seeds[i].data);
	free(corpus->seeds);
}

int main(int argc, char **argv)
{
	static const int fatal[] = { SIGILL, SIGABRT, SIGBUS, SIGFPE, SIGSEGV };
	unsigned long rounds = argc > 2 ? strtoul(argv[2], NULL, 10) : DEFAULT_ROUNDS;
	uint64_t rng = 0x9e3779b97f4a7c15u ^ (argc > 3 ? strtoull(argv[3], NULL, 10) : 1);
	CLEANUP(unload) struct corpus corpus = {};
	CLEANUP(freep) uint8_t *data = malloc(INPUT_MAX);
	struct error err;

	if (argc < 2 || !data || load(argv[1], &corpus, &err) < 0) {
		fprintf(stderr, "%s: %s\n", argv[0], argc < 2 ? "name a corpus directory" : err.msg);
		return 2;
	}
	for (size_t i = 0; i < sizeof(fatal) / sizeof(fatal[0]); i++)
		(void)signal(fatal[i], keep_input);

	for (size_t i = 0; i < corpus.n; i++)
		run(corpus.seeds[i].data, corpus.seeds[i].size);
	for (unsigned long round = 0; round < rounds; round++) {
		const struct seed *seed = &corpus.seeds[below(&rng, corpus.n)];
		size_t size = seed->size;

		memcpy(data, seed->data, size);
		for (size_t changes = 1 + below(&rng, 6); changes > 0; changes--)
			size = mutate(data, size, &corpus, &rng);
		run(data, size);
	}
	printf("%zu seeds and %lu mutations\n", corpus.n, rounds);
	return 0;
}

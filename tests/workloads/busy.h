/*
 * busy.h - workers that keep changing and verifying memory while they are moved
 *
 * A worker is a thread or a process with a step, which verifies some memory and
 * then changes it, and a check of all that it has. Workers run until the first
 * wrong byte and then keep it. They share one control block; workload_check asks
 * each of them to verify everything, and waits until each has gone on after it.
 *
 *	static const struct busy_work work = { step, all, plant };
 *
 *	static void workload_setup(int argc, char **argv)
 *	{
 *		busy_init(-1);
 *		busy_thread(&work, something);
 *		busy_process(&work, something_else);
 *	}
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>

#include "tests/workloads/pattern.h"
#include "tests/workloads/workload.h"

#define BUSY_WORKERS_MAX 32
#define BUSY_PATIENCE_MS 15000
#define BUSY_PAUSE_US 500

struct busy_worker {
	_Atomic uint64_t rounds;	/* steps so far */
	_Atomic uint64_t asked;		/* checks that main asked for … */
	_Atomic uint64_t answered;	/* … and those that were done */
	_Atomic uint64_t writes;	/* for workers that share memory: who wrote how often */
	_Atomic int plant;		/* enum plant: to be spoiled before the next check */
	_Atomic bool broken;		/* reason says why; it makes no more steps */
	char reason[160];
};

/* Each of them returns false after busy_blame. They run in the worker. */
struct busy_work {
	bool (*step)(void *ctx);
	bool (*all)(void *ctx);
	void (*plant)(void *ctx, enum plant how);
};

struct busy_start {
	const struct busy_work *work;
	void *ctx;
	struct busy_worker *self;
};

static struct busy_worker *busy_workers;
static int n_busy_workers;
static _Thread_local struct busy_worker *busy_self;
/* What main checks when all workers have answered; false after workload_blame. */
static bool (*busy_also)(void);
static uint64_t busy_seen;
static useconds_t busy_pause_us = BUSY_PAUSE_US;

__attribute__((format(printf, 1, 2), unused))
static bool busy_blame(const char *fmt, ...)
{
	va_list ap;

	if (busy_self->reason[0])
		return false;
	va_start(ap, fmt);
	(void)vsnprintf(busy_self->reason, sizeof(busy_self->reason), fmt, ap);
	va_end(ap);
	return false;
}

/* In a step or a check: it holds, or that is what is wrong. */
#define BUSY_HOLDS(expression) \
	do { \
		errno = 0; \
		if (!(expression)) \
			return busy_blame("%s (%s)", #expression, strerror(errno)); \
	} while (0)

__attribute__((unused)) static bool busy_page_holds(const void *page, uint64_t key, uint32_t version)
{
	char text[sizeof(busy_self->reason)];

	if (pattern_holds(page, key, version))
		return true;
	pattern_tell(text, sizeof(text), page, key, version);
	return busy_blame("%s", text);
}

static uint64_t busy_random(void)
{
	static _Thread_local uint64_t state;

	if (!state)
		state = workload_nonce ^ ((uint64_t)getpid() << 32) ^ (uintptr_t)&state;
	state += 0x9e3779b97f4a7c15u;
	return pattern_mix(state);
}

static void busy_answer(const struct busy_work *work, void *ctx)
{
	uint64_t asked = atomic_load(&busy_self->asked);
	enum plant how = (enum plant)atomic_exchange(&busy_self->plant, PLANT_NONE);

	if (asked == atomic_load(&busy_self->answered))
		return;
	if (how != PLANT_NONE)
		work->plant(ctx, how);
	if (!atomic_load(&busy_self->broken) && !work->all(ctx))
		atomic_store(&busy_self->broken, true);
	atomic_store(&busy_self->answered, asked);
}

__attribute__((unused)) static _Noreturn void busy_run(const struct busy_work *work, void *ctx)
{
	for (;;) {
		busy_answer(work, ctx);
		if (atomic_load(&busy_self->broken))
			(void)usleep(1000);
		else if (work->step(ctx))
			atomic_fetch_add(&busy_self->rounds, 1);
		else
			atomic_store(&busy_self->broken, true);
		if (busy_pause_us)
			(void)usleep(busy_pause_us);
	}
}

static void busy_plant(int how)
{
	atomic_store(&busy_workers[busy_random() % (unsigned int)n_busy_workers].plant, how);
}

/* memfd: where the control block is, for workers that exec; -1: in shared anonymous memory. */
__attribute__((unused)) static void busy_init(int memfd)
{
	size_t size = BUSY_WORKERS_MAX * sizeof(*busy_workers);
	int flags = memfd < 0 ? MAP_SHARED | MAP_ANONYMOUS : MAP_SHARED;

	MUST(memfd < 0 || ftruncate(memfd, (off_t)size) == 0);
	busy_workers = mmap(NULL, size, PROT_READ | PROT_WRITE, flags, memfd, 0);
	MUST(busy_workers != MAP_FAILED);
	workload_plant = busy_plant;
}

static struct busy_worker *busy_take(void)
{
	MUST(n_busy_workers < BUSY_WORKERS_MAX);
	return &busy_workers[n_busy_workers++];
}

static void *busy_thread_main(void *arg)
{
	struct busy_start *start = arg;

	busy_self = start->self;
	busy_run(start->work, start->ctx);
}

__attribute__((unused)) static void busy_thread(const struct busy_work *work, void *ctx)
{
	struct busy_start *start = malloc(sizeof(*start));
	pthread_t id;

	MUST(start);
	*start = (struct busy_start){ work, ctx, busy_take() };
	MUST(pthread_create(&id, NULL, busy_thread_main, start) == 0);
}

__attribute__((unused)) static pid_t busy_process(const struct busy_work *work, void *ctx)
{
	struct busy_worker *self = busy_take();
	pid_t pid = fork();

	MUST(pid >= 0);
	if (pid > 0)
		return pid;
	busy_self = self;
	busy_run(work, ctx);
}

/* Waits until *value is at least that much. */
static bool busy_until(_Atomic uint64_t *value, uint64_t at_least, const bool *enough)
{
	for (int ms = 0; ms < BUSY_PATIENCE_MS; ms++) {
		if (atomic_load(value) >= at_least || (enough && *enough))
			return true;
		(void)usleep(1000);
	}
	return false;
}

static bool busy_worker_holds(int i)
{
	struct busy_worker *w = &busy_workers[i];
	uint64_t before = atomic_load(&w->rounds);

	if (!busy_until(&w->answered, atomic_load(&w->asked), NULL))
		return workload_blame("worker %d does not answer", i);
	if (!atomic_load(&w->broken) && !busy_until(&w->rounds, before + 1, NULL) &&
	    !atomic_load(&w->broken))
		return workload_blame("worker %d does not go on", i);
	if (atomic_load(&w->broken))
		return workload_blame("worker %d: %s", i, w->reason);
	return true;
}

static bool workload_check(void)
{
	uint64_t rounds = 0;

	for (int i = 0; i < n_busy_workers; i++)
		atomic_fetch_add(&busy_workers[i].asked, 1);
	for (int i = 0; i < n_busy_workers; i++) {
		if (!busy_worker_holds(i))
			return false;
		rounds += atomic_load(&busy_workers[i].rounds);
	}
	if (rounds <= busy_seen)
		return workload_blame("rounds went back from %llu to %llu",
				      (unsigned long long)busy_seen, (unsigned long long)rounds);
	busy_seen = rounds;
	(void)snprintf(workload_note, sizeof(workload_note), "%llu rounds verified",
		       (unsigned long long)rounds);
	return !busy_also || busy_also();
}

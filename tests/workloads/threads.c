/* Threads with their own memory, names and signal masks, that wait for one another. */
#include <pthread.h>
#include <sys/prctl.h>

#include "tests/workloads/workload.h"

#define THREADS 8

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t turn_changed = PTHREAD_COND_INITIALIZER;
static int turn;
static uint64_t rounds;
static bool masks_hold = true, names_hold = true;
static _Thread_local int mine;

static void *run(void *arg)
{
	int self = (int)(intptr_t)arg;
	char name[16], now[16];
	sigset_t mask;

	mine = self;
	(void)snprintf(name, sizeof(name), "worker-%d", self);
	(void)prctl(PR_SET_NAME, name);
	(void)sigemptyset(&mask);
	(void)sigaddset(&mask, SIGRTMIN + self);
	(void)pthread_sigmask(SIG_SETMASK, &mask, NULL);
	for (;;) {
		(void)pthread_mutex_lock(&lock);
		while (turn != self)
			(void)pthread_cond_wait(&turn_changed, &lock);
		(void)pthread_sigmask(SIG_BLOCK, NULL, &mask);
		(void)prctl(PR_GET_NAME, now);
		masks_hold &= sigismember(&mask, SIGRTMIN + self) == 1 &&
			      sigismember(&mask, SIGRTMIN + (self + 1) % THREADS) == 0;
		names_hold &= !strcmp(name, now) && mine == self;
		turn = (self + 1) % THREADS;
		rounds += turn == 0;
		(void)pthread_cond_broadcast(&turn_changed);
		(void)pthread_mutex_unlock(&lock);
		(void)usleep(100);
	}
	return NULL;
}

static void workload_setup(int argc, char **argv)
{
	pthread_t id;

	(void)argc, (void)argv;
	for (intptr_t i = 0; i < THREADS; i++)
		MUST(pthread_create(&id, NULL, run, (void *)i) == 0);
}

static bool workload_check(void)
{
	uint64_t before, after;

	(void)pthread_mutex_lock(&lock);
	before = rounds;
	(void)pthread_mutex_unlock(&lock);
	for (int i = 0; i < 500; i++) {
		(void)usleep(2000);
		(void)pthread_mutex_lock(&lock);
		after = rounds;
		(void)pthread_mutex_unlock(&lock);
		if (after > before + 2)
			break;
	}
	HOLDS(after > before + 2);
	HOLDS(masks_hold);
	HOLDS(names_hold);
	return true;
}

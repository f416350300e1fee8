/* A tree of processes that talk over pipes and sockets; eventfd, timerfd,
 * signalfd and an epoll set that watches them all, with things pending. */
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>

#include "tests/workloads/workload.h"

static int to_child[2], from_child[2], sock[2], waiting[2];
static int event, timer, signals, epoll;
static pid_t child;

/* Echoes numbers, plus one, through a child of its own. */
static void grandchild(void)
{
	int number;

	while (read(sock[1], &number, sizeof(number)) == sizeof(number)) {
		number++;
		(void)!write(sock[1], &number, sizeof(number));
	}
	_exit(0);
}

static void middle(void)
{
	int number;

	if (fork() == 0)
		grandchild();
	while (read(to_child[0], &number, sizeof(number)) == sizeof(number)) {
		(void)!write(sock[0], &number, sizeof(number));
		(void)!read(sock[0], &number, sizeof(number));
		(void)!write(from_child[1], &number, sizeof(number));
	}
	_exit(0);
}

static void watch(int fd)
{
	struct epoll_event e = { .events = EPOLLIN, .data.fd = fd };

	MUST(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e) == 0);
}

static void workload_setup(int argc, char **argv)
{
	const struct itimerspec often = { .it_interval.tv_nsec = 5000000, .it_value.tv_nsec = 5000000 };
	sigset_t set;

	(void)argc, (void)argv;
	MUST(pipe(to_child) == 0 && pipe(from_child) == 0 && pipe(waiting) == 0);
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, sock) == 0);
	child = fork();
	MUST(child >= 0);
	if (child == 0)
		middle();
	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGUSR1);
	(void)sigprocmask(SIG_BLOCK, &set, NULL);
	event = eventfd(7, EFD_NONBLOCK);
	timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
	signals = signalfd(-1, &set, SFD_NONBLOCK);
	epoll = epoll_create1(EPOLL_CLOEXEC);
	MUST(event >= 0 && timer >= 0 && signals >= 0 && epoll >= 0);
	MUST(timerfd_settime(timer, 0, &often, NULL) == 0);
	watch(event);
	watch(timer);
	watch(signals);
	watch(waiting[0]);
	/* Left in the pipe and in the signal queue, each check takes and puts back. */
	MUST(write(waiting[1], "in the pipe", 11) == 11 && raise(SIGUSR1) == 0);
}

/* All four become ready; the timer may need a while. */
static bool all_ready(void)
{
	const int watched[] = { event, timer, signals, waiting[0] };
	const char *const names[] = { "eventfd", "timerfd", "signalfd", "pipe" };
	struct epoll_event e[8];
	int ready = 0;

	for (int i = 0; i < 200 && ready < 4; i++) {
		ready = epoll_wait(epoll, e, 8, 1000);
		if (ready < 4)
			(void)usleep(5000);
	}
	for (int k = 0, found; k < 4; k++) {
		found = 0;
		for (int i = 0; i < ready; i++)
			found |= e[i].data.fd == watched[k];
		if (!found)
			return workload_blame("the %s never becomes ready", names[k]);
	}
	return true;
}

static bool workload_check(void)
{
	struct signalfd_siginfo si;
	uint64_t n = 0;
	char text[32];
	int number = 41;

	HOLDS(write(to_child[1], &number, sizeof(number)) == sizeof(number));
	HOLDS(read(from_child[0], &number, sizeof(number)) == sizeof(number) && number == 42);
	if (!all_ready())
		return false;
	HOLDS(read(event, &n, sizeof(n)) == sizeof(n) && n == 7);
	HOLDS(write(event, &n, sizeof(n)) == sizeof(n));
	HOLDS(read(timer, &n, sizeof(n)) == sizeof(n) && n > 0);
	HOLDS(read(signals, &si, sizeof(si)) == sizeof(si) && si.ssi_signo == SIGUSR1);
	HOLDS(raise(SIGUSR1) == 0);
	HOLDS(read(waiting[0], text, sizeof(text)) == 11 && !memcmp(text, "in the pipe", 11));
	HOLDS(write(waiting[1], text, 11) == 11);
	HOLDS(waitpid(child, NULL, WNOHANG) == 0);
	return true;
}

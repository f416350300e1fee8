#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "engine/base/clock.h"
#include "engine/base/fault.h"
#include "migrate/channel/host.h"
#include "migrate/incoming.h"
#include "migrate/serve/announcer.h"
#include "migrate/serve/server.h"
#include "migrate/serve/settler.h"
#include "migrate/target.h"

#define SWEEP_AGAIN_MS 2000
#define COMPANIONS 2
#define ENDING_US 1000000		/* how long those that were let go may take to end */

struct server {
	const struct node *node;
	struct server_options options;
	int listen_fd, signal_fd;
	struct place {
		pid_t pid;		/* 0: free */
		uint64_t since_us;
	} places[SERVER_CONNECTIONS_MAX];
	bool *spoken;			/* a flag each, set by the child: shared memory */
	pid_t sweeper;			/* 0: none */
	bool sweep_wanted;
	bool sweep_again;		/* something could not be removed */
	struct companion {
		pid_t pid;		/* 0: none now */
		uint64_t since_us;	/* when it was started; clock_us */
	} companions[COMPANIONS];
};

/* Processes beside the daemon, each as long as it lives. */
static void (*const companion_runs[COMPANIONS])(const struct node *node, const struct settler_options *options) = {
	settler_run, announcer_run,
};

static int listen_on(const struct addrinfo *a, struct error *err)
{
	const int one = 1, zero = 0;
	CLEANUP(fd_closep) int fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return error_set(err, errno, "socket: %s", strerror(errno));
	(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (a->ai_family == AF_INET6)
		(void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof(zero));
	if (bind(fd, a->ai_addr, a->ai_addrlen) < 0 || listen(fd, 64) < 0)
		return error_set(err, errno, "%s", strerror(errno));
	return TAKE_FD(fd);
}

/* All addresses of both families, where there is IPv6. */
static int listen_on_all(const struct addrinfo *list, struct error *err)
{
	for (const struct addrinfo *a = list; a; a = a->ai_next) {
		int fd = a->ai_family == AF_INET6 ? listen_on(a, err) : -EAFNOSUPPORT;

		if (fd >= 0)
			return fd;
	}
	return listen_on(list, err);
}

static int open_listener(const char *address, struct error *err)
{
	const struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE };
	struct addrinfo *list = NULL;
	char host[256], port[16];
	int r;

	if (host_split(address, host, port, err) < 0)
		return -err->code;
	r = getaddrinfo(host[0] ? host : NULL, port, &hints, &list);
	if (r == EAI_SERVICE)
		return host_wrong_port(port, err);
	if (r)
		return error_set(err, EINVAL, "listen on '%s': %s", address, gai_strerror(r));
	r = host[0] ? listen_on(list, err) : listen_on_all(list, err);
	freeaddrinfo(list);
	return r < 0 ? error_wrap(err, "listen on %s port %s", host[0] ? host : "any address", port) : r;
}

static int open_signals(struct error *err)
{
	sigset_t set;
	int fd;

	(void)sigemptyset(&set);
	for (const int *s = (const int[]){ SIGCHLD, SIGTERM, SIGINT, 0 }; *s; s++)
		(void)sigaddset(&set, *s);
	(void)sigprocmask(SIG_BLOCK, &set, NULL);
	fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return fd < 0 ? error_set(err, errno, "signalfd: %s", strerror(errno)) : fd;
}

static void say(const struct server *s, const char *line)
{
	if (s->options.log)
		s->options.log(s->options.ctx, line);
}

int server_open(const struct node *node, const struct server_options *options,
		struct server **ret, char ret_address[128], struct error *err)
{
	CLEANUP(server_freep) struct server *s = calloc(1, sizeof(*s));
	struct sockaddr_storage bound;
	struct error left;
	socklen_t len = sizeof(bound);
	char host[96] = "?", port[16] = "?";

	if (!s)
		return error_set(err, ENOMEM, "out of memory");
	fault_role("serve");
	*s = (struct server){ .node = node, .options = *options, .listen_fd = -EBADF, .signal_fd = -EBADF };
	s->spoken = mmap(NULL, SERVER_CONNECTIONS_MAX * sizeof(*s->spoken), PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (s->spoken == MAP_FAILED) {
		s->spoken = NULL;
		return error_set(err, ENOMEM, "out of memory");
	}
	s->listen_fd = open_listener(options->listen, err);
	if (s->listen_fd < 0)
		return -err->code;
	s->signal_fd = open_signals(err);
	if (s->signal_fd < 0)
		return -err->code;
	fault_pass("serve-sweep");
	s->sweep_again = incoming_sweep(node, 0, &left) < 0;
	if (s->sweep_again)
		say(s, left.msg);
	(void)getsockname(s->listen_fd, (struct sockaddr *)&bound, &len);
	(void)getnameinfo((struct sockaddr *)&bound, len, host, sizeof(host), port, sizeof(port),
			  NI_NUMERICHOST | NI_NUMERICSERV);
	(void)snprintf(ret_address, 128, strchr(host, ':') ? "[%s]:%s" : "%s:%s", host, port);
	*ret = TAKE_PTR(s);
	return 0;
}

void server_free(struct server *s)
{
	if (!s)
		return;
	fd_close(&s->listen_fd);
	fd_close(&s->signal_fd);
	if (s->spoken)
		(void)munmap(s->spoken, SERVER_CONNECTIONS_MAX * sizeof(*s->spoken));
	free(s);
}

static void become_child(struct server *s)
{
	sigset_t none;

	fd_close(&s->listen_fd);
	fd_close(&s->signal_fd);
	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
}

static _Noreturn void child_main(struct server *s, int fd, bool *spoken)
{
	struct error err;

	fault_role("receive");
	become_child(s);
	if (target_serve(s->node, fd, spoken, s->options.log, s->options.ctx, &err) < 0)
		say(s, err.msg);
	_exit(0);
}

static struct place *find_place(struct server *s, pid_t pid)
{
	for (size_t i = 0; i < SERVER_CONNECTIONS_MAX; i++)
		if (s->places[i].pid == pid)
			return &s->places[i];
	return NULL;
}

/* Who has been silent for longest makes room. */
static struct place *take_place(struct server *s)
{
	struct place *oldest = NULL;

	for (size_t i = 0; i < SERVER_CONNECTIONS_MAX; i++) {
		struct place *p = &s->places[i];

		if (p->pid && !s->spoken[i] && (!oldest || p->since_us < oldest->since_us))
			oldest = p;
	}
	if (!oldest)
		return NULL;
	say(s, "too many connections; one that has said nothing is closed");
	(void)kill(oldest->pid, SIGKILL);
	while (waitpid(oldest->pid, NULL, 0) < 0 && errno == EINTR)
		;
	oldest->pid = 0;
	return oldest;
}

static void accept_one(struct server *s)
{
	int fd = accept4(s->listen_fd, NULL, NULL, SOCK_CLOEXEC);
	struct place *place;
	bool *spoken;
	pid_t pid;

	if (fd < 0)
		return;
	fault_pass("serve-accept");
	place = find_place(s, 0);
	if (!place)
		place = take_place(s);
	if (!place) {
		say(s, "too many connections; one was turned away");
		fd_close(&fd);
		return;
	}
	spoken = &s->spoken[place - s->places];
	*spoken = false;
	pid = fork();
	if (pid == 0)
		child_main(s, fd, spoken);
	if (pid < 0)
		say(s, "fork failed; a connection was turned away");
	else
		*place = (struct place){ .pid = pid, .since_us = clock_us() };
	fd_close(&fd);
}

/* In a process of its own, because it may have to wait for processes to end. */
static void sweep(struct server *s)
{
	struct error left;

	s->sweep_wanted = false;
	s->sweeper = fork();
	if (s->sweeper == 0) {
		fd_close(&s->listen_fd);
		if (incoming_sweep(s->node, ENDING_US, &left) == 0)
			_exit(0);
		say(s, left.msg);
		_exit(1);
	}
	if (s->sweeper < 0)
		s->sweeper = 0;
}

/* One that was killed may have left something that only the other half of a
 * migration, which may be dead as well, would have removed. */
static void take_death(struct server *s, pid_t pid, int status)
{
	struct place *place = find_place(s, pid);

	if (place)
		place->pid = 0;
	for (size_t i = 0; i < COMPANIONS; i++)
		if (pid == s->companions[i].pid)
			s->companions[i].pid = 0;
	if (pid == s->sweeper) {
		s->sweeper = 0;
		s->sweep_again = WIFEXITED(status) && WEXITSTATUS(status);
	} else if (WIFSIGNALED(status)) {
		s->sweep_wanted = true;
	}
}

/* False when it is time to end. */
static bool take_signals(struct server *s)
{
	struct signalfd_siginfo si;
	bool go_on = true;
	int status;
	pid_t pid;

	while (read(s->signal_fd, &si, sizeof(si)) == sizeof(si))
		if (si.ssi_signo != SIGCHLD)
			go_on = false;
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		take_death(s, pid, status);
	return go_on;
}

/* Again when it has died, but not more often than it looks. Returns how long to wait at most. */
static int keep_companion(struct server *s, size_t i)
{
	const struct settler_options options = { .log = s->options.log, .ctx = s->options.ctx };
	struct companion *c = &s->companions[i];
	uint64_t now = clock_us();
	pid_t pid;

	if (c->pid)
		return -1;
	if (c->since_us && now < c->since_us + SETTLER_LOOK_US)
		return (int)SETTLER_LOOK_US / 1000;
	c->since_us = now;
	pid = fork();
	if (pid == 0) {
		become_child(s);
		companion_runs[i](s->node, &options);
	}
	c->pid = pid > 0 ? pid : 0;
	return c->pid ? -1 : (int)SETTLER_LOOK_US / 1000;
}

/* The shorter of two times for poll(2); -1 is no end. */
static int next_wait_ms(int a, int b)
{
	return a < 0 || (b >= 0 && b < a) ? b : a;
}

static int keep_companions(struct server *s)
{
	int wait = -1;

	for (size_t i = 0; i < COMPANIONS; i++)
		wait = next_wait_ms(wait, keep_companion(s, i));
	return wait;
}

int server_run(struct server *s, struct error *err)
{
	struct pollfd p[] = { { .fd = s->listen_fd, .events = POLLIN },
			      { .fd = s->signal_fd, .events = POLLIN } };

	/* What our children leave behind, monitors and fillers, is reaped here. */
	(void)prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
	for (;;) {
		int wait = next_wait_ms(keep_companions(s), s->sweep_again && !s->sweeper ? SWEEP_AGAIN_MS : -1);
		int n = poll(p, 2, wait);

		if (n < 0 && errno != EINTR)
			return error_set(err, errno, "poll: %s", strerror(errno));
		if (n == 0 && s->sweep_again)
			s->sweep_wanted = true;
		if (p[1].revents && !take_signals(s))
			return 0;
		if (s->sweep_wanted && !s->sweeper)
			sweep(s);
		if (p[0].revents)
			accept_one(s);
	}
}

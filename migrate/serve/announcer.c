#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "engine/base/clock.h"
#include "engine/base/fault.h"
#include "engine/base/fd.h"
#include "engine/network/placement.h"
#include "migrate/serve/announcer.h"
#include "migrate/serve/exchange.h"

#define LOOKS_TO_REFRESH 8

/* A node to be told. */
struct peer {
	pid_t pid;			/* who tells it now; 0: nobody */
	bool due;			/* something has changed since */
	uint64_t again_us, wait_us;	/* clock_us: not before */
};

struct known {
	struct known *next;
	bool seen;
	struct named_network network;
	char *claims;			/* what was told last */
	char said[256];			/* the last complaint */
	struct peer peers[NAMED_NETWORK_MEMBERS_MAX];
};

struct announcer {
	const struct node *node;
	struct settler_options options;
	int door, changes, signals;
	struct known *first;
};

static void complain(struct announcer *a, struct known *k, const char *text)
{
	char line[512];

	if (!strncmp(k->said, text, sizeof(k->said) - 1))
		return;
	(void)snprintf(k->said, sizeof(k->said), "%s", text);
	(void)snprintf(line, sizeof(line), "network '%s': %.400s", k->network.name, text);
	if (a->options.log)
		a->options.log(a->options.ctx, line);
}

/* ---- what there is ---- */

static struct known *find(struct announcer *a, const struct named_network *n)
{
	for (struct known *k = a->first; k; k = k->next)
		if (named_network_same(&k->network, n) && k->network.index == n->index)
			return k;
	return NULL;
}

static void set_due(struct known *k)
{
	for (size_t i = 0; i < k->network.n_members; i++) {
		k->peers[i].due = i != k->network.index;
		k->peers[i].again_us = 0;
	}
}

static void look_at(struct announcer *a, const char *name)
{
	struct named_network n;
	struct error ignored;
	struct known *k;

	if (named_network_load(a->node, name, &n, &ignored) < 0)
		return;
	k = find(a, &n);
	if (!k) {
		k = calloc(1, sizeof(*k));
		if (!k)
			return;
		k->network = n;
		k->next = a->first;
		a->first = k;
	}
	k->seen = true;
}

static void forget_gone(struct announcer *a)
{
	for (struct known **at = &a->first; *at;) {
		struct known *k = *at;

		if (k->seen) {
			at = &k->next;
			continue;
		}
		*at = k->next;
		free(k->claims);
		free(k);
	}
}

/* The sequence apart. */
static char *claims_of(const struct announcer *a, const struct known *k)
{
	CLEANUP(places_free) struct places own = { 0 };
	struct error ignored;
	char *text = NULL;

	if (placement_own(a->node, &k->network, &own, &ignored) == 0)
		(void)places_format(&own, &text, &ignored);
	return text;
}

static void check(struct announcer *a, struct known *k, bool refresh)
{
	char *claims = claims_of(a, k);
	bool changed = claims && (!k->claims || strcmp(claims, k->claims) != 0);
	struct error err;

	if ((changed || refresh) && placement_refresh(a->node, k->network.name, &err) < 0)
		complain(a, k, err.msg);
	if (!changed) {
		free(claims);
		return;
	}
	free(k->claims);
	k->claims = claims;
	set_due(k);
}

static void look(struct announcer *a, bool refresh)
{
	char **names = NULL;
	struct error ignored;
	size_t n = 0;

	for (struct known *k = a->first; k; k = k->next)
		k->seen = false;
	if (named_network_list(a->node, &names, &n, &ignored) == 0)
		for (size_t i = 0; i < n; i++)
			look_at(a, names[i]);
	fd_list_free(names, n);
	forget_gone(a);
	for (struct known *k = a->first; k; k = k->next)
		check(a, k, refresh);
}

/* ---- telling ---- */

static _Noreturn void tell(struct announcer *a, struct known *k, size_t member)
{
	struct error err;
	sigset_t none;

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	if (exchange_places(a->node, &k->network, member, &err) == 0)
		_exit(0);
	if (k->peers[member].wait_us == ANNOUNCER_AGAIN_US)	/* once, and not when it is well soon */
		complain(a, k, err.msg);
	_exit(1);
}

/* Returns for how long there is nothing to do. */
static uint64_t tell_all(struct announcer *a)
{
	uint64_t now = clock_us(), wait = ANNOUNCER_LOOK_US;

	for (struct known *k = a->first; k; k = k->next)
		for (size_t i = 0; i < k->network.n_members; i++) {
			struct peer *p = &k->peers[i];

			if (!p->due || p->pid > 0)
				continue;
			if (p->again_us > now) {
				wait = p->again_us - now < wait ? p->again_us - now : wait;
				continue;
			}
			p->pid = fork();
			if (p->pid == 0)
				tell(a, k, i);
			p->due = p->pid < 0;
		}
	return wait;
}

static void take_end(struct peer *p, bool good)
{
	p->pid = 0;
	if (good) {
		p->wait_us = 0;
		return;
	}
	p->wait_us = p->wait_us ? p->wait_us * 2 : ANNOUNCER_AGAIN_US;
	if (p->wait_us > ANNOUNCER_AGAIN_MAX_US)
		p->wait_us = ANNOUNCER_AGAIN_MAX_US;
	p->again_us = clock_us() + p->wait_us;
	p->due = true;
}

static void take_ends(struct announcer *a)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		for (struct known *k = a->first; k; k = k->next)
			for (size_t i = 0; i < k->network.n_members; i++)
				if (k->peers[i].pid == pid)
					take_end(&k->peers[i], status == 0);
}

static bool empty(int fd)
{
	char text[4096];
	bool any = false;

	while (read(fd, text, sizeof(text)) >= 0)
		any = true;
	return any || errno == ENOBUFS;
}

static int open_all(struct announcer *a, struct error *err)
{
	sigset_t set;

	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGCHLD);
	(void)sigprocmask(SIG_BLOCK, &set, NULL);
	a->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (a->signals < 0)
		return error_set(err, errno, "signalfd: %s", strerror(errno));
	if (network_changes_open(&a->changes, err) < 0)
		return -err->code;
	return fcntl(a->changes, F_SETFL, O_NONBLOCK) < 0 ? error_set(err, errno, "fcntl: %s", strerror(errno)) : 0;
}

_Noreturn void announcer_run(const struct node *node, const struct settler_options *options)
{
	struct announcer a = { .node = node, .options = *options, .door = -EBADF };
	pid_t parent = getppid();
	struct error err;
	unsigned looks = 0;
	bool woken = true;

	(void)prctl(PR_SET_NAME, "godwit-announce");
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	fault_role("announce");
	if (open_all(&a, &err) < 0) {
		if (options->log)
			options->log(options->ctx, err.msg);
		_exit(1);
	}
	while (getppid() == parent) {
		/* One before us may still be going. */
		if (a.door < 0)
			(void)placement_door(node, &a.door, &err);
		struct pollfd p[] = { { .fd = a.door, .events = POLLIN }, { .fd = a.changes, .events = POLLIN },
				      { .fd = a.signals, .events = POLLIN } };

		look(&a, woken || looks++ % LOOKS_TO_REFRESH == 0);
		(void)poll(p, 3, (int)(tell_all(&a) / 1000) + 1);
		woken = empty(a.door);
		woken |= empty(a.changes);
		if (empty(a.signals))
			take_ends(&a);
	}
	_exit(0);
}

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "engine/base/fault.h"
#include "engine/base/fd.h"
#include "engine/monitor/monitor.h"
#include "migrate/incoming.h"
#include "migrate/release.h"
#include "migrate/serve/settler.h"
#include "migrate/settle.h"

#define PEERS_MAX 64

/* One that could not be asked is left alone for a while, for all containers. */
struct peer {
	char host[256];
	uint64_t again_us;		/* clock_us */
	uint64_t wait_us;
};

struct settler {
	const struct node *node;
	struct settler_options options;
	struct peer peers[PEERS_MAX];
	size_t n_peers;
	char said[256];			/* the last complaint */
};

__attribute__((format(printf, 2, 3)))
static void say(const struct settler *s, const char *fmt, ...)
{
	char line[1024];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	if (s->options.log)
		s->options.log(s->options.ctx, line);
}

static struct peer *find_peer(struct settler *s, const char *host)
{
	struct peer *p = s->peers;

	while (p < s->peers + s->n_peers && strcmp(p->host, host) != 0)
		p++;
	if (p == s->peers + PEERS_MAX)
		p--;			/* the last place is everybody's */
	if (p == s->peers + s->n_peers)
		s->n_peers++;
	if (strcmp(p->host, host) != 0) {
		*p = (struct peer){ 0 };
		(void)snprintf(p->host, sizeof(p->host), "%s", host);
	}
	return p;
}

static bool is_due(struct settler *s, const char *host)
{
	return find_peer(s, host)->again_us <= clock_us();
}

static void note(struct settler *s, const char *host, bool good)
{
	struct peer *p = find_peer(s, host);

	p->wait_us = good ? 0 : p->wait_us ? p->wait_us * 2 : SETTLER_AGAIN_US;
	if (p->wait_us > SETTLER_AGAIN_MAX_US)
		p->wait_us = SETTLER_AGAIN_MAX_US;
	p->again_us = clock_us() + p->wait_us;
}

/* Once, until it is another one. */
static void complain(struct settler *s, const char *name, const struct error *err)
{
	char line[sizeof(s->said)];

	(void)snprintf(line, sizeof(line), "%s: %.200s", name, err->msg);
	if (strcmp(line, s->said) == 0)
		return;
	memcpy(s->said, line, sizeof(line));
	say(s, "container '%s' is in doubt: %s", name, err->msg);
}

static void tell(const struct settler *s, const char *name, const struct handover *h, enum settled how)
{
	static const char *const words[] = {
		[SETTLED_GONE] = "runs on %s; the original is removed",
		[SETTLED_HERE] = "does not run on %s; it goes on here",
		[SETTLED_LOST_THERE] = "was lost when %s crashed; it goes on here, from the moment of its move",
	};
	char text[512];
	const char *at = strstr(words[how], "%s");

	(void)snprintf(text, sizeof(text), "%.*s%s%s", (int)(at - words[how]), words[how], h->node, at + 2);
	say(s, "container '%s' %s", name, text);
}

/* The lock does it; only whoever had frozen it has it, if he lives. */
static void repair_one(const struct settler *s, struct container *c)
{
	struct container_state st;
	struct error ignored;

	if (container_state(c, &st, &ignored) < 0 || (!st.abandoned && !monitor_is_missing(c, &st)) ||
	    container_lock(c, false, &ignored) < 0)
		return;
	if (st.abandoned)
		say(s, "container '%s' goes on: whoever froze it was killed, and its monitor, too", c->name);
	if (container_state(c, &st, &ignored) == 0 && st.monitor_alive)
		say(s, "container '%s' has a new monitor, as its own was killed", c->name);
}

/* Whoever has the lock settles it, or is about to. */
static void settle_one(struct settler *s, const char *name)
{
	CLEANUP(container_freep) struct container *c = NULL;
	enum settled how = SETTLED_HERE;
	struct handover h;
	struct error err;
	int r;

	if (container_open(s->node, name, &c, &err) < 0)
		return;
	if (faccessat(c->dir_fd, "handover.json", F_OK, 0) < 0) {
		repair_one(s, c);
		return;
	}
	if (container_lock(c, false, &err) < 0 || handover_read(c, &h, &err) < 0 || !is_due(s, h.peer))
		return;
	r = settle_container(c, &how, &err);
	note(s, h.peer, r == 0);
	if (r == 0)
		tell(s, name, &h, how);
	else
		complain(s, name, &err);
}

static void release_one(struct settler *s, const char *token)
{
	struct handover h;
	struct error err;

	if (release_read(s->node, token, &h, &err) == 0 && is_due(s, h.peer))
		note(s, h.peer, settle_release(s->node, token, &err) == 0);
}

static void look(struct settler *s)
{
	char **names = NULL;
	struct error ignored;
	size_t n = 0;

	if (fault_point("settler-look", &ignored) < 0)
		return;
	(void)incoming_sweep(s->node, 0, &ignored);
	release_remove_temporary(s->node);
	if (container_list(s->node, &names, &n, &ignored) == 0) {
		for (size_t i = 0; i < n; i++)
			settle_one(s, names[i]);
		fd_list_free(names, n);
	}
	if (release_list(s->node, &names, &n, &ignored) == 0) {
		for (size_t i = 0; i < n; i++)
			release_one(s, names[i]);
		fd_list_free(names, n);
	}
}

_Noreturn void settler_run(const struct node *node, const struct settler_options *options)
{
	struct settler s = { .node = node, .options = *options };
	pid_t parent = getppid();

	(void)prctl(PR_SET_NAME, "godwit-settler");
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	fault_role("settle");
	while (getppid() == parent) {
		look(&s);
		(void)usleep((useconds_t)fault_value("settler-look-ms", SETTLER_LOOK_US / 1000) * 1000);
	}
	_exit(0);
}

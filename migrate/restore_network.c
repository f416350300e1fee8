#include <poll.h>

#include "engine/container.h"
#include "engine/network/nat.h"
#include "migrate/restore.h"
#include "migrate/restore_monitor.h"
#include "migrate/restore_network.h"

/* It may have left only now, and be back. */
static int replace_stand_in(const struct monitor_setup *s, struct error *err)
{
	char ifname[IFNAMSIZ];

	container_stand_in_ifname(s->container, ifname);
	return if_nametoindex(ifname) ? network_detach(ifname, err) : 0;
}

/* Without a gate it stays closed until the resume, and clients may wait longer. */
int restore_network_prepare(struct restore_network *n, const struct monitor_setup *s, struct error *err)
{
	struct error ignored;

	if (replace_stand_in(s, err) < 0 ||
	    network_attach(s->netns_fd, &s->endpoint, NETWORK_GATE_CLOSED, err) < 0 ||
	    nat_attach(&s->endpoint, err) < 0)
		return -err->code;
	if (s->endpoint.bridge[0])
		(void)gate_arm(s->endpoint.host_ifname, s->netns_fd, GATE_CLOSED, &n->gate, &ignored);
	return 0;
}

void restore_network_mute(struct restore_network *n)
{
	if (n->gate)
		gate_set(n->gate, GATE_MUTED);
}

void restore_network_speak(struct restore_network *n, const struct monitor_setup *s)
{
	struct error ignored;

	if (!s->endpoint.bridge[0])
		return;
	if (n->gate) {
		gate_unmute(n->gate);
	} else {
		(void)network_gate_set(s->endpoint.host_ifname, NETWORK_GATE_OPEN, &ignored);
		(void)network_neighbours_forget(s->netns_fd, &s->endpoint, &ignored);
	}
	(void)network_announce(s->netns_fd, &s->endpoint, &n->announced_by[0], &ignored);
}

void restore_network_hear(struct restore_network *n, const struct monitor_setup *s)
{
	struct pollfd p = { .fd = s->control, .events = POLLIN };
	struct monitor_message said;
	struct error ignored;

	if (!n->gate)
		return;
	if (poll(&p, 1, RESTORE_OPEN_US / 1000) == 1)
		(void)monitor_receive(s->control, &said, &ignored);
	gate_release(n->gate);
	(void)network_announce(s->netns_fd, &s->endpoint, &n->announced_by[1], &ignored);
}

void restore_network_closep(struct restore_network *n)
{
	gate_free(n->gate);
	fd_close(&n->announced_by[0]);
	fd_close(&n->announced_by[1]);
}

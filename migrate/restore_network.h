/*
 * restore_network.h - the network of a container that arrives, for restore_monitor.c
 *
 * Its interface is there, silent, before it is. While it is restored its gate is
 * muted; at the resume it speaks, and hears what comes for it directly when the
 * asker has delivered what came before (restore.h).
 */
#pragma once

#include "engine/monitor/monitor.h"
#include "engine/network/gate.h"

struct restore_network {
	struct gate *gate;		/* NULL: closed or open is all that can be done */
	int announced_by[2];		/* sockets to be closed when there is time */
};
#define RESTORE_NETWORK_EMPTY { .announced_by = { -EBADF, -EBADF } }

int restore_network_prepare(struct restore_network *n, const struct monitor_setup *s, struct error *err);
void restore_network_mute(struct restore_network *n);

/* What the restored sockets have sent goes out, and all know where the container is. */
void restore_network_speak(struct restore_network *n, const struct monitor_setup *s);

/* Waits for the asker, but not for long; then says once more where it is, since who missed it (one frame may
 * be lost) would not hear of it otherwise: RFC 5227 section 2.3 has two, too. */
void restore_network_hear(struct restore_network *n, const struct monitor_setup *s);

void restore_network_closep(struct restore_network *n);

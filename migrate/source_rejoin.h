/*
 * source_rejoin.h - the connections that memory goes over, and going back to the
 * target when one is lost
 *
 * While memory goes (PREPARED to FROZEN) a lost connection is made anew, as often
 * as it takes within source_options.retry_us, and the trees go on where they were.
 * After FROZEN the container stands still, and to run it again here at once is
 * better than to wait for a network: then a lost connection ends the migration.
 */
#pragma once

#include "migrate/source.h"

/* After PREPARED: makes the further connections. */
int source_rejoin_begin(struct source *s, struct error *err);

/* Before FROZEN. */
void source_rejoin_end(struct source *s);

/* Closes the further connections; what went over them counts. */
void source_rejoin_close(struct source *s);

/*
 * source_rejoin.h - going back to the target when the connection is lost
 *
 * While memory goes (PREPARED to FROZEN) a lost connection is made anew, as often
 * as it takes within source_options.retry_us, and the trees go on where they were.
 * After FROZEN the container stands still, and to run it again here at once is
 * better than to wait for a network: then a lost connection ends the migration.
 */
#pragma once

#include "migrate/source.h"

int source_rejoin_begin(struct source *s, struct error *err);
void source_rejoin_end(struct source *s);

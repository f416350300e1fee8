/*
 * progress.h - a migration's phases as they go by, and its report
 *
 * On a terminal one line that changes, else a line a phase; on stderr, so that
 * --json on stdout stays pure.
 */
#pragma once

#include <stdio.h>

#include <stdbool.h>
#include <stdint.h>

#include "migrate/checkpoint/checkpoint.h"

struct progress {
	bool quiet, terminal;
	const char *phase;
	uint64_t begun_us, last_us, last_bytes;
};

void progress_init(struct progress *p, bool quiet);

/* A callback of struct source_options; ctx is a struct progress. */
void progress_update(void *ctx, const char *phase, const struct channel_stats *stats);

/* Ends the changing line. */
void progress_end(struct progress *p);

void progress_print_report(const struct container *c, const struct source_report *r);

void progress_print_checkpoint(const struct container *c, const struct checkpoint_options *o,
			       const struct checkpoint_report *r);

/* error may be NULL. */
void progress_print_checkpoint_json(const struct container *c, const struct checkpoint_options *o,
				    const struct checkpoint_report *r, const struct error *error);
void progress_print_json(const struct container *c, const struct source_report *r,
			 const struct error *error);

/* "CODE: what; what to do", a line each. */
void progress_print_reasons(const struct reasons *r, FILE *out);

/* What source_check found; error may be NULL. */
void progress_print_check(const struct container *c, const struct source_report *r, bool json,
			  const struct error *error);

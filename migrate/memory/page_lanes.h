/*
 * page_lanes.h - pages over several connections at once
 *
 * A lane is a page_sender on a connection of its own. With one lane all is done by
 * who calls; with more each has a thread, and who calls only hands out ranges.
 * Which lane a page takes is told by its address (pages_connection): the same one
 * in all rounds, so that no content overtakes a newer one, and each lane knows what
 * it has sent.
 *
 *	page_lanes_begin(l, label, err);	a tree on each connection
 *	page_lanes_range(l, process, start, end, err);
 *	page_lanes_settle(l, err);		now who calls may use the channels
 *	page_lanes_end(l, err);
 *
 * One thread calls these. Between page_lanes_range and page_lanes_settle the channels
 * are the lanes'. What goes wrong in one is the error of the next call, and ends the
 * others.
 */
#pragma once

#include "migrate/channel/channel.h"
#include "migrate/memory/page_sender.h"
#include "migrate/memory/tracker.h"

struct page_lanes;

/* channels (n, at least 1, borrowed) are between two trees. */
int page_lanes_new(struct channel *const *channels, size_t n, struct page_lanes **ret, struct error *err);

/* Ends the threads, whatever they do. */
void page_lanes_free(struct page_lanes *l);
DEFINE_CLEANUP(struct page_lanes *, page_lanes_free)

int page_lanes_begin(struct page_lanes *l, const char *label, struct error *err);
int page_lanes_range(struct page_lanes *l, const struct tracker_process *p, uint64_t start, uint64_t end,
		     struct error *err);

/* The process has executed: what was sent of it before is void. */
int page_lanes_drop(struct page_lanes *l, const struct tracker_process *p, struct error *err);
int page_lanes_settle(struct page_lanes *l, struct error *err);

/* A record on the first connection, after page_lanes_settle. */
int page_lanes_record(struct page_lanes *l, const struct pages *record, struct error *err);
int page_lanes_end(struct page_lanes *l, struct error *err);

/* Of all lanes together, after page_lanes_settle. */
struct page_sender_stats page_lanes_stats(const struct page_lanes *l);
struct channel_stats page_lanes_channel_stats(const struct page_lanes *l);
size_t page_lanes_count(const struct page_lanes *l);

/*
 * page_sender.h - pages of processes out of their memory into blocks of a channel
 *
 * Ranges are collected, read with one process_vm_readv(2) straight to where they
 * belong in the channel's block, and judged there: a run of pages that are zero
 * becomes a record without content, pages that are as they were sent before
 * become nothing, and what remains closes up. proto/pages.h has the records.
 *
 *	page_sender_range(s, process, start, end, err);	as often as wanted
 *	page_sender_flush(s, err);		before the process may change
 *
 * Its memory does not grow with the container (sent_pages.h).
 */
#pragma once

#include <stdint.h>

#include "engine/base/cleanup.h"
#include "migrate/channel/channel.h"
#include "migrate/memory/tracker.h"
#include "proto/pages.h"

struct page_sender;

struct page_sender_stats {
	uint64_t sent, zero, unchanged;	/* pages */
};

/* One of as many senders as senders says. ch is borrowed; all is done between
 * channel_tree_begin and channel_tree_end. */
int page_sender_new(struct channel *ch, unsigned senders, struct page_sender **ret, struct error *err);
void page_sender_free(struct page_sender *s);
DEFINE_CLEANUP(struct page_sender *, page_sender_free)

/* Pages of [start, end), sooner or later. What is not mapped any more is passed over. */
int page_sender_range(struct page_sender *s, const struct tracker_process *p, uint64_t start,
		      uint64_t end, struct error *err);

/* Reads what was collected. It is in the block then, if not sent. */
int page_sender_flush(struct page_sender *s, struct error *err);

/* A record without content, behind everything collected. */
int page_sender_record(struct page_sender *s, const struct pages *record, struct error *err);

struct page_sender_stats page_sender_stats(const struct page_sender *s);

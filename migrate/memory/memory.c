#include <fcntl.h>
#include <string.h>
#include <sys/uio.h>

#include "engine/base/clock.h"
#include "engine/base/fault.h"
#include "migrate/memory/memory.h"
#include "migrate/memory/page_lanes.h"
#include "migrate/memory/shared_sender.h"
#include "migrate/memory/store.h"
#include "proto/checksum.h"
#include "proto/pages.h"

/* What verifying reads at a time. */
#define HASH_PAGES 64u

struct space {
	pid_t ns_pid;
	uint64_t generation;
};

/* What is populated at the freeze: so many ranges of one process, then of the next. */
struct populated {
	struct tracker_process process;
	size_t n;
};

struct memory {
	struct channel *channel;
	struct tracker *tracker;
	struct page_lanes *lanes;
	struct shared *shared;
	struct shared_sender shared_sender;
	uint64_t rounds;
	uint64_t last_scan_us;		/* when the last round began */
	uint64_t visit_us, walk_us;	/* of a scan: sending pages, and all else */
	/* of the round under way; before: what the counters were when it began */
	struct policy_round round;
	struct channel_stats before;
	uint64_t sent_before;
	struct carried *carried;
	uint8_t pages[HASH_PAGES * PAGES_SIZE];	/* as read, for hashing */
	struct space *spaces;		/* whose generation the target knows */
	size_t n_spaces;
	struct populated *populated;
	struct tracker_range *ranges;
	size_t n_populated, n_ranges, ranges_size;
	struct checksum *hash;		/* of hashed_pid's memory */
	pid_t hashed_pid;
};

int memory_open(const struct cgroup *cg, enum tracker_kind kind, pid_t init, bool files,
		struct channel *const *channels, size_t n_channels, struct memory **ret, struct error *err)
{
	CLEANUP(memory_freep) struct memory *m = calloc(1, sizeof(*m));

	if (!m)
		return error_set(err, ENOMEM, "out of memory");
	m->channel = m->shared_sender.channel = channels[0];
	if (page_lanes_new(channels, n_channels, &m->lanes, err) < 0 || checksum_new(&m->hash, err) < 0)
		return -err->code;
	if (tracker_open(cg, kind, &m->tracker, err) < 0 || shared_open(cg, init, files, &m->shared, err) < 0)
		return -err->code;
	*ret = TAKE_PTR(m);
	return 0;
}

void memory_free(struct memory *m)
{
	if (!m)
		return;
	tracker_free(m->tracker);
	shared_free(m->shared);
	checksum_free(m->hash);
	free(m->spaces);
	free(m->populated);
	free(m->ranges);
	page_lanes_free(m->lanes);
	free(m);
}

/* A process that has executed another program is another address space. */
static int note_generation(struct memory *m, const struct tracker_process *p, struct error *err)
{
	struct space *more;

	for (size_t i = 0; i < m->n_spaces; i++) {
		if (m->spaces[i].ns_pid != p->ns_pid)
			continue;
		if (m->spaces[i].generation == p->generation)
			return 0;
		m->spaces[i].generation = p->generation;
		return page_lanes_drop(m->lanes, p, err);
	}
	more = reallocarray(m->spaces, m->n_spaces + 1, sizeof(*more));
	if (!more)
		return error_set(err, ENOMEM, "out of memory");
	m->spaces = more;
	more[m->n_spaces++] = (struct space){ p->ns_pid, p->generation };
	return 0;
}

static int send_ranges(struct memory *m, const struct tracker_process *p,
		       const struct tracker_range *ranges, size_t n, struct error *err)
{
	if (note_generation(m, p, err) < 0)
		return -err->code;
	for (size_t i = 0; i < n; i++) {
		m->round.bytes += ranges[i].end - ranges[i].start;
		if (page_lanes_range(m->lanes, p, ranges[i].start, ranges[i].end, err) < 0)
			return -err->code;
	}
	return 0;
}

static int visit_written(void *ctx, const struct tracker_process *p,
			 const struct tracker_range *ranges, size_t n, struct error *err)
{
	uint64_t t0 = clock_us();
	struct memory *m = ctx;
	int r = send_ranges(m, p, ranges, n, err);

	m->visit_us += clock_us() - t0;
	return r;
}

static uint64_t pages_sent(const struct memory *m)
{
	return page_lanes_stats(m->lanes).sent + m->shared_sender.sent;
}

static int begin_round(struct memory *m, struct error *err)
{
	uint64_t now = clock_us();
	char label[32];

	m->round = (struct policy_round){ .since_us = m->last_scan_us ? now - m->last_scan_us : 0 };
	m->last_scan_us = now;
	m->visit_us = 0;
	m->before = page_lanes_channel_stats(m->lanes);
	m->sent_before = pages_sent(m);
	(void)snprintf(label, sizeof(label), "round %llu", (unsigned long long)++m->rounds);
	return page_lanes_begin(m->lanes, label, err);
}

/* The walk that has begun at t0 is over. */
static void note_walk(struct memory *m, uint64_t t0)
{
	m->round.scan_us = m->walk_us = clock_us() - t0 - m->visit_us;
}

static int end_round(struct memory *m, struct policy_round *ret, struct error *err)
{
	struct channel_stats now;

	if (page_lanes_end(m->lanes, err) < 0)
		return -err->code;
	now = page_lanes_channel_stats(m->lanes);
	m->round.sent_bytes = (pages_sent(m) - m->sent_before) * PAGES_SIZE;
	m->round.wire_bytes = now.wire_bytes - m->before.wire_bytes;
	m->round.compress_us = now.compress_us - m->before.compress_us;
	m->round.send_us = clock_us() - m->last_scan_us - m->walk_us;
	m->round.idle_us += (now.rate_us - m->before.rate_us) / page_lanes_count(m->lanes);
	*ret = m->round;
	return 0;
}

/* Reading is not sending, and at the freeze it takes another time. */
static int round_of_shared(struct memory *m, struct error *err)
{
	const struct shared_sender before = m->shared_sender;
	uint64_t us;

	if (page_lanes_settle(m->lanes, err) < 0 ||
	    shared_sender_round(&m->shared_sender, m->shared, &us, err) < 0)
		return -err->code;
	m->round.bytes += (m->shared_sender.sent - before.sent + m->shared_sender.zero - before.zero) * PAGES_SIZE;
	m->round.idle_us += us;
	m->round.scan_us += shared_expected_us(m->shared);
	return 0;
}

int memory_round(struct memory *m, struct policy_round *ret, struct error *err)
{
	uint64_t t0;

	if (begin_round(m, err) < 0)
		return -err->code;
	t0 = clock_us();
	if (tracker_round(m->tracker, visit_written, m, err) < 0)
		return -err->code;
	note_walk(m, t0);
	return round_of_shared(m, err) < 0 ? -err->code : end_round(m, ret, err);
}

static int visit_carried(void *ctx, const struct tracker_process *p,
			 const struct tracker_range *ranges, size_t n, struct error *err)
{
	struct memory *m = ctx;

	for (size_t i = 0; i < n; i++)
		if (carried_add(m->carried, p->pid, ranges[i].start, ranges[i].end, err) < 0)
			return -err->code;
	return 0;
}

static int send_hash(struct memory *m, struct error *err)
{
	const struct pages rec = { .kind = PAGES_HASH, .pid = (uint32_t)m->hashed_pid, .n = 1,
				   .address = checksum_value(m->hash) + fault_value("memory-hash", 0) };

	return page_lanes_record(m->lanes, &rec, err);
}

static bool read_memory(struct memory *m, pid_t pid, uint64_t address, size_t len)
{
	const struct iovec local = { m->pages, len }, remote = { (void *)(uintptr_t)address, len };
	char path[32];
	ssize_t n;
	int fd;

	if (process_vm_readv(pid, &local, 1, &remote, 1, 0) == (ssize_t)len)
		return true;
	(void)snprintf(path, sizeof(path), "/proc/%d/mem", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = pread(fd, m->pages, len, (off_t)address);
	fd_close(&fd);
	return n == (ssize_t)len;
}

/* Ranges of one process come together. */
static int hash_range(struct memory *m, const struct tracker_process *p,
		      const struct tracker_range *range, struct error *err)
{
	for (uint64_t at = range->start; at < range->end;) {
		size_t left = (range->end - at) / PAGES_SIZE, n = left < HASH_PAGES ? left : HASH_PAGES;

		if (!read_memory(m, p->pid, at, n * PAGES_SIZE))
			return error_set(err, EFAULT, "memory of process %d can't be read at 0x%llx", (int)p->ns_pid,
					 (unsigned long long)at);
		for (size_t i = 0; i < n; i++)
			store_hash_page(m->hash, at + i * PAGES_SIZE, m->pages + i * PAGES_SIZE);
		at += n * PAGES_SIZE;
	}
	return 0;
}

static int send_hashes(struct memory *m, struct error *err)
{
	const struct tracker_range *range = m->ranges;

	for (size_t i = 0; i < m->n_populated; i++) {
		const struct populated *p = &m->populated[i];

		checksum_reset(m->hash);
		m->hashed_pid = p->process.ns_pid;
		for (size_t k = 0; k < p->n; k++)
			if (hash_range(m, &p->process, range++, err) < 0)
				return -err->code;
		if (send_hash(m, err) < 0)
			return -err->code;
	}
	return 0;
}

static int note_process(struct memory *m, const struct tracker_process *p, struct error *err)
{
	struct populated *more;

	if (m->n_populated && m->populated[m->n_populated - 1].process.ns_pid == p->ns_pid)
		return 0;
	more = reallocarray(m->populated, m->n_populated + 1, sizeof(*more));
	if (!more)
		return error_set(err, ENOMEM, "out of memory");
	m->populated = more;
	more[m->n_populated++] = (struct populated){ .process = *p };
	return 0;
}

/* Told when all pages have gone: they may be on other connections. */
static int visit_populated(void *ctx, const struct tracker_process *p,
			   const struct tracker_range *ranges, size_t n, struct error *err)
{
	struct memory *m = ctx;

	if (note_process(m, p, err) < 0)
		return -err->code;
	if (m->ranges_size < m->n_ranges + n) {
		size_t size = m->ranges_size + m->ranges_size / 2 + n;
		struct tracker_range *more = reallocarray(m->ranges, size, sizeof(*more));

		if (!more)
			return error_set(err, ENOMEM, "out of memory for %zu ranges", size);
		m->ranges = more;
		m->ranges_size = size;
	}
	memcpy(m->ranges + m->n_ranges, ranges, n * sizeof(*ranges));
	m->n_ranges += n;
	m->populated[m->n_populated - 1].n += n;
	return 0;
}

static int send_populated(struct memory *m, struct error *err)
{
	const struct tracker_range *range = m->ranges;

	for (size_t i = 0; i < m->n_populated; i++) {
		const struct populated *p = &m->populated[i];

		for (size_t k = 0; k < p->n; k++, range++) {
			const struct pages rec = { .kind = PAGES_POPULATED, .pid = (uint32_t)p->process.ns_pid,
						   .address = range->start,
						   .n = (range->end - range->start) / PAGES_SIZE };

			if (page_lanes_record(m->lanes, &rec, err) < 0)
				return -err->code;
		}
	}
	return 0;
}

int memory_last_round(struct memory *m, struct carried *carried, bool verify, struct timeline *line,
		      struct policy_round *ret, struct error *err)
{
	const struct tracker_final visitors = { visit_written, visit_populated, visit_carried };
	uint64_t t0;

	m->carried = carried;
	if (shared_compare(m->shared, carried, err) < 0 || begin_round(m, err) < 0)
		return -err->code;
	t0 = clock_us();
	if (tracker_final(m->tracker, &visitors, m, err) < 0)
		return -err->code;
	note_walk(m, t0);
	timeline_step(line, "page-walk");
	if (page_lanes_settle(m->lanes, err) < 0)
		return -err->code;
	timeline_step(line, "last-pages");
	if (send_populated(m, err) < 0 || (verify && send_hashes(m, err) < 0) || end_round(m, ret, err) < 0)
		return -err->code;
	timeline_step(line, "page-map");
	return 0;
}

int memory_last_shared(struct memory *m, bool verify, struct policy_round *ret, struct error *err)
{
	const struct shared_sender before = m->shared_sender;
	uint64_t t0 = clock_us(), sent, zero;

	if (channel_tree_begin(m->channel, MESSAGE_TREE_MEMORY, "shared", err) < 0 ||
	    shared_sender_last(&m->shared_sender, m->shared, verify, err) < 0 ||
	    channel_tree_end(m->channel, pages_sent(m), err) < 0)
		return -err->code;
	sent = m->shared_sender.sent - before.sent;
	zero = m->shared_sender.zero - before.zero;
	ret->bytes += (sent + zero) * PAGES_SIZE;
	ret->sent_bytes += sent * PAGES_SIZE;
	ret->send_us += clock_us() - t0;
	return 0;
}

bool memory_has_sent(const struct memory *m, const char *path, int fd)
{
	return shared_has_sent(m->shared, path, fd);
}

struct memory_stats memory_stats(const struct memory *m)
{
	struct page_sender_stats s = page_lanes_stats(m->lanes);

	return (struct memory_stats){ .rounds = m->rounds, .pages_sent = pages_sent(m),
				      .pages_zero = s.zero + m->shared_sender.zero,
				      .pages_unchanged = s.unchanged };
}

const char *memory_tracker_name(const struct memory *m)
{
	return tracker_kind_name(tracker_kind(m->tracker));
}

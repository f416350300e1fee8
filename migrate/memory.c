#include <fcntl.h>
#include <string.h>
#include <sys/uio.h>

#include "engine/base/clock.h"
#include "engine/base/fault.h"
#include "migrate/memory.h"
#include "migrate/store.h"
#include "proto/checksum.h"
#include "proto/pages.h"

/* 2^20 hashes of 16 bytes: enough for 4 GiB without a collision. */
#define SEEN_SLOTS (1u << 20)
#define RUN_PAGES_MAX ((WIRE_DATA_MAX_BYTES - PAGES_HEAD_BYTES) / PAGES_SIZE)

struct seen {
	uint64_t key;			/* of process, generation and address; 0: empty */
	uint64_t hash;
};

struct space {
	pid_t ns_pid;
	uint64_t generation;
};

struct memory {
	struct channel *channel;
	struct tracker *tracker;
	struct seen *seen;
	struct memory_stats stats;
	uint64_t last_scan_us, rate_us;	/* when the last round began, and its channel's then */
	/* of the round under way */
	struct policy_round round;
	struct carried *carried;
	uint8_t *pages;			/* RUN_PAGES_MAX pages, as read */
	struct space *spaces;		/* whose generation the target knows */
	size_t n_spaces;
	struct checksum *hash;		/* of hashed_pid's memory */
	pid_t hashed_pid;
};

int memory_open(const struct cgroup *cg, struct channel *ch, struct memory **ret, struct error *err)
{
	CLEANUP(memory_freep) struct memory *m = calloc(1, sizeof(*m));

	if (!m)
		return error_set(err, ENOMEM, "out of memory");
	m->channel = ch;
	m->seen = calloc(SEEN_SLOTS, sizeof(*m->seen));
	m->pages = malloc((size_t)RUN_PAGES_MAX * PAGES_SIZE);
	if (!m->seen || !m->pages)
		return error_set(err, ENOMEM, "out of memory");
	if (checksum_new(&m->hash, err) < 0)
		return -err->code;
	if (tracker_open(cg, TRACKER_ANY, &m->tracker, err) < 0)
		return -err->code;
	*ret = TAKE_PTR(m);
	return 0;
}

void memory_free(struct memory *m)
{
	if (!m)
		return;
	tracker_free(m->tracker);
	checksum_free(m->hash);
	free(m->spaces);
	free(m->seen);
	free(m->pages);
	free(m);
}

static int send_record(struct memory *m, const struct pages *p, const void *data, struct error *err)
{
	uint8_t head[PAGES_HEAD_BYTES];
	size_t len = data ? p->n * PAGES_SIZE : 0;

	pages_encode_head(p, head);
	if (channel_room(m->channel) < sizeof(head) + len && channel_send_data(m->channel, NULL, 0, err) < 0)
		return -err->code;
	if (channel_send_data(m->channel, head, sizeof(head), err) < 0)
		return -err->code;
	return len ? channel_send_data(m->channel, data, len, err) : 0;
}

static bool is_zero(const uint8_t *page)
{
	return page[0] == 0 && !memcmp(page, page + 1, PAGES_SIZE - 1);
}

/* True when the page is as it was sent before; remembers it. */
static bool is_unchanged(struct memory *m, const struct tracker_process *p, uint64_t address,
			 const uint8_t *page)
{
	uint64_t parts[3] = { (uint64_t)p->ns_pid, p->generation, address };
	uint64_t key = checksum_of(1, parts, sizeof(parts)) | 1;
	uint64_t hash = checksum_of(key, page, PAGES_SIZE);
	struct seen *s = &m->seen[(key >> 1) % SEEN_SLOTS];
	bool same = s->key == key && s->hash == hash;

	s->key = key;
	s->hash = hash;
	return same;
}

enum fate { FATE_SEND, FATE_ZERO, FATE_SKIP };

static enum fate judge(struct memory *m, const struct tracker_process *p, uint64_t address,
		       const uint8_t *page)
{
	if (is_unchanged(m, p, address, page)) {
		m->stats.pages_unchanged++;
		return FATE_SKIP;
	}
	if (is_zero(page)) {
		m->stats.pages_zero++;
		return FATE_ZERO;
	}
	m->stats.pages_sent++;
	return FATE_SEND;
}

/* n pages that were read from address: a run of the same fate is one record. */
static int send_pages(struct memory *m, const struct tracker_process *p, uint64_t address,
		      const uint8_t *data, size_t n, struct error *err)
{
	enum fate fates[RUN_PAGES_MAX];

	for (size_t i = 0; i < n; i++)
		fates[i] = judge(m, p, address + i * PAGES_SIZE, data + i * PAGES_SIZE);
	for (size_t i = 0, run; i < n; i += run) {
		struct pages rec = { .kind = fates[i] == FATE_ZERO ? PAGES_ZERO : PAGES_DATA,
				     .pid = (uint32_t)p->ns_pid, .address = address + i * PAGES_SIZE };

		for (run = 1; i + run < n && fates[i + run] == fates[i];)
			run++;
		rec.n = run;
		if (fates[i] == FATE_SKIP)
			continue;
		m->round.sent_bytes += fates[i] == FATE_SEND ? run * PAGES_SIZE : 0;
		if (send_record(m, &rec, fates[i] == FATE_SEND ? data + i * PAGES_SIZE : NULL, err) < 0)
			return -err->code;
	}
	return 0;
}

/* A piece of the process's memory at most RUN_PAGES_MAX pages long, read with
 * others in one call. */
struct piece {
	uint64_t address;
	size_t n;
};

struct batch {
	struct piece pieces[RUN_PAGES_MAX];
	size_t n_pieces, n_pages;
};

static ssize_t read_pieces(struct memory *m, pid_t pid, const struct piece *pieces, size_t n)
{
	struct iovec remote[RUN_PAGES_MAX], local = { .iov_base = m->pages };

	for (size_t i = 0; i < n; i++) {
		remote[i] = (struct iovec){ .iov_base = (void *)(uintptr_t)pieces[i].address,
					    .iov_len = pieces[i].n * PAGES_SIZE };
		local.iov_len += remote[i].iov_len;
	}
	return process_vm_readv(pid, &local, 1, remote, n, 0);
}

static int open_memory(pid_t pid)
{
	char path[32];

	(void)snprintf(path, sizeof(path), "/proc/%d/mem", (int)pid);
	return open(path, O_RDONLY | O_CLOEXEC);
}

static int read_protected(struct memory *m, pid_t pid, const struct piece *piece)
{
	CLEANUP(fd_closep) int mem = open_memory(pid);
	size_t len = piece->n * PAGES_SIZE;

	return mem >= 0 && pread(mem, m->pages, len, (off_t)piece->address) == (ssize_t)len ? 0 : -EFAULT;
}

/* Something of the batch can't be read as it is: unmapped or protected since the
 * scan, or the process has ended. Page by page through /proc/PID/mem, which
 * ignores protection; what is unmapped is needed no more. */
static int send_readable(struct memory *m, const struct tracker_process *p, const struct batch *b,
			 struct error *err)
{
	CLEANUP(fd_closep) int mem = open_memory(p->pid);

	for (size_t i = 0; mem >= 0 && i < b->n_pieces; i++)
		for (size_t k = 0; k < b->pieces[i].n; k++) {
			uint64_t address = b->pieces[i].address + k * PAGES_SIZE;

			if (pread(mem, m->pages, PAGES_SIZE, (off_t)address) != PAGES_SIZE)
				continue;
			if (send_pages(m, p, address, m->pages, 1, err) < 0)
				return -err->code;
		}
	return 0;
}

static int send_batch(struct memory *m, const struct tracker_process *p, struct batch *b,
		      struct error *err)
{
	const uint8_t *data = m->pages;
	int r = 0;

	if (b->n_pieces == 0)
		return 0;
	if (read_pieces(m, p->pid, b->pieces, b->n_pieces) != (ssize_t)(b->n_pages * PAGES_SIZE))
		r = send_readable(m, p, b, err);
	else
		for (size_t i = 0; r == 0 && i < b->n_pieces; data += b->pieces[i++].n * PAGES_SIZE)
			r = send_pages(m, p, b->pieces[i].address, data, b->pieces[i].n, err);
	b->n_pieces = b->n_pages = 0;
	return r;
}

/* A process that has executed another program is another address space. */
static int note_generation(struct memory *m, const struct tracker_process *p, struct error *err)
{
	const struct pages drop = { .kind = PAGES_DROP, .pid = (uint32_t)p->ns_pid };
	struct space *more;

	for (size_t i = 0; i < m->n_spaces; i++) {
		if (m->spaces[i].ns_pid != p->ns_pid)
			continue;
		if (m->spaces[i].generation == p->generation)
			return 0;
		m->spaces[i].generation = p->generation;
		return send_record(m, &drop, NULL, err);
	}
	more = reallocarray(m->spaces, m->n_spaces + 1, sizeof(*more));
	if (!more)
		return error_set(err, ENOMEM, "out of memory");
	m->spaces = more;
	more[m->n_spaces++] = (struct space){ p->ns_pid, p->generation };
	return 0;
}

static int visit_written(void *ctx, const struct tracker_process *p,
			 const struct tracker_range *ranges, size_t n, struct error *err)
{
	struct memory *m = ctx;
	struct batch b = { .n_pieces = 0 };

	if (note_generation(m, p, err) < 0)
		return -err->code;
	for (size_t i = 0; i < n; i++)
		for (uint64_t at = ranges[i].start; at < ranges[i].end;) {
			size_t left = (ranges[i].end - at) / PAGES_SIZE, room = RUN_PAGES_MAX - b.n_pages;
			size_t take = left < room ? left : room;

			b.pieces[b.n_pieces++] = (struct piece){ at, take };
			b.n_pages += take;
			m->round.bytes += take * PAGES_SIZE;
			at += take * PAGES_SIZE;
			if (b.n_pages == RUN_PAGES_MAX && send_batch(m, p, &b, err) < 0)
				return -err->code;
		}
	return send_batch(m, p, &b, err);
}

static int begin_round(struct memory *m, struct error *err)
{
	uint64_t now = clock_us();
	char label[32];

	m->round = (struct policy_round){ .since_us = m->last_scan_us ? now - m->last_scan_us : 0 };
	m->last_scan_us = now;
	m->rate_us = channel_stats(m->channel).rate_us;
	(void)snprintf(label, sizeof(label), "round %llu", (unsigned long long)++m->stats.rounds);
	return channel_tree_begin(m->channel, MESSAGE_TREE_MEMORY, label, err);
}

static int end_round(struct memory *m, struct policy_round *ret, struct error *err)
{
	if (channel_tree_end(m->channel, m->stats.pages_sent, err) < 0)
		return -err->code;
	m->round.send_us = clock_us() - m->last_scan_us;
	m->round.idle_us = channel_stats(m->channel).rate_us - m->rate_us;
	*ret = m->round;
	return 0;
}

int memory_round(struct memory *m, struct policy_round *ret, struct error *err)
{
	if (begin_round(m, err) < 0 || tracker_round(m->tracker, visit_written, m, err) < 0)
		return -err->code;
	return end_round(m, ret, err);
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

	if (!m->hashed_pid)
		return 0;
	m->hashed_pid = 0;
	return send_record(m, &rec, NULL, err);
}

/* Ranges of one process come together. */
static int hash_range(struct memory *m, const struct tracker_process *p,
		      const struct tracker_range *range, struct error *err)
{
	for (uint64_t at = range->start; at < range->end;) {
		size_t left = (range->end - at) / PAGES_SIZE;
		struct piece piece = { at, left < RUN_PAGES_MAX ? left : RUN_PAGES_MAX };

		if (read_pieces(m, p->pid, &piece, 1) != (ssize_t)(piece.n * PAGES_SIZE) &&
		    read_protected(m, p->pid, &piece) < 0)
			return error_set(err, EFAULT, "memory of process %d can't be read at 0x%llx", (int)p->ns_pid,
					 (unsigned long long)at);
		for (size_t i = 0; i < piece.n; i++)
			store_hash_page(m->hash, at + i * PAGES_SIZE, m->pages + i * PAGES_SIZE);
		at += piece.n * PAGES_SIZE;
	}
	return 0;
}

static int visit_hash(void *ctx, const struct tracker_process *p,
		      const struct tracker_range *ranges, size_t n, struct error *err)
{
	struct memory *m = ctx;

	if (m->hashed_pid != p->ns_pid) {
		if (send_hash(m, err) < 0)
			return -err->code;
		checksum_reset(m->hash);
		m->hashed_pid = p->ns_pid;
	}
	for (size_t i = 0; i < n; i++)
		if (hash_range(m, p, &ranges[i], err) < 0)
			return -err->code;
	return 0;
}

static int send_hashes(struct memory *m, struct error *err)
{
	if (tracker_final_map(m->tracker, visit_hash, m, err) < 0)
		return -err->code;
	return send_hash(m, err);
}

static int visit_populated(void *ctx, const struct tracker_process *p,
			   const struct tracker_range *ranges, size_t n, struct error *err)
{
	struct memory *m = ctx;

	for (size_t i = 0; i < n; i++) {
		const struct pages rec = { .kind = PAGES_POPULATED, .pid = (uint32_t)p->ns_pid,
					   .address = ranges[i].start,
					   .n = (ranges[i].end - ranges[i].start) / PAGES_SIZE };

		if (send_record(m, &rec, NULL, err) < 0)
			return -err->code;
	}
	return 0;
}

int memory_last_round(struct memory *m, struct carried *carried, bool verify,
		      struct policy_round *ret, struct error *err)
{
	m->carried = carried;
	if (begin_round(m, err) < 0 || tracker_round(m->tracker, visit_written, m, err) < 0 ||
	    tracker_final_carried(m->tracker, visit_carried, m, err) < 0 ||
	    tracker_final_map(m->tracker, visit_populated, m, err) < 0 ||
	    (verify && send_hashes(m, err) < 0))
		return -err->code;
	return end_round(m, ret, err);
}

struct memory_stats memory_stats(const struct memory *m)
{
	return m->stats;
}

const char *memory_tracker_name(const struct memory *m)
{
	return tracker_kind_name(tracker_kind(m->tracker));
}

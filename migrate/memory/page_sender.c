#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>

#include "migrate/memory/page_sender.h"
#include "migrate/memory/sent_pages.h"
#include "proto/checksum.h"

#define BATCH_PAGES ((WIRE_DATA_MAX_BYTES - PAGES_HEAD_BYTES) / PAGES_SIZE)
#define SCRAPS_PAGES 8u			/* of room that no batch is read for */

/* A piece of the process's memory, read with others in one call, each behind the
 * place for its record's head. */
struct piece {
	uint64_t address;
	size_t n;
};

struct page_sender {
	struct channel *channel;
	struct sent_pages *sent;
	struct page_sender_stats stats;
	/* what is collected, all of one process */
	struct tracker_process process;
	struct piece pieces[BATCH_PAGES];
	size_t n_pieces, bytes;		/* bytes: with their heads */
	/* while it is judged: where the next record goes */
	uint8_t *out;
};

int page_sender_new(struct channel *ch, unsigned senders, struct page_sender **ret, struct error *err)
{
	CLEANUP(page_sender_freep) struct page_sender *s = calloc(1, sizeof(*s));

	if (!s)
		return error_set(err, ENOMEM, "out of memory");
	s->channel = ch;
	if (sent_pages_new(senders, &s->sent, err) < 0)
		return -err->code;
	*ret = TAKE_PTR(s);
	return 0;
}

void page_sender_free(struct page_sender *s)
{
	if (!s)
		return;
	sent_pages_free(s->sent);
	free(s);
}

static bool is_zero(const uint8_t *page)
{
	return page[0] == 0 && !memcmp(page, page + 1, PAGES_SIZE - 1);
}

enum fate { FATE_SEND, FATE_ZERO, FATE_SKIP };

static enum fate judge(struct page_sender *s, uint64_t address, const uint8_t *page)
{
	bool zero = is_zero(page);
	uint64_t hash = zero ? 0 : checksum_of(0, page, PAGES_SIZE);

	if (sent_pages_same(s->sent, s->process.generation, address, hash)) {
		s->stats.unchanged++;
		return FATE_SKIP;
	}
	if (zero)
		s->stats.zero++;
	else
		s->stats.sent++;
	return zero ? FATE_ZERO : FATE_SEND;
}

/* A record of n pages, whose content is behind s->out somewhere. */
static void write_record(struct page_sender *s, enum fate fate, uint64_t address, const uint8_t *from,
			 size_t n)
{
	const struct pages rec = { .kind = fate == FATE_ZERO ? PAGES_ZERO : PAGES_DATA,
				   .pid = (uint32_t)s->process.ns_pid, .address = address, .n = n };

	if (fate == FATE_SKIP)
		return;
	pages_encode_head(&rec, s->out);
	s->out += PAGES_HEAD_BYTES;
	if (fate == FATE_ZERO)
		return;
	if (s->out != from)
		memmove(s->out, from, n * PAGES_SIZE);
	s->out += n * PAGES_SIZE;
}

/* A run of pages of the same fate is one record. Each further run of a piece has
 * a page before it that goes away, so heads never reach what is still to be moved. */
static void write_piece(struct page_sender *s, const struct piece *piece, const uint8_t *from)
{
	enum fate fates[BATCH_PAGES];

	for (size_t i = 0; i < piece->n; i++)
		fates[i] = judge(s, piece->address + i * PAGES_SIZE, from + i * PAGES_SIZE);
	for (size_t i = 0, run; i < piece->n; i += run) {
		for (run = 1; i + run < piece->n && fates[i + run] == fates[i];)
			run++;
		write_record(s, fates[i], piece->address + i * PAGES_SIZE, from + i * PAGES_SIZE, run);
	}
}

static bool read_pieces(const struct page_sender *s, uint8_t *to)
{
	struct iovec remote[BATCH_PAGES], local[BATCH_PAGES];
	size_t sum = 0;

	for (size_t i = 0; i < s->n_pieces; i++) {
		size_t len = s->pieces[i].n * PAGES_SIZE;

		remote[i] = (struct iovec){ (void *)(uintptr_t)s->pieces[i].address, len };
		local[i] = (struct iovec){ to + PAGES_HEAD_BYTES, len };
		to += PAGES_HEAD_BYTES + len;
		sum += len;
	}
	return process_vm_readv(s->process.pid, local, s->n_pieces, remote, s->n_pieces, 0) == (ssize_t)sum;
}

/* Something of it can't be read as it is: unmapped or protected since the scan,
 * or the process has ended. Page by page through /proc/PID/mem, which ignores
 * protection; what is unmapped is needed no more. */
static void take_readable(struct page_sender *s)
{
	char path[32];
	int mem;

	(void)snprintf(path, sizeof(path), "/proc/%d/mem", (int)s->process.pid);
	mem = open(path, O_RDONLY | O_CLOEXEC);
	for (size_t i = 0; mem >= 0 && i < s->n_pieces; i++)
		for (size_t k = 0; k < s->pieces[i].n; k++) {
			const struct piece one = { s->pieces[i].address + k * PAGES_SIZE, 1 };
			uint8_t *page = s->out + PAGES_HEAD_BYTES;

			if (pread(mem, page, PAGES_SIZE, (off_t)one.address) == PAGES_SIZE)
				write_piece(s, &one, page);
		}
	fd_close(&mem);
}

static void take_pieces(struct page_sender *s)
{
	uint8_t *begin = channel_block(s->channel);
	const uint8_t *from = begin;

	s->out = begin;
	if (!read_pieces(s, begin)) {
		take_readable(s);
	} else {
		for (size_t i = 0; i < s->n_pieces; i++) {
			write_piece(s, &s->pieces[i], from + PAGES_HEAD_BYTES);
			from += PAGES_HEAD_BYTES + s->pieces[i].n * PAGES_SIZE;
		}
	}
	s->n_pieces = s->bytes = 0;
	channel_block_filled(s->channel, (size_t)(s->out - begin));
}

int page_sender_flush(struct page_sender *s, struct error *err)
{
	if (s->n_pieces)
		take_pieces(s);
	if (channel_room(s->channel) < PAGES_HEAD_BYTES + SCRAPS_PAGES * PAGES_SIZE)
		return channel_send_data(s->channel, NULL, 0, err);
	return 0;
}

int page_sender_range(struct page_sender *s, const struct tracker_process *p, uint64_t start,
		      uint64_t end, struct error *err)
{
	if (s->n_pieces && s->process.generation != p->generation && page_sender_flush(s, err) < 0)
		return -err->code;
	s->process = *p;
	while (start < end) {
		size_t room = channel_room(s->channel) - s->bytes, n = (end - start) / PAGES_SIZE;

		if (room < PAGES_HEAD_BYTES + PAGES_SIZE) {
			if (page_sender_flush(s, err) < 0)
				return -err->code;
			continue;
		}
		if (n > (room - PAGES_HEAD_BYTES) / PAGES_SIZE)
			n = (room - PAGES_HEAD_BYTES) / PAGES_SIZE;
		s->pieces[s->n_pieces++] = (struct piece){ start, n };
		s->bytes += PAGES_HEAD_BYTES + n * PAGES_SIZE;
		start += n * PAGES_SIZE;
	}
	return 0;
}

int page_sender_record(struct page_sender *s, const struct pages *record, struct error *err)
{
	uint8_t head[PAGES_HEAD_BYTES];

	pages_encode_head(record, head);
	if (page_sender_flush(s, err) < 0 ||
	    (channel_room(s->channel) < sizeof(head) && channel_send_data(s->channel, NULL, 0, err) < 0))
		return -err->code;
	return channel_send_data(s->channel, head, sizeof(head), err);
}

struct page_sender_stats page_sender_stats(const struct page_sender *s)
{
	return s->stats;
}

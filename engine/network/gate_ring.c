#include <linux/bpf.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include "engine/network/gate_ring.h"

struct header {
	uint32_t len;	/* with the two bits */
	uint32_t page_offset;
};

struct gate_ring {
	size_t bytes;
	size_t page;
	unsigned long *taken;		/* position in bytes since the beginning */
	const unsigned long *written;
	const uint8_t *records;
};

static void *map(int fd, size_t len, int protection, size_t offset)
{
	void *p = mmap(NULL, len, protection, MAP_SHARED, fd, (off_t)offset);

	return p == MAP_FAILED ? NULL : p;
}

int gate_ring_open(int map_fd, size_t bytes, struct gate_ring **ret, struct error *err)
{
	CLEANUP(gate_ring_freep) struct gate_ring *ring = calloc(1, sizeof(*ring));
	const uint8_t *rest;

	if (!ring)
		return error_set(err, ENOMEM, "out of memory");
	ring->bytes = bytes;
	ring->page = (size_t)sysconf(_SC_PAGESIZE);
	ring->taken = map(map_fd, ring->page, PROT_READ | PROT_WRITE, 0);
	if (!ring->taken)
		return error_set(err, errno, "map a BPF ring buffer: %s", strerror(errno));
	rest = map(map_fd, ring->page + 2 * bytes, PROT_READ, ring->page);
	if (!rest)
		return error_set(err, errno, "map a BPF ring buffer: %s", strerror(errno));
	ring->written = (const unsigned long *)(const void *)rest;
	ring->records = rest + ring->page;
	*ret = TAKE_PTR(ring);
	return 0;
}

void gate_ring_free(struct gate_ring *ring)
{
	if (!ring)
		return;
	if (ring->taken)
		(void)munmap(ring->taken, ring->page);
	if (ring->written)
		(void)munmap((void *)(uintptr_t)ring->written, ring->page + 2 * ring->bytes);
	free(ring);
}

int gate_ring_take(struct gate_ring *ring, gate_ring_visit *visit, void *data)
{
	unsigned long at = *ring->taken;
	int r = 0;

	while (r == 0 && at < __atomic_load_n(ring->written, __ATOMIC_ACQUIRE)) {
		const struct header *h = (const void *)(ring->records + (at & (ring->bytes - 1)));
		uint32_t len = __atomic_load_n(&h->len, __ATOMIC_ACQUIRE);
		size_t size = len & ~(BPF_RINGBUF_BUSY_BIT | BPF_RINGBUF_DISCARD_BIT);

		if (len & BPF_RINGBUF_BUSY_BIT)
			return 1;
		if (!(len & BPF_RINGBUF_DISCARD_BIT))
			r = visit(h + 1, size, data);
		if (r > 0)
			break;
		at += (sizeof(*h) + size + 7) & ~7UL;
		__atomic_store_n(ring->taken, at, __ATOMIC_RELEASE);
	}
	return r;
}

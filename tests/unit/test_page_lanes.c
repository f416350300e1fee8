/*
 * A process of our own is sent over several connections and put together again.
 * The other ends are threads, so that a thread sanitizer sees all of it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "migrate/channel/channel_state.h"
#include "migrate/memory/memory_receive.h"
#include "migrate/memory/page_lanes.h"

#define PAGE 4096ull
#define N_PAGES 5000u
#define LANES_MAX 4u

struct end {
	struct channel *channel;
	struct memory_receiver to;
	uint64_t trees, hang_up_after;	/* trees; 0: never */
	int result;
	struct error err;
	pthread_t thread;
};

struct bench {
	unsigned n;
	struct channel *channels[LANES_MAX];
	struct end ends[LANES_MAX];
	struct store *store;
	struct page_lanes *lanes;
	uint8_t *memory;
	struct tracker_process process;
};

static void *receive(void *ctx)
{
	struct end *e = ctx;
	struct message m = { 0 };

	while (e->result == 0 && (!e->hang_up_after || e->trees < e->hang_up_after)) {
		e->result = channel_receive(e->channel, WIRE_TREE_BEGIN, &m, &e->err);
		if (e->result == 0) {
			message_free(&m);
			e->result = memory_receive(e->channel, &e->to, &e->err);
		}
		e->trees += e->result == 0;
	}
	(void)shutdown(channel_fd(e->channel), SHUT_RDWR);
	return NULL;
}

static void fill(uint8_t *page, uint64_t what)
{
	for (uint64_t i = 0; i < PAGE / sizeof(what); i++)
		((uint64_t *)(void *)page)[i] = (what + 1) * 0x9e3779b97f4a7c15u + i * 0xbf58476d1ce4e5b9u;
}

static void open_bench(struct bench *b, unsigned n, uint64_t hang_up_after)
{
	struct error err;
	int s[2];

	*b = (struct bench){ .n = n, .process = { getpid(), 77, 1 } };
	b->memory = mmap(NULL, N_PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(b->memory != MAP_FAILED);
	for (uint64_t i = 0; i < N_PAGES; i++)
		if (i % 5)		/* each fifth is zero */
			fill(b->memory + i * PAGE, i);
	assert_int_equal(store_new(4 * N_PAGES, &b->store, &err), 0);
	for (unsigned i = 0; i < n; i++) {
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s), 0);
		assert_int_equal(channel_new(s[0], WIRE_SOURCE, &b->channels[i], &err), 0);
		assert_int_equal(channel_new(s[1], WIRE_TARGET, &b->ends[i].channel, &err), 0);
		b->channels[i]->sequence.state = b->ends[i].channel->sequence.state =
			i ? SEQUENCE_JOINED : SEQUENCE_PREPARED;
		b->ends[i].to = (struct memory_receiver){ .store = b->store, .connection = i, .connections = n };
		b->ends[i].hang_up_after = i == n - 1 ? hang_up_after : 0;
		assert_int_equal(pthread_create(&b->ends[i].thread, NULL, receive, &b->ends[i]), 0);
	}
	assert_int_equal(page_lanes_new(b->channels, n, &b->lanes, &err), 0);
}

static void end_connections(struct bench *b)
{
	page_lanes_free(b->lanes);
	b->lanes = NULL;
	for (unsigned i = 0; i < b->n; i++) {
		channel_free(b->channels[i]);
		b->channels[i] = NULL;
		assert_int_equal(pthread_join(b->ends[i].thread, NULL), 0);
		channel_free(b->ends[i].channel);
	}
}

static void close_bench(struct bench *b)
{
	store_free(b->store);
	(void)munmap(b->memory, N_PAGES * PAGE);
}

static int send_round(struct bench *b, struct error *err)
{
	uint64_t start = (uintptr_t)b->memory;

	if (page_lanes_begin(b->lanes, "round", err) < 0 ||
	    page_lanes_range(b->lanes, &b->process, start, start + N_PAGES * PAGE, err) < 0)
		return -err->code;
	return page_lanes_end(b->lanes, err);
}

static int check_extent(void *ctx, uint32_t pid, uint64_t address, uint64_t n, uint64_t slot, struct error *err)
{
	static uint8_t room[PAGE];
	struct bench *b = ctx;
	const void *page;

	assert_int_equal(pid, 77);
	for (uint64_t i = 0; i < n; i++) {
		assert_int_equal(store_read(b->store, slot + i, 1, room, &page, err), 0);
		assert_memory_equal(page, b->memory + (address - (uintptr_t)b->memory) + i * PAGE, PAGE);
	}
	return 0;
}

/* All of the memory is in the store as it is now; zeros are there without a page. */
static void check_store(struct bench *b, uint64_t pages)
{
	uint64_t start = (uintptr_t)b->memory;
	struct error err;

	if (store_populated(b->store, 77, start, start + N_PAGES * PAGE, &err) < 0)
		fail_msg("%s", err.msg);
	assert_int_equal(store_seal(b->store, &err), 0);
	assert_int_equal(store_stats(b->store).pages, pages);
	assert_int_equal(store_walk(b->store, check_extent, b, &err), 0);
}

static void rounds_over(unsigned n)
{
	struct page_sender_stats stats;
	uint64_t filled_zeros = 0, rewritten = 0;
	struct error err;
	struct bench b;

	open_bench(&b, n, 0);
	assert_int_equal(send_round(&b, &err), 0);
	for (uint64_t i = 1; i < N_PAGES; i += 7) {
		fill(b.memory + i * PAGE, i + 1000000);
		filled_zeros += i % 5 == 0;
		rewritten++;
	}
	assert_int_equal(send_round(&b, &err), 0);
	stats = page_lanes_stats(b.lanes);
	assert_int_equal(stats.zero, N_PAGES / 5);
	assert_int_equal(stats.sent, N_PAGES / 5 * 4 + rewritten);
	assert_int_equal(stats.unchanged, N_PAGES - rewritten);
	end_connections(&b);
	for (unsigned i = 0; i < n; i++) {
		assert_int_equal(b.ends[i].trees, 2);
		assert_int_equal(b.ends[i].result, -ECONNRESET);	/* the end, in order */
	}
	check_store(&b, N_PAGES - N_PAGES / 5 + filled_zeros);
	close_bench(&b);
}

static void one_lane(void **state)
{
	(void)state;
	rounds_over(1);
}

static void several_lanes(void **state)
{
	(void)state;
	rounds_over(2);
	rounds_over(LANES_MAX);
}

/* Another program in the same process: nothing of the first is left, whichever
 * connection it came over. */
static void drop_voids_what_came_before(void **state)
{
	struct error err;
	struct bench b;
	uint64_t start;

	(void)state;
	open_bench(&b, 3, 0);
	start = (uintptr_t)b.memory;
	assert_int_equal(send_round(&b, &err), 0);
	b.process.generation++;
	assert_int_equal(page_lanes_begin(b.lanes, "round", &err), 0);
	assert_int_equal(page_lanes_drop(b.lanes, &b.process, &err), 0);
	assert_int_equal(page_lanes_range(b.lanes, &b.process, start + PAGE, start + 5 * PAGE, &err), 0);
	assert_int_equal(page_lanes_end(b.lanes, &err), 0);
	end_connections(&b);
	assert_int_equal(store_stats(b.store).pages, 4);
	assert_int_equal(store_populated(b.store, 77, start + 10 * PAGE, start + 11 * PAGE, &err), -EPROTO);
	close_bench(&b);
}

static void one_connection_that_fails_ends_all(void **state)
{
	uint64_t t0 = clock_us();
	struct error err;
	struct bench b;
	int r = 0;

	(void)state;
	open_bench(&b, 3, 1);
	for (int i = 0; i < 50 && r == 0; i++) {
		r = send_round(&b, &err);
		b.process.generation++;		/* all of it is new again */
	}
	assert_true(r == -EPIPE || r == -ECONNRESET || r == -ECANCELED);
	end_connections(&b);
	assert_true(clock_us() - t0 < 20000000);
	close_bench(&b);
}

static void a_rate_is_for_all_together(void **state)
{
	const uint64_t rate = 40u << 20;
	struct error err;
	struct bench b;
	uint64_t t0;

	(void)state;
	open_bench(&b, 3, 0);
	for (unsigned i = 0; i < b.n; i++) {
		channel_set_level(b.channels[i], BLOCK_LEVEL_STORE);
		if (i)
			channel_share_rate(b.channels[i], b.channels[0]);
	}
	channel_set_rate(b.channels[0], rate);
	t0 = clock_us();
	assert_int_equal(send_round(&b, &err), 0);
	assert_true(clock_us() - t0 >= N_PAGES / 5 * 4 * PAGE * 1000000 / rate * 9 / 10);
	end_connections(&b);
	close_bench(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_lane),
		cmocka_unit_test(several_lanes),
		cmocka_unit_test(drop_voids_what_came_before),
		cmocka_unit_test(one_connection_that_fails_ends_all),
		cmocka_unit_test(a_rate_is_for_all_together),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

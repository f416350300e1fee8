#include <pthread.h>
#include <string.h>

#include "migrate/memory/page_lanes.h"
#include "proto/pages.h"

/* Ranges of at most 2 MiB each that wait for a lane. */
#define QUEUE_RANGES 256u

/* Of a process; an empty one: all of it is void. */
struct range {
	struct tracker_process process;
	uint64_t start, end;
};

struct lane {
	/* set once */
	struct page_lanes *lanes;
	struct channel *channel;
	pthread_t thread;
	bool has_thread;
	/* the lane's own between page_lanes_range and page_lanes_settle, else the caller's */
	struct page_sender *sender;
	/* under the lanes' lock */
	struct range queue[QUEUE_RANGES];
	size_t first, n;
	bool busy;
};

struct page_lanes {
	size_t n;
	struct lane *lanes;
	pthread_mutex_t lock;
	pthread_cond_t work, progress;
	/* under lock */
	struct error error;		/* the first; code 0: none */
	bool ending;
};

/* ---- a lane ---- */

static int send_range(struct lane *lane, const struct range *r, struct error *err)
{
	const struct pages drop = { .kind = PAGES_DROP, .pid = (uint32_t)r->process.ns_pid };

	if (r->start == r->end)
		return page_sender_record(lane->sender, &drop, err);
	return page_sender_range(lane->sender, &r->process, r->start, r->end, err);
}

/* All that waits has been taken: what is collected is read now. */
static int send_next(struct lane *lane, const struct range *r, bool last, struct error *err)
{
	if (send_range(lane, r, err) < 0)
		return -err->code;
	return last ? page_sender_flush(lane->sender, err) : 0;
}

static void fail(struct page_lanes *l, const struct error *why)
{
	if (!l->error.code)
		l->error = *why;
	for (size_t i = 0; i < l->n; i++)
		channel_stop(l->lanes[i].channel);
	(void)pthread_cond_broadcast(&l->work);
	(void)pthread_cond_broadcast(&l->progress);
}

static void *lane_main(void *ctx)
{
	struct lane *lane = ctx;
	struct page_lanes *l = lane->lanes;
	struct error err;

	(void)pthread_mutex_lock(&l->lock);
	while (!l->ending && !l->error.code) {
		struct range r;
		int result;

		if (lane->n == 0) {
			(void)pthread_cond_wait(&l->work, &l->lock);
			continue;
		}
		r = lane->queue[lane->first];
		lane->first = (lane->first + 1) % QUEUE_RANGES;
		lane->busy = true;
		result = --lane->n == 0;
		(void)pthread_cond_broadcast(&l->progress);
		(void)pthread_mutex_unlock(&l->lock);
		result = send_next(lane, &r, result, &err);
		(void)pthread_mutex_lock(&l->lock);
		lane->busy = false;
		if (result < 0)
			fail(l, &err);
		(void)pthread_cond_broadcast(&l->progress);
	}
	(void)pthread_cond_broadcast(&l->progress);
	(void)pthread_mutex_unlock(&l->lock);
	return NULL;
}

static int lane_open(struct page_lanes *l, struct lane *lane, struct channel *channel, struct error *err)
{
	lane->lanes = l;
	lane->channel = channel;
	if (page_sender_new(channel, (unsigned)l->n, &lane->sender, err) < 0)
		return -err->code;
	if (l->n > 1 && pthread_create(&lane->thread, NULL, lane_main, lane) != 0)
		return error_set(err, EAGAIN, "no thread for a connection");
	lane->has_thread = l->n > 1;
	return 0;
}

/* ---- all of them ---- */

int page_lanes_new(struct channel *const *channels, size_t n, struct page_lanes **ret, struct error *err)
{
	CLEANUP(page_lanes_freep) struct page_lanes *l = calloc(1, sizeof(*l));

	if (!l)
		return error_set(err, ENOMEM, "out of memory");
	(void)pthread_mutex_init(&l->lock, NULL);
	(void)pthread_cond_init(&l->work, NULL);
	(void)pthread_cond_init(&l->progress, NULL);
	l->lanes = calloc(n, sizeof(*l->lanes));
	if (!l->lanes)
		return error_set(err, ENOMEM, "out of memory");
	l->n = n;
	for (size_t i = 0; i < n; i++)
		if (lane_open(l, &l->lanes[i], channels[i], err) < 0)
			return -err->code;
	*ret = TAKE_PTR(l);
	return 0;
}

static void end_threads(struct page_lanes *l)
{
	bool idle = true;

	(void)pthread_mutex_lock(&l->lock);
	l->ending = true;
	for (size_t i = 0; i < l->n; i++)
		idle &= !l->lanes[i].busy;
	for (size_t i = 0; i < l->n && !idle; i++)
		channel_stop(l->lanes[i].channel);
	(void)pthread_cond_broadcast(&l->work);
	(void)pthread_mutex_unlock(&l->lock);
	for (size_t i = 0; i < l->n; i++)
		if (l->lanes[i].has_thread)
			(void)pthread_join(l->lanes[i].thread, NULL);
}

void page_lanes_free(struct page_lanes *l)
{
	if (!l)
		return;
	if (l->lanes)
		end_threads(l);
	for (size_t i = 0; i < l->n; i++)
		page_sender_free(l->lanes[i].sender);
	(void)pthread_mutex_destroy(&l->lock);
	(void)pthread_cond_destroy(&l->work);
	(void)pthread_cond_destroy(&l->progress);
	free(l->lanes);
	free(l);
}

int page_lanes_begin(struct page_lanes *l, const char *label, struct error *err)
{
	for (size_t i = 0; i < l->n; i++)
		if (channel_tree_begin(l->lanes[i].channel, MESSAGE_TREE_MEMORY, label, err) < 0)
			return -err->code;
	return 0;
}

static int failed(const struct page_lanes *l, struct error *err)
{
	if (!l->error.code)
		return 0;
	*err = l->error;
	return -err->code;
}

static int push(struct page_lanes *l, size_t i, const struct range *r, struct error *err)
{
	struct lane *lane = &l->lanes[i];
	int result;

	(void)pthread_mutex_lock(&l->lock);
	while (lane->n == QUEUE_RANGES && !l->error.code)
		(void)pthread_cond_wait(&l->progress, &l->lock);
	result = failed(l, err);
	if (result == 0) {
		lane->queue[(lane->first + lane->n++) % QUEUE_RANGES] = *r;
		(void)pthread_cond_broadcast(&l->work);
	}
	(void)pthread_mutex_unlock(&l->lock);
	return result;
}

int page_lanes_range(struct page_lanes *l, const struct tracker_process *p, uint64_t start, uint64_t end,
		     struct error *err)
{
	if (l->n == 1)
		return page_sender_range(l->lanes->sender, p, start, end, err);
	while (start < end) {
		uint64_t next = (start / PAGES_PART_BYTES + 1) * PAGES_PART_BYTES;
		struct range r = { *p, start, next < end ? next : end };

		if (push(l, pages_connection((uint32_t)p->ns_pid, start, (unsigned)l->n), &r, err) < 0)
			return -err->code;
		start = r.end;
	}
	return 0;
}

int page_lanes_drop(struct page_lanes *l, const struct tracker_process *p, struct error *err)
{
	const struct range all = { .process = *p };

	if (l->n == 1)
		return send_range(l->lanes, &all, err);
	for (size_t i = 0; i < l->n; i++)
		if (push(l, i, &all, err) < 0)
			return -err->code;
	return 0;
}

static bool is_working(const struct page_lanes *l)
{
	for (size_t i = 0; i < l->n; i++)
		if (l->lanes[i].n || l->lanes[i].busy)
			return true;
	return false;
}

int page_lanes_settle(struct page_lanes *l, struct error *err)
{
	int r;

	if (l->n == 1)
		return page_sender_flush(l->lanes->sender, err);
	(void)pthread_mutex_lock(&l->lock);
	while (is_working(l) && !l->error.code)
		(void)pthread_cond_wait(&l->progress, &l->lock);
	r = failed(l, err);
	(void)pthread_mutex_unlock(&l->lock);
	return r;
}

int page_lanes_record(struct page_lanes *l, const struct pages *record, struct error *err)
{
	return page_sender_record(l->lanes->sender, record, err);
}

int page_lanes_end(struct page_lanes *l, struct error *err)
{
	if (page_lanes_settle(l, err) < 0)
		return -err->code;
	for (size_t i = 0; i < l->n; i++)
		if (channel_tree_end(l->lanes[i].channel, page_sender_stats(l->lanes[i].sender).sent, err) < 0)
			return -err->code;
	return 0;
}

struct page_sender_stats page_lanes_stats(const struct page_lanes *l)
{
	struct page_sender_stats sum = { 0 };

	for (size_t i = 0; i < l->n; i++) {
		struct page_sender_stats s = page_sender_stats(l->lanes[i].sender);

		sum.sent += s.sent;
		sum.zero += s.zero;
		sum.unchanged += s.unchanged;
	}
	return sum;
}

struct channel_stats page_lanes_channel_stats(const struct page_lanes *l)
{
	struct channel_stats sum = { 0 };

	for (size_t i = 0; i < l->n; i++)
		channel_stats_add(&sum, channel_stats(l->lanes[i].channel));
	return sum;
}

size_t page_lanes_count(const struct page_lanes *l)
{
	return l->n;
}

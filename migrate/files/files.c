#include <search.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "engine/base/clock.h"
#include "engine/base/fd.h"
#include "engine/image/tree.h"
#include "migrate/files/file_blocks.h"
#include "migrate/files/file_index.h"
#include "migrate/files/file_times.h"
#include "migrate/files/files.h"

/* A file with several links, in the round under way. */
struct group {
	dev_t dev;
	ino_t ino;
	struct timespec ctime;		/* when its first link was looked at */
	bool there;			/* the other side has that link */
	bool sent;			/* since this round */
	bool known;
};

struct files {
	struct channel *channel;
	int top;
	struct file_times *times;
	struct file_index *before, *now;
	struct file_blocks blocks;
	struct files_stats stats;
	/* of the round under way */
	bool last;
	bool trust;			/* what the round before knew still counts */
	bool has_next, has_match;
	struct file_record next;	/* of the round before: not passed by yet */
	struct file_record match;	/* at the path that is looked at */
	bool has_record, wanted, begun;
	struct file_record record;	/* to be written when the next path is looked at */
	struct timespec sampled, looked;	/* looked: no later than it was */
	struct group *group;
	void *groups;			/* tsearch(3) */
	char gone[PATH_MAX];
	uint64_t bytes, send_us;
};

int files_open(int dirfd, struct channel *channel, struct files **ret, struct error *err)
{
	CLEANUP(files_freep) struct files *f = calloc(1, sizeof(*f));

	if (!f)
		return error_set(err, ENOMEM, "out of memory");
	f->channel = channel;
	f->top = dirfd;
	if (file_times_new(dirfd, &f->times, err) < 0 || file_index_new(dirfd, &f->before, err) < 0 ||
	    file_index_new(dirfd, &f->now, err) < 0 || file_blocks_new(&f->blocks, err) < 0)
		return -err->code;
	*ret = TAKE_PTR(f);
	return 0;
}

static void end_round(struct files *f)
{
	file_record_clear(&f->next);
	file_record_clear(&f->match);
	file_record_clear(&f->record);
	f->has_next = f->has_match = f->has_record = false;
	if (f->groups)
		tdestroy(f->groups, free);
	f->groups = NULL;
}

void files_free(struct files *f)
{
	if (!f)
		return;
	end_round(f);
	file_times_free(f->times);
	file_index_free(f->before);
	file_index_free(f->now);
	file_blocks_free(&f->blocks);
	free(f);
}

struct files_stats files_stats(const struct files *f)
{
	return f->stats;
}

/* ---- the index ---- */

static int advance(struct files *f, struct error *err)
{
	int r = file_index_next(f->before, &f->next, err);

	f->has_next = r > 0;
	return r < 0 ? r : 0;
}

static void move_record(struct file_record *from, struct file_record *to)
{
	file_record_clear(to);
	*to = *from;
	from->blocks = NULL;
	from->n_blocks = 0;
}

static int take_match(struct files *f, const char *path, struct error *err)
{
	f->has_match = f->has_next && file_index_compare(f->next.path, path) == 0;
	if (!f->has_match)
		return 0;
	move_record(&f->next, &f->match);
	return advance(f, err);
}

/* What was to be sent and was gone before it could be read is there as it was. */
static int write_record(struct files *f, struct error *err)
{
	if (!f->has_record)
		return 0;
	f->has_record = false;
	if (f->begun && S_ISREG(f->record.mode) && !f->record.hardlink)
		file_blocks_end(&f->blocks, &f->record);
	else if (f->wanted && !f->begun && f->has_match)
		move_record(&f->match, &f->record);
	if (f->wanted && !f->begun)
		f->record.known = false;
	return f->last ? 0 : file_index_put(f->now, &f->record, err);
}

static void describe(struct file_record *r, const struct tree_entry *e)
{
	r->ino = e->ino;
	r->size = e->size;
	r->ctime = e->ctime;
	r->mode = e->mode;
	r->links = (uint32_t)e->links;
}

static bool same_time(struct timespec a, struct timespec b)
{
	return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

static bool is_same(const struct file_record *r, const struct tree_entry *e)
{
	return r->ino == e->ino && r->mode == e->mode && same_time(r->ctime, e->ctime);
}

/* ---- links ---- */

static int compare_groups(const void *a, const void *b)
{
	const struct group *x = a, *y = b;

	if (x->ino != y->ino)
		return x->ino < y->ino ? -1 : 1;
	return x->dev == y->dev ? 0 : x->dev < y->dev ? -1 : 1;
}

static int find_group(struct files *f, const struct tree_entry *e, struct error *err)
{
	struct group *g, **found;

	f->group = NULL;
	if (e->links < 2 || S_ISDIR(e->mode))
		return 0;
	g = calloc(1, sizeof(*g));
	if (!g)
		return error_set(err, ENOMEM, "out of memory");
	g->dev = e->dev;
	g->ino = e->ino;
	found = tsearch(g, &f->groups, compare_groups);
	if (!found || *found != g)
		free(g);
	if (!found)
		return error_set(err, ENOMEM, "out of memory");
	f->group = *found;
	return 0;
}

static void note_group(struct files *f, bool sent)
{
	if (!f->group)
		return;
	f->group->there = true;
	f->group->sent = sent;
	f->group->known = f->record.known;
	f->group->ctime = f->record.ctime;
}

/* A link is known as its file is. It can't be made to a file that is not there. */
static int wants_link(struct files *f, const struct tree_entry *e)
{
	const struct group *g = f->group;

	if (!g || !g->there)
		return 0;
	f->record.known = g->known && same_time(g->ctime, e->ctime);
	return g->sent || !f->trust || !f->has_match || !f->match.known || !f->match.hardlink ||
	       !is_same(&f->match, e);
}

/* ---- what tree_pack_changes asks ---- */

static int next_gone(void *ctx, const struct tree_entry *next, const char **ret_path, struct error *err)
{
	struct files *f = ctx;

	while (f->has_next && (!next || file_index_compare(f->next.path, next->path) < 0)) {
		bool with_folder = *f->gone && file_index_is_below(f->next.path, f->gone);

		if (!with_folder)
			strcpy(f->gone, f->next.path);
		if (advance(f, err) < 0)
			return -err->code;
		if (with_folder)
			continue;
		*ret_path = f->gone;
		return 1;
	}
	return 0;
}

static int wants_file(struct files *f, const struct tree_entry *e)
{
	if (!f->trust || !f->has_match || !f->match.known || !is_same(&f->match, e))
		return 1;
	move_record(&f->match, &f->record);
	f->record.hardlink = false;
	f->record.links = (uint32_t)e->links;
	note_group(f, false);
	return 0;
}

static int is_wanted(void *ctx, const struct tree_entry *e, struct error *err)
{
	struct files *f = ctx;

	/* e was looked at after the one before was asked for. */
	f->looked = f->sampled;
	f->sampled = file_times_now();
	if (write_record(f, err) < 0 || take_match(f, e->path, err) < 0 || find_group(f, e, err) < 0)
		return -err->code;
	file_record_clear(&f->record);
	strcpy(f->record.path, e->path);
	describe(&f->record, e);
	f->record.known = false;
	f->record.hardlink = e->hardlink != NULL;
	f->has_record = true;
	f->begun = false;
	f->wanted = e->hardlink ? wants_link(f, e) : wants_file(f, e);
	return f->wanted;
}

/* Other links of what is there would change with it, unless they are the same here. */
static bool can_patch(const struct files *f, const struct tree_entry *e)
{
	const struct file_record *m = &f->match;

	return f->has_match && S_ISREG(m->mode) && !m->hardlink && file_blocks_fit(m, e->size) &&
	       ((m->links == 1 && e->links == 1) || is_same(m, e));
}

static int begin_file(void *ctx, const struct tree_entry *e, int fd, enum tree_change *ret, struct error *err)
{
	struct files *f = ctx;
	bool patch = false;

	if (e->hardlink) {
		f->begun = true;
		return 0;
	}
	describe(&f->record, e);
	if (S_ISREG(e->mode)) {
		patch = can_patch(f, e);
		f->looked = f->sampled;
		if (file_blocks_begin(&f->blocks, e->size, patch ? &f->match : NULL, err) < 0)
			return -err->code;
	}
	f->begun = true;
	f->record.known = file_times_settled(e->ctime, f->looked) &&
			  (!S_ISREG(e->mode) || file_times_closed(f->times, fd));
	note_group(f, true);
	*ret = patch ? TREE_PATCH : TREE_WHOLE;
	return 0;
}

static int next_piece(void *ctx, int fd, uint64_t *offset, uint64_t *ret_len, struct error *err)
{
	struct files *f = ctx;

	return file_blocks_next(&f->blocks, fd, offset, ret_len, err);
}

static void on_packed(void *ctx, const void *data, size_t len, uint64_t offset)
{
	struct files *f = ctx;

	f->sampled = file_times_now();
	f->bytes += len;
	file_blocks_sent(&f->blocks, data, len, offset);
}

static int send_bytes(void *ctx, const void *data, size_t len, struct error *err)
{
	struct files *f = ctx;
	uint64_t t0 = clock_us();
	int r = len ? channel_send_data(f->channel, data, len, err) : 0;

	f->send_us += clock_us() - t0;
	return r;
}

/* ---- rounds ---- */

static int begin_round(struct files *f, struct error *err)
{
	f->bytes = f->send_us = 0;
	f->gone[0] = '\0';
	f->trust = file_times_hold(f->times);
	f->sampled = file_times_now();
	if (file_index_rewind(f->before, err) < 0 || file_index_empty(f->now, err) < 0)
		return -err->code;
	return advance(f, err);
}

static int send_changes(struct files *f, struct error *err)
{
	const struct tree_changes changes = { .live = !f->last, .gone = next_gone, .wanted = is_wanted,
					      .begin = begin_file, .next_piece = next_piece,
					      .packed = on_packed, .ctx = f };
	struct tree_stats stats = { 0 };

	if (begin_round(f, err) < 0 || channel_tree_begin(f->channel, MESSAGE_TREE_UPPER, "", err) < 0 ||
	    tree_pack_changes(f->top, &changes, send_bytes, f, &stats, err) < 0 || write_record(f, err) < 0)
		return -err->code;
	return channel_tree_end(f->channel, stats.entries, err);
}

static int go_round(struct files *f, struct policy_round *ret, struct error *err)
{
	const struct channel_stats before = channel_stats(f->channel);
	uint64_t t0 = clock_us();
	struct channel_stats after;
	struct file_index *was = f->before;
	int r = send_changes(f, err);

	end_round(f);
	if (r < 0)
		return error_wrap(err, "send its changes to files");
	f->before = f->now;
	f->now = was;
	after = channel_stats(f->channel);
	ret->bytes += f->bytes;
	ret->sent_bytes += f->bytes;
	ret->wire_bytes += after.wire_bytes - before.wire_bytes;
	ret->compress_us += after.compress_us - before.compress_us;
	ret->idle_us += after.rate_us - before.rate_us;
	ret->send_us += f->send_us;
	ret->scan_us += clock_us() - t0 - f->send_us;
	return 0;
}

int files_round(struct files *f, struct policy_round *ret, struct error *err)
{
	if (go_round(f, ret, err) < 0)
		return -err->code;
	f->stats.rounds++;
	f->stats.bytes += f->bytes;
	return 0;
}

int files_last(struct files *f, struct policy_round *ret, struct error *err)
{
	f->last = true;
	if (go_round(f, ret, err) < 0)
		return -err->code;
	f->stats.last_bytes = f->bytes;
	return 0;
}

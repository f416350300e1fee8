#include <string.h>

#include "engine/base/fd.h"
#include "migrate/trees.h"
#include "migrate/workdir.h"

/* Room for the archive of an empty folder. */
struct sample {
	char bytes[16384];
	size_t len;
	bool told;
};

static int write_to_channel(void *ctx, const void *data, size_t len, struct error *err)
{
	return len ? channel_send_data(ctx, data, len, err) : 0;
}

ssize_t trees_read(void *ctx, const void **ret_data, struct error *err)
{
	return channel_receive_data(ctx, ret_data, err);
}

int trees_send(struct channel *ch, enum message_tree_kind kind, const char *label, int dirfd,
	       struct error *err)
{
	return trees_send_contents(ch, kind, label, dirfd, NULL, err);
}

int trees_send_contents(struct channel *ch, enum message_tree_kind kind, const char *label, int dirfd,
			const struct tree_contents *contents, struct error *err)
{
	struct tree_stats stats = { 0 };

	if (channel_tree_begin(ch, kind, label, err) < 0 ||
	    tree_pack_contents(dirfd, contents, write_to_channel, ch, &stats, err) < 0 ||
	    channel_tree_end(ch, stats.entries, err) < 0)
		return error_wrap(err, "send %s", message_tree_kind_name(kind));
	return 0;
}

int trees_receive(struct channel *ch, int dirfd, const struct tree_limits *limits, struct error *err)
{
	struct tree_stats stats;

	return tree_unpack(dirfd, trees_read, ch, limits, false, &stats, err);
}

int trees_receive_changes(struct channel *ch, int dirfd, const struct tree_limits *limits, uint64_t *ret_bytes,
			  struct error *err)
{
	struct tree_stats stats;

	if (tree_unpack_changes(dirfd, trees_read, ch, limits, &stats, err) < 0)
		return -err->code;
	*ret_bytes = stats.bytes;
	return 0;
}

static int take_sample(void *ctx, const void *data, size_t len, struct error *err)
{
	struct sample *s = ctx;

	if (len > sizeof(s->bytes) - s->len)
		return error_set(err, EFBIG, "an empty folder is larger than expected");
	memcpy(s->bytes + s->len, data, len);
	s->len += len;
	return 0;
}

static ssize_t tell_sample(void *ctx, const void **ret_data, struct error *err)
{
	struct sample *s = ctx;

	(void)err;
	if (s->told)
		return 0;
	s->told = true;
	*ret_data = s->bytes;
	return (ssize_t)s->len;
}

void trees_warm_up(void)
{
	const struct tree_limits limits = { .entries = 1, .bytes = 1 };
	CLEANUP(fd_closep) int folder = -EBADF;
	struct sample s = { .len = 0 };
	struct tree_stats stats;
	struct error ignored;

	if (workdir_create(&folder, &ignored) == 0 && tree_pack(folder, take_sample, &s, &stats, &ignored) == 0)
		(void)tree_unpack(folder, tell_sample, &s, &limits, false, &stats, &ignored);
}

#include "migrate/trees.h"

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

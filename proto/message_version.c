#include <errno.h>

#include "proto/message.h"

int message_agree_version(const struct message_hello *ours, const struct message_hello *theirs,
			  uint32_t *ret_version, struct error *err)
{
	const struct message_hello *older = ours->version < theirs->version ? ours : theirs;
	const struct message_hello *newer = older == ours ? theirs : ours;

	if (older->version < newer->lowest_version)
		return error_set(err, EPROTONOSUPPORT, "%s runs %s, which speaks protocol version "
				 "%u at most; %s (%s) needs %u or later: upgrade %s",
				 older->node_name, older->software, older->version,
				 newer->node_name, newer->software, newer->lowest_version,
				 older->node_name);
	*ret_version = older->version;
	return 0;
}

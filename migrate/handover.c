#include <fcntl.h>
#include <jansson.h>
#include <string.h>
#include <unistd.h>

#include "engine/base/fault.h"
#include "engine/base/fd.h"
#include "migrate/handover.h"

#define HANDOVER_JSON "handover.json"

int handover_write(const struct container *c, const struct handover *h, struct error *err)
{
	json_t *root = json_pack("{s:s,s:s,s:s,s:s,s:I}", "token", h->token, "peer", h->peer, "node", h->node,
				 "node_id", h->node_id, "decided_us", (json_int_t)h->decided_us);
	CLEANUP(freep) char *text = root ? json_dumps(root, JSON_INDENT(2)) : NULL;

	json_decref(root);
	if (!text)
		return error_set(err, EINVAL, "write the decision: the peer's name is not UTF-8");
	if (fd_replace_file_at(c->dir_fd, HANDOVER_JSON, text, strlen(text), 0600, FD_REPLACE_DURABLE,
			       err) < 0)
		return error_wrap(err, "write the decision");
	return 0;
}

int handover_read(const struct container *c, struct handover *ret, struct error *err)
{
	CLEANUP(freep) char *text = NULL;
	const char *token = "", *peer = "", *node = "", *id = "";
	json_int_t decided = 0;
	json_error_t je = { 0 };
	json_t *root;

	if (fd_read_file_at(c->dir_fd, HANDOVER_JSON, 65536, &text, NULL, err) < 0)
		return -err->code;
	root = json_loads(text, 0, &je);
	if (!root || json_unpack_ex(root, &je, 0, "{s:s,s:s,s:s,s:s,s:I}", "token", &token, "peer", &peer,
				    "node", &node, "node_id", &id, "decided_us", &decided) < 0 ||
	    strlen(token) >= sizeof(ret->token) || strlen(peer) >= sizeof(ret->peer) ||
	    strlen(node) >= sizeof(ret->node) || strlen(id) >= sizeof(ret->node_id)) {
		json_decref(root);
		return error_set(err, EINVAL, HANDOVER_JSON " is damaged: %s",
				 je.text[0] ? je.text : "a text is too long");
	}
	(void)snprintf(ret->node, sizeof(ret->node), "%s", node);
	(void)snprintf(ret->node_id, sizeof(ret->node_id), "%s", id);
	(void)snprintf(ret->token, sizeof(ret->token), "%s", token);
	(void)snprintf(ret->peer, sizeof(ret->peer), "%s", peer);
	ret->decided_us = (uint64_t)decided;
	json_decref(root);
	return 0;
}

int handover_remove(const struct container *c, struct error *err)
{
	if (fault_point("handover-remove", err) < 0)
		return error_wrap(err, "take the decision back");
	if (unlinkat(c->dir_fd, HANDOVER_JSON, 0) < 0 && errno != ENOENT)
		return error_set(err, errno, "take the decision back: %s", strerror(errno));
	fault_pass("handover-removed");
	if (fsync(c->dir_fd) < 0)
		return error_set(err, errno, "take the decision back: fsync: %s", strerror(errno));
	return 0;
}

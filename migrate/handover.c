#include <fcntl.h>
#include <jansson.h>
#include <string.h>
#include <unistd.h>

#include "engine/base/fault.h"
#include "engine/base/fd.h"
#include "migrate/handover.h"

#define HANDOVER_JSON "handover.json"

int handover_save(int dir, const char *file, const struct handover *h, struct error *err)
{
	json_t *root = json_pack("{s:s,s:s,s:s,s:s,s:s,s:b,s:I}", "token", h->token, "name", h->name, "peer", h->peer,
				 "node", h->node, "node_id", h->node_id, "was_paused", h->was_paused, "decided_us",
				 (json_int_t)h->decided_us);
	CLEANUP(freep) char *text = root ? json_dumps(root, JSON_INDENT(2)) : NULL;

	json_decref(root);
	if (!text)
		return error_set(err, EINVAL, "the peer's name is not UTF-8");
	return fd_replace_file_at(dir, file, text, strlen(text), 0600, FD_REPLACE_DURABLE, err);
}

static bool take_text(json_t *root, const char *key, char *ret, size_t size)
{
	const char *text = json_string_value(json_object_get(root, key));

	return text && (size_t)snprintf(ret, size, "%s", text) < size;
}

static bool parse(json_t *root, struct handover *h)
{
	json_t *decided = json_object_get(root, "decided_us"), *paused = json_object_get(root, "was_paused");

	if (!take_text(root, "token", h->token, sizeof(h->token)) ||
	    !take_text(root, "name", h->name, sizeof(h->name)) ||
	    !take_text(root, "peer", h->peer, sizeof(h->peer)) ||
	    !take_text(root, "node", h->node, sizeof(h->node)) ||
	    !take_text(root, "node_id", h->node_id, sizeof(h->node_id)) ||
	    !json_is_integer(decided) || !json_is_boolean(paused))
		return false;
	h->decided_us = (uint64_t)json_integer_value(decided);
	h->was_paused = json_is_true(paused);
	return true;
}

int handover_load(int dir, const char *file, struct handover *ret, struct error *err)
{
	CLEANUP(freep) char *text = NULL;
	struct handover h = { 0 };
	json_t *root;
	bool good;

	if (fd_read_file_at(dir, file, 65536, &text, NULL, err) < 0)
		return -err->code;
	root = json_loads(text, 0, NULL);
	good = parse(root, &h);
	json_decref(root);
	if (!good)
		return error_set(err, EINVAL, "%s is damaged", file);
	*ret = h;
	return 0;
}

int handover_write(const struct container *c, const struct handover *h, struct error *err)
{
	if (handover_save(c->dir_fd, HANDOVER_JSON, h, err) < 0)
		return error_wrap(err, "write the decision");
	return 0;
}

int handover_read(const struct container *c, struct handover *ret, struct error *err)
{
	return handover_load(c->dir_fd, HANDOVER_JSON, ret, err);
}

int handover_check_none(const struct container *c, struct error *err)
{
	if (faccessat(c->dir_fd, HANDOVER_JSON, F_OK, 0) < 0 && errno == ENOENT)
		return 0;
	return error_set(err, EBUSY, "container '%s': a migration was decided and not confirmed, so it may run "
			 "elsewhere; 'godwit resolve %s' asks", c->name, c->name);
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

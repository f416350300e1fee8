#include <endian.h>
#include <errno.h>
#include <linux/capability.h>
#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>
#include <string.h>

#include "migrate/tree_ids.h"

typedef uint32_t (*map_fn)(const struct id_map *map, uint32_t id);

static int map_one(const struct id_map *map, map_fn to, uint32_t *id, struct error *err)
{
	uint32_t other = to(map, *id);

	if (other == ID_NONE)
		return error_set(err, EPROTO, "its owner %u is not in the container's map of ids", *id);
	*id = other;
	return 0;
}

static int map_le32(const struct id_map *map, map_fn to, void *at, struct error *err)
{
	uint32_t id;

	memcpy(&id, at, sizeof(id));
	id = le32toh(id);
	if (map_one(map, to, &id, err) < 0)
		return -err->code;
	id = htole32(id);
	memcpy(at, &id, sizeof(id));
	return 0;
}

static int map_acl(const struct userns *u, map_fn to, struct tree_xattr *x, struct error *err)
{
	const size_t head = sizeof(struct posix_acl_xattr_header), one = sizeof(struct posix_acl_xattr_entry);

	if (x->size < head || (x->size - head) % one)
		return error_set(err, EPROTO, "damaged %s", x->name);
	for (size_t at = head; at < x->size; at += one) {
		char *entry = (char *)x->value + at;
		uint16_t tag;

		memcpy(&tag, entry, sizeof(tag));
		tag = le16toh(tag);
		if ((tag == ACL_USER || tag == ACL_GROUP) &&
		    map_le32(tag == ACL_USER ? &u->uids : &u->gids, to,
			     entry + offsetof(struct posix_acl_xattr_entry, e_id), err) < 0)
			return -err->code;
	}
	return 0;
}

/* Older revisions have no root, which is then that of the host. */
static int map_capability(const struct userns *u, map_fn to, struct tree_xattr *x, struct error *err)
{
	struct vfs_ns_cap_data data;

	if (x->size != sizeof(data))
		return 0;
	return map_le32(&u->uids, to, (char *)x->value + offsetof(struct vfs_ns_cap_data, rootid), err);
}

static int map_entry(const struct userns *u, map_fn to, struct tree_entry *e, struct error *err)
{
	if (!userns_is_own(u))
		return 0;
	if (map_one(&u->uids, to, &e->uid, err) < 0 || map_one(&u->gids, to, &e->gid, err) < 0)
		return -err->code;
	for (size_t i = 0; i < e->xattrs.n; i++) {
		struct tree_xattr *x = &e->xattrs.list[i];
		int r = 0;

		if (!strncmp(x->name, "system.posix_acl_", strlen("system.posix_acl_")))
			r = map_acl(u, to, x, err);
		else if (!strcmp(x->name, "security.capability"))
			r = map_capability(u, to, x, err);
		if (r < 0)
			return r;
	}
	return 0;
}

int tree_ids_to_inside(const void *ids, struct tree_entry *e, struct error *err)
{
	return map_entry(ids, id_map_container, e, err);
}

int tree_ids_to_host(const void *ids, struct tree_entry *e, struct error *err)
{
	return map_entry(ids, id_map_host, e, err);
}

#include <errno.h>
#include <linux/mount.h>
#include <string.h>

#include "engine/oci/oci_mounts.h"

/* linux/mount.h and sys/mount.h can't both be had in full: these are mount(2)'s. */
enum { UNBINDABLE = 1 << 17, PRIVATE = 1 << 18, SLAVE = 1 << 19, SHARED = 1 << 20 };

enum effect { SET, CLEAR, ATIME, PROPAGATE, BIND, IDMAP, COPY_UP, NOTHING, SUPER };

/* A leading r of a name that is recursive is a row of its own. */
static const struct option {
	const char *name;
	enum effect effect;
	bool recursive;
	uint64_t value;
} options[] = {
	{ "ro", SET, false, MOUNT_ATTR_RDONLY },	{ "rw", CLEAR, false, MOUNT_ATTR_RDONLY },
	{ "nosuid", SET, false, MOUNT_ATTR_NOSUID },	{ "suid", CLEAR, false, MOUNT_ATTR_NOSUID },
	{ "nodev", SET, false, MOUNT_ATTR_NODEV },	{ "dev", CLEAR, false, MOUNT_ATTR_NODEV },
	{ "noexec", SET, false, MOUNT_ATTR_NOEXEC },	{ "exec", CLEAR, false, MOUNT_ATTR_NOEXEC },
	{ "nodiratime", SET, false, MOUNT_ATTR_NODIRATIME }, { "diratime", CLEAR, false, MOUNT_ATTR_NODIRATIME },
	{ "nosymfollow", SET, false, MOUNT_ATTR_NOSYMFOLLOW }, { "symfollow", CLEAR, false, MOUNT_ATTR_NOSYMFOLLOW },
	{ "noatime", ATIME, false, MOUNT_ATTR_NOATIME }, { "atime", ATIME, false, MOUNT_ATTR_RELATIME },
	{ "relatime", ATIME, false, MOUNT_ATTR_RELATIME }, { "norelatime", ATIME, false, MOUNT_ATTR_STRICTATIME },
	{ "strictatime", ATIME, false, MOUNT_ATTR_STRICTATIME },
	{ "nostrictatime", ATIME, false, MOUNT_ATTR_RELATIME },
	{ "rro", SET, true, MOUNT_ATTR_RDONLY },	{ "rrw", CLEAR, true, MOUNT_ATTR_RDONLY },
	{ "rnosuid", SET, true, MOUNT_ATTR_NOSUID },	{ "rsuid", CLEAR, true, MOUNT_ATTR_NOSUID },
	{ "rnodev", SET, true, MOUNT_ATTR_NODEV },	{ "rdev", CLEAR, true, MOUNT_ATTR_NODEV },
	{ "rnoexec", SET, true, MOUNT_ATTR_NOEXEC },	{ "rexec", CLEAR, true, MOUNT_ATTR_NOEXEC },
	{ "rnodiratime", SET, true, MOUNT_ATTR_NODIRATIME }, { "rdiratime", CLEAR, true, MOUNT_ATTR_NODIRATIME },
	{ "rnosymfollow", SET, true, MOUNT_ATTR_NOSYMFOLLOW }, { "rsymfollow", CLEAR, true, MOUNT_ATTR_NOSYMFOLLOW },
	{ "rnoatime", ATIME, true, MOUNT_ATTR_NOATIME }, { "ratime", ATIME, true, MOUNT_ATTR_RELATIME },
	{ "rrelatime", ATIME, true, MOUNT_ATTR_RELATIME }, { "rnorelatime", ATIME, true, MOUNT_ATTR_STRICTATIME },
	{ "rstrictatime", ATIME, true, MOUNT_ATTR_STRICTATIME },
	{ "rnostrictatime", ATIME, true, MOUNT_ATTR_RELATIME },
	{ "private", PROPAGATE, false, PRIVATE },	{ "rprivate", PROPAGATE, true, PRIVATE },
	{ "slave", PROPAGATE, false, SLAVE },		{ "rslave", PROPAGATE, true, SLAVE },
	{ "shared", PROPAGATE, false, SHARED },		{ "rshared", PROPAGATE, true, SHARED },
	{ "unbindable", PROPAGATE, false, UNBINDABLE },	{ "runbindable", PROPAGATE, true, UNBINDABLE },
	{ "bind", BIND, false, 0 },			{ "rbind", BIND, true, 0 },
	{ "idmap", IDMAP, false, 0 },			{ "ridmap", IDMAP, true, 0 },
	{ "tmpcopyup", COPY_UP, false, 0 },		{ "defaults", NOTHING, false, 0 },
	{ "nofail", NOTHING, false, 0 },
	/* Of the superblock: the file system is told, a bind can't have them. */
	{ "sync", SUPER, false, 0 },			{ "async", SUPER, false, 0 },
	{ "dirsync", SUPER, false, 0 },			{ "lazytime", SUPER, false, 0 },
	{ "nolazytime", SUPER, false, 0 },		{ "mand", SUPER, false, 0 },
	{ "nomand", SUPER, false, 0 },			{ "iversion", SUPER, false, 0 },
	{ "noiversion", SUPER, false, 0 },		{ "silent", SUPER, false, 0 },
	{ "loud", SUPER, false, 0 },			{ NULL, NOTHING, false, 0 },
};

const char *const *oci_mount_option_names(void)
{
	static const char *names[sizeof(options) / sizeof(*options)];

	for (size_t i = 0; options[i].name; i++)
		names[i] = options[i].name;
	return names;
}

static void set_attr(uint64_t *set, uint64_t *clear, const struct option *o)
{
	if (o->effect == ATIME) {
		*clear |= MOUNT_ATTR__ATIME;
		*set = (*set & ~(uint64_t)MOUNT_ATTR__ATIME) | o->value;
	} else if (o->effect == SET) {
		*set |= o->value;
		*clear &= ~o->value;
	} else {
		*clear |= o->value;
		*set &= ~o->value;
	}
}

static int add_data(struct oci_mount_options *ret, const char *word, struct error *err)
{
	size_t n = strlen(ret->data);

	if ((size_t)snprintf(ret->data + n, sizeof(ret->data) - n, "%s%s", n ? "," : "",
		word) >= sizeof(ret->data) - n)
		return error_set(err, E2BIG, "the options are longer than %zu bytes", sizeof(ret->data));
	return 0;
}

static int apply(struct oci_mount_options *ret, const struct option *o, struct error *err)
{
	switch (o->effect) {
	case SET:
	case CLEAR:
	case ATIME:
		if (o->recursive)
			set_attr(&ret->rec_set, &ret->rec_clear, o);
		else
			set_attr(&ret->set, &ret->clear, o);
		return 0;
	case PROPAGATE:
		if (ret->propagation)
			return error_set(err, EINVAL, "'%s' after another propagation", o->name);
		ret->propagation = o->value;
		ret->propagation_recursive = o->recursive;
		return 0;
	case BIND:
		ret->bind = true;
		ret->recursive = ret->recursive || o->recursive;
		return 0;
	case IDMAP:
		ret->id_map = true;
		ret->id_map_recursive = o->recursive;
		return 0;
	case COPY_UP:
		ret->copy_up = true;
		return 0;
	case SUPER:
		return add_data(ret, o->name, err);
	case NOTHING:
		break;
	}
	return 0;
}

static const struct option *find(const char *name)
{
	for (const struct option *o = options; o->name; o++)
		if (!strcmp(o->name, name))
			return o;
	return NULL;
}

static int check(const struct oci_mount *m, const struct oci_mount_options *o, struct error *err)
{
	if (o->bind && o->data[0])
		return error_set(err, EINVAL, "'%s' means nothing for a bind", o->data);
	if (o->bind && (!m->source || !*m->source))
		return error_set(err, EINVAL, "a bind needs a source");
	if (!o->bind && (!m->type || !*m->type || !strcmp(m->type, "none")))
		return error_set(err, EINVAL, "no type and no bind");
	if (!o->bind && (o->id_map || m->uid_mappings.n))
		return error_set(err, ENOTSUP, "only binds can be idmapped");
	if (o->id_map && !m->uid_mappings.n)
		return error_set(err, EINVAL, "idmap needs uidMappings and gidMappings");
	if (o->copy_up && (o->bind || strcmp(m->type, "tmpfs") != 0))
		return error_set(err, EINVAL, "tmpcopyup is for tmpfs");
	return 0;
}

int oci_mount_options_parse(const struct oci_mount *m, struct oci_mount_options *ret, struct error *err)
{
	int r = 0;

	*ret = (struct oci_mount_options){ .bind = m->type && !strcmp(m->type, "bind") };
	for (size_t i = 0; r == 0 && m->options && m->options[i]; i++) {
		const struct option *o = find(m->options[i]);

		r = o ? apply(ret, o, err) : add_data(ret, m->options[i], err);
	}
	if (r == 0)
		r = check(m, ret, err);
	return r < 0 ? error_wrap(err, "mounts: %s", m->destination) : 0;
}

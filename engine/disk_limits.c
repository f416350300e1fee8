#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "engine/base/units.h"
#include "engine/cgroup/cgroup.h"
#include "engine/disk_limits.h"

static const struct rate_kind { const char *oci, *v1, *v2; bool bytes; } kinds[DISK_RATES] = {
	[DISK_READ_BPS] = { "throttleReadBpsDevice", "blkio.throttle.read_bps_device", "rbps", true },
	[DISK_WRITE_BPS] = { "throttleWriteBpsDevice", "blkio.throttle.write_bps_device", "wbps", true },
	[DISK_READ_IOPS] = { "throttleReadIOPSDevice", "blkio.throttle.read_iops_device", "riops", false },
	[DISK_WRITE_IOPS] = { "throttleWriteIOPSDevice", "blkio.throttle.write_iops_device", "wiops", false },
};

const char *disk_rate_name(enum disk_rate which)
{
	return kinds[which].oci;
}

static struct disk_limit *find(struct disk_limits *l, const char *path)
{
	for (size_t i = 0; i < l->n; i++)
		if (!strcmp(l->items[i].path, path))
			return &l->items[i];
	return NULL;
}

int disk_limits_set(struct disk_limits *l, enum disk_rate which, const char *path, uint64_t rate, struct error *err)
{
	struct disk_limit *d = find(l, path);

	if (path[0] != '/' || strlen(path) >= DISK_PATH_SIZE)
		return error_set(err, EINVAL, "disk '%.200s': its path must be absolute, and shorter than %d "
				 "characters", path, DISK_PATH_SIZE);
	if (!d && l->n == DISK_LIMITS_MAX)
		return error_set(err, E2BIG, "more than %d disks", DISK_LIMITS_MAX);
	if (!d) {
		d = &l->items[l->n++];
		*d = (struct disk_limit){ 0 };
		memcpy(d->path, path, strlen(path) + 1);
	}
	d->rates[which] = rate;
	return 0;
}

static int parse_rate(enum disk_rate which, const char *text, uint64_t *ret, struct error *err)
{
	char *end;

	if (kinds[which].bytes)
		return units_parse_size(text, ret, err);
	errno = 0;
	*ret = strtoull(text, &end, 10);
	return *text >= '0' && *text <= '9' && !*end && !errno && *ret <= UINT32_MAX ? 0 :
		error_set(err, EINVAL, "'%.40s' is no number of operations a second", text);
}

int disk_limits_parse(struct disk_limits *l, enum disk_rate which, const char *text, struct error *err)
{
	const char *colon = strrchr(text, ':');
	char path[DISK_PATH_SIZE];
	uint64_t rate;

	if (!colon || colon == text)
		return error_set(err, EINVAL, "'%.200s': write PATH:RATE, like /dev/sda:%s", text,
				 kinds[which].bytes ? "10m" : "500");
	if ((size_t)(colon - text) >= sizeof(path))
		return error_set(err, EINVAL, "'%.200s': the path is too long", text);
	(void)snprintf(path, sizeof(path), "%.*s", (int)(colon - text), text);
	if (parse_rate(which, colon + 1, &rate, err) < 0)
		return error_wrap(err, "disk %s", path);
	return disk_limits_set(l, which, path, rate ? rate : DISK_RATE_LIFTED, err);
}

void disk_limits_lift(struct disk_limits *l, const struct disk_limits *other)
{
	struct error ignored;

	for (size_t i = 0; i < other->n; i++) {
		const struct disk_limit *theirs = &other->items[i];

		for (unsigned k = 0; k < DISK_RATES; k++) {
			const struct disk_limit *ours = find(l, theirs->path);

			if (theirs->rates[k] && (!ours || !ours->rates[k]))
				(void)disk_limits_set(l, k, theirs->path, DISK_RATE_LIFTED, &ignored);
		}
	}
}

void disk_limits_settle(struct disk_limits *l)
{
	uint32_t kept = 0;

	for (size_t i = 0; i < l->n; i++) {
		struct disk_limit d = l->items[i];
		bool any = false;

		for (unsigned k = 0; k < DISK_RATES; k++) {
			d.rates[k] = d.rates[k] == DISK_RATE_LIFTED ? 0 : d.rates[k];
			any = any || d.rates[k];
		}
		if (any)
			l->items[kept++] = d;
	}
	l->n = kept;
}

int disk_find(const char *path, uint32_t *ret_major, uint32_t *ret_minor, struct error *err)
{
	char partition[64];
	struct stat st;

	if (stat(path, &st) < 0)
		return error_set(err, errno, "disk %s: %s", path, strerror(errno));
	if (!S_ISBLK(st.st_mode))
		return error_set(err, ENOTBLK, "disk %s: it is no block device", path);
	(void)snprintf(partition, sizeof(partition), "/sys/dev/block/%u:%u/partition", major(st.st_rdev),
		       minor(st.st_rdev));
	if (access(partition, F_OK) == 0)
		return error_set(err, ENOTBLK, "disk %s: it is a partition; name the disk that it is on", path);
	*ret_major = major(st.st_rdev);
	*ret_minor = minor(st.st_rdev);
	return 0;
}

void disk_rate_setting(bool pure_v2, enum disk_rate which, int64_t major, int64_t minor, uint64_t rate,
		       struct cgroup_setting *ret)
{
	const struct rate_kind *k = &kinds[which];
	char number[24] = "max";

	if (rate || !pure_v2)
		(void)snprintf(number, sizeof(number), "%" PRIu64, rate);
	*ret = (struct cgroup_setting){ .controller = "io" };
	(void)snprintf(ret->file, sizeof(ret->file), "%s", pure_v2 ? "io.max" : k->v1);
	(void)snprintf(ret->value, sizeof(ret->value), "%" PRId64 ":%" PRId64 " %s%s%s", major, minor,
		       pure_v2 ? k->v2 : "", pure_v2 ? "=" : "", number);
}

void disk_weight_setting(bool pure_v2, uint32_t weight, struct cgroup_setting *ret)
{
	*ret = (struct cgroup_setting){ .controller = "io", .other = pure_v2 ? "io.weight" : "blkio.bfq.weight" };
	(void)snprintf(ret->file, sizeof(ret->file), "%s", pure_v2 ? "io.bfq.weight" : "blkio.weight");
	(void)snprintf(ret->value, sizeof(ret->value), "%u", weight);
	if (pure_v2)		/* its range is 1 to 10000 */
		(void)snprintf(ret->other_value, sizeof(ret->other_value), "%u",
			       1 + (weight - DISK_WEIGHT_MIN) * 9999 / (DISK_WEIGHT_MAX - DISK_WEIGHT_MIN));
}

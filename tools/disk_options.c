#include <errno.h>

#include "tools/disk_options.h"

int disk_options_take(const struct disk_options *o, struct disk_limits *l, struct error *err)
{
	static const char *const names[DISK_RATES] = {
		[DISK_READ_BPS] = "read-bps", [DISK_WRITE_BPS] = "write-bps",
		[DISK_READ_IOPS] = "read-iops", [DISK_WRITE_IOPS] = "write-iops",
	};

	for (unsigned k = 0; k < DISK_RATES; k++)
		for (size_t i = 0; i < o->rates[k].n; i++)
			if (disk_limits_parse(l, k, o->rates[k].items[i], err) < 0)
				return error_wrap(err, "--device-%s", names[k]);
	if (o->weight && (o->weight < DISK_WEIGHT_MIN || o->weight > DISK_WEIGHT_MAX))
		return error_set(err, EINVAL, "--blkio-weight: %u is not within %d and %d", o->weight, DISK_WEIGHT_MIN,
				 DISK_WEIGHT_MAX);
	l->weight = o->weight ? o->weight : l->weight;
	return 0;
}

/*
 * spec_disks.h - limits of disks as linux.resources.blockIO: for spec.c and spec_parse.c only
 *
 * As in OCI's, but a device is its "path": numbers would be another disk on another node.
 */
#pragma once

#include <jansson.h>

#include "engine/disk_limits.h"

json_t *spec_disks_json(const struct disk_limits *l);

int spec_disks_parse(const json_t *block_io, struct disk_limits *ret, struct error *err);

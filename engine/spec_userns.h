/*
 * spec_userns.h - a container's id maps as linux.uidMappings and linux.gidMappings: for
 * spec.c and spec_parse.c only
 */
#pragma once

#include <jansson.h>

#include "engine/spec.h"

/* Adds them, if it has a user namespace of its own; returns the linux object, which may be NULL. */
json_t *spec_userns_add(json_t *linux_, const struct spec *s);

/* Takes them out again, checked. */
int spec_userns_take(json_t *linux_, struct spec *s, struct error *err);

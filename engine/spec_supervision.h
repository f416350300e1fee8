/*
 * spec_supervision.h - restart policy and health check as annotations: for spec.c and
 * spec_parse.c only
 */
#pragma once

#include <jansson.h>

#include "engine/spec.h"

/* Adds org.godwit.restart and org.godwit.health-*, where they differ from none; returns
 * annotations, which may be NULL. */
json_t *spec_supervision_add(json_t *annotations, const struct spec *s);

/* Takes them out again. */
int spec_supervision_take(json_t *annotations, struct spec *s, struct error *err);

/* gate_json.h - what a gate has counted, as JSON: for inspect and for the report of a move */
#pragma once

#include <jansson.h>

#include "engine/network/gate.h"

/* A new object: each count has frames and bytes. */
json_t *gate_json(const struct gate_counters *n);

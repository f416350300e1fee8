/*
 * fault_list.h - all fault points (engine/base/fault.h), for tools
 *
 * Those of fault_table, and those that are made from the rows of other tables:
 *
 *	source-prepare-begin, target-commit-end, source-dump-undo	stage.h
 *	send-OFFER, sent-OFFER, received-OFFER				wire.h
 *	criu-pre-dump							criu.h
 *	handover.json-fsync						fd.h
 */
#pragma once

#include "engine/base/fault.h"

/* point's name is valid during the call only. */
void fault_list(void (*tell)(void *ctx, const struct fault_name *point), void *ctx);

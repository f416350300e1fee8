#include <stddef.h>

#include "proto/wire.h"

const char *wire_type_name(unsigned type)
{
	static const char *const names[WIRE_TYPE_END] = {
		[WIRE_HELLO] = "HELLO",
		[WIRE_OFFER] = "OFFER",
		[WIRE_VERDICT] = "VERDICT",
		[WIRE_TREE_BEGIN] = "TREE_BEGIN",
		[WIRE_DATA] = "DATA",
		[WIRE_TREE_END] = "TREE_END",
		[WIRE_PREPARED] = "PREPARED",
		[WIRE_FROZEN] = "FROZEN",
		[WIRE_RESTORE] = "RESTORE",
		[WIRE_RESTORED] = "RESTORED",
		[WIRE_COMMIT] = "COMMIT",
		[WIRE_RESUMED] = "RESUMED",
		[WIRE_RELEASE] = "RELEASE",
		[WIRE_ABORT] = "ABORT",
		[WIRE_QUERY] = "QUERY",
		[WIRE_ANSWER] = "ANSWER",
		[WIRE_PROGRESS] = "PROGRESS",
		[WIRE_JOIN] = "JOIN",
		[WIRE_JOINED] = "JOINED",
		[WIRE_RECEIVED] = "RECEIVED",
		[WIRE_SYNCED] = "SYNCED",
		[WIRE_FORGOTTEN] = "FORGOTTEN",
		[WIRE_NETWORK] = "NETWORK",
		[WIRE_PLACES] = "PLACES",
	};

	return type < WIRE_TYPE_END ? names[type] : NULL;
}

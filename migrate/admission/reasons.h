/*
 * reasons.h - why a container can't move: every reason at once
 *
 * Both sides add to such a list before anything begins, so that an operator
 * reads all that is to be done. A code is for machines and never changes its
 * meaning: tools/godwit.8 lists them, which tests/lint/man.sh compares with the
 * table in reasons.c.
 */
#pragma once

#include "proto/message.h"

enum reason {
	/* found where the container is */
	REASON_NOT_RUNNING,
	REASON_MONITOR_LOST,
	REASON_EXEC_SESSION,
	REASON_TRACED,
	REASON_NAMESPACE_NESTED,
	REASON_NESTED,
	REASON_TERMINAL_BUSY,
	REASON_OBJECT_UNSUPPORTED,
	REASON_OBJECT_OUTSIDE,
	REASON_UNACCEPTED,
	/* found where it is to go; those of CRIU on either side */
	REASON_CRIU_MISSING,
	REASON_CRIU_OLDER,
	REASON_CONFIG_INVALID,
	REASON_ARCH_DIFFERS,
	REASON_CPU_FEATURES,
	REASON_KERNEL_FEATURE,
	REASON_NEED_UNKNOWN,
	REASON_LIMIT_UNAVAILABLE,
	REASON_RLIMIT_SHORT,
	REASON_NAME_TAKEN,
	REASON_ADDRESS_TAKEN,
	REASON_PORT_TAKEN,
	REASON_IDS_TAKEN,
	REASON_NETWORK_MISSING,
	REASON_NETWORK_DIFFERS,
	REASON_IMAGE_BROKEN,
	REASON_IMAGE_DIFFERS,
	REASON_VOLUME_MISSING,
	REASON_DEVICE_MISSING,
	REASON_MEMORY_SHORT,
	REASON_DISK_SHORT,
	REASON_TASKS_SHORT,
	REASON_NODE_BUSY,
	REASON_TOKEN_USED,
	REASON_MAX_,
};

struct reasons {
	struct message_reason list[WIRE_REASONS_MAX];	/* strings are owned */
	size_t n;
	size_t n_here;		/* of them the first so many were found at the source */
};

/* What does not fit any more is left out: there is enough to do then. */
void reasons_add(struct reasons *r, enum reason code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* Copies what a peer has said. */
void reasons_add_peer(struct reasons *r, const struct message_reason *list, size_t n);
void reasons_free(struct reasons *r);

/* The first of them in words, and how many more there are; r has one. */
int reasons_to_error(const struct reasons *r, struct error *err);

const char *reason_name(enum reason code);

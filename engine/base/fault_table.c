/* The fault points of this program, but for those that migrate/fault_list.c makes. */
#include "engine/base/fault.h"

const struct fault_value fault_values[] = {
	{ "memory-hash", "command" },		/* added to the hash that --verify tells */
	{ "shared-hash", "command" },		/* the same, of shared memory */
	{ "files-hash", "command" },		/* spoils the digest of changes to files */
	{ "first-word-s", "receive" },		/* how long a peer may take to say what it wants */
	{ "peer-dead-s", "command,receive" },	/* when a silent connection is given up */
	{ "keep-longer-s", "receive" },		/* than a lost source tries to come back */
	{ "held-age-ms", "command,restore" },	/* how long a frame may wait in a gate */
	{ "settler-look-ms", "settle" },	/* between two looks */
	{ NULL, NULL },
};

const struct fault_name fault_table[] = {
	/* engine: folders of containers */
	{ "folder-appear", "command,receive", true },	/* made, not yet under its name */
	{ "folder-appeared", "command,receive", false },
	{ "folder-vanish", "command,receive,monitor,restore", true },
	{ "folder-vanished", "command,receive,monitor,restore", false },	/* renamed, not yet removed */
	{ "folder-removed", "command,receive,monitor,restore", false },
	{ "clean-begin", "command,receive,serve", false },
	{ "clean-end", "command,receive,serve", false },

	/* engine: a monitor */
	{ "monitor-live", "monitor", false },
	{ "monitor-freeze", "monitor", true },
	{ "monitor-frozen", "monitor", false },
	{ "monitor-thaw", "monitor", true },
	{ "monitor-thawed", "monitor", false },
	{ "monitor-expire", "monitor", false },		/* who froze it is gone */
	{ "monitor-discard", "monitor", false },
	{ "monitor-killed", "monitor", false },		/* the container; its cgroup is there still */
	{ "monitor-cleaned", "monitor", false },	/* all but the folder is gone */
	{ "monitor-told", "monitor", false },		/* its link is there still */

	/* migrate: the source's decision */
	{ "handover-remove", "command", true },
	{ "handover-removed", "command", false },	/* not yet synced */
	{ "original-gone", "command", false },
	{ "original-sync", "command", true },
	{ "query-begin", "command", false },
	{ "query-end", "command", false },

	/* migrate: what is left at the source for a while */
	{ "forward-begin", "forward", false },
	{ "forward-end", "forward", false },

	/* migrate: the target's */
	{ "token-record", "receive,restore", true },
	{ "token-link", "receive,restore", true },
	{ "token-linked", "receive,restore", false },	/* not yet synced */
	{ "token-sync", "receive,restore", true },
	{ "token-forget", "receive", true },
	{ "token-forgotten", "receive", false },
	{ "release-sync", "receive", true },
	{ "adopt-begin", "receive,serve", false },
	{ "adopt-end", "receive,serve", false },
	{ "answer-begin", "receive", false },
	{ "answer-end", "receive", false },

	/* migrate: the monitor of what arrives */
	{ "restore-begin", "restore", true },
	{ "restore-prepared", "restore", true },
	{ "restore-go", "restore", true },
	{ "restore-mounted", "restore", true },
	{ "restore-tasks", "restore", true },
	{ "restore-done", "restore", true },
	{ "restore-commit", "restore", true },
	{ "restore-decided", "restore", false },
	{ "restore-unmuted", "restore", false },
	{ "restore-thawed", "restore", false },
	{ "restore-recorded", "restore", false },
	{ "restore-resumed", "restore", false },
	{ "restore-opened", "restore", false },
	{ "restore-refuse", "restore", false },

	/* migrate: the filler */
	{ "filler-begin", "filler", true },
	{ "filler-task", "filler", true },
	{ "filler-restored", "filler", true },
	{ "filler-filled", "filler", true },
	{ "filler-end", "filler", false },

	/* migrate: the daemon */
	{ "serve-sweep", "serve", false },
	{ "serve-accept", "serve", false },
	{ "settler-look", "settle", true },	/* it fails: nothing is settled this time */
	{ "receive-begin", "receive", false },
	{ NULL, NULL, false },
};

const struct fault_file fault_files[] = {
	{ "config.json", "receive", false },
	{ "state.json", "receive,restore,monitor,serve", false },
	{ "token", "receive", true },
	{ "reservation", "receive", false },
	{ "checkpoint.json", "command", false },
	{ "downtimes", "command", false },
	{ "handover.json", "command", true },
	{ "record", "receive,restore", true },
	{ NULL, NULL, false },
};

const struct fault_file_step fault_file_steps[] = {
	{ "create", true, false }, { "fsync", true, true }, { "rename", true, false },
	{ "renamed", false, false }, { "dirsync", true, true }, { NULL, false, false },
};

#include "proto/message.h"

const char *message_tree_kind_name(enum message_tree_kind kind)
{
	static const char *const names[] = {
		[MESSAGE_TREE_IMAGE] = "image",
		[MESSAGE_TREE_UPPER] = "upper",
		[MESSAGE_TREE_CHECKPOINT] = "checkpoint",
		[MESSAGE_TREE_TMPFS] = "tmpfs",
		[MESSAGE_TREE_META] = "meta",
		[MESSAGE_TREE_MEMORY] = "memory",
		[MESSAGE_TREE_HELD] = "held",
	};

	return (unsigned)kind < sizeof(names) / sizeof(names[0]) ? names[kind] : NULL;
}


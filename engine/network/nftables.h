/*
 * nftables.h - commands to libnftables, in a child of their own
 *
 * The library brings two megabytes, and a monitor that publishes a port lives
 * as long as its container: so a child loads it with dlopen(3), runs the
 * commands and ends. libnftables(3), libnftables-json(5), nft(8).
 */
#pragma once

#include "engine/base/error.h"

/* Runs the commands as one transaction. ret_text (NULL: not wanted) gets what a
 * list command prints as JSON; the caller's to free. -EEXIST and -ENOENT are the
 * kernel's; -ELIBACC without the library; else -EPROTO with nft's words. */
int nftables_run(const char *commands, char **ret_text, struct error *err);

/*
 * hosts.h - the names of others in a container's /etc/hosts
 *
 * They are the last lines, between two that say so; what stands before is the container's.
 */
#pragma once

#include <sys/types.h>

#include "engine/base/error.h"

#define HOSTS_LIMIT (1 << 20)

/* The file's new text: old with these lines as its last. The caller's to free. */
int hosts_replace(const char *old, const char *lines, char **ret, struct error *err);

/* In the file of the container with this first process. It is written in place, so that
 * whoever has it open, or mounted elsewhere, sees it, and at no moment a reader finds half
 * a line. A file that is no plain file of the container's own, or not there, is left alone. */
int hosts_update(pid_t init, const char *lines, struct error *err);

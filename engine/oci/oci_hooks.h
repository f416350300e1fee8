/*
 * oci_hooks.h - programs that a bundle wants run at points of a container's life
 *
 * Each gets the container's state on its standard input, its own arguments and
 * environment and nothing else; config.md "POSIX-platform Hooks".
 */
#pragma once

#include "engine/oci/oci_container.h"

/* One after the other, until one fails or takes longer than its timeout (it is killed then):
 * the error names it and has the last line that it wrote. kind is the list's name. */
int oci_hooks_run(const struct oci_list *hooks, const char *kind, const struct oci_container *c,
		  enum oci_status status, struct error *err);

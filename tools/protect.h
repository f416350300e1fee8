/*
 * protect.h - keeping containers from writing to this program's own file
 *
 * A process of ours that enters a container is there with this program as its
 * /proc/self/exe, and an image can make that the program that is executed
 * ("#!/proc/self/exe"). Root in the container could then open the file for
 * writing (CVE-2019-5736). So commands that enter containers run from a
 * private read-only mount of it, which the kernel enforces for that link too.
 */
#pragma once

#include "engine/base/error.h"

/* Returns 0 when this process runs from a read-only mount already, else
 * executes the program again from one, with the same arguments. */
int protect_self(char *const *argv, struct error *err);

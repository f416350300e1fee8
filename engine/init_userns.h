/*
 * init_userns.h - the first process of a container with a user namespace of its own
 *
 *   monitor ── go-between: joins the user namespace, makes the others, so that they
 *     │          belong to it, with the init in them as the monitor's child
 *     └─────── a helper with the rights of the host in those namespaces mounts the root
 *              file system; the init, which waited, takes a copy of that mount namespace
 *
 * What is mounted belongs to the host, and is locked in the init's copy: no right inside can
 * take a mask away (mount_namespaces(7)).
 */
#pragma once

#include "engine/monitor/monitor.h"

/* As fork(2): 0 in the init, which has no namespace for its mounts yet. */
pid_t init_userns_clone(const struct monitor_setup *s, struct error *err);

/* In the monitor, while the init waits. write_etc: rootfs_write_etc, too. */
int init_userns_mount(const struct monitor_setup *s, pid_t init, bool write_etc, struct error *err);

/* In the init, when all is mounted. */
int init_userns_take_mounts(struct error *err);

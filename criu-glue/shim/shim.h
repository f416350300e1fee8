/*
 * shim.h - what worker.c and the library that it preloads agree on
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define EXPORT __attribute__((visibility("default")))

/* The library comes as this descriptor: LD_PRELOAD=SHIM_PATH. */
#define SHIM_FD 4
#define SHIM_PATH "/proc/self/fd/4"

/* CRIU's end of the RPC socket. */
#define SHIM_RPC_FD 3

/* Environment: set when tasks that CRIU traces must die with it. */
#define SHIM_EXITKILL "GODWIT_CRIU_EXITKILL"

/* Environment: set when pages come after CRIU's restore. */
#define SHIM_SMALL_PAGES "GODWIT_CRIU_SMALL_PAGES"

/* Environment: the v2 cgroup directory that a restore's root task is born into. */
#define SHIM_CGROUP "GODWIT_CRIU_CGROUP"

/* Environment: the number of the descriptor of the user namespace that a restore's root task is
 * born into, in place of a new one: the prepared network namespace belongs to it. */
#define SHIM_USERNS "GODWIT_CRIU_USERNS"

/* Environment: a template for mkdtemp(3), where a restore's mounts are put together. CRIU would
 * do that in its own below /tmp, and leave it there when it is killed. */
#define SHIM_YARD "GODWIT_CRIU_YARD"
#define SHIM_YARD_OF_CRIU "/tmp/.criu.mntns.XXXXXX"

/* Environment: the number of the descriptor of a struct shim_carried. */
#define SHIM_CARRIED "GODWIT_CRIU_CARRIED"

/* carried.h: what CRIU shall not dump. Ascending for each process, whose ranges
 * stand together. */
struct shim_range {
	unsigned long pid, start, end;
};
#define SHIM_CARRIED_MAX (1 << 20)

/* A file in memory by what stat(2) says of it; a System V segment's inode number is
 * its id, which may be another file's inode. */
struct shim_object {
	unsigned long dev, ino;
	int sysv;
};
#define SHIM_OBJECTS_MAX 4096

struct shim_carried {
	unsigned long n, n_objects;
	struct shim_object objects[SHIM_OBJECTS_MAX];
	struct shim_range ranges[SHIM_CARRIED_MAX];
};
#define SHIM_CARRIED_BYTES sizeof(struct shim_carried)

/* Environment: the number of the descriptor of the iterator over mappings; the
 * next one is memory, a struct smaps_names (smaps.h). Both stay open. */
#define SHIM_SMAPS "GODWIT_CRIU_SMAPS"

/* Environment: set when the network namespace is external, so that what its
 * connection tracking holds is not CRIU's business. */
#define SHIM_NO_CONNTRACK "GODWIT_CRIU_NO_CONNTRACK"

/* Environment: the number of the descriptor of a struct shim_prepared. */
#define SHIM_PREPARED "GODWIT_CRIU_PREPARED"

/* prepared.h: shared memory that is there before a restore, as descriptor fd of
 * process pid. id: CRIU's number of it, that of its image. */
struct shim_memory {
	unsigned long id, size;
	int sysv, pid, fd, huge_shift;
};
struct shim_prepared {
	unsigned long n;
	struct shim_memory list[SHIM_OBJECTS_MAX];
};
#define SHIM_PREPARED_BYTES sizeof(struct shim_prepared)

/* userns.c: the root task goes into SHIM_USERNS. */
bool shim_has_userns(void);

/* In CRIU's first process: all that its tasks will take by their place in fds (borrowed, at most
 * SHIM_STORE_MAX), and what shim_userfaultfd needs. */
#define SHIM_STORE_MAX 252
bool shim_store_fill(const int *fds, size_t n);
int shim_store_take(size_t i);

/* As userfaultfd(2); afterwards this task has the store no more. */
long shim_userfaultfd(int flags);

/* As clone3(2), of which CRIU and into.cgroup are the parents. */
struct clone_args;
long shim_clone_into_userns(struct clone_args *into);

/* memory.c: CRIU opens this file. False when it is the image of shared memory that is
 * prepared and can't be given. */
bool shim_opens(const char *path);

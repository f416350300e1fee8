/*
 * shared KIND: memory that several processes write in turn, each verifying what
 * another one left. KIND is anonymous, memfd, sysv, or the path of a file.
 *
 * Pages are written through the mapping, through write(2), and punched out. The
 * versions are in the shared object itself, the number of each worker's writes is
 * elsewhere: if a move gave each process a copy of its own, the sums would differ.
 */
#include <sys/shm.h>

#include "tests/workloads/busy.h"

#define PAGES 1024
#define STRIPES 16
#define PROCESSES 4
#define BURST 8

struct object {
	pthread_mutex_t locks[STRIPES];
	uint32_t versions[PAGES];
};

#define HEAD ((sizeof(struct object) + PAGE - 1) / PAGE * PAGE)
#define SIZE (HEAD + (size_t)PAGES * PAGE)

static struct object *object;
static int fd = -1, shm = -1;

/* Maps the object; in each process anew where that can be. */
static void attach(void)
{
	if (shm >= 0)
		object = shmat(shm, NULL, 0);
	else
		object = mmap(NULL, SIZE, PROT_READ | PROT_WRITE,
			      MAP_SHARED | (fd < 0 ? MAP_ANONYMOUS : 0), fd, 0);
	MUST(object != (void *)-1);
}

static void make(const char *kind)
{
	if (!strcmp(kind, "sysv")) {
		shm = shmget(IPC_PRIVATE, SIZE, IPC_CREAT | 0600);
		MUST(shm >= 0);
	} else if (!strcmp(kind, "memfd")) {
		fd = memfd_create("shared", MFD_CLOEXEC);
		MUST(fd >= 0);
	} else if (strcmp(kind, "anonymous") != 0) {
		fd = open(kind, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
		MUST(fd >= 0);
	}
	MUST(fd < 0 || ftruncate(fd, SIZE) == 0);
	attach();
}

static unsigned char *page_at(size_t page)
{
	return (unsigned char *)object + HEAD + page * PAGE;
}

static uint64_t key_of(size_t page)
{
	return workload_nonce + page;
}

static bool holds(size_t page)
{
	unsigned char copy[PAGE];
	uint32_t version = object->versions[page];

	if (!busy_page_holds(page_at(page), key_of(page), version))
		return false;
	if (fd < 0)
		return true;
	BUSY_HOLDS(pread(fd, copy, PAGE, (off_t)(HEAD + page * PAGE)) == PAGE);
	BUSY_HOLDS(pattern_holds(copy, key_of(page), version));
	return true;
}

static bool change(size_t page)
{
	unsigned char copy[PAGE];
	uint32_t version = (object->versions[page] & ~PATTERN_HOLE) + 1;
	uint64_t how = busy_random() % 16;

	atomic_fetch_add(&busy_self->writes, 1);
	if (how == 0) {
		object->versions[page] = version | PATTERN_HOLE;
		BUSY_HOLDS(madvise(page_at(page), PAGE, MADV_REMOVE) == 0);
	} else if (how < 4 && fd >= 0) {
		object->versions[page] = version;
		pattern_fill(copy, key_of(page), version);
		BUSY_HOLDS(pwrite(fd, copy, PAGE, (off_t)(HEAD + page * PAGE)) == PAGE);
	} else {
		object->versions[page] = version;
		pattern_fill(page_at(page), key_of(page), version);
	}
	return true;
}

static bool step(void *ctx)
{
	bool fine = true;

	(void)ctx;
	for (int i = 0; fine && i < BURST; i++) {
		size_t page = busy_random() % PAGES;
		pthread_mutex_t *lock = &object->locks[page % STRIPES];

		BUSY_HOLDS(pthread_mutex_lock(lock) == 0);
		fine = holds(page) && change(page);
		BUSY_HOLDS(pthread_mutex_unlock(lock) == 0);
	}
	return fine;
}

static bool all(void *ctx)
{
	bool fine = true;

	(void)ctx;
	for (size_t page = 0; fine && page < PAGES; page++) {
		(void)pthread_mutex_lock(&object->locks[page % STRIPES]);
		fine = holds(page);
		(void)pthread_mutex_unlock(&object->locks[page % STRIPES]);
	}
	return fine;
}

static void plant(void *ctx, enum plant how)
{
	size_t page = busy_random() % PAGES;

	(void)ctx;
	(void)pthread_mutex_lock(&object->locks[page % STRIPES]);
	object->versions[page] = (object->versions[page] & ~PATTERN_HOLE) + 2;
	atomic_fetch_add(&busy_self->writes, 1);
	pattern_fill(page_at(page), key_of(page), object->versions[page]);
	pattern_spoil(page_at(page), key_of(page), object->versions[page], how);
	(void)pthread_mutex_unlock(&object->locks[page % STRIPES]);
}

/* All processes' writes are in the one object. */
static bool sums_agree(void)
{
	uint64_t versions = 0, writes = 0;

	for (size_t i = 0; i < STRIPES; i++)
		HOLDS(pthread_mutex_lock(&object->locks[i]) == 0);
	for (size_t i = 0; i < PAGES; i++)
		versions += object->versions[i] & ~PATTERN_HOLE;
	for (int i = 0; i < n_busy_workers; i++)
		writes += atomic_load(&busy_workers[i].writes);
	for (size_t i = 0; i < STRIPES; i++)
		HOLDS(pthread_mutex_unlock(&object->locks[i]) == 0);
	if (versions != writes)
		return workload_blame("%llu writes were made, the object has %llu",
				      (unsigned long long)writes, (unsigned long long)versions);
	return true;
}

static bool begin(void *ctx)
{
	static bool attached;

	if (!attached && (shm >= 0 || fd >= 0))
		attach();
	attached = true;
	return step(ctx);
}

static const struct busy_work work = { begin, all, plant };

static void workload_setup(int argc, char **argv)
{
	pthread_mutexattr_t between;

	MUST(argc == 2);
	busy_init(-1);
	busy_also = sums_agree;
	make(argv[1]);
	MUST(pthread_mutexattr_init(&between) == 0);
	MUST(pthread_mutexattr_setpshared(&between, PTHREAD_PROCESS_SHARED) == 0);
	for (int i = 0; i < STRIPES; i++)
		MUST(pthread_mutex_init(&object->locks[i], &between) == 0);
	for (int i = 0; i < PROCESSES; i++)
		(void)busy_process(&work, NULL);
}

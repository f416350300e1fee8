/* System V shared memory, semaphores and message queues; POSIX ones too. */
#include <mqueue.h>
#include <semaphore.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>

#include "tests/workloads/workload.h"

static struct {
	long type;
	char text[16];
} letter;

static int shm, sem, msg;
static char *attached, *posix_shm;
static sem_t *posix_sem;

static void workload_setup(int argc, char **argv)
{
	int fd;

	(void)argc, (void)argv;
	shm = shmget(0x60d, 8192, IPC_CREAT | IPC_EXCL | 0600);
	sem = semget(0x60d, 3, IPC_CREAT | IPC_EXCL | 0600);
	msg = msgget(0x60d, IPC_CREAT | IPC_EXCL | 0600);
	MUST(shm >= 0 && sem >= 0 && msg >= 0);
	attached = shmat(shm, NULL, 0);
	MUST(attached != (void *)-1);
	strcpy(attached + 4096, "system five");
	MUST(semctl(sem, 1, SETVAL, 5) == 0);
	letter.type = 3;
	strcpy(letter.text, "in the queue");
	MUST(msgsnd(msg, &letter, sizeof(letter.text), 0) == 0);
	fd = shm_open("/posix", O_RDWR | O_CREAT, 0600);
	MUST(fd >= 0 && ftruncate(fd, 8192) == 0);
	posix_shm = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	MUST(posix_shm != MAP_FAILED);
	strcpy(posix_shm, "posix");
	posix_sem = sem_open("/sem", O_CREAT, 0600, 4);
	MUST(posix_sem != SEM_FAILED);
}

static bool workload_check(void)
{
	char seen[6] = "";
	int fd, value;

	HOLDS(shmget(0x60d, 0, 0) == shm && semget(0x60d, 0, 0) == sem && msgget(0x60d, 0) == msg);
	HOLDS(!strcmp(attached + 4096, "system five"));
	HOLDS(semctl(sem, 1, GETVAL) == 5 && semctl(sem, 0, GETVAL) == 0);
	memset(&letter, 0, sizeof(letter));
	HOLDS(msgrcv(msg, &letter, sizeof(letter.text), 3, IPC_NOWAIT) == sizeof(letter.text));
	HOLDS(!strcmp(letter.text, "in the queue"));
	HOLDS(msgsnd(msg, &letter, sizeof(letter.text), 0) == 0);
	posix_shm[0]++;
	fd = shm_open("/posix", O_RDONLY, 0);
	HOLDS(fd >= 0 && read(fd, seen, 5) == 5 && seen[0] == posix_shm[0]);
	HOLDS(close(fd) == 0 && !strcmp(seen + 1, "osix"));
	HOLDS(sem_getvalue(posix_sem, &value) == 0 && value == 4);
	return true;
}

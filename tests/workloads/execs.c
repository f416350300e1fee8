/*
 * A process that replaces itself by the same program again and again. What it
 * hands to itself is a memfd; everything else is made and filled anew each time.
 * Another one does nothing else, so that most of its time it has no memory but a stack.
 */
#include "tests/workloads/region.h"

#define PAGES 256		/* in the memfd */
#define ROUNDS_MAX 40

struct legacy {
	uint64_t seed, total;
	volatile uint64_t generation;
	uint32_t versions[PAGES];
};

#define HEAD ((sizeof(struct legacy) + PAGE - 1) / PAGE * PAGE)
#define SIZE (HEAD + (size_t)PAGES * PAGE)

static struct legacy *legacy;
static struct region handed_on, own;
static uint64_t rounds_left;
static char control_word[16], legacy_word[16];
static pid_t restless;

static void adopt(int fd)
{
	legacy = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	MUST(legacy != MAP_FAILED);
	if (!legacy->seed)
		legacy->seed = workload_nonce;
	workload_nonce = legacy->seed;
	region_over(&handed_on, (char *)legacy + HEAD, PAGES, 1);
	free(handed_on.versions);
	handed_on.versions = legacy->versions;
	handed_on.total = legacy->total;
}

static bool again(void)
{
	static char program[] = "/proc/self/exe", flag[] = "again";
	char *const argv[] = { program, flag, control_word, legacy_word, NULL };

	legacy->generation++;
	(void)execv(program, argv);
	return busy_blame("cannot replace itself: %s", strerror(errno));
}

static bool all(void *ctx)
{
	(void)ctx;
	return region_all(&own) && region_all(&handed_on);
}

static bool step(void *ctx)
{
	(void)ctx;
	if (!region_step(&own) || !region_step(&handed_on))
		return false;
	legacy->total = handed_on.total;
	if (rounds_left-- > 0)
		return true;
	return all(NULL) && again();
}

static void plant(void *ctx, enum plant how)
{
	(void)ctx;
	region_plant(busy_random() % 2 ? &own : &handed_on, how);
}

static void go_round(void)
{
	static char program[] = "/proc/self/exe", flag[] = "round";
	char *const argv[] = { program, flag, NULL };

	(void)execv(program, argv);
	_exit(1);
}

static bool tell(void)
{
	static uint64_t before;
	int status = 0;

	if (waitpid(restless, &status, WNOHANG) != 0)
		return workload_blame("the process that only executes has ended with status %d", status);
	for (int ms = 0; ms < BUSY_PATIENCE_MS && legacy->generation <= before; ms++)
		(void)usleep(1000);
	HOLDS(legacy->generation > before);
	before = legacy->generation;
	(void)snprintf(workload_note, sizeof(workload_note), "generation %llu",
		       (unsigned long long)before);
	return true;
}

static const struct busy_work work = { step, all, plant };

/* A second thread, which exec ends. */
static void *idle(void *arg)
{
	for (;;)
		(void)pause();
	return arg;
}

static _Noreturn void live(int control_fd, int legacy_fd)
{
	pthread_t id;

	busy_init(control_fd);
	busy_self = busy_workers;
	adopt(legacy_fd);
	rounds_left = 1 + busy_random() % ROUNDS_MAX;
	region_init(&own, 64 + busy_random() % 512, 0, 2);
	region_write_all(&own);
	MUST(legacy->generation % 2 || pthread_create(&id, NULL, idle, NULL) == 0);
	busy_run(&work, NULL);
}

static void workload_setup(int argc, char **argv)
{
	int control, fd;

	if (argc == 2)
		go_round();
	if (argc == 4) {
		(void)snprintf(control_word, sizeof(control_word), "%s", argv[2]);
		(void)snprintf(legacy_word, sizeof(legacy_word), "%s", argv[3]);
		live(atoi(control_word), atoi(legacy_word));
	}
	control = memfd_create("control", 0);
	fd = memfd_create("legacy", 0);
	MUST(control >= 0 && fd >= 0 && ftruncate(fd, SIZE) == 0);
	(void)snprintf(control_word, sizeof(control_word), "%d", control);
	(void)snprintf(legacy_word, sizeof(legacy_word), "%d", fd);
	busy_init(control);
	adopt(fd);
	region_write_all(&handed_on);
	legacy->total = handed_on.total;
	busy_also = tell;
	(void)busy_take();
	if (fork() == 0)
		MUST(again());
	restless = fork();
	if (restless == 0) {
		MUST(nice(19) == 19);
		go_round();
	}
}

/*
 * Guard pages that must fault and breakpoints, of a program that faults most of its
 * time; memory that must stay locked, stacks that grow by deep recursion, and signal
 * handlers on alternate stacks.
 */
#include <setjmp.h>

#include "tests/workloads/region.h"

#define PAIRS 64
#define LOCKED_PAGES 128
#define DEPTH_MAX 1600		/* of a page each: most of the usual 8 MB */
#define HANDLER_STACK (64 * 1024)
#define FAULTS 200		/* in a step */

/* --- each second page is a guard ------------------------------------------------- */

static struct region guarded[PAIRS];
static _Thread_local sigjmp_buf faulted;
static _Thread_local void *volatile fault_address;
static _Thread_local volatile unsigned int breakpoints;

static void on_fault(int signal, siginfo_t *info, void *context)
{
	(void)signal, (void)context;
	fault_address = info->si_addr;
	siglongjmp(faulted, 1);
}

static bool guard_faults(unsigned char *guard)
{
	fault_address = NULL;
	if (sigsetjmp(faulted, 1) == 0) {
		(void)*(volatile unsigned char *)guard;
		return busy_blame("guard page %p can be read", (void *)guard);
	}
	BUSY_HOLDS(fault_address == guard);
	return true;
}

static void on_breakpoint(int signal)
{
	(void)signal;
	breakpoints++;
}

/* Nobody repeats it when its signal is lost. */
static bool breakpoint_is_told(void)
{
#ifdef __x86_64__
	unsigned int before = breakpoints;

	__asm__ volatile("int3");
	BUSY_HOLDS(breakpoints == before + 1);
#endif
	return true;
}

static bool guards_step(void *ctx)
{
	struct region *r = &guarded[busy_random() % PAIRS];

	(void)ctx;
	for (int i = 0; i < FAULTS; i++)
		if (!guard_faults(r->base + PAGE) || !breakpoint_is_told())
			return false;
	return region_step(r);
}

static bool guards_all(void *ctx)
{
	(void)ctx;
	for (int i = 0; i < PAIRS; i++)
		if (!region_all(&guarded[i]) || !guard_faults(guarded[i].base + PAGE))
			return false;
	return true;
}

static void guards_plant(void *ctx, enum plant how)
{
	(void)ctx;
	region_plant(&guarded[busy_random() % PAIRS], how);
}

static const struct busy_work guards_work = { guards_step, guards_all, guards_plant };

static void start_guards(void)
{
	const struct sigaction action = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO };
	const struct sigaction told = { .sa_handler = on_breakpoint };
	unsigned char *base = mmap(NULL, 2u * PAIRS * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	MUST(base != MAP_FAILED && sigaction(SIGSEGV, &action, NULL) == 0 &&
	     sigaction(SIGTRAP, &told, NULL) == 0);
	for (size_t i = 0; i < PAIRS; i++) {
		MUST(mprotect(base + 2 * i * PAGE, PAGE, PROT_READ | PROT_WRITE) == 0);
		region_over(&guarded[i], base + 2 * i * PAGE, 1, i);
	}
	busy_thread(&guards_work, NULL);
}

/* --- locked in memory, by each of the three calls ---------------------------------- */

static struct region locked[3];
static unsigned long locked_kb;

static unsigned long now_locked_kb(void)
{
	FILE *status = fopen("/proc/self/status", "re");
	unsigned long kb = 0;
	char line[256];

	while (status && fgets(line, sizeof(line), status))
		if (sscanf(line, "VmLck: %lu", &kb) == 1)
			break;
	if (status)
		(void)fclose(status);
	return kb;
}

static bool locked_step(void *ctx)
{
	(void)ctx;
	return region_step(&locked[busy_random() % 3]);
}

static bool locked_all(void *ctx)
{
	unsigned long kb = now_locked_kb();

	(void)ctx;
	if (kb != locked_kb)
		return busy_blame("%lu KB are locked instead of %lu", kb, locked_kb);
	return region_all(&locked[0]) && region_all(&locked[1]) && region_all(&locked[2]);
}

static void locked_plant(void *ctx, enum plant how)
{
	(void)ctx;
	region_plant(&locked[busy_random() % 3], how);
}

static const struct busy_work locked_work = { locked_step, locked_all, locked_plant };

static void start_locked(void)
{
	region_init(&locked[0], LOCKED_PAGES, MAP_LOCKED, 100);
	region_init(&locked[1], LOCKED_PAGES, 0, 101);
	region_init(&locked[2], LOCKED_PAGES, 0, 102);
	MUST(mlock(locked[1].base, LOCKED_PAGES * PAGE) == 0);
	MUST(mlock2(locked[2].base, LOCKED_PAGES * PAGE, MLOCK_ONFAULT) == 0);
	locked_kb = now_locked_kb();
	MUST(locked_kb >= 3 * LOCKED_PAGES * PAGE / 1024);
	busy_thread(&locked_work, NULL);
}

/* --- a stack that grows, and one for signals ------------------------------------- */

static unsigned char *handler_stack;
static volatile sig_atomic_t handled;
static enum plant spoil_a_frame;

/* Each frame has something of its own, and verifies it when all deeper ones are gone. */
__attribute__((noinline)) static bool descend(unsigned int depth, uint64_t key)
{
	_Alignas(uint64_t) unsigned char frame[PAGE];
	bool fine = true;

	pattern_fill(frame, key + depth, 2);
	if (depth > 0)
		fine = descend(depth - 1, key);
	else
		(void)usleep(2000);
	if (spoil_a_frame != PLANT_NONE && depth == 7)
		pattern_spoil(frame, key + depth, 2, spoil_a_frame);
	return busy_page_holds(frame, key + depth, 2) && fine;
}

static void on_alarm(int signal)
{
	_Alignas(uint64_t) unsigned char frame[PAGE];
	uint64_t key = busy_random();

	(void)signal;
	pattern_fill(frame, key, 1);
	(void)usleep(1000);
	if (frame < handler_stack || frame >= handler_stack + HANDLER_STACK)
		(void)busy_blame("a handler runs on another stack");
	handled += busy_page_holds(frame, key, 1);
}

static bool stacks_step(void *ctx)
{
	int before = handled;

	(void)ctx;
	if (!handler_stack) {
		const struct sigaction action = { .sa_handler = on_alarm, .sa_flags = SA_ONSTACK };
		stack_t stack = { .ss_size = HANDLER_STACK };

		stack.ss_sp = handler_stack = aligned_alloc(PAGE, HANDLER_STACK);
		BUSY_HOLDS(handler_stack && sigaltstack(&stack, NULL) == 0);
		BUSY_HOLDS(sigaction(SIGALRM, &action, NULL) == 0);
	}
	BUSY_HOLDS(raise(SIGALRM) == 0 && handled == before + 1);
	return descend(busy_random() % DEPTH_MAX, busy_random());
}

static bool stacks_all(void *ctx)
{
	(void)ctx;
	return descend(DEPTH_MAX, busy_random());
}

static void stacks_plant(void *ctx, enum plant how)
{
	(void)ctx;
	spoil_a_frame = how;
}

static const struct busy_work stacks_work = { stacks_step, stacks_all, stacks_plant };

static void workload_setup(int argc, char **argv)
{
	(void)argc, (void)argv;
	busy_init(-1);
	start_guards();
	start_locked();
	/* A process: only a first thread has the kind of stack that grows. */
	(void)busy_process(&stacks_work, NULL);
}

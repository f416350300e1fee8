#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "criu-glue/bpf/vma_flags_shared.h"
#include "criu-glue/shim/shim.h"
#include "criu-glue/smaps_learn.h"
#include "engine/base/cleanup.h"
#include "engine/base/fd.h"

#define LIMIT (8 << 20)
#define SMAPS_FD 10
#define MANY 1000

extern const char shim_file[];		/* of worker.c */
extern const uint64_t shim_bytes;

static struct smaps smaps = SMAPS_EMPTY;

/* ---- a program with mappings of many kinds ---- */

static char *map(size_t pages, int prot, int flags)
{
	char *p = mmap(NULL, pages * 4096, prot, flags | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		_exit(1);
	return p;
}

static void change_flags_in_the_middle(int advice)
{
	char *p = map(9, PROT_READ | PROT_WRITE, MAP_PRIVATE);

	memset(p, 1, 9 * 4096);
	(void)madvise(p + 3 * 4096, 2 * 4096, advice);
}

static pid_t start_program(void)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		const int advices[] = { MADV_DONTFORK, MADV_DONTDUMP, MADV_SEQUENTIAL, MADV_RANDOM, MADV_WIPEONFORK,
					MADV_HUGEPAGE, MADV_NOHUGEPAGE };

		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (size_t i = 0; i < sizeof(advices) / sizeof(*advices); i++)
			change_flags_in_the_middle(advices[i]);
		for (size_t i = 0; i < MANY; i++)	/* more than one read of the iterator tells */
			change_flags_in_the_middle(MADV_DONTDUMP);
		(void)map(3, PROT_NONE, MAP_PRIVATE);
		(void)map(3, PROT_READ | PROT_EXEC, MAP_PRIVATE);
		(void)map(3, PROT_READ | PROT_WRITE, MAP_SHARED);
		(void)map(3, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE);
		(void)mlock(map(3, PROT_READ | PROT_WRITE, MAP_PRIVATE), 4096);
		(void)raise(SIGSTOP);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
	assert_true(WIFSTOPPED(status));
	return pid;
}

static void stop(pid_t pid)
{
	(void)kill(pid, SIGKILL);
	(void)waitpid(pid, NULL, 0);
}

/* Mapping lines and flags of the kernel's own smaps. */
static char *kernel_says(pid_t pid)
{
	CLEANUP(freep) char *text = NULL;
	char path[64], *kept = NULL, *save = NULL;
	uint64_t start, end;
	size_t size;
	struct error err;
	FILE *out = open_memstream(&kept, &size);

	(void)snprintf(path, sizeof(path), "/proc/%d/smaps", (int)pid);
	assert_int_equal(fd_read_file_at(-EBADF, path, LIMIT, &text, NULL, &err), 0);
	for (char *l = strtok_r(text, "\n", &save); l; l = strtok_r(NULL, "\n", &save))
		if (smaps_is_mapping(l, &start, &end) || !strncmp(l, "VmFlags:", 8))
			(void)fprintf(out, "%s\n", l);
	(void)fclose(out);
	return kept;
}

static int we_say(pid_t pid, const struct smaps_names *names, char **ret)
{
	char path[64];
	size_t size;
	FILE *records = smaps_iterate(smaps.program_fd, pid), *out = open_memstream(ret, &size), *maps;
	int r;

	(void)snprintf(path, sizeof(path), "/proc/%d/maps", (int)pid);
	maps = fopen(path, "re");
	assert_true(records && maps && out);
	r = smaps_write(names, records, maps, out);
	(void)fclose(records);
	(void)fclose(maps);
	(void)fclose(out);
	return r;
}

static void it_says_what_the_kernel_says(void **state)
{
	CLEANUP(freep) char *theirs = NULL;
	CLEANUP(freep) char *ours = NULL;
	struct smaps_names names;
	struct error err;
	pid_t pid = start_program();

	(void)state;
	assert_int_equal(smaps_names(&smaps, &names, &err), 0);
	theirs = kernel_says(pid);
	assert_int_equal(we_say(pid, &names, &ours), 0);
	assert_string_equal(ours, theirs);
	assert_non_null(strstr(ours, " wf "));
	stop(pid);
}

static void a_flag_without_a_name_is_refused(void **state)
{
	CLEANUP(freep) char *ours = NULL;
	char text[SMAPS_TEXT];
	struct smaps_names names;
	struct error err;
	pid_t pid = start_program();

	(void)state;
	assert_int_equal(smaps_names(&smaps, &names, &err), 0);
	assert_int_equal(smaps_name_flags(&names, 3, text), 0);
	assert_string_equal(text, "rd wr ");
	for (int bit = 0; bit < SMAPS_FLAGS; bit++)
		if (!memcmp(names.of_flag[bit], "wf", 2))
			names.of_flag[bit][0] = 0;
	assert_int_equal(we_say(pid, &names, &ours), -ENOENT);
	stop(pid);
}

/* ---- lines and records that don't fit ---- */

static int write_for(const char *maps, const struct vma_record *records, size_t n)
{
	const struct smaps_names names = { .of_flag = { "rd", "wr" }, .gate_start = 0xf000, .gate_end = 0xf100,
					   .gate_flags = "ex " };
	char text[512] = "";
	FILE *m = fmemopen((void *)(uintptr_t)maps, strlen(maps), "r"), *out = fmemopen(text, sizeof(text), "w");
	FILE *r = tmpfile();
	int result;

	assert_true(m && out && r);
	assert_int_equal(fwrite(records, sizeof(*records), n, r), n);
	rewind(r);
	result = smaps_write(&names, r, m, out);
	(void)fclose(m);
	(void)fclose(r);
	(void)fclose(out);
	return result;
}

static void what_does_not_fit_is_refused(void **state)
{
	static const char two[] = "1000-2000 rw-p 0 00:00 0 \n3000-4000 r--p 0 00:00 0 [heap]\n"
				  "f000-f100 --xp 0 00:00 0\n";
	const struct vma_record good[] = { { 0x1000, 0x2000, 3 }, { 0x3000, 0x4000, 1 }, { 0x5000, 0x6000, 1 } };
	const struct vma_record grown[] = { { 0x1000, 0x2800, 3 }, { 0x3000, 0x4000, 1 } };

	(void)state;
	assert_int_equal(write_for(two, good, 2), 0);
	assert_int_equal(write_for(two, good, 1), -EPROTO);
	assert_int_equal(write_for(two, good, 3), -EPROTO);
	assert_int_equal(write_for(two, grown, 2), -EPROTO);
	assert_int_equal(write_for("nonsense\n", good, 1), -EPROTO);
}

/* ---- inside CRIU: a program with the shim in it asks for our smaps ---- */

static int child_of_the_shim(void)
{
	char text[4096];
	int folder, smaps_fd;
	ssize_t n;

	(void)snprintf(text, sizeof(text), "/proc/%s", getenv("SHIM_CHILD"));
	folder = open64(text, O_PATH | O_DIRECTORY);
	smaps_fd = openat64(folder, "smaps", O_RDONLY);
	while ((n = read(smaps_fd, text, sizeof(text))) > 0)
		(void)!write(1, text, (size_t)n);
	return n < 0;
}

static char *ask_with_shim(const char *descriptors, pid_t whom)
{
	static char text[LIMIT];
	char preload[64], subject[64];
	int out[2], library = memfd_create("shim", 0), status;
	size_t len = 0;
	ssize_t n;
	pid_t pid;

	assert_int_equal(write(library, shim_file, shim_bytes), (ssize_t)shim_bytes);
	(void)snprintf(preload, sizeof(preload), "LD_PRELOAD=/proc/self/fd/%d", library);
	(void)snprintf(subject, sizeof(subject), "SHIM_CHILD=%d", (int)whom);
	assert_int_equal(pipe(out), 0);
	pid = fork();
	if (pid == 0) {
		char *env[] = { preload, (char *)(uintptr_t)descriptors, subject,
				(char[]){ "ASAN_OPTIONS=verify_asan_link_order=0" }, NULL };
		char *argv[] = { (char[]){ "shim" }, NULL };

		(void)dup2(smaps.program_fd, SMAPS_FD);
		(void)dup2(smaps.names_fd, SMAPS_FD + 1);
		(void)dup2(out[1], 1);
		(void)execve("/proc/self/exe", argv, env);
		_exit(1);
	}
	(void)close(out[1]);
	while ((n = read(out[0], text + len, sizeof(text) - 1 - len)) > 0)
		len += (size_t)n;
	text[len] = '\0';
	(void)close(out[0]);
	(void)close(library);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	return text;
}

static void the_shim_answers(void **state)
{
	pid_t pid = start_program();
	const char *text = ask_with_shim(SHIM_SMAPS "=10", pid);

	(void)state;
	assert_non_null(strstr(text, "VmFlags: rd "));
	assert_null(strstr(text, "Rss:"));
	/* Without it the kernel does. */
	text = ask_with_shim("NOTHING=1", pid);
	assert_non_null(strstr(text, "VmFlags: rd "));
	assert_non_null(strstr(text, "Rss:"));
	stop(pid);
}

static int open_smaps(void **state)
{
	struct error err;

	(void)state;
	return smaps_open(&smaps, &err);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_says_what_the_kernel_says),
		cmocka_unit_test(a_flag_without_a_name_is_refused),
		cmocka_unit_test(what_does_not_fit_is_refused),
		cmocka_unit_test(the_shim_answers),
	};
	struct error err;

	if (getenv("SHIM_CHILD"))
		return child_of_the_shim();
	if (smaps_open(&smaps, &err) == -EOPNOTSUPP) {
		(void)fprintf(stderr, "skipped: %s\n", err.msg);
		return 77;
	}
	smaps_closep(&smaps);
	return cmocka_run_group_tests(tests, open_smaps, NULL);
}

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "criu-glue/bpf/vma_flags_shared.h"
#include "criu-glue/smaps_learn.h"
#include "engine/base/cleanup.h"
#include "engine/base/fd.h"
#include "criu-glue/vma_flags.skel.h"	/* a light skeleton, as in engine/network/gate.c */

#define SMAPS_LIMIT (16u << 20)
#define VMAS_MAX 4096
#define SAMPLE_BYTES 4096
#define SLACK 8			/* mappings that came or went while we looked */

/* Mappings of this process with flags that those of a program may have. */
static const struct sample {
	int flags, advice;		/* of mmap and madvise */
	bool lock;
} samples[] = {
	{ MAP_PRIVATE, MADV_NORMAL, false },	/* and watched by a userfaultfd */
	{ MAP_PRIVATE, MADV_SEQUENTIAL, false },
	{ MAP_PRIVATE, MADV_RANDOM, false },
	{ MAP_PRIVATE, MADV_DONTFORK, false },
	{ MAP_PRIVATE, MADV_WIPEONFORK, false },
	{ MAP_PRIVATE, MADV_DONTDUMP, false },
	{ MAP_PRIVATE, MADV_HUGEPAGE, false },
	{ MAP_PRIVATE, MADV_NOHUGEPAGE, false },
	{ MAP_PRIVATE, MADV_MERGEABLE, false },
	{ MAP_PRIVATE, MADV_NORMAL, true },
	{ MAP_PRIVATE | MAP_NORESERVE, MADV_NORMAL, false },
	{ MAP_PRIVATE | MAP_GROWSDOWN, MADV_NORMAL, false },
	{ MAP_PRIVATE | MAP_HUGETLB | MAP_NORESERVE, MADV_NORMAL, false },
	{ MAP_SHARED, MADV_NORMAL, false },
};
#define N_SAMPLES (sizeof(samples) / sizeof(*samples))

struct learner {
	int program_fd;
	struct smaps_names *names;
	void *made[N_SAMPLES];
	size_t lens[N_SAMPLES];
	int uffd;
	struct vma_record records[VMAS_MAX];
	size_t n;
	size_t n_lines;			/* in smaps */
};

/* As the tracker of writes has those of a container. */
static void watch_sample(struct learner *l, void *sample)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = { .range = { (uintptr_t)sample, SAMPLE_BYTES },
				       .mode = UFFDIO_REGISTER_MODE_WP | UFFDIO_REGISTER_MODE_MISSING };

	l->uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
	if (l->uffd >= 0 && ioctl(l->uffd, UFFDIO_API, &api) == 0)
		(void)ioctl(l->uffd, UFFDIO_REGISTER, &reg);
}

/* One that the kernel refuses teaches nothing. Each is apart from the others by
 * its flags, so that they don't become one. */
static void make_samples(struct learner *l)
{
	for (size_t i = 0; i < N_SAMPLES; i++) {
		const struct sample *s = &samples[i];
		void *p;

		l->lens[i] = s->flags & MAP_HUGETLB ? 2u << 20 : SAMPLE_BYTES;
		p = mmap(NULL, l->lens[i], PROT_READ | PROT_WRITE, s->flags | MAP_ANONYMOUS, -1, 0);
		l->made[i] = p;
		if (p == MAP_FAILED)
			continue;
		(void)madvise(p, l->lens[i], s->advice);
		if (s->lock)
			(void)mlock(p, l->lens[i]);
	}
	watch_sample(l, l->made[0]);
}

static void unmake_samples(struct learner *l)
{
	fd_close(&l->uffd);
	for (size_t i = 0; i < N_SAMPLES; i++)
		if (l->made[i] != MAP_FAILED)
			(void)munmap(l->made[i], l->lens[i]);
}

static int read_records(struct learner *l, struct error *err)
{
	CLEANUP(file_closep) FILE *f = smaps_iterate(l->program_fd, getpid());

	if (!f)
		return error_set(err, EOPNOTSUPP, "iterate over mappings: %s", strerror(errno));
	l->n = fread(l->records, sizeof(*l->records), VMAS_MAX, f);
	return ferror(f) || !feof(f) ? error_set(err, EOPNOTSUPP, "iterate over mappings: too many") : 0;
}

static const struct vma_record *find(const struct learner *l, uint64_t start, uint64_t end)
{
	for (size_t i = 0; i < l->n; i++)
		if (l->records[i].start == start && l->records[i].end == end)
			return &l->records[i];
	return NULL;
}

/* Names stand in the order of the bits. Where not all bits have one, nobody
 * knows which. */
static int learn_mapping(struct smaps_names *names, uint64_t flags, const char *text,
			 struct error *err)
{
	size_t n = (size_t)__builtin_popcountll(flags), i = 0;

	if (strlen(text) != n * 3)
		return 0;
	for (int bit = 0; bit < SMAPS_FLAGS; bit++) {
		char *known = names->of_flag[bit];
		const char *name = text + i * 3;

		if (!(flags >> bit & 1))
			continue;
		i++;
		if (name[0] < 'a' || name[0] > 'z' || name[1] < 'a' || name[1] > 'z' || name[2] != ' ')
			return 0;
		if (known[0] && memcmp(known, name, 2) != 0)
			return error_set(err, EOPNOTSUPP, "flag %d has two names in smaps", bit);
		memcpy(known, name, 2);
	}
	return 0;
}

/* What was learnt of all mappings must say of each what the kernel says. */
static int check_mapping(struct smaps_names *names, uint64_t flags, const char *text,
			 struct error *err)
{
	char ours[SMAPS_TEXT];

	if (smaps_name_flags(names, flags, ours) == 0 && strcmp(ours, text) != 0)
		return error_set(err, EOPNOTSUPP, "flags %llx of a mapping are '%s' in smaps, not '%s'",
				 (unsigned long long)flags, text, ours);
	return 0;
}

static void learn_gate(struct smaps_names *names, uint64_t start, uint64_t end, const char *flags)
{
	names->gate_start = start;
	names->gate_end = end;
	(void)snprintf(names->gate_flags, sizeof(names->gate_flags), "%s", flags);
}

typedef int (*mapping_fn)(struct smaps_names *names, uint64_t flags, const char *text,
			  struct error *err);

/* Calls fn for each mapping that smaps and the iterator tell. */
static int walk(struct learner *l, const char *smaps, mapping_fn fn, struct error *err)
{
	static const char key[] = "\nVmFlags: ";
	const char *next = smaps;
	uint64_t start, end;

	for (l->n_lines = 0; smaps_is_mapping(next, &start, &end); l->n_lines++) {
		const struct vma_record *record = find(l, start, end);
		const char *flags = strstr(next, key), *stop = flags ? strchr(flags + 1, '\n') : NULL;
		char text[SMAPS_TEXT];

		if (!stop || (size_t)(stop - flags) >= sizeof(text))
			return error_set(err, EOPNOTSUPP, "smaps has no flags");
		flags += sizeof(key) - 1;
		(void)snprintf(text, sizeof(text), "%.*s", (int)(stop - flags), flags);
		if (record && fn(l->names, record->flags, text, err) < 0)
			return -err->code;
		if (start >> 63)	/* the kernel's half of the addresses */
			learn_gate(l->names, start, end, text);
		next = stop + 1;
	}
	return 0;
}

static int learn(struct learner *l, struct error *err)
{
	CLEANUP(freep) char *smaps = NULL;

	if (fd_read_file_at(-EBADF, "/proc/self/smaps", SMAPS_LIMIT, &smaps, NULL, err) < 0 ||
	    read_records(l, err) < 0 || walk(l, smaps, learn_mapping, err) < 0)
		return -err->code;
	/* A kernel that doesn't know of single tasks tells of all. */
	if (l->n > l->n_lines + SLACK)
		return error_set(err, EOPNOTSUPP, "iterate over mappings: other tasks' came too");
	return walk(l, smaps, check_mapping, err);
}

static int keep_names(const struct smaps_names *names, struct smaps *ret, struct error *err)
{
	ret->names_fd = memfd_create("godwit-smaps", MFD_CLOEXEC);
	if (ret->names_fd < 0)
		return error_set(err, errno, "memfd_create: %s", strerror(errno));
	return fd_write_full(ret->names_fd, names, sizeof(*names), err);
}

static int load(struct vma_flags_program *program, struct smaps *ret, struct error *err)
{
	int r = vma_flags_program__load(program);

	if (r < 0)
		return error_set(err, EOPNOTSUPP, "load the iterator over mappings: %s", strerror(-r));
	ret->program_fd = fcntl(program->progs.tell.prog_fd, F_DUPFD_CLOEXEC, 0);
	return ret->program_fd < 0 ? error_set(err, errno, "dup: %s", strerror(errno)) : 0;
}

int smaps_open(struct smaps *ret, struct error *err)
{
	CLEANUP(smaps_closep) struct smaps s = SMAPS_EMPTY;
	CLEANUP(freep) struct learner *l = calloc(1, sizeof(*l));
	struct vma_flags_program *program = vma_flags_program__open();
	struct smaps_names names = { 0 };
	int r = -ENOMEM;

	if (program && l)
		r = load(program, &s, err);
	else
		(void)error_set(err, ENOMEM, "out of memory");
	vma_flags_program__destroy(program);
	if (r < 0)
		return r;
	l->names = &names;
	l->program_fd = s.program_fd;
	l->uffd = -EBADF;
	make_samples(l);
	r = learn(l, err);
	unmake_samples(l);
	if (r < 0 || keep_names(&names, &s, err) < 0)
		return -err->code;
	*ret = s;
	s = (struct smaps)SMAPS_EMPTY;
	return 0;
}

void smaps_closep(struct smaps *s)
{
	fd_close(&s->program_fd);
	fd_close(&s->names_fd);
}

int smaps_names(const struct smaps *s, struct smaps_names *ret, struct error *err)
{
	if (pread(s->names_fd, ret, sizeof(*ret), 0) != sizeof(*ret))
		return error_set(err, EIO, "names of flags: %s", strerror(errno));
	return 0;
}

#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "criu-glue/bpf/vma_flags_shared.h"
#include "criu-glue/smaps.h"
#include "engine/base/cleanup.h"

/* link_info.task of Linux 6.1, which older headers don't have. */
struct one_task {
	uint32_t tid, pid, pid_fd, rest;
};

static int bpf(int command, union bpf_attr *attr)
{
	return (int)syscall(SYS_bpf, command, attr, sizeof(*attr));
}

FILE *smaps_iterate(int program_fd, pid_t pid)
{
	struct one_task task = { .tid = (uint32_t)pid };
	union bpf_attr link = { .link_create = {
		.prog_fd = (uint32_t)program_fd, .attach_type = BPF_TRACE_ITER,
		.iter_info = (uintptr_t)&task, .iter_info_len = sizeof(task) } };
	union bpf_attr iter = { 0 };
	int link_fd = bpf(BPF_LINK_CREATE, &link), fd;
	FILE *f;

	if (link_fd < 0)
		return NULL;
	iter.iter_create.link_fd = (uint32_t)link_fd;
	fd = bpf(BPF_ITER_CREATE, &iter);
	(void)close(link_fd);
	f = fd < 0 ? NULL : fdopen(fd, "r");
	if (fd >= 0 && !f)
		(void)close(fd);
	return f;
}

bool smaps_is_mapping(const char *line, uint64_t *ret_start, uint64_t *ret_end)
{
	char *end;

	*ret_start = strtoull(line, &end, 16);
	if (end == line || *end != '-')
		return false;
	line = end + 1;
	*ret_end = strtoull(line, &end, 16);
	return end > line && *end == ' ';
}

int smaps_name_flags(const struct smaps_names *names, uint64_t flags, char ret[SMAPS_TEXT])
{
	char *at = ret;

	for (int bit = 0; bit < SMAPS_FLAGS; bit++) {
		if (!(flags >> bit & 1))
			continue;
		if (!names->of_flag[bit][0])
			return -ENOENT;
		*at++ = names->of_flag[bit][0];
		*at++ = names->of_flag[bit][1];
		*at++ = ' ';
	}
	*at = '\0';
	return 0;
}

/* The flags of the mapping that a line of maps tells; *last is its record. */
static int flags_of(const struct smaps_names *names, const char *line, FILE *records,
		    struct vma_record *last, char ret[SMAPS_TEXT])
{
	uint64_t start, end;

	if (!smaps_is_mapping(line, &start, &end))
		return -EPROTO;
	if (names->gate_end && start == names->gate_start && end == names->gate_end) {
		(void)snprintf(ret, SMAPS_TEXT, "%s", names->gate_flags);
		return 0;
	}
	if (fread(last, sizeof(*last), 1, records) != 1 || last->start != start || last->end != end)
		return -EPROTO;
	return smaps_name_flags(names, last->flags, ret);
}

int smaps_write(const struct smaps_names *names, FILE *records, FILE *maps, FILE *out)
{
	struct vma_record last = { 0 }, more;
	char *line = NULL;
	size_t size = 0;
	int r = 0;

	while (r == 0 && getline(&line, &size, maps) > 0) {
		char flags[SMAPS_TEXT];

		r = flags_of(names, line, records, &last, flags);
		if (r == 0 && fprintf(out, "%sVmFlags: %s\n", line, flags) < 0)
			r = -EIO;
	}
	free(line);
	/* Who reads on at the end of the one task gets some of it once more. */
	if (r == 0 && fread(&more, sizeof(more), 1, records) == 1 && more.start >= last.end)
		r = -EPROTO;
	if (r == 0 && (ferror(maps) || ferror(records) || fflush(out)))
		r = -EIO;
	return r;
}

int smaps_make(const struct smaps_names *names, int program_fd, int proc_fd, pid_t pid)
{
	CLEANUP(fd_closep) int maps_fd = openat(proc_fd, "maps", O_RDONLY | O_CLOEXEC);
	CLEANUP(fd_closep) int text = memfd_create("smaps", MFD_CLOEXEC);
	CLEANUP(file_closep) FILE *maps = maps_fd < 0 ? NULL : fdopen(maps_fd, "r");
	CLEANUP(file_closep) FILE *records = smaps_iterate(program_fd, pid);
	int copy = text < 0 ? -1 : dup(text);
	CLEANUP(file_closep) FILE *out = copy < 0 ? NULL : fdopen(copy, "w");

	if (maps)
		(void)TAKE_FD(maps_fd);
	if (!maps || !records || !out || smaps_write(names, records, maps, out) < 0 ||
	    lseek(text, 0, SEEK_SET) < 0)
		return -1;
	return TAKE_FD(text);
}

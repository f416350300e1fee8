/*
 * smaps.h - what CRIU reads in /proc/PID/smaps, without a look at the pages
 *
 * CRIU needs each mapping's line and its "VmFlags:". The kernel tells both in
 * smaps only, and there it first counts the mapping's pages one by one: 8 to 12
 * ms a GiB, while the tasks stand still. The line alone stands in /proc/PID/maps;
 * the flags come, as numbers, from a BPF iterator (bpf/vma_flags.bpf.c), which
 * knows them of the very moment at which it is read. What a number is called in
 * VmFlags is learnt from the running kernel (smaps_learn.h), never assumed.
 *
 * Whatever doesn't fit - a flag that has no name yet, a mapping that only one of
 * the two tells, an iterator that the kernel doesn't have - is an error, and
 * CRIU gets the kernel's own smaps: slower, the same. proc_pid_smaps(5).
 *
 * Also compiled into the shim inside CRIU: no struct error, and nothing stays
 * allocated.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

enum { SMAPS_FLAGS = 64, SMAPS_TEXT = SMAPS_FLAGS * 3 + 1 };

struct smaps_names {
	char of_flag[SMAPS_FLAGS][2];	/* by bit; 0: not known */
	/* The kernel's own page in every process (vsyscall), which is no mapping and
	 * which the iterator doesn't know; none where end is 0. */
	uint64_t gate_start, gate_end;
	char gate_flags[SMAPS_TEXT];	/* as in VmFlags */
};

/* The records (struct vma_record) of one task's mappings; NULL with errno. */
FILE *smaps_iterate(int program_fd, pid_t pid);

/* "rd wr mr mw me ac " for a mapping's flags. -ENOENT when one has no name. */
int smaps_name_flags(const struct smaps_names *names, uint64_t flags, char ret[SMAPS_TEXT]);

/* Writes each line of maps (/proc/PID/maps) and one of VmFlags below it. The
 * process must not run. -EPROTO when lines and records don't fit, -ENOENT for a
 * flag without a name. */
int smaps_write(const struct smaps_names *names, FILE *records, FILE *maps, FILE *out);

/* The same for the task whose /proc/PID is proc_fd (borrowed): a new descriptor at
 * the begin of the text, or -1. */
int smaps_make(const struct smaps_names *names, int program_fd, int proc_fd, pid_t pid);

/* "START-END ...": the line of a mapping, in maps as in smaps. */
bool smaps_is_mapping(const char *line, uint64_t *ret_start, uint64_t *ret_end);

/*
 * vma_flags_shared.h - what the program in vma_flags.bpf.c tells of a mapping
 */
#pragma once

#include <stdint.h>

struct vma_record {
	uint64_t start, end;
	uint64_t flags;			/* the kernel's vm_flags */
};

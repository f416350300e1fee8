#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "criu-glue/bpf/vma_flags_shared.h"

/*
 * A BPF iterator over the mappings of a task, see bpf-helpers(7) and
 * Documentation/bpf/bpf_iterators.rst. Of the kernel's structures only what is
 * needed; where it is, the kernel's own types tell when this is loaded.
 */
struct vm_area_struct {
	unsigned long vm_start, vm_end, vm_flags;
} __attribute__((preserve_access_index));

struct bpf_iter_meta {
	struct seq_file *seq;
} __attribute__((preserve_access_index));

struct bpf_iter__task_vma {
	struct bpf_iter_meta *meta;
	struct vm_area_struct *vma;
} __attribute__((preserve_access_index));

SEC("iter/task_vma")
int tell(struct bpf_iter__task_vma *ctx)
{
	const struct vm_area_struct *vma = ctx->vma;
	struct vma_record record;

	if (!vma)
		return 0;
	record.start = vma->vm_start;
	record.end = vma->vm_end;
	record.flags = vma->vm_flags;
	bpf_seq_write(ctx->meta->seq, &record, sizeof(record));
	return 0;
}

/* bpf_seq_write is for such programs only. */
char dual[] SEC("license") = "Dual BSD/GPL";

#include <errno.h>
#include <linux/bpf.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "engine/base/cleanup.h"
#include "engine/devices.h"

#define ANY (-1)

static const struct rule {
	int32_t major;
	int32_t minor;
} rules[] = {
	{ 1, 3 },     /* null */
	{ 1, 5 },     /* zero */
	{ 1, 7 },     /* full */
	{ 1, 8 },     /* random */
	{ 1, 9 },     /* urandom */
	{ 5, 0 },     /* tty */
	{ 5, 1 },     /* console */
	{ 5, 2 },     /* ptmx */
	{ 136, ANY }, /* pts */
};

#define RULES (sizeof(rules) / sizeof(*rules))
#define RULE_LEN 4 /* instructions of a rule at most */
#define PROGRAM_MAX (12 + RULE_LEN * RULES + 2)

/* Registers: 1 the context, then what is read from it. */
enum { RESULT, CONTEXT, TYPE, ACCESS, MAJOR, MINOR };

struct program {
	struct bpf_insn code[PROGRAM_MAX];
	size_t len;
};

static void emit(struct program *p, struct bpf_insn insn)
{
	p->code[p->len++] = insn;
}

static void emit_load(struct program *p, uint8_t reg, size_t offset)
{
	emit(p, (struct bpf_insn){ .code = BPF_LDX | BPF_W | BPF_MEM,
				   .dst_reg = reg & 15,
				   .src_reg = CONTEXT,
				   .off = (int16_t)offset });
}

/* reg = reg OP value */
static void emit_math(struct program *p, uint8_t op, uint8_t reg, int32_t value)
{
	emit(p,
	     (struct bpf_insn){ .code = BPF_ALU | BPF_K | op, .dst_reg = reg & 15, .imm = value });
}

/* if (reg OP value) skip as many instructions */
static void emit_skip(struct program *p, uint8_t op, uint8_t reg, int32_t value, int16_t skip)
{
	emit(p, (struct bpf_insn){ .code = BPF_JMP | BPF_K | op,
				   .dst_reg = reg & 15,
				   .off = skip,
				   .imm = value });
}

static void emit_return(struct program *p, int32_t result)
{
	emit(p, (struct bpf_insn){
			.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = RESULT, .imm = result });
	emit(p, (struct bpf_insn){ .code = BPF_JMP | BPF_EXIT });
}

static void emit_rule(struct program *p, const struct rule *r)
{
	int16_t rest = r->minor == ANY ? 2 : 3;

	emit_skip(p, BPF_JNE, MAJOR, r->major, rest);
	if (r->minor != ANY)
		emit_skip(p, BPF_JNE, MINOR, r->minor, 2);
	emit_return(p, 1);
}

/*
 *	if (access == mknod) return 1;
 *	if (type == char) { if (major == 1 && minor == 3) return 1; ... }
 *	return 0;
 */
static void build(struct program *p)
{
	const size_t packed = offsetof(struct bpf_cgroup_dev_ctx, access_type);

	emit_load(p, ACCESS, packed);
	emit_math(p, BPF_RSH, ACCESS, 16);
	emit_skip(p, BPF_JNE, ACCESS, BPF_DEVCG_ACC_MKNOD, 2);
	emit_return(p, 1);
	emit_load(p, TYPE, packed);
	emit_math(p, BPF_AND, TYPE, 0xffff);
	emit_load(p, MAJOR, offsetof(struct bpf_cgroup_dev_ctx, major));
	emit_load(p, MINOR, offsetof(struct bpf_cgroup_dev_ctx, minor));
	emit_skip(p, BPF_JEQ, TYPE, BPF_DEVCG_DEV_CHAR, 2);
	emit_return(p, 0);
	for (size_t i = 0; i < RULES; i++)
		emit_rule(p, &rules[i]);
	emit_return(p, 0);
}

/* Plain bpf(2): libbpf first tries out for 0.2 ms whether the kernel counts
 * memory by RLIMIT_MEMLOCK, which none with cgroup.kill does. */
static int bpf(enum bpf_cmd cmd, union bpf_attr *attr)
{
	long r = syscall(SYS_bpf, cmd, attr, sizeof(*attr));

	return r < 0 ? -errno : (int)r;
}

static int load(const struct program *p)
{
	union bpf_attr attr = {
		.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE,
		.insns = (uint64_t)(uintptr_t)p->code,
		.insn_cnt = (uint32_t)p->len,
		.license = (uint64_t)(uintptr_t) "Apache-2.0",
		.prog_name = "godwit_devices",
	};

	return bpf(BPF_PROG_LOAD, &attr);
}

/* Without flags, a program replaces the one that was there. */
static int attach(int program_fd, int cgroup_fd)
{
	union bpf_attr attr = {
		.target_fd = (uint32_t)cgroup_fd,
		.attach_bpf_fd = (uint32_t)program_fd,
		.attach_type = BPF_CGROUP_DEVICE,
	};

	return bpf(BPF_PROG_ATTACH, &attr);
}

int devices_attach_default(int cgroup_fd, struct error *err)
{
	struct program p = { .len = 0 };
	CLEANUP(fd_closep) int fd = -EBADF;
	int r;

	build(&p);
	fd = load(&p);
	if (fd < 0)
		return error_set(err, -fd, "load the device program: %s%s", strerror(-fd),
				 fd == -EINVAL ? ": the kernel needs CONFIG_CGROUP_BPF" : "");
	r = attach(fd, cgroup_fd);
	if (r < 0)
		return error_set(
			err, -r, "attach the device program to the cgroup: %s%s", strerror(-r),
			r == -EPERM ? ": a cgroup above has one that must not be replaced" : "");
	return 0;
}

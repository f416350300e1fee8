#include <errno.h>
#include <linux/bpf.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "engine/base/cleanup.h"
#include "engine/devices.h"

#define ANY DEVICE_ANY
#define RULE(c, major, minor) { true, c, major, minor, DEVICE_READ | DEVICE_WRITE | DEVICE_MKNOD }

/* Also what runtime-spec's "Default Devices" are. */
static const struct device_rule defaults[] = {
	{ true, 'a', ANY, ANY, DEVICE_MKNOD },
	RULE('c', 1, 3),     /* null */
	RULE('c', 1, 5),     /* zero */
	RULE('c', 1, 7),     /* full */
	RULE('c', 1, 8),     /* random */
	RULE('c', 1, 9),     /* urandom */
	RULE('c', 5, 0),     /* tty */
	RULE('c', 5, 1),     /* console */
	RULE('c', 5, 2),     /* ptmx */
	RULE('c', 136, ANY), /* pts */
};

#define DEFAULTS (sizeof(defaults) / sizeof(*defaults))
#define RULE_LEN 7 /* instructions of a rule at most */
#define PROGRAM_LEN(rules) (5 + RULE_LEN * (rules) + 2)

/* Registers: 1 the context, then what is read from it. */
enum { RESULT, CONTEXT, TYPE, ACCESS, MAJOR, MINOR };

struct program {
	struct bpf_insn *code;
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

/* Bits of ACCESS that an earlier rule allowed are gone; the first rule that speaks
 * about one that is left decides it. */
static void emit_rule(struct program *p, const struct device_rule *r)
{
	int16_t rest = 4 + (r->type != 'a') + (r->major != ANY) + (r->minor != ANY);

	if (r->type != 'a')
		emit_skip(p, BPF_JNE, TYPE, r->type == 'c' ? BPF_DEVCG_DEV_CHAR : BPF_DEVCG_DEV_BLOCK, --rest);
	if (r->major != ANY)
		emit_skip(p, BPF_JNE, MAJOR, r->major, --rest);
	if (r->minor != ANY)
		emit_skip(p, BPF_JNE, MINOR, r->minor, --rest);
	if (r->allow) {
		emit_math(p, BPF_AND, ACCESS, ~(int32_t)r->access);
		emit_skip(p, BPF_JNE, ACCESS, 0, 2);
	} else {
		emit_skip(p, BPF_JSET, ACCESS, (int32_t)r->access, 1);
		emit(p, (struct bpf_insn){ .code = BPF_JMP | BPF_JA, .off = 2 });
	}
	emit_return(p, r->allow);
}

/* The last rule that matches is the one that holds, so they are asked backwards. */
static void build(struct program *p, const struct device_rule *rules, size_t n)
{
	const size_t packed = offsetof(struct bpf_cgroup_dev_ctx, access_type);

	emit_load(p, ACCESS, packed);
	emit_math(p, BPF_RSH, ACCESS, 16);
	emit_load(p, TYPE, packed);
	emit_math(p, BPF_AND, TYPE, 0xffff);
	emit_load(p, MAJOR, offsetof(struct bpf_cgroup_dev_ctx, major));
	emit_load(p, MINOR, offsetof(struct bpf_cgroup_dev_ctx, minor));
	while (n-- > 0)
		emit_rule(p, &rules[n]);
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
static int attach(int program_fd, int cgroup_fd, uint32_t flags)
{
	union bpf_attr attr = {
		.target_fd = (uint32_t)cgroup_fd,
		.attach_bpf_fd = (uint32_t)program_fd,
		.attach_type = BPF_CGROUP_DEVICE,
		.attach_flags = flags,
	};

	return bpf(BPF_PROG_ATTACH, &attr);
}

static int attach_rules(int cgroup_fd, const struct device_rule *rules, size_t n, uint32_t flags, struct error *err)
{
	CLEANUP(freep) struct bpf_insn *code = calloc(PROGRAM_LEN(n + 1), sizeof(*code));
	struct program p = { .code = code };
	CLEANUP(fd_closep) int fd = -EBADF;
	int r;

	if (!code)
		return error_set(err, ENOMEM, "out of memory");
	build(&p, rules, n);
	fd = load(&p);
	if (fd < 0)
		return error_set(err, -fd, "load the device program: %s%s", strerror(-fd),
				 fd == -EINVAL ? ": the kernel needs CONFIG_CGROUP_BPF" : "");
	r = attach(fd, cgroup_fd, flags);
	if (r < 0)
		return error_set(
			err, -r, "attach the device program to the cgroup: %s%s", strerror(-r),
			r == -EPERM ? ": a cgroup above has one that must not be replaced" : "");
	return 0;
}

int devices_attach(int cgroup_fd, const struct device_rule *rules, size_t n, struct error *err)
{
	return attach_rules(cgroup_fd, rules, n, 0, err);
}

int devices_attach_default_above(int cgroup_fd, struct error *err)
{
	return attach_rules(cgroup_fd, defaults, DEFAULTS, BPF_F_ALLOW_MULTI, err);
}

int devices_attach_default(int cgroup_fd, struct error *err)
{
	return devices_attach(cgroup_fd, defaults, DEFAULTS, err);
}

int devices_attach_with_default(int cgroup_fd, const struct device_rule *rules, size_t n, struct error *err)
{
	CLEANUP(freep) struct device_rule *all = calloc(n + DEFAULTS, sizeof(*all));

	if (!all)
		return error_set(err, ENOMEM, "out of memory");
	if (n)
		memcpy(all, rules, n * sizeof(*all));
	memcpy(all + n, defaults, sizeof(defaults));
	return devices_attach(cgroup_fd, all, n + DEFAULTS, err);
}

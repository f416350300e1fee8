#include <errno.h>
#include <linux/capability.h>
#include <stdbool.h>
#include <string.h>
#include <strings.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "engine/capability.h"

#define BIT(cap) (UINT64_C(1) << (cap))
#define NAME(cap) [cap] = #cap

static const char *const names[] = {
	NAME(CAP_CHOWN),	   NAME(CAP_DAC_OVERRIDE),     NAME(CAP_DAC_READ_SEARCH),
	NAME(CAP_FOWNER),	   NAME(CAP_FSETID),	       NAME(CAP_KILL),
	NAME(CAP_SETGID),	   NAME(CAP_SETUID),	       NAME(CAP_SETPCAP),
	NAME(CAP_LINUX_IMMUTABLE), NAME(CAP_NET_BIND_SERVICE), NAME(CAP_NET_BROADCAST),
	NAME(CAP_NET_ADMIN),	   NAME(CAP_NET_RAW),	       NAME(CAP_IPC_LOCK),
	NAME(CAP_IPC_OWNER),	   NAME(CAP_SYS_MODULE),       NAME(CAP_SYS_RAWIO),
	NAME(CAP_SYS_CHROOT),	   NAME(CAP_SYS_PTRACE),       NAME(CAP_SYS_PACCT),
	NAME(CAP_SYS_ADMIN),	   NAME(CAP_SYS_BOOT),	       NAME(CAP_SYS_NICE),
	NAME(CAP_SYS_RESOURCE),	   NAME(CAP_SYS_TIME),	       NAME(CAP_SYS_TTY_CONFIG),
	NAME(CAP_MKNOD),	   NAME(CAP_LEASE),	       NAME(CAP_AUDIT_WRITE),
	NAME(CAP_AUDIT_CONTROL),   NAME(CAP_SETFCAP),	       NAME(CAP_MAC_OVERRIDE),
	NAME(CAP_MAC_ADMIN),	   NAME(CAP_SYSLOG),	       NAME(CAP_WAKE_ALARM),
	NAME(CAP_BLOCK_SUSPEND),   NAME(CAP_AUDIT_READ),       NAME(CAP_PERFMON),
	NAME(CAP_BPF),		   NAME(CAP_CHECKPOINT_RESTORE),
};

#define NAMES_LEN (sizeof(names) / sizeof(*names))
_Static_assert(NAMES_LEN <= 64, "a mask has a bit for each");

uint64_t capability_default_mask(void)
{
	return BIT(CAP_CHOWN) | BIT(CAP_DAC_OVERRIDE) | BIT(CAP_FOWNER) | BIT(CAP_FSETID) |
	       BIT(CAP_KILL) | BIT(CAP_NET_BIND_SERVICE) | BIT(CAP_SETFCAP) | BIT(CAP_SETGID) |
	       BIT(CAP_SETPCAP) | BIT(CAP_SETUID) | BIT(CAP_SYS_CHROOT);
}

uint64_t capability_nested_mask(void)
{
	return capability_default_mask() | BIT(CAP_SYS_ADMIN) | BIT(CAP_NET_ADMIN) | BIT(CAP_NET_RAW) |
	       BIT(CAP_MKNOD) | BIT(CAP_SYS_PTRACE);
}

int capability_from_name(const char *name, struct error *err)
{
	const size_t prefix = strlen("CAP_");

	for (size_t i = 0; i < NAMES_LEN; i++)
		if (!strcasecmp(name, names[i]) || !strcasecmp(name, names[i] + prefix))
			return (int)i;
	return error_set(err, EINVAL, "no capability is called '%s': see capabilities(7)", name);
}

const char *capability_name(unsigned n)
{
	return n < NAMES_LEN ? names[n] : NULL;
}

/* The kernel's own last capability ends the walk, not ours: it may know more. */
int capability_limit_bounding(uint64_t mask)
{
	for (unsigned long n = 0; n < 64; n++) {
		int has = prctl(PR_CAPBSET_READ, n, 0, 0, 0);

		if (has < 0)
			return errno == EINVAL ? 0 : -errno;
		if (has && !(mask & BIT(n)) && prctl(PR_CAPBSET_DROP, n, 0, 0, 0) < 0)
			return -errno;
	}
	return 0;
}

struct capability_sets capability_sets_for(uint64_t mask, uint32_t uid)
{
	uint64_t have = uid == 0 ? mask : 0;

	return (struct capability_sets){ .bounding = mask, .effective = have, .permitted = have };
}

/* Plain capset(2): libcap allocates, which a forked child must not. */
static int set_three(const struct capability_sets *s)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {
		{ (uint32_t)s->effective, (uint32_t)s->permitted, (uint32_t)s->inheritable },
		{ (uint32_t)(s->effective >> 32), (uint32_t)(s->permitted >> 32), (uint32_t)(s->inheritable >> 32) },
	};

	return syscall(SYS_capset, &header, data) < 0 ? -errno : 0;
}

int capability_apply(const struct capability_sets *sets)
{
	int r;

	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
		return -errno;
	r = set_three(sets);
	for (unsigned long n = 0; r == 0 && n < 64; n++)
		if ((sets->ambient & BIT(n)) && prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, n, 0, 0) < 0)
			r = -errno;
	return r;
}

/* What a gate has counted that another process has armed. */
#include <linux/bpf.h>
#include <string.h>

#include "engine/network/gate.h"
#include "engine/network/network_gate.h"
#include "engine/gate.skel.h"

#define GATE_MAPS 4		/* more than the program has */

const char *gate_state_name(enum gate_state state)
{
	static const char *const names[GATE_STATES] = {
		[GATE_OPEN] = "open", [GATE_HELD_NEW] = "held-new", [GATE_HELD_IN] = "held-in",
		[GATE_HELD] = "held", [GATE_AWAY] = "away", [GATE_MUTED] = "muted", [GATE_CLOSED] = "closed",
	};

	return state < GATE_STATES ? names[state] : "unknown";
}

static int program_by_id(uint32_t id)
{
	union bpf_attr attr = { .prog_id = id };

	return skel_sys_bpf(BPF_PROG_GET_FD_BY_ID, &attr, sizeof(attr));
}

static int info_of(int fd, void *info, uint32_t size)
{
	union bpf_attr attr = { .info = { .bpf_fd = (uint32_t)fd, .info_len = size,
					  .info = (uint64_t)(uintptr_t)info } };

	return skel_sys_bpf(BPF_OBJ_GET_INFO_BY_FD, &attr, sizeof(attr));
}

static int first_value(int map_fd, void *value)
{
	const uint32_t key = 0;
	union bpf_attr attr = { .map_fd = (uint32_t)map_fd, .key = (uint64_t)(uintptr_t)&key,
				.value = (uint64_t)(uintptr_t)value };

	return skel_sys_bpf(BPF_MAP_LOOKUP_ELEM, &attr, sizeof(attr));
}

/* The map of its variables: 1; 0 when this is none, or that of another version's gate. */
static int read_variables(uint32_t map_id, struct gate_program__bss *ret)
{
	CLEANUP(fd_closep) int fd = skel_map_get_fd_by_id(map_id);
	struct bpf_map_info info = { 0 };

	if (fd < 0 || info_of(fd, &info, sizeof(info)) < 0)
		return -errno;
	/* Without the padding at the end. */
	if (info.type != BPF_MAP_TYPE_ARRAY || info.value_size > sizeof(*ret) ||
	    info.value_size + _Alignof(struct gate_program__bss) <= sizeof(*ret))
		return 0;
	return first_value(fd, ret) < 0 ? -errno : 1;
}

static int look(uint32_t program_id, struct gate_program__bss *ret)
{
	CLEANUP(fd_closep) int fd = program_by_id(program_id);
	uint32_t maps[GATE_MAPS] = { 0 };
	struct bpf_prog_info info = { .nr_map_ids = GATE_MAPS, .map_ids = (uint64_t)(uintptr_t)maps };
	int r = 0;

	if (fd < 0 || info_of(fd, &info, sizeof(info)) < 0)
		return -errno;
	for (uint32_t i = 0; r == 0 && i < info.nr_map_ids && i < GATE_MAPS; i++)
		r = read_variables(maps[i], ret);
	return r;
}

int gate_look(const char *host_ifname, enum gate_state *ret_state, struct gate_counters *ret,
	      struct error *err)
{
	struct gate_program__bss variables = { 0 };
	uint32_t id = 0;
	int r = network_gate_look(host_ifname, &id, err);

	if (r == 0 && id)
		r = look(id, &variables);
	if (r == -ENOENT)
		return 0;	/* it was taken off meanwhile */
	if (r < 0 && id)
		return error_set(err, -r, "look at the gate of %s: %s", host_ifname, strerror(-r));
	if (r == 1) {
		*ret_state = variables.state;
		*ret = variables.counters;
	}
	return r;
}

#include <linux/bpf.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <arpa/inet.h>

#include "engine/network/network_batch.h"
#include "engine/network/network_gate.h"

/*
 * The host side of each pair has a clsact qdisc from the beginning, and a closed
 * gate is a filter in each direction of it that drops every frame. tc-ingress sees
 * what the container sends before the bridge does, tc-egress what the bridge sends
 * to it. Carrier and bridge port know nothing of it, an open gate is no filter at
 * all, and with the link everything goes. An armed gate has its own programs in the
 * same filters, so that changing between the two lets no frame through.
 *
 * Filters come and go without a frame being lost. A qdisc, also this one, does not:
 * the kernel takes the interface's queues out of use for a moment (qdisc_graft of
 * net/sched/sch_api.c), in which whatever is sent is dropped.
 *
 * The port's own state (IFLA_BRPORT_STATE) won't do: any carrier event opens a
 * disabled port again, and the bridge loses its carrier with the last open one.
 */

#define FILTER_PRIORITY 1
#define FILTER_HANDLE 1
#define DROP (-EBADF)	/* in place of a program's descriptor */

static void add_filter(struct network_batch *batch, unsigned ifindex, unsigned direction,
		       int flags, int program_fd, const char *what)
{
	const struct sock_filter drop = BPF_STMT(BPF_RET | BPF_K, TC_ACT_SHOT);
	struct tcmsg tcm = {
		.tcm_family = AF_UNSPEC,
		.tcm_ifindex = (int)ifindex,
		.tcm_handle = FILTER_HANDLE,
		.tcm_parent = TC_H_MAKE(TC_H_CLSACT, direction),
		.tcm_info = TC_H_MAKE(FILTER_PRIORITY << 16, htons(ETH_P_ALL)),
	};

	network_batch_add(batch, RTM_NEWTFILTER, flags, what, &tcm, sizeof(tcm));
	network_batch_put_string(batch, TCA_KIND, "bpf");
	network_batch_nest(batch, TCA_OPTIONS);
	if (program_fd == DROP) {
		network_batch_put_u16(batch, TCA_BPF_OPS_LEN, 1);
		network_batch_put(batch, TCA_BPF_OPS, &drop, sizeof(drop));
	} else {
		network_batch_put_u32(batch, TCA_BPF_FD, (uint32_t)program_fd);
		network_batch_put_string(batch, TCA_BPF_NAME, "godwit_gate");
	}
	network_batch_put_u32(batch, TCA_BPF_FLAGS, TCA_BPF_FLAG_ACT_DIRECT);
	network_batch_nest_end(batch);
}

static void add_filters(struct network_batch *batch, unsigned ifindex, int flags, int to_fd,
			int from_fd)
{
	add_filter(batch, ifindex, TC_H_MIN_EGRESS, flags, to_fd, "stop frames to the container");
	add_filter(batch, ifindex, TC_H_MIN_INGRESS, flags, from_fd,
		   "stop frames from the container");
}

void network_gate_add_place(struct network_batch *batch, unsigned ifindex)
{
	struct tcmsg tcm = {
		.tcm_family = AF_UNSPEC,
		.tcm_ifindex = (int)ifindex,
		.tcm_handle = TC_H_MAKE(TC_H_CLSACT, 0),
		.tcm_parent = TC_H_CLSACT,
	};

	network_batch_add(batch, RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, "make a place for the gate",
			  &tcm, sizeof(tcm));
	network_batch_tolerate(batch, EEXIST);
	network_batch_put_string(batch, TCA_KIND, "clsact");
}

static void delete_filter(struct network_batch *batch, unsigned ifindex, unsigned direction)
{
	struct tcmsg tcm = {
		.tcm_family = AF_UNSPEC,
		.tcm_ifindex = (int)ifindex,
		.tcm_parent = TC_H_MAKE(TC_H_CLSACT, direction),
		.tcm_info = TC_H_MAKE(FILTER_PRIORITY << 16, htons(ETH_P_ALL)),
	};

	network_batch_add(batch, RTM_DELTFILTER, 0, "let frames pass", &tcm, sizeof(tcm));
	network_batch_tolerate(batch, ENOENT);
}

static int open_gate(struct network_batch *batch, unsigned ifindex, struct error *err)
{
	network_gate_add_place(batch, ifindex);
	delete_filter(batch, ifindex, TC_H_MIN_EGRESS);
	delete_filter(batch, ifindex, TC_H_MIN_INGRESS);
	return network_batch_run(batch, NULL, NULL, err);
}

static int close_gate(struct network_batch *batch, unsigned ifindex, struct error *err)
{
	struct error undo;
	int r;

	network_gate_add_place(batch, ifindex);
	add_filters(batch, ifindex, NLM_F_CREATE, DROP, DROP);
	r = network_batch_run(batch, NULL, NULL, err);
	if (r < 0)
		(void)open_gate(batch, ifindex, &undo);
	return r;
}

static int look_up(const char *host_ifname, unsigned *ret_ifindex, struct network_batch **ret,
		   struct error *err)
{
	*ret_ifindex = if_nametoindex(host_ifname);
	if (*ret_ifindex == 0)
		return error_set(err, ENODEV, "there is no interface %s on this node", host_ifname);
	return network_batch_open(-EBADF, ret, err);
}

int network_gate_set(const char *host_ifname, enum network_gate gate, struct error *err)
{
	CLEANUP(network_batch_freep) struct network_batch *batch = NULL;
	unsigned ifindex;
	int r;

	r = look_up(host_ifname, &ifindex, &batch, err);
	if (r < 0)
		return r;
	r = gate == NETWORK_GATE_OPEN ? open_gate(batch, ifindex, err) :
					close_gate(batch, ifindex, err);
	if (r < 0)
		return error_wrap(err, "%s the gate of %s",
				  gate == NETWORK_GATE_OPEN ? "open" : "close", host_ifname);
	return 0;
}

int network_gate_program(const char *host_ifname, int to_fd, int from_fd, enum network_gate now,
			 struct error *err)
{
	CLEANUP(network_batch_freep) struct network_batch *batch = NULL;
	struct error undo;
	unsigned ifindex;
	int r;

	r = look_up(host_ifname, &ifindex, &batch, err);
	if (r < 0)
		return r;
	network_gate_add_place(batch, ifindex);
	add_filters(batch, ifindex, NLM_F_CREATE, to_fd, from_fd);
	r = network_batch_run(batch, NULL, NULL, err);
	if (r < 0)
		(void)network_gate_set(host_ifname, now, &undo);
	return r;
}

static void note_id(const struct nlmsghdr *answer, void *data)
{
	size_t len, size;
	const void *attrs = network_batch_attrs(answer, sizeof(struct tcmsg), &len);
	const void *options = network_batch_find(attrs, len, TCA_OPTIONS, &size);
	const uint32_t *id = network_batch_find(options, size, TCA_BPF_ID, &len);

	if (id && len == sizeof(*id))
		*(uint32_t *)data = *id;
}

int network_gate_look(const char *host_ifname, uint32_t *ret_id, struct error *err)
{
	CLEANUP(network_batch_freep) struct network_batch *batch = NULL;
	struct tcmsg tcm = {
		.tcm_family = AF_UNSPEC,
		.tcm_ifindex = (int)if_nametoindex(host_ifname),
		.tcm_handle = FILTER_HANDLE,
		.tcm_parent = TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_EGRESS),
		.tcm_info = TC_H_MAKE(FILTER_PRIORITY << 16, htons(ETH_P_ALL)),
	};
	int r;

	*ret_id = 0;
	if (tcm.tcm_ifindex == 0)
		return 0;
	if (network_batch_open(-EBADF, &batch, err) < 0)
		return -err->code;
	network_batch_add(batch, RTM_GETTFILTER, 0, "look at the gate", &tcm, sizeof(tcm));
	network_batch_put_string(batch, TCA_KIND, "bpf");
	r = network_batch_run(batch, note_id, ret_id, err);
	return r == -ENOENT || r == -EINVAL ? 0 : r;	/* no filter, or none ever */
}

int network_gate_unprogram(const char *host_ifname, struct error *err)
{
	CLEANUP(network_batch_freep) struct network_batch *batch = NULL;
	unsigned ifindex;
	int r;

	r = look_up(host_ifname, &ifindex, &batch, err);
	if (r < 0)
		return r;
	add_filters(batch, ifindex, 0, DROP, DROP);	/* no NLM_F_CREATE: only what is there */
	return network_batch_run(batch, NULL, NULL, err);
}

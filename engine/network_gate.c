#include <linux/bpf.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <arpa/inet.h>

#include "engine/network.h"
#include "engine/network_batch.h"

/*
 * A closed gate is a clsact qdisc on the host side with a filter in each
 * direction that drops every frame. tc-ingress sees what the container sends
 * before the bridge does, tc-egress what the bridge sends to it. Carrier and
 * bridge port know nothing of it, an open gate is no qdisc at all, and with the
 * link everything goes.
 *
 * The port's own state (IFLA_BRPORT_STATE) won't do: any carrier event opens a
 * disabled port again, and the bridge loses its carrier with the last open one.
 */

#define FILTER_PRIORITY 1
#define FILTER_HANDLE 1

static void add_drop(struct network_batch *batch, unsigned ifindex, unsigned direction,
		     const char *what)
{
	const struct sock_filter drop = BPF_STMT(BPF_RET | BPF_K, TC_ACT_SHOT);
	struct tcmsg tcm = {
		.tcm_family = AF_UNSPEC,
		.tcm_ifindex = (int)ifindex,
		.tcm_handle = FILTER_HANDLE,
		.tcm_parent = TC_H_MAKE(TC_H_CLSACT, direction),
		.tcm_info = TC_H_MAKE(FILTER_PRIORITY << 16, htons(ETH_P_ALL)),
	};

	network_batch_add(batch, RTM_NEWTFILTER, NLM_F_CREATE, what, &tcm, sizeof(tcm));
	network_batch_put_string(batch, TCA_KIND, "bpf");
	network_batch_nest(batch, TCA_OPTIONS);
	network_batch_put_u16(batch, TCA_BPF_OPS_LEN, 1);
	network_batch_put(batch, TCA_BPF_OPS, &drop, sizeof(drop));
	network_batch_put_u32(batch, TCA_BPF_FLAGS, TCA_BPF_FLAG_ACT_DIRECT);
	network_batch_nest_end(batch);
}

static int open_gate(struct network_batch *batch, unsigned ifindex, struct error *err)
{
	struct tcmsg tcm = {
		.tcm_family = AF_UNSPEC,
		.tcm_ifindex = (int)ifindex,
		.tcm_parent = TC_H_CLSACT,
	};

	network_batch_add(batch, RTM_DELQDISC, 0, "remove the gate", &tcm, sizeof(tcm));
	network_batch_tolerate(batch, ENOENT);
	return network_batch_run(batch, NULL, NULL, err);
}

static int close_gate(struct network_batch *batch, unsigned ifindex, struct error *err)
{
	struct tcmsg tcm = {
		.tcm_family = AF_UNSPEC,
		.tcm_ifindex = (int)ifindex,
		.tcm_handle = TC_H_MAKE(TC_H_CLSACT, 0),
		.tcm_parent = TC_H_CLSACT,
	};
	struct error undo;
	int r;

	network_batch_add(batch, RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, "add the gate", &tcm,
			  sizeof(tcm));
	network_batch_tolerate(batch, EEXIST);
	network_batch_put_string(batch, TCA_KIND, "clsact");
	add_drop(batch, ifindex, TC_H_MIN_EGRESS, "drop frames to the container");
	add_drop(batch, ifindex, TC_H_MIN_INGRESS, "drop frames from the container");
	r = network_batch_run(batch, NULL, NULL, err);
	if (r < 0)
		(void)open_gate(batch, ifindex, &undo);
	return r;
}

int network_gate_set(const char *host_ifname, enum network_gate gate, struct error *err)
{
	CLEANUP(network_batch_freep) struct network_batch *batch = NULL;
	unsigned ifindex = if_nametoindex(host_ifname);
	int r;

	if (ifindex == 0)
		return error_set(err, ENODEV, "there is no interface %s on this node", host_ifname);
	r = network_batch_open(-EBADF, &batch, err);
	if (r == 0)
		r = gate == NETWORK_GATE_OPEN ? open_gate(batch, ifindex, err) :
						close_gate(batch, ifindex, err);
	if (r < 0)
		return error_wrap(err, "%s the gate of %s",
				  gate == NETWORK_GATE_OPEN ? "open" : "close", host_ifname);
	return 0;
}

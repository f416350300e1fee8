#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>

#include "engine/network/network.h"
#include "engine/network/network_address.h"
#include "engine/network/network_batch.h"
#include "engine/network/network_link.h"

/* The kernel would give the bridge the lowest MAC of its ports, a new one with
 * each container; one that is set stays. */
static int random_mac(uint8_t ret[6], struct error *err)
{
	if (getrandom(ret, 6, 0) != 6)
		return error_set(err, errno, "get random bytes: %s", strerror(errno));
	ret[0] = (uint8_t)((ret[0] & 0xfc) | 0x02);
	return 0;
}

static int create_bridge(struct network_batch *batch, const char *bridge, struct error *err)
{
	struct ifinfomsg ifi = { .ifi_family = AF_UNSPEC, .ifi_flags = IFF_UP,
				 .ifi_change = IFF_UP };
	uint8_t mac[6];
	int r;

	r = random_mac(mac, err);
	if (r < 0)
		return r;
	network_batch_add(batch, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, "make the bridge", &ifi,
			  sizeof(ifi));
	network_batch_put_string(batch, IFLA_IFNAME, bridge);
	network_batch_put(batch, IFLA_ADDRESS, mac, sizeof(mac));
	network_batch_nest(batch, IFLA_LINKINFO);
	network_batch_put_string(batch, IFLA_INFO_KIND, "bridge");
	network_batch_nest(batch, IFLA_INFO_DATA);
	network_batch_put_u32(batch, IFLA_BR_STP_STATE, 0);
	network_batch_nest_end(batch);
	network_batch_nest_end(batch);
	network_batch_tolerate(batch, EEXIST);	/* another command was quicker */
	return network_batch_run(batch, NULL, NULL, err);
}

static int ensure_link(struct network_batch *batch, const char *bridge, struct network_link *ret,
		       struct error *err)
{
	int r;

	r = network_link_get(batch, bridge, ret, err);
	if (r == -ENODEV) {
		r = create_bridge(batch, bridge, err);
		if (r == 0)
			r = network_link_get(batch, bridge, ret, err);
	}
	if (r < 0)
		return r;
	if (!ret->is_bridge)
		return error_set(err, EEXIST, "the name is taken by an interface that is no bridge; "
				 "remove that or choose another name");
	return 0;
}

int network_bridge_ensure(const char *bridge, const char *address, struct error *err)
{
	CLEANUP(network_batch_freep) struct network_batch *batch = NULL;
	struct network_cidr cidr;
	struct network_link link;
	int r;

	r = network_link_check_name("bridge", bridge, err);
	if (r < 0)
		return r;
	if (address[0] != '\0') {
		r = network_cidr_parse(address, &cidr, err);
		if (r < 0)
			return error_wrap(err, "bridge %s", bridge);
	}
	r = network_batch_open(-EBADF, &batch, err);
	if (r == 0)
		r = ensure_link(batch, bridge, &link, err);
	if (r < 0)
		return error_wrap(err, "bridge %s", bridge);
	if (!(link.flags & IFF_UP))
		network_link_add_up(batch, link.index, "bring it up");
	if (address[0] != '\0') {
		network_link_add_address(batch, link.index, &cidr);
		network_batch_tolerate(batch, EEXIST);
	}
	r = network_batch_run(batch, NULL, NULL, err);
	return r < 0 ? error_wrap(err, "bridge %s", bridge) : 0;
}

int network_bridge_pin(const char *host_ifname, const uint8_t mac[6], struct error *err)
{
	CLEANUP(network_batch_freep) struct network_batch *batch = NULL;

	if (network_batch_open(-EBADF, &batch, err) < 0)
		return -err->code;
	network_link_add_entry(batch, if_nametoindex(host_ifname), mac, true);
	return network_batch_run(batch, NULL, NULL, err) < 0 ? error_wrap(err, "interface %s", host_ifname) : 0;
}

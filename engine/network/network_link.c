#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <string.h>
#include <sys/socket.h>

#include "engine/network/network_address.h"
#include "engine/network/network_batch.h"
#include "engine/network/network_link.h"

static void read_link(const struct nlmsghdr *answer, void *data)
{
	static const char bridge[] = "bridge";
	const struct ifinfomsg *ifi = network_batch_header(answer, sizeof(*ifi));
	struct network_link *link = data;
	const void *attrs, *value;
	size_t len, n;

	if (answer->nlmsg_type != RTM_NEWLINK || !ifi)
		return;
	link->index = (unsigned)ifi->ifi_index;
	link->flags = ifi->ifi_flags;
	attrs = network_batch_attrs(answer, sizeof(*ifi), &len);
	value = network_batch_find(attrs, len, IFLA_MTU, &n);
	if (value && n == sizeof(link->mtu))
		memcpy(&link->mtu, value, sizeof(link->mtu));
	value = network_batch_find(attrs, len, IFLA_LINKINFO, &n);
	value = network_batch_find(value, n, IFLA_INFO_KIND, &n);
	link->is_bridge = value && n == sizeof(bridge) && memcmp(value, bridge, n) == 0;
}

int network_link_get(struct network_batch *batch, const char *ifname, struct network_link *ret,
		    struct error *err)
{
	struct ifinfomsg ifi = { .ifi_family = AF_UNSPEC };
	struct network_link link = { 0 };
	int r;

	network_batch_add(batch, RTM_GETLINK, 0, "look it up", &ifi, sizeof(ifi));
	network_batch_put_string(batch, IFLA_IFNAME, ifname);
	network_batch_put_u32(batch, IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
	r = network_batch_run(batch, read_link, &link, err);
	if (r < 0)
		return r;
	*ret = link;
	return 0;
}

void network_link_add_up(struct network_batch *batch, unsigned index, const char *what)
{
	struct ifinfomsg ifi = { .ifi_family = AF_UNSPEC, .ifi_index = (int)index,
				 .ifi_flags = IFF_UP, .ifi_change = IFF_UP };

	network_batch_add(batch, RTM_NEWLINK, 0, what, &ifi, sizeof(ifi));
}

void network_link_add_address(struct network_batch *batch, unsigned index,
			const struct network_cidr *cidr)
{
	struct ifaddrmsg ifa = { .ifa_family = (uint8_t)cidr->family,
				 .ifa_prefixlen = (uint8_t)cidr->prefix, .ifa_index = index };

	network_batch_add(batch, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, "add the address", &ifa,
			  sizeof(ifa));
	network_batch_put(batch, IFA_LOCAL, cidr->bytes, network_cidr_size(cidr));
	network_batch_put(batch, IFA_ADDRESS, cidr->bytes, network_cidr_size(cidr));
	if (cidr->family == AF_INET6)
		network_batch_put_u32(batch, IFA_FLAGS, IFA_F_NODAD);
}

void network_link_add_entry(struct network_batch *batch, unsigned port, const uint8_t mac[6], bool pinned)
{
	const struct ndmsg ndm = {
		.ndm_family = AF_BRIDGE,
		.ndm_ifindex = (int)port,
		.ndm_state = NUD_REACHABLE | (pinned ? NUD_NOARP : 0),
		.ndm_flags = NTF_MASTER | (pinned ? NTF_STICKY : 0),
	};

	network_batch_add(batch, RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, "tell the bridge its port",
			  &ndm, sizeof(ndm));
	network_batch_put(batch, NDA_LLADDR, mac, 6);
}

int network_link_check_name(const char *what, const char name[IFNAMSIZ], struct error *err)
{
	size_t len = strnlen(name, IFNAMSIZ);

	if (len == 0 || len == IFNAMSIZ || memchr(name, '/', len) || memchr(name, ' ', len))
		return error_set(err, EINVAL, "%s: '%.*s' is no name for an interface: 1 to %d "
				 "characters without blank and slash", what, IFNAMSIZ, name,
				 IFNAMSIZ - 1);
	return 0;
}

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <stdio.h>
#include <string.h>

#include "engine/base/cleanup.h"
#include "engine/network/network.h"
#include "engine/network/network_address.h"

typedef unsigned __int128 wide;

DEFINE_CLEANUP(struct ifaddrs *, freeifaddrs)

/* One or more digits and nothing else. */
static int parse_prefix(const char *text, unsigned max, unsigned *ret)
{
	unsigned value = 0;
	size_t i = 0;

	for (; i < 3 && text[i] >= '0' && text[i] <= '9'; i++)
		value = value * 10 + (unsigned)(text[i] - '0');
	if (i == 0 || text[i] != '\0' || value > max)
		return -EINVAL;
	*ret = value;
	return 0;
}

int network_cidr_parse(const char *text, struct network_cidr *ret, struct error *err)
{
	struct network_cidr cidr = { .family = strchr(text, ':') ? AF_INET6 : AF_INET };
	const char *slash = strchr(text, '/');
	size_t len = slash ? (size_t)(slash - text) : strlen(text);
	char address[INET6_ADDRSTRLEN];
	unsigned bits = network_cidr_size(&cidr) * 8;

	if (len >= sizeof(address))
		return error_set(err, EINVAL, "'%.60s' is no IPv4 or IPv6 address", text);
	memcpy(address, text, len);
	address[len] = '\0';
	if (inet_pton(cidr.family, address, cidr.bytes) != 1)
		return error_set(err, EINVAL, "'%.60s' is no IPv4 or IPv6 address", text);
	cidr.prefix = bits;
	if (slash && parse_prefix(slash + 1, bits, &cidr.prefix) < 0)
		return error_set(err, EINVAL, "'%.60s' has no prefix length from 0 to %u", text,
				 bits);
	*ret = cidr;
	return 0;
}

static wide to_wide(const struct network_cidr *cidr)
{
	wide value = 0;

	for (unsigned i = 0; i < network_cidr_size(cidr); i++)
		value = value << 8 | cidr->bytes[i];
	return value;
}

struct span {
	wide first, last;
};

static struct span span_of(const struct network_cidr *cidr)
{
	unsigned host_bits = network_cidr_size(cidr) * 8 - cidr->prefix;
	wide mask = host_bits == 128 ? ~(wide)0 : ((wide)1 << host_bits) - 1;
	wide value = to_wide(cidr);

	return (struct span){ value & ~mask, value | mask };
}

/* Removes from span the ends of block that hosts don't use: the network (IPv6:
 * the subnet routers' anycast) address and IPv4's broadcast address. Blocks of
 * one or two addresses have neither: RFC 3021, RFC 6164. */
static void cut_ends(struct span *span, const struct network_cidr *block)
{
	struct span ends = span_of(block);

	if (ends.last - ends.first < 2)
		return;
	if (span->first == ends.first)
		span->first++;
	if (span->last == ends.last && block->family == AF_INET)
		span->last--;
}

static int format_host(const struct network_cidr *subnet, wide host, char ret[NETWORK_CIDR_MAX],
		       struct error *err)
{
	char text[INET6_ADDRSTRLEN];
	uint8_t bytes[16];

	for (unsigned i = network_cidr_size(subnet); i-- > 0; host >>= 8)
		bytes[i] = (uint8_t)host;
	if (!inet_ntop(subnet->family, bytes, text, sizeof(text)))
		return error_set(err, errno, "format an address: %s", strerror(errno));
	(void)snprintf(ret, NETWORK_CIDR_MAX, "%s/%u", text, subnet->prefix);
	return 0;
}

static int parse_pool(const char *subnet, const char *range, struct network_cidr *ret_subnet,
		      struct network_cidr *ret_range, struct error *err)
{
	struct span all, part;
	int r;

	r = network_cidr_parse(subnet, ret_subnet, err);
	if (r < 0)
		return error_wrap(err, "subnet");
	*ret_range = *ret_subnet;
	if (range[0] == '\0')
		return 0;
	r = network_cidr_parse(range, ret_range, err);
	if (r < 0)
		return error_wrap(err, "range");
	all = span_of(ret_subnet);
	part = span_of(ret_range);
	if (ret_range->family != ret_subnet->family || part.first < all.first ||
	    part.last > all.last)
		return error_set(err, EINVAL, "range %s is not within subnet %s", range, subnet);
	return 0;
}

int network_address_nth(const char *subnet, const char *range, const char *gateway, uint32_t n,
			char ret[NETWORK_CIDR_MAX], struct error *err)
{
	struct network_cidr whole, pool, router;
	struct span span;
	wide host;
	int r;

	r = parse_pool(subnet, range, &whole, &pool, err);
	if (r < 0)
		return r;
	span = span_of(&pool);
	cut_ends(&span, &pool);
	cut_ends(&span, &whole);
	host = span.first + n;
	if (gateway[0] != '\0') {
		r = network_cidr_parse(gateway, &router, err);
		if (r < 0)
			return error_wrap(err, "gateway");
		if (router.family == whole.family && to_wide(&router) >= span.first &&
		    to_wide(&router) <= host)
			host++;
	}
	if (host < span.first || host > span.last)
		return error_set(err, ERANGE, "%s has no more addresses than that",
				 range[0] ? range : subnet);
	return format_host(&whole, host, ret, err);
}

int network_subnet_part(const char *subnet, uint32_t part, uint32_t of, char ret[NETWORK_CIDR_MAX],
			struct error *err)
{
	struct network_cidr cidr;
	unsigned bits = (unsigned)__builtin_ctz(of), left;
	wide first;

	if (network_cidr_parse(subnet, &cidr, err) < 0)
		return error_wrap(err, "subnet");
	left = network_cidr_size(&cidr) * 8 - cidr.prefix;
	if (left < bits + 2)
		return error_set(err, ERANGE, "subnet %s is too small for %u nodes", subnet, of);
	if (left == 128)	/* nothing is left to shift */
		return error_set(err, ERANGE, "subnet %s is all there is", subnet);
	first = span_of(&cidr).first;
	cidr.prefix += bits;
	return format_host(&cidr, first + ((wide)part << (left - bits)), ret, err);
}

int network_subnets_overlap(const char *a, const char *b, bool *ret, struct error *err)
{
	struct network_cidr one, other;
	struct span s, t;

	if (network_cidr_parse(a, &one, err) < 0 || network_cidr_parse(b, &other, err) < 0)
		return error_wrap(err, "subnet");
	s = span_of(&one);
	t = span_of(&other);
	*ret = one.family == other.family && s.first <= t.last && t.first <= s.last;
	return 0;
}

int network_address_in(const char *subnet, const char *address, char ret[NETWORK_CIDR_MAX],
		       struct error *err)
{
	struct network_cidr whole, host;
	struct span span;

	if (network_cidr_parse(address, &host, err) < 0)
		return -err->code;
	if (network_cidr_parse(subnet, &whole, err) < 0)
		return error_wrap(err, "subnet");
	span = span_of(&whole);
	cut_ends(&span, &whole);
	if (host.family != whole.family || to_wide(&host) < span.first || to_wide(&host) > span.last)
		return error_set(err, EINVAL, "address %s is not one of a host in subnet %s", address,
				 subnet);
	return format_host(&whole, to_wide(&host), ret, err);
}

int network_mac_for(const char *address, uint8_t ret[6], struct error *err)
{
	struct network_cidr cidr;
	int r;

	r = network_cidr_parse(address, &cidr, err);
	if (r < 0)
		return r;
	ret[0] = 0x02;
	ret[1] = 0x67;
	memcpy(ret + 2, cidr.bytes + network_cidr_size(&cidr) - 4, 4);
	return 0;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int network_mac_parse(const char *text, uint8_t ret[6], struct error *err)
{
	static const uint8_t zero[6];
	uint8_t mac[6];
	bool ok = strlen(text) == 17;

	for (size_t i = 0; ok && i < 6; i++) {
		int high = hex_digit(text[3 * i]), low = hex_digit(text[3 * i + 1]);

		ok = high >= 0 && low >= 0 && (i == 5 || text[3 * i + 2] == ':');
		mac[i] = (uint8_t)((unsigned)high << 4 | (unsigned)low);
	}
	if (!ok)
		return error_set(err, EINVAL, "'%.40s' is no MAC address like 02:67:0a:58:00:07",
				 text);
	if ((mac[0] & 1) || memcmp(mac, zero, sizeof(mac)) == 0)
		return error_set(err, EINVAL, "%s is no MAC address that an interface can have",
				 text);
	memcpy(ret, mac, sizeof(mac));
	return 0;
}

void network_mac_format(const uint8_t mac[6], char ret[18])
{
	(void)snprintf(ret, 18, "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3],
		       mac[4], mac[5]);
}

static bool holds(const struct sockaddr *sa, const struct network_cidr *wanted)
{
	const void *bytes;

	if (!sa || sa->sa_family != wanted->family)
		return false;
	bytes = wanted->family == AF_INET ?
			(const void *)&((const struct sockaddr_in *)(const void *)sa)->sin_addr :
			(const void *)&((const struct sockaddr_in6 *)(const void *)sa)->sin6_addr;
	return memcmp(bytes, wanted->bytes, network_cidr_size(wanted)) == 0;
}

int network_address_is_local(const char *address, bool *ret, struct error *err)
{
	CLEANUP(freeifaddrsp) struct ifaddrs *list = NULL;
	struct network_cidr wanted;
	bool found = false;
	int r;

	r = network_cidr_parse(address, &wanted, err);
	if (r < 0)
		return r;
	if (getifaddrs(&list) < 0)
		return error_set(err, errno, "list the node's addresses: %s", strerror(errno));
	for (const struct ifaddrs *a = list; a && !found; a = a->ifa_next)
		found = holds(a->ifa_addr, &wanted);
	*ret = found;
	return 0;
}

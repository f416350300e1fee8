#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <string.h>
#include <sys/socket.h>

#include "engine/base/cleanup.h"
#include "engine/base/fd.h"
#include "engine/network/network_netns.h"
#include "migrate/network/socket_options.h"
#include "migrate/network/socket_walk.h"

#define GROUPS_MAX 1024

enum { V4 = 1, V6 = 2, STREAM = 4, DATAGRAM = 8, BOTH = STREAM | DATAGRAM };

/* All are ints. */
static const struct option {
	const char *name;
	int level, option, where;
} options[] = {
#define OPTION(level, option, where) { #option, level, option, where }
	OPTION(IPPROTO_TCP, TCP_USER_TIMEOUT, V4 | V6 | STREAM),
	OPTION(IPPROTO_TCP, TCP_LINGER2, V4 | V6 | STREAM),
	OPTION(IPPROTO_TCP, TCP_SYNCNT, V4 | V6 | STREAM),
	OPTION(IPPROTO_TCP, TCP_NOTSENT_LOWAT, V4 | V6 | STREAM),
	OPTION(IPPROTO_TCP, TCP_DEFER_ACCEPT, V4 | V6 | STREAM),
	OPTION(IPPROTO_UDP, UDP_GRO, V4 | V6 | DATAGRAM),
	OPTION(IPPROTO_UDP, UDP_SEGMENT, V4 | V6 | DATAGRAM),
	OPTION(IPPROTO_IP, IP_MTU_DISCOVER, V4 | BOTH),
	OPTION(IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, V4 | BOTH),
	OPTION(IPPROTO_IP, IP_RECVERR, V4 | DATAGRAM),
	OPTION(IPPROTO_IP, IP_RECVTTL, V4 | DATAGRAM),
	OPTION(IPPROTO_IP, IP_RECVTOS, V4 | DATAGRAM),
	OPTION(IPPROTO_IP, IP_RECVORIGDSTADDR, V4 | DATAGRAM),
	OPTION(IPPROTO_IP, IP_MULTICAST_TTL, V4 | DATAGRAM),
	OPTION(IPPROTO_IP, IP_MULTICAST_LOOP, V4 | DATAGRAM),
	OPTION(IPPROTO_IP, IP_MULTICAST_ALL, V4 | DATAGRAM),
	OPTION(IPPROTO_IPV6, IPV6_MTU_DISCOVER, V6 | BOTH),
	OPTION(IPPROTO_IPV6, IPV6_UNICAST_HOPS, V6 | BOTH),
	OPTION(IPPROTO_IPV6, IPV6_TCLASS, V6 | BOTH),
	OPTION(IPPROTO_IPV6, IPV6_RECVERR, V6 | DATAGRAM),
	OPTION(IPPROTO_IPV6, IPV6_RECVHOPLIMIT, V6 | DATAGRAM),
	OPTION(IPPROTO_IPV6, IPV6_RECVTCLASS, V6 | DATAGRAM),
	OPTION(IPPROTO_IPV6, IPV6_MULTICAST_HOPS, V6 | DATAGRAM),
	OPTION(IPPROTO_IPV6, IPV6_MULTICAST_LOOP, V6 | DATAGRAM),
	OPTION(IPPROTO_IPV6, IPV6_MULTICAST_IF, V6 | DATAGRAM),
};
#define N_OPTIONS (sizeof(options) / sizeof(*options))

/* 0: neither TCP nor UDP. */
static int kind_of(int socket_fd)
{
	int family = socket_option(socket_fd, SOL_SOCKET, SO_DOMAIN), protocol;

	if (family != AF_INET && family != AF_INET6)
		return 0;
	protocol = socket_option(socket_fd, SOL_SOCKET, SO_PROTOCOL);
	if (protocol != IPPROTO_TCP && protocol != IPPROTO_UDP)
		return 0;
	return (family == AF_INET ? V4 : V6) | (protocol == IPPROTO_TCP ? STREAM : DATAGRAM);
}

static bool has(int kind, int where)
{
	return (kind & where & (V4 | V6)) && (kind & where & BOTH);
}

/* ---- what there is to compare with ---- */

/* /proc/net/igmp: a line for an interface, then its groups in hexadecimal, network order in memory. */
static void add_group_v4(struct socket_defaults *d, const char *line, unsigned *index)
{
	struct in_addr group;

	if (line[0] != '\t') {
		(void)sscanf(line, "%u", index);
	} else if (sscanf(line, " %8x", &group.s_addr) == 1 && d->n_groups < GROUPS_MAX) {
		char text[INET_ADDRSTRLEN];

		(void)snprintf(d->groups[d->n_groups++], sizeof(*d->groups), "%u %s", *index,
			       inet_ntop(AF_INET, &group, text, sizeof(text)));
	}
}

/* /proc/net/igmp6: a line for each group of each interface. */
static void add_group_v6(struct socket_defaults *d, const char *line, unsigned *index)
{
	struct in6_addr group;
	char hex[33], text[INET6_ADDRSTRLEN];

	if (sscanf(line, "%u %*s %32[0-9a-f]", index, hex) != 2 || d->n_groups == GROUPS_MAX)
		return;
	for (size_t i = 0; i < sizeof(group); i++)
		if (sscanf(hex + 2 * i, "%2hhx", &group.s6_addr[i]) != 1)
			return;
	(void)snprintf(d->groups[d->n_groups++], sizeof(*d->groups), "%u %s", *index,
		       inet_ntop(AF_INET6, &group, text, sizeof(text)));
}

static int read_groups(struct socket_defaults *d, pid_t pid, const char *name,
		       void (*add)(struct socket_defaults *d, const char *line, unsigned *index), struct error *err)
{
	CLEANUP(freep) char *text = NULL;
	char path[48], *line, *more;
	unsigned index = 0;

	(void)snprintf(path, sizeof(path), "/proc/%d/net/%s", (int)pid, name);
	if (fd_read_file_at(-EBADF, path, 1 << 20, &text, NULL, err) < 0)
		return err->code == ENOENT ? 0 : -err->code;
	for (line = strtok_r(text, "\n", &more); line; line = strtok_r(NULL, "\n", &more))
		add(d, line, &index);
	return 0;
}

void socket_defaults_closep(struct socket_defaults *d)
{
	for (int i = 0; i < 4; i++)
		fd_close(&d->new[i / 2][i % 2]);
	free(d->groups);
}

static int make_sockets(struct socket_defaults *d, pid_t pid, struct error *err)
{
	CLEANUP(fd_closep) int netns = -EBADF;
	char path[32];

	(void)snprintf(path, sizeof(path), "/proc/%d/ns/net", (int)pid);
	netns = open(path, O_RDONLY | O_CLOEXEC);
	if (netns < 0)
		return error_set(err, errno, "%s: %s", path, strerror(errno));
	for (int i = 0; i < 4; i++)
		if (network_netns_socket(netns, i / 2 ? AF_INET6 : AF_INET, i % 2 ? SOCK_DGRAM : SOCK_STREAM, 0,
					 &d->new[i / 2][i % 2], err) < 0 && err->code != EAFNOSUPPORT)
			return -err->code;
	return 0;
}

int socket_defaults_open(pid_t pid, struct socket_defaults *ret, struct error *err)
{
	CLEANUP(socket_defaults_closep) struct socket_defaults d = SOCKET_DEFAULTS_EMPTY;

	d.groups = calloc(GROUPS_MAX, sizeof(*d.groups));
	if (!d.groups)
		return error_set(err, ENOMEM, "out of memory");
	if (make_sockets(&d, pid, err) < 0 || read_groups(&d, pid, "igmp", add_group_v4, err) < 0 ||
	    read_groups(&d, pid, "igmp6", add_group_v6, err) < 0)
		return -err->code;
	*ret = d;
	d = (struct socket_defaults)SOCKET_DEFAULTS_EMPTY;
	return 0;
}

/* ---- groups ---- */

/* False when the text is no group. */
static bool parse_group(const char *text, struct group_req *ret)
{
	struct sockaddr_in *four = (struct sockaddr_in *)&ret->gr_group;
	struct sockaddr_in6 *six = (struct sockaddr_in6 *)&ret->gr_group;
	char *address;

	*ret = (struct group_req){ .gr_interface = (uint32_t)strtoul(text, &address, 10) };
	if (*address++ != ' ')
		return false;
	if (inet_pton(AF_INET, address, &four->sin_addr) == 1)
		four->sin_family = AF_INET;
	else if (inet_pton(AF_INET6, address, &six->sin6_addr) == 1)
		six->sin6_family = AF_INET6;
	return ret->gr_group.ss_family != 0;
}

static int level_of(const struct group_req *g)
{
	return g->gr_group.ss_family == AF_INET ? IPPROTO_IP : IPPROTO_IPV6;
}

/* There is a filter of senders, if only an empty one, for each group of the socket's own. */
static bool is_member(int socket_fd, const struct group_req *g)
{
	struct group_filter f = { .gf_interface = g->gr_interface, .gf_group = g->gr_group };
	socklen_t len = GROUP_FILTER_SIZE(0);

	return getsockopt(socket_fd, level_of(g), MCAST_MSFILTER, &f, &len) == 0;
}

static json_t *read_memberships(const struct socket_defaults *d, int kind, int socket_fd)
{
	json_t *groups = NULL;
	struct group_req g;

	for (size_t i = 0; i < d->n_groups && (kind & DATAGRAM); i++) {
		if (!parse_group(d->groups[i], &g) || (level_of(&g) == IPPROTO_IPV6 && kind & V4) ||
		    !is_member(socket_fd, &g))
			continue;
		if (!groups)
			groups = json_array();
		(void)json_array_append_new(groups, json_string(d->groups[i]));
	}
	return groups;
}

static int join(const json_t *groups, int socket_fd, struct error *err)
{
	const json_t *text;
	struct group_req g;
	size_t i;

	json_array_foreach(groups, i, text) {
		if (!json_is_string(text) || !parse_group(json_string_value(text), &g))
			return error_set(err, EPROTO, "a group of a socket makes no sense");
		if (setsockopt(socket_fd, level_of(&g), MCAST_JOIN_GROUP, &g, sizeof(g)) < 0 && errno != EADDRINUSE)
			return error_set(err, errno, "join the group %s: %s", json_string_value(text), strerror(errno));
	}
	return 0;
}

/* ---- all of it ---- */

/* The kernel does not tell which interface IP_MULTICAST_IF names by number: there is hardly any other than
 * that of the groups. */
static int multicast_interface(json_t *groups)
{
	struct group_req g;

	for (size_t i = 0; i < json_array_size(groups); i++)
		if (parse_group(json_string_value(json_array_get(groups, i)), &g) && level_of(&g) == IPPROTO_IP)
			return (int)g.gr_interface;
	return 0;
}

/* Where it is not what new sockets have. */
static void read_congestion(int socket_fd, int new, json_t *set)
{
	char name[16] = "", usual[16] = "";
	socklen_t len = sizeof(name), its = sizeof(usual);

	if (getsockopt(socket_fd, IPPROTO_TCP, TCP_CONGESTION, name, &len) == 0 &&
	    getsockopt(new, IPPROTO_TCP, TCP_CONGESTION, usual, &its) == 0 && strncmp(name, usual, sizeof(name)) != 0)
		(void)json_object_set_new(set, "TCP_CONGESTION", json_stringn(name, strnlen(name, sizeof(name))));
}

static json_t *read_options(const struct socket_defaults *d, int kind, int socket_fd)
{
	int new = d->new[kind & V6 ? 1 : 0][kind & DATAGRAM ? 1 : 0];
	json_t *set = json_object();

	for (const struct option *o = options; o < options + N_OPTIONS; o++) {
		int value = has(kind, o->where) ? socket_option(socket_fd, o->level, o->option) : -1;

		if (value >= 0 && value != socket_option(new, o->level, o->option))
			(void)json_object_set_new(set, o->name, json_integer(value));
	}
	if (kind & STREAM)
		read_congestion(socket_fd, new, set);
	return set;
}

json_t *socket_options_read(const struct socket_defaults *d, int socket_fd)
{
	int kind = kind_of(socket_fd);
	json_t *set, *groups;

	if (!kind)
		return NULL;
	set = read_options(d, kind, socket_fd);
	groups = read_memberships(d, kind, socket_fd);
	if (multicast_interface(groups))
		(void)json_object_set_new(set, "IP_MULTICAST_IF", json_integer(multicast_interface(groups)));
	if (json_object_size(set) == 0 && !groups) {
		json_decref(set);
		return NULL;
	}
	return json_pack("{s:o,s:o*}", "options", set, "groups", groups);
}

/* An algorithm that this node lacks stays the usual one. */
static bool set_congestion(int socket_fd, const char *name)
{
	socklen_t len = (socklen_t)strlen(name);

	return setsockopt(socket_fd, IPPROTO_TCP, TCP_CONGESTION, name, len) == 0 || errno == ENOENT;
}

static bool set_number(int socket_fd, const struct option *o, int value)
{
	const struct ip_mreqn m = { .imr_ifindex = value };

	return (o ? setsockopt(socket_fd, o->level, o->option, &value, sizeof(value))
		  : setsockopt(socket_fd, IPPROTO_IP, IP_MULTICAST_IF, &m, sizeof(m))) == 0;
}

static int set_option(int socket_fd, const char *name, const json_t *value, struct error *err)
{
	const struct option *o = options;
	bool done;

	while (o < options + N_OPTIONS && strcmp(o->name, name) != 0)
		o++;
	if (o == options + N_OPTIONS)
		o = NULL;
	if (!strcmp(name, "TCP_CONGESTION") && json_is_string(value))
		done = set_congestion(socket_fd, json_string_value(value));
	else if ((o || !strcmp(name, "IP_MULTICAST_IF")) && json_is_integer(value))
		done = set_number(socket_fd, o, (int)json_integer_value(value));
	else
		return error_set(err, EPROTO, "a socket has the option %.40s, which is not known here", name);
	return done ? 0 : error_set(err, errno, "set %s: %s", name, strerror(errno));
}

int socket_options_set(const json_t *kept, int socket_fd, struct error *err)
{
	json_t *set = json_object_get(kept, "options");
	const json_t *value;
	const char *name;

	json_object_foreach(set, name, value)
		if (set_option(socket_fd, name, value, err) < 0)
			return -err->code;
	return join(json_object_get(kept, "groups"), socket_fd, err);
}

#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "engine/network/placement.h"

/* ---- who comes ---- */

int placement_check(const struct node *node, const struct network_endpoint *ep, uint64_t created_us,
		    struct error *err)
{
	const char *const addresses[] = { ep->address, ep->address2 };
	CLEANUP(places_free) struct places all = { 0 };
	char text[NETWORK_CIDR_MAX];
	struct named_network n;

	if (named_network_load(node, ep->network, &n, err) < 0 || placement_all(node, &n, &all, err) < 0)
		return -err->code;
	for (size_t i = 0; i < 2 && addresses[i][0]; i++) {
		const struct place *p = places_find(&all, addresses[i]);

		if (named_network_host(&n, addresses[i], text, err) < 0)
			return error_wrap(err, "on %s", node->config.name);
		if (strcmp(text, addresses[i]) != 0)
			return error_set(err, EINVAL, "address %s is not written as %s", addresses[i], text);
		if (p && (p->member == n.index || p->created_us != created_us))
			return error_set(err, EADDRINUSE, "address %s belongs to container '%s' on %s; "
					 "choose another, or remove that one", addresses[i], p->name,
					 p->member == n.index ? node->config.name :
					 n.members[p->member].address);
	}
	return 0;
}

/* ---- the daemon's door ---- */

static socklen_t address_of(const struct node *node, struct sockaddr_un *ret)
{
	*ret = (struct sockaddr_un){ .sun_family = AF_UNIX };
	return (socklen_t)offsetof(struct sockaddr_un, sun_path) + 1 +
	       (socklen_t)snprintf(ret->sun_path + 1, sizeof(ret->sun_path) - 1, "godwit-networks-%s", node->id);
}

void placement_knock(const struct node *node)
{
	CLEANUP(fd_closep) int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un a;
	socklen_t len = address_of(node, &a);

	if (fd >= 0)
		(void)sendto(fd, "", 1, 0, (const struct sockaddr *)&a, len);
}

int placement_door(const struct node *node, int *ret_fd, struct error *err)
{
	CLEANUP(fd_closep) int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un a;
	socklen_t len = address_of(node, &a);

	if (fd < 0 || bind(fd, (const struct sockaddr *)&a, len) < 0)
		return error_set(err, errno, "listen for changes of networks: %s", strerror(errno));
	*ret_fd = TAKE_FD(fd);
	return 0;
}

#include <arpa/inet.h>
#include <netdb.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "engine/base/clock.h"
#include "migrate/channel/channel_state.h"
#include "migrate/channel/host.h"

#define CONNECT_US 10000000u
/* A signal that comes before poll does not end it. */
#define LOOK_AGAIN_US 200000u

static int connect_within(int fd, const struct addrinfo *a, uint64_t timeout_us,
			  const volatile sig_atomic_t *cancelled)
{
	struct pollfd p = { .fd = fd, .events = POLLOUT };
	uint64_t end = clock_us() + timeout_us;
	socklen_t len = sizeof(int);
	int code = 0, n = 0;

	if (connect(fd, a->ai_addr, a->ai_addrlen) == 0)
		return 0;
	if (errno != EINPROGRESS)
		return -errno;
	while (n <= 0 && clock_us() < end) {
		if (cancelled && *cancelled)
			return -ECANCELED;
		n = poll(&p, 1, LOOK_AGAIN_US / 1000);
	}
	if (n <= 0)
		return -ETIMEDOUT;
	(void)getsockopt(fd, SOL_SOCKET, SO_ERROR, &code, &len);
	return -code;
}

static int connect_any(const struct addrinfo *list, uint64_t timeout_us, const volatile sig_atomic_t *cancelled,
		       int *ret_fd)
{
	int r = -EHOSTUNREACH;

	for (const struct addrinfo *a = list; a; a = a->ai_next) {
		CLEANUP(fd_closep) int fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

		r = fd < 0 ? -errno : connect_within(fd, a, timeout_us, cancelled);
		if (r == -ECANCELED)
			return r;
		if (r < 0)
			continue;
		*ret_fd = TAKE_FD(fd);
		return 0;
	}
	return r;
}

static int connect_to(const char *address, uint64_t timeout_us, const volatile sig_atomic_t *cancelled,
		      char host[256], struct channel **ret, struct error *err)
{
	const struct addrinfo hints = { .ai_socktype = SOCK_STREAM };
	struct addrinfo *list = NULL;
	char port[16];
	int fd = -EBADF, r;

	if (host_split(address, host, port, err) < 0)
		return -err->code;
	if (!host[0])
		return error_set(err, EINVAL, "'%s' names no host", address);
	r = getaddrinfo(host, port, &hints, &list);
	if (r == EAI_SERVICE)
		return host_wrong_port(port, err);
	if (r)
		return error_set(err, EHOSTUNREACH, "host '%s': %s; give a name that resolves, or an address",
				 host, gai_strerror(r));
	r = connect_any(list, timeout_us, cancelled, &fd);
	freeaddrinfo(list);
	if (r == -ECANCELED)
		return error_set(err, ECANCELED, "cancelled");
	if (r < 0)
		return error_set(err, -r, "connect to %s port %s: %s; is 'godwit serve' running there?", host, port,
				 strerror(-r));
	return channel_connected(fd, cancelled, ret, err);
}

int channel_connected(int fd_consumed, const volatile sig_atomic_t *cancelled, struct channel **ret,
		      struct error *err)
{
	if (channel_new(fd_consumed, WIRE_SOURCE, ret, err) < 0)
		return -err->code;
	(*ret)->cancelled = cancelled;
	return 0;
}

int channel_accepted(int fd_consumed, struct channel **ret, struct error *err)
{
	return channel_new(fd_consumed, WIRE_TARGET, ret, err);
}

/* Who is called by an address may be any node of the cluster. */
static int check_host(const struct channel *ch, const char *host, struct error *err)
{
	unsigned char address[16];

	if (!ch->session || inet_pton(AF_INET, host, address) == 1 || strchr(host, ':'))
		return 0;
	return session_check_host(ch->session, host, err);
}

int channel_connect_within(const struct node *node, const char *address, uint64_t timeout_us,
			   const volatile sig_atomic_t *cancelled, struct channel **ret, struct error *err)
{
	CLEANUP(channel_freep) struct channel *ch = NULL;
	char host[256];

	if (connect_to(address, timeout_us, cancelled, host, &ch, err) < 0)
		return -err->code;
	if (channel_secure(ch, node, timeout_us, err) < 0 || check_host(ch, host, err) < 0)
		return error_wrap(err, "%s", address);
	*ret = TAKE_PTR(ch);
	return 0;
}

int channel_connect(const struct node *node, const char *address, const volatile sig_atomic_t *cancelled,
		    struct channel **ret, struct error *err)
{
	return channel_connect_within(node, address, CONNECT_US, cancelled, ret, err);
}

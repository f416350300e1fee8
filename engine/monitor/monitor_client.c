#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "engine/base/fd.h"
#include "engine/monitor/monitor.h"

/* The socket's path may be long: go through the folder's descriptor. */
int monitor_connect(const struct container *c, int *ret_fd, struct error *err)
{
	CLEANUP(fd_closep) int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	struct sockaddr_un sun = { .sun_family = AF_UNIX };

	if (fd < 0)
		return error_set(err, errno, "container '%s': socket: %s", c->name, strerror(errno));
	(void)snprintf(sun.sun_path, sizeof(sun.sun_path), "/proc/self/fd/%d/monitor.sock", c->dir_fd);
	if (connect(fd, (struct sockaddr *)&sun, sizeof(sun)) < 0)
		return error_set(err, ECONNREFUSED, "container '%s': its monitor does not answer (%s)",
				 c->name, strerror(errno));
	*ret_fd = TAKE_FD(fd);
	return 0;
}

int monitor_send(int sock, uint32_t op, const uint64_t value[4], const void *data, size_t len,
		 int fd, struct error *err)
{
	struct monitor_message m = { .op = op, .len = (uint32_t)len };

	if (len > sizeof(m.data))
		return error_set(err, EMSGSIZE, "message to a monitor is too long");
	if (value)
		memcpy(m.value, value, sizeof(m.value));
	if (len)
		memcpy(m.data, data, len);
	return fd_send_msg(sock, &m, offsetof(struct monitor_message, data) + len, &fd, fd >= 0, err);
}

int monitor_receive(int sock, struct monitor_message *ret, struct error *err)
{
	return monitor_receive_fd(sock, ret, NULL, err);
}

int monitor_receive_fd(int sock, struct monitor_message *ret, int *ret_fd, struct error *err)
{
	ssize_t n = fd_recv_msg(sock, ret, sizeof(*ret), ret_fd, ret_fd != NULL, err);

	if (n < 0)
		return (int)n;
	if (n == 0)
		return error_set(err, ECONNRESET, "the container's monitor went away");
	if ((size_t)n < offsetof(struct monitor_message, data) ||
	    ret->len != (size_t)n - offsetof(struct monitor_message, data))
		return error_set(err, EPROTO, "malformed message from the container's monitor");
	return 0;
}

int monitor_call(int sock, uint32_t op, int fd, struct monitor_message *ret, struct error *err)
{
	if (monitor_send(sock, op, NULL, NULL, 0, fd, err) < 0)
		return -err->code;
	do {
		if (monitor_receive(sock, ret, err) < 0)
			return -err->code;
	} while (ret->op != op);
	if (ret->code < 0)
		return error_set(err, -ret->code, "%.*s", (int)ret->len, ret->data);
	return 0;
}

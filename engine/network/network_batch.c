#include <linux/netlink.h>
#include <netlink/attr.h>
#include <netlink/errno.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <netlink/socket.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "engine/network/network_batch.h"
#include "engine/network/network_netns.h"

#define REQUESTS_MAX 8
#define NESTS_MAX 4
#define ANSWER_BYTES 32768	/* what the kernel itself allows for a dump */

struct request {
	struct nl_msg *msg;
	const char *what;
	int tolerated;	/* errno or 0 */
};

struct network_batch {
	struct nl_sock *sock;
	struct request requests[REQUESTS_MAX];
	size_t count;
	struct nlattr *nests[NESTS_MAX];
	size_t depth;
	int failed;	/* errno of putting a request together */
};

/* The socket stays in the namespace in which it was made. */
static int connect_in(struct nl_sock *sock, int netns_fd, struct error *err)
{
	CLEANUP(network_netns_leavep) int home = -EBADF;
	int r;

	if (netns_fd >= 0) {
		r = network_netns_enter(netns_fd, &home, err);
		if (r < 0)
			return r;
	}
	r = nl_connect(sock, NETLINK_ROUTE);
	if (r < 0)
		return error_set(err, EIO, "open a netlink socket: %s", nl_geterror(r));
	return network_netns_leave(&home, err);
}

int network_batch_open(int netns_fd, struct network_batch **ret, struct error *err)
{
	CLEANUP(network_batch_freep) struct network_batch *batch = calloc(1, sizeof(*batch));
	const int one = 1;
	int r, fd;

	if (batch)
		batch->sock = nl_socket_alloc();
	if (!batch || !batch->sock)
		return error_set(err, ENOMEM, "out of memory");
	r = connect_in(batch->sock, netns_fd, err);
	if (r < 0)
		return r;
	fd = nl_socket_get_fd(batch->sock);
	if (setsockopt(fd, SOL_NETLINK, NETLINK_EXT_ACK, &one, sizeof(one)) < 0 ||
	    setsockopt(fd, SOL_NETLINK, NETLINK_CAP_ACK, &one, sizeof(one)) < 0)
		return error_set(err, errno, "prepare a netlink socket: %s", strerror(errno));
	*ret = TAKE_PTR(batch);
	return 0;
}

static void drop_requests(struct network_batch *batch)
{
	for (size_t i = 0; i < batch->count; i++)
		nlmsg_free(batch->requests[i].msg);
	batch->count = 0;
	batch->depth = 0;
	batch->failed = 0;
}

void network_batch_free(struct network_batch *batch)
{
	if (!batch)
		return;
	drop_requests(batch);
	nl_socket_free(batch->sock);
	free(batch);
}

void network_batch_add(struct network_batch *batch, int type, int flags, const char *what,
		       const void *header, size_t len)
{
	struct request request = { .what = what };

	if (batch->failed)
		return;
	if (batch->count == REQUESTS_MAX) {
		batch->failed = E2BIG;
		return;
	}
	request.msg = nlmsg_alloc_simple(type, NLM_F_REQUEST | NLM_F_ACK | flags);
	if (!request.msg || nlmsg_append(request.msg, (void *)(uintptr_t)header, len,
					 NLMSG_ALIGNTO) < 0) {
		nlmsg_free(request.msg);
		batch->failed = ENOMEM;
		return;
	}
	nlmsg_hdr(request.msg)->nlmsg_seq = nl_socket_use_seq(batch->sock);
	nlmsg_hdr(request.msg)->nlmsg_pid = nl_socket_get_local_port(batch->sock);
	batch->requests[batch->count++] = request;
}

static struct request *last(struct network_batch *batch)
{
	return batch->failed || batch->count == 0 ? NULL : &batch->requests[batch->count - 1];
}

void network_batch_tolerate(struct network_batch *batch, int code)
{
	struct request *request = last(batch);

	if (request)
		request->tolerated = code;
}

void network_batch_put(struct network_batch *batch, int attr, const void *data, size_t len)
{
	struct request *request = last(batch);

	if (request && nla_put(request->msg, attr, (int)len, data) < 0)
		batch->failed = ENOMEM;
}

void network_batch_put_u8(struct network_batch *batch, int attr, uint8_t value)
{
	network_batch_put(batch, attr, &value, sizeof(value));
}

void network_batch_put_u16(struct network_batch *batch, int attr, uint16_t value)
{
	network_batch_put(batch, attr, &value, sizeof(value));
}

void network_batch_put_u32(struct network_batch *batch, int attr, uint32_t value)
{
	network_batch_put(batch, attr, &value, sizeof(value));
}

void network_batch_put_string(struct network_batch *batch, int attr, const char *text)
{
	network_batch_put(batch, attr, text, strlen(text) + 1);
}

void network_batch_nest(struct network_batch *batch, int attr)
{
	struct request *request = last(batch);
	struct nlattr *nest;

	if (!request)
		return;
	nest = batch->depth < NESTS_MAX ? nla_nest_start(request->msg, attr) : NULL;
	if (nest)
		batch->nests[batch->depth++] = nest;
	else
		batch->failed = ENOMEM;
}

void network_batch_nest_end(struct network_batch *batch)
{
	struct request *request = last(batch);

	if (request && batch->depth > 0)
		nla_nest_end(request->msg, batch->nests[--batch->depth]);
}

void network_batch_put_raw(struct network_batch *batch, const void *data, size_t len)
{
	struct request *request = last(batch);

	if (request && nlmsg_append(request->msg, (void *)(uintptr_t)data, len, NLMSG_ALIGNTO) < 0)
		batch->failed = ENOMEM;
}

static int send_requests(struct network_batch *batch, struct error *err)
{
	struct sockaddr_nl kernel = { .nl_family = AF_NETLINK };
	struct iovec iov[REQUESTS_MAX];
	struct msghdr msg = {
		.msg_name = &kernel,
		.msg_namelen = sizeof(kernel),
		.msg_iov = iov,
		.msg_iovlen = batch->count,
	};

	for (size_t i = 0; i < batch->count; i++) {
		struct nlmsghdr *header = nlmsg_hdr(batch->requests[i].msg);

		iov[i] = (struct iovec){ header, header->nlmsg_len };
	}
	if (sendmsg(nl_socket_get_fd(batch->sock), &msg, 0) < 0)
		return error_set(err, errno, "%s: send over netlink: %s", batch->requests[0].what,
				 strerror(errno));
	return 0;
}

/* The kernel's own words, or "". With NETLINK_CAP_ACK the attributes follow
 * the error at once. */
static const char *kernel_text(const struct nlmsghdr *header)
{
	size_t len;
	const void *attrs = network_batch_attrs(header, sizeof(struct nlmsgerr), &len);
	const char *text;

	if (!attrs || !(header->nlmsg_flags & NLM_F_ACK_TLVS))
		return "";
	text = network_batch_find(attrs, len, NLMSGERR_ATTR_MSG, &len);
	return text && len > 0 && text[len - 1] == '\0' ? text : "";
}

/* Returns the request's errno (0 when it worked or may fail so). */
static int judge(const struct network_batch *batch, const struct nlmsghdr *header,
		 struct error *err)
{
	const struct nlmsgerr *ack = nlmsg_data(header);
	const char *text;

	for (size_t i = 0; i < batch->count; i++) {
		const struct request *request = &batch->requests[i];

		if (nlmsg_hdr(request->msg)->nlmsg_seq != header->nlmsg_seq)
			continue;
		if (ack->error == 0 || -ack->error == request->tolerated)
			return 0;
		text = kernel_text(header);
		return error_set(err, -ack->error, "%s: %s%s%s%s", request->what,
				 strerror(-ack->error), *text ? " (" : "", text,
				 *text ? ")" : "");
	}
	return 0;
}

/* Handles one datagram; adds to *acks; the first error stays in *err. */
static int read_answers(struct network_batch *batch, struct nlmsghdr *header, size_t len,
			network_batch_answer *answer, void *data, size_t *acks,
			struct error *err)
{
	int result = 0, r;

	for (; NLMSG_OK(header, len); header = NLMSG_NEXT(header, len)) {
		struct error one;

		if (header->nlmsg_type != NLMSG_ERROR) {
			if (answer)
				answer(header, data);
			continue;
		}
		if (header->nlmsg_len < NLMSG_LENGTH(sizeof(struct nlmsgerr)))
			return error_set(err, EPROTO, "the kernel sent a netlink message cut short");
		(*acks)++;
		r = judge(batch, header, &one);
		if (r < 0 && result == 0) {
			*err = one;
			result = r;
		}
	}
	return result;
}

static int receive_answers(struct network_batch *batch, network_batch_answer *answer, void *data,
			   struct error *err)
{
	CLEANUP(freep) struct nlmsghdr *buffer = malloc(ANSWER_BYTES);
	int result = 0, r;
	struct error one;

	if (!buffer)
		return error_set(err, ENOMEM, "out of memory");
	for (size_t acks = 0; acks < batch->count;) {
		ssize_t n = recv(nl_socket_get_fd(batch->sock), buffer, ANSWER_BYTES, MSG_TRUNC);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return error_set(err, errno, "receive from netlink: %s", strerror(errno));
		if (n > ANSWER_BYTES)
			return error_set(err, EMSGSIZE, "netlink answer of %zd bytes", n);
		r = read_answers(batch, buffer, (size_t)n, answer, data, &acks, &one);
		if (r < 0 && result == 0) {
			*err = one;
			result = r;
		}
	}
	return result;
}

int network_batch_run(struct network_batch *batch, network_batch_answer *answer, void *data,
		      struct error *err)
{
	int r = 0;

	if (batch->failed)
		r = error_set(err, batch->failed, "put a netlink request together: %s",
			      strerror(batch->failed));
	else if (batch->count > 0)
		r = send_requests(batch, err);
	if (r == 0 && batch->count > 0)
		r = receive_answers(batch, answer, data, err);
	drop_requests(batch);
	return r;
}

const void *network_batch_header(const struct nlmsghdr *message, size_t len)
{
	return message->nlmsg_len < NLMSG_LENGTH(len) ? NULL : nlmsg_data(message);
}

const void *network_batch_attrs(const struct nlmsghdr *message, size_t header_len,
				size_t *ret_len)
{
	size_t fixed = NLMSG_HDRLEN + NLMSG_ALIGN(header_len);

	*ret_len = message->nlmsg_len > fixed ? message->nlmsg_len - fixed : 0;
	return *ret_len ? (const char *)message + fixed : NULL;
}

const void *network_batch_find(const void *attrs, size_t len, int attr, size_t *ret_len)
{
	const struct nlattr *found = nla_find(attrs, (int)len, attr);

	*ret_len = found ? (size_t)nla_len(found) : 0;
	return found ? nla_data(found) : NULL;
}

/*
 * network_batch.h - rtnetlink requests, sent together to one network namespace
 *
 * A batch collects requests and sends all of them with one system call; the
 * kernel carries them out in their order, the later ones also when an earlier
 * one failed, so only put together what may be. A request that fails makes
 * network_batch_run fail with the first error, in words that name the request
 * and repeat what the kernel said (extended acknowledgement).
 *
 *   r = network_batch_open(netns_fd, &batch, err);
 *   network_batch_add(batch, RTM_NEWLINK, NLM_F_CREATE, "add a link", &ifi, sizeof(ifi));
 *   network_batch_put_string(batch, IFLA_IFNAME, "eth0");
 *   r = network_batch_run(batch, NULL, NULL, err);
 *
 * Running out of room while a request is put together is kept and reported by
 * network_batch_run. Private to the network*.c files. rtnetlink(7).
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "engine/base/cleanup.h"
#include "engine/base/error.h"

struct network_batch;
struct nlmsghdr;

/* Called for each message of the kernel that is no acknowledgement. */
typedef void network_batch_answer(const struct nlmsghdr *answer, void *data);

/* netns_fd is borrowed; the calling thread is back in its own namespace when
 * this returns. -EBADF for netns_fd: the caller's namespace. */
int network_batch_open(int netns_fd, struct network_batch **ret, struct error *err);
void network_batch_free(struct network_batch *batch);
DEFINE_CLEANUP(struct network_batch *, network_batch_free)

/* Begins a request with its fixed header (struct ifinfomsg and the like). what
 * is the phrase for errors and must live until the batch has run. */
void network_batch_add(struct network_batch *batch, int type, int flags, const char *what,
		       const void *header, size_t len);

/* The request begun last may fail with this errno. */
void network_batch_tolerate(struct network_batch *batch, int code);

/* Attributes of the request begun last. A nest must be ended. */
void network_batch_put(struct network_batch *batch, int attr, const void *data, size_t len);
void network_batch_put_u8(struct network_batch *batch, int attr, uint8_t value);
void network_batch_put_u16(struct network_batch *batch, int attr, uint16_t value);
void network_batch_put_u32(struct network_batch *batch, int attr, uint32_t value);
void network_batch_put_string(struct network_batch *batch, int attr, const char *text);
void network_batch_nest(struct network_batch *batch, int attr);
void network_batch_nest_end(struct network_batch *batch);
/* Bytes without an attribute header, as VETH_INFO_PEER begins with them. */
void network_batch_put_raw(struct network_batch *batch, const void *data, size_t len);

/* Sends the requests, waits for every acknowledgement and empties the batch;
 * answer may be NULL. */
int network_batch_run(struct network_batch *batch, network_batch_answer *answer, void *data,
		      struct error *err);

/* A message's fixed header of that size, NULL when the message is too short. */
const void *network_batch_header(const struct nlmsghdr *message, size_t len);

/* What follows such a header, NULL and 0 when nothing does; and the payload of
 * one attribute in such bytes (of nested attributes too), NULL when it isn't there
 * or runs past the end. */
const void *network_batch_attrs(const struct nlmsghdr *message, size_t header_len,
				size_t *ret_len);
const void *network_batch_find(const void *attrs, size_t len, int attr, size_t *ret_len);

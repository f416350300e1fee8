#include <fcntl.h>
#include <jansson.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "engine/base/fd.h"
#include "migrate/network/datagrams.h"
#include "migrate/network/socket_options.h"
#include "migrate/network/socket_walk.h"
#include "migrate/network/sockets.h"

#define JSON_BYTES_MAX (16u << 20)
#define DRAIN_US 500000
#define WIDE_BYTES (16 << 20)	/* many times GATE_RING_BYTES: of small frames the kernel counts more */

/* ---- source ---- */

struct saving {
	struct socket_defaults defaults;
	struct datagrams datagrams;
	json_t *list;
};

static void saving_closep(struct saving *s)
{
	socket_defaults_closep(&s->defaults);
	datagrams_free(&s->datagrams);
	json_decref(s->list);
}

/* 0: it is none of UDP. SO_RCVBUF of socket(7) tells twice what is set. */
static int receive_buffer_of(int socket_fd)
{
	int value = socket_option(socket_fd, SOL_SOCKET, SO_PROTOCOL) == IPPROTO_UDP ?
			    socket_option(socket_fd, SOL_SOCKET, SO_RCVBUF) / 2 : 0;

	return value > 0 ? value : 0;
}

static int save_one(void *ctx, const struct socket_place *place, int socket_fd, struct error *err)
{
	struct saving *s = ctx;
	json_t *kept = socket_options_read(&s->defaults, socket_fd);
	int receive_buffer = receive_buffer_of(socket_fd);

	if (receive_buffer && !kept)
		kept = json_object();
	if (receive_buffer)
		(void)json_object_set_new(kept, "receive_buffer", json_integer(receive_buffer));
	if (kept) {
		(void)json_object_set_new(kept, "pid", json_integer(place->pid));
		(void)json_object_set_new(kept, "fd", json_integer(place->fd));
		(void)json_array_append_new(s->list, kept);
	}
	return datagrams_look(&s->datagrams, socket_fd, err);
}

static int write_list(const struct saving *s, int meta_fd, struct error *err)
{
	CLEANUP(freep) char *text = json_dumps(s->list, JSON_COMPACT);

	if (!text)
		return error_set(err, ENOMEM, "out of memory");
	return fd_replace_file_at(meta_fd, SOCKETS_JSON, text, strlen(text), 0600, FD_REPLACE, err);
}

int sockets_save(const struct container *c, pid_t pid, int meta_fd, uint64_t *ret_lost, struct error *err)
{
	CLEANUP(saving_closep) struct saving s = { .defaults = SOCKET_DEFAULTS_EMPTY, .list = json_array() };

	sockets_forget(meta_fd);
	if (socket_defaults_open(pid, &s.defaults, err) < 0 || socket_walk(c, save_one, &s, err) < 0)
		return -err->code;
	*ret_lost = s.datagrams.lost;
	if (json_array_size(s.list) && write_list(&s, meta_fd, err) < 0)
		return -err->code;
	if (s.datagrams.len)
		return fd_replace_file_at(meta_fd, SOCKETS_DATAGRAMS, (const char *)s.datagrams.data, s.datagrams.len,
					  0600, FD_REPLACE, err);
	return 0;
}

void sockets_forget(int meta_fd)
{
	(void)unlinkat(meta_fd, SOCKETS_JSON, 0);
	(void)unlinkat(meta_fd, SOCKETS_DATAGRAMS, 0);
}

/* ---- target ---- */

static void widen(struct sockets_wide *wide, int socket_fd, json_int_t receive_buffer)
{
	const int much = WIDE_BYTES;

	if (receive_buffer <= 0 || receive_buffer > INT32_MAX || wide->n == SOCKETS_WIDE_MAX ||
	    setsockopt(socket_fd, SOL_SOCKET, SO_RCVBUFFORCE, &much, sizeof(much)) < 0)
		return;
	wide->list[wide->n++] = (struct socket_wide){ .fd = fcntl(socket_fd, F_DUPFD_CLOEXEC, 0),
						      .receive_buffer = (int)receive_buffer };
}

/* What waits fits into the usual buffer, too. */
static bool is_drained(const struct socket_wide *w)
{
	uint32_t memory[SK_MEMINFO_VARS] = { 0 };
	socklen_t len = sizeof(memory);

	return getsockopt(w->fd, SOL_SOCKET, SO_MEMINFO, memory, &len) < 0 ||
	       memory[SK_MEMINFO_RMEM_ALLOC] <= (uint32_t)w->receive_buffer;
}

void sockets_narrow(struct sockets_wide *wide)
{
	const struct timespec pause = { .tv_nsec = 1000000 };
	uint64_t end_us = clock_us() + DRAIN_US;

	for (struct socket_wide *w = wide->list; w < wide->list + wide->n; w++) {
		while (!is_drained(w) && clock_us() < end_us)
			(void)nanosleep(&pause, NULL);
		(void)setsockopt(w->fd, SOL_SOCKET, SO_RCVBUFFORCE, &w->receive_buffer, sizeof(w->receive_buffer));
		fd_close(&w->fd);
	}
	wide->n = 0;
}

static int set_one(const struct container *c, const json_t *kept, struct sockets_wide *wide, struct error *err)
{
	int number = (int)json_integer_value(json_object_get(kept, "fd"));
	CLEANUP(fd_closep) int pidfd = -EBADF;
	CLEANUP(fd_closep) int fd = -EBADF;
	pid_t pid;

	if (socket_find_pid(c, (pid_t)json_integer_value(json_object_get(kept, "pid")), &pid, err) < 0)
		return -err->code;
	pidfd = pidfd_open(pid, 0);
	fd = pidfd < 0 ? -1 : pidfd_getfd(pidfd, number, 0);
	if (fd < 0)
		return error_set(err, errno, "look at socket %d of process %d: %s", number, (int)pid, strerror(errno));
	widen(wide, fd, json_integer_value(json_object_get(kept, "receive_buffer")));
	return socket_options_set(kept, fd, err);
}

static int set_all(const struct container *c, int meta_fd, struct sockets_wide *wide, struct error *err)
{
	CLEANUP(freep) char *text = NULL;
	json_t *list;
	size_t i;
	int r = 0;

	if (fd_read_file_at(meta_fd, SOCKETS_JSON, JSON_BYTES_MAX, &text, NULL, err) < 0)
		return err->code == ENOENT ? 0 : -err->code;
	list = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
	if (!json_is_array(list))
		r = error_set(err, EPROTO, "read " SOCKETS_JSON ": it makes no sense");
	for (i = 0; r == 0 && i < json_array_size(list); i++)
		r = set_one(c, json_array_get(list, i), wide, err);
	json_decref(list);
	return r;
}

static int deliver(int netns_fd, int meta_fd, struct error *err)
{
	CLEANUP(freep) char *records = NULL;
	uint64_t lost;
	size_t len = 0;

	if (fd_read_file_at(meta_fd, SOCKETS_DATAGRAMS, DATAGRAMS_BYTES_MAX + 1, &records, &len, err) < 0)
		return err->code == ENOENT ? 0 : -err->code;
	return datagrams_deliver(netns_fd, records, len, &lost, err);
}

int sockets_restore(const struct container *c, int netns_fd, int meta_fd, struct sockets_wide *wide,
		    struct error *err)
{
	if (set_all(c, meta_fd, wide, err) < 0 || deliver(netns_fd, meta_fd, err) < 0)
		return error_wrap(err, "restore sockets");
	return 0;
}

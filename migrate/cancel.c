#include <poll.h>
#include <string.h>

#include "engine/base/clock.h"
#include "engine/monitor/monitor.h"
#include "migrate/cancel.h"

static int await_answer(int sock, uint64_t until_us, struct monitor_message *ret, struct error *err)
{
	struct pollfd p = { .fd = sock, .events = POLLIN };

	for (uint64_t now = clock_us(); now < until_us; now = clock_us()) {
		int n = poll(&p, 1, (int)((until_us - now + 999) / 1000));

		if (n < 0 && errno != EINTR)
			return error_set(err, errno, "poll: %s", strerror(errno));
		if (n > 0)
			return monitor_receive(sock, ret, err);
	}
	return error_set(err, ETIMEDOUT, "it was asked to give up, and has not done so yet");
}

int cancel_operation(const struct container *c, uint64_t patience_us, struct error *err)
{
	CLEANUP(fd_closep) int sock = -EBADF;
	struct monitor_message m;

	if (monitor_connect(c, &sock, err) < 0 ||
	    monitor_send(sock, MONITOR_CANCEL, NULL, NULL, 0, -EBADF, err) < 0 ||
	    await_answer(sock, clock_us() + patience_us, &m, err) < 0)
		return -err->code;
	if (m.op == MONITOR_DISCARD || (m.op == MONITOR_CANCEL && m.code == -EALREADY))
		return 1;
	if (m.op == MONITOR_CANCEL && m.code < 0)
		return error_set(err, -m.code, "%.*s", (int)m.len, m.data);
	if (m.op != MONITOR_CANCEL)
		return error_set(err, ESRCH, "the container has ended");
	return 0;
}

#include <sys/wait.h>

#include "engine/base/cleanup.h"
#include "engine/init.h"
#include "engine/process.h"
#include "tools/command.h"
#include "tools/launch.h"

int launch(struct container *c, const struct launch *how, int *ret_control, pid_t *ret_pid,
	   struct error *err)
{
	bool first = how->first;
	const struct monitor_plan plan = { .start = init_start, .ctx = &first, .attach = how->attach,
					   .keep_on_failure = !how->first };
	CLEANUP(fd_closep) int control = -EBADF;
	struct monitor_message m;

	if (monitor_spawn(c, &plan, &control, err) < 0 || monitor_receive(control, &m, err) < 0)
		return error_wrap(err, "container '%s'", c->name);
	if (m.op != MONITOR_STARTED || m.value[0])
		launch_reap();
	if (m.op != MONITOR_STARTED || m.value[0])
		return error_set(err, m.value[0] ? (int)m.value[0] : EPROTO, "container '%s': %.*s", c->name,
				 (int)m.len, m.data);
	*ret_control = TAKE_FD(control);
	*ret_pid = (pid_t)m.value[1];
	return 0;
}

void launch_reap(void)
{
	(void)wait(NULL);
}

int launch_exit_code(const struct error *err)
{
	switch (err->code) {
	case PROCESS_NOT_FOUND:
		return EXIT_NOT_FOUND;
	case PROCESS_NOT_EXECUTABLE:
		return EXIT_NOT_EXECUTABLE;
	default:
		return EXIT_ENGINE;
	}
}

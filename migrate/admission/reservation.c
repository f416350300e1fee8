#include <inttypes.h>
#include <string.h>

#include "engine/base/fd.h"
#include "migrate/admission/reservation.h"

#define FILE_NAME "reservation"

int reservation_write(const struct container *c, const struct reservation *r, struct error *err)
{
	char text[80];
	int n = snprintf(text, sizeof(text), "%" PRIu64 " %" PRIu64 " %" PRIu64 "\n", r->memory_bytes, r->disk_bytes,
			 r->tasks);

	return fd_replace_file_at(c->dir_fd, FILE_NAME, text, (size_t)n, 0600, FD_REPLACE, err);
}

static void add(const struct node *node, const char *name, struct reservation *sum)
{
	CLEANUP(container_freep) struct container *c = NULL;
	CLEANUP(freep) char *text = NULL;
	struct reservation r;
	struct container_state st;
	struct error ignored;

	if (container_open(node, name, &c, &ignored) < 0 || container_state(c, &st, &ignored) < 0 ||
	    st.status != CONTAINER_INCOMING || !st.monitor_alive ||
	    fd_read_file_at(c->dir_fd, FILE_NAME, 256, &text, NULL, &ignored) < 0 ||
	    sscanf(text, "%" SCNu64 " %" SCNu64 " %" SCNu64, &r.memory_bytes, &r.disk_bytes, &r.tasks) != 3)
		return;
	sum->containers++;
	sum->memory_bytes += r.memory_bytes;
	sum->disk_bytes += r.disk_bytes;
	sum->tasks += r.tasks;
}

int reservation_sum(const struct node *node, const char *except, struct reservation *ret, struct error *err)
{
	struct reservation sum = { 0 };
	char **names = NULL;
	size_t n = 0;

	if (container_list(node, &names, &n, err) < 0)
		return -err->code;
	for (size_t i = 0; i < n; i++) {
		if (!except || strcmp(names[i], except) != 0)
			add(node, names[i], &sum);
		free(names[i]);
	}
	free(names);
	*ret = sum;
	return 0;
}

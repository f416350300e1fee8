#include "engine/base/fault.h"
#include "migrate/fault_list.h"
#include "tools/commands.h"

static void print_point(void *ctx, const struct fault_name *p)
{
	(void)ctx;
	printf("%s %s %s\n", p->name, p->roles, p->fails ? "fails" : "-");
}

static int fault_points_run(const struct invocation *inv)
{
	(void)inv;
#ifdef GODWIT_FAULTS
	fault_list(print_point, NULL);
	for (const struct fault_value *v = fault_values; v->name; v++)
		printf("%s %s value\n", v->name, v->roles);
	return EXIT_OK;
#else
	(void)print_point;
	return command_fail(&(struct error){ .msg = "this godwit was built without fault points" }, EXIT_FAILED);
#endif
}

const struct command command_fault_points = {
	.name = "fault-points", .usage = "", .summary = "list the places where a test can make things go wrong",
	.notes = "A line each: the point, the kinds of processes that pass it, and 'fails' where fail=ERRNO\n"
		 "has an effect; then, with 'value', the numbers that can be set. See engine/base/fault.h.\n",
	.hidden = true, .without_node = true, .run = fault_points_run,
};

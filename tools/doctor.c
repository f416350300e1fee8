#include <jansson.h>

#include "tools/commands.h"
#include "tools/doctor.h"

struct doctor_options {
	bool json;
};

static const struct option_row rows[] = {
	OPTION(0, "json", FLAG, NULL, struct doctor_options, json, "one JSON object"),
	OPTION_END,
};

static const char *const grades[] = {
	[FINDING_GOOD] = "good", [FINDING_LIMITED] = "limited", [FINDING_BAD] = "bad",
};

static void print_line(const struct doctor_look *look, const struct finding *f)
{
	printf("%-8s %-12s %-18s %s\n", f->grade == FINDING_GOOD ? "ok" : grades[f->grade], look->area, look->name,
	       f->found);
	if (f->remedy[0])
		printf("%-40s -> %s\n", "", f->remedy);
}

static int doctor_run(const struct invocation *inv)
{
	const struct doctor_options *o = inv->options;
	enum finding_grade worst = FINDING_GOOD;
	json_t *list = json_array();

	for (const struct doctor_look *l = doctor_looks; l->name; l++) {
		struct finding f = { 0 };

		l->look(inv->node, &f);
		worst = f.grade > worst ? f.grade : worst;
		if (o->json)
			(void)json_array_append_new(list, json_pack("{s:s,s:s,s:s,s:s,s:s}", "area", l->area, "name",
				l->name, "grade", grades[f.grade], "found", f.found, "remedy", f.remedy));
		else
			print_line(l, &f);
	}
	if (o->json) {
		json_t *all = json_pack("{s:s,s:O}", "grade", grades[worst], "findings", list);

		(void)json_dumpf(all, stdout, JSON_INDENT(2));
		(void)puts("");
		json_decref(all);
	}
	json_decref(list);
	return worst == FINDING_BAD ? EXIT_FAILED : EXIT_OK;
}

const struct command command_doctor = {
	.name = "doctor", .usage = "", .summary = "tell what of this machine works for containers that move",
	.notes = "ok: works. limited: containers run, something is missing or slower. bad: containers\n"
		 "can't run here, or not move. An arrow tells what to do. Things are tried, not looked up,\n"
		 "and nothing is left behind.\n\n"
		 "Exit codes: 0 nothing is bad; 1 something is.\n",
	.options = rows, .options_size = sizeof(struct doctor_options), .max_args = 0, .run = doctor_run,
};

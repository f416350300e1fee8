#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/units.h"
#include "tools/command.h"

#define ROWS_MAX 48
#define HELP_COLUMN 30

static int parse_count(const char *text, uint32_t *ret, struct error *err)
{
	char *end;
	unsigned long v = strtoul(text, &end, 10);

	if (text[0] < '0' || text[0] > '9' || *end || v > INT32_MAX)
		return error_set(err, EINVAL, "'%.40s' is not a whole number", text);
	*ret = (uint32_t)v;
	return 0;
}

static int add_to_list(struct option_list *l, const char *text, struct error *err)
{
	if (l->n == OPTION_LIST_MAX)
		return error_set(err, E2BIG, "given more than %d times", OPTION_LIST_MAX);
	l->items[l->n++] = text;
	return 0;
}

static int store(const struct option_row *row, const char *text, void *options, struct error *err)
{
	void *at = (char *)options + row->offset;

	switch (row->kind) {
	case OPTION_KIND_FLAG:
		*(bool *)at = true;
		return 0;
	case OPTION_KIND_TEXT:
		*(const char **)at = text;
		return 0;
	case OPTION_KIND_LIST:
		return add_to_list(at, text, err);
	case OPTION_KIND_SIZE:
		return units_parse_size(text, at, err);
	case OPTION_KIND_CPUS:
		return units_parse_cpus(text, at, err);
	case OPTION_KIND_COUNT:
		return parse_count(text, at, err);
	case OPTION_KIND_DURATION:
		return units_parse_duration(text, at, err);
	case OPTION_KIND_END:
		break;
	}
	abort();
}

/* What getopt_long(3) wants, made of the rows: val is the row's index + 256. */
struct getopt_tables {
	char letters[2 * ROWS_MAX + 3];
	struct option names[ROWS_MAX + 1];
};

static void make_tables(const struct command *c, struct getopt_tables *t)
{
	char *p = t->letters;
	size_t n = 0;

	if (c->command_follows)
		*p++ = '+';
	*p++ = ':';
	for (const struct option_row *r = c->options; r && r->kind && n < ROWS_MAX; r++, n++) {
		if (r->letter)
			*p++ = r->letter;
		if (r->letter && r->value)
			*p++ = ':';
		t->names[n] = (struct option){ .name = r->name, .val = (int)n + 256,
					       .has_arg = r->value ? required_argument : no_argument };
	}
}

static const struct option_row *find_letter(const struct command *c, int letter)
{
	for (const struct option_row *r = c->options; r && r->kind; r++)
		if (r->letter == letter)
			return r;
	return NULL;
}

static int refuse(int why, char **argv, struct error *err)
{
	const char *given = argv[optind - 1];

	if (why == ':')
		return error_set(err, EINVAL, "option '%s' needs a value", given);
	if (optopt > 0 && optopt < 256)
		return error_set(err, EINVAL, "unknown option '-%c'", optopt);
	return error_set(err, EINVAL, optopt ? "option '%s' takes no value" : "unknown option '%s'", given);
}

int option_parse(const struct command *c, int argc, char **argv, void *options, int *ret_first,
		 struct error *err)
{
	struct getopt_tables t = { 0 };
	int got;

	make_tables(c, &t);
	opterr = 0;
	optind = 0;
	while ((got = getopt_long(argc, argv, t.letters, t.names, NULL)) != -1) {
		const struct option_row *r;

		if (got == '?' || got == ':')
			return refuse(got, argv, err);
		r = got >= 256 ? &c->options[got - 256] : find_letter(c, got);
		if (r && store(r, optarg, options, err) < 0)
			return error_wrap(err, "--%s", r->name);
	}
	*ret_first = optind;
	return 0;
}

void option_print_help(const struct option_row *rows, FILE *out)
{
	for (const struct option_row *r = rows; r && r->kind; r++) {
		char left[64];
		int n = snprintf(left, sizeof(left), r->letter ? "  -%c, --%s%s%s" : "  %c   --%s%s%s",
				 r->letter ? r->letter : ' ', r->name, r->value ? " " : "",
				 r->value ? r->value : "");

		if (n < HELP_COLUMN)
			fprintf(out, "%-*s%s\n", HELP_COLUMN, left, r->help);
		else
			fprintf(out, "%s\n%*s%s\n", left, HELP_COLUMN, "", r->help);
	}
}

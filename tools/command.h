/*
 * command.h - what every subcommand of godwit is made of
 *
 * A subcommand is a const struct command in a file of its own and a row of the
 * table in main.c. Its options are a table too: parsing, the help text and
 * what is refused all come from it, so that they can't differ.
 *
 *   struct rm_options { bool force; };
 *   static const struct option_row rows[] = {
 *           OPTION('f', "force", FLAG, NULL, struct rm_options, force, "kill it first"),
 *           OPTION_END,
 *   };
 *   static int rm_run(const struct invocation *inv)
 *   {
 *           const struct rm_options *o = inv->options;
 *           ...
 *           return EXIT_OK;
 *   }
 *   const struct command command_rm = {
 *           .name = "rm", .usage = "NAME...", .summary = "remove containers",
 *           .options = rows, .options_size = sizeof(struct rm_options),
 *           .min_args = 1, .max_args = ARGS_MANY, .run = rm_run,
 *   };
 *
 * Only this layer prints. An error is one line on stderr, "godwit: ...".
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "engine/base/error.h"
#include "engine/container.h"
#include "engine/node.h"

/* Exit codes; run and exec otherwise pass the container's own on. */
enum {
	EXIT_OK = 0,
	EXIT_FAILED = 1,
	EXIT_USAGE = 2,
	EXIT_ENGINE = 125,		/* run, exec: godwit itself failed */
	EXIT_NOT_EXECUTABLE = 126,
	EXIT_NOT_FOUND = 127,
};

enum option_kind {
	OPTION_KIND_END,
	OPTION_KIND_FLAG,		/* bool */
	OPTION_KIND_TEXT,		/* const char * */
	OPTION_KIND_LIST,		/* struct option_list */
	OPTION_KIND_SIZE,		/* uint64_t bytes */
	OPTION_KIND_CPUS,		/* uint32_t thousandths */
	OPTION_KIND_COUNT,		/* uint32_t */
	OPTION_KIND_DURATION,		/* uint64_t us */
};

#define OPTION_LIST_MAX 256

struct option_list {
	const char *items[OPTION_LIST_MAX];
	size_t n;
};

struct option_row {
	char letter;			/* 0: none */
	const char *name;
	enum option_kind kind;
	const char *value;		/* what the help calls it; NULL for a flag */
	size_t offset;			/* in the command's options struct */
	const char *help;
};

#define OPTION(letter, name, kind, value, type, member, help) \
	{ letter, name, OPTION_KIND_##kind, value, offsetof(type, member), help }
#define OPTION_END { 0, NULL, OPTION_KIND_END, NULL, 0, NULL }

#define ARGS_MANY 100000

struct invocation;

struct command {
	const char *name;		/* one word, or two: "image ls" */
	const char *usage;		/* its arguments; options are added by the help */
	const char *summary;		/* one line */
	const char *notes;		/* NULL, or more for the help, in lines */
	const struct option_row *options;	/* NULL: none */
	size_t options_size;		/* of the struct that they are put into */
	const void *defaults;		/* what it holds before; NULL: zeroes */
	int min_args, max_args;		/* besides options */
	bool command_follows;		/* options end at the first argument (run, exec) */
	bool hidden;			/* for tests: not in the overview */
	bool without_node;		/* needs no state directory */
	bool enters_container;		/* processes of ours do, if only for health checks; protect.h */
	int (*run)(const struct invocation *inv);	/* returns an exit code */
};

/* One call of a subcommand: parsed, checked, with its node open. */
struct invocation {
	const struct command *command;
	struct node *node;		/* NULL when without_node */
	const void *options;		/* the struct that the rows describe */
	int argc;			/* arguments that are no options */
	char **argv;			/* NULL-terminated */
	const struct oci_globals *oci;	/* NULL but for "oci ..." */
};

/* Fills the struct at *options from argv (argv[0] is skipped) as the rows say;
 * *ret_first is the index of the first argument that is no option. Options and
 * arguments may be mixed unless command_follows. -EINVAL names what is wrong. */
int option_parse(const struct command *command, int argc, char **argv, void *options,
		 int *ret_first, struct error *err);
void option_print_help(const struct option_row *rows, FILE *out);

/* The one of a list (NULL-terminated) that the first words of argv name: two words before one, "image ls".
 * *ret_words is how many were used. */
const struct command *command_find(const struct command *const *list, int argc, char **argv, int *ret_words);
void command_print_help(const struct command *c, FILE *out);

/* Whether a command line of c asks for its help. */
bool command_wants_help(const struct command *c, int argc, char **argv);

/* Prints "godwit: message" and returns code. */
int command_fail(const struct error *err, int code);
/* The same for a mistake in the arguments; returns EXIT_USAGE. */
int command_usage_error(const struct command *command, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* Does one thing to each container that is named in the arguments, holding its
 * lock when lock is true; goes on after a failure, and returns EXIT_FAILED when
 * there was one. */
typedef int (*command_each_fn)(struct container *c, const void *options, struct error *err);
int command_each(const struct invocation *inv, bool lock, command_each_fn fn);

/* The same in two steps, with the lock: many that end at once take hardly longer than one. What
 * begin writes to its item of item_size bytes is for finish, which is called when begin has succeeded. A
 * name that is given twice counts once. */
typedef int (*command_step_fn)(struct container *c, const void *options, void *item, struct error *err);
struct command_steps {
	size_t item_size;
	command_step_fn begin, finish;
};
int command_each_at_once(const struct invocation *inv, const struct command_steps *steps);

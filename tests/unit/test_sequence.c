#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "proto/sequence.h"

struct line {
	enum wire_side from;
	struct message message;		/* type DATA: a block */
};

#define SAY(side, type_name) { WIRE_##side, { .type = WIRE_##type_name } }
#define VERDICT(ok, image) \
	{ WIRE_TARGET, { .type = WIRE_VERDICT, .verdict = { .accepted = ok, .image_wanted = image } } }
#define BEGIN(tree) \
	{ WIRE_SOURCE, { .type = WIRE_TREE_BEGIN, .tree_begin.kind = MESSAGE_TREE_##tree } }
#define TREE(tree) BEGIN(tree), SAY(SOURCE, DATA), SAY(SOURCE, DATA), SAY(SOURCE, TREE_END)

/* wire.h's diagram, with every optional part. */
static const struct line migration[] = {
	SAY(SOURCE, HELLO), SAY(TARGET, HELLO), SAY(SOURCE, OFFER), VERDICT(true, true),
	TREE(IMAGE), SAY(TARGET, PREPARED), SAY(SOURCE, FROZEN), TREE(UPPER), TREE(TMPFS),
	TREE(TMPFS), TREE(CHECKPOINT), TREE(META), SAY(SOURCE, RESTORE), SAY(TARGET, RESTORED),
	SAY(SOURCE, COMMIT), SAY(TARGET, RESUMED), TREE(HELD), TREE(HELD), SAY(TARGET, SYNCED),
	TREE(HELD), SAY(SOURCE, RELEASE), SAY(TARGET, FORGOTTEN),
};
#define N_LINES (sizeof(migration) / sizeof(migration[0]))
#define AFTER_COMMIT 16

static int step(struct sequence *sequence, const struct line *line, struct error *err)
{
	return sequence_step(sequence, line->from, line->message.type,
			     line->message.type == WIRE_DATA ? NULL : &line->message, err);
}

static struct sequence after(const struct line *lines, size_t n)
{
	struct sequence sequence = SEQUENCE_INIT;
	struct error err;

	for (size_t i = 0; i < n; i++) {
		assert_int_equal(sequence_check(&sequence, lines[i].from, lines[i].message.type,
						&err), 0);
		assert_false(sequence_is_done(&sequence));
		assert_int_equal(step(&sequence, &lines[i], &err), 0);
	}
	return sequence;
}

static void the_diagram_is_legal(void **state)
{
	static const struct line shortest[] = {
		SAY(TARGET, HELLO), SAY(SOURCE, HELLO), SAY(SOURCE, OFFER), VERDICT(true, false),
		SAY(TARGET, PREPARED), SAY(SOURCE, FROZEN), BEGIN(UPPER), SAY(SOURCE, TREE_END),
		BEGIN(CHECKPOINT), SAY(SOURCE, TREE_END), BEGIN(META), SAY(SOURCE, TREE_END),
		SAY(SOURCE, RESTORE), SAY(TARGET, RESTORED), SAY(SOURCE, COMMIT),
		SAY(TARGET, RESUMED), SAY(TARGET, SYNCED), SAY(SOURCE, RELEASE), SAY(TARGET, FORGOTTEN),
	};
	static const struct line refusal[] = {
		SAY(SOURCE, HELLO), SAY(TARGET, HELLO), SAY(SOURCE, OFFER), VERDICT(false, false),
	};
	static const struct line question[] = {
		SAY(SOURCE, HELLO), SAY(TARGET, HELLO),
		{ WIRE_SOURCE, { .type = WIRE_OFFER, .offer.only_asking = true } }, VERDICT(true, true),
	};
	static const struct line query[] = {
		SAY(SOURCE, HELLO), SAY(TARGET, HELLO), SAY(SOURCE, QUERY), SAY(TARGET, ANSWER),
		SAY(SOURCE, QUERY), SAY(TARGET, ANSWER), SAY(SOURCE, RELEASE), SAY(TARGET, FORGOTTEN),
	};
	static const struct line late_release[] = {
		SAY(SOURCE, HELLO), SAY(TARGET, HELLO), SAY(SOURCE, RELEASE), SAY(TARGET, FORGOTTEN),
	};
	static const struct line join[] = {
		SAY(SOURCE, HELLO), SAY(TARGET, HELLO), SAY(SOURCE, JOIN), SAY(TARGET, JOINED),
	};
	struct sequence joined = after(join, sizeof(join) / sizeof(*join));
	struct sequence ends[] = {
		after(migration, N_LINES), after(shortest, sizeof(shortest) / sizeof(*shortest)),
		after(refusal, sizeof(refusal) / sizeof(*refusal)),
		after(question, sizeof(question) / sizeof(*question)),
		after(query, sizeof(query) / sizeof(*query)),
		after(late_release, sizeof(late_release) / sizeof(*late_release)),
	};

	(void)state;
	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++)
		assert_true(sequence_is_done(&ends[i]));
	assert_int_equal(joined.state, SEQUENCE_JOINED);
}

/* Everything that can be said, one of each kind. */
static const struct { const char *name; struct message message; } vocabulary[] = {
	{ "HELLO", { .type = WIRE_HELLO } },
	{ "OFFER", { .type = WIRE_OFFER } },
	{ "question", { .type = WIRE_OFFER, .offer.only_asking = true } },
	{ "no", { .type = WIRE_VERDICT } },
	{ "yes", { .type = WIRE_VERDICT, .verdict = { .accepted = true } } },
	{ "yes+image", { .type = WIRE_VERDICT,
			 .verdict = { .accepted = true, .image_wanted = true } } },
	{ "image", { .type = WIRE_TREE_BEGIN, .tree_begin.kind = MESSAGE_TREE_IMAGE } },
	{ "upper", { .type = WIRE_TREE_BEGIN, .tree_begin.kind = MESSAGE_TREE_UPPER } },
	{ "tmpfs", { .type = WIRE_TREE_BEGIN, .tree_begin.kind = MESSAGE_TREE_TMPFS } },
	{ "checkpoint", { .type = WIRE_TREE_BEGIN, .tree_begin.kind = MESSAGE_TREE_CHECKPOINT } },
	{ "held", { .type = WIRE_TREE_BEGIN, .tree_begin.kind = MESSAGE_TREE_HELD } },
	{ "memory", { .type = WIRE_TREE_BEGIN, .tree_begin.kind = MESSAGE_TREE_MEMORY } },
	{ "meta", { .type = WIRE_TREE_BEGIN, .tree_begin.kind = MESSAGE_TREE_META } },
	{ "DATA", { .type = WIRE_DATA } },
	{ "TREE_END", { .type = WIRE_TREE_END } },
	{ "PREPARED", { .type = WIRE_PREPARED } },
	{ "FROZEN", { .type = WIRE_FROZEN } },
	{ "RESTORE", { .type = WIRE_RESTORE } },
	{ "RESTORED", { .type = WIRE_RESTORED } },
	{ "COMMIT", { .type = WIRE_COMMIT } },
	{ "RESUMED", { .type = WIRE_RESUMED } },
	{ "RELEASE", { .type = WIRE_RELEASE } },
	{ "QUERY", { .type = WIRE_QUERY } },
	{ "ANSWER", { .type = WIRE_ANSWER } },
	{ "JOIN", { .type = WIRE_JOIN } },
	{ "JOINED", { .type = WIRE_JOINED } },
	{ "SYNCED", { .type = WIRE_SYNCED } },
	{ "FORGOTTEN", { .type = WIRE_FORGOTTEN } },
	{ "NETWORK", { .type = WIRE_NETWORK } },
	{ "PLACES", { .type = WIRE_PLACES } },
};

/* What each side may say in each state (ABORT, PROGRESS and RECEIVED aside). */
static const char *const legal[][2] = {
	[SEQUENCE_START] = { " HELLO", " HELLO" },
	[SEQUENCE_SOURCE_GREETED] = { "", " HELLO" },
	[SEQUENCE_TARGET_GREETED] = { " HELLO", "" },
	[SEQUENCE_OPEN] = { " OFFER question RELEASE QUERY JOIN NETWORK PLACES", "" },
	[SEQUENCE_ASKED] = { "", " ANSWER" },
	[SEQUENCE_ANSWERED] = { " RELEASE QUERY", "" },
	[SEQUENCE_TELLING] = { "", " PLACES" },
	[SEQUENCE_TOLD] = { " NETWORK PLACES", "" },
	[SEQUENCE_ASKING] = { "", " no yes yes+image" },
	[SEQUENCE_JOINING] = { "", " JOINED" },
	[SEQUENCE_JOINED] = { " memory", "" },
	[SEQUENCE_IN_JOINED] = { " DATA TREE_END", "" },
	[SEQUENCE_OFFERED] = { "", " no yes yes+image" },
	[SEQUENCE_IMAGE_WANTED] = { " image", "" },
	[SEQUENCE_IN_IMAGE] = { " DATA TREE_END", "" },
	[SEQUENCE_PREPARING] = { "", " PREPARED" },
	[SEQUENCE_PREPARED] = { " upper memory FROZEN", "" },
	[SEQUENCE_IN_ROUND] = { " DATA TREE_END", "" },
	[SEQUENCE_FROZEN] = { " upper memory", "" },
	[SEQUENCE_IN_LAST_ROUND] = { " DATA TREE_END", "" },
	[SEQUENCE_IN_UPPER] = { " DATA TREE_END", "" },
	[SEQUENCE_HAS_UPPER] = { " tmpfs checkpoint", "" },
	[SEQUENCE_IN_TMPFS] = { " DATA TREE_END", "" },
	[SEQUENCE_IN_CHECKPOINT] = { " DATA TREE_END", "" },
	[SEQUENCE_HAS_CHECKPOINT] = { " meta", "" },
	[SEQUENCE_IN_META] = { " DATA TREE_END", "" },
	[SEQUENCE_HAS_META] = { " RESTORE", "" },
	[SEQUENCE_RESTORING] = { "", " RESTORED" },
	[SEQUENCE_RESTORED] = { " held COMMIT", "" },
	[SEQUENCE_IN_HELD] = { " DATA TREE_END", "" },
	[SEQUENCE_COMMITTED] = { "", " RESUMED" },
	[SEQUENCE_RESUMED] = { " held", " SYNCED" },
	[SEQUENCE_IN_STRAGGLERS] = { " DATA TREE_END", "" },
	[SEQUENCE_SYNCED] = { " held RELEASE", "" },
	[SEQUENCE_IN_LAST_STRAGGLERS] = { " DATA TREE_END", "" },
	[SEQUENCE_LEAVING] = { "", " FORGOTTEN" },
	[SEQUENCE_LEFT] = { " held", "" },
	[SEQUENCE_IN_STRAYS] = { " DATA TREE_END", "" },
	[SEQUENCE_RELEASED] = { "", " FORGOTTEN" },
	[SEQUENCE_DONE] = { "", "" },
};

static void nothing_else_is_legal(void **state)
{
	struct error err;

	(void)state;
	for (unsigned at = SEQUENCE_START; at <= SEQUENCE_DONE; at++) {
		for (unsigned side = 0; side < 2; side++) {
			char said[256] = "";

			for (size_t i = 0; i < sizeof(vocabulary) / sizeof(*vocabulary); i++) {
				struct sequence sequence = { (enum sequence_state)at };
				struct line line = { (enum wire_side)side, vocabulary[i].message };
				int r = step(&sequence, &line, &err);

				if (r == 0) {
					strcat(strcat(said, " "), vocabulary[i].name);
					continue;
				}
				assert_int_equal(r, -EPROTO);
				assert_int_equal(sequence.state, at);
			}
			assert_string_equal(said, legal[at][side]);
		}
	}
}

static void abort_until_commit(void **state)
{
	static const struct line aborts[] = { SAY(SOURCE, ABORT), SAY(TARGET, ABORT) };
	struct error err;

	(void)state;
	for (size_t at = 0; at <= N_LINES; at++) {
		for (size_t i = 0; i < 2; i++) {
			struct sequence sequence = after(migration, at);
			int early = sequence.state < SEQUENCE_COMMITTED;

			assert_int_equal(step(&sequence, &aborts[i], &err), early ? 0 : -EPROTO);
			assert_true(!early || sequence_is_done(&sequence));
		}
	}
}

static void progress_from_offer_to_resumed(void **state)
{
	static const struct line progress[] = { SAY(SOURCE, PROGRESS), SAY(TARGET, PROGRESS) };
	struct error err;

	(void)state;
	for (size_t at = 0; at <= N_LINES; at++) {
		for (size_t i = 0; i < 2; i++) {
			struct sequence sequence = after(migration, at);
			enum sequence_state before = sequence.state;
			int expected = at >= 3 && at <= N_LINES - AFTER_COMMIT;

			assert_int_equal(step(&sequence, &progress[i], &err), expected ? 0 : -EPROTO);
			assert_int_equal(sequence.state, before);
		}
	}
}

static void received_from_prepared_to_resumed(void **state)
{
	static const struct line received[] = { SAY(SOURCE, RECEIVED), SAY(TARGET, RECEIVED) };
	struct error err;

	(void)state;
	for (size_t at = 0; at <= N_LINES; at++) {
		struct sequence sequence = after(migration, at);
		enum sequence_state before = sequence.state;
		bool expected = before >= SEQUENCE_PREPARED && before <= SEQUENCE_COMMITTED;

		assert_int_equal(step(&sequence, &received[WIRE_SOURCE], &err), -EPROTO);
		assert_int_equal(step(&sequence, &received[WIRE_TARGET], &err), expected ? 0 : -EPROTO);
		assert_int_equal(sequence.state, before);
	}
}

static void errors_say_what_is_expected(void **state)
{
	static const struct line meta = BEGIN(META);
	struct sequence sequence = after(migration, 2);
	struct error err;

	(void)state;
	assert_int_equal(sequence_check(&sequence, WIRE_SOURCE, WIRE_COMMIT, &err), -EPROTO);
	assert_string_equal(err.msg, "COMMIT out of order: the source may only say "
			    "QUERY or RELEASE or OFFER or JOIN or NETWORK or PLACES now");
	assert_int_equal(sequence_check(&sequence, WIRE_TARGET, WIRE_HELLO, &err), -EPROTO);
	assert_string_equal(err.msg, "HELLO out of order: the target may only say ABORT now");
	assert_int_equal(sequence_check(&sequence, WIRE_TARGET, (enum wire_type)77, &err),
			 -EPROTO);
	sequence.state = SEQUENCE_FROZEN;
	assert_int_equal(step(&sequence, &meta, &err), -EPROTO);
	assert_non_null(strstr(err.msg, "not the turn of the tree \"meta\""));
}

static void a_step_needs_its_message(void **state)
{
	struct sequence sequence = after(migration, 3);
	struct message offer = { .type = WIRE_OFFER };
	struct error err;

	(void)state;
	assert_int_equal(sequence_step(&sequence, WIRE_TARGET, WIRE_VERDICT, NULL, &err), -EINVAL);
	assert_int_equal(sequence_step(&sequence, WIRE_TARGET, WIRE_VERDICT, &offer, &err),
			 -EINVAL);
	assert_int_equal(sequence_step(&sequence, WIRE_SOURCE, WIRE_DATA, &offer, &err), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_diagram_is_legal),
		cmocka_unit_test(nothing_else_is_legal),
		cmocka_unit_test(abort_until_commit),
		cmocka_unit_test(progress_from_offer_to_resumed),
		cmocka_unit_test(received_from_prepared_to_resumed),
		cmocka_unit_test(errors_say_what_is_expected),
		cmocka_unit_test(a_step_needs_its_message),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

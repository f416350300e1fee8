#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "engine/base/cleanup.h"
#include "engine/base/fd.h"
#include "engine/monitor/output.h"

static char scratch[] = "/tmp/godwit-output-XXXXXX";

static int make_scratch(void **state)
{
	int fd;

	(void)state;
	memcpy(scratch, "/tmp/godwit-output-XXXXXX", sizeof(scratch));
	if (!mkdtemp(scratch))
		return -1;
	fd = open(scratch, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || mkdirat(fd, "meta", 0700) < 0)
		return -1;
	return close(fd);
}

static int drop_scratch(void **state)
{
	struct error err;

	(void)state;
	return fd_remove_tree_at(AT_FDCWD, scratch, &err);
}

/* The log's lines as "stream tag text", to compare without times. */
static char *log_text(void)
{
	CLEANUP(fd_closep) int dir = open(scratch, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	char *text = NULL, *out = calloc(1, 200000), *save = NULL;
	struct error err;

	assert_int_equal(fd_read_file_at(dir, OUTPUT_LOG, 1 << 20, &text, NULL, &err), 0);
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		const char *time, *words;
		enum output_stream stream;
		bool full;

		assert_true(output_parse(line, &time, &stream, &full, &words));
		assert_int_equal(strlen(time), strlen("2026-11-21T18:00:00.123456789Z"));
		(void)sprintf(out + strlen(out), "%d%c%s|", (int)stream, full ? 'F' : 'P', words);
	}
	free(text);
	return out;
}

static void write_all(struct output *o, enum output_stream s, const char *text)
{
	struct error err;

	assert_int_equal(output_write(o, s, text, strlen(text), &err), 0);
}

static struct output open_output(void)
{
	CLEANUP(fd_closep) int dir = open(scratch, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct output o;
	struct error err;

	assert_int_equal(output_open(dir, &o, &err), 0);
	return o;
}

static void lines_of_both_streams(void **state)
{
	struct output o = open_output();
	CLEANUP(freep) char *text = NULL;
	struct error err;

	(void)state;
	write_all(&o, OUTPUT_STDOUT, "one\ntw");
	write_all(&o, OUTPUT_STDERR, "err\n");
	write_all(&o, OUTPUT_STDOUT, "o\n\nthree");
	assert_int_equal(output_flush(&o, &err), 0);
	output_close(&o);
	text = log_text();
	assert_string_equal(text, "0Fone|1Ferr|0Ftwo|0F|0Pthree|");
}

static void goes_on_where_it_was(void **state)
{
	struct output o = open_output();
	CLEANUP(freep) char *text = NULL;

	(void)state;
	write_all(&o, OUTPUT_STDOUT, "one\n");
	output_close(&o);
	o = open_output();
	write_all(&o, OUTPUT_STDOUT, "two\n");
	output_close(&o);
	text = log_text();
	assert_string_equal(text, "0Fone|0Ftwo|");
}

/* However the bytes are cut: pieces of at most OUTPUT_LINE_MAX, the last one
 * with the end of the line. */
static void long_lines_are_cut(void **state)
{
	static const size_t lengths[] = { OUTPUT_LINE_MAX - 1, OUTPUT_LINE_MAX, OUTPUT_LINE_MAX + 1,
					  3 * OUTPUT_LINE_MAX + 7 };
	CLEANUP(freep) char *line = malloc(4 * OUTPUT_LINE_MAX);

	for (size_t i = 0; i < sizeof(lengths) / sizeof(*lengths); i++) {
		size_t sizes[] = { lengths[i] + 1, 1000 }, text_bytes = 0;

		memset(line, 'x', lengths[i]);
		line[lengths[i]] = '\n';
		for (size_t k = 0; k < 2; k++) {
			struct output o = open_output();
			CLEANUP(freep) char *text = NULL;
			struct error err;

			for (size_t at = 0; at <= lengths[i]; at += sizes[k])
				assert_int_equal(output_write(&o, OUTPUT_STDOUT, line + at,
							      lengths[i] + 1 - at < sizes[k] ?
								      lengths[i] + 1 - at : sizes[k],
							      &err), 0);
			assert_int_equal(output_flush(&o, &err), 0);
			output_close(&o);
			text = log_text();
			text_bytes = 0;
			for (const char *p = text; *p; p++)
				text_bytes += *p == 'x';
			assert_int_equal(text_bytes, lengths[i]);
			assert_non_null(strstr(text, "0F"));
			assert_null(strstr(strstr(text, "0F") + 1, "0F"));
			assert_int_equal(drop_scratch(state), 0);
			assert_int_equal(make_scratch(state), 0);
		}
	}
}

static void other_lines_are_refused(void **state)
{
	static const char *const bad[] = { "", "x", "time stdout", "time stdout F", "time stdout X text",
					   "time stdfoo F text", "time stdout Ftext" };

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		CLEANUP(freep) char *line = strdup(bad[i]);
		const char *time, *text;
		enum output_stream stream;
		bool full;

		assert_false(output_parse(line, &time, &stream, &full, &text));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(lines_of_both_streams, make_scratch, drop_scratch),
		cmocka_unit_test_setup_teardown(goes_on_where_it_was, make_scratch, drop_scratch),
		cmocka_unit_test_setup_teardown(long_lines_are_cut, make_scratch, drop_scratch),
		cmocka_unit_test(other_lines_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

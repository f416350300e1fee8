#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "tools/table.h"

#define GAP 3

struct table {
	const char *const *headings;
	size_t columns, rows;
	char **cells;			/* rows * columns */
	bool lost;
};

struct table *table_new(const char *const *headings)
{
	struct table *t = calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	t->headings = headings;
	while (headings[t->columns])
		t->columns++;
	return t;
}

void table_free(struct table *t)
{
	if (!t)
		return;
	for (size_t i = 0; i < t->rows * t->columns; i++)
		free(t->cells[i]);
	free(t->cells);
	free(t);
}

void table_add(struct table *t, const char *const *cells)
{
	char **more = reallocarray(t->cells, (t->rows + 1) * t->columns, sizeof(*more));

	if (!more) {
		t->lost = true;
		return;
	}
	t->cells = more;
	for (size_t i = 0; i < t->columns; i++) {
		char *cell = strdup(cells[i]);

		t->lost |= !cell;
		more[t->rows * t->columns + i] = cell;
	}
	t->rows++;
}

static const char *cell_at(const struct table *t, size_t row, size_t column)
{
	const char *cell = t->cells[row * t->columns + column];

	return cell ? cell : "?";
}

static size_t width(const struct table *t, size_t column)
{
	size_t w = strlen(t->headings[column]);

	for (size_t row = 0; row < t->rows; row++)
		if (strlen(cell_at(t, row, column)) > w)
			w = strlen(cell_at(t, row, column));
	return w + GAP;
}

int table_print(const struct table *t)
{
	for (size_t row = 0; row <= t->rows; row++)
		for (size_t i = 0; i < t->columns; i++) {
			const char *cell = row ? cell_at(t, row - 1, i) : t->headings[i];

			printf("%-*s%s", i + 1 == t->columns ? 0 : (int)width(t, i), cell,
			       i + 1 == t->columns ? "\n" : "");
		}
	return t->lost ? -ENOMEM : fflush(stdout) ? -errno : 0;
}

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "engine/base/units.h"

struct unit {
	const char *name;
	double factor;
};

static const struct unit sizes[] = {
	{ "", 1 }, { "b", 1 },
	{ "k", 0x1p10 }, { "kb", 0x1p10 }, { "kib", 0x1p10 },
	{ "m", 0x1p20 }, { "mb", 0x1p20 }, { "mib", 0x1p20 },
	{ "g", 0x1p30 }, { "gb", 0x1p30 }, { "gib", 0x1p30 },
	{ "t", 0x1p40 }, { "tb", 0x1p40 }, { "tib", 0x1p40 },
	{ NULL, 0 },
};

static const struct unit durations[] = {
	{ "", 1e6 }, { "ms", 1e3 }, { "s", 1e6 }, { "m", 60e6 }, { "h", 3600e6 }, { "d", 86400e6 },
	{ NULL, 0 },
};

/* Digits with at most one point, then a unit: nothing that strtod takes
 * besides (signs, blanks, exponents, "inf"). */
static bool parse(const char *text, const struct unit *units, double *ret)
{
	size_t digits = strspn(text, "0123456789."), points = 0;
	char number[32];

	for (size_t i = 0; i < digits; i++)
		points += text[i] == '.';
	if (!isdigit((unsigned char)text[0]) || points > 1 || digits >= sizeof(number))
		return false;
	memcpy(number, text, digits);
	number[digits] = '\0';
	for (; units->name; units++) {
		if (strcasecmp(units->name, text + digits) != 0)
			continue;
		*ret = strtod(number, NULL) * units->factor;
		return true;
	}
	return false;
}

int units_parse_size(const char *text, uint64_t *ret_bytes, struct error *err)
{
	double v;

	if (!parse(text, sizes, &v))
		return error_set(err, EINVAL, "'%.40s' is not a size; write it like 1500000, 64m or 1.5g", text);
	if (v >= 0x1p62)
		return error_set(err, ERANGE, "size '%.40s' is too large", text);
	*ret_bytes = (uint64_t)v;
	return 0;
}

int units_parse_cpus(const char *text, uint32_t *ret_millis, struct error *err)
{
	static const struct unit none[] = { { "", 1000 }, { NULL, 0 } };
	double v;

	if (!parse(text, none, &v))
		return error_set(err, EINVAL, "'%.40s' is not a number of processors; write it like 2 or 0.5", text);
	if (v < 1 || v > 100000e3)
		return error_set(err, ERANGE, "'%.40s' processors: from 0.001 to 100000", text);
	*ret_millis = (uint32_t)lround(v);
	return 0;
}

int units_parse_duration(const char *text, uint64_t *ret_us, struct error *err)
{
	double v;

	if (!parse(text, durations, &v))
		return error_set(err, EINVAL, "'%.40s' is not a duration; write it like 10, 300ms or 5m", text);
	if (v >= 0x1p62)
		return error_set(err, ERANGE, "duration '%.40s' is too long", text);
	*ret_us = (uint64_t)v;
	return 0;
}

char *units_format_size(uint64_t bytes, char buf[UNITS_TEXT_SIZE])
{
	static const char *const names[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
	double v = (double)bytes;
	int i = 0;

	for (; v >= 1000 && i < 6; i++)
		v /= 1024;
	(void)snprintf(buf, UNITS_TEXT_SIZE, "%.*f %s", i && v < 9.95 ? 1 : 0, v, names[i]);
	return buf;
}

char *units_format_duration(uint64_t us, char buf[UNITS_TEXT_SIZE])
{
	double s = (double)us / 1e6;

	if (s < 1)
		(void)snprintf(buf, UNITS_TEXT_SIZE, "%.0f ms", s * 1e3);
	else if (s < 100)
		(void)snprintf(buf, UNITS_TEXT_SIZE, "%.*f s", s < 10 ? 1 : 0, s);
	else if (s < 100 * 60)
		(void)snprintf(buf, UNITS_TEXT_SIZE, "%.0f min", s / 60);
	else if (s < 48 * 3600)
		(void)snprintf(buf, UNITS_TEXT_SIZE, "%.0f h", s / 3600);
	else
		(void)snprintf(buf, UNITS_TEXT_SIZE, "%.0f days", s / 86400);
	return buf;
}

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "proto/text.h"
#include "proto/wire.h"

#define LOWER "abcdefghijklmnopqrstuvwxyz"
#define UPPER "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define DIGITS "0123456789"

struct class {
	const char *name;
	size_t min, max;		/* length in bytes */
	const char *alphabet;		/* NULL: UTF-8 */
	bool printable;
};

static const struct class classes[] = {
	[TEXT_NAME] = { "a name ([a-zA-Z0-9][a-zA-Z0-9_.-]{0,127})", 1, WIRE_NAME_MAX,
			LOWER UPPER DIGITS "_.-", true },
	[TEXT_TOKEN] = { "32 lower-case hex digits", WIRE_TOKEN_CHARS, WIRE_TOKEN_CHARS,
			 DIGITS "abcdef", true },
	[TEXT_DIGEST] = { "64 lower-case hex digits", WIRE_DIGEST_CHARS, WIRE_DIGEST_CHARS,
			  DIGITS "abcdef", true },
	[TEXT_LINE] = { "a printable line of at most 512 bytes", 0, WIRE_LINE_MAX, NULL, true },
	[TEXT_PHRASE] = { "a printable line of 1 to 512 bytes", 1, WIRE_LINE_MAX, NULL, true },
	[TEXT_LABEL] = { "a printable line of at most 4095 bytes", 0, WIRE_PATH_MAX, NULL, true },
	[TEXT_JSON] = { "UTF-8 text of at most 262144 bytes", 0, WIRE_JSON_MAX, NULL, false },
	[TEXT_DOCUMENT] = { "UTF-8 text of 1 to 262144 bytes", 1, WIRE_JSON_MAX, NULL, false },
};

/* Decodes one character and returns its bytes, 0 when it is not valid: cut,
 * overlong, a surrogate or above U+10FFFF (RFC 3629, section 4). */
static size_t utf8_next(const unsigned char *s, uint32_t *ret)
{
	static const struct { unsigned char mask, lead; uint32_t lowest; } forms[] = {
		{ 0x80, 0x00, 0 }, { 0xe0, 0xc0, 0x80 }, { 0xf0, 0xe0, 0x800 },
		{ 0xf8, 0xf0, 0x10000 },
	};
	size_t n = 0;
	uint32_t c;

	while (n < 4 && (s[0] & forms[n].mask) != forms[n].lead)
		n++;
	if (n == 4)
		return 0;
	c = s[0] & (unsigned char)~forms[n].mask;
	for (size_t i = 1; i <= n; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (s[i] & 0x3f);
	}
	if (c < forms[n].lowest || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
		return 0;
	*ret = c;
	return n + 1;
}

static bool is_control(uint32_t c)
{
	return c < 0x20 || (c >= 0x7f && c < 0xa0);
}

/* Marks, embeddings, overrides and isolates of direction, line separators. */
static bool is_deceptive(uint32_t c)
{
	return c == 0x061c || c == 0x200e || c == 0x200f || (c >= 0x2028 && c <= 0x202e) ||
	       (c >= 0x2066 && c <= 0x2069) || c == 0xfeff;
}

static bool is_utf8(const char *text, bool printable)
{
	const unsigned char *s = (const unsigned char *)text;
	uint32_t c;

	while (*s) {
		size_t n = utf8_next(s, &c);

		if (n == 0)
			return false;
		if (printable && (is_control(c) || is_deceptive(c)))
			return false;
		if (is_control(c) && !strchr("\t\n\r", (int)c))
			return false;
		s += n;
	}
	return true;
}

bool text_is(enum text_class class, const char *text)
{
	const struct class *rule = &classes[class];
	size_t len = strnlen(text, rule->max + 1);

	if (len < rule->min || len > rule->max)
		return false;
	if (!rule->alphabet)
		return is_utf8(text, rule->printable);
	if (class == TEXT_NAME && strchr("_.-", text[0]))
		return false;
	return strspn(text, rule->alphabet) == len;
}

const char *text_class_name(enum text_class class)
{
	return classes[class].name;
}

bool text_is_mount_point(const char *path)
{
	if (path[0] != '/')
		return false;
	while (*path) {
		size_t len = strcspn(++path, "/");

		if (len == 0 || (len <= 2 && strspn(path, ".") >= len))
			return false;
		path += len;
	}
	return true;
}

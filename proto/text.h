/*
 * text.h - is this text what it claims to be?
 *
 * Everything here is ended by NUL. Lines and labels go to terminals and logs,
 * so they are valid UTF-8 (RFC 3629) of printable characters: no C0 and C1
 * controls (ECMA-48: escape sequences begin with them), no line separators, no
 * characters that change the direction of writing (Unicode TR 36, 3.1).
 */
#pragma once

#include <stdbool.h>

enum text_class {
	TEXT_NAME,		/* [a-zA-Z0-9][a-zA-Z0-9_.-]{0,127} */
	TEXT_TOKEN,		/* 32 lower-case hex digits */
	TEXT_DIGEST,		/* 64 */
	TEXT_LINE,		/* printable, to WIRE_LINE_MAX bytes, may be empty */
	TEXT_PHRASE,		/* a line, not empty */
	TEXT_LABEL,		/* printable, to WIRE_PATH_MAX bytes, may be empty */
	TEXT_JSON,		/* UTF-8, to WIRE_JSON_MAX bytes, of controls only \t \n \r */
	TEXT_DOCUMENT,		/* the same, not empty */
};

bool text_is(enum text_class class, const char *text);

/* "a name ([a-zA-Z0-9]...)": what an error message says that it must be. */
const char *text_class_name(enum text_class class);

/* Absolute, and no component is empty, "." or ".."; "/" itself is not one. */
bool text_is_mount_point(const char *path);

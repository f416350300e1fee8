#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "engine/base/error.h"

int error_set(struct error *err, int code, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(err->msg, sizeof(err->msg), fmt, ap);
	va_end(ap);
	err->code = code;
	return -code;
}

int error_wrap(struct error *err, const char *fmt, ...)
{
	struct error inner = *err;
	char *end = err->msg + sizeof(err->msg);
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(err->msg, sizeof(err->msg), fmt, ap);
	va_end(ap);
	if (n < 0 || n >= end - err->msg)
		return -err->code;

	n = snprintf(err->msg + n, (size_t)(end - err->msg - n), ": %s", inner.msg);
	return n < 0 ? -EIO : -err->code;	/* cut at the end of msg: fine */
}

#include <errno.h>
#include <stddef.h>

#include "engine/base/library.h"
#include "engine/image/libarchive.h"

int libarchive_load(struct libarchive *ret, struct error *err)
{
	static const struct library_function functions[] = {
#define FUNCTION(name) { #name, offsetof(struct libarchive, name) },
		LIBARCHIVE_FUNCTIONS(FUNCTION)
#undef FUNCTION
	};

	return library_load("libarchive.so.13", "libarchive13", functions,
			    sizeof(functions) / sizeof(functions[0]), ret, err);
}

int libarchive_fail(const struct libarchive *lib, struct archive *a, const char *what,
		    struct error *err)
{
	const char *text = lib->archive_error_string(a);

	return error_set(err, EPROTO, "%s: %s", what, text ? text : "damaged archive");
}

struct libarchive_utf8 libarchive_utf8_enter(void)
{
	struct libarchive_utf8 utf8 = { .own = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0) };

	if (utf8.own)
		utf8.old = uselocale(utf8.own);
	return utf8;
}

void libarchive_utf8_leave(struct libarchive_utf8 *utf8)
{
	if (!utf8->own)
		return;
	(void)uselocale(utf8->old);
	freelocale(utf8->own);
}

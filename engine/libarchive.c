#include <dlfcn.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "engine/libarchive.h"

#define SONAME "libarchive.so.13"

int libarchive_load(struct libarchive *ret, struct error *err)
{
	static const struct {
		const char *name;
		size_t offset;
	} functions[] = {
#define FUNCTION(name) { #name, offsetof(struct libarchive, name) },
		LIBARCHIVE_FUNCTIONS(FUNCTION)
#undef FUNCTION
	};
	void *handle = dlopen(SONAME, RTLD_LAZY | RTLD_LOCAL | RTLD_NODELETE);
	struct libarchive lib;

	if (!handle)
		return error_set(err, ELIBACC, "load libarchive (Debian package libarchive13): %s",
				 dlerror());
	for (size_t i = 0; i < sizeof(functions) / sizeof(functions[0]); i++) {
		void *function = dlsym(handle, functions[i].name);

		if (!function) {
			(void)dlclose(handle);
			return error_set(err, ELIBBAD, "%s has no %s", SONAME, functions[i].name);
		}
		memcpy((char *)&lib + functions[i].offset, &function, sizeof(function));
	}
	(void)dlclose(handle);
	*ret = lib;
	return 0;
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

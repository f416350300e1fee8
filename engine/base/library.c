#include <dlfcn.h>
#include <errno.h>
#include <string.h>

#include "engine/base/library.h"

int library_load(const char *soname, const char *package, const struct library_function *functions,
		 size_t n, void *ret, struct error *err)
{
	void *handle = dlopen(soname, RTLD_LAZY | RTLD_LOCAL | RTLD_NODELETE);
	int r = 0;

	if (!handle)
		return error_set(err, ELIBACC, "load %s (Debian package %s): %s", soname, package,
				 dlerror());
	for (size_t i = 0; i < n && r == 0; i++) {
		void *function = dlsym(handle, functions[i].name);

		if (function)
			memcpy((char *)ret + functions[i].offset, &function, sizeof(function));
		else
			r = error_set(err, ELIBBAD, "%s has no %s", soname, functions[i].name);
	}
	(void)dlclose(handle);
	return r;
}

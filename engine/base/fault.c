#include <stdlib.h>
#include <string.h>

#include "engine/base/fault.h"

bool fault_is_set(const char *name)
{
	const char *p = getenv("GODWIT_FAULT");
	size_t len = strlen(name);

	for (; p && *p; p += strcspn(p, ","), p += *p == ',')
		if (strcspn(p, ",") == len && !strncmp(p, name, len))
			return true;
	return false;
}

#include <errno.h>
#include <stdio.h>
#include <sys/random.h>

#include "engine/base/random.h"

int random_hex(char *ret, size_t digits, struct error *err)
{
	unsigned char bytes[32];
	size_t n = digits / 2;

	if (getrandom(bytes, n, 0) != (ssize_t)n)
		return error_set(err, EIO, "no random bytes from the kernel");
	for (size_t i = 0; i < n; i++)
		(void)snprintf(ret + 2 * i, 3, "%02x", bytes[i]);
	return 0;
}

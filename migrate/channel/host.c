#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "migrate/channel/host.h"
#include "proto/wire.h"

/* A number that is too large would be cut; names are looked up by whoever uses them. */
static bool is_no_port(const char *text)
{
	return text[strspn(text, "0123456789")] == '\0' && strtoul(text, NULL, 10) > UINT16_MAX;
}

int host_wrong_port(const char *port, struct error *err)
{
	return error_set(err, EINVAL, "port '%s' is wrong: it is neither a number up to 65535 nor the name of "
			 "a service", port);
}

int host_split(const char *text, char ret_host[256], char ret_port[16], struct error *err)
{
	const char *colon = strrchr(text, ':'), *bracket = strchr(text, ']'), *host = text;
	size_t len = strlen(text);
	bool good = text[0] != '[' || (bracket && (bracket[1] == '\0' || bracket[1] == ':'));

	if (good && text[0] == '[') {
		host++;
		len = (size_t)(bracket - host);
		colon = bracket[1] ? bracket + 1 : NULL;
	} else if (colon && strchr(text, ':') == colon) {
		len = (size_t)(colon - text);
	} else {
		colon = NULL;		/* no port, or a bare IPv6 address */
	}
	if (!good || len > 255 || (len == 0 && !colon) || (colon && (!colon[1] || strlen(colon + 1) > 15)))
		return error_set(err, EINVAL, "'%.100s' is not HOST or HOST:PORT", text);
	(void)snprintf(ret_host, 256, "%.*s", (int)len, host);
	(void)snprintf(ret_port, 16, "%d", WIRE_DEFAULT_PORT);
	if (colon)
		(void)snprintf(ret_port, 16, "%s", colon + 1);
	return is_no_port(ret_port) ? host_wrong_port(ret_port, err) : 0;
}

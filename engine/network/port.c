#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/network/port.h"

static const struct {
	const char *name;
	uint8_t number;
} protocols[] = { { "tcp", IPPROTO_TCP }, { "udp", IPPROTO_UDP }, { "sctp", IPPROTO_SCTP } };

const char *port_protocol(const struct port *port)
{
	for (size_t i = 0; i < sizeof(protocols) / sizeof(*protocols); i++)
		if (protocols[i].number == port->protocol)
			return protocols[i].name;
	return "tcp";
}

/* Digits until one of the characters in end; what follows is left in *at. */
static bool take_number(const char **at, const char *end, uint16_t *ret)
{
	char *rest;
	unsigned long value;

	if (**at < '0' || **at > '9')
		return false;
	value = strtoul(*at, &rest, 10);
	if (value == 0 || value > UINT16_MAX || !strchr(end, *rest))
		return false;
	*at = rest;
	*ret = (uint16_t)value;
	return true;
}

static bool take_protocol(const char *text, uint8_t *ret)
{
	*ret = IPPROTO_TCP;
	if (!*text)
		return true;
	for (size_t i = 0; *text == '/' && i < sizeof(protocols) / sizeof(*protocols); i++)
		if (!strcmp(text + 1, protocols[i].name)) {
			*ret = protocols[i].number;
			return true;
		}
	return false;
}

/* "192.0.2.1:" or "[2001:db8::1]:" before the numbers. */
static bool take_address(const char **at, char ret[INET6_ADDRSTRLEN])
{
	const char *text = *at, *end = *text == '[' ? strchr(text, ']') : strchr(text, ':');
	bool v6 = *text == '[';
	size_t len;
	uint8_t bytes[16];

	if (!v6 && !strchr(text, '.'))
		return true;
	text += v6;
	if (!end || (len = (size_t)(end - text)) >= INET6_ADDRSTRLEN)
		return false;
	memcpy(ret, text, len);
	ret[len] = '\0';
	end += v6;
	*at = end + 1;
	return *end == ':' && inet_pton(v6 ? AF_INET6 : AF_INET, ret, bytes) == 1;
}

int port_parse(const char *text, struct port *ret, struct error *err)
{
	struct port port = { 0 };
	const char *at = text;

	if (!take_address(&at, port.address) || !take_number(&at, ":", &port.node) ||
	    *at++ != ':' || !take_number(&at, "/", &port.container) || !take_protocol(at, &port.protocol))
		return error_set(err, EINVAL, "'%.80s' is no published port: write [ADDRESS:]PORT:CONTAINER-PORT"
				 "[/tcp|udp|sctp]", text);
	*ret = port;
	return 0;
}

void port_format(const struct port *port, char ret[PORT_TEXT_MAX])
{
	bool v6 = strchr(port->address, ':') != NULL;

	(void)snprintf(ret, PORT_TEXT_MAX, "%s%s%s%s%u:%u/%s", v6 ? "[" : "", port->address, v6 ? "]" : "",
		       port->address[0] ? ":" : "", port->node, port->container, port_protocol(port));
}

/* Both want the same port of a node. */
static bool collides(const struct port *a, const struct port *b)
{
	return a->node == b->node && a->protocol == b->protocol &&
	       (!a->address[0] || !b->address[0] || !strcmp(a->address, b->address));
}

int port_list_add(struct port *ports, size_t *n, const char *text, struct error *err)
{
	struct port port;

	if (port_parse(text, &port, err) < 0)
		return -err->code;
	if (*n == PORTS_MAX)
		return error_set(err, E2BIG, "more than %d published ports", PORTS_MAX);
	for (size_t i = 0; i < *n; i++)
		if (collides(ports + i, &port))
			return error_set(err, EEXIST, "port %u/%s is published twice", port.node, port_protocol(&port));
	ports[(*n)++] = port;
	return 0;
}

int port_list_parse(const char *text, struct port ret[PORTS_MAX], size_t *ret_n, struct error *err)
{
	char one[PORT_TEXT_MAX];

	*ret_n = 0;
	while (*text) {
		size_t len = strcspn(text, ",");

		if (len >= sizeof(one))
			return error_set(err, EINVAL, "'%.80s' is no published port", text);
		memcpy(one, text, len);
		one[len] = '\0';
		if (port_list_add(ret, ret_n, one, err) < 0)
			return -err->code;
		text += len + (text[len] == ',');
	}
	return 0;
}

void port_list_format(const struct port *ports, size_t n, char ret[PORT_LIST_TEXT_MAX])
{
	*ret = '\0';
	for (size_t i = 0; i < n; i++) {
		if (i)
			*ret++ = ',';
		port_format(ports + i, ret);
		ret += strlen(ret);
	}
}

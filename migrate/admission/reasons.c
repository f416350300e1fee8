#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "migrate/admission/reasons.h"
#include "proto/text.h"

static const struct {
	const char *name, *remedy;
} codes[REASON_MAX_] = {
	[REASON_NOT_RUNNING] = { "not-running", "start it first" },
	[REASON_MONITOR_LOST] = { "monitor-lost", "try again when its memory is complete, or stop and start it" },
	[REASON_EXEC_SESSION] = { "exec-session", "end the session first" },
	[REASON_TRACED] = { "traced", "detach the debugger" },
	[REASON_NAMESPACE_NESTED] = { "namespace-nested", "end the process" },
	[REASON_NESTED] = { "nested", "make it anew on that node, or run it without --nested" },
	[REASON_TERMINAL_BUSY] = { "terminal-busy", "end the program in the foreground, or suspend it with Ctrl-Z" },
	[REASON_OBJECT_UNSUPPORTED] = { "object-unsupported", "let the program close it, or end the process" },
	[REASON_OBJECT_OUTSIDE] = { "object-outside", "let the program close it, or end the process" },
	[REASON_UNACCEPTED] = { "unaccepted", "let the program accept them, or close the socket" },
	[REASON_CRIU_MISSING] = { "criu-missing", "run tools/setup on that node" },
	[REASON_CRIU_OLDER] = { "criu-older", "install the same version or a newer one on that node" },
	[REASON_CONFIG_INVALID] = { "config-invalid", "use the same version of godwit on both nodes" },
	[REASON_ARCH_DIFFERS] = { "arch-differs", "choose a node of the same architecture" },
	[REASON_CPU_FEATURES] = { "cpu-features", "choose a node whose processor has them" },
	[REASON_KERNEL_FEATURE] = { "kernel-feature", "choose a node whose kernel has it" },
	[REASON_NEED_UNKNOWN] = { "need-unknown", "use the same version of godwit on both nodes" },
	[REASON_LIMIT_UNAVAILABLE] = { "limit-unavailable", "enable the controller on that node, or choose another" },
	[REASON_RLIMIT_SHORT] = { "rlimit-short", "raise the limit of 'godwit serve' on that node, or choose another" },
	[REASON_NAME_TAKEN] = { "name-taken", "rename or remove one of the two" },
	[REASON_PORT_TAKEN] = { "port-taken", "remove the container that has published it on that node" },
	[REASON_IDS_TAKEN] = { "ids-taken", "remove the container that has them on that node, or choose another" },
	[REASON_NETWORK_MISSING] = { "network-missing", "make it there with 'godwit network create'" },
	[REASON_NETWORK_DIFFERS] = { "network-differs", "make networks of one name with the same subnets" },
	[REASON_ADDRESS_TAKEN] = { "address-taken", "free the address on that node" },
	[REASON_IMAGE_BROKEN] = { "image-broken", "remove it or import it again on that node" },
	[REASON_IMAGE_DIFFERS] = { "image-differs", "import one of them under another name" },
	[REASON_VOLUME_MISSING] = { "volume-missing", "make the path available on that node" },
	[REASON_DEVICE_MISSING] = { "device-missing", "link the path to a disk on that node, or lift the limit with "
				    "'godwit update' and a rate of 0" },
	[REASON_MEMORY_SHORT] = { "memory-short", "free memory on that node, or choose another" },
	[REASON_DISK_SHORT] = { "disk-short", "free space on that node, or choose another" },
	[REASON_TASKS_SHORT] = { "tasks-short", "raise kernel.pid_max and kernel.threads-max on that node" },
	[REASON_NODE_BUSY] = { "node-busy", "try again when others have arrived" },
	[REASON_TOKEN_USED] = { "token-used", "start the migration again" },
};

const char *reason_name(enum reason code)
{
	return codes[code].name;
}

static void add(struct reasons *r, const char *code, const char *message, const char *remedy)
{
	if (r->n < WIRE_REASONS_MAX)
		r->list[r->n++] = (struct message_reason){ .code = strdup(code), .message = strdup(message),
							   .remedy = strdup(remedy) };
}

/* Names of programs and files may hold anything. */
static void make_printable(char *text)
{
	if (text_is(TEXT_LINE, text))
		return;
	for (; *text; text++)
		if (*text < ' ' || *text > '~')
			*text = '?';
}

void reasons_add(struct reasons *r, enum reason code, const char *fmt, ...)
{
	char message[WIRE_LINE_MAX];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(message, sizeof(message), fmt, ap);
	va_end(ap);
	make_printable(message);
	add(r, codes[code].name, message, codes[code].remedy);
}

void reasons_add_peer(struct reasons *r, const struct message_reason *list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		add(r, list[i].code, list[i].message, list[i].remedy);
}

void reasons_free(struct reasons *r)
{
	for (size_t i = 0; i < r->n; i++) {
		free((void *)(uintptr_t)r->list[i].code);
		free((void *)(uintptr_t)r->list[i].message);
		free((void *)(uintptr_t)r->list[i].remedy);
	}
	*r = (struct reasons){ 0 };
}

int reasons_to_error(const struct reasons *r, struct error *err)
{
	return error_set(err, EPERM, "%s; %s (%s)%s", r->list[0].message, r->list[0].remedy, r->list[0].code,
			 r->n > 1 ? ", and more reasons" : "");
}

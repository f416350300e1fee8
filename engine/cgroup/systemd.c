#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-bus.h>
#include <time.h>

#include "engine/base/cleanup.h"
#include "engine/base/clock.h"
#include "engine/base/library.h"
#include "engine/cgroup/systemd.h"

#define SERVICE "org.freedesktop.systemd1"
#define OBJECT "/org/freedesktop/systemd1"
#define MANAGER SERVICE ".Manager"
#define PRIVATE_SOCKET "unix:path=/run/systemd/private"
#define JOB_TIMEOUT_US 30000000u

#define FUNCTIONS(X)			\
	X(sd_bus_call)			\
	X(sd_bus_error_free)		\
	X(sd_bus_error_has_name)	\
	X(sd_bus_flush_close_unref)	\
	X(sd_bus_get_property_string)	\
	X(sd_bus_match_signal)		\
	X(sd_bus_message_append)	\
	X(sd_bus_message_append_array)	\
	X(sd_bus_message_close_container) \
	X(sd_bus_message_new_method_call) \
	X(sd_bus_message_open_container) \
	X(sd_bus_message_read)		\
	X(sd_bus_message_unref)		\
	X(sd_bus_new)			\
	X(sd_bus_open_system)		\
	X(sd_bus_process)		\
	X(sd_bus_set_address)		\
	X(sd_bus_start)			\
	X(sd_bus_wait)

struct library {
#define FUNCTION(name) __typeof__(name) *name;
	FUNCTIONS(FUNCTION)
#undef FUNCTION
};

struct connection {
	struct library lib;
	sd_bus *bus;
	bool direct;			/* without a bus between */
	char job[128], removed[128], result[32];
};

static int load(struct library *ret, struct error *err)
{
	static const struct library_function functions[] = {
#define FUNCTION(name) { #name, offsetof(struct library, name) },
		FUNCTIONS(FUNCTION)
#undef FUNCTION
	};

	return library_load("libsystemd.so.0", "libsystemd0", functions, sizeof(functions) / sizeof(functions[0]), ret,
			    err);
}

static void disconnect(struct connection *c)
{
	if (c->bus)
		(void)c->lib.sd_bus_flush_close_unref(c->bus);
	c->bus = NULL;
}

static int connect_directly(struct connection *c)
{
	int r = c->lib.sd_bus_new(&c->bus);

	c->direct = true;
	if (r >= 0)
		r = c->lib.sd_bus_set_address(c->bus, PRIVATE_SOCKET);
	return r >= 0 ? c->lib.sd_bus_start(c->bus) : r;
}

static int connect_to(struct connection *c, struct error *err)
{
	int r;

	if (load(&c->lib, err) < 0)
		return -err->code;
	r = c->lib.sd_bus_open_system(&c->bus);
	if (r < 0)
		r = connect_directly(c);
	if (r < 0) {
		disconnect(c);
		return error_set(err, EHOSTUNREACH, "ask systemd for a control group: %s: does systemd run here?",
				 strerror(-r));
	}
	return 0;
}

/* A method of the manager; the message is the caller's to fill and to hand to call. */
static int begin(struct connection *c, const char *method, sd_bus_message **ret, struct error *err)
{
	int r = c->lib.sd_bus_message_new_method_call(c->bus, ret, SERVICE, OBJECT, MANAGER, method);

	return r < 0 ? error_set(err, -r, "systemd: %s: %s", method, strerror(-r)) : 0;
}

static int remote_code(struct connection *c, const sd_bus_error *said)
{
	if (c->lib.sd_bus_error_has_name(said, SERVICE ".UnitExists"))
		return EEXIST;
	if (c->lib.sd_bus_error_has_name(said, SERVICE ".NoSuchUnit"))
		return ENOENT;
	return EREMOTEIO;
}

/* Consumes the message; r is how filling it went. A reply (NULL: not wanted) is the caller's. */
static int call(struct connection *c, const char *what, int r, sd_bus_message *m, sd_bus_message **ret_reply,
		struct error *err)
{
	sd_bus_error said = SD_BUS_ERROR_NULL;

	if (r < 0)
		r = error_set(err, -r, "systemd: %s: %s", what, strerror(-r));
	else if (c->lib.sd_bus_call(c->bus, m, JOB_TIMEOUT_US, &said, ret_reply) < 0)
		r = error_set(err, remote_code(c, &said), "systemd: %s: %s", what,
			      said.message ? said.message : "no answer");
	else
		r = 0;
	c->lib.sd_bus_error_free(&said);
	(void)c->lib.sd_bus_message_unref(m);
	return r;
}

/* --- what is in a message ------------------------------------------------------------ */

static int append_value(struct connection *c, sd_bus_message *m, const struct systemd_property *p)
{
	const char type[] = { p->type, '\0' };

	switch (p->type) {
	case 's':
		return c->lib.sd_bus_message_append(m, "v", "s", p->text);
	case 'b':
	case 'i':
	case 'u':
		return c->lib.sd_bus_message_append(m, "v", type, (uint32_t)p->number);
	case 'x':
	case 't':
		return c->lib.sd_bus_message_append(m, "v", type, p->number);
	case 'y':
		break;
	default:
		return -EINVAL;
	}
	if (c->lib.sd_bus_message_open_container(m, 'v', "ay") < 0 ||
	    c->lib.sd_bus_message_append_array(m, 'y', p->text, p->len) < 0)
		return -ENOMEM;
	return c->lib.sd_bus_message_close_container(m);
}

static int append_property(struct connection *c, sd_bus_message *m, const struct systemd_property *p)
{
	int r = c->lib.sd_bus_message_open_container(m, 'r', "sv");

	if (r >= 0)
		r = c->lib.sd_bus_message_append(m, "s", p->name);
	if (r >= 0)
		r = append_value(c, m, p);
	return r >= 0 ? c->lib.sd_bus_message_close_container(m) : r;
}

static int append_all(struct connection *c, sd_bus_message *m, const struct systemd_properties *p, int r)
{
	for (size_t i = 0; r >= 0 && p && i < p->n; i++)
		r = append_property(c, m, &p->items[i]);
	return r;
}

/* What every scope of ours is. */
static int append_scope(struct connection *c, sd_bus_message *m, const char *slice, const char *description,
			pid_t pid)
{
	return c->lib.sd_bus_message_append(m, "(sv)(sv)(sv)(sv)(sv)(sv)",
					    "Description", "s", description, "Slice", "s", slice,
					    "PIDs", "au", 1, (uint32_t)pid, "Delegate", "b", 1,
					    "DefaultDependencies", "b", 0, "CollectMode", "s", "inactive-or-failed");
}

/* --- jobs ------------------------------------------------------------------------------ */

static int on_removed(sd_bus_message *m, void *ctx, sd_bus_error *ignored)
{
	struct connection *c = ctx;
	const char *job, *unit, *result;
	uint32_t id;

	(void)ignored;
	if (c->lib.sd_bus_message_read(m, "uoss", &id, &job, &unit, &result) < 0 || strcmp(job, c->job) != 0)
		return 0;
	(void)snprintf(c->removed, sizeof(c->removed), "%s", job);
	(void)snprintf(c->result, sizeof(c->result), "%s", result);
	return 0;
}

/* To be called before there is a job, or its end could be missed. */
static int listen_to_jobs(struct connection *c, struct error *err)
{
	sd_bus_message *m = NULL;
	int r = c->lib.sd_bus_match_signal(c->bus, NULL, c->direct ? NULL : SERVICE, OBJECT, MANAGER, "JobRemoved",
					   on_removed, c);

	if (r < 0)
		return error_set(err, -r, "systemd: listen: %s", strerror(-r));
	if (begin(c, "Subscribe", &m, err) < 0)
		return -err->code;
	return call(c, "subscribe", 0, m, NULL, err);
}

static int await_job(struct connection *c, const char *verb, const char *unit, struct error *err)
{
	const uint64_t deadline = clock_us() + JOB_TIMEOUT_US;

	while (!c->removed[0]) {
		int r = c->lib.sd_bus_process(c->bus, NULL);

		if (r == 0)
			r = clock_us() > deadline ? -ETIMEDOUT : c->lib.sd_bus_wait(c->bus, 100000);
		if (r < 0 && r != -EINTR)
			return error_set(err, -r, "systemd: %s %s: %s", verb, unit, strerror(-r));
	}
	return strcmp(c->result, "done") == 0 ? 0 :
		error_set(err, EREMOTEIO, "systemd: %s %s: %s; 'systemctl status %s' tells more", verb, unit,
			  c->result, unit);
}

/* Calls a method that begins a job, as call does, and waits for the job's end. */
static int run_job(struct connection *c, const char *verb, const char *unit, int r, sd_bus_message *m,
		   struct error *err)
{
	sd_bus_message *reply = NULL;
	const char *job;

	c->job[0] = c->removed[0] = '\0';
	if (call(c, unit, r, m, &reply, err) < 0)
		return -err->code;
	r = c->lib.sd_bus_message_read(reply, "o", &job);
	if (r >= 0)
		(void)snprintf(c->job, sizeof(c->job), "%s", job);
	(void)c->lib.sd_bus_message_unref(reply);
	return r < 0 ? error_set(err, EPROTO, "systemd: %s %s: no job in the answer", verb, unit) :
		       await_job(c, verb, unit, err);
}

static int start(struct connection *c, const char *unit, const char *slice, const char *description, pid_t pid,
		 const struct systemd_properties *properties, struct error *err)
{
	sd_bus_message *m = NULL;
	int r;

	if (begin(c, "StartTransientUnit", &m, err) < 0)
		return -err->code;
	r = c->lib.sd_bus_message_append(m, "ss", unit, "fail");
	if (r >= 0)
		r = c->lib.sd_bus_message_open_container(m, 'a', "(sv)");
	if (r >= 0)
		r = append_scope(c, m, slice, description, pid);
	r = append_all(c, m, properties, r);
	if (r >= 0)
		r = c->lib.sd_bus_message_close_container(m);
	if (r >= 0)
		r = c->lib.sd_bus_message_append(m, "a(sa(sv))", 0);
	return run_job(c, "start", unit, r, m, err);
}

static int stop(struct connection *c, const char *unit, struct error *err)
{
	sd_bus_message *m = NULL;

	if (begin(c, "StopUnit", &m, err) < 0)
		return -err->code;
	return run_job(c, "stop", unit, c->lib.sd_bus_message_append(m, "ss", unit, "replace"), m, err);
}

/* 0: it has that description; -ENOENT: there is none of this name and description. */
static int check_owner(struct connection *c, const char *unit, const char *description, struct error *err)
{
	sd_bus_message *m = NULL, *reply = NULL;
	CLEANUP(freep) char *found = NULL;
	sd_bus_error said = SD_BUS_ERROR_NULL;
	const char *path;
	int r;

	if (begin(c, "GetUnit", &m, err) < 0 ||
	    call(c, unit, c->lib.sd_bus_message_append(m, "s", unit), m, &reply, err) < 0)
		return -err->code;
	r = c->lib.sd_bus_message_read(reply, "o", &path);
	if (r >= 0)
		r = c->lib.sd_bus_get_property_string(c->bus, SERVICE, path, SERVICE ".Unit", "Description", &said,
						      &found);
	(void)c->lib.sd_bus_message_unref(reply);
	c->lib.sd_bus_error_free(&said);
	if (r < 0)
		return error_set(err, -r, "systemd: look at %s: %s", unit, strerror(-r));
	return strcmp(found, description) == 0 ? 0 : error_set(err, ENOENT, "systemd: %s is another's", unit);
}

/* What fails when there is nothing to kill. */
static void kill_all(struct connection *c, const char *unit)
{
	sd_bus_message *m = NULL;
	struct error ignored;

	if (begin(c, "KillUnit", &m, &ignored) == 0)
		(void)call(c, unit, c->lib.sd_bus_message_append(m, "ssi", unit, "all", SIGKILL), m, NULL, &ignored);
}

int systemd_scope_start(const char *unit, const char *slice, const char *description, pid_t pid,
			const struct systemd_properties *properties, struct error *err)
{
	struct connection c = { 0 };
	int r = connect_to(&c, err);

	if (r == 0)
		r = listen_to_jobs(&c, err);
	if (r == 0)
		r = start(&c, unit, slice, description, pid, properties, err);
	disconnect(&c);
	return r;
}

int systemd_scope_set(const char *unit, const struct systemd_properties *properties, struct error *err)
{
	struct connection c = { 0 };
	sd_bus_message *m = NULL;
	int r = connect_to(&c, err);

	if (r == 0)
		r = begin(&c, "SetUnitProperties", &m, err);
	if (r == 0) {
		r = c.lib.sd_bus_message_append(m, "sb", unit, 1);
		if (r >= 0)
			r = c.lib.sd_bus_message_open_container(m, 'a', "(sv)");
		r = append_all(&c, m, properties, r);
		if (r >= 0)
			r = c.lib.sd_bus_message_close_container(m);
		r = call(&c, unit, r, m, NULL, err);
	}
	disconnect(&c);
	return r;
}

int systemd_scope_remove(const char *unit, const char *description, struct error *err)
{
	struct connection c = { 0 };
	int r = connect_to(&c, err);

	if (r == 0)
		r = check_owner(&c, unit, description, err);
	if (r == 0)
		r = listen_to_jobs(&c, err);
	if (r == 0) {
		kill_all(&c, unit);
		r = stop(&c, unit, err);
	}
	disconnect(&c);
	return r == -ENOENT ? 0 : r;
}

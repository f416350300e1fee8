#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "engine/base/clock.h"
#include "tools/gate_json.h"
#include "tools/progress.h"

#define MB 1e6

void progress_init(struct progress *p, bool quiet)
{
	*p = (struct progress){ .quiet = quiet, .terminal = isatty(2), .begun_us = clock_us() };
}

static void print_line(const struct progress *p, const struct channel_stats *s, double rate)
{
	double seconds = (double)(clock_us() - p->begun_us) / 1e6;

	if (p->terminal)
		fprintf(stderr, "\r\033[K%6.1f s  %-10s %8.1f MB  %7.1f MB/s", seconds, p->phase,
			(double)s->raw_bytes / MB, rate);
	else
		fprintf(stderr, "%.1f s %s, %.1f MB so far\n", seconds, p->phase, (double)s->raw_bytes / MB);
}

void progress_update(void *ctx, const char *phase, const struct channel_stats *s)
{
	struct progress *p = ctx;
	uint64_t now = clock_us();
	bool same = p->phase && !strcmp(p->phase, phase);
	double rate = 0;

	if (p->quiet || (same && !p->terminal))
		return;
	if (same && now > p->last_us)
		rate = (double)(s->raw_bytes - p->last_bytes) / (double)(now - p->last_us);
	p->phase = phase;
	p->last_us = now;
	p->last_bytes = s->raw_bytes;
	print_line(p, s, rate);
}

void progress_end(struct progress *p)
{
	if (!p->quiet && p->terminal && p->phase)
		fputs("\r\033[K", stderr);
	p->phase = NULL;
}

static double ms(uint64_t us)
{
	return (double)us / 1000;
}

static uint64_t lost(const struct source_held *h)
{
	return h->gate.ring_full.frames + h->gate.too_long.frames + h->gate.expired.frames +
	       h->gate.undelivered.frames + h->no_room + h->unreceived;
}

/* What came to the gate, by the state that it met. */
static void print_gate(const char *way, const struct gate_count counts[GATE_STATES])
{
	const char *comma = "";

	printf("  %-12s", way);
	for (enum gate_state i = 0; i < GATE_STATES; i++) {
		if (!counts[i].frames)
			continue;
		printf("%s%s %llu", comma, gate_state_name(i), (unsigned long long)counts[i].frames);
		comma = ", ";
	}
	printf("%s\n", *comma ? " frames" : "nothing");
}

static void print_held(const struct source_held *h)
{
	uint64_t no_room = h->gate.ring_full.frames + h->no_room + h->unreceived;

	printf("  held        %10llu frames (%.1f KB) that came for it meanwhile, delivered on the target\n",
	       (unsigned long long)h->sent.frames, (double)h->sent.bytes / 1000);
	if (lost(h))
		printf("  lost        %10llu frames: %llu for want of room, %llu too long, %llu too old\n",
		       (unsigned long long)lost(h), (unsigned long long)no_room,
		       (unsigned long long)h->gate.too_long.frames,
		       (unsigned long long)h->gate.expired.frames);
	print_gate("gate, to", h->gate.to);
	print_gate("gate, from", h->gate.from);
}

static void print_steps(const char *what, const struct timeline *t)
{
	if (!t->n)
		return;
	printf("  %-12s", what);
	for (size_t i = 0; i < t->n; i++)
		printf("%s%s %.1f", i == 0 ? "" : i % 6 ? ", " : ",\n              ", t->steps[i].name,
		       ms(t->steps[i].us));
	printf(" ms\n");
}

void progress_print_report(const struct container *c, const struct source_report *r)
{
	printf("container '%s' runs on %s\n\n", c->name, r->peer);
	for (int i = 0; i < STAGE_MAX_; i++)
		printf("  %-12s%10.1f ms\n", migrate_stages[i].name, ms(r->phase_us[i]));
	printf("  %-12s%10.1f ms\n\n", "total", ms(r->total_us));
	printf("  downtime    %10.1f ms   freeze to resume (CRIU's restore %.1f, resume %.1f)\n",
	       ms(r->downtime_us), ms(r->restore_us), ms(r->resume_us));
	print_steps("  of it", &r->frozen);
	print_steps("  restore", &r->restore);
	print_steps("  resume", &r->resume);
	printf("  predicted   %10.1f ms   at the freeze (%s), after %llu rounds; writes followed by %s\n",
	       ms(r->predicted_us), policy_verdict_name(r->verdict), (unsigned long long)r->memory.rounds,
	       r->tracker);
	print_held(&r->held);
	printf("  data        %10.1f MB   %.1f MB on the wire\n", (double)r->bytes_raw / MB,
	       (double)r->bytes_wire / MB);
	if (r->reconnects)
		printf("  reconnected %10llu times   %.1f MB of it were sent again\n",
		       (unsigned long long)r->reconnects, (double)r->bytes_resent / MB);
}

static json_t *phases(const struct source_report *r)
{
	json_t *o = json_object();

	for (int i = 0; i < STAGE_MAX_; i++)
		(void)json_object_set_new(o, migrate_stages[i].name, json_real(ms(r->phase_us[i])));
	return o;
}

void progress_print_reasons(const struct reasons *r, FILE *out)
{
	for (size_t i = 0; i < r->n; i++)
		fprintf(out, "%s: %s; %s\n", r->list[i].code, r->list[i].message, r->list[i].remedy);
}

static json_t *reasons(const struct reasons *r)
{
	json_t *a = json_array();

	for (size_t i = 0; i < r->n; i++)
		(void)json_array_append_new(a, json_pack("{s:s,s:s,s:s,s:s}", "code", r->list[i].code,
			"message", r->list[i].message, "remedy", r->list[i].remedy,
			"found", i < r->n_here ? "source" : "target"));
	return a;
}

/* Takes o. */
static void print_json(json_t *o, const struct error *error)
{
	if (error)
		(void)json_object_set_new(o, "error", json_string(error->msg));
	(void)json_dumpf(o, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
	putchar('\n');
	json_decref(o);
}

void progress_print_check(const struct container *c, const struct source_report *r, bool json,
			  const struct error *error)
{
	bool ok = !error && !r->reasons.n;
	json_t *o;

	if (!json) {
		if (ok)
			printf("container '%s' can move%s%s\n", c->name, r->peer[0] ? " to " : "", r->peer);
		progress_print_reasons(&r->reasons, stdout);
		return;
	}
	o = json_pack("{s:b,s:s,s:s,s:s,s:o}", "ok", ok, "container", c->name, "source", c->node->config.name,
		      "target", r->peer, "reasons", reasons(&r->reasons));
	print_json(o, error);
}

static json_t *memory(const struct source_report *r)
{
	return json_pack("{s:I,s:I,s:I,s:I}", "rounds", (json_int_t)r->memory.rounds,
			 "pages_sent", (json_int_t)r->memory.pages_sent,
			 "pages_zero", (json_int_t)r->memory.pages_zero,
			 "pages_unchanged", (json_int_t)r->memory.pages_unchanged);
}

static json_t *held(const struct source_held *h)
{
	return json_pack("{s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:o}", "frames", (json_int_t)h->sent.frames,
			 "bytes", (json_int_t)h->sent.bytes,
			 "lost_full", (json_int_t)h->gate.ring_full.frames + (json_int_t)h->no_room,
			 "lost_too_long", (json_int_t)h->gate.too_long.frames,
			 "lost_too_old", (json_int_t)h->gate.expired.frames,
			 "lost_undelivered", (json_int_t)h->gate.undelivered.frames,
			 "lost_unreceived", (json_int_t)h->unreceived, "gate", gate_json(&h->gate));
}

static json_t *rounds(const struct source_report *r)
{
	json_t *a = json_array();

	for (const struct source_round *p = r->rounds; p < r->rounds + r->n_rounds; p++)
		(void)json_array_append_new(a, json_pack("{s:I,s:I,s:I,s:f,s:f,s:f,s:f,s:f}",
			"bytes", (json_int_t)p->round.bytes, "sent_bytes", (json_int_t)p->round.sent_bytes,
			"wire_bytes", (json_int_t)p->round.wire_bytes,
			"since_ms", ms(p->round.since_us), "scan_ms", ms(p->round.scan_us),
			"compress_ms", ms(p->round.compress_us),
			"send_ms", ms(p->round.send_us), "predicted_downtime_ms", ms(p->predicted_us)));
	return a;
}

static json_t *steps(const struct timeline *t)
{
	json_t *o = json_object();

	for (size_t i = 0; i < t->n; i++)
		(void)json_object_set_new(o, t->steps[i].name, json_real(ms(t->steps[i].us)));
	return o;
}

void progress_print_json(const struct container *c, const struct source_report *r,
			 const struct error *error)
{
	json_t *o = json_pack("{s:b,s:s,s:s,s:s,s:s,s:f,s:f,s:f,s:f,s:I,s:I,s:o,s:o,s:f,s:s,s:s,s:o,s:o}",
		"ok", error == NULL, "container", c->name, "source", c->node->config.name,
		"target", r->peer, "state", migrate_state_name(r->state),
		"downtime_ms", ms(r->downtime_us), "total_ms", ms(r->total_us),
		"restore_ms", ms(r->restore_us), "resume_ms", ms(r->resume_us),
		"bytes_raw", (json_int_t)r->bytes_raw, "bytes_wire", (json_int_t)r->bytes_wire,
		"phases_ms", phases(r), "reasons", reasons(&r->reasons),
		"predicted_downtime_ms", ms(r->predicted_us), "verdict", policy_verdict_name(r->verdict),
		"tracker", r->tracker, "memory", memory(r),
		"held", held(&r->held));

	(void)json_object_set_new(o, "frozen_ms", steps(&r->frozen));
	(void)json_object_set_new(o, "frozen_restore_ms", steps(&r->restore));
	(void)json_object_set_new(o, "frozen_resume_ms", steps(&r->resume));
	(void)json_object_set_new(o, "rounds", rounds(r));
	(void)json_object_set_new(o, "reconnects", json_integer((json_int_t)r->reconnects));
	(void)json_object_set_new(o, "files", json_pack("{s:I,s:I}", "bytes", (json_int_t)r->files.bytes,
						       "bytes_frozen", (json_int_t)r->files.last_bytes));
	(void)json_object_set_new(o, "bytes_resent", json_integer((json_int_t)r->bytes_resent));
	print_json(o, error);
}

void progress_print_checkpoint(const struct container *c, const struct checkpoint_options *o,
			       const struct checkpoint_report *r)
{
	const struct source_report *s = &r->source;

	printf("container '%s' is in %s: %.1f MB, frozen for %.1f ms, %.1f ms in all\n", c->name, o->dir,
	       (double)r->bytes / MB, ms(s->downtime_us), ms(s->total_us));
	printf("%llu rounds of memory, %.1f MB, the last %.1f MB; %.1f ms predicted (%s), writes followed by %s\n",
	       (unsigned long long)s->memory.rounds, (double)s->memory.pages_sent * 4096 / MB,
	       s->n_rounds ? (double)s->rounds[s->n_rounds - 1].round.sent_bytes / MB : 0.0, ms(s->predicted_us),
	       policy_verdict_name(s->verdict), s->tracker);
}

void progress_print_checkpoint_json(const struct container *c, const struct checkpoint_options *o,
				    const struct checkpoint_report *r, const struct error *error)
{
	const struct source_report *s = &r->source;
	json_t *j = json_pack("{s:b,s:s,s:s,s:b,s:f,s:f,s:f,s:I,s:s,s:s,s:o,s:o}",
		"ok", error == NULL, "container", c->name, "directory", o->dir, "left_running", o->leave_running,
		"pause_ms", ms(s->downtime_us), "predicted_pause_ms", ms(s->predicted_us),
		"total_ms", ms(s->total_us), "bytes", (json_int_t)r->bytes,
		"verdict", policy_verdict_name(s->verdict), "tracker", s->tracker, "memory", memory(s),
		"rounds", rounds(s));

	(void)json_object_set_new(j, "reasons", reasons(&s->reasons));
	print_json(j, error);
}

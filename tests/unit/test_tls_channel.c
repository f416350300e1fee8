/* Channels that go through TLS. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>

#include "migrate/channel/channel_state.h"
#include "tests/unit/tls_fixture.h"

#define SECOND_US 1000000u
#define ID "5ea15ea15ea15ea15ea15ea15ea15ea1"

/* ---- connections ---- */

/* One end of a connection, and what becomes of it. */
struct end {
	const struct node *node;
	int fd;
	bool accepts;
	uint64_t within_us;
	const char *greets_as;
	struct channel *ch;
	struct channel_peer peer;
	struct error err;
	int r;
};

static void *end_main(void *ctx)
{
	struct end *e = ctx;

	e->r = e->accepts ? channel_accepted(e->fd, &e->ch, &e->err) :
			    channel_connected(e->fd, NULL, &e->ch, &e->err);
	if (e->r == 0)
		e->r = channel_secure(e->ch, e->node, e->within_us, &e->err);
	if (e->r == 0 && e->greets_as)
		e->r = channel_greet(e->ch, e->greets_as, ID, &e->peer, &e->err);
	/* As when a process ends, so that the other side does not wait. */
	if (e->r < 0)
		channel_free(TAKE_PTR(e->ch));
	return NULL;
}

static void meet(struct end *source, struct end *target, const int fds[2])
{
	pthread_t other;

	source->fd = fds[0];
	target->fd = fds[1];
	target->accepts = true;
	source->within_us = target->within_us = 10 * SECOND_US;
	assert_int_equal(pthread_create(&other, NULL, end_main, target), 0);
	(void)end_main(source);
	assert_int_equal(pthread_join(other, NULL), 0);
}

static void meet_directly(struct end *source, struct end *target)
{
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
	meet(source, target, fds);
}

static void part(struct end *source, struct end *target)
{
	channel_free(source->ch);
	channel_free(target->ch);
}

static void members_know_each_other(void **state)
{
	const struct cluster *c = *state;
	struct end source = { .node = &c->nodes[SEAL], .greets_as = "seal" };
	struct end target = { .node = &c->nodes[WALRUS], .greets_as = "walrus" };
	struct error err;

	meet_directly(&source, &target);
	if (source.r || target.r)
		fail_msg("%s, %s", source.err.msg, target.err.msg);
	assert_string_equal(source.peer.name, "walrus");
	assert_string_equal(target.peer.name, "seal");
	assert_true(channel_stats(source.ch).wire_bytes > 1000);	/* certificates, too */
	OK(session_check_host(target.ch->session, "seal", &err));
	OK(session_check_host(target.ch->session, "seal.example", &err));
	FAILS(session_check_host(target.ch->session, "orca", &err), EACCES, "godwit tls issue --host orca seal");
	part(&source, &target);
}

static void refused(struct end *e, int code, const char *text)
{
	if (e->r != -code || !strstr(e->err.msg, text))
		fail_msg("%d %s, not %s", e->r, e->r ? e->err.msg : "", text);
}

static void another_cluster_is_none(void **state)
{
	const struct cluster *c = *state;
	struct end source = { .node = &c->nodes[ORCA], .greets_as = "orca" };
	struct end target = { .node = &c->nodes[WALRUS], .greets_as = "walrus" };

	meet_directly(&source, &target);
	refused(&source, EACCES, "of 'walrus', is not signed by the CA of this node's cluster");
	refused(&target, EACCES, "the other node refuses this node's certificate");
}

static void who_takes_another_name_is_refused(void **state)
{
	const struct cluster *c = *state;
	struct end source = { .node = &c->nodes[SEAL], .greets_as = "walrus" };
	struct end target = { .node = &c->nodes[WALRUS], .greets_as = "walrus" };

	meet_directly(&source, &target);
	refused(&target, EACCES, "calls itself 'walrus', but its certificate is of node 'seal'");
	part(&source, &target);
}

static void nobody_falls_back(void **state)
{
	const struct cluster *c = *state;
	struct node plain = c->nodes[SEAL];
	struct end source = { .node = &plain, .greets_as = "seal" };
	struct end target = { .node = &c->nodes[WALRUS], .greets_as = "walrus" };

	plain.insecure = true;
	meet_directly(&source, &target);
	refused(&source, ECONNABORTED, "this node wants TLS");
	refused(&target, EACCES, "does without: give it a certificate");
	source = (struct end){ .node = &c->nodes[WALRUS], .greets_as = "walrus" };
	target = (struct end){ .node = &plain, .greets_as = "seal" };
	meet_directly(&source, &target);
	refused(&source, EPROTO, "the other node does without TLS ('godwit serve --insecure')");
	refused(&target, EACCES, "the peer wants TLS, and this node does without");
}

static void who_is_silent_is_left(void **state)
{
	const struct cluster *c = *state;
	CLEANUP(channel_freep) struct channel *ch = NULL;
	struct error err;
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
	OK(channel_accepted(fds[0], &ch, &err));
	/* Half a record is as good as nothing. */
	assert_int_equal(write(fds[1], "\x16\x03\x01\x02\x00\x01", 6), 6);
	FAILS(channel_secure(ch, &c->nodes[WALRUS], SECOND_US / 10, &err), ETIMEDOUT, "TLS handshake");
	(void)close(fds[1]);
}

static void revoked_certificates_are_refused(void **state)
{
	const struct cluster *c = *state;
	CLEANUP(freep) char *list = NULL;
	struct end source = { .node = &c->nodes[SEAL], .greets_as = "seal" };
	struct end target = { .node = &c->nodes[WALRUS], .greets_as = "walrus" };
	struct error err;
	size_t n, len;

	FAILS(authority_revoke(&c->nodes[WALRUS], "orca", &n, &err), ENOENT, "no certificate was issued here");
	OK(authority_revoke(&c->nodes[WALRUS], "seal", &n, &err));
	assert_int_equal(n, 1);
	OK(authority_revoke(&c->nodes[WALRUS], "seal", &n, &err));
	assert_int_equal(n, 0);
	meet_directly(&source, &target);
	refused(&target, EACCES, "of 'seal', is revoked");
	refused(&source, EACCES, "certificate revoked");
	/* The list goes to others by hand; one of another CA is none. */
	OK(fd_read_file_at(c->nodes[WALRUS].state_fd, "tls/crl.pem", 65536, &list, &len, &err));
	FAILS(credentials_install(&c->nodes[ORCA], list, len, &err), EACCES, "not signed by the CA");
	OK(credentials_install(&c->nodes[SEAL], list, len, &err));
	/* A new one is good, from the next connection on. */
	issue_to(c, "seal", DAYS, &c->nodes[SEAL]);
	source = (struct end){ .node = &c->nodes[SEAL], .greets_as = "seal" };
	target = (struct end){ .node = &c->nodes[WALRUS], .greets_as = "walrus" };
	meet_directly(&source, &target);
	if (source.r || target.r)
		fail_msg("%s, %s", source.err.msg, target.err.msg);
	part(&source, &target);
}

/* ---- what goes over them ---- */

struct handover {
	const struct node *node;
	struct channel *worker, *ret;
	struct error err;
	int r;
};

/* The one that has accepted gives the socket to another one. */
static void *hand_over(void *ctx)
{
	struct handover *h = ctx;
	int fd = fcntl(channel_fd(h->worker), F_DUPFD_CLOEXEC, 0);

	h->r = channel_end_session(h->worker, &h->err);
	channel_forget(TAKE_PTR(h->worker));
	if (h->r == 0)
		h->r = channel_accept_again(h->node, fd, "seal", &h->ret, &h->err);
	return NULL;
}

static void a_connection_changes_hands(void **state)
{
	const struct cluster *c = *state;
	struct end source = { .node = &c->nodes[SEAL], .greets_as = "seal" };
	struct end target = { .node = &c->nodes[WALRUS], .greets_as = "walrus" };
	struct handover h = { .node = &c->nodes[WALRUS] };
	pthread_t other;
	struct error err;

	for (int i = 0; i < 2; i++) {
		meet_directly(&source, &target);
		h.worker = target.ch;
		h.ret = NULL;
		assert_int_equal(pthread_create(&other, NULL, hand_over, &h), 0);
		if (i == 0)
			OK(channel_begin_again(source.ch, &c->nodes[SEAL], "walrus", &err));
		else
			FAILS(channel_begin_again(source.ch, &c->nodes[SEAL], "seal", &err), EACCES,
			      "node 'walrus' has taken the place of 'seal'");
		assert_int_equal(pthread_join(other, NULL), 0);
		if (h.r)
			fail_msg("%s", h.err.msg);
		channel_free(source.ch);
		channel_free(h.ret);
	}
}

struct relay {
	int from, to;
	size_t spoil;			/* the byte of this number is another one */
	size_t passed;
};

static void *relay_main(void *ctx)
{
	struct relay *r = ctx;
	char buf[4096];
	ssize_t n;

	while ((n = read(r->from, buf, sizeof(buf))) > 0) {
		if (r->spoil >= r->passed && r->spoil < r->passed + (size_t)n)
			buf[r->spoil - r->passed] ^= 1;
		r->passed += (size_t)n;
		if (send(r->to, buf, (size_t)n, MSG_NOSIGNAL) != n)
			break;
	}
	(void)shutdown(r->to, SHUT_WR);
	(void)shutdown(r->from, SHUT_RD);
	return NULL;
}

/* From a source that says HELLO; returns what the target makes of it. */
static int through_relay(const struct cluster *c, size_t spoil, size_t *ret_passed)
{
	struct end source = { .node = &c->nodes[SEAL], .greets_as = "seal" };
	struct end target = { .node = &c->nodes[WALRUS], .greets_as = "walrus" };
	struct relay relays[2];
	pthread_t threads[2];
	int a[2], b[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, a), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, b), 0);
	relays[0] = (struct relay){ a[1], b[0], spoil, 0 };
	relays[1] = (struct relay){ b[0], a[1], SIZE_MAX, 0 };
	for (size_t i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, relay_main, &relays[i]), 0);
	meet(&source, &target, (const int[2]){ a[0], b[1] });
	part(&source, &target);
	for (size_t i = 0; i < 2; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	(void)close(a[1]);
	(void)close(b[0]);
	*ret_passed = relays[0].passed;
	return target.r;
}

static void a_byte_that_was_changed_ends_it(void **state)
{
	const struct cluster *c = *state;
	size_t total, ignored;

	assert_int_equal(through_relay(c, SIZE_MAX, &total), 0);
	/* In the hello, the certificate, and what is said in the session; the next time they are about as long. */
	for (size_t part = 1; part < 8; part++)
		if (through_relay(c, part * total / 8, &ignored) == 0)
			fail_msg("byte %zu of %zu was changed, and nobody has noticed", part * total / 8, total);
}

static void *send_all_data(void *ctx)
{
	struct end *e = ctx;
	CLEANUP(freep) uint8_t *data = calloc(1, WIRE_DATA_MAX_BYTES);

	e->r = channel_tree_begin(e->ch, MESSAGE_TREE_MEMORY, "m", &e->err);
	for (int i = 0; i < 40 && e->r == 0; i++) {
		memset(data, i, WIRE_DATA_MAX_BYTES);
		e->r = channel_send_data(e->ch, data, WIRE_DATA_MAX_BYTES, &e->err);
	}
	if (e->r == 0)
		e->r = channel_tree_end(e->ch, 1, &e->err);
	return NULL;
}

/* More than fits into the socket, byte by byte the same; and what is there can be polled for. */
static void a_tree_goes_through(void **state)
{
	const struct cluster *c = *state;
	struct end source = { .node = &c->nodes[SEAL], .greets_as = "seal" };
	struct end target = { .node = &c->nodes[WALRUS], .greets_as = "walrus" };
	struct message m = { 0 };
	size_t got = 0;
	const void *data;
	pthread_t other;
	struct error err;
	ssize_t n;

	meet_directly(&source, &target);
	source.ch->sequence.state = target.ch->sequence.state = SEQUENCE_PREPARED;
	channel_set_level(source.ch, BLOCK_LEVEL_STORE);
	assert_false(channel_wait_readable(target.ch, 0));
	assert_int_equal(pthread_create(&other, NULL, send_all_data, &source), 0);
	OK(channel_receive(target.ch, WIRE_TREE_BEGIN, &m, &err));
	message_free(&m);
	while ((n = channel_receive_data(target.ch, &data, &err)) > 0)
		for (ssize_t i = 0; i < n; i++, got++)
			if (((const uint8_t *)data)[i] != got / WIRE_DATA_MAX_BYTES)
				fail_msg("byte %zu is wrong", got);
	assert_int_equal(pthread_join(other, NULL), 0);
	if (n < 0 || source.r < 0)
		fail_msg("%s, %s", n < 0 ? err.msg : "", source.r ? source.err.msg : "");
	assert_int_equal(got, 40 * WIRE_DATA_MAX_BYTES);
	assert_int_equal(channel_stats(source.ch).wire_bytes, channel_stats(target.ch).wire_bytes);
	assert_false(channel_wait_readable(target.ch, 0));
	part(&source, &target);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(members_know_each_other, setup, teardown),
		cmocka_unit_test_setup_teardown(another_cluster_is_none, setup, teardown),
		cmocka_unit_test_setup_teardown(who_takes_another_name_is_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(nobody_falls_back, setup, teardown),
		cmocka_unit_test_setup_teardown(who_is_silent_is_left, setup, teardown),
		cmocka_unit_test_setup_teardown(revoked_certificates_are_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(a_connection_changes_hands, setup, teardown),
		cmocka_unit_test_setup_teardown(a_byte_that_was_changed_ends_it, setup, teardown),
		cmocka_unit_test_setup_teardown(a_tree_goes_through, setup, teardown),
	};

	(void)signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}

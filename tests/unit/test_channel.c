/*
 * Two ends in two processes: this one and a child that plays the peer, and
 * exits with 0 when it saw what it should.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>

#include "engine/base/clock.h"
#include "engine/base/fd.h"
#include "migrate/channel_state.h"

#define TREE_BYTES ((3u << 20) + 12345)
#define PIECE 100001
#define SECOND_US 1000000u
#define SEAL_ID "5ea15ea15ea15ea15ea15ea15ea15ea1"
#define WALRUS_ID "3a1453a1453a1453a1453a1453a14531"

#define OK(call)								\
	do {									\
		if ((call) != 0)						\
			fail_msg("%s: %s", #call, err.msg);			\
	} while (0)
#define FAILS(call, code_, text)						\
	do {									\
		ssize_t fails_r = (call);					\
		if (fails_r != -(code_) || !strstr(err.msg, text))		\
			fail_msg("%s: %zd %s", #call, fails_r, fails_r < 0 ? err.msg : "");	\
	} while (0)

struct peer {
	pid_t pid;
	struct channel *ours;
};

/* The child's end is the other side; both are somewhere in the sequence. */
static struct peer with_peer(bool (*play)(struct channel *ch), enum wire_side ours, enum sequence_state at)
{
	struct peer p = { 0 };
	struct error err;
	int s[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s), 0);
	p.pid = fork();
	if (p.pid == 0) {
		struct channel *ch;

		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		(void)close(s[0]);
		if (channel_new(s[1], ours == WIRE_SOURCE ? WIRE_TARGET : WIRE_SOURCE, &ch, &err) < 0)
			_exit(2);
		ch->sequence.state = at;
		_exit(play(ch) ? 0 : 1);
	}
	(void)close(s[1]);
	OK(channel_new(s[0], ours, &p.ours, &err));
	p.ours->sequence.state = at;
	return p;
}

static int await_exit(struct peer *p)
{
	int status;

	channel_free(p->ours);
	assert_int_equal(waitpid(p->pid, &status, 0), p->pid);
	return status;
}

static void end(struct peer *p)
{
	assert_int_equal(await_exit(p), 0);
}

/* ---- greetings and messages ---- */

static bool be_silent(struct channel *ch)
{
	char byte;

	while (read(ch->fd, &byte, 1) > 0)
		;
	return true;
}

static bool greet_as_seal(struct channel *ch)
{
	struct channel_peer peer;
	struct error err;

	return channel_greet(ch, "seal", SEAL_ID, &peer, &err) == 0 && !strcmp(peer.name, "walrus") &&
	       !strcmp(peer.id, WALRUS_ID);
}

static void names_are_exchanged(void **state)
{
	struct peer p = with_peer(greet_as_seal, WIRE_SOURCE, SEQUENCE_START);
	struct channel_peer peer;
	struct error err;

	(void)state;
	OK(channel_greet(p.ours, "walrus", WALRUS_ID, &peer, &err));
	assert_string_equal(peer.name, "seal");
	assert_string_equal(peer.id, SEAL_ID);
	end(&p);
}

static bool say_progress_then_prepared(struct channel *ch)
{
	const struct message progress = { .type = WIRE_PROGRESS, .progress.phase = "restore" };
	const struct message prepared = { .type = WIRE_PREPARED };
	struct error err;

	return channel_send(ch, &progress, &err) == 0 && channel_send(ch, &progress, &err) == 0 &&
	       channel_send(ch, &prepared, &err) == 0;
}

static void progress_is_passed_over(void **state)
{
	struct peer p = with_peer(say_progress_then_prepared, WIRE_SOURCE, SEQUENCE_PREPARING);
	struct message m;
	struct error err;

	(void)state;
	OK(channel_receive(p.ours, WIRE_PREPARED, &m, &err));
	message_free(&m);
	end(&p);
}

static bool give_up(struct channel *ch)
{
	const struct error why = { .code = EIO, .msg = "the disk is on fire" };

	channel_abort(ch, &why, "nothing is left");
	return true;
}

static void abort_brings_the_reason(void **state)
{
	struct peer p = with_peer(give_up, WIRE_SOURCE, SEQUENCE_PREPARING);
	struct message m;
	struct error err;

	(void)state;
	FAILS(channel_receive(p.ours, WIRE_PREPARED, &m, &err), ECONNABORTED,
	      "the other node gave up: the disk is on fire; nothing is left");
	end(&p);
}

static void out_of_turn_nothing_is_sent(void **state)
{
	const struct message m = { .type = WIRE_FROZEN };
	struct peer p = with_peer(be_silent, WIRE_SOURCE, SEQUENCE_PREPARING);
	struct error err;

	(void)state;
	FAILS(channel_send(p.ours, &m, &err), EPROTO, "out of order");
	assert_int_equal(channel_stats(p.ours).wire_bytes, 0);
	end(&p);
}

/* ---- strangers ---- */

static bool hang_up(struct channel *ch)
{
	(void)ch;
	return true;
}

static void peer_hangs_up(void **state)
{
	struct peer p = with_peer(hang_up, WIRE_SOURCE, SEQUENCE_PREPARING);
	struct message m;
	struct error err;

	(void)state;
	FAILS(channel_receive(p.ours, WIRE_PREPARED, &m, &err), ECONNRESET, "wait for PREPARED: the peer hung up");
	end(&p);
}

static bool send_half_a_frame(struct channel *ch)
{
	return write(ch->fd, "GDWT", 4) >= 0;
}

static void peer_hangs_up_in_a_frame(void **state)
{
	struct peer p = with_peer(send_half_a_frame, WIRE_SOURCE, SEQUENCE_PREPARING);
	struct message m;
	struct error err;

	(void)state;
	assert_true(channel_receive(p.ours, WIRE_PREPARED, &m, &err) < 0);
	end(&p);
}

static bool speak_http(struct channel *ch)
{
	static const char text[] = "GET / HTTP/1.1\r\nHost: walrus\r\nUser-Agent: seal\r\n\r\n";
	char byte;

	return write(ch->fd, text, sizeof(text) - 1) > 0 && read(ch->fd, &byte, 1) >= -1;
}

static void peer_speaks_another_language(void **state)
{
	struct peer p = with_peer(speak_http, WIRE_TARGET, SEQUENCE_START);
	struct channel_peer peer;
	struct error err;

	(void)state;
	FAILS(channel_greet(p.ours, "walrus", WALRUS_ID, &peer, &err), EPROTO, "");
	end(&p);
}

static void silent_peer_is_not_waited_for_for_ever(void **state)
{
	struct peer p = with_peer(be_silent, WIRE_SOURCE, SEQUENCE_PREPARING);
	uint64_t t0 = clock_us();
	struct message m;
	struct error err;

	(void)state;
	channel_set_patience(p.ours, 50000);
	FAILS(channel_receive(p.ours, WIRE_PREPARED, &m, &err), ETIMEDOUT, "0.05 s");
	assert_true(clock_us() - t0 >= 50000 && clock_us() - t0 < 10 * SECOND_US);
	end(&p);
}

/* ---- cancelling ---- */

static volatile sig_atomic_t cancelled;

static void on_alarm(int sig)
{
	(void)sig;
	cancelled = 1;
}

static void signal_ends_a_waiting_call(void **state)
{
	const struct sigaction act = { .sa_handler = on_alarm };
	const struct itimerval soon = { .it_value.tv_usec = 50000 };
	struct peer p = with_peer(be_silent, WIRE_SOURCE, SEQUENCE_PREPARING);
	struct message m;
	struct error err;

	(void)state;
	cancelled = 0;
	p.ours->cancelled = &cancelled;
	(void)sigaction(SIGALRM, &act, NULL);
	(void)setitimer(ITIMER_REAL, &soon, NULL);
	FAILS(channel_receive(p.ours, WIRE_PREPARED, &m, &err), ECANCELED, "cancelled");
	end(&p);
}

/* As if the signal had come just before the wait began: the peer raises the
 * flag in shared memory, so nothing interrupts the wait. */
static volatile sig_atomic_t *shared_flag;

static bool raise_the_flag(struct channel *ch)
{
	(void)usleep(50000);
	*shared_flag = 1;
	return be_silent(ch);
}

static void flag_without_a_signal_is_seen(void **state)
{
	struct message m;
	struct error err;
	struct peer p;
	uint64_t t0;

	(void)state;
	shared_flag = mmap(NULL, sizeof(*shared_flag), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(shared_flag != MAP_FAILED);
	p = with_peer(raise_the_flag, WIRE_SOURCE, SEQUENCE_PREPARING);
	p.ours->cancelled = shared_flag;
	t0 = clock_us();
	FAILS(channel_receive(p.ours, WIRE_PREPARED, &m, &err), ECANCELED, "cancelled");
	assert_true(clock_us() - t0 < 5 * SECOND_US);
	end(&p);
}

static void commit_cannot_be_cancelled(void **state)
{
	struct peer p = with_peer(say_progress_then_prepared, WIRE_SOURCE, SEQUENCE_PREPARING);
	struct message m;
	struct error err;

	(void)state;
	cancelled = 1;
	p.ours->cancelled = &cancelled;
	channel_not_cancellable(p.ours);
	OK(channel_receive(p.ours, WIRE_PREPARED, &m, &err));
	message_free(&m);
	end(&p);
}

/* ---- trees ---- */

static uint8_t byte_at(size_t i)
{
	return i % 4096 < 3000 ? (uint8_t)(i >> 12) : (uint8_t)((i * 2654435761u) >> 13);
}

static bool send_tree(struct channel *ch)
{
	uint8_t piece[PIECE];
	struct error err;

	if (channel_tree_begin(ch, MESSAGE_TREE_IMAGE, "", &err) < 0)
		return false;
	for (size_t at = 0; at < TREE_BYTES; at += sizeof(piece)) {
		size_t n = TREE_BYTES - at < sizeof(piece) ? TREE_BYTES - at : sizeof(piece);

		for (size_t i = 0; i < n; i++)
			piece[i] = byte_at(at + i);
		if (channel_send_data(ch, piece, n, &err) < 0)
			return false;
	}
	return channel_tree_end(ch, 3, &err) == 0;
}

static bool send_two_trees(struct channel *ch)
{
	if (!send_tree(ch))
		return false;
	ch->sequence.state = SEQUENCE_IMAGE_WANTED;
	channel_set_level(ch, BLOCK_LEVEL_STORE);
	return send_tree(ch);
}

static void begin(struct channel *ch)
{
	struct message m;
	struct error err;

	OK(channel_receive(ch, WIRE_TREE_BEGIN, &m, &err));
	assert_int_equal(m.tree_begin.kind, MESSAGE_TREE_IMAGE);
	message_free(&m);
}

static void take_tree(struct channel *ch)
{
	const void *data;
	struct error err;
	size_t at = 0;
	ssize_t n;

	begin(ch);
	while ((n = channel_receive_data(ch, &data, &err)) > 0)
		for (const uint8_t *p = data; n; n--, p++, at++)
			if (*p != byte_at(at))
				fail_msg("byte %zu differs", at);
	if (n < 0)
		fail_msg("%s", err.msg);
	assert_int_equal(at, TREE_BYTES);
}

static void tree_arrives_as_it_was_sent(void **state)
{
	struct peer p = with_peer(send_two_trees, WIRE_TARGET, SEQUENCE_IMAGE_WANTED);
	struct channel_stats compressed, plain;

	(void)state;
	take_tree(p.ours);
	compressed = channel_stats(p.ours);
	assert_int_equal(compressed.raw_bytes, TREE_BYTES);
	assert_true(compressed.wire_bytes < TREE_BYTES / 2);
	p.ours->sequence.state = SEQUENCE_IMAGE_WANTED;
	take_tree(p.ours);
	plain = channel_stats(p.ours);
	assert_int_equal(plain.raw_bytes, 2 * TREE_BYTES);
	assert_true(plain.wire_bytes - compressed.wire_bytes > TREE_BYTES);
	end(&p);
}

static bool lie_about_the_sum(struct channel *ch)
{
	struct message m = { .type = WIRE_TREE_END, .tree_end = { .raw_bytes = 3, .checksum = 1 } };
	struct error err;

	return channel_tree_begin(ch, MESSAGE_TREE_IMAGE, "", &err) == 0 &&
	       channel_send_data(ch, "abc", 3, &err) == 0 && channel_send_data(ch, NULL, 0, &err) == 0 &&
	       channel_send(ch, &m, &err) == 0;
}

static void wrong_sum_is_seen(void **state)
{
	struct peer p = with_peer(lie_about_the_sum, WIRE_TARGET, SEQUENCE_IMAGE_WANTED);
	const void *data;
	struct error err;

	(void)state;
	begin(p.ours);
	assert_int_equal(channel_receive_data(p.ours, &data, &err), 3);
	FAILS(channel_receive_data(p.ours, &data, &err), EPROTO, "damaged");
	end(&p);
}

static bool compress_a_plain_tree(struct channel *ch)
{
	const struct message m = { .type = WIRE_TREE_BEGIN, .tree_begin = {
		.kind = MESSAGE_TREE_IMAGE, .label = "", .compressed = false } };
	char zeros[4096] = "";
	struct error err;

	return channel_send(ch, &m, &err) == 0 && channel_send_data(ch, zeros, sizeof(zeros), &err) == 0 &&
	       channel_send_data(ch, NULL, 0, &err) == 0;
}

static void plain_tree_has_plain_blocks(void **state)
{
	struct peer p = with_peer(compress_a_plain_tree, WIRE_TARGET, SEQUENCE_IMAGE_WANTED);
	const void *data;
	struct error err;

	(void)state;
	begin(p.ours);
	FAILS(channel_receive_data(p.ours, &data, &err), EPROTO, "announced as not compressed");
	end(&p);
}

static bool abort_in_a_tree(struct channel *ch)
{
	struct error err;

	return channel_tree_begin(ch, MESSAGE_TREE_IMAGE, "", &err) == 0 &&
	       channel_send_data(ch, "abc", 3, &err) == 0 && channel_send_data(ch, NULL, 0, &err) == 0 &&
	       give_up(ch);
}

static void abort_in_a_tree_is_heard(void **state)
{
	struct peer p = with_peer(abort_in_a_tree, WIRE_TARGET, SEQUENCE_IMAGE_WANTED);
	const void *data;
	struct error err;

	(void)state;
	begin(p.ours);
	assert_int_equal(channel_receive_data(p.ours, &data, &err), 3);
	FAILS(channel_receive_data(p.ours, &data, &err), ECONNABORTED, "on fire");
	end(&p);
}

/* ---- connecting ---- */

static int listen_somewhere(char ret_address[32])
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	socklen_t len = sizeof(a);

	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(listen(fd, 1), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
	(void)snprintf(ret_address, 32, "127.0.0.1:%d", ntohs(a.sin_port));
	return fd;
}

static void over_tcp(void **state)
{
	char address[32];
	struct channel_peer peer;
	int listener = listen_somewhere(address), status;
	struct channel *ch = NULL;
	pid_t pid = fork();
	struct error err;

	(void)state;
	if (pid == 0) {
		int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

		_exit(channel_accept(fd, &ch, &err) == 0 && greet_as_seal(ch) ? 0 : 1);
	}
	OK(channel_connect(address, NULL, &ch, &err));
	OK(channel_greet(ch, "walrus", WALRUS_ID, &peer, &err));
	assert_string_equal(peer.name, "seal");
	assert_string_equal(peer.id, SEAL_ID);
	assert_int_equal(fcntl(channel_fd(ch), F_GETFD), FD_CLOEXEC);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_true(channel_wait_readable(ch, SECOND_US));
	channel_free(ch);
	(void)close(listener);
	FAILS(channel_connect(address, NULL, &ch, &err), ECONNREFUSED, "is 'godwit serve' running there?");
	FAILS(channel_connect(":1", NULL, &ch, &err), EINVAL, "names no host");
	FAILS(channel_connect("no.such.host.invalid", NULL, &ch, &err), EHOSTUNREACH, "no.such.host.invalid");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_are_exchanged),
		cmocka_unit_test(progress_is_passed_over),
		cmocka_unit_test(abort_brings_the_reason),
		cmocka_unit_test(out_of_turn_nothing_is_sent),
		cmocka_unit_test(peer_hangs_up),
		cmocka_unit_test(peer_hangs_up_in_a_frame),
		cmocka_unit_test(peer_speaks_another_language),
		cmocka_unit_test(silent_peer_is_not_waited_for_for_ever),
		cmocka_unit_test(signal_ends_a_waiting_call),
		cmocka_unit_test(flag_without_a_signal_is_seen),
		cmocka_unit_test(commit_cannot_be_cancelled),
		cmocka_unit_test(tree_arrives_as_it_was_sent),
		cmocka_unit_test(wrong_sum_is_seen),
		cmocka_unit_test(plain_tree_has_plain_blocks),
		cmocka_unit_test(abort_in_a_tree_is_heard),
		cmocka_unit_test(over_tcp),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Greetings, messages, strangers, cancelling and connecting. */
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

#include "tests/unit/channel_fixture.h"

#define SECOND_US 1000000u

static const struct node insecure = { .insecure = true };

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

		_exit(channel_accept(&insecure, fd, &ch, &err) == 0 && greet_as_seal(ch) ? 0 : 1);
	}
	OK(channel_connect(&insecure, address, NULL, &ch, &err));
	OK(channel_greet(ch, "walrus", WALRUS_ID, &peer, &err));
	assert_string_equal(peer.name, "seal");
	assert_string_equal(peer.id, SEAL_ID);
	assert_int_equal(fcntl(channel_fd(ch), F_GETFD), FD_CLOEXEC);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_true(channel_wait_readable(ch, SECOND_US));
	channel_free(ch);
	(void)close(listener);
	FAILS(channel_connect(&insecure, address, NULL, &ch, &err), ECONNREFUSED, "is 'godwit serve' running there?");
	FAILS(channel_connect(&insecure, ":1", NULL, &ch, &err), EINVAL, "names no host");
	FAILS(channel_connect(&insecure, "no.such.host.invalid", NULL, &ch, &err), EHOSTUNREACH,
	      "no.such.host.invalid");
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
		cmocka_unit_test(over_tcp),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

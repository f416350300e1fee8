#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/criu_box.h"
#include "tests/unit/criu_move.h"
#include "tests/unit/criu_payload.h"

/* The payload is this program: with a sanitizer's shadow memory in it, it is
 * nothing that CRIU can dump. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED true
#elif defined(__has_feature)
#define SANITIZED (__has_feature(address_sanitizer) || __has_feature(thread_sanitizer))
#else
#define SANITIZED false
#endif

static struct criu the_criu;

static int start(struct box *b)
{
	char text[64] = "";
	int conn;

	box_make(b);
	box_start(b);
	MUST(read(b->out[0], text, sizeof(text) - 1));
	CHECK(!strncmp(text, "started", 7));
	conn = in_netns(b->peer_netns, connect_there);
	CHECK(!strcmp(ask(conn, "check"), "fine"));
	return conn;
}

/* Runs body as the monitor of a box, cleans up, and tells whether all held. */
static void as_monitor(void (*body)(struct box *))
{
	struct box b;
	int status;
	pid_t pid;

	box_name(&b);
	pid = fork();
	if (pid == 0) {
		MUST(unshare(CLONE_NEWNS));
		MUST(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
		if (!getenv("COLD"))
			MUST(mount("tmpfs", "/run", "tmpfs", 0, NULL));	/* criu.kdat */
		body(&b);
		_exit(0);
	}
	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	box_clean(&b);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void move_once(struct box *b, int conn, int round)
{
	CLEANUP(fd_closep) int images = images_dir(b, round);
	char *who[2] = { identity(b->init), identity(worker_of(b)) };
	char *mounts = slurp(fmt("/proc/%d/mounts", (int)b->init)), *keys[2], text[64] = "";
	struct move d = MOVE(b), r = MOVE(b);
	uint64_t mono, ended;
	struct error err;

	mono = strtoull(ask(conn, "mono"), NULL, 10);
	pipe_keys(b->init, keys);
	d.began = clock_us();
	if (dump(&d, images, 0, &err) < 0)
		DIE(err.msg);
	ended = clock_us();
	CHECK(is_frozen(b));
	destroy_source(b);
	r.began = clock_us();
	if (restore(&r, images, keys, &err) < 0)
		DIE(err.msg);
	print_message("dump %.1f ms, frozen %.1f; restore %.1f ms, %.1f after probing\n",
		      (double)(ended - d.began) / 1e3, (double)(ended - d.at[CRIU_PRE_DUMP]) / 1e3,
		      (double)(clock_us() - r.began) / 1e3,
		      (double)(clock_us() - r.at[CRIU_PRE_RESTORE]) / 1e3);
	CHECK(is_frozen(b));
	check_private_namespaces(b->init);
	box_gate(b, true);
	box_freeze(b, false);
	CHECK(!strcmp(ask(conn, "again"), "again"));
	CHECK(!strcmp(ask(conn, "check"), "fine"));
	ended = strtoull(ask(conn, "mono"), NULL, 10);
	CHECK(ended >= mono && ended < mono + 5000000);
	CHECK(!strcmp(who[0], identity(b->init)));
	CHECK(!strcmp(who[1], identity(worker_of(b))));
	check_mounts(mounts, b->init);
	MUST(read(b->out[0], text, sizeof(text) - 1));
	CHECK(!strncmp(text, "tick", 4));
}

static void ten_moves(struct box *b)
{
	int conn = start(b);

	for (int round = 1; round <= 10; round++)
		move_once(b, conn, round);
}

static void round_trips(void **state)
{
	(void)state;
	as_monitor(ten_moves);
}

static void one_shared_pipe(struct box *b)
{
	int conn;

	b->one_pipe = true;
	conn = start(b);
	move_once(b, conn, 1);
	move_once(b, conn, 2);
}

static void shared_pipe(void **state)
{
	(void)state;
	as_monitor(one_shared_pipe);
}

static void with_terminal(struct box *b)
{
	struct winsize size = { .ws_row = 50, .ws_col = 132 }, now = { 0 };
	int conn;

	b->terminal = true;
	conn = start(b);
	MUST(ioctl(b->out[0], TIOCSWINSZ, &size));
	move_once(b, conn, 1);
	MUST(ioctl(b->out[0], TIOCGWINSZ, &now));
	CHECK(now.ws_row == 50 && now.ws_col == 132);
	move_once(b, conn, 2);
}

static void terminal(void **state)
{
	(void)state;
	as_monitor(with_terminal);
}

/* The box is whole, frozen, and runs on after a thaw. */
static void check_unharmed(struct box *b, int conn)
{
	CHECK(is_frozen(b));
	box_freeze(b, false);
	CHECK(!strcmp(ask(conn, "check"), "fine"));
}

static void dumps_that_fail(struct box *b)
{
	int conn = start(b);
	CLEANUP(fd_closep) int images = images_dir(b, 1);
	struct move d = MOVE(b);
	struct error err;

	CHECK(dump(&d, images, 1, &err) < 0);		/* the deleted file is larger */
	CHECK(strstr(err.msg, "ghost file") && faccessat(images, CRIU_DUMP_LOG, F_OK, 0) == 0);
	check_unharmed(b, conn);
	d.refuse = CRIU_NETWORK_LOCK;
	CHECK(dump(&d, images, 0, &err) == -ECANCELED);
	CHECK(strstr(err.msg, "refused by the test"));
	check_unharmed(b, conn);
	d.refuse = CRIU_POST_DUMP;
	CHECK(dump(&d, images, 0, &err) == -ECANCELED);
	check_unharmed(b, conn);
	move_once(b, conn, 2);
}

static void failed_dump(void **state)
{
	(void)state;
	as_monitor(dumps_that_fail);
}

/* In a process of its own, which dies at a stage of its dump or restore. */
static void die_at(struct move *m, int images, char *const keys[2])
{
	pid_t pid = fork();
	struct error err;
	int status;

	if (pid == 0) {
		if (keys)
			(void)restore(m, images, keys, &err);
		else
			(void)dump(m, images, 0, &err);
		_exit(1);
	}
	MUST(waitpid(pid, &status, 0));
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void dumper_dies(struct box *b)
{
	static const enum criu_stage moments[] = { CRIU_PRE_DUMP, CRIU_NETWORK_LOCK,
						   CRIU_POST_DUMP };
	int conn = start(b);

	for (int i = 0; i < (int)(sizeof(moments) / sizeof(moments[0])); i++) {
		CLEANUP(fd_closep) int images = images_dir(b, i);
		struct move d = MOVE(b);

		d.die = moments[i];
		die_at(&d, images, NULL);
		usleep(200000);		/* CRIU, nobody's child now, undoes */
		if (moments[i] != CRIU_PRE_DUMP)
			CHECK(is_frozen(b));
		box_freeze(b, false);
		CHECK(!strcmp(ask(conn, "check"), "fine"));
	}
	move_once(b, conn, 9);
}

static void dead_dumper(void **state)
{
	(void)state;
	as_monitor(dumper_dies);
}

static void restores_that_fail(struct box *b)
{
	static const enum criu_stage moments[] = { CRIU_PRE_RESTORE, CRIU_SETUP_NAMESPACES,
						   CRIU_POST_RESTORE, CRIU_PRE_RESUME };
	int conn = start(b);
	CLEANUP(fd_closep) int images = images_dir(b, 1);
	struct move d = MOVE(b);
	char *keys[2];
	struct error err;

	(void)conn;
	pipe_keys(b->init, keys);
	if (dump(&d, images, 0, &err) < 0)
		DIE(err.msg);
	destroy_source(b);
	for (size_t i = 0; i < sizeof(moments) / sizeof(moments[0]); i++) {
		struct move r = MOVE(b);

		r.refuse = moments[i];
		CHECK(restore(&r, images, keys, &err) == -ECANCELED);
		CHECK(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD);
		await_empty(b);
		box_unwire(b);
		box_wire(b);
	}
	for (size_t i = 0; i < sizeof(moments) / sizeof(moments[0]); i++) {
		struct move r = MOVE(b);

		r.die = moments[i];
		b->generation++;		/* the child's own is lost */
		die_at(&r, images, keys);
		MUST(umount2(b->root, MNT_DETACH));
		await_empty(b);
		/* a CRIU that is killed leaves its temporary names of deleted files */
		sh(fmt("find %s/upper -name '*.ghost' -delete", b->dir));
		box_unwire(b);
		box_wire(b);
	}
}

static void failed_restore(void **state)
{
	(void)state;
	as_monitor(restores_that_fail);
}

static void no_images(struct box *b)
{
	int conn = start(b);
	CLEANUP(fd_closep) int images = images_dir(b, 1);
	struct move r = MOVE(b);
	char *keys[2];
	struct error err;

	(void)conn;
	pipe_keys(b->init, keys);
	destroy_source(b);
	CHECK(restore(&r, images, keys, &err) < 0);
	CHECK(strstr(err.msg, "empty-image") && faccessat(images, CRIU_RESTORE_LOG, F_OK, 0) == 0);
	await_empty(b);
}

static void empty_images(void **state)
{
	(void)state;
	as_monitor(no_images);
}

static void find_refuses(void **state)
{
	char saved[sizeof(the_criu.path)];
	struct criu found;
	struct error err;

	(void)state;
	(void)snprintf(saved, sizeof(saved), "%s", the_criu.path);
	assert_int_equal(setenv("GODWIT_CRIU", "/nonexistent/criu", 1), 0);
	assert_int_equal(criu_find(&found, &err), -ENOENT);
	assert_non_null(strstr(err.msg, "/nonexistent/criu"));
	assert_int_equal(setenv("GODWIT_CRIU", "/bin/true", 1), 0);
	assert_true(criu_find(&found, &err) < 0);
	assert_int_equal(setenv("GODWIT_CRIU", saved, 1), 0);
	assert_int_equal(criu_find(&found, &err), 0);
	assert_true(found.version >= 40100);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(round_trips),
		cmocka_unit_test(shared_pipe),
		cmocka_unit_test(terminal),
		cmocka_unit_test(failed_dump),
		cmocka_unit_test(dead_dumper),
		cmocka_unit_test(failed_restore),
		cmocka_unit_test(empty_images),
		cmocka_unit_test(find_refuses),
	};
	struct error err = { 0 };

	if (argc > 1 && strcmp(argv[1], "payload") == 0)
		return payload_main();
	if (geteuid() != 0 || SANITIZED) {
		fprintf(stderr, "needs root, and a build without sanitizers\n");
		return 77;
	}
	if (criu_find(&the_criu, &err) < 0) {
		fprintf(stderr, "%s\n", err.msg);
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}

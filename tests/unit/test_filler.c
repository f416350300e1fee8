/*
 * A box is dumped by CRIU with all its memory; its large private anonymous
 * mappings then move from CRIU's images to a page store, and the filler gives
 * them to the restored box, which looks at every page meanwhile and changes its
 * mappings.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include <cmocka.h>

#pragma GCC diagnostic ignored "-Wunused-function"
#include "criu-glue/pagemap.h"
#include "migrate/memory/filler.h"
#include "migrate/memory/store.h"
#include "tests/unit/criu_box.h"
#include "tests/unit/criu_move.h"
#include "tests/unit/criu_payload.h"
#include "tests/unit/filler_payload.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED true
#elif defined(__has_feature)
#define SANITIZED (__has_feature(address_sanitizer) || __has_feature(thread_sanitizer))
#else
#define SANITIZED false
#endif

#define LARGE (1u << 20)
#define PATIENCE_MS 60000
#define MAPPINGS_MAX 4096

static struct criu the_criu;

/* A process of the dumped box. */
struct process {
	pid_t pid;			/* in the box */
	struct { uint64_t start, end; } large[MAPPINGS_MAX];
	size_t n_large;
};

static void process_read(pid_t host_pid, struct process *ret)
{
	CLEANUP(freep) char *status = slurp(fmt("/proc/%d/status", (int)host_pid));
	CLEANUP(file_closep) FILE *maps = fopen(fmt("/proc/%d/maps", (int)host_pid), "re");
	char line[512];

	*ret = (struct process){ 0 };
	CHECK(sscanf(strstr(status, "NSpid:"), "NSpid: %*d %d", &ret->pid) == 1);
	while (fgets(line, sizeof(line), maps)) {
		unsigned long start, end, inode;
		char mode[8];

		CHECK(sscanf(line, "%lx-%lx %7s %*x %*s %lu", &start, &end, mode, &inode) == 4);
		if (mode[3] != 'p' || inode || strstr(line, "[") || end - start < LARGE)
			continue;
		CHECK(ret->n_large < MAPPINGS_MAX);
		ret->large[ret->n_large].start = start;
		ret->large[ret->n_large++].end = end;
	}
}

static bool is_large(const struct process *p, uint64_t address)
{
	for (size_t i = 0; i < p->n_large; i++)
		if (address >= p->large[i].start && address < p->large[i].end)
			return true;
	return false;
}

/* A file of the images, whole; *ret_len without the 0 that is put behind. */
static uint8_t *image(int images, const char *name, size_t *ret_len)
{
	struct error err;
	char *data;

	if (fd_read_file_at(images, name, 1ul << 32, &data, ret_len, &err) < 0)
		DIE(err.msg);
	return (uint8_t *)data;
}

static void replace(int images, const char *name, const void *data, size_t len)
{
	struct error err;

	if (fd_replace_file_at(images, name, data, len, 0600, FD_REPLACE, &err) < 0)
		DIE(err.msg);
}

static uint64_t varint(const uint8_t **at)
{
	uint64_t value = 0;

	for (unsigned shift = 0;; shift += 7) {
		value |= (uint64_t)(**at & 0x7f) << shift;
		if (!(*(*at)++ & 0x80))
			return value;
	}
}

/* Address and pages of an entry that CRIU wrote. */
static struct pagemap_range entry(const uint8_t *at, const uint8_t *end)
{
	uint64_t fields[8] = { 0 };

	while (at < end) {
		uint64_t tag = varint(&at);

		fields[tag >> 3 & 7] = varint(&at);
	}
	CHECK(fields[4] & 4);
	return (struct pagemap_range){ fields[1], fields[5] ? fields[5] : fields[2] };
}

static int collect(void *ctx, uint32_t pid, uint64_t address, uint64_t n, uint64_t slot,
		   struct error *err)
{
	struct pagemap_range **end = ctx;

	(void)pid;
	(void)slot;
	(void)err;
	*(*end)++ = (struct pagemap_range){ address, n };
	return 0;
}

/* What of a process is being moved from images to store. */
struct conversion {
	uint8_t *pagemap, *pages, *kept_map, *kept_pages;
	size_t pagemap_len, pages_len, kept_map_len, kept_pages_len;
	char pages_name[32];
};

static void keep(struct conversion *c, const uint8_t *record, size_t len, const uint8_t *pages,
		 size_t n)
{
	memcpy(c->kept_map + c->kept_map_len, record, len);
	c->kept_map_len += len;
	memcpy(c->kept_pages + c->kept_pages_len, pages, n * PAGE);
	c->kept_pages_len += n * PAGE;
}

static struct conversion convert(int images, const struct process *p, struct store *s)
{
	struct conversion c = { 0 };
	const uint8_t *at, *pages;
	struct error err;
	uint32_t len;

	c.pagemap = image(images, fmt("pagemap-%d.img", (int)p->pid), &c.pagemap_len);
	(void)snprintf(c.pages_name, sizeof(c.pages_name), "pages-%d.img", c.pagemap[13]);
	c.pages = image(images, c.pages_name, &c.pages_len);
	c.kept_map = malloc(c.pagemap_len);
	c.kept_pages = malloc(c.pages_len + 1);
	memcpy(c.kept_map, c.pagemap, 14);
	c.kept_map_len = 14;
	pages = c.pages;
	for (at = c.pagemap + 14; at < c.pagemap + c.pagemap_len; at += 4 + len) {
		struct pagemap_range range;

		memcpy(&len, at, 4);
		range = entry(at + 4, at + 4 + len);
		if (!is_large(p, range.address)) {
			keep(&c, at, 4 + len, pages, range.n_pages);
		} else if (store_put(s, (uint32_t)p->pid, range.address, pages, range.n_pages,
				     &err) < 0 ||
			   store_populated(s, (uint32_t)p->pid, range.address,
					   range.address + range.n_pages * PAGE, &err) < 0) {
			DIE(err.msg);
		}
		pages += range.n_pages * PAGE;
	}
	CHECK(pages == c.pages + c.pages_len);
	return c;
}

static void write_images(int images, const struct process *p, const struct conversion *c,
			 const struct store *s)
{
	CLEANUP(freep) struct pagemap_range *ranges = calloc(1 << 20, sizeof(*ranges));
	struct pagemap_range *end = ranges;
	CLEANUP(freep) void *merged = NULL;
	struct error err;
	size_t len;

	if (store_walk_space(s, (uint32_t)p->pid, collect, &end, &err) < 0 ||
	    pagemap_merge(c->kept_map, c->kept_map_len, ranges, (size_t)(end - ranges), &merged,
			  &len, &err) < 0)
		DIE(err.msg);
	CHECK(end > ranges);
	replace(images, fmt("pagemap-%d.img", (int)p->pid), merged, len);
	replace(images, c->pages_name, c->kept_pages, c->kept_pages_len);
	free(c->pagemap);
	free(c->pages);
	free(c->kept_map);
	free(c->kept_pages);
}

/* Both processes' large mappings are in the store, not in the images. */
static struct store *move_to_store(struct box *b, int images)
{
	static struct process processes[2];
	struct conversion c[2];
	struct error err;
	struct store *s;

	process_read(b->init, &processes[0]);
	process_read(worker_of(b), &processes[1]);
	if (store_new(1u << 20, &s, &err) < 0)
		DIE(err.msg);
	for (int i = 0; i < 2; i++)
		c[i] = convert(images, &processes[i], s);
	if (store_seal(s, &err) < 0)
		DIE(err.msg);
	for (int i = 0; i < 2; i++)
		write_images(images, &processes[i], &c[i], s);
	return s;
}

/* As ask, with the patience that a busy machine needs, and what stderr said. */
static void expect(const struct box *b, int conn, const char *question)
{
	struct pollfd p = { .fd = conn, .events = POLLIN };
	char said[64] = "";

	MUST(write(conn, question, strlen(question)));
	if (poll(&p, 1, PATIENCE_MS) <= 0)
		DIE(fmt("%s: no answer", question));
	MUST(read(conn, said, sizeof(said) - 1));
	if (strcmp(said, "fine\n") != 0) {
		char why[512] = "";

		(void)fcntl(b->err[0], F_SETFL, O_NONBLOCK);
		(void)!read(b->err[0], why, sizeof(why) - 1);
		DIE(fmt("%s: %s%s", question, said, why));
	}
}

static int start(struct box *b, size_t mb)
{
	char text[64] = "";
	int conn;

	box_make(b);
	close((int)MUST(open(fmt("%s/upper/size", b->dir), O_CREAT | O_WRONLY, 0644)));
	put(fmt("%s/upper/size", b->dir), fmt("%zu", mb));
	box_start(b);
	MUST(read(b->out[0], text, sizeof(text) - 1));
	CHECK(!strncmp(text, "started", 7));
	conn = in_netns(b->peer_netns, connect_there);
	expect(b, conn, "verify");
	return conn;
}

/* From a running box to a restored, frozen one whose memory is in the store. */
static struct filler restore_lazily(struct box *b, int round)
{
	CLEANUP(fd_closep) int images = images_dir(b, round);
	struct filler filler = FILLER_EMPTY;
	struct move d = MOVE(b), r = MOVE(b);
	struct store *s;
	struct error err;
	uint64_t moved;
	char *keys[2];

	pipe_keys(b->init, keys);
	if (dump(&d, images, 0, &err) < 0)
		DIE(err.msg);
	s = move_to_store(b, images);
	moved = store_stats(s).pages;
	destroy_source(b);
	if (filler_start(images, -EBADF, s, &filler, &err) < 0)
		DIE(err.msg);
	store_free(s);
	r.lazy = true;
	r.began = clock_us();
	if (restore(&r, images, keys, &err) < 0)
		DIE(err.msg);
	print_message("%llu pages in the store; restored in %.1f ms\n", (unsigned long long)moved,
		      (double)(clock_us() - r.began) / 1e3);
	CHECK(is_frozen(b));
	return filler;
}

static void finish(struct filler *filler)
{
	struct filler_report report = { 0 };
	struct error err;

	if (filler_finish(filler, &report, &err) < 0)
		DIE(err.msg);
	print_message("%llu pages, %llu faults, %llu forks; filled in %.1f ms, %.2f GB/s\n",
		      (unsigned long long)report.pages, (unsigned long long)report.faults,
		      (unsigned long long)report.forks, (double)report.filled_us / 1e3,
		      (double)report.pages * 4.096 / (double)report.filled_us);
}

static void run_on(struct box *b)
{
	box_gate(b, true);
	box_freeze(b, false);
}

static size_t size_mb(size_t fallback)
{
	const char *text = getenv("FILLER_MB");

	return text ? strtoul(text, NULL, 10) : fallback;
}

static void churn_while_filling(struct box *b)
{
	int conn = start(b, size_mb(256));

	for (int round = 1; round <= 2; round++) {
		struct filler filler = restore_lazily(b, round);

		/* what the box does goes first, so that it meets gaps */
		MUST(setpriority(PRIO_PROCESS, (id_t)filler.pid, 10));
		run_on(b);
		expect(b, conn, "churn");
		expect(b, conn, "verify");
		finish(&filler);
		expect(b, conn, "verify");
	}
}

/* Nothing disturbs: how fast is it? */
static void fill_alone(struct box *b)
{
	int conn = start(b, size_mb(64));
	struct filler filler = restore_lazily(b, 1);

	finish(&filler);
	run_on(b);
	expect(b, conn, "verify");
}

/* The box waits for ever rather than to read what is not its memory. */
static void filler_dies(struct box *b)
{
	int conn = start(b, size_mb(256));
	struct filler filler = restore_lazily(b, 1);
	struct pollfd answer = { .fd = conn, .events = POLLIN };
	struct error err;

	MUST(kill(filler.pid, SIGKILL));
	CHECK(filler_finish(&filler, NULL, &err) == -EIO);
	CHECK(strstr(err.msg, "killed by signal 9"));
	run_on(b);
	MUST(write(conn, "verify", 6));
	CHECK(poll(&answer, 1, 500) == 0);
	(void)box_kill(b);
	filler_stop(&filler);
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

static void busy(void **state)
{
	(void)state;
	as_monitor(churn_while_filling);
}

static void alone(void **state)
{
	(void)state;
	as_monitor(fill_alone);
}

static void dead_filler(void **state)
{
	(void)state;
	as_monitor(filler_dies);
}

static void nobody_comes(void **state)
{
	char dir[] = "/tmp/godwit-filler-XXXXXX";
	struct filler filler = FILLER_EMPTY;
	struct store *s;
	struct error err;
	int images;

	(void)state;
	assert_non_null(mkdtemp(dir));
	images = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(store_new(1, &s, &err), 0);
	assert_int_equal(store_seal(s, &err), 0);
	assert_int_equal(filler_start(images, -EBADF, s, &filler, &err), 0);
	assert_int_equal(waitpid(filler.pid, NULL, WNOHANG), 0);
	filler_stop(&filler);
	assert_int_equal(filler.pidfd, -EBADF);
	filler_stop(&filler);
	assert_int_equal(filler_start(images, -EBADF, s, &filler, &err), 0);
	store_free(s);
	fd_close(&filler.report_fd);		/* as if we had died */
	assert_int_equal(filler_finish(&filler, NULL, &err), -EIO);
	filler_stop(&filler);
	close(images);
	assert_int_equal(fd_remove_tree_at(AT_FDCWD, dir, &err), 0);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nobody_comes),
		cmocka_unit_test(alone),
		cmocka_unit_test(busy),
		cmocka_unit_test(dead_filler),
	};
	struct error err = { 0 };

	if (argc > 1 && strcmp(argv[1], "payload") == 0)
		return filler_payload_main();
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

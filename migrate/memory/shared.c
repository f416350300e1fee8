#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "engine/base/clock.h"
#include "migrate/memory/shared_state.h"
#include "migrate/memory/store.h"
#include "proto/checksum.h"

/* A calm object is looked at again after so many rounds. */
#define CALM_ROUNDS 8

/* The dump takes at least so long, whatever is compared meanwhile. */
#define DUMP_US 30000u

static int find_device(unsigned flags, dev_t *ret)
{
	CLEANUP(fd_closep) int fd = memfd_create("godwit-probe", MFD_CLOEXEC | flags);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -1;
	*ret = st.st_dev;
	return 0;
}

/* Each size of huge pages has a file system of its own. */
static void find_huge_devices(struct shared *s)
{
	static const uint32_t shifts[] = { 16, 21, 25, 30 };

	for (size_t i = 0; i < sizeof(shifts) / sizeof(*shifts); i++)
		if (find_device(MFD_HUGETLB | shifts[i] << MAP_HUGE_SHIFT, &s->huge[s->n_huge].dev) == 0)
			s->huge[s->n_huge++].shift = shifts[i];
}

int shared_open(const struct cgroup *cg, pid_t init, bool files, struct shared **ret, struct error *err)
{
	CLEANUP(shared_freep) struct shared *s = calloc(1, sizeof(*s));

	if (!s)
		return error_set(err, ENOMEM, "out of memory");
	s->cgroup = cg;
	s->init = init;
	s->files = files;
	s->last_number = PAGES_PID_MAX;
	s->piece = calloc(SHARED_PIECE_PAGES, PAGES_SIZE);
	if (!s->piece)
		return error_set(err, ENOMEM, "out of memory");
	s->zero_sum = checksum_of(0, s->piece, PAGES_SIZE);
	if (find_device(0, &s->shmem_dev) < 0)
		return error_set(err, errno, "memfd_create: %s", strerror(errno));
	find_huge_devices(s);
	*ret = TAKE_PTR(s);
	return 0;
}

void shared_free(struct shared *s)
{
	struct error ignored;

	if (!s)
		return;
	(void)shared_threads_join(s, &ignored);
	for (size_t i = 0; i < s->n; i++)
		shared_object_free(s->objects[i]);
	free(s->piece);
	free(s);
}

/* Nobody in the container has it any more. */
static int forget_gone(struct shared *s, const struct shared_sink *sink, struct error *err)
{
	size_t kept = 0;
	int r = 0;

	for (size_t i = 0; i < s->n; i++) {
		struct shared_object *o = s->objects[i];

		if (o->seen == s->rounds) {
			s->objects[kept++] = o;
			continue;
		}
		if (r == 0 && o->told_size != UINT64_MAX)
			r = sink->gone(sink->ctx, o->number, err);
		shared_object_free(o);
	}
	s->n = kept;
	return r;
}

static int tell(struct shared_object *o, const struct shared_sink *sink, struct error *err)
{
	if (o->told_size == o->size && !o->renamed)
		return 0;
	o->told_size = o->size;
	o->renamed = false;
	return sink->object(sink->ctx, o->number, o->size, &o->about, err);
}

/* One that was not written to last time is compared less often; that is only for
 * speed, since the last comparison leaves none out. */
static bool is_worthwhile(const struct shared *s, const struct shared_object *o)
{
	return !o->calm || o->told_size != o->size || s->rounds - o->passed >= CALM_ROUNDS;
}

int shared_round(struct shared *s, const struct shared_sink *sink, uint64_t *ret_us, struct error *err)
{
	uint64_t before_us = s->read_us;

	s->rounds++;
	if (shared_find(s, err) < 0 || forget_gone(s, sink, err) < 0)
		return error_wrap(err, "shared memory");
	for (size_t i = 0; i < s->n; i++) {
		struct shared_object *o = s->objects[i];
		uint64_t changed = 0;

		if (shared_object_resize(o, err) < 0)
			return error_wrap(err, "shared memory");
		if (!is_worthwhile(s, o))
			continue;
		if (tell(o, sink, err) < 0 || shared_object_pass(s, o, sink, &changed, err) < 0)
			return error_wrap(err, "shared memory");
		o->passed = s->rounds;
		o->calm = changed == 0;
	}
	*ret_us = s->read_us - before_us;
	return 0;
}

int shared_compare(struct shared *s, struct carried *carried, struct error *err)
{
	for (size_t i = 0; i < s->n; i++) {
		const struct shared_object *o = s->objects[i];

		/* of a file CRIU dumps the content when it has lost its name since */
		if (shared_object_resize(s->objects[i], err) < 0 ||
		    (o->about.kind != PAGES_FILE &&
		     carried_add_object(carried, o->dev, o->ino, o->about.kind == PAGES_SYSV, err) < 0))
			return error_wrap(err, "shared memory");
	}
	if (shared_threads_start(s, err) < 0)
		return error_wrap(err, "shared memory");
	return 0;
}

/* Names are as they are now: CRIU has made some, for files that had lost theirs. What
 * has none is CRIU's. */
static int find_names(struct shared *s, const struct shared_sink *sink, struct error *err)
{
	s->last = true;
	s->rounds++;
	for (size_t i = 0; i < s->n; i++)
		if (s->objects[i]->about.kind != PAGES_FILE)
			s->objects[i]->seen = s->rounds;
	return shared_find_files(s, err) < 0 ? -err->code : forget_gone(s, sink, err);
}

int shared_last_round(struct shared *s, const struct shared_sink *sink, struct error *err)
{
	if (shared_threads_join(s, err) < 0 || find_names(s, sink, err) < 0)
		return error_wrap(err, "shared memory");
	for (size_t i = 0; i < s->n; i++)
		if (tell(s->objects[i], sink, err) < 0 || shared_object_send(s, s->objects[i], sink, err) < 0)
			return error_wrap(err, "shared memory");
	return 0;
}

static int hash_object(struct shared *s, const struct shared_object *o, struct checksum *sum,
		       struct error *err)
{
	uint64_t at = 0, len;
	int r;

	while ((r = shared_next_data(o, &at, &len, err)) > 0)
		for (uint64_t end = at + len; at < end; at += PAGES_SIZE) {
			if (shared_object_read(o, at / PAGES_SIZE, s->piece, 1, err) < 0)
				return -err->code;
			store_hash_page(sum, at, s->piece);
		}
	return r;
}

int shared_hash(struct shared *s, const struct shared_sink *sink, struct error *err)
{
	CLEANUP(checksum_freep) struct checksum *sum = NULL;

	if (checksum_new(&sum, err) < 0)
		return -err->code;
	for (size_t i = 0; i < s->n; i++) {
		checksum_reset(sum);
		if (hash_object(s, s->objects[i], sum, err) < 0)
			return error_wrap(err, "shared memory");
		if (sink->hash(sink->ctx, s->objects[i]->number, checksum_value(sum), err) < 0)
			return -err->code;
	}
	return 0;
}

/* A mapping that is there is compared twice as fast as an object is read. */
uint64_t shared_expected_us(const struct shared *s)
{
	long threads = sysconf(_SC_NPROCESSORS_ONLN);
	uint64_t bytes = 0, us;

	if (!s->read_bytes)
		return 0;
	for (size_t i = 0; i < s->n; i++)
		bytes += s->objects[i]->data_bytes;
	us = (uint64_t)((double)bytes * (double)s->read_us / (double)s->read_bytes / 2 /
			(double)(threads > 0 ? threads : 1));
	return us > DUMP_US ? us - DUMP_US : 0;
}

/*
 * Input: a checkpoint.json. What is accepted has only paths that stay below
 * their root, and says, written out and read again, the same; what is refused
 * says why.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/fd.h"
#include "migrate/manifest.h"
#include "tests/fuzz/fuzz.h"

static void check_paths(char *const *v)
{
	size_t n = 0;

	for (; v[n]; n++) {
		CLEANUP(freep) char *copy = strdup(v[n]);
		char *save = NULL;

		if (v[n][0] != '/' || strstr(v[n], "//"))
			abort();
		for (char *w = strtok_r(copy, "/", &save); w; w = strtok_r(NULL, "/", &save))
			if (!strcmp(w, ".") || !strcmp(w, ".."))
				abort();
	}
	if (n > MANIFEST_MOUNTS_MAX)
		abort();
}

static char *text_of(int dir)
{
	struct error err;
	char *text;

	if (fd_read_file_at(dir, MANIFEST_JSON, 4 << 20, &text, NULL, &err) < 0)
		abort();
	return text;
}

static void check_round_trip(int dir, const struct manifest *m)
{
	CLEANUP(manifest_freep) struct manifest *again = NULL;
	CLEANUP(freep) char *a = NULL;
	CLEANUP(freep) char *b = NULL;
	struct error err;

	if (manifest_write(dir, m, &err) < 0)
		abort();
	a = text_of(dir);
	if (manifest_read(dir, &again, &err) < 0 || manifest_write(dir, again, &err) < 0)
		abort();
	b = text_of(dir);
	if (strcmp(a, b) != 0)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char path[] = "/dev/shm/godwit-fuzz-XXXXXX";
	CLEANUP(manifest_freep) struct manifest *m = NULL;
	CLEANUP(fd_closep) int dir = mkdtemp(path) ? open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -EBADF;
	struct error err = { 0 };
	int r;

	if (dir < 0 || fd_replace_file_at(dir, MANIFEST_JSON, data, size, 0600, FD_REPLACE, &err) < 0)
		abort();
	r = manifest_read(dir, &m, &err);
	if (r < 0 && (m || err.code != -r || !strstr(err.msg, MANIFEST_JSON)))
		abort();
	if (r == 0) {
		check_paths(m->external_mounts);
		check_paths(m->tmpfs);
		check_round_trip(dir, m);
	}
	if (fd_remove_tree_at(AT_FDCWD, path, &err) < 0)
		abort();
	return 0;
}

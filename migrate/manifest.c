#include <jansson.h>
#include <string.h>

#include "engine/base/fd.h"
#include "migrate/manifest.h"

static void strv_free(char **v)
{
	for (char **s = v; s && *s; s++)
		free(*s);
	free(v);
}

void manifest_free(struct manifest *m)
{
	if (!m)
		return;
	strv_free(m->external_mounts);
	strv_free(m->tmpfs);
	free(m);
}

static json_t *strv_json(char *const *v)
{
	json_t *a = json_array();

	for (; v && *v; v++)
		(void)json_array_append_new(a, json_string(*v));
	return a;
}

int manifest_write(int dirfd, const struct manifest *m, struct error *err)
{
	json_t *root = json_pack("{s:i,s:i,s:o,s:o,s:[I,I,I],s:b,s:i,s:I,s:I,s:I,s:i,s:i,s:s,s:i,s:s*}",
		"version", MANIFEST_VERSION, "criu_version", (int)m->criu_version,
		"external_mounts", strv_json(m->external_mounts), "tmpfs", strv_json(m->tmpfs),
		"pipe_inodes", (json_int_t)m->pipe_inodes[0], (json_int_t)m->pipe_inodes[1],
		(json_int_t)m->pipe_inodes[2], "was_paused", m->was_paused,
		"migrations", (int)m->migrations, "started_us", (json_int_t)m->started_us,
		"frozen_at_us", (json_int_t)m->frozen_at_us, "log_bytes", (json_int_t)m->log_bytes,
		"restarts", (int)m->restarts, "oom_kills", (int)m->oom_kills,
		"health", health_name(m->health.status), "health_failures", (int)m->health.failures,
		"files", *m->files ? m->files : NULL);
	CLEANUP(freep) char *text = root ? json_dumps(root, JSON_INDENT(2)) : NULL;

	json_decref(root);
	if (!text)
		return error_set(err, EINVAL, "write " MANIFEST_JSON ": a mount point is not valid UTF-8");
	return fd_replace_file_at(dirfd, MANIFEST_JSON, text, strlen(text), 0600, FD_REPLACE, err);
}

/* Absolute, without "." and "..": it will be looked up below a root. */
static bool clean_path(const char *p)
{
	if (p[0] != '/' || strlen(p) > 4000)
		return false;
	for (; p; p = strchr(p + 1, '/')) {
		size_t n = strcspn(p + 1, "/");

		if (n == 0 || (n == 1 && p[1] == '.') || (n == 2 && p[1] == '.' && p[2] == '.'))
			return false;
	}
	return true;
}

static char **paths_from_json(const json_t *a)
{
	size_t n = json_array_size(a);
	char **v = json_is_array(a) && n <= MANIFEST_MOUNTS_MAX ? calloc(n + 1, sizeof(*v)) : NULL;

	for (size_t i = 0; v && i < n; i++) {
		const char *s = json_string_value(json_array_get(a, i));

		if (!s || !clean_path(s) || !(v[i] = strdup(s))) {
			strv_free(v);
			return NULL;
		}
	}
	return v;
}

/* json_unpack would cut them to the size of an int. */
static int check_numbers(const json_t *root, struct error *err)
{
	static const struct { const char *key; json_int_t max; } numbers[] = {
		{ "criu_version", INT32_MAX }, { "migrations", INT32_MAX },
		{ "started_us", INT64_MAX }, { "frozen_at_us", INT64_MAX }, { "log_bytes", INT64_MAX },
		{ "restarts", INT32_MAX }, { "oom_kills", INT32_MAX }, { "health_failures", INT32_MAX },
	};
	const json_t *pipes = json_object_get(root, "pipe_inodes");

	for (size_t i = 0; i < sizeof(numbers) / sizeof(*numbers); i++) {
		json_int_t v = json_integer_value(json_object_get(root, numbers[i].key));

		if (v < 0 || v > numbers[i].max)
			return error_set(err, EINVAL, "'%s' is out of range", numbers[i].key);
	}
	for (size_t i = 0; i < 3; i++)
		if (json_integer_value(json_array_get(pipes, i)) < 0)
			return error_set(err, EINVAL, "'pipe_inodes' has a number below 0");
	return 0;
}

static int from_json(json_t *root, struct manifest *m, struct error *err)
{
	json_t *mounts = NULL, *tmpfs = NULL;
	json_int_t p[3] = { 0 }, started = 0, frozen = 0, log = 0;
	int version = 0, criu = 0, paused = 0, migrations = 0, restarts = 0, oom_kills = 0, failures = 0;
	const char *health = "none", *files = "";
	json_error_t je;

	if (json_unpack_ex(root, &je, 0, "{s:i,s:i,s:o,s:o,s:[I,I,I!],s:b,s:i,s:I,s:I,s:I,s?i,s?i,s?s,s?i,s?s!}",
			   "version", &version, "criu_version", &criu, "external_mounts", &mounts,
			   "tmpfs", &tmpfs, "pipe_inodes", &p[0], &p[1], &p[2], "was_paused", &paused,
			   "migrations", &migrations, "started_us", &started, "frozen_at_us", &frozen,
			   "log_bytes", &log, "restarts", &restarts, "oom_kills", &oom_kills,
			   "health", &health, "health_failures", &failures, "files", &files) < 0)
		return error_set(err, EINVAL, "%s", je.text);
	if (version != MANIFEST_VERSION)
		return error_set(err, ENOTSUP, "version %d is not supported, only %d", version,
				 MANIFEST_VERSION);
	if (check_numbers(root, err) < 0)
		return -err->code;
	m->external_mounts = paths_from_json(mounts);
	m->tmpfs = paths_from_json(tmpfs);
	if (!m->external_mounts || !m->tmpfs)
		return error_set(err, EINVAL, "'external_mounts' and 'tmpfs' must be at most %d absolute paths",
				 MANIFEST_MOUNTS_MAX);
	(void)snprintf(m->files, sizeof(m->files), "%s", files);
	m->criu_version = (unsigned)criu;
	for (int i = 0; i < 3; i++)
		m->pipe_inodes[i] = (uint64_t)p[i];
	m->was_paused = paused;
	m->migrations = (uint32_t)migrations;
	m->started_us = (uint64_t)started;
	m->frozen_at_us = (uint64_t)frozen;
	m->log_bytes = (uint64_t)log;
	m->restarts = (uint32_t)restarts;
	m->oom_kills = (uint32_t)oom_kills;
	m->health = (struct health){ .status = health_from_name(health), .failures = (uint32_t)failures };
	return 0;
}

int manifest_read(int dirfd, struct manifest **ret, struct error *err)
{
	CLEANUP(manifest_freep) struct manifest *m = calloc(1, sizeof(*m));
	CLEANUP(freep) char *text = NULL;
	json_error_t je;
	json_t *root;
	int r;

	if (!m)
		return error_set(err, ENOMEM, "out of memory");
	if (fd_read_file_at(dirfd, MANIFEST_JSON, 1 << 20, &text, NULL, err) < 0)
		return -err->code;
	root = json_loads(text, JSON_REJECT_DUPLICATES, &je);
	r = root ? from_json(root, m, err) : error_set(err, EINVAL, "line %d: %s", je.line, je.text);
	json_decref(root);
	if (r < 0)
		return error_wrap(err, MANIFEST_JSON);
	*ret = TAKE_PTR(m);
	return 0;
}

#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#include "engine/base/clock.h"
#include "engine/capability.h"
#include "engine/image/image.h"
#include "engine/process.h"
#include "tools/run.h"

#define PIDS_DEFAULT 2048
#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

static int no_memory(struct error *err)
{
	return error_set(err, ENOMEM, "out of memory");
}

static size_t count(char *const *v)
{
	size_t n = 0;

	while (v && v[n])
		n++;
	return n;
}

/* Takes over text, which may be NULL: out of memory. */
static int append(char ***v, char *text, struct error *err)
{
	size_t n = count(*v);
	char **more = text ? reallocarray(*v, n + 2, sizeof(*more)) : NULL;

	if (!more) {
		free(text);
		return no_memory(err);
	}
	more[n] = text;
	more[n + 1] = NULL;
	*v = more;
	return 0;
}

static char **find_env(char **env, const char *name, size_t len)
{
	for (; env && *env; env++)
		if (!strncmp(*env, name, len) && (*env)[len] == '=')
			return env;
	return NULL;
}

static int put_env(char ***env, const char *name, size_t len, const char *value, struct error *err)
{
	char **old = find_env(*env, name, len);
	char *text;

	if (asprintf(&text, "%.*s=%s", (int)len, name, value) < 0)
		return no_memory(err);
	if (!old)
		return append(env, text, err);
	free(*old);
	*old = text;
	return 0;
}

int run_add_env(char ***env, const char *text, struct error *err)
{
	size_t len = strcspn(text, "=");
	const char *ours;

	if (len == 0 || len > INT_MAX)
		return error_set(err, EINVAL, "variable '%.80s' has no name; write NAME=VALUE", text);
	if (text[len] == '=')
		return put_env(env, text, len, text + len + 1, err);
	ours = getenv(text);
	return ours ? put_env(env, text, len, ours, err) : 0;
}

int run_default_env(char ***env, const char *name, const char *value, struct error *err)
{
	return find_env(*env, name, strlen(name)) ? 0 : put_env(env, name, strlen(name), value, err);
}

static int take_environment(const struct run_options *o, struct spec *s, const char *home,
			    struct error *err)
{
	if (run_default_env(&s->env, "PATH", DEFAULT_PATH, err) < 0 ||
	    run_default_env(&s->env, "HOME", home, err) < 0 ||
	    run_default_env(&s->env, "HOSTNAME", s->hostname, err) < 0 ||
	    (o->terminal && run_default_env(&s->env, "TERM", "xterm", err) < 0))
		return -err->code;
	for (size_t i = 0; i < o->env.n; i++)
		if (run_add_env(&s->env, o->env.items[i], err) < 0)
			return -err->code;
	return 0;
}

/* ro, rw and idmap, divided by commas. */
static int parse_volume_options(char *options, struct spec_volume *v, struct error *err)
{
	char *save = NULL;

	for (char *o = strtok_r(options, ",", &save); o; o = strtok_r(NULL, ",", &save)) {
		if (!strcmp(o, "idmap"))
			v->id_mapped = true;
		else if (!strcmp(o, "ro") || !strcmp(o, "rw"))
			v->read_only = o[1] == 'o';
		else
			return error_set(err, EINVAL, "'%.20s' is neither ro nor rw nor idmap", o);
	}
	return 0;
}

/* SRC:DST[:OPTIONS]; a source that is no absolute path is below our directory. */
static int parse_volume(const char *text, struct spec_volume *v, struct error *err)
{
	CLEANUP(freep) char *copy = strdup(text);
	char *destination = copy ? strchr(copy, ':') : NULL, *mode;

	if (!copy)
		return no_memory(err);
	if (!destination || destination == copy || destination[1] != '/')
		return error_set(err, EINVAL, "volume '%.200s': write SOURCE:DESTINATION[:ro], the destination "
				 "absolute", text);
	*destination++ = '\0';
	mode = strchr(destination, ':');
	if (mode)
		*mode++ = '\0';
	if (mode && parse_volume_options(mode, v, err) < 0)
		return error_wrap(err, "volume '%.200s'", text);
	if (!strcmp(destination, "/"))
		return error_set(err, EINVAL, "volume '%.200s': cannot cover the root of the container", text);
	v->source = realpath(copy, NULL);
	if (!v->source)
		return error_set(err, errno, "volume '%.200s': source %.200s: %s", text, copy, strerror(errno));
	v->destination = strdup(destination);
	return v->destination ? 0 : no_memory(err);
}

static int take_volumes(const struct run_options *o, struct spec *s, struct error *err)
{
	s->volumes = calloc(o->volumes.n + 1, sizeof(*s->volumes));
	if (!s->volumes)
		return no_memory(err);
	for (size_t i = 0; i < o->volumes.n; i++)
		if (parse_volume(o->volumes.items[i], &s->volumes[s->n_volumes++], err) < 0)
			return -err->code;
	return 0;
}

static int take_image(const struct node *node, const char *name, struct spec *s, struct error *err)
{
	CLEANUP(image_freep) struct image *image = NULL;
	int r = image_open(node->state_fd, name, &image, err);

	if (r == -ENOENT)
		return error_set(err, ENOENT, "no image '%s' on %s; 'godwit image ls' lists them, 'godwit image "
				 "import %s PATH' makes one", name, node->config.name, name);
	if (r < 0)
		return r;
	s->image = strdup(name);
	s->image_digest = strdup(image->digest);
	return s->image && s->image_digest ? 0 : no_memory(err);
}

static int take_user(const struct node *node, const struct run_options *o, struct spec *s,
		     char home[256], struct error *err)
{
	CLEANUP(fd_closep) int root = -EBADF;

	if (image_rootfs_fd(node->state_fd, s->image, &root, err) < 0)
		return -err->code;
	return process_find_user(root, o->user ? o->user : "0", &s->uid, &s->gid, &s->groups, &s->n_groups,
				 home, err);
}

/* hostname(7): letters, digits, '-' and '.'; 64 of them is what Linux takes. */
static int check_hostname(const char *name, struct error *err)
{
	size_t len = strlen(name);

	if (len == 0 || len > 64 || name[0] == '-' || strspn(name, "abcdefghijklmnopqrstuvwxyz"
	    "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._") != len)
		return error_set(err, EINVAL, "hostname '%.80s': must be 1 to 64 letters, digits, '-' or '.'", name);
	return 0;
}

static int take_args(char **args, struct spec *s, struct error *err)
{
	if (count(args) > SPEC_LIST_MAX)
		return error_set(err, E2BIG, "more than %d arguments", SPEC_LIST_MAX);
	for (; *args; args++)
		if (append(&s->args, strdup(*args), err) < 0)
			return -err->code;
	return 0;
}

static int take_names(const struct node *node, const struct run_options *o, struct spec *s,
		      struct error *err)
{
	if (o->name) {
		s->name = strdup(o->name);
		if (!s->name)
			return no_memory(err);
	} else if (run_choose_name(node, &s->name, err) < 0) {
		return -err->code;
	}
	s->hostname = strdup(o->hostname ? o->hostname : s->name);
	if (!s->hostname)
		return no_memory(err);
	if (spec_check_name(s->name, err) < 0)
		return -err->code;
	return check_hostname(s->hostname, err);
}

/* As many processes as podman allows, where the host can count them. */
static int take_limits(const struct run_options *o, struct cgroup_limits *l, struct error *err)
{
	bool can = false;

	l->memory_bytes = o->memory_bytes;
	l->cpu_millis = o->cpu_millis;
	l->pids = o->pids;
	if (disk_options_take(&o->disks, &l->disks, err) < 0)
		return -err->code;
	disk_limits_settle(&l->disks);
	if (o->pids != RUN_PIDS_DEFAULT)
		return 0;
	if (cgroup_can_limit_pids(&can, err) < 0)
		return -err->code;
	l->pids = can ? PIDS_DEFAULT : 0;
	return 0;
}

/* CTR:HOST[:SIZE] each, as newuidmap(1) has them. */
static int take_map(const struct option_list *list, const char *option, struct id_map *map, struct error *err)
{
	for (size_t i = 0; i < list->n; i++) {
		unsigned long long inside, host, size;
		char rest;

		if (sscanf(list->items[i], "%llu:%llu:%llu%c", &inside, &host, &size, &rest) != 3)
			return error_set(err, EINVAL, "%s %.80s: write CONTAINER-ID:HOST-ID:SIZE", option,
					 list->items[i]);
		if (id_map_add(map, inside, host, size, err) < 0)
			return error_wrap(err, "%s", option);
	}
	return 0;
}

/* One map stands for both, as with podman. */
static int take_maps(const struct run_options *o, struct userns *u, struct error *err)
{
	return take_map(o->uid_maps.n ? &o->uid_maps : &o->gid_maps, "--uidmap", &u->uids, err) < 0 ||
	       take_map(o->gid_maps.n ? &o->gid_maps : &o->uid_maps, "--gidmap", &u->gids, err) < 0 ? -err->code : 0;
}

static int take_supervision(const struct run_options *o, struct spec *s, struct error *err)
{
	if (o->restart && restart_parse(o->restart, &s->restart, err) < 0)
		return error_wrap(err, "--restart");
	if (!o->health_cmd || !*o->health_cmd)
		return 0;
	s->health = (struct health_check){
		.command = strdup(o->health_cmd), .interval_us = o->health_interval_us,
		.timeout_us = o->health_timeout_us, .start_period_us = o->health_start_period_us,
		.retries = o->health_retries,
	};
	return s->health.command ? 0 : no_memory(err);
}

int run_spec(const struct node *node, const struct run_options *o, const char *image, char **args,
	     struct spec **ret, struct error *err)
{
	CLEANUP(spec_freep) struct spec *s = calloc(1, sizeof(*s));
	char home[256];

	if (!s)
		return no_memory(err);
	if (o->cwd && o->cwd[0] != '/')
		return error_set(err, EINVAL, "working directory '%.200s' is not absolute", o->cwd);
	if (take_names(node, o, s, err) < 0 || take_image(node, image, s, err) < 0 ||
	    take_user(node, o, s, home, err) < 0 || take_environment(o, s, home, err) < 0 ||
	    take_volumes(o, s, err) < 0 || take_args(args, s, err) < 0 ||
	    take_limits(o, &s->limits, err) < 0 || take_maps(o, &s->userns, err) < 0 || take_supervision(o, s, err) < 0)
		return -err->code;
	s->cwd = strdup(o->cwd ? o->cwd : "/");
	if (!s->cwd)
		return no_memory(err);
	s->shm_bytes = o->shm_bytes;
	s->terminal = o->terminal;
	s->stdin_open = o->interactive;
	s->auto_remove = o->remove;
	s->nested = o->nested;
	s->capabilities = o->nested ? capability_nested_mask() : capability_default_mask();
	s->created_us = clock_real_us();
	*ret = TAKE_PTR(s);
	return 0;
}

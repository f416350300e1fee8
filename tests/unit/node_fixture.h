/*
 * node_fixture.h - a node of one's own: state directory, cgroup parent, specs
 *
 * Its containers have no address unless a test gives one, so nothing of the
 * machine's network is touched. home_teardown removes all of it, also what a
 * failed test left.
 */
#pragma once

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "engine/base/fd.h"
#include "engine/container.h"

#define OK(call)								\
	do {									\
		int ok_r = (call);						\
		if (ok_r != 0)							\
			fail_msg("%s: %d %s", #call, ok_r, err.msg);		\
	} while (0)

/* The call fails so, and says text. */
#define FAILS(call, code_, text)						\
	do {									\
		int fails_r = (call);						\
		if (fails_r != -(code_) || !strstr(err.msg, text))		\
			fail_msg("%s: %d %s", #call, fails_r, fails_r < 0 ? err.msg : "");	\
	} while (0)

struct home {
	char path[64];
	char cgroup[64];
	struct node *node;
};

static inline void home_put(const struct home *h, const char *file, const char *text)
{
	CLEANUP(fd_closep) int dir = open(h->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct error err;

	OK(fd_replace_file_at(dir, file, text, strlen(text), 0600, FD_REPLACE, &err));
}

static inline int home_setup(void **state)
{
	struct home *h = calloc(1, sizeof(*h));
	struct error err;
	char text[256];

	assert_non_null(h);
	strcpy(h->path, "/var/tmp/godwit-node-XXXXXX");
	assert_non_null(mkdtemp(h->path));
	(void)snprintf(h->cgroup, sizeof(h->cgroup), "/godwit-unit-%d", (int)getpid());
	(void)snprintf(text, sizeof(text), "{\"name\": \"walrus\", \"cgroup\": \"%s\", \"subnet\": \"10.231.0.0/16\","
		       " \"range\": \"10.231.7.0/24\", \"bridge\": \"gwunit%d\"}", h->cgroup, (int)getpid() % 100000);
	home_put(h, "node.json", text);
	OK(node_open(h->path, &h->node, &err));
	h->node->insecure = true;	/* whoever wants TLS says so */
	*state = h;
	return 0;
}

static inline void home_remove_cgroups(const struct home *h)
{
	static const char *const tops[] = { "", "/unified", "/memory", "/cpu", "/cpuacct", "/pids", "/blkio" };
	char path[160];

	for (size_t i = 0; i < sizeof(tops) / sizeof(*tops); i++) {
		(void)snprintf(path, sizeof(path), "/sys/fs/cgroup%s%s/.helpers", tops[i], h->cgroup);
		(void)rmdir(path);
		(void)snprintf(path, sizeof(path), "/sys/fs/cgroup%s%s", tops[i], h->cgroup);
		(void)rmdir(path);
	}
}

static inline int home_teardown(void **state)
{
	struct home *h = *state;
	struct error err;
	char **names;
	size_t n;

	OK(container_list(h->node, &names, &n, &err));
	for (size_t i = 0; i < n; i++) {
		struct container *c = NULL;

		if (container_open(h->node, names[i], &c, &err) == 0)
			(void)container_clean(c, false, &err);
		container_free(c);
		free(names[i]);
	}
	free(names);
	home_remove_cgroups(h);
	node_free(h->node);
	OK(fd_remove_tree_at(AT_FDCWD, h->path, &err));
	free(h);
	return 0;
}

static inline struct spec *home_spec(const char *name, const char *address)
{
	static const char text[] =
		"{\"ociVersion\":\"1.1.0\",\"process\":{\"terminal\":false,\"user\":{\"uid\":0,\"gid\":0,"
		"\"additionalGids\":[]},\"args\":[\"true\"],\"env\":[],\"cwd\":\"/\",\"capabilities\":"
		"{\"bounding\":[]},\"noNewPrivileges\":true},\"root\":{\"path\":\"merged\"},"
		"\"hostname\":\"h\",\"mounts\":[],\"linux\":{\"resources\":{}},\"annotations\":{"
		"\"org.godwit.name\":\"%s\",\"org.godwit.image\":\"base\",\"org.godwit.image-digest\":\"abc\","
		"\"org.godwit.address\":\"%s\",\"org.godwit.gateway\":\"\",\"org.godwit.mac\":"
		"\"02:67:0a:58:00:07\",\"org.godwit.created-us\":\"1\",\"org.godwit.flags\":\"stdin\"}}";
	struct spec *s = NULL;
	struct error err;
	char json[2048];

	(void)snprintf(json, sizeof(json), text, name, address);
	OK(spec_from_json(json, strlen(json), &s, &err));
	return s;
}

/* Locked, as container_create gives it. */
static inline struct container *home_container(const struct home *h, const char *name,
					       const char *address, enum container_status status)
{
	struct spec *spec = home_spec(name, address);
	struct container *c = NULL;
	struct error err;

	OK(container_create(h->node, spec, status, &c, &err));
	return c;
}

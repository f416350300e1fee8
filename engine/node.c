#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "engine/base/fd.h"
#include "engine/base/random.h"
#include "engine/node.h"

#define NODE_JSON "node.json"
#define NODE_JSON_LIMIT 65536
#define NODE_ID "id"

struct text_key {
	const char *key;
	size_t offset, size;
	const char *fallback;
};

#define KEY(k, def) { #k, offsetof(struct node_config, k), sizeof(((struct node_config *)0)->k), def }

static const struct text_key keys[] = {
	KEY(name, NULL),
	KEY(cgroup, "/godwit"),
	KEY(bridge, "godwit0"),
	KEY(bridge_address, "10.88.0.1/16"),
	KEY(subnet, "10.88.0.0/16"),
	KEY(range, ""),
	KEY(gateway, ""),
};

static int set_text(struct node_config *c, const struct text_key *k, const char *text,
		    struct error *err)
{
	if (strlen(text) >= k->size)
		return error_set(err, EINVAL, "'%s' is longer than %zu characters", k->key, k->size - 1);
	memcpy((char *)c + k->offset, text, strlen(text) + 1);
	return 0;
}

static int set_key(struct node_config *c, const char *key, json_t *value, struct error *err)
{
	for (size_t i = 0; i < sizeof(keys) / sizeof(*keys); i++) {
		if (strcmp(keys[i].key, key) != 0)
			continue;
		if (!json_is_string(value))
			return error_set(err, EINVAL, "'%s' must be a string", key);
		return set_text(c, &keys[i], json_string_value(value), err);
	}
	return error_set(err, EINVAL, "unknown setting '%s'", key);
}

static int parse_config(struct node_config *c, const char *text, struct error *err)
{
	json_error_t je;
	json_t *root = json_loads(text, JSON_REJECT_DUPLICATES, &je), *value;
	const char *key;
	int r = 0;

	if (!json_is_object(root))
		r = error_set(err, EINVAL, "line %d: %s", je.line, root ? "not an object" : je.text);
	else
		json_object_foreach(root, key, value) {
			r = set_key(c, key, value, err);
			if (r < 0)
				break;
		}
	json_decref(root);
	return r;
}

static int load_config(struct node *n, struct error *err)
{
	CLEANUP(freep) char *text = NULL;
	char host[65] = "localhost";
	int r;

	(void)gethostname(host, sizeof(host) - 1);
	for (size_t i = 0; i < sizeof(keys) / sizeof(*keys); i++)
		(void)set_text(&n->config, &keys[i], keys[i].fallback ? keys[i].fallback : host, err);

	r = fd_read_file_at(n->state_fd, NODE_JSON, NODE_JSON_LIMIT, &text, NULL, err);
	if (r == -ENOENT)
		return 0;
	if (r == 0)
		r = parse_config(&n->config, text, err);
	if (r < 0)
		return error_wrap(err, "settings %s/" NODE_JSON, n->path);
	if (n->config.cgroup[0] != '/' || !n->config.cgroup[1])
		return error_set(err, EINVAL, "settings %s/" NODE_JSON ": 'cgroup' must be an absolute "
				 "path below /", n->path);
	return 0;
}

static int read_id(struct node *n, struct error *err)
{
	CLEANUP(freep) char *text = NULL;
	int r = fd_read_file_at(n->state_fd, NODE_ID, NODE_ID_SIZE, &text, NULL, err);

	if (r < 0)
		return r;
	if (strlen(text) != NODE_ID_SIZE - 1 || strspn(text, "0123456789abcdef") != NODE_ID_SIZE - 1)
		return error_set(err, EINVAL, "%s/" NODE_ID " is damaged: it must be 32 hex digits; other nodes may "
				 "wait for an answer of the node with that id", n->path);
	memcpy(n->id, text, NODE_ID_SIZE);
	return 0;
}

/* Made by whoever comes first; the lock, because two may. */
static int load_id(struct node *n, struct error *err)
{
	CLEANUP(fd_closep) int lock = -EBADF;
	char id[NODE_ID_SIZE];
	int r = read_id(n, err);

	if (r != -ENOENT)
		return r;
	if (node_lock(n, &lock, err) < 0)
		return -err->code;
	r = read_id(n, err);
	if (r != -ENOENT)
		return r;
	if (random_hex(id, sizeof(id) - 1, err) < 0 ||
	    fd_replace_file_at(n->state_fd, NODE_ID, id, strlen(id), 0600, FD_REPLACE_DURABLE, err) < 0)
		return error_wrap(err, "make %s/" NODE_ID, n->path);
	return read_id(n, err);
}

/* mkdir -p: the last folder is private to root. */
static int make_path(const char *path, struct error *err)
{
	char part[NODE_TEXT_MAX];

	for (const char *p = path + 1;; p++) {
		if (*p && *p != '/')
			continue;
		(void)snprintf(part, sizeof(part), "%.*s", (int)(p - path), path);
		if (mkdir(part, *p ? 0755 : 0700) < 0 && errno != EEXIST)
			return error_set(err, errno, "make state directory %s: %s", part, strerror(errno));
		if (!*p)
			return 0;
	}
}

static int choose_path(const char *path, char ret[NODE_TEXT_MAX], struct error *err)
{
	char cwd[PATH_MAX] = "";
	int n;

	if (!path || !*path)
		path = getenv("GODWIT_STATE");
	if (!path || !*path)
		path = "/var/lib/godwit";
	if (*path != '/' && !getcwd(cwd, sizeof(cwd)))
		return error_set(err, errno, "current directory: %s", strerror(errno));
	n = snprintf(ret, NODE_TEXT_MAX, "%s%s%s", cwd, *cwd ? "/" : "", path);
	if (n >= NODE_TEXT_MAX - 128)
		return error_set(err, ENAMETOOLONG, "state directory %s: path is too long, at most %d "
				 "characters", path, NODE_TEXT_MAX - 128);
	while (n > 1 && ret[n - 1] == '/')
		ret[--n] = '\0';
	return 0;
}

int node_open(const char *path, struct node **ret, struct error *err)
{
	CLEANUP(node_freep) struct node *n = calloc(1, sizeof(*n));
	int fd = -EBADF;

	if (!n)
		return error_set(err, ENOMEM, "out of memory");
	n->state_fd = n->containers_fd = -EBADF;
	n->insecure = getenv("GODWIT_INSECURE") && !strcmp(getenv("GODWIT_INSECURE"), "1");
	if (choose_path(path, n->path, err) < 0 || make_path(n->path, err) < 0)
		return -err->code;
	if (fd_open_dir_at(AT_FDCWD, n->path, false, 0, &n->state_fd, err) < 0 ||
	    fd_open_dir_at(n->state_fd, "containers", true, 0700, &n->containers_fd, err) < 0)
		return error_wrap(err, "state directory %s", n->path);
	for (const char *const *d = (const char *const[]){ "images", "tokens", "releases", "cache", NULL }; *d; d++) {
		if (fd_open_dir_at(n->state_fd, *d, true, 0700, &fd, err) < 0)
			return error_wrap(err, "state directory %s", n->path);
		fd_close(&fd);
	}
	if (load_config(n, err) < 0 || load_id(n, err) < 0)
		return -err->code;
	*ret = TAKE_PTR(n);
	return 0;
}

void node_free(struct node *node)
{
	if (!node)
		return;
	fd_closep(&node->containers_fd);
	fd_closep(&node->state_fd);
	free(node);
}

int node_sync(const struct node *node, struct error *err)
{
	static const char *const parts[] = { ".", "containers", "images", "tokens" };
	dev_t done[4] = { 0 };

	for (size_t i = 0; i < sizeof(parts) / sizeof(*parts); i++) {
		CLEANUP(fd_closep) int fd = -EBADF;
		bool again = false;
		struct stat st;

		if (fd_open_dir_at(node->state_fd, parts[i], false, 0, &fd, err) < 0)
			return -err->code;
		if (fstat(fd, &st) < 0)
			return error_set(err, errno, "sync %s/%s: %s", node->path, parts[i], strerror(errno));
		for (size_t j = 0; j < i; j++)
			again |= done[j] == st.st_dev;
		done[i] = st.st_dev;
		if (!again && syncfs(fd) < 0)
			return error_set(err, errno, "sync %s/%s: %s", node->path, parts[i], strerror(errno));
	}
	return 0;
}

int node_lock(const struct node *node, int *ret_fd, struct error *err)
{
	CLEANUP(fd_closep) int fd = openat(node->state_fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	if (fd < 0 || flock(fd, LOCK_EX) < 0)
		return error_set(err, errno, "lock %s/lock: %s", node->path, strerror(errno));
	*ret_fd = TAKE_FD(fd);
	return 0;
}

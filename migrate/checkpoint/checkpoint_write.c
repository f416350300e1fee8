#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/base/fd.h"
#include "migrate/admission/machine.h"
#include "migrate/checkpoint/checkpoint_write.h"
#include "migrate/checkpoint/criu_images.h"
#include "migrate/checkpoint/sums.h"
#include "migrate/memory/store_file.h"
#include "migrate/target.h"
#include "migrate/trees.h"
#include "migrate/workdir.h"

#define SOCKET_BYTES (4 << 20)

struct writing {
	struct target target;		/* first: the stages get a pointer to it */
	const struct checkpoint_write_plan *plan;
	int memory;			/* DIR/memory */
};

static struct writing *writing_of(struct target *t)
{
	return (struct writing *)t;
}

int checkpoint_tmpfs_name(const char *mount_point, char ret[CHECKPOINT_TMPFS_SIZE], struct error *err)
{
	int n = snprintf(ret, CHECKPOINT_TMPFS_SIZE, "tmpfs/%s.tar", mount_point + (mount_point[0] == '/'));

	if (n >= CHECKPOINT_TMPFS_SIZE)
		return error_set(err, ENAMETOOLONG, "mount point %.64s...: too long", mount_point);
	for (char *p = ret + strlen("tmpfs/"); *p; p++)
		if (*p == '/')
			*p = '_';
	return 0;
}

/* ---- what comes ---- */

/* As it is: the tree's bytes are a tar archive. */
static int keep_tree(struct target *t, const char *name, struct error *err)
{
	int dir = writing_of(t)->plan->dir->fd;
	CLEANUP(fd_closep) int fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	const void *data;
	ssize_t n;

	if (fd < 0)
		return error_set(err, errno, "make %s: %s", name, strerror(errno));
	while ((n = trees_read(t->channel, &data, err)) > 0)
		if (fd_write_full(fd, data, (size_t)n, err) < 0)
			return error_wrap(err, "write %s", name);
	return (int)n;
}

static int unpack_tree(struct target *t, const char *folder, struct error *err)
{
	CLEANUP(fd_closep) int place = -EBADF;

	if (workdir_open(writing_of(t)->plan->dir->fd, folder, &place, err) < 0)
		return -err->code;
	return target_unpack(t, place, err);
}

static int keep_tmpfs(struct target *t, const char *mount_point, struct error *err)
{
	CLEANUP(fd_closep) int folder = -EBADF;
	char name[CHECKPOINT_TMPFS_SIZE];

	if (checkpoint_tmpfs_name(mount_point, name, err) < 0 ||
	    workdir_open(writing_of(t)->plan->dir->fd, "tmpfs", &folder, err) < 0)
		return -err->code;
	return keep_tree(t, name, err);
}

static int take_tree(struct target *t, const struct message_tree_begin *b, struct error *err)
{
	switch (b->kind) {
	case MESSAGE_TREE_UPPER:
		return keep_tree(t, "upper.tar", err);
	case MESSAGE_TREE_TMPFS:
		return keep_tmpfs(t, b->label, err);
	case MESSAGE_TREE_CHECKPOINT:
		return unpack_tree(t, "images", err);
	case MESSAGE_TREE_META:
		return unpack_tree(t, "meta", err);
	case MESSAGE_TREE_IMAGE:
	case MESSAGE_TREE_MEMORY:
	case MESSAGE_TREE_HELD:
		break;
	}
	return error_set(err, EPROTO, "a tree of an unexpected kind");
}

/* ---- the stages ---- */

int checkpoint_write_accept(struct target *t, struct error *err)
{
	const struct message m = { .type = WIRE_VERDICT, .verdict = {
		.accepted = true, .node_name = t->node->config.name } };

	return channel_send(t->channel, &m, err);
}

/* As much as there is room for, and nothing of what is reserved. */
static int open_store(struct writing *w, struct error *err)
{
	uint64_t room, pages;
	int fd;

	if (workdir_open(w->plan->dir->fd, "memory", &w->memory, err) < 0 ||
	    machine_free_disk(w->memory, &room, err) < 0)
		return -err->code;
	pages = room / STORE_PAGE + 1;
	fd = openat(w->memory, STORE_PAGES, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return error_set(err, errno, "make memory/" STORE_PAGES ": %s", strerror(errno));
	if (store_new_in(fd, pages < STORE_PAGES_MAX ? pages : STORE_PAGES_MAX, &w->target.store, err) < 0)
		return -err->code;
	return shared_store_new_in(w->target.store, &w->target.shared, err);
}

int checkpoint_write_prepare(struct target *t, struct error *err)
{
	const struct message m = { .type = WIRE_PREPARED };

	return open_store(writing_of(t), err) < 0 ? -err->code : channel_send(t->channel, &m, err);
}

static int write_text(int dir, const char *name, const char *text, struct error *err)
{
	return fd_replace_file_at(dir, name, text, strlen(text), 0600, FD_REPLACE, err);
}

static int write_description(const struct target *t, int dir, struct error *err)
{
	const struct message_offer *o = &t->offer.offer;
	json_t *root = json_pack("{s:s,s:s}", "name", o->image_name, "digest", o->image_digest);
	CLEANUP(freep) char *text = root ? json_dumps(root, JSON_INDENT(2)) : NULL;

	json_decref(root);
	if (!text)
		return error_set(err, ENOMEM, "out of memory");
	return write_text(dir, "image.json", text, err) < 0 ? -err->code :
	       write_text(dir, "config.json", o->config_json, err);
}

static int write_shared(const struct writing *w, struct error *err)
{
	CLEANUP(freep) void *list = NULL;
	size_t len;

	if (shared_store_save(w->target.shared, &list, &len, err) < 0)
		return -err->code;
	return !len ? 0 : fd_replace_file_at(w->memory, CHECKPOINT_SHARED, list, len, 0600, FD_REPLACE, err);
}

/* From what is in the directory by now. */
static int assemble_criu_images(const struct writing *w, struct error *err)
{
	const char *config = w->target.offer.offer.config_json;
	CLEANUP(fd_closep) int images = -EBADF, meta = -EBADF, to = -EBADF;
	CLEANUP(manifest_freep) struct manifest *m = NULL;
	CLEANUP(spec_freep) struct spec *spec = NULL;

	if (workdir_open(w->plan->dir->fd, "images", &images, err) < 0 ||
	    workdir_open(w->plan->dir->fd, "meta", &meta, err) < 0 ||
	    workdir_open(w->plan->dir->fd, "criu", &to, err) < 0 || manifest_read(meta, &m, err) < 0 ||
	    spec_from_json(config, strlen(config), &spec, err) < 0 ||
	    criu_images_write(images, w->target.store, w->target.shared, to, err) < 0)
		return -err->code;
	return criu_images_write_script(spec, m, to, err);
}

int checkpoint_write_finish(struct target *t, struct error *err)
{
	struct writing *w = writing_of(t);
	struct message m = { 0 };

	if (channel_receive(t->channel, WIRE_RESTORE, &m, err) < 0)
		return -err->code;
	message_free(&m);
	if (store_save(t->store, w->memory, err) < 0 || write_shared(w, err) < 0 ||
	    write_description(t, w->plan->dir->fd, err) < 0 ||
	    (w->plan->criu_images && assemble_criu_images(w, err) < 0) ||
	    sums_write(w->plan->dir->fd, "memory/" STORE_PAGES, err) < 0 ||
	    checkpoint_dir_sync(w->plan->dir, err) < 0)
		return -err->code;
	m = (struct message){ .type = WIRE_RESTORED, .restored.pid = (uint32_t)getpid() };
	return channel_send(t->channel, &m, err);
}

int checkpoint_write_commit(struct target *t, struct error *err)
{
	struct message m = { 0 };

	if (channel_receive(t->channel, WIRE_COMMIT, &m, err) < 0)
		return -err->code;
	message_free(&m);
	return 0;
}

/* ---- the process ---- */

/* Its descriptors close with it. Out of reach of the terminal's signals: what ends
 * the source is seen as the end of the connection. */
_Noreturn static void child(const struct checkpoint_write_plan *plan, int sock, int words_fd)
{
	const int keep[] = { sock, words_fd, plan->dir->fd, plan->dir->parent_fd };
	struct writing w = { .target = { .node = plan->node, .take_tree = take_tree, TARGET_EMPTY },
			     .plan = plan, .memory = -EBADF };
	struct error words = { 0 };

	(void)signal(SIGPIPE, SIG_IGN);
	(void)setsid();
	(void)prctl(PR_SET_NAME, "godwit-writer");
	if (fd_close_all_except(keep, sizeof(keep) / sizeof(keep[0]), &words) < 0 ||
	    channel_accepted(sock, &w.target.channel, &words) < 0 || target_run(&w.target, plan->table, &words) < 0) {
		checkpoint_dir_discard(plan->dir);
		(void)!write(words_fd, &words, sizeof(words));
		_exit(EXIT_FAILURE);
	}
	_exit(EXIT_SUCCESS);
}

static int make_socket(int ret[2], struct error *err)
{
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ret) < 0)
		return error_set(err, errno, "socketpair: %s", strerror(errno));
	(void)setsockopt(ret[0], SOL_SOCKET, SO_SNDBUFFORCE, &(int){ SOCKET_BYTES }, sizeof(int));
	return 0;
}

int checkpoint_writer_start(const struct checkpoint_write_plan *plan, struct checkpoint_writer *ret,
			    int *ret_socket, struct error *err)
{
	CLEANUP(fd_closep) int ours = -EBADF, theirs = -EBADF, words = -EBADF, said = -EBADF;
	int pair[2];
	pid_t pid;

	if (make_socket(pair, err) < 0)
		return -err->code;
	ours = pair[0];
	theirs = pair[1];
	if (pipe2(pair, O_CLOEXEC) < 0)
		return error_set(err, errno, "pipe: %s", strerror(errno));
	words = pair[0];
	said = pair[1];
	pid = fork();
	if (pid == 0)
		child(plan, theirs, said);
	if (pid < 0)
		return error_set(err, errno, "fork: %s", strerror(errno));
	*ret = (struct checkpoint_writer){ .pid = pid, .words_fd = TAKE_FD(words) };
	*ret_socket = TAKE_FD(ours);
	return 0;
}

/* The source hears of the writer's end in one of these ways. */
static bool is_of_writer(int code)
{
	return code == ECONNABORTED || code == ECONNRESET || code == EPIPE;
}

int checkpoint_writer_finish(struct checkpoint_writer *w, int result, struct error *err)
{
	struct error words;
	int status = 0;

	while (w->pid > 0 && waitpid(w->pid, &status, 0) < 0 && errno == EINTR)
		;
	w->pid = 0;
	if (result < 0 && is_of_writer(err->code)) {
		if (read(w->words_fd, &words, sizeof(words)) == sizeof(words))
			*err = words;
		else
			(void)error_set(err, EIO, "the process that writes it was killed");
	}
	fd_close(&w->words_fd);
	return result < 0 ? -err->code : 0;
}

#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "engine/base/fault.h"
#include "engine/base/fd.h"
#include "engine/base/random.h"
#include "engine/container.h"
#include "migrate/token.h"

/* LOST is never written: it is RESUMED of another boot. */
static const char *const words[] = {
	[TOKEN_REFUSED] = "refused", [TOKEN_RESUMED] = "resumed", [TOKEN_SYNCED] = "synced",
};

int token_make(char ret[TOKEN_SIZE], struct error *err)
{
	return random_hex(ret, TOKEN_SIZE - 1, err);
}

static int check(const char *token, struct error *err)
{
	if (strlen(token) != TOKEN_SIZE - 1 || strspn(token, "0123456789abcdef") != TOKEN_SIZE - 1)
		return error_set(err, EINVAL, "not a migration's token: 32 hex digits");
	return 0;
}

static int open_folder(const struct node *node, const char *token, int *ret_fd, struct error *err)
{
	if (check(token, err) < 0)
		return -err->code;
	return fd_open_dir_at(node->state_fd, "tokens", true, 0700, ret_fd, err);
}

/* What was forgotten must not come back: a record is replaced or removed by one at a time. */
static int lock_folder(int dir, struct error *err)
{
	return flock(dir, LOCK_EX) < 0 ? error_set(err, errno, "lock the tokens: %s", strerror(errno)) : 0;
}

static void write_text(enum token_outcome outcome, char ret[64])
{
	char boot[40];

	container_boot_id(boot);
	(void)snprintf(ret, 64, "%s %s\n", words[outcome], boot);
}

static enum token_outcome parse(const char *text)
{
	char word[16], boot[40], now[40], end;

	if (sscanf(text, "%15s %39s%c", word, boot, &end) != 3 || end != '\n' || strchr(text, '\n')[1])
		return TOKEN_UNKNOWN;
	container_boot_id(now);
	for (size_t i = TOKEN_REFUSED; i < sizeof(words) / sizeof(*words); i++)
		if (!strcmp(words[i], word))
			return i == TOKEN_RESUMED && strcmp(boot, now) != 0 ? TOKEN_LOST : (enum token_outcome)i;
	return TOKEN_UNKNOWN;
}

static int read_record(int dir, const char *token, enum token_outcome *ret, struct error *err)
{
	CLEANUP(freep) char *text = NULL;
	int r = fd_read_file_at(dir, token, 64, &text, NULL, err);

	*ret = TOKEN_UNKNOWN;
	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return error_wrap(err, "token record");
	*ret = parse(text);
	return *ret ? 0 : error_set(err, EINVAL, "token record %s is damaged", token);
}

/* The record under a temporary name, synced; then its name by link, which
 * fails when there is one: returns 1. Once it is linked it is decided, for all
 * who ask; a failing sync of the folder can't take that back any more. */
static int write_once(int dir, const char *token, enum token_outcome outcome, struct error *err)
{
	char tmp[64], text[64];
	struct error ignored;
	int r;

	(void)snprintf(tmp, sizeof(tmp), ".%s.tmp%d", token, (int)getpid());
	write_text(outcome, text);
	if (fault_point("token-record", err) < 0 ||
	    fd_replace_file_at(dir, tmp, text, strlen(text), 0600, FD_REPLACE_DURABLE, err) < 0) {
		(void)unlinkat(dir, tmp, 0);
		return -err->code;
	}
	r = fault_point("token-link", err);
	if (r == 0)
		r = linkat(dir, tmp, dir, token, 0) < 0 ? -errno : 0;
	fault_pass("token-linked");
	(void)unlinkat(dir, tmp, 0);
	if (fault_point("token-sync", &ignored) == 0)
		(void)fsync(dir);
	if (r == -EEXIST)
		return 1;
	return r < 0 ? error_set(err, -r, "token record: %s", strerror(-r)) : 0;
}

int token_decide(const struct node *node, const char *token, enum token_outcome wanted,
		 enum token_outcome *ret, struct error *err)
{
	CLEANUP(fd_closep) int dir = -EBADF;
	enum token_outcome now = wanted;
	int r = open_folder(node, token, &dir, err);

	if (r == 0)
		r = write_once(dir, token, wanted, err);
	if (r == 1)
		r = read_record(dir, token, &now, err);
	if (r == 0 && now == TOKEN_UNKNOWN)
		r = error_set(err, ENOENT, "token record %s was removed meanwhile", token);
	if (r == 0)
		*ret = now;
	return r;
}

static int replace_by_synced(int dir, const char *token, struct error *err)
{
	char tmp[64], text[64];
	int r;

	(void)snprintf(tmp, sizeof(tmp), ".%s.tmp%d", token, (int)getpid());
	write_text(TOKEN_SYNCED, text);
	if (fd_replace_file_at(dir, tmp, text, strlen(text), 0600, FD_REPLACE_DURABLE, err) < 0)
		return -err->code;
	r = renameat(dir, tmp, dir, token) < 0 ? error_set(err, errno, "%s", strerror(errno)) : 0;
	if (r < 0)
		(void)unlinkat(dir, tmp, 0);
	return r;
}

int token_write_synced(const struct node *node, const char *token, struct error *err)
{
	CLEANUP(fd_closep) int dir = -EBADF;
	enum token_outcome now;

	if (open_folder(node, token, &dir, err) < 0 || lock_folder(dir, err) < 0 ||
	    read_record(dir, token, &now, err) < 0)
		return -err->code;
	if (now != TOKEN_RESUMED && now != TOKEN_SYNCED)
		return error_set(err, ENOENT, "token record %s does not say that it was resumed", token);
	if (now == TOKEN_RESUMED && replace_by_synced(dir, token, err) < 0)
		return error_wrap(err, "token record %s", token);
	if (fault_point("token-sync", err) < 0 || (fsync(dir) < 0 && error_set(err, errno, "%s", strerror(errno))))
		return error_wrap(err, "token record %s: fsync", token);
	return 0;
}

int token_look_up(const struct node *node, const char *token, enum token_outcome *ret,
		  struct error *err)
{
	CLEANUP(fd_closep) int dir = -EBADF;

	if (open_folder(node, token, &dir, err) < 0)
		return -err->code;
	return read_record(dir, token, ret, err);
}

int token_forget(const struct node *node, const char *token, struct error *err)
{
	CLEANUP(fd_closep) int dir = -EBADF;

	if (open_folder(node, token, &dir, err) < 0 || lock_folder(dir, err) < 0)
		return -err->code;
	if (fault_point("token-forget", err) < 0)
		return error_wrap(err, "forget token");
	if (unlinkat(dir, token, 0) < 0 && errno != ENOENT)
		return error_set(err, errno, "forget token: %s", strerror(errno));
	fault_pass("token-forgotten");
	return fsync(dir) < 0 ? error_set(err, errno, "forget token: fsync: %s", strerror(errno)) : 0;
}

int token_list(const struct node *node, char ***ret, size_t *ret_n, struct error *err)
{
	return fd_list_at(node->state_fd, "tokens", ret, ret_n, err);
}

void token_remove_temporary(const struct node *node)
{
	CLEANUP(fd_closep) int dir = openat(node->state_fd, "tokens", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	container_remove_temporary_at(dir);
}

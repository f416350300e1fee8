#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "engine/base/fault.h"
#include "engine/base/fd.h"
#include "engine/base/random.h"
#include "migrate/token.h"

static const char *const words[] = {
	[TOKEN_RESUMED] = "resumed\n", [TOKEN_REFUSED] = "refused\n",
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

static int read_word(int dir, const char *token, enum token_outcome *ret, struct error *err)
{
	CLEANUP(freep) char *text = NULL;
	int r = fd_read_file_at(dir, token, 64, &text, NULL, err);

	*ret = TOKEN_UNKNOWN;
	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return error_wrap(err, "token record");
	for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++)
		if (words[i] && !strcmp(words[i], text))
			*ret = (enum token_outcome)i;
	return *ret ? 0 : error_set(err, EINVAL, "token record %s is damaged", token);
}

/* The record under a temporary name, synced; then its name by link, which
 * fails when there is one: returns 1. Once it is linked it is decided, for all
 * who ask; a failing sync of the folder can't take that back any more. */
static int write_once(int dir, const char *token, const char *word, struct error *err)
{
	char tmp[64];
	struct error ignored;
	int r;

	(void)snprintf(tmp, sizeof(tmp), ".%s.%d", token, (int)getpid());
	if (fault_point("token-record", err) < 0 ||
	    fd_replace_file_at(dir, tmp, word, strlen(word), 0600, FD_REPLACE_DURABLE, err) < 0)
		return -err->code;
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
		r = write_once(dir, token, words[wanted], err);
	if (r == 1)
		r = read_word(dir, token, &now, err);
	if (r == 0 && now == TOKEN_UNKNOWN)
		r = error_set(err, ENOENT, "token record %s was removed meanwhile", token);
	if (r == 0)
		*ret = now;
	return r;
}

int token_look_up(const struct node *node, const char *token, enum token_outcome *ret,
		  struct error *err)
{
	CLEANUP(fd_closep) int dir = -EBADF;

	if (open_folder(node, token, &dir, err) < 0)
		return -err->code;
	return read_word(dir, token, ret, err);
}

int token_forget(const struct node *node, const char *token, struct error *err)
{
	CLEANUP(fd_closep) int dir = -EBADF;

	if (open_folder(node, token, &dir, err) < 0)
		return -err->code;
	if (fault_point("token-forget", err) < 0)
		return error_wrap(err, "forget token");
	if (unlinkat(dir, token, 0) < 0 && errno != ENOENT)
		return error_set(err, errno, "forget token: %s", strerror(errno));
	fault_pass("token-forgotten");
	return 0;
}

#include <fcntl.h>
#include <nftables/libnftables.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/base/cleanup.h"
#include "engine/base/fd.h"
#include "engine/base/library.h"
#include "engine/network/nftables.h"

#define TEXT_LIMIT (16u << 20)

#define FUNCTIONS(X)			\
	X(nft_ctx_buffer_error)		\
	X(nft_ctx_buffer_output)	\
	X(nft_ctx_get_error_buffer)	\
	X(nft_ctx_get_output_buffer)	\
	X(nft_ctx_new)			\
	X(nft_ctx_output_set_flags)	\
	X(nft_run_cmd_from_buffer)

struct library {
#define FUNCTION(name) __typeof__(&name) name;
	FUNCTIONS(FUNCTION)
#undef FUNCTION
};

static int load(struct library *ret, struct error *err)
{
	static const struct library_function functions[] = {
#define FUNCTION(name) { #name, offsetof(struct library, name) },
		FUNCTIONS(FUNCTION)
#undef FUNCTION
	};

	return library_load("libnftables.so.1", "libnftables1", functions,
			    sizeof(functions) / sizeof(functions[0]), ret, err);
}

/* nft's errors are text: "FILE:LINE:COL: Error: Could not process rule: File exists",
 * and the place of it in the lines below. */
static int fail(const char *text, struct error *err)
{
	static const int codes[] = { EEXIST, ENOENT, EPERM, EOPNOTSUPP, ENOMEM };
	const char *what = strstr(text, "Error: ");
	int len;

	what = what ? what + strlen("Error: ") : text;
	len = (int)strcspn(what, "\n");
	for (size_t i = 0; i < sizeof(codes) / sizeof(*codes); i++) {
		const char *words = strerror(codes[i]);

		if (len >= (int)strlen(words) && !strncmp(what + len - strlen(words), words, strlen(words)))
			return error_set(err, codes[i], "nftables: %.*s", len, what);
	}
	return error_set(err, EPROTO, "nftables: %.*s", len, what);
}

static int run(const char *commands, int out, struct error *err)
{
	struct library lib;
	struct nft_ctx *nft;
	const char *text;

	if (load(&lib, err) < 0)
		return -err->code;
	nft = lib.nft_ctx_new(NFT_CTX_DEFAULT);
	if (!nft)
		return error_set(err, ENOMEM, "nftables: no context");
	lib.nft_ctx_buffer_output(nft);
	lib.nft_ctx_buffer_error(nft);
	lib.nft_ctx_output_set_flags(nft, NFT_CTX_OUTPUT_JSON);
	if (lib.nft_run_cmd_from_buffer(nft, commands) != 0)
		return fail(lib.nft_ctx_get_error_buffer(nft), err);
	text = lib.nft_ctx_get_output_buffer(nft);
	return fd_write_full(out, text, strlen(text), err);
}

static _Noreturn void child(const char *commands, int out, int report)
{
	struct error err = { 0 };

	(void)run(commands, out, &err);
	(void)!write(report, &err, sizeof(err));
	_exit(err.code ? EXIT_FAILURE : EXIT_SUCCESS);
}

static int await(pid_t pid, int report, struct error *err)
{
	struct error theirs;
	ssize_t n = read(report, &theirs, sizeof(theirs));

	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	if (n != sizeof(theirs))
		return error_set(err, EIO, "the child for nftables died");
	if (theirs.code)
		*err = theirs;
	return -theirs.code;
}

static int read_text(int fd, char **ret, struct error *err)
{
	off_t size = lseek(fd, 0, SEEK_END);
	char *text;

	if (size < 0 || size > TEXT_LIMIT)
		return error_set(err, EFBIG, "nftables: what it lists is too long");
	text = calloc(1, (size_t)size + 1);
	if (!text || pread(fd, text, (size_t)size, 0) != (ssize_t)size) {
		free(text);
		return error_set(err, ENOMEM, "out of memory for what nftables lists");
	}
	*ret = text;
	return 0;
}

int nftables_run(const char *commands, char **ret_text, struct error *err)
{
	CLEANUP(fd_closep) int out = memfd_create("nftables", MFD_CLOEXEC);
	CLEANUP(fd_closep) int report = -EBADF, theirs = -EBADF;
	int pair[2];
	pid_t pid;

	if (out < 0 || pipe2(pair, O_CLOEXEC) < 0)
		return error_set(err, errno, "nftables: %s", strerror(errno));
	report = pair[0];
	theirs = pair[1];
	pid = fork();
	if (pid == 0)
		child(commands, out, theirs);
	fd_close(&theirs);
	if (pid < 0)
		return error_set(err, errno, "nftables: fork: %s", strerror(errno));
	if (await(pid, report, err) < 0)
		return -err->code;
	return ret_text ? read_text(out, ret_text, err) : 0;
}

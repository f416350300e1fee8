#include <ctype.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/keyctl.h>
#include <pwd.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <linux/seccomp.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>

#include "engine/base/cleanup.h"
#include "engine/base/fd.h"
#include "engine/capability.h"
#include "engine/process.h"
#include "engine/rootfs.h"
#include "engine/seccomp.h"

#define ETC_FILE_MAX (4 << 20)

/* One more part of the path, as mkdir -p. */
static int make_part(int root, const char *path, size_t parent_len, size_t len, struct error *err)
{
	CLEANUP(fd_closep) int parent = -EBADF;
	char part[PATH_MAX];

	(void)snprintf(part, sizeof(part), "%.*s", parent_len ? (int)parent_len : 1, path);
	if (mounts_open(root, part, O_PATH | O_DIRECTORY, 0, &parent, err) < 0)
		return -err->code;
	(void)snprintf(part, sizeof(part), "%.*s", (int)(len - parent_len - 1), path + parent_len + 1);
	if (mkdirat(parent, part, 0755) < 0 && errno != EEXIST)
		return error_set(err, errno, "make %s: %s", part, strerror(errno));
	return 0;
}

/* One that is not there is made, as podman does. Never through a link of /proc that
 * leads to what is open in this process, which is on the host (CVE-2024-21626). */
static int open_cwd(int root, const char *cwd, int *ret_fd, struct error *err)
{
	size_t len = strlen(cwd), parent = 0;
	int r = mounts_open(root, cwd, O_PATH | O_DIRECTORY, 0, ret_fd, err);

	for (size_t i = 1; r == -ENOENT && len < PATH_MAX && i <= len; i++) {
		if (cwd[i] != '/' && cwd[i] != '\0')
			continue;
		if (i > parent + 1 && make_part(root, cwd, parent, i, err) < 0)
			return -err->code;
		parent = i;
		if (i == len)
			r = mounts_open(root, cwd, O_PATH | O_DIRECTORY, 0, ret_fd, err);
	}
	return r;
}

static int enter_cwd(const char *cwd, struct error *err)
{
	CLEANUP(fd_closep) int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC), fd = -EBADF;

	if (root < 0)
		return error_set(err, errno, "open /: %s", strerror(errno));
	if (open_cwd(root, cwd, &fd, err) < 0)
		return error_wrap(err, "working directory %s", cwd);
	return fchdir(fd) < 0 ? error_set(err, errno, "working directory %s: %s", cwd, strerror(errno)) : 0;
}

int process_leave_host(int report_fd, struct error *err)
{
	const int keep[] = { 0, 1, 2, report_fd };

	return fd_close_all_except(keep, sizeof(keep) / sizeof(*keep), err);
}

int process_open_null(int *ret_fd, struct error *err)
{
	CLEANUP(fd_closep) int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC), fd = -EBADF;
	struct stat st;

	if (root < 0)
		return error_set(err, errno, "open /: %s", strerror(errno));
	if (mounts_open(root, "/dev/null", O_RDWR | O_NOCTTY | O_NONBLOCK, 0, &fd, err) < 0)
		return -err->code;
	if (fstat(fd, &st) < 0 || !S_ISCHR(st.st_mode) || st.st_rdev != makedev(1, 3))
		return error_set(err, ENODEV, "/dev/null of the container is another file; start it anew");
	if (fcntl(fd, F_SETFL, O_RDWR) < 0)
		return error_set(err, errno, "/dev/null: %s", strerror(errno));
	*ret_fd = TAKE_FD(fd);
	return 0;
}

/* What the caller's keyrings hold must not be found from inside. A kernel without keys
 * has nothing to hide, nor has a filter of ours that forbids them to all in this container. */
static int leave_keyring(struct error *err)
{
	if (syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL) < 0 && errno != ENOSYS && errno != EPERM)
		return error_set(err, errno, "new session keyring: %s", strerror(errno));
	return 0;
}

static int take_user(const struct process *p, struct error *err)
{
	int r = capability_limit_bounding(p->capabilities.bounding);

	if (r < 0)
		return error_set(err, -r, "limit capabilities: %s", strerror(-r));
	if (setgroups(p->n_groups, p->groups) < 0 || setresgid(p->gid, p->gid, p->gid) < 0)
		return error_set(err, errno, "take group %u: %s", p->gid, strerror(errno));
	if (prctl(PR_SET_KEEPCAPS, 1) < 0 || setresuid(p->uid, p->uid, p->uid) < 0)
		return error_set(err, errno, "take user %u: %s", p->uid, strerror(errno));
	r = capability_apply(&p->capabilities);
	if (r < 0)
		return error_set(err, -r, "drop capabilities: %s", strerror(-r));
	(void)prctl(PR_SET_KEEPCAPS, 0);
	return 0;
}

static void default_signals(void)
{
	sigset_t none;

	for (int s = 1; s < NSIG; s++)
		(void)signal(s, SIG_DFL);
	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
}

static int install_filter(const struct process *p, struct error *err)
{
	int32_t listener = p->filter ? seccomp_install(p->filter, p->filter_flags) : 0;
	char byte;

	if (listener < 0)
		return error_set(err, -listener, "install seccomp filter: %s", strerror(-listener));
	if (!p->filter || !(p->filter_flags & SECCOMP_FILTER_FLAG_NEW_LISTENER))
		return 0;
	if (write(p->listener_sock, &listener, sizeof(listener)) != sizeof(listener) ||
	    read(p->listener_sock, &byte, 1) != 1)
		return error_set(err, ECANCELED, "nobody supervises the seccomp listener");
	return 0;
}

static int take_rights(const struct process *p, struct error *err)
{
	if (p->label && write(p->label_fd, p->label, strlen(p->label)) < 0)
		return error_set(err, errno, "security label '%s': %s", p->label, strerror(errno));
	if (p->may_gain_privileges)
		return install_filter(p, err) < 0 || take_user(p, err) < 0 ? -err->code : 0;
	if (take_user(p, err) < 0)
		return -err->code;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return error_set(err, errno, "no_new_privs: %s", strerror(errno));
	return install_filter(p, err);
}

static int cannot_start(const char *program, int code, struct error *err)
{
	return code == ENOENT ?
		error_set(err, PROCESS_NOT_FOUND, "start '%s': no such program in the container", program) :
		error_set(err, PROCESS_NOT_EXECUTABLE, "start '%s': %s", program, strerror(code));
}

int process_become(const struct process *p, struct error *err)
{
	if (fd_cloexec_from(3 + p->keep_fds, err) < 0 || enter_cwd(p->cwd, err) < 0 ||
	    (!p->keep_keyring && leave_keyring(err) < 0))
		return -err->code;
	(void)umask(p->umask);
	if (p->set_personality && personality(p->personality) < 0)
		return error_set(err, errno, "personality %#lx: %s", p->personality, strerror(errno));
	default_signals();
	environ = (char **)(uintptr_t)p->env;
	if (take_rights(p, err) < 0)
		return -err->code;
	(void)execvp(p->args[0], p->args);
	return cannot_start(p->args[0], errno, err);
}

/* 0, or why a file can't be executed. */
static int look_at(const char *path)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return errno;
	return !S_ISREG(st.st_mode) || !(st.st_mode & 0111) ? EACCES : 0;
}

static const char *path_of(char *const *env)
{
	for (size_t i = 0; env[i]; i++)
		if (!strncmp(env[i], "PATH=", 5))
			return env[i] + 5;
	return "/bin:/usr/bin";
}

int process_find_program(const struct process *p, struct error *err)
{
	const char *name = p->args[0];
	int found = ENOENT;
	char path[PATH_MAX];

	if (strchr(name, '/')) {
		(void)snprintf(path, sizeof(path), "%s%s%s", name[0] == '/' ? "" : p->cwd,
			       name[0] == '/' ? "" : "/", name);
		found = look_at(path);
		return found ? cannot_start(name, found, err) : 0;
	}
	for (const char *at = path_of(p->env); found && *at;) {
		size_t len = strcspn(at, ":");

		if (len > 0 && (size_t)snprintf(path, sizeof(path), "%.*s/%s", (int)len, at, name) < sizeof(path))
			found = look_at(path) == 0 ? 0 : found;
		at += len + (at[len] == ':');
	}
	return found ? cannot_start(name, found, err) : 0;
}

/* The container may have put anything there: only a plain file is read, of some size. */
static FILE *open_etc(int root_fd, const char *path)
{
	CLEANUP(fd_closep) int fd = -EBADF;
	struct error ignored;
	struct stat st;
	FILE *f;

	if (mounts_open(root_fd, path, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0, &fd, &ignored) < 0 ||
	    fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size > ETC_FILE_MAX)
		return NULL;
	f = fdopen(fd, "r");
	if (f)
		(void)TAKE_FD(fd);
	return f;
}

static bool parse_id(const char *text, uint32_t *ret)
{
	char *end;
	unsigned long v = strtoul(text, &end, 10);

	if (end == text || *end || v >= UINT32_MAX || !isdigit((unsigned char)*text))
		return false;
	*ret = (uint32_t)v;
	return true;
}

/* By name, or by number when text is one; NULL when it is not there. */
static const struct passwd *find_user(FILE *f, const char *text)
{
	const struct passwd *pw;
	uint32_t id;
	bool number = parse_id(text, &id);

	while (f && (pw = fgetpwent(f)))
		if (!strcmp(pw->pw_name, text) || (number && pw->pw_uid == id))
			return pw;
	return NULL;
}

static const struct group *find_group(FILE *f, const char *text)
{
	const struct group *gr;

	while (f && (gr = fgetgrent(f)))
		if (!strcmp(gr->gr_name, text))
			return gr;
	return NULL;
}

/* The groups that list the user as a member. */
static int member_of(FILE *f, const char *user, uint32_t **ret, size_t *ret_n, struct error *err)
{
	const struct group *gr;
	uint32_t *more;

	while (f && (gr = fgetgrent(f)))
		for (char **m = gr->gr_mem; *m; m++) {
			if (strcmp(*m, user) != 0)
				continue;
			more = reallocarray(*ret, *ret_n + 1, sizeof(**ret));
			if (!more)
				return error_set(err, ENOMEM, "out of memory");
			*ret = more;
			more[(*ret_n)++] = gr->gr_gid;
		}
	return 0;
}

int process_find_user(int root_fd, const char *text, uint32_t *ret_uid, uint32_t *ret_gid,
		      uint32_t **ret_groups, size_t *ret_n, char ret_home[256], struct error *err)
{
	CLEANUP(file_closep) FILE *passwd = open_etc(root_fd, "/etc/passwd");
	CLEANUP(file_closep) FILE *group = open_etc(root_fd, "/etc/group");
	CLEANUP(freep) char *user = strdup(*text ? text : "0");
	const struct passwd *pw;
	const struct group *gr;
	char *colon;

	if (!user)
		return error_set(err, ENOMEM, "out of memory");
	colon = strchr(user, ':');
	if (colon)
		*colon++ = '\0';
	pw = find_user(passwd, user);
	if (!pw && !parse_id(user, ret_uid))
		return error_set(err, EINVAL, "user '%s' is not in the image's /etc/passwd; give a number or "
				 "another name", user);
	if (pw)
		*ret_uid = pw->pw_uid;
	*ret_gid = pw ? pw->pw_gid : 0;
	(void)snprintf(ret_home, 256, "%s", pw ? pw->pw_dir : "/");
	*ret_groups = NULL;
	*ret_n = 0;
	if (!colon)
		return pw ? member_of(group, pw->pw_name, ret_groups, ret_n, err) : 0;
	gr = find_group(group, colon);
	if (!gr && !parse_id(colon, ret_gid))
		return error_set(err, EINVAL, "group '%s' is not in the image's /etc/group; give a number or "
				 "another name", colon);
	if (gr)
		*ret_gid = gr->gr_gid;
	return 0;
}

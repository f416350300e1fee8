#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>

#include "engine/base/cleanup.h"
#include "engine/terminal.h"

int terminal_open(const char *devpts, int *ret_master, int *ret_slave, struct error *err)
{
	char path[256];
	CLEANUP(fd_closep) int master = -EBADF;
	CLEANUP(fd_closep) int slave = -EBADF;
	int unlock = 0;

	(void)snprintf(path, sizeof(path), "%s/ptmx", devpts);
	master = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (master < 0 || ioctl(master, TIOCSPTLCK, &unlock) < 0)
		return error_set(err, errno, "new terminal from %s: %s", path, strerror(errno));
	/* Given here, O_CLOEXEC would stay among the file's own flags. */
	slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY);
	if (slave < 0 || fcntl(slave, F_SETFD, FD_CLOEXEC) < 0)
		return error_set(err, errno, "open the terminal: %s", strerror(errno));
	*ret_master = TAKE_FD(master);
	*ret_slave = TAKE_FD(slave);
	return 0;
}

int terminal_make_raw(int fd, struct termios *ret_old, struct error *err)
{
	struct termios raw;

	if (tcgetattr(fd, ret_old) < 0)
		return error_set(err, errno, "terminal settings: %s", strerror(errno));
	raw = *ret_old;
	cfmakeraw(&raw);
	if (tcsetattr(fd, TCSANOW, &raw) < 0)
		return error_set(err, errno, "terminal settings: %s", strerror(errno));
	return 0;
}

int terminal_set_size(int fd, unsigned short rows, unsigned short columns)
{
	struct winsize w = { .ws_row = rows, .ws_col = columns };

	return ioctl(fd, TIOCSWINSZ, &w) < 0 ? -errno : 0;
}

int terminal_get_size(int fd, unsigned short *ret_rows, unsigned short *ret_columns)
{
	struct winsize w;

	if (ioctl(fd, TIOCGWINSZ, &w) < 0)
		return -errno;
	*ret_rows = w.ws_row;
	*ret_columns = w.ws_col;
	return 0;
}

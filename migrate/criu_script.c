/* The script of criu_images.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/fd.h"
#include "migrate/checkpoint/criu_images.h"
#include "migrate/dump.h"

/* What the mounts need that are external to CRIU: the container's own /dev and
 * tmpfs, the machine's /sys, and something empty over what is masked. */
static const char prepare[] =
	"set -eu\n"
	": \"${ROOT:?the root file system, see above}\"\n"
	"here=$(cd \"$(dirname \"$0\")\" && pwd)\n"
	"if [ -z \"${RESTORE_INSIDE-}\" ]; then\n"
	"\tnet=--net\n"
	"\t[ -z \"${NETNS-}\" ] || net=\n"
	"\tRESTORE_INSIDE=yes exec unshare --mount --propagation private $net sh \"$0\" \"$@\"\n"
	"fi\n"
	"exec 9<\"${NETNS:-/proc/self/ns/net}\"\n"
	"mount --bind \"$ROOT\" \"$ROOT\"\n"
	"files=$(mktemp -d)\n"
	"mount -t tmpfs -o mode=755 none \"$files\"\n"
	"mkdir \"$files/dev\" \"$files/empty\"\n"
	"for node in 'null 3' 'zero 5' 'full 7' 'random 8' 'urandom 9'; do\n"
	"\tmknod -m 666 \"$files/dev/${node% *}\" c 1 \"${node#* }\"\n"
	"done\n"
	"mknod -m 666 \"$files/dev/tty\" c 5 0\n"
	"mkdir \"$files/dev/pts\" \"$files/dev/shm\" \"$files/dev/mqueue\"\n"
	"ln -s pts/ptmx \"$files/dev/ptmx\"\n"
	"ln -s /proc/self/fd \"$files/dev/fd\"\n"
	"mask() { if [ -d \"$1\" ]; then echo \"$files/empty\"; else echo /dev/null; fi; }\n"
	"shm() {\n"
	"\tmkdir \"$files/shm\"\n"
	"\tmount -t tmpfs -o mode=1777 none \"$files/shm\"\n"
	"\t[ ! -r \"$here/../tmpfs/dev_shm.tar\" ] || \\\n"
	"\t\ttar -C \"$files/shm\" --warning=no-unknown-keyword -xpf \"$here/../tmpfs/dev_shm.tar\"\n"
	"}\n"
	"shm\n";

/* Inside of single quotes. */
static void put_quoted(FILE *out, const char *text)
{
	for (; *text; text++)
		(void)fputs(*text == '\'' ? "'\\''" : (char[]){ *text, '\0' }, out);
}

static bool is_below(const char *path, const char *top)
{
	size_t len = strlen(top);

	return strncmp(path, top, len) == 0 && (path[len] == '\0' || path[len] == '/');
}

/* The rest of a word that began with a single quote. */
static void put_source(FILE *out, const struct spec *spec, const char *point)
{
	for (size_t i = 0; i < spec->n_volumes; i++)
		if (!strcmp(spec->volumes[i].destination, point)) {
			put_quoted(out, spec->volumes[i].source);
			(void)fputc('\'', out);
			return;
		}
	if (!strcmp(point, "/dev/shm") || !strcmp(point, "/dev")) {
		(void)fprintf(out, "'\"$files%s\"", strcmp(point, "/dev") == 0 ? "/dev" : "/shm");
	} else if (!strcmp(point, "/sys") || is_below(point, "/sys/fs/cgroup")) {
		put_quoted(out, point);
		(void)fputc('\'', out);
	} else {
		(void)fputs("'\"$(mask '", out);
		put_quoted(out, point);
		(void)fputs("')\"", out);
	}
}

static void put_command(FILE *out, const struct spec *spec, const struct manifest *m)
{
	(void)fputs("status=0\n"
		    "\"${CRIU:-criu}\" restore --images-dir \"$here\" --root \"$ROOT\" --restore-detached \\\n"
		    "\t--manage-cgroups=ignore --tcp-established --file-locks \\\n"
		    "\t--inherit-fd 'fd[9]:" DUMP_NETNS_KEY "' \\\n", out);
	for (int i = 0; i < 3; i++)
		if (m->pipe_inodes[i])
			(void)fprintf(out, "\t--inherit-fd 'fd[%d]:pipe:[%llu]' \\\n", i,
				      (unsigned long long)m->pipe_inodes[i]);
	for (char **point = m->external_mounts; *point; point++) {
		(void)fputs("\t--external 'mnt[", out);
		put_quoted(out, *point);
		(void)fputs("]:", out);
		put_source(out, spec, *point);
		(void)fputs(" \\\n", out);
	}
	(void)fputs("\t\"$@\" || status=$?\n"
		    "umount -l \"$files/shm\" \"$files\"\n"
		    "rmdir \"$files\"\n"
		    "exit $status\n", out);
}

static void put_head(FILE *out, const struct spec *spec)
{
	(void)fprintf(out, "#!/bin/sh\n"
		      "# Restores the container '%s' with CRIU alone, as root:\n"
		      "#\n"
		      "#   ROOT=DIR [NETNS=FILE] [CRIU=PROGRAM] sh " CRIU_IMAGES_SCRIPT " [OPTION OF CRIU]...\n"
		      "#\n"
		      "# ROOT   its root file system: the image '%s', and ../upper.tar unpacked over it\n"
		      "# NETNS  its network namespace, with its address %s on eth0, for example\n"
		      "#        /run/netns/NAME of ip-netns(8). Without, a new one that has no links, for a\n"
		      "#        container without connections.\n"
		      "#\n"
		      "# It runs in the control groups of this script, and its input and output are this\n"
		      "# script's. What belongs to the mounts is in a tmpfs that goes with the container.\n",
		      spec->name, spec->image,
		      spec->endpoint.address[0] ? spec->endpoint.address : "(it has none)");
}

int criu_images_write_script(const struct spec *spec, const struct manifest *m, int to_fd, struct error *err)
{
	CLEANUP(freep) char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);

	if (!out)
		return error_set(err, ENOMEM, "out of memory");
	put_head(out, spec);
	(void)fputs(prepare, out);
	put_command(out, spec, m);
	if (fclose(out) != 0)
		return error_set(err, ENOMEM, "out of memory");
	return fd_replace_file_at(to_fd, CRIU_IMAGES_SCRIPT, text, len, 0700, FD_REPLACE, err);
}

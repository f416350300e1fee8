#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "engine/base/cleanup.h"
#include "engine/image/tree_folders.h"

struct tree_folder {
	struct tree_folder *next;	/* added before this one */
	bool only_time;
	struct tree_entry entry;	/* owns the attributes */
	char path[];
};

static void drop(struct tree_folders *f)
{
	struct tree_folder *folder = f->latest;

	f->latest = folder->next;
	tree_xattrs_clear(&folder->entry.xattrs);
	free(folder);
}

void tree_folders_clear(struct tree_folders *f)
{
	while (f->latest)
		drop(f);
	free(f->noted);
	f->noted = NULL;
}

int tree_folders_add(struct tree_folders *f, const struct tree_entry *e, struct error *err)
{
	CLEANUP(freep) struct tree_folder *folder = calloc(1, sizeof(*folder) + strlen(e->path) + 1);

	if (!folder)
		return error_set(err, ENOMEM, "out of memory");
	if (tree_path_normalize(e->path, folder->path, err) < 0 ||
	    tree_entry_copy_meta(e, &folder->entry, err) < 0)
		return -err->code;
	folder->next = f->latest;
	f->latest = TAKE_PTR(folder);
	return 0;
}

int tree_folders_note_time(struct tree_folders *f, int fd, const char *path, struct error *err)
{
	CLEANUP(freep) struct tree_folder *folder = NULL;
	struct stat st;

	if (f->noted && !strcmp(f->noted, path))
		return 0;
	folder = calloc(1, sizeof(*folder) + strlen(path) + 1);
	if (!f->noted)
		f->noted = malloc(PATH_MAX);
	if (!folder || !f->noted)
		return error_set(err, ENOMEM, "out of memory");
	if (fstat(fd, &st) < 0)
		return error_set(err, errno, "stat its folder: %s", strerror(errno));
	strcpy(f->noted, path);
	strcpy(folder->path, path);
	folder->only_time = true;
	folder->entry.mtime = st.st_mtim;
	folder->next = f->latest;
	f->latest = TAKE_PTR(folder);
	return 0;
}

/* What an overlay has noted at its top is its own affair. */
static int complete(int fd, const struct tree_folder *folder, bool changes, struct error *err)
{
	const struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, folder->entry.mtime };

	if (folder->only_time)
		return futimens(fd, times) < 0 ? error_set(err, errno, "set time: %s", strerror(errno)) : 0;
	if (changes && tree_xattrs_remove_others(fd, &folder->entry.xattrs, !*folder->path, err) < 0)
		return -err->code;
	return tree_entry_set_meta(fd, -EBADF, "", &folder->entry, err);
}

/* The latest come first: what is inside before its folder, and what was noted of a folder before what
 * it is to be. */
int tree_folders_complete(struct tree_folders *f, const struct tree_places *places, bool changes, struct error *err)
{
	while (f->latest) {
		struct tree_folder *folder = f->latest;
		CLEANUP(fd_closep) int fd = tree_places_open(places, folder->path, O_RDONLY | O_DIRECTORY);

		/* a later entry may have replaced it by something else */
		if (fd < 0 && errno != ENOENT && errno != ENOTDIR && errno != ELOOP)
			return error_set(err, errno, "open %s: %s", folder->path, strerror(errno));
		if (fd >= 0 && complete(fd, folder, changes, err) < 0)
			return error_wrap(err, "%s", *folder->path ? folder->path : ".");
		drop(f);
	}
	return 0;
}

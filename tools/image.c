#include <jansson.h>
#include <string.h>

#include "engine/base/units.h"
#include "engine/image/image.h"
#include "tools/commands.h"
#include "tools/table.h"

struct image_ls_options {
	bool json;
};

static const struct option_row ls_rows[] = {
	OPTION(0, "json", FLAG, NULL, struct image_ls_options, json, "one JSON array"),
	OPTION_END,
};

static int import_run(const struct invocation *inv)
{
	CLEANUP(image_freep) struct image *image = NULL;
	char size[UNITS_TEXT_SIZE];
	struct error err;

	if (image_import(inv->node->state_fd, inv->argv[0], inv->argv[1], &image, &err) < 0)
		return command_fail(&err, EXIT_FAILED);
	printf("%s: %llu entries, %s, digest %s\n", image->name, (unsigned long long)image->entries,
	       units_format_size(image->bytes, size), image->digest);
	return EXIT_OK;
}

static json_t *image_json(const struct image *i)
{
	return json_pack("{s:s,s:s,s:I,s:I,s:I}", "name", i->name, "digest", i->digest,
			 "entries", (json_int_t)i->entries, "bytes", (json_int_t)i->bytes,
			 "created_us", (json_int_t)i->created_us);
}

static int list_json(struct image *const *images, size_t n)
{
	json_t *list = json_array();
	int r;

	for (size_t i = 0; i < n; i++)
		(void)json_array_append_new(list, image_json(images[i]));
	r = json_dumpf(list, stdout, JSON_INDENT(2));
	json_decref(list);
	return r < 0 || puts("") < 0 ? EXIT_FAILED : EXIT_OK;
}

static int list_table(struct image *const *images, size_t n)
{
	static const char *const headings[] = { "NAME", "SIZE", "ENTRIES", "DIGEST", NULL };
	CLEANUP(table_freep) struct table *t = table_new(headings);

	for (size_t i = 0; t && i < n; i++) {
		char size[UNITS_TEXT_SIZE], entries[24], digest[16];

		(void)snprintf(entries, sizeof(entries), "%llu", (unsigned long long)images[i]->entries);
		(void)snprintf(digest, sizeof(digest), "%.12s", images[i]->digest);
		table_add(t, (const char *const[]){ images[i]->name, units_format_size(images[i]->bytes, size),
						    entries, digest });
	}
	return t && table_print(t) == 0 ? EXIT_OK : EXIT_FAILED;
}

static int ls_run(const struct invocation *inv)
{
	const struct image_ls_options *o = inv->options;
	struct image **images = NULL;
	struct error err;
	size_t n = 0;
	int code;

	if (image_list(inv->node->state_fd, &images, &n, &err) < 0)
		return command_fail(&err, EXIT_FAILED);
	code = o->json ? list_json(images, n) : list_table(images, n);
	for (size_t i = 0; i < n; i++)
		image_free(images[i]);
	free(images);
	return code;
}

/* Who uses the image, as text for an error; "" when nobody does. A container
 * that cannot be read might, so it counts. */
static int find_users(const struct node *node, const char *image, char *buf, size_t size,
		      struct error *err)
{
	char **names = NULL;
	size_t n = 0;

	buf[0] = '\0';
	if (container_list(node, &names, &n, err) < 0)
		return -err->code;
	for (size_t i = 0; i < n; i++) {
		CLEANUP(container_freep) struct container *c = NULL;
		struct error why;
		int r = container_open(node, names[i], &c, &why);
		size_t used = strlen(buf);

		if (r != -ENOENT && (r < 0 || !strcmp(c->spec->image, image)))
			(void)snprintf(buf + used, size - used, "%s%s", used ? ", " : "", names[i]);
		free(names[i]);
	}
	free(names);
	return 0;
}

static int remove_one(const struct node *node, const char *name, struct error *err)
{
	CLEANUP(fd_closep) int lock = -EBADF;
	char users[256];

	if (node_lock(node, &lock, err) < 0 || image_check_name(name, err) < 0 ||
	    find_users(node, name, users, sizeof(users), err) < 0)
		return -err->code;
	if (*users)
		return error_set(err, EBUSY, "image '%s' is used by %s; remove these containers first", name, users);
	return image_remove(node->state_fd, name, err);
}

static int rm_run(const struct invocation *inv)
{
	int code = EXIT_OK;
	struct error err;

	for (int i = 0; i < inv->argc; i++)
		if (remove_one(inv->node, inv->argv[i], &err) < 0)
			code = command_fail(&err, EXIT_FAILED);
	return code;
}

const struct command command_image_import = {
	.name = "image import", .usage = "NAME PATH", .summary = "make an image of a folder or an archive",
	.notes = "PATH is a root file system: a folder, or a tar or cpio archive, which may be\n"
		 "compressed. Owners, extended attributes, device nodes and hard links are kept.\n",
	.min_args = 2, .max_args = 2, .run = import_run,
};

const struct command command_image_ls = {
	.name = "image ls", .usage = "", .summary = "list images",
	.options = ls_rows, .options_size = sizeof(struct image_ls_options), .run = ls_run,
};

const struct command command_image_rm = {
	.name = "image rm", .usage = "NAME...", .summary = "remove images that no container uses",
	.min_args = 1, .max_args = ARGS_MANY, .run = rm_run,
};

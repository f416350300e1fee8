/*
 * libarchive.h - libarchive, loaded when it is needed
 *
 * It brings fifteen libraries with it, among them libxml2, ICU and libstdc++.
 * Linking them adds 1.4 ms to the 0.5 ms that starting a program takes, and a
 * program starts with every container. So its functions are found by dlopen(3)
 * the first time that a tree is packed or unpacked.
 *
 *	struct libarchive lib;
 *	if (libarchive_load(&lib, err) < 0) ...
 *	lib.archive_read_new();
 *
 * For tree_pack.c and tree_unpack.c only.
 */
#pragma once

#include <archive.h>
#include <archive_entry.h>
#include <locale.h>

#include "engine/base/error.h"

#define LIBARCHIVE_FUNCTIONS(X)				\
	X(archive_entry_clear)				\
	X(archive_entry_filetype)			\
	X(archive_entry_free)				\
	X(archive_entry_gid)				\
	X(archive_entry_hardlink)			\
	X(archive_entry_mode)				\
	X(archive_entry_mtime)				\
	X(archive_entry_mtime_nsec)			\
	X(archive_entry_new)				\
	X(archive_entry_pathname)			\
	X(archive_entry_rdev)				\
	X(archive_entry_set_gid)			\
	X(archive_entry_set_hardlink)			\
	X(archive_entry_set_mode)			\
	X(archive_entry_set_mtime)			\
	X(archive_entry_set_pathname)			\
	X(archive_entry_set_rdev)			\
	X(archive_entry_set_size)			\
	X(archive_entry_set_symlink)			\
	X(archive_entry_set_uid)			\
	X(archive_entry_size)				\
	X(archive_entry_sparse_add_entry)		\
	X(archive_entry_symlink)			\
	X(archive_entry_uid)				\
	X(archive_entry_xattr_add_entry)		\
	X(archive_entry_xattr_next)			\
	X(archive_entry_xattr_reset)			\
	X(archive_error_string)				\
	X(archive_read_data_block)			\
	X(archive_read_free)				\
	X(archive_read_header_position)			\
	X(archive_read_new)				\
	X(archive_read_next_header)			\
	X(archive_read_open)				\
	X(archive_read_support_filter_bzip2)		\
	X(archive_read_support_filter_compress)		\
	X(archive_read_support_filter_gzip)		\
	X(archive_read_support_filter_lz4)		\
	X(archive_read_support_filter_lzma)		\
	X(archive_read_support_filter_xz)		\
	X(archive_read_support_filter_zstd)		\
	X(archive_read_support_format_cpio)		\
	X(archive_read_support_format_tar)		\
	X(archive_set_error)				\
	X(archive_write_close)				\
	X(archive_write_data)				\
	X(archive_write_finish_entry)			\
	X(archive_write_free)				\
	X(archive_write_header)				\
	X(archive_write_new)				\
	X(archive_write_open)				\
	X(archive_write_set_bytes_in_last_block)	\
	X(archive_write_set_bytes_per_block)		\
	X(archive_write_set_format_pax)			\
	X(archive_write_set_options)

/* The functions by their own names, with their own types. */
struct libarchive {
#define FUNCTION(name) __typeof__(&name) name;
	LIBARCHIVE_FUNCTIONS(FUNCTION)
#undef FUNCTION
};

/* The library stays loaded: a second call costs microseconds. Nothing has to
 * be given back. -ELIBACC when it isn't installed. */
int libarchive_load(struct libarchive *ret, struct error *err);

/* Fills *err with libarchive's own words about what went wrong. */
int libarchive_fail(const struct libarchive *lib, struct archive *a, const char *what,
		    struct error *err);

/* libarchive recodes the UTF-8 names of pax archives to the charset of the
 * locale and fails on what the C locale lacks: lends the calling thread a
 * UTF-8 locale. uselocale(3). */
struct libarchive_utf8 {
	locale_t own, old;
};
struct libarchive_utf8 libarchive_utf8_enter(void);
void libarchive_utf8_leave(struct libarchive_utf8 *utf8);

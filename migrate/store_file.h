/*
 * store_file.h - the file in memory that holds a page store's slots
 */
#pragma once

#include <stddef.h>

#include "engine/base/error.h"

/* A sparse file of len bytes (a multiple of STORE_FILE_ALIGN), with huge pages
 * if this kernel gives them to a tmpfs, mapped shared at *ret_map. The owner
 * closes and unmaps. */
#define STORE_FILE_ALIGN (2u << 20)
int store_file_open(size_t len, int *ret_fd, void **ret_map, struct error *err);

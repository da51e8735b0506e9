/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file that a load is measured on: a fresh copy of the prepared kernel, because the result depends on how the page
 * cache holds the file.
 */
#ifndef RIFFLE_BENCH_LOAD_FILE_H
#define RIFFLE_BENCH_LOAD_FILE_H

#include <stdbool.h>

#include <jansson.h>

#include "bench/load/page_cache.h"
#include "kernel/kernel.h"

struct bench_file {
	bool fresh; /* a copy; otherwise none could be made, and the kernel's own file is read */
	struct page_cache_state cache;
};

/*
 * Makes an opened kernel read from a fresh copy in the directory of `name`, or else in that of temporary files, and
 * examines its page cache.
 */
void bench_file_take(struct bench_file *file, struct opened_kernel *kernel, const char *name);
/* One line. */
void bench_file_print(const struct bench_file *file);
/* An object. */
json_t *bench_file_json(const struct bench_file *file);

#endif

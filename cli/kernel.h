/* SPDX-License-Identifier: Apache-2.0 */
/* From the name of a kernel file to a checked plan and a source of its bytes, prepared on the way if need be. */
#ifndef RIFFLE_CLI_KERNEL_H
#define RIFFLE_CLI_KERNEL_H

#include <stdbool.h>

#include <riffle/plan.h>

struct kernel_request {
	const char *kernel;             /* path, or fd:N */
	const char *relocs;             /* path of vmlinux.relocs, or NULL */
	const char *cache_directory;    /* NULL: $XDG_CACHE_HOME/riffle, else $HOME/.cache/riffle */
	bool no_cache;                  /* prepare into memory, keep nothing */
};

enum kernel_way { KERNEL_IS_PREPARED, KERNEL_CACHE_HIT, KERNEL_CACHE_MISS };

struct opened_kernel {
	int fd;                         /* of the prepared kernel; open as long as the source is used */
	struct riffle_source source;
	struct riffle_plan plan;
	enum kernel_way way;
	char notice[256];               /* something the user should hear (cache disk full, …); empty: nothing */
	char blame[256];                /* after a failure: the file that `error` is about */
};

/*
 * Opens a kernel. On success *k is the caller's, to be ended with kernel_close(); on failure nothing is left open.
 * A failure of the preparing child arrives here as its own words: then error->field is NULL and `blame` is the whole line.
 */
int kernel_open(struct opened_kernel *k, const struct kernel_request *request, struct riffle_error *error);
void kernel_close(struct opened_kernel *k);

#endif

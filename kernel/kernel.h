/* SPDX-License-Identifier: Apache-2.0 */
/* Opens the user's kernel as a prepared kernel: directly, from the cache, or by preparing it now. */
#ifndef RIFFLE_KERNEL_KERNEL_H
#define RIFFLE_KERNEL_KERNEL_H

#include <stdbool.h>

#include <riffle/plan.h>

#include "kernel/frame_reader.h"
#include "kernel/spawn.h"
#include "prepare/image/uki.h"

struct kernel_request {
	const char *kernel;          /* path, or fd:N */
	const char *relocs;          /* vmlinux.relocs of a stripped vmlinux, path or fd:N; NULL: none */
	const char *cache_directory; /* NULL: $XDG_CACHE_HOME/riffle or $HOME/.cache/riffle */
	bool base_alone;             /* nothing will be shuffled: the plan may lack the part for that */
	bool no_cache;               /* prepare in memory; neither look up nor store anything */
	/*
	 * Called before and after the worker runs, which takes a second or two; may be NULL. The first call may prevent
	 * that by returning a status with *error set, which does not concern the kernel.
	 */
	int (*preparing)(void *opaque, bool begun, struct riffle_error *error);
	void *opaque;
};

/* How the kernel was obtained. */
enum kernel_way {
	KERNEL_IS_PREPARED, /* the file is a prepared kernel itself */
	KERNEL_CACHE_HIT,
	KERNEL_CACHE_MISS, /* prepared just now, by a child process */
};

struct opened_kernel {
	int fd;                      /* of the prepared kernel */
	struct riffle_source source; /* reads from fd */
	struct frame_reader *frames; /* the source's; NULL for a kernel from the cache, which is never compressed */
	struct riffle_plan plan;
	enum kernel_way way;
	int uki_fd;               /* the file itself if it is a unified kernel image; otherwise -1 */
	struct uki uki;           /* and where its initrd and command line lie (uki_command_line() reads that) */
	char notice[320];         /* one line for the user without "riffle:", or empty */
	const char *blame;        /* after a failure: which of the request's file names it concerns */
	struct spawn_words words; /* after a failure: what error->field and ->problem may point to */
};

/*
 * Opens request->kernel, of any format. *k is also valid after a failure, and must then stay in place while *error is
 * used; after success release it with kernel_close(). Prints nothing. A prepared kernel whose owner or mode lets
 * somebody else write to it is refused (TRUST), and so is a kernel that changes while it is prepared (CHANGED). An
 * unusable cache causes a notice, not an error.
 */
int kernel_open(struct opened_kernel *k, const struct kernel_request *request, struct riffle_error *error);

void kernel_close(struct opened_kernel *k);

#endif

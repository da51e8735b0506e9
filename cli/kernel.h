/* SPDX-License-Identifier: Apache-2.0 */
/* From what the user calls a kernel to an open prepared one: as it is, out of the cache, or prepared now. */
#ifndef RIFFLE_CLI_KERNEL_H
#define RIFFLE_CLI_KERNEL_H

#include <stdbool.h>

#include <riffle/plan.h>

#include "cli/frame_reader.h"
#include "cli/spawn.h"
#include "prepare/image/uki.h"

struct kernel_request {
	const char *kernel;          /* path, or fd:N */
	const char *relocs;          /* vmlinux.relocs of a stripped vmlinux, path or fd:N; NULL: none */
	const char *cache_directory; /* NULL: $XDG_CACHE_HOME/riffle or $HOME/.cache/riffle */
	bool base_alone;             /* nothing will be shuffled: the plan need not have its part for that */
	bool no_cache;               /* prepare into memory, look nothing up and keep nothing */
	/*
	 * Called before and after the worker runs, which takes a second or two; NULL: nobody wants to know. Before, it
	 * may forbid it by a status, with *error filled, which is no fault of the kernel's.
	 */
	int (*preparing)(void *opaque, bool begun, struct riffle_error *error);
	void *opaque;
};

/* How the kernel was come by. */
enum kernel_way {
	KERNEL_IS_PREPARED, /* the file is a prepared kernel itself */
	KERNEL_CACHE_HIT,
	KERNEL_CACHE_MISS, /* prepared just now, by a child process */
};

struct opened_kernel {
	int fd;                      /* of the prepared kernel */
	struct riffle_source source; /* reads from fd */
	struct frame_reader *frames; /* source's; NULL for a kernel out of the cache, never compressed */
	struct riffle_plan plan;
	enum kernel_way way;
	int uki_fd;               /* the file itself, when it is a unified kernel image; else -1 */
	struct uki uki;           /* and where its initrd and command line lie (uki_command_line() reads that) */
	char notice[320];         /* one line for the user without "riffle:", empty when there is nothing to say */
	const char *blame;        /* after a failure: which of the request's names it is about */
	struct spawn_words words; /* after a failure: what error->field and ->problem may point to */
};

/*
 * Opens request->kernel, whatever its kind. *k is valid from the call on, also after a failure, and must then stay
 * where it is as long as *error is used; it is ended with kernel_close() after success. Prints nothing. A prepared
 * kernel whose owner or mode let somebody else write to it is refused (TRUST); one whose bytes change while they are
 * prepared too (CHANGED). A cache that cannot be used is not an error but a notice.
 */
int kernel_open(struct opened_kernel *k, const struct kernel_request *request, struct riffle_error *error);

void kernel_close(struct opened_kernel *k);

#endif

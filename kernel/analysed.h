/* SPDX-License-Identifier: Apache-2.0 */
/* Opens, analyses and writes a kernel, in a process that first filters its own system calls. */
#ifndef RIFFLE_KERNEL_ANALYSED_H
#define RIFFLE_KERNEL_ANALYSED_H

#include <riffle/error.h>

#include "prepare/image/image.h"
#include "prepare/shuffle/shuffle.h"

struct analysed {
	struct riffle_image *image;
	struct shuffle *shuffle; /* NULL: this kernel cannot be shuffled */
	char no_shuffle[256];    /* the reason, if so */
	bool must_shuffle;       /* a debug vmlinux was given, which has no other use */
	char problem[256];       /* of an error that concerns the debug vmlinux */
};

/*
 * Call after sandbox_drop(): loads the system call filter, then reads the files. `relocs` and `debug` may be -1. An
 * error in the debug vmlinux has SPAWN_DEBUG_FIELD (kernel/spawn.h) as its field, and its text in *kernel. With a debug
 * vmlinux, a kernel that cannot be shuffled is an error too. With `no_shuffle` (may be NULL) the kernel is not
 * analysed, and that is the reason given. After success release with analysed_close().
 */
int analysed_open(struct analysed *kernel, int kernel_fd, int relocs, int debug, const char *no_shuffle,
		  struct riffle_error *error);
void analysed_close(struct analysed *kernel);

/*
 * Writes a prepared kernel, with its payload stored by `storage`, and opens it as a monitor will, so that a file that a
 * monitor would refuse is never produced. If that fails with the shuffle, the kernel is written without one, unless it
 * must have one; then kernel->shuffle is NULL and kernel->no_shuffle gives the reason.
 */
int analysed_write(struct analysed *kernel, enum riffle_compression storage, int out, struct riffle_error *error);

#endif

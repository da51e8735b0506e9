/* SPDX-License-Identifier: Apache-2.0 */
/* A kernel opened, analysed and written, by a process that filters its own system calls first. */
#ifndef RIFFLE_CLI_ANALYSED_H
#define RIFFLE_CLI_ANALYSED_H

#include <riffle/error.h>

#include "prepare/image/image.h"
#include "prepare/shuffle/shuffle.h"

struct analysed {
	struct riffle_image *image;
	struct shuffle *shuffle; /* NULL: this kernel cannot be shuffled */
	char no_shuffle[256];    /* and then why, in words */
	bool must_shuffle;       /* a debug vmlinux was given, which serves nothing else */
	char problem[256];       /* an error's, when it is about the debug vmlinux */
};

/*
 * To be called after sandbox_drop(): loads the system call filter, then reads the files. `relocs` and `debug` may be
 * -1. An error about the debug vmlinux has SPAWN_DEBUG_FIELD (cli/spawn.h) as its field, and its words in *kernel. With
 * a debug vmlinux a kernel that cannot be shuffled is an error too. With `no_shuffle` (else NULL) the kernel is not
 * analysed, and that is the reason given. After success ended with analysed_close().
 */
int analysed_open(struct analysed *kernel, int kernel_fd, int relocs, int debug, const char *no_shuffle,
		  struct riffle_error *error);
void analysed_close(struct analysed *kernel);

/*
 * Writes a prepared kernel, its payload stored as `storage` says, and opens it as a monitor will: a file that it would
 * refuse is never handed out. When that fails with the shuffle, the kernel is written without one, unless it must have
 * one; then kernel->shuffle is NULL and kernel->no_shuffle says why.
 */
int analysed_write(struct analysed *kernel, enum riffle_compression storage, int out, struct riffle_error *error);

#endif

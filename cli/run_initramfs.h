/* SPDX-License-Identifier: Apache-2.0 */
/* The initramfs that `riffle run` makes: of a directory, or of a command and what it needs. */
#ifndef RIFFLE_CLI_RUN_INITRAMFS_H
#define RIFFLE_CLI_RUN_INITRAMFS_H

#include "cli/run_options.h"
#include "initramfs/initramfs.h"

struct run_initramfs {
	struct initramfs *archive; /* NULL: the options ask for none */
	struct machine_initrd initrd;
	char blame[4200]; /* the file that an error is about, "" for none */
};

/*
 * Collects it, without reading contents, and puts it into options->machine. *r stays where it is, since that points to
 * it. Prints what is wrong, and returns false then; *not_found says that the reason is a command that is not to be
 * found (127) or not to be executed (126).
 */
bool run_initramfs_make(struct run_initramfs *r, struct run_options *options, int *exit_code);
void run_initramfs_free(struct run_initramfs *r);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* The initramfs that `riffle run` makes: from a directory, or from a command and what it needs. */
#ifndef RIFFLE_CLI_COMMANDS_RUN_INITRAMFS_H
#define RIFFLE_CLI_COMMANDS_RUN_INITRAMFS_H

#include "cli/commands/run_options.h"
#include "initramfs/initramfs.h"

struct run_initramfs {
	struct initramfs *archive; /* NULL: the options require none */
	struct machine_initrd initrd;
	char blame[4200]; /* the file that an error concerns, "" for none */
};

/*
 * Collects it, without reading contents, and puts it into options->machine, which points to *r: that must stay in
 * place. On failure prints the error and returns false; *not_found is set if the command was not found (127) or cannot
 * be executed (126).
 */
bool run_initramfs_make(struct run_initramfs *r, struct run_options *options, int *exit_code);
void run_initramfs_free(struct run_initramfs *r);

#endif

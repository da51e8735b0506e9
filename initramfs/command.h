/* SPDX-License-Identifier: Apache-2.0 */
/* Adds to an initramfs what a guest that runs one command needs: riffle's init, its configuration, two device nodes. */
#ifndef RIFFLE_INITRAMFS_COMMAND_H
#define RIFFLE_INITRAMFS_COMMAND_H

#include "guest/config.h"
#include "initramfs/initramfs.h"

/* The kernel's command line needs this, so that it starts the init that initramfs_add_command() adds. */
#define INITRAMFS_RDINIT "rdinit=" CONFIG_INIT_PATH

/* Becomes the configuration described in guest/config.h. */
struct initramfs_command {
	const char *const *argv; /* at least one */
	size_t argc;
	const char *const *environment;
	size_t environment_count;
	const char *program;  /* NULL: looked for in the guest */
	const char *workdir;  /* NULL: the root */
	const char *hostname; /* NULL: the kernel's */
	unsigned terminal;    /* CONFIG_TERMINAL_* */
};

/*
 * Adds init, its configuration, and /dev/console and /dev/null, which the kernel and init need before init has mounted
 * anything. After all other entries. Init removes its own files before the command starts. Errors: as initramfs_add().
 */
int initramfs_add_command(struct initramfs *archive, const struct initramfs_command *command,
			  struct riffle_error *error);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* Collects the entries of a host directory, never following symbolic links; contents are read later. */
#ifndef RIFFLE_INITRAMFS_DIRECTORY_H
#define RIFFLE_INITRAMFS_DIRECTORY_H

#include <sys/stat.h>

#include "initramfs/tree.h"

/* Opens a directory within the packed one for look-ups (O_PATH); -1 and errno. */
int directory_open(const struct initramfs *archive, const struct node *node);

/* Copies a file's attributes from stat. Errors: UNSUPPORTED (over 4 GiB). */
int directory_describe(struct initramfs *archive, struct node *node, const struct stat *st,
		       const struct initramfs_directory *how, struct riffle_error *error);

#endif

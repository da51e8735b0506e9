/* SPDX-License-Identifier: Apache-2.0 */
/* Collects a directory of the host: what is in it, never following a symbolic link; contents are read later. */
#ifndef RIFFLE_INITRAMFS_DIRECTORY_H
#define RIFFLE_INITRAMFS_DIRECTORY_H

#include <sys/stat.h>

#include "initramfs/tree.h"

/* Opens a directory of the packed one for look-ups in it (O_PATH); -1 and errno. */
int directory_open(const struct initramfs *archive, const struct node *node);

/* Takes over what stat tells of a file. Errors: UNSUPPORTED (over 4 GiB). */
int directory_describe(struct initramfs *archive, struct node *node, const struct stat *st,
		       const struct initramfs_directory *how, struct riffle_error *error);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* A program of the host with everything needed to start it: interpreter, shared libraries, the links on the way. */
#ifndef RIFFLE_INITRAMFS_PROGRAM_H
#define RIFFLE_INITRAMFS_PROGRAM_H

#include "initramfs/initramfs.h"

/*
 * Finds an executable as a shell does: a name with a slash is a path, any other is searched in the directories of
 * `search`, the value of PATH (NULL: none). Writes its absolute path, without following links. Returns 0 or an errno.
 */
int program_find(const char *name, const char *search, char *path, size_t room);

/*
 * Adds the program at an absolute path and what loading it requires: for an ELF file its interpreter and shared
 * libraries, found without running anything; for a script its interpreter with everything that requires. For an
 * interpreter called `env`, the program that it searches in `search` is also added. Files that a program opens at run
 * time (plug-ins, NSS modules, locale data) are not added. Errors: as initramfs_add_host_file() and elf_read_needs();
 * UNSUPPORTED (neither ELF nor script).
 */
int program_add(struct initramfs *archive, const char *path, const char *search, struct riffle_error *error);

#endif

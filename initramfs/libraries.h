/* SPDX-License-Identifier: Apache-2.0 */
/* Finds the shared libraries of a program as its dynamic loader would, without running either. */
#ifndef RIFFLE_INITRAMFS_LIBRARIES_H
#define RIFFLE_INITRAMFS_LIBRARIES_H

#include "initramfs/elf.h"
#include "initramfs/initramfs.h"

/* Where a loader looks in addition to the paths in the ELF files. */
struct library_places {
	const uint8_t *cache; /* the content of /etc/ld.so.cache; NULL: none */
	size_t cache_bytes;
	const char *directories; /* colon-separated */
};

/* An ELF file that was loaded because another one, `loader`, needs it (NULL: the program itself). */
struct library_user {
	const struct library_user *loader;
	const char *path; /* absolute, without links; its directory is $ORIGIN */
	struct elf_needs needs;
};

typedef void library_found(void *opaque, const char *path);

/*
 * Calls found() with the file that the loader would use for `user` as the library `name`, or with several if the cache
 * has one for each of several processor levels. Returns whether there is any.
 */
bool library_find(const struct library_places *places, const struct library_user *user, const char *name,
		  library_found *found, void *opaque);

/* Adds the interpreter and libraries of the ELF file at an absolute path to the archive. Errors: as elf_read_needs(),
   and initramfs_add_host_file(); UNSUPPORTED (a library is not found). */
int libraries_add(struct initramfs *archive, const char *path, struct riffle_error *error);

#endif

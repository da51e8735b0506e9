/* SPDX-License-Identifier: Apache-2.0 */
/* Remembers what was created, so that a failed start leaves nothing behind. */
#ifndef RIFFLE_JAILER_UNDO_H
#define RIFFLE_JAILER_UNDO_H

#include <limits.h>
#include <stddef.h>

#define UNDO_MAX 192

/* Each entry is a name in an open directory, independent of what happens to the path to it. */
struct undo {
	struct {
		int directory; /* a duplicate; close-on-exec */
		int flags;     /* unlinkat()'s */
		char name[NAME_MAX + 1];
	} made[UNDO_MAX];
	size_t count;
};

/* What cannot be remembered is left behind: failing to duplicate a descriptor is not fatal. */
void undo_file(struct undo *undo, int directory, const char *name);
void undo_directory(struct undo *undo, int directory, const char *name);

/* Removes what was created, in reverse order; directories only if they are empty. */
void undo_all(struct undo *undo);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* Remembers what was made, so that a start that fails leaves nothing of its own behind. */
#ifndef RIFFLE_JAILER_UNDO_H
#define RIFFLE_JAILER_UNDO_H

#include <limits.h>
#include <stddef.h>

#define UNDO_MAX 192

/* Each entry is a name in an open directory, whatever becomes of the paths that led there. */
struct undo {
	struct {
		int directory; /* a duplicate of its own; closed at exec */
		int flags;     /* unlinkat()'s */
		char name[NAME_MAX + 1];
	} made[UNDO_MAX];
	size_t count;
};

/* What cannot be remembered stays behind: a descriptor that cannot be duplicated is no reason to fail. */
void undo_file(struct undo *undo, int directory, const char *name);
void undo_directory(struct undo *undo, int directory, const char *name);

/* Removes what was made, the last first; directories only if they are empty. */
void undo_all(struct undo *undo);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* Remembers what was created, so that a failed start leaves nothing behind. */
#include "jailer/undo.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void made(struct undo *undo, int directory, const char *name, int flags)
{
	if (undo->count >= UNDO_MAX || strlen(name) > NAME_MAX)
		return;
	undo->made[undo->count].directory = fcntl(directory, F_DUPFD_CLOEXEC, 3);
	undo->made[undo->count].flags = flags;
	strcpy(undo->made[undo->count].name, name);
	undo->count++;
}

void undo_file(struct undo *undo, int directory, const char *name)
{
	made(undo, directory, name, 0);
}

void undo_directory(struct undo *undo, int directory, const char *name)
{
	made(undo, directory, name, AT_REMOVEDIR);
}

void undo_all(struct undo *undo)
{
	while (undo->count) {
		undo->count--;
		if (undo->made[undo->count].directory >= 0)
			(void)unlinkat(undo->made[undo->count].directory, undo->made[undo->count].name,
				       undo->made[undo->count].flags);
	}
}

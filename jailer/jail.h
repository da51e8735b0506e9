/* SPDX-License-Identifier: Apache-2.0 */
/* The jail: a directory with a copy of the program, made the root of a new mount namespace, and the devices in it. */
#ifndef RIFFLE_JAILER_JAIL_H
#define RIFFLE_JAILER_JAIL_H

#include "jailer/arguments.h"
#include "jailer/undo.h"

struct jail {
	int root;            /* BASE/EXECNAME/ID/root; after jail_enter() the root directory itself */
	char path[PATH_MAX]; /* its name, for messages */
};

/*
 * Creates a mount namespace from which nothing is propagated, before the jail's directory is opened: only mounts of the
 * own namespace can be moved.
 */
int jail_separate_mounts(struct failure *failure);

/* Creates missing directories. An existing jail is used, because its owner puts files into it first. */
int jail_make(struct jail *jail, const struct arguments *arguments, struct undo *undo, struct failure *failure);

/* Copies the program into it. An existing file of that name must be a regular file with a single link. */
int jail_copy(const struct jail *jail, const struct arguments *arguments, struct undo *undo, struct failure *failure);

/* Makes it the root directory of the mount namespace, in which nothing else remains. */
int jail_enter(struct jail *jail, struct failure *failure);

/* Creates directories and devices in it, owned by the user. userfaultfd: its minor number, or -1 if there is none. */
int jail_furnish(const struct jail *jail, const struct arguments *arguments, int userfaultfd, struct undo *undo,
		 struct failure *failure);

/* The minor number of /dev/userfaultfd, which Linux assigns at boot; -1: there is none. */
int userfaultfd_minor(void);

#endif

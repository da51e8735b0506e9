/* SPDX-License-Identifier: Apache-2.0 */
/* Puts the jailer, and so what it runs, into its own cgroups, of version 1 or 2. */
#ifndef RIFFLE_JAILER_CGROUP_H
#define RIFFLE_JAILER_CGROUP_H

#include "jailer/arguments.h"
#include "jailer/undo.h"

/* One hierarchy that --cgroup needs: for version 1 one per controller, for version 2 the only one. */
struct cgroup {
	char controller[32];
	char mount[PATH_MAX]; /* where the hierarchy is mounted */
	int root;             /* that directory */
};

struct cgroups {
	struct cgroup list[16];
	size_t count;
};

/*
 * Finds the hierarchies in `mounts` (/proc/mounts). With version 2 and no --cgroup, moves this process to the parent
 * cgroup, if there is one.
 */
int cgroups_find(struct cgroups *cgroups, const struct arguments *arguments, const char *mounts,
		 struct failure *failure);

/* Creates PARENT/ID in each hierarchy, writes the values, and then moves this process there. */
int cgroups_enter(struct cgroups *cgroups, const struct arguments *arguments, struct undo *undo,
		  struct failure *failure);

#endif

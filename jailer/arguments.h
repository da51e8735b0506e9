/* SPDX-License-Identifier: Apache-2.0 */
/* The jailer's command line: parsed, checked, and its paths made canonical, before anything is changed. */
#ifndef RIFFLE_JAILER_ARGUMENTS_H
#define RIFFLE_JAILER_ARGUMENTS_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "jailer/failure.h"

/* More than any caller uses; a longer list is refused. */
#define LIST_MAX 128

struct arguments {
	bool help, version;
	bool daemonize, new_pid_ns;
	const char *id;
	const char *exec_file, *base; /* as given */
	const char *netns;            /* NULL: stay in the caller's */
	uid_t uid;
	gid_t gid;
	unsigned cgroup_version;
	const char *parent_cgroup; /* NULL: the executable's name */
	const char *cgroups[LIST_MAX];
	size_t cgroup_count;
	uint64_t file_size; /* UINT64_MAX: no limit */
	uint64_t open_files;
	char *const *extra; /* NULL-terminated: what follows "--" */

	/* filled by arguments_resolve() */
	char exec_path[PATH_MAX], base_path[PATH_MAX];
	const char *exec_name; /* the last component of exec_path */
};

/* Reads only argv. Errors are reported in *failure. Points into argv. */
int arguments_parse(struct arguments *arguments, int argc, char *const *argv, struct failure *failure);

/* Examines the named files. */
int arguments_resolve(struct arguments *arguments, struct failure *failure);

/* Whether a relative path stays below where it starts: not empty, and no component is "", "." or "..". */
bool path_stays_below(const char *path);

void arguments_help(void);

#endif

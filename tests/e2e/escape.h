/* SPDX-License-Identifier: Apache-2.0 */
/* Attempts to get out of a jail, and what they have to work with: escape.c makes them. */
#ifndef RIFFLE_TESTS_ESCAPE_H
#define RIFFLE_TESTS_ESCAPE_H

#include <errno.h>
#include <stdbool.h>
#include <sys/types.h>

#define SECRET "/tmp/victim/secret"
#define AWAY "../../../../../../../../tmp/victim/secret"
#define NEW "/tmp/victim/new"

/* Returns whether it reached what it tried to. */
struct attempt {
	const char *name; /* NULL at the end of a list */
	bool (*act)(void);
};
#define ATTEMPT(name)                                                                                                  \
	{                                                                                                              \
#name, name                                                                                            \
	}

extern const struct attempt attempts_on_files[], attempts_on_processes[], attempts_on_network[],
    attempts_on_privileges[];

extern const struct attempt *const attempt_lists[]; /* NULL at the end */
extern const char *const attempt_kinds[];           /* by enum confine_kind */

extern pid_t victim, starter; /* processes outside, the first of the jail's own user */
extern int port;              /* of a TCP server outside */
extern int kvm, tun, disk;    /* descriptors of a monitor */

static inline bool opened(long fd)
{
	return fd >= 0;
}

static inline bool done(long result)
{
	return result == 0;
}

/* Got past the check of privileges: whatever else was wrong with the arguments. */
static inline bool permitted(long result)
{
	return result >= 0 || (errno != EPERM && errno != EACCES && errno != ENOSYS);
}

#endif

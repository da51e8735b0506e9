/* SPDX-License-Identifier: Apache-2.0 */
/* Error messages of the jailer, in Firecracker's wording, which tools that start jailers look for. */
#ifndef RIFFLE_JAILER_FAILURE_H
#define RIFFLE_JAILER_FAILURE_H

#include <limits.h>

/* Large enough for two paths and the words between them. */
struct failure {
	char text[2 * PATH_MAX + 256];
};

/* Fills *failure and returns -1. */
int fail(struct failure *failure, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The same, with ": ERROR (os error N)" of this errno appended. */
int fail_system(struct failure *failure, int sys_errno, const char *format, ...) __attribute__((format(printf, 3, 4)));

#endif

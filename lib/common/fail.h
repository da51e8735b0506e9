/* SPDX-License-Identifier: Apache-2.0 */
/* One-line ways to fill a struct riffle_error and return its status. */
#ifndef RIFFLE_COMMON_FAIL_H
#define RIFFLE_COMMON_FAIL_H

#include <string.h>

#include <riffle/error.h>

static inline int riffle_fail_full(struct riffle_error *error, enum riffle_status status, int sys_errno,
				   const char *field, const char *problem, int has_found, uint64_t found,
				   int has_expected, uint64_t expected)
{
	if (error) {
		error->status = status;
		error->sys_errno = sys_errno;
		error->field = field;
		error->problem = problem;
		error->found = found;
		error->expected = expected;
		error->has_found = (unsigned char)has_found;
		error->has_expected = (unsigned char)has_expected;
		memset(error->reserved_zero, 0, sizeof error->reserved_zero);
	}
	return (int)status;
}

static inline int riffle_fail(struct riffle_error *error, enum riffle_status status, const char *field,
			      const char *problem)
{
	return riffle_fail_full(error, status, 0, field, problem, 0, 0, 0, 0);
}

static inline int riffle_fail_found(struct riffle_error *error, enum riffle_status status, const char *field,
				    const char *problem, uint64_t found)
{
	return riffle_fail_full(error, status, 0, field, problem, 1, found, 0, 0);
}

static inline int riffle_fail_expected(struct riffle_error *error, enum riffle_status status, const char *field,
				       const char *problem, uint64_t found, uint64_t expected)
{
	return riffle_fail_full(error, status, 0, field, problem, 1, found, 1, expected);
}

/* riffle_fail_found() and riffle_fail_expected() with values that are printed differently. */
static inline int riffle_fail_found_as(struct riffle_error *error, enum riffle_status status, enum riffle_show show,
				       const char *field, const char *problem, uint64_t found)
{
	return riffle_fail_full(error, status, 0, field, problem, (int)show, found, 0, 0);
}

static inline int riffle_fail_expected_as(struct riffle_error *error, enum riffle_status status, enum riffle_show show,
					  const char *field, const char *problem, uint64_t found, uint64_t expected)
{
	return riffle_fail_full(error, status, 0, field, problem, (int)show, found, (int)show, expected);
}

static inline int riffle_fail_system(struct riffle_error *error, int sys_errno, const char *field, const char *problem)
{
	return riffle_fail_full(error, RIFFLE_ERR_IO, sys_errno, field, problem, 0, 0, 0, 0);
}

#endif

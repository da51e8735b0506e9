/* SPDX-License-Identifier: Apache-2.0 */
/* Refuses a public struct whose reserved words are not zero, because this version does not know their later meaning.
 */
#ifndef RIFFLE_COMMON_RESERVED_H
#define RIFFLE_COMMON_RESERVED_H

#include "common/fail.h"

static inline int riffle_check_zero(const void *bytes, size_t count, const char *field, struct riffle_error *error)
{
	const unsigned char *p = bytes;

	for (size_t i = 0; i < count; i++)
		if (p[i])
			return riffle_fail_found(error, RIFFLE_ERR_ARGUMENT, field,
						 "has reserved bytes that are not 0: was it initialised?", p[i]);
	return RIFFLE_OK;
}

/* a member array of a public struct */
#define RIFFLE_CHECK_ZERO(member, field, error) riffle_check_zero((member), sizeof(member), (field), (error))

#endif

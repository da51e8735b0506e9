/* SPDX-License-Identifier: Apache-2.0 */
#include "host/memory_size.h"

#include <errno.h>
#include <stdlib.h>

const char *memory_size_parse(const char *text, uint64_t *bytes)
{
	unsigned shift = 20;
	char *end;

	errno = 0;
	*bytes = strtoull(text, &end, 10);
	if (errno || *text < '0' || *text > '9')
		return "is no size";
	switch (*end) {
	case 'k':
	case 'K':
		shift = 10;
		end++;
		break;
	case 'm':
	case 'M':
		end++;
		break;
	case 'g':
	case 'G':
		shift = 30;
		end++;
		break;
	}
	if (*end || *bytes > UINT64_MAX >> shift)
		return "is no size";
	*bytes <<= shift;
	return !*bytes || *bytes % (UINT64_C(2) << 20) || *bytes > UINT64_C(511) << 30
		   ? "must be a multiple of 2M up to 511G"
		   : NULL;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Error messages of the jailer, in Firecracker's wording, which tools that start jailers look for. */
#include "jailer/failure.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int fail(struct failure *failure, const char *format, ...)
{
	va_list values;

	va_start(values, format);
	vsnprintf(failure->text, sizeof failure->text, format, values);
	va_end(values);
	return -1;
}

int fail_system(struct failure *failure, int sys_errno, const char *format, ...)
{
	va_list values;
	size_t length;

	va_start(values, format);
	vsnprintf(failure->text, sizeof failure->text, format, values);
	va_end(values);
	length = strlen(failure->text);
	snprintf(failure->text + length, sizeof failure->text - length, ": %s (os error %d)", strerror(sys_errno),
		 sys_errno);
	return -1;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The version of this library, for programs built with the headers of another version. */
#include <riffle/format.h>
#include <riffle/version.h>

unsigned riffle_version(void)
{
	return RIFFLE_VERSION;
}

const char *riffle_version_string(void)
{
	return RIFFLE_VERSION_STRING;
}

unsigned riffle_format_version(void)
{
	return RIFFLE_FORMAT_VERSION;
}

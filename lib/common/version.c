/* SPDX-License-Identifier: Apache-2.0 */
/* Which version of the library this is, for programs that were built with another one's headers. */
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

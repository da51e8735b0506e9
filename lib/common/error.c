/* SPDX-License-Identifier: Apache-2.0 */
/* Formats a struct riffle_error as one line. */
#include <stdio.h>
#include <string.h>

#include <riffle/error.h>

/* small numbers are counts, which read best in decimal; large ones are addresses and offsets */
static void number(char *text, size_t bytes, uint64_t value, unsigned char show)
{
	if (show == RIFFLE_SHOW_VERSION)
		snprintf(text, bytes, "%llu.%02llu", (unsigned long long)value >> 8, (unsigned long long)value & 0xff);
	else if (value < 65536 && show != RIFFLE_SHOW_HEX)
		snprintf(text, bytes, "%llu", (unsigned long long)value);
	else
		snprintf(text, bytes, "0x%llx", (unsigned long long)value);
}

void riffle_error_format(const struct riffle_error *error, char *text, size_t bytes)
{
	char found[32], expected[32], values[96] = "", system[96] = "";

	if (!bytes)
		return;
	number(found, sizeof found, error->found, error->has_found);
	number(expected, sizeof expected, error->expected, error->has_expected);
	if (error->has_found && error->has_expected)
		snprintf(values, sizeof values, " (found %s, expected %s)", found, expected);
	else if (error->has_found)
		snprintf(values, sizeof values, " (found %s)", found);
	else if (error->has_expected)
		snprintf(values, sizeof values, " (expected %s)", expected);
	if (error->sys_errno)
		snprintf(system, sizeof system, ": %s", strerror(error->sys_errno));
	snprintf(text, bytes, "%s: %s%s%s", error->field ? error->field : "riffle",
		 error->problem ? error->problem : "failed", values, system);
}

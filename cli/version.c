/* SPDX-License-Identifier: Apache-2.0 */
/* What `--version` prints. */
#include "cli/version.h"

#include <stdio.h>

#include <riffle/format.h>
#include <riffle/version.h>

#include "cli/commit.h"

void print_version(const char *program)
{
	printf("%s %s\n", program, RIFFLE_VERSION_STRING);
	if (BUILT_FROM_COMMIT[0])
		printf("commit: %s\n", BUILT_FROM_COMMIT);
	printf("prepared kernels: format %u\n", RIFFLE_FORMAT_VERSION);
}

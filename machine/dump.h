/* SPDX-License-Identifier: Apache-2.0 */
/* A running machine's memory and registers as an ELF core file. */
#ifndef RIFFLE_MACHINE_DUMP_H
#define RIFFLE_MACHINE_DUMP_H

#include "machine/core_file.h"
#include "machine/machine.h"

/*
 * Writes the core file to an empty file, in the event loop's thread, for a machine whose config has `can_save`. A
 * running machine is paused meanwhile and continues afterwards. Errors: IO, MEMORY, UNSUPPORTED.
 */
int machine_dump(struct machine *machine, int fd, struct core_result *result, struct riffle_error *error);

#endif

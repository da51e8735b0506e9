/* SPDX-License-Identifier: Apache-2.0 */
/* Tells a guest that it was restored: VM generation id and VMClock, in pages of the guest's own memory. */
#ifndef RIFFLE_MONITOR_GENERATION_H
#define RIFFLE_MONITOR_GENERATION_H

#include <riffle/boot.h>

#include "monitor/core/memory.h"

/*
 * Below the ACPI tables, where the guest sees no RAM. Announced through the fields of these names in struct
 * riffle_machine.
 */
#define GENERATION_VMGENID 0xdfff0u
#define GENERATION_VMCLOCK 0xde000u
#define GENERATION_GSI 3u /* COM2's, which does not exist; all device interrupts are in use */

/*
 * For a new machine: the id, which must be random, and a clock page that counts restores but has no time. Call before
 * the guest runs. Errors: ARGUMENT (the guest has less than 1 MiB of RAM).
 */
int generation_begin(const struct guest_memory *memory, const uint8_t id[RIFFLE_BOOT_VMGENID_BYTES],
		     struct riffle_error *error);

/*
 * For a machine that continues from a copy of its memory: a new id, and the clock's disruption marker and generation
 * counter are incremented. Call while no vCPU runs; afterwards raise the GED's interrupt (an edge on GENERATION_GSI).
 * Errors: RANDOM; ARGUMENT.
 */
int generation_renew(const struct guest_memory *memory, struct riffle_error *error);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* A vCPU's registers as gdb sees them: one register file, its description, and the conversion from and to KVM's
 * structures.
 */
#ifndef RIFFLE_MONITOR_DEBUG_REGISTERS_H
#define RIFFLE_MONITOR_DEBUG_REGISTERS_H

#include <linux/kvm.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The contents of gdb's features core, sse and segments, and some control registers. */
#define REGISTER_FILE_BYTES (17u * 8 + 7 * 4 + 8 * 10 + 8 * 4 + 16 * 16 + 4 + 3 * 8 + 6 * 8)

struct register_file {
	uint8_t bytes[REGISTER_FILE_BYTES];
};

/* KVM's structures for them. */
struct register_sources {
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	struct kvm_fpu fpu;
	uint64_t kernel_gs_base;
};

void registers_collect(struct register_file *file, const struct register_sources *sources);
/* Selectors, bases and control registers are not changed, so a debugger that writes everything back does no harm. */
void registers_spread(const struct register_file *file, struct register_sources *sources);

/* Where register `number` of the description lies in the file. False: there is no such register. */
bool registers_find(unsigned number, size_t *offset, size_t *bytes);

/* The target description that gdb reads (target.xml), NUL-terminated. Thread-safe after the first call returned. */
const char *registers_description(void);

#endif

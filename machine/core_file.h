/* SPDX-License-Identifier: Apache-2.0 */
/* A guest's memory and registers as an ELF core file, for gdb, crash and drgn. */
#ifndef RIFFLE_MACHINE_CORE_FILE_H
#define RIFFLE_MACHINE_CORE_FILE_H

#include <linux/kvm.h>
#include <stddef.h>

#include "monitor/core/memory.h"

struct core_vcpu {
	struct kvm_regs regs;
	struct kvm_sregs sregs;
};

/* The contents of the core file; memory.ram[].host is the guest's memory as mapped here. */
struct core_source {
	struct guest_memory memory;
	const struct core_vcpu *vcpus;
	unsigned vcpu_count;
};

/* What came of it. */
struct core_result {
	bool vmcoreinfo;   /* the kernel's own note was found and is in the file */
	unsigned mappings; /* of virtual addresses */
	bool slid;         /* the kernel's sections lie apart (machine_dump() fills this in) */
};

/*
 * Writes it to an empty file, with holes where the guest has zeros. Segments: the guest's RAM at its physical
 * addresses, then, for gdb, the kernel's virtual addresses as the page tables of the first vCPU that has some map them.
 * Notes: NT_PRSTATUS for each vCPU, and the VMCOREINFO of the guest's kernel, from which crash and drgn learn its
 * address.
 * Errors: IO, MEMORY.
 */
int core_file_write(int fd, const struct core_source *source, struct core_result *result, struct riffle_error *error);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* /dev/kvm and one VM of it: capabilities, reserved pages, interrupt controllers and timer. */
#ifndef RIFFLE_MONITOR_KVM_H
#define RIFFLE_MONITOR_KVM_H

#include <stdbool.h>

#include <riffle/error.h>

#include "monitor/core/cpu_config.h"

/* Opens /dev/kvm and checks its version. Returns the descriptor, or -1. */
int kvm_open(struct riffle_error *error);

/*
 * Whether it can run `vcpus` vCPUs and has what the monitor needs, less what *config waives, and what *config wants.
 * Errors: UNSUPPORTED.
 */
int kvm_check(int kvm_fd, unsigned vcpus, const struct cpu_config *config, struct riffle_error *error);

/* Makes a VM with the pages that Intel hosts need reserved. Returns the descriptor, or -1. */
int kvm_create_vm(int kvm_fd, struct riffle_error *error);

/* Makes PICs, IOAPIC, LAPICs and the PIT, in the kernel. Memory slots have to be there already. */
int kvm_create_chips(int vm_fd, struct riffle_error *error);

/* Whether KVM_GET_SUPPORTED_CPUID leaves the TSC-deadline bit to us. */
bool kvm_has_tsc_deadline(int kvm_fd);

#endif

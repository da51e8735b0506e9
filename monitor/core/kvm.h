/* SPDX-License-Identifier: Apache-2.0 */
/* /dev/kvm and one VM: capabilities, reserved pages, interrupt controllers and timer. */
#ifndef RIFFLE_MONITOR_KVM_H
#define RIFFLE_MONITOR_KVM_H

#include <stdbool.h>

#include <riffle/error.h>

#include "monitor/core/cpu_config.h"

/* Opens /dev/kvm and checks its version. Returns the descriptor, or -1. */
int kvm_open(struct riffle_error *error);

/*
 * Checks that it can run `vcpus` vCPUs and has the capabilities that the monitor needs, except those that *config
 * waives, and those that *config requires.
 * Errors: UNSUPPORTED.
 */
int kvm_check(int kvm_fd, unsigned vcpus, const struct cpu_config *config, struct riffle_error *error);

/* Creates a VM and reserves the pages that Intel hosts need. Returns the descriptor, or -1. */
int kvm_create_vm(int kvm_fd, struct riffle_error *error);

/* Creates PICs, IOAPIC, LAPICs and the PIT in the kernel. Memory slots must exist already. */
int kvm_create_chips(int vm_fd, struct riffle_error *error);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* Distinguishes a /dev/kvm that virtualises from one that emulates every instruction. */
#ifndef RIFFLE_MONITOR_PROBE_H
#define RIFFLE_MONITOR_PROBE_H

#include <stdbool.h>

#include <riffle/error.h>

/* Returns UNSUPPORTED, with advice, if this KVM only emulates. Free if CPUID has VMX or SVM. */
int probe_refuse_emulation(int kvm_fd, struct riffle_error *error);

/*
 * Whether a breakpoint instruction in a guest exits to the monitor. QEMU's software emulation of an SVM host handles it
 * as the guest's own.
 */
bool probe_breakpoints(int kvm_fd);
/* The same for breakpoints in debug registers. A KVM that emulates honours these and not the instruction. */
bool probe_debug_registers(int kvm_fd);

#endif

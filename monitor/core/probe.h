/* SPDX-License-Identifier: Apache-2.0 */
/* Tells a /dev/kvm that virtualises from one that emulates every instruction. */
#ifndef RIFFLE_MONITOR_PROBE_H
#define RIFFLE_MONITOR_PROBE_H

#include <stdbool.h>

#include <riffle/error.h>

/* UNSUPPORTED, with advice, when this KVM only emulates. Costs nothing where CPUID has VMX or SVM. */
int probe_refuse_emulation(int kvm_fd, struct riffle_error *error);

/*
 * Whether a breakpoint instruction in a guest brings it out to the monitor. QEMU's software emulation of a host with
 * SVM takes it for the guest's own.
 */
bool probe_breakpoints(int kvm_fd);
/* The same for breakpoints in debug registers. A KVM that emulates honours these and not the instruction. */
bool probe_debug_registers(int kvm_fd);

#endif

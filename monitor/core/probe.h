/* SPDX-License-Identifier: Apache-2.0 */
/* Tells a /dev/kvm that virtualises from one that emulates every instruction. */
#ifndef RIFFLE_MONITOR_PROBE_H
#define RIFFLE_MONITOR_PROBE_H

#include <riffle/error.h>

/* UNSUPPORTED, with advice, when this KVM only emulates. Costs nothing where CPUID has VMX or SVM. */
int probe_refuse_emulation(int kvm_fd, struct riffle_error *error);

#endif

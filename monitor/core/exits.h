/* SPDX-License-Identifier: Apache-2.0 */
/* Handles the exits of KVM_RUN. */
#ifndef RIFFLE_MONITOR_EXITS_H
#define RIFFLE_MONITOR_EXITS_H

#include "monitor/core/vcpu.h"

void exits_handle(struct vcpu *vcpu);

#endif

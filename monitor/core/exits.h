/* SPDX-License-Identifier: Apache-2.0 */
/* What KVM_RUN came back for, and what to do about it. */
#ifndef RIFFLE_MONITOR_EXITS_H
#define RIFFLE_MONITOR_EXITS_H

#include "monitor/core/vcpu.h"

void exits_handle(struct vcpu *vcpu);

#endif

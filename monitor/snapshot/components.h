/* SPDX-License-Identifier: Apache-2.0 */
/* Saves and restores the state of each component of a paused VM, as sections of a state file. */
#ifndef RIFFLE_MONITOR_SNAPSHOT_COMPONENTS_H
#define RIFFLE_MONITOR_SNAPSHOT_COMPONENTS_H

#include "monitor/core/vm.h"
#include "monitor/platform/cmos.h"
#include "monitor/platform/i8042.h"
#include "monitor/platform/power.h"
#include "monitor/platform/serial.h"
#include "monitor/snapshot/state.h"
#include "monitor/virtio/mmio.h"

/*
 * The vCPUs are and stay parked. Restore after vm_prepare_vcpus() and in this order: vCPUs, then chips, so that their
 * interrupts reach local APICs that already have their state. vm_config.can_save must have been set.
 * Errors: IO (KVM), FORMAT (the file), UNSUPPORTED (this host cannot provide what the guest's host did).
 */
int vcpus_save(struct vm *vm, struct state_writer *writer, struct riffle_error *error);
int vcpus_restore(struct vm *vm, const struct state_file *file, struct riffle_error *error);

/* Interrupt controllers, PIT, and kvm-clock. */
int chips_save(struct vm *vm, struct state_writer *writer, struct riffle_error *error);
/* `advance_clock`: advance kvm-clock by the time that passed since the save, if this host can do that. */
int chips_restore(struct vm *vm, const struct state_file *file, bool advance_clock, struct riffle_error *error);

/* The small devices, with the bus's lock held or before vCPUs run. Restoring raises interrupts that were due. */
void serial_save(const struct serial *serial, struct state_writer *writer);
int serial_restore(struct serial *serial, const struct state_file *file, struct riffle_error *error);
void i8042_save(const struct i8042 *i8042, struct state_writer *writer);
int i8042_restore(struct i8042 *i8042, const struct state_file *file, struct riffle_error *error);
void cmos_save(const struct cmos *cmos, struct state_writer *writer);
int cmos_restore(struct cmos *cmos, const struct state_file *file, struct riffle_error *error);
void power_save(const struct power *power, struct state_writer *writer);
int power_restore(struct power *power, const struct state_file *file, struct riffle_error *error);

/*
 * A virtio device and its transport. Pause it (virtio_pause()) before saving. A restored device has just been attached,
 * stays paused, and starts with virtio_resume().
 */
int virtio_save(struct virtio_mmio *mmio, unsigned slot, struct state_writer *writer, struct riffle_error *error);
int virtio_restore(struct virtio_mmio *mmio, unsigned slot, const struct state_file *file, struct riffle_error *error);

#endif

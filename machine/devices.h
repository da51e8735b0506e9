/* SPDX-License-Identifier: Apache-2.0 */
/* The virtio devices of a machine: made from their description, put into slots, announced to the guest. */
#ifndef RIFFLE_MACHINE_DEVICES_H
#define RIFFLE_MACHINE_DEVICES_H

#include <riffle/boot.h>

#include "machine/device_config.h"
#include "monitor/virtio/block.h"
#include "monitor/virtio/mmio.h"
#include "monitor/virtio/rng.h"

/* Of a machine whose disks are of one kind and used as such. */
struct machine_devices {
	struct virtio_mmio slots[VIRTIO_MMIO_SLOTS];
	struct riffle_boot_device announced[VIRTIO_MMIO_SLOTS];
	unsigned count;
	struct block *disks[MACHINE_DISKS_MAX];
	unsigned disk_count;
	struct rng *rng;
};

/*
 * Makes the devices and puts them on the bus, before KVM is needed: in the order root disk, other disks, rng. Errors:
 * those of the devices, with *blame the file that they are about; ARGUMENT (no slot left).
 */
int machine_devices_make(struct machine_devices *devices, const struct machine_devices_config *config, struct bus *bus,
			 struct loop *loop, const struct guest_memory *memory, const char **blame,
			 struct riffle_error *error);

/* Tells KVM of them. */
int machine_devices_connect(struct machine_devices *devices, int vm_fd, struct riffle_error *error);

/*
 * What the kernel's command line needs beside what the user wrote: root= (unless `line` has one), and where the devices
 * are, for kernels that do not look into ACPI's tables. Begins with a blank, if it is not empty. False: it does not
 * fit.
 */
bool machine_devices_command_line(const struct machine_devices *devices, const struct machine_devices_config *config,
				  const char *line, char *text, size_t room);

/* Nothing is in flight afterwards; vCPUs do not run. */
void machine_devices_pause(struct machine_devices *devices);
void machine_devices_resume(struct machine_devices *devices);

/* Neither vCPUs nor the loop run. Works on what was made in part. */
void machine_devices_destroy(struct machine_devices *devices);

#endif

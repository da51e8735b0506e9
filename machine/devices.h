/* SPDX-License-Identifier: Apache-2.0 */
/* The virtio devices of a machine: made from their description, assigned to slots, announced to the guest. */
#ifndef RIFFLE_MACHINE_DEVICES_H
#define RIFFLE_MACHINE_DEVICES_H

#include <riffle/boot.h>

#include "machine/device_config.h"
#include "monitor/virtio/block.h"
#include "monitor/virtio/mmio.h"
#include "monitor/virtio/net.h"
#include "monitor/virtio/pmem.h"
#include "monitor/virtio/rng.h"
#include "monitor/virtio/vsock.h"

struct machine_net_state {
	struct machine_devices *devices;
	const char *id;
	const char *name; /* for messages */
	struct virtio_device *device;
	struct passt passt; /* while it starts */
	char words[200];    /* of an error, or of what happened to the network */
};

/* Of a machine whose disks are of one kind and used as such. */
struct machine_devices {
	struct virtio_mmio slots[VIRTIO_MMIO_SLOTS];
	struct riffle_boot_device announced[VIRTIO_MMIO_SLOTS];
	unsigned count;
	void *pages; /* of registers, one a slot; NULL: none */
	struct block *disks[MACHINE_DISKS_MAX];
	const char *disk_ids[MACHINE_DISKS_MAX];
	unsigned disk_count;
	struct rng *rng;
	struct machine_net_state nets[MACHINE_NETS_MAX];
	unsigned net_count;
	struct pmem *pmems[MACHINE_PMEMS_MAX];
	const char *pmem_ids[MACHINE_PMEMS_MAX];
	unsigned pmem_count;
	struct virtio_device *vsock, *balloon;
	/* one line for the user, while the guest runs; NULL: not reported */
	void (*notice)(void *opaque, const char *text);
	void *notice_opaque;
};

/*
 * Makes the devices and puts them on the bus, before KVM is needed: in the order balloon, root disk, other disks,
 * networks, pmem, vsock, rng. Errors: those of the devices, with the file concerned in *blame; ARGUMENT (no slot left).
 */
int machine_devices_make(struct machine_devices *devices, const struct machine_devices_config *config, struct bus *bus,
			 struct loop *loop, struct guest_memory *memory, const char **blame,
			 struct riffle_error *error);

/* Connects them to KVM, and waits for what else they need (passt). Errors may point to words in *devices. */
int machine_devices_connect(struct machine_devices *devices, int vm_fd, struct riffle_error *error);

/* Where devices will be that have not been made: all that machine_devices_command_line() needs of *devices. */
void machine_devices_foresee(struct machine_devices *devices, const struct machine_devices_config *config);

/*
 * What to add to the user's command line: root= (unless `line` has one), and the devices' addresses, for kernels that
 * do not read the ACPI tables. Starts with a space unless empty. False: it does not fit.
 */
bool machine_devices_command_line(const struct machine_devices *devices, const struct machine_devices_config *config,
				  const char *line, char *text, size_t room);

/* Afterwards nothing is in flight. The vCPUs must not be running. */
void machine_devices_pause(struct machine_devices *devices);
void machine_devices_resume(struct machine_devices *devices);

/* Neither vCPUs nor the loop may be running. Also cleans up after a partial machine_devices_make(). */
void machine_devices_destroy(struct machine_devices *devices);

/* network.c, for devices.c. Afterwards the backend is open, or passt has been started; sets *blame first. */
int machine_net_make(struct machine_net_state *state, const struct machine_net *config, const char **blame,
		     struct riffle_error *error);
int machine_net_ready(struct machine_net_state *state, struct riffle_error *error);
void machine_net_destroy(struct machine_net_state *state);

#endif

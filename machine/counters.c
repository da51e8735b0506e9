/* SPDX-License-Identifier: Apache-2.0 */
/* The counters of a machine's devices and vCPUs, one after the other, for whoever shows them. */
#include "machine/counters.h"

#include "machine/internal.h"

void machine_each_counters(const struct machine *m,
			   void (*each)(void *opaque, enum machine_counters kind, const char *id,
					const counter *counters),
			   void *opaque)
{
	const struct machine_devices *devices = &m->devices;
	const struct machine_devices_config *config = &m->config.devices;

	for (unsigned i = 0; i < m->config.vcpus; i++)
		each(opaque, MACHINE_COUNTERS_VCPU, NULL, (const counter *)vm_vcpu_counters(m->vm, i));
	each(opaque, MACHINE_COUNTERS_SERIAL, NULL, (const counter *)&m->serial.counters);
	each(opaque, MACHINE_COUNTERS_I8042, NULL, (const counter *)&m->i8042.counters);
	for (unsigned i = 0; i < devices->disk_count; i++)
		each(opaque, MACHINE_COUNTERS_BLOCK, devices->disk_ids[i],
		     (const counter *)block_counters(devices->disks[i]));
	for (unsigned i = 0; i < devices->net_count; i++)
		each(opaque, MACHINE_COUNTERS_NET, config->nets[i].id,
		     (const counter *)net_counters(devices->nets[i].device));
	for (unsigned i = 0; i < devices->pmem_count; i++)
		each(opaque, MACHINE_COUNTERS_PMEM, devices->pmem_ids[i],
		     (const counter *)pmem_counters(devices->pmems[i]));
	if (devices->vsock)
		each(opaque, MACHINE_COUNTERS_VSOCK, NULL, (const counter *)vsock_counters(devices->vsock));
	if (devices->rng)
		each(opaque, MACHINE_COUNTERS_RNG, NULL, (const counter *)rng_counters(devices->rng));
	if (devices->balloon)
		each(opaque, MACHINE_COUNTERS_BALLOON, NULL, (const counter *)balloon_counters(devices->balloon));
	for (unsigned i = 0; i < devices->count; i++)
		if (devices->slots[i].device)
			each(opaque, MACHINE_COUNTERS_INTERRUPTS, NULL,
			     (const counter *)&devices->slots[i].device->interrupts);
}

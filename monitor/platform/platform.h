/* SPDX-License-Identifier: Apache-2.0 */
/* The platform's fixed addresses, and the devices' interface to the machine. */
#ifndef RIFFLE_MONITOR_PLATFORM_H
#define RIFFLE_MONITOR_PLATFORM_H

#include <stdbool.h>
#include <stdint.h>

#include "monitor/core/vm.h"

#define PORT_I8042_DATA 0x60u
#define PORT_I8042_COMMAND 0x64u
#define PORT_CMOS 0x70u
#define PORT_BOOT_TIMER 0xf4u
#define PORT_COM1 0x3f8u
#define PORT_PM 0x600u /* ACPI's fixed registers: PM1 status, PM1 enable, PM1 control, 2 bytes each */
#define PORT_RESET 0xcf9u
#define RESET_VALUE 0x06u
#define MMIO_BOOT_TIMER UINT64_C(0xc0000000)

/* BIOS data area: the kind of reset */
#define BIOS_RESET_MODE 0x472u
#define BIOS_WARM_RESET 0x1234u

#define IRQ_KEYBOARD 1u
#define IRQ_COM1 4u

/* The machine as its devices see it; tests substitute their own. */
struct platform {
	void (*set_irq)(void *opaque, unsigned irq, bool level);
	void (*end)(void *opaque, enum vm_end end); /* the guest asked for this end; returns */
	void (*input_wanted)(void *opaque);         /* the serial port has room again for console input */
	void *opaque;
};

#endif

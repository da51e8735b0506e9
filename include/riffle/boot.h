/* SPDX-License-Identifier: Apache-2.0 */
/* What a kernel finds when it starts: boot_params, e820, page tables, ACPI, registers for the 64-bit entry. */
#ifndef RIFFLE_BOOT_H
#define RIFFLE_BOOT_H

#include <riffle/load.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Not written yet: see lib/boot. */

#ifdef __cplusplus
}
#endif
#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* Where x86-64 Linux maps its image: link_virt is this plus link_phys. */
#ifndef RIFFLE_COMMON_KERNEL_MAP_H
#define RIFFLE_COMMON_KERNEL_MAP_H

#include <stdint.h>

/* arch/x86/include/asm/page_64_types.h: __START_KERNEL_map, unchanged since 2.6 */
#define START_KERNEL_MAP UINT64_C(0xffffffff80000000)

#endif

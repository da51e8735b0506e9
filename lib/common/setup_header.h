/* SPDX-License-Identifier: Apache-2.0 */
/* The setup header of the Linux boot protocol, for the library's zero page and for kernel images that riffle writes. */
#ifndef RIFFLE_COMMON_SETUP_HEADER_H
#define RIFFLE_COMMON_SETUP_HEADER_H

#include <stddef.h>
#include <stdint.h>

#include <riffle/plan.h>

/*
 * The setup header is zero page bytes 0x1f1 to 0x270. RBOOT_HDR converts a field's zero page offset, which boot.rst
 * gives, into an offset in struct riffle_boot_setup.
 */
#define RBOOT_HDR_START 0x1f1u
#define RBOOT_HDR_BYTES 128u
#define RBOOT_HDR(field) ((field)-RBOOT_HDR_START)

#define RBOOT_ROOT_FLAGS 0x1f2u
#define RBOOT_SYSSIZE 0x1f4u
#define RBOOT_VID_MODE 0x1fau
#define RBOOT_BOOT_FLAG 0x1feu
#define RBOOT_JUMP 0x200u
#define RBOOT_MAGIC 0x202u
#define RBOOT_VERSION 0x206u
#define RBOOT_TYPE_OF_LOADER 0x210u
#define RBOOT_LOADFLAGS 0x211u
#define RBOOT_CODE32_START 0x214u
#define RBOOT_RAMDISK_IMAGE 0x218u
#define RBOOT_RAMDISK_SIZE 0x21cu
#define RBOOT_CMD_LINE_PTR 0x228u
#define RBOOT_INITRD_ADDR_MAX 0x22cu
#define RBOOT_KERNEL_ALIGNMENT 0x230u
#define RBOOT_RELOCATABLE 0x234u
#define RBOOT_MIN_ALIGNMENT 0x235u
#define RBOOT_XLOADFLAGS 0x236u
#define RBOOT_CMDLINE_SIZE 0x238u
#define RBOOT_SETUP_DATA_PTR 0x250u
#define RBOOT_PREF_ADDRESS 0x258u
#define RBOOT_INIT_SIZE 0x260u

#define RBOOT_LOADER_UNDEFINED 0xffu /* boot.rst: a loader without an assigned number */

#define RBOOT_LOADED_HIGH 1u
#define RBOOT_KASLR_FLAG 2u
#define RBOOT_XLF_KERNEL_64 1u

struct riffle_boot_setup {
	uint8_t bytes[RBOOT_HDR_BYTES];
};

/* A bzImage's header (`available` bytes from 0x1f1 on), without what lies after its end. Errors: FORMAT. */
int riffle_boot_setup_take(struct riffle_boot_setup *setup, const uint8_t *from, size_t available,
			   struct riffle_error *error);
/* The plan's header, or a synthesised one if the plan has none or is NULL. Errors: FORMAT. */
int riffle_boot_setup_from_plan(struct riffle_boot_setup *setup, const struct riffle_plan *plan,
				struct riffle_error *error);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The setup header that goes into the zero page: the bzImage's own, or a synthesised one for a kernel that came
 * without.
 */
#include "boot/internal.h"

#include "common/bytes.h"
#include "common/fail.h"

#define BOOT_FLAG 0xaa55u
#define MAGIC 0x53726448u               /* "HdrS" */
#define MADE_UP_VERSION 0x020fu         /* 2.15, Linux 5.5 */
#define MADE_UP_CMDLINE_SIZE 2047u      /* COMMAND_LINE_SIZE - 1 of arch/x86/include/asm/setup.h */
#define INITRD_ADDR_MAX 0x7fffffffu     /* arch/x86/boot/header.S */
#define OLD_INITRD_ADDR_MAX 0x37ffffffu /* boot.rst: protocol 2.02 and earlier */
#define OLD_CMDLINE_SIZE 255u           /* boot.rst: protocol 2.05 and earlier */
#define VID_MODE_NORMAL 0xffffu

int riffle_boot_setup_take(struct riffle_boot_setup *setup, const uint8_t *from, size_t available,
			   struct riffle_error *error)
{
	size_t end;

	memset(setup, 0, sizeof *setup);
	if (available < RBOOT_HDR(RBOOT_VERSION + 2))
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "setup header", "is truncated", available,
					    RBOOT_HDR(RBOOT_VERSION + 2));
	if (riffle_get16(from + RBOOT_HDR(RBOOT_BOOT_FLAG)) != BOOT_FLAG)
		return riffle_fail_expected_as(error, RIFFLE_ERR_FORMAT, RIFFLE_SHOW_HEX, "boot_flag",
					       "is not a bzImage's", riffle_get16(from + RBOOT_HDR(RBOOT_BOOT_FLAG)),
					       BOOT_FLAG);
	if (riffle_get32(from + RBOOT_HDR(RBOOT_MAGIC)) != MAGIC)
		return riffle_fail_expected_as(error, RIFFLE_ERR_FORMAT, RIFFLE_SHOW_HEX, "setup header magic",
					       "is not \"HdrS\", as a bzImage has it",
					       riffle_get32(from + RBOOT_HDR(RBOOT_MAGIC)), MAGIC);
	/* the header ends at the target of the jump at 0x200 (boot.rst, 64-bit boot protocol), where code starts */
	end = RBOOT_HDR(RBOOT_MAGIC) + from[RBOOT_HDR(RBOOT_JUMP + 1)];
	if (end > RBOOT_HDR_BYTES)
		end = RBOOT_HDR_BYTES;
	if (end > available)
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "setup header", "is truncated", available, end);
	memcpy(setup->bytes, from, end);
	return RIFFLE_OK;
}

static void make_up(struct riffle_boot_setup *setup, const struct riffle_header *header)
{
	uint8_t *p = setup->bytes;

	memset(setup, 0, sizeof *setup);
	riffle_put16(p + RBOOT_HDR(RBOOT_ROOT_FLAGS), 1); /* root read-only by default, as in bzImages */
	riffle_put16(p + RBOOT_HDR(RBOOT_VID_MODE), VID_MODE_NORMAL);
	riffle_put16(p + RBOOT_HDR(RBOOT_BOOT_FLAG), BOOT_FLAG);
	riffle_put32(p + RBOOT_HDR(RBOOT_MAGIC), MAGIC);
	riffle_put16(p + RBOOT_HDR(RBOOT_VERSION), MADE_UP_VERSION);
	p[RBOOT_HDR(RBOOT_LOADFLAGS)] = RBOOT_LOADED_HIGH;
	riffle_put32(p + RBOOT_HDR(RBOOT_INITRD_ADDR_MAX), INITRD_ADDR_MAX);
	p[RBOOT_HDR(RBOOT_MIN_ALIGNMENT)] = 21; /* log2 of 2 MiB */
	riffle_put16(p + RBOOT_HDR(RBOOT_XLOADFLAGS), RBOOT_XLF_KERNEL_64);
	riffle_put32(p + RBOOT_HDR(RBOOT_CMDLINE_SIZE), MADE_UP_CMDLINE_SIZE);
	if (!header)
		return;
	riffle_put32(p + RBOOT_HDR(RBOOT_KERNEL_ALIGNMENT), (uint32_t)header->kernel_alignment);
	p[RBOOT_HDR(RBOOT_RELOCATABLE)] = header->flags & RIFFLE_KERNEL_RELOCATABLE ? 1 : 0;
	riffle_put64(p + RBOOT_HDR(RBOOT_PREF_ADDRESS), header->link_phys);
	riffle_put32(p + RBOOT_HDR(RBOOT_INIT_SIZE), (uint32_t)header->image_bytes);
}

int riffle_boot_setup_from_plan(struct riffle_boot_setup *setup, const struct riffle_plan *plan,
				struct riffle_error *error)
{
	if (plan && plan->header && plan->header->flags & RIFFLE_KERNEL_SETUP_HEADER)
		return riffle_boot_setup_take(setup, plan->header->setup_header, sizeof plan->header->setup_header,
					      error);
	make_up(setup, plan ? plan->header : NULL);
	return RIFFLE_OK;
}

static unsigned version(const struct riffle_boot_setup *setup)
{
	return riffle_get16(setup->bytes + RBOOT_HDR(RBOOT_VERSION));
}

uint32_t riffle_boot_setup_initrd_max(const struct riffle_boot_setup *setup)
{
	if (version(setup) < 0x0203)
		return OLD_INITRD_ADDR_MAX;
	return riffle_get32(setup->bytes + RBOOT_HDR(RBOOT_INITRD_ADDR_MAX));
}

uint32_t riffle_boot_setup_cmdline_max(const struct riffle_boot_setup *setup)
{
	if (version(setup) < 0x0206)
		return OLD_CMDLINE_SIZE;
	return riffle_get32(setup->bytes + RBOOT_HDR(RBOOT_CMDLINE_SIZE));
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Boots a bzImage as a bootloader does: puts its protected-mode part into guest memory and enters its 64-bit
 * decompressor.
 */
#include "boot/internal.h"

#include "common/bytes.h"
#include "common/fail.h"

#define SECTOR 512u
#define OLD_SETUP_SECTS 4u    /* boot.rst: setup_sects 0 means 4 */
#define ENTRY_64 0x200u       /* boot.rst, 64-bit boot protocol */
#define MIN_VERSION 0x020cu   /* the first with xloadflags */
#define MIN_HEADER_END 0x264u /* behind init_size */
#define ALIGNMENT_MIN 4096u

/* The parts of a bzImage. */
struct bzimage {
	struct riffle_boot_setup setup;
	const uint8_t *code; /* protected-mode part: the rest of the file */
	uint64_t code_bytes;
	uint64_t window; /* init_size: memory it needs from its start until the kernel has its own map */
	uint64_t preferred;
	uint64_t alignment;
	bool relocatable;
};

static int parse(struct bzimage *image, const uint8_t *file, size_t bytes, struct riffle_error *error)
{
	const uint8_t *h = image->setup.bytes;
	uint64_t code_start, said;
	int status;

	if (bytes < MIN_HEADER_END)
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "bzImage", "is too short for a setup header",
					    bytes, MIN_HEADER_END);
	if ((status = riffle_boot_setup_take(&image->setup, file + RBOOT_HDR_START, bytes - RBOOT_HDR_START, error)))
		return status;
	if (riffle_get16(h + RBOOT_HDR(RBOOT_VERSION)) < MIN_VERSION)
		return riffle_fail_expected_as(error, RIFFLE_ERR_UNSUPPORTED, RIFFLE_SHOW_VERSION,
					       "boot protocol version", "has no 64-bit entry",
					       riffle_get16(h + RBOOT_HDR(RBOOT_VERSION)), MIN_VERSION);
	if (!(riffle_get16(h + RBOOT_HDR(RBOOT_XLOADFLAGS)) & RBOOT_XLF_KERNEL_64))
		return riffle_fail_found_as(error, RIFFLE_ERR_UNSUPPORTED, RIFFLE_SHOW_HEX, "xloadflags",
					    "has no 64-bit entry", riffle_get16(h + RBOOT_HDR(RBOOT_XLOADFLAGS)));
	if (!(h[RBOOT_HDR(RBOOT_LOADFLAGS)] & RBOOT_LOADED_HIGH))
		return riffle_fail_found_as(error, RIFFLE_ERR_UNSUPPORTED, RIFFLE_SHOW_HEX, "loadflags",
					    "is not a bzImage's (LOADED_HIGH)", h[RBOOT_HDR(RBOOT_LOADFLAGS)]);

	code_start = ((uint64_t)(h[0] ? h[0] : OLD_SETUP_SECTS) + 1) * SECTOR;
	if (code_start + ENTRY_64 >= bytes)
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "setup_sects", "reaches past the end of the file",
					    code_start + ENTRY_64, bytes);
	image->code = file + code_start;
	image->code_bytes = bytes - code_start;
	/* in paragraphs: the last may be incomplete; what follows is not part of the kernel (a signature, padding) */
	said = (uint64_t)riffle_get32(h + RBOOT_HDR(RBOOT_SYSSIZE)) * 16;
	if (said > image->code_bytes + 15)
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "syssize", "reaches past the end of the file",
					    said, image->code_bytes);
	if (said > ENTRY_64 && said < image->code_bytes)
		image->code_bytes = said;
	image->window = riffle_get32(h + RBOOT_HDR(RBOOT_INIT_SIZE));
	if (image->window < image->code_bytes)
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "init_size", "is less than the code itself",
					    image->window, image->code_bytes);
	image->preferred = riffle_get64(h + RBOOT_HDR(RBOOT_PREF_ADDRESS));
	image->alignment = riffle_get32(h + RBOOT_HDR(RBOOT_KERNEL_ALIGNMENT));
	image->relocatable = h[RBOOT_HDR(RBOOT_RELOCATABLE)] != 0;
	if (image->relocatable && (image->alignment < ALIGNMENT_MIN || image->alignment & (image->alignment - 1)))
		return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "kernel_alignment",
					 "is not a power of two of at least a page", image->alignment);
	return RIFFLE_OK;
}

/*
 * The first address at or above *address where the window fits into `ram` without overlapping the initrd; false if
 * none.
 */
static bool fit(uint64_t *address, const struct bzimage *image, const struct riffle_ram *ram,
		const struct riffle_range *initrd)
{
	uint64_t at = *address, end = ram->address + ram->bytes;

	for (unsigned tries = 0; tries < 2; tries++) {
		if (at < RIFFLE_BOOT_LOW_END)
			at = RIFFLE_BOOT_LOW_END;
		if (at < ram->address)
			at = ram->address;
		if (at != *address && (!image->relocatable || !riffle_round_up(at, image->alignment, &at)))
			return false;
		if (!riffle_inside(at, image->window, end))
			return false;
		if (!riffle_boot_overlap(at, image->window, initrd->address, initrd->bytes)) {
			*address = at;
			return true;
		}
		at = initrd->address + initrd->bytes;
	}
	return false;
}

/*
 * The decompressor moves up to the preferred address if it starts lower (arch/x86/boot/compressed/head_64.S), so lower
 * addresses are useless. A kernel that is not relocatable only has that address.
 */
static int place(uint64_t *address, const struct bzimage *image, const struct riffle_boot_map *map,
		 const struct riffle_range *initrd, struct riffle_error *error)
{
	for (const struct riffle_ram *ram = riffle_boot_map_next(map, 0); ram;
	     ram = riffle_boot_map_next(map, ram->address + ram->bytes)) {
		*address = image->preferred;
		if (ram->host && fit(address, image, ram, initrd))
			return RIFFLE_OK;
	}
	return riffle_fail_found(error, RIFFLE_ERR_SPACE, "init_size",
				 "no stretch of RAM holds the kernel while it unpacks", image->window);
}

int riffle_boot_write_bzimage(struct riffle_boot_registers *registers, const struct riffle_machine *machine,
			      const void *bzimage, size_t bzimage_bytes, struct riffle_error *error)
{
	struct riffle_range kernel, initrd = {machine->initrd_address, machine->initrd_bytes};
	struct riffle_boot_map map;
	struct bzimage image;
	uint64_t unused;
	int status;

	if ((status = riffle_boot_map_init(&map, machine, error)) ||
	    (status = parse(&image, bzimage, bzimage_bytes, error)))
		return status;
	if (__builtin_add_overflow(initrd.address, initrd.bytes, &unused))
		return riffle_fail_found(error, RIFFLE_ERR_ARGUMENT, "initrd_address", "wraps", initrd.address);
	kernel.bytes = image.window;
	if ((status = place(&kernel.address, &image, &map, &initrd, error)))
		return status;
	/* not read on the 64-bit path, but correct if it fits the field */
	if (kernel.address <= UINT32_MAX)
		riffle_put32(image.setup.bytes + RBOOT_HDR(RBOOT_CODE32_START), (uint32_t)kernel.address);
	status =
	    riffle_boot_write_all(registers, &map, machine, &image.setup, &kernel, kernel.address + ENTRY_64, error);
	if (status)
		return status;
	memcpy(riffle_boot_map_host(&map, kernel.address, image.code_bytes), image.code, image.code_bytes);
	return RIFFLE_OK;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Identifies a file that is not an x86-64 kernel by its first bytes. */
#include <elf.h>

#include "prepare/image/internal.h"

/* Formats that have their mark in one place; the first that fits is told. */
static const struct {
	uint32_t at;
	uint8_t bytes;
	const char *mark;
	const char *problem;
} kinds[] = {
    {0, 6, "070701", "is an initrd (a cpio archive), not a kernel"},
    {0, 6, "070702", "is an initrd (a cpio archive), not a kernel"},
    {0, 6, "070707", "is an initrd (a cpio archive), not a kernel"},
    {0, 2, "\xc7\x71", "is an initrd (a cpio archive), not a kernel"},
    {0x38, 4, "ARM\x64", "is a kernel for arm64"},
    {0x38, 4, "RSC\x05", "is a kernel for RISC-V"},
    {0x38, 4, "\xcd\x23\x82\x81", "is a kernel for LoongArch"},
    {0x24, 4, "\x18\x28\x6f\x01", "is a kernel for 32-bit ARM (a zImage)"},
    {0, 4, "\x27\x05\x19\x56", "is a U-Boot image (uImage), not a kernel for x86-64"},
    {0, 4, "\xd0\x0d\xfe\xed", "is a device tree or FIT image, not a kernel"},
    {0, 14, "!<arch>\ndebian", "is a Debian package: the kernel is in it, as boot/vmlinuz-*"},
    {0, 8, "!<arch>\n", "is an archive of object files (ar), not a kernel"},
    {0, 4, "\xed\xab\xee\xdb", "is an RPM package: the kernel is in it"},
    {0, 4, "PK\x03\x04", "is a zip archive, not a kernel"},
    {0x101, 5, "ustar", "is a tar archive, not a kernel"},
    {0, 4, "QFI\xfb", "is a disk image (qcow2), not a kernel"},
    {0, 4, "hsqs", "is a file system (squashfs), not a kernel"},
    {0, 4, "BZh9", "is compressed by bzip2: bunzip2 it first"},
    {0, 4, "\x02\x21\x4c\x18", "is compressed by lz4: unlz4 it first"},
    {0, 4, "\x04\x22\x4d\x18", "is compressed by lz4: unlz4 it first"},
    {0, 4, "\x89LZO", "is compressed by lzop: lzop -d it first"},
    {0, 3, "\x5d\x00\x00", "is compressed by lzma: unlzma it first"},
    {0, 2, "#!", "is a script, not a kernel"},
};

static const char *pe_problem(uint16_t machine)
{
	switch (machine) {
	case 0x8664:
		return "is an EFI program (PE) without a kernel in it: there is no section .linux";
	case 0xaa64:
		return "is an EFI program (PE) for arm64";
	case 0x14c:
		return "is an EFI program (PE) for 32-bit x86";
	default:
		return "is an EFI program (PE) for another machine";
	}
}

int image_not_a_kernel(const uint8_t *head, uint64_t bytes, const struct uki *uki, struct riffle_error *error)
{
	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
		if (riffle_inside(kinds[i].at, kinds[i].bytes, bytes) &&
		    !memcmp(head + kinds[i].at, kinds[i].mark, kinds[i].bytes))
			return riffle_fail(error, RIFFLE_ERR_FORMAT, "kernel file", kinds[i].problem);
	if (uki && uki->is_pe)
		return riffle_fail_found_as(error, RIFFLE_ERR_FORMAT, RIFFLE_SHOW_HEX, "kernel file",
					    pe_problem(uki->machine), uki->machine);
	if (bytes >= 0x200 && riffle_get16(head + 0x1fe) == 0xaa55)
		return riffle_fail(error, RIFFLE_ERR_FORMAT, "kernel file",
				   "is a boot sector or disk image, not a kernel");
	return riffle_fail(error, RIFFLE_ERR_FORMAT, "kernel file", "is neither a bzImage nor an ELF file");
}

const char *image_elf_machine(uint16_t machine)
{
	switch (machine) {
	case EM_386:
		return "is 32-bit x86, not x86-64";
	case EM_AARCH64:
		return "is arm64, not x86-64";
	case EM_ARM:
		return "is 32-bit ARM, not x86-64";
	case EM_RISCV:
		return "is RISC-V, not x86-64";
	case EM_PPC64:
		return "is 64-bit PowerPC, not x86-64";
	case EM_S390:
		return "is s390, not x86-64";
	default:
		return "is not x86-64";
	}
}

const char *image_elf_type(uint16_t type)
{
	switch (type) {
	case ET_REL:
		return "is that of an object file, such as a kernel module, not of a kernel";
	case ET_DYN:
		return "is that of a shared library or a program, not of a kernel";
	case ET_CORE:
		return "is that of a core dump, not of a kernel";
	default:
		return "is not that of an executable";
	}
}

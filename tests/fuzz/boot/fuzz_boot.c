/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzzes lib/boot: booting a bzImage directly, and setup headers of prepared kernels, in a small guest. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "tests/fuzz/accepted.h"
#include <riffle/boot.h>

#define GUEST_BYTES (UINT64_C(48) << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* byte 0: bit 0 a bzImage or a setup header, the rest an initrd's size in 128 KiB; the tables by how long the input is
 */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct riffle_ram ram = {0, GUEST_BYTES, NULL};
	static struct riffle_header header = {.kernel_alignment = 2 << 20, .flags = RIFFLE_KERNEL_SETUP_HEADER};
	struct riffle_machine machine = {.ram = &ram, .ram_count = 1, .vcpus = 2, .command_line = "console=ttyS0"};
	struct riffle_plan plan = {.header = &header};
	struct riffle_loaded loaded = {.entry = 17 << 20, .physical_base = 16 << 20, .end = 24 << 20, .loadflags = 2};
	struct riffle_boot_registers registers;
	struct riffle_error error;
	uint8_t setup_header[RIFFLE_BOOT_SETUP_HEADER_BYTES];
	uint8_t *exact;

	if (!ram.host)
		ram.host =
		    mmap(NULL, GUEST_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (!size || ram.host == MAP_FAILED)
		return 0;
	machine.initrd_bytes = (uint64_t)(data[0] >> 1) << 17;
	machine.tables = size % 32;
	if (data[0] & 1) {
		memset(header.setup_header, 0, sizeof header.setup_header);
		memcpy(header.setup_header, data + 1,
		       size - 1 < sizeof header.setup_header ? size - 1 : sizeof header.setup_header);
		if (!riffle_boot_place_initrd(&machine.initrd_address, &machine, &plan, machine.initrd_bytes, &error) &&
		    !riffle_boot_write(&registers, &machine, &plan, &loaded, &error)) {
			fuzz_accepted++;
			if (riffle_boot_setup_header(setup_header, &plan, &loaded, &error))
				abort(); /* a bootable kernel has a header */
		}
		return 0;
	}
	exact = malloc(size);
	memcpy(exact, data + 1, size - 1);
	if (!riffle_boot_place_initrd(&machine.initrd_address, &machine, NULL, machine.initrd_bytes, &error) &&
	    !riffle_boot_write_bzimage(&registers, &machine, exact, size - 1, &error)) {
		fuzz_accepted++;
		if (registers.rip >= GUEST_BYTES)
			abort();
	}
	free(exact);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* A guest without KVM for the boot tests: lazily backed RAM with the hole below 4 GiB, and a machine that has it. */
#ifndef RIFFLE_TESTS_BOOT_GUEST_H
#define RIFFLE_TESTS_BOOT_GUEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include <cmocka.h>

#include <riffle/boot.h>

#include "common/bytes.h"

#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)

struct guest {
	struct riffle_ram ram[2];
	struct riffle_machine machine;
	uint8_t *low; /* host address of guest address 0 */
	uint64_t bytes;
};

static inline void guest_make(struct guest *guest, uint64_t bytes)
{
	uint64_t low = bytes < RIFFLE_BOOT_HOLE_START ? bytes : RIFFLE_BOOT_HOLE_START;
	uint8_t *host = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (host == MAP_FAILED)
		abort();
	*guest = (struct guest){.low = host, .bytes = bytes};
	guest->ram[0] = (struct riffle_ram){0, low, host};
	guest->ram[1] = (struct riffle_ram){RIFFLE_BOOT_HOLE_END, bytes - low, host + low};
	guest->machine = (struct riffle_machine){
	    .ram = guest->ram,
	    .ram_count = bytes > low ? 2 : 1,
	    .vcpus = 1,
	    .flags = RIFFLE_MACHINE_I8042 | RIFFLE_MACHINE_RTC,
	    .command_line = "console=ttyS0",
	    .sleep_control_port = 0x600,
	    .reset_port = 0xcf9,
	    .reset_value = 6,
	};
}

static inline void guest_free(struct guest *guest)
{
	munmap(guest->low, guest->bytes);
}

/* a kernel of 8 MiB at `base`, entered in its middle */
static inline struct riffle_loaded guest_kernel(uint64_t base)
{
	return (struct riffle_loaded){
	    .entry = base + 4 * MIB,
	    .physical_base = base,
	    .virtual_base = UINT64_C(0xffffffff80000000) + base,
	    .end = base + 8 * MIB,
	    .loadflags = 2,
	};
}

static inline struct riffle_plan guest_plan(struct riffle_header *header)
{
	*header = (struct riffle_header){
	    .link_phys = 16 * MIB,
	    .link_virt = UINT64_C(0xffffffff81000000),
	    .image_bytes = 8 * MIB,
	    .kernel_alignment = 2 * MIB,
	    .flags = RIFFLE_KERNEL_RELOCATABLE,
	};
	return (struct riffle_plan){.header = header};
}

/* Walks the tables for one address; 0 when it is not mapped. */
static inline uint64_t guest_entry_of(const struct guest *guest, uint64_t address)
{
	const uint64_t frame = UINT64_C(0x000ffffffffff000);
	uint64_t entry = RIFFLE_BOOT_PML4 | 1;

	for (int shift = 39; shift >= 21; shift -= 9) {
		entry = riffle_get64(guest->low + (entry & frame) + (address >> shift & 511) * 8);
		if (!(entry & 1))
			return 0;
		if (entry & 0x80)
			return (entry & frame) == (address >> shift << shift) ? entry : 0;
	}
	return 0;
}

/* fails the test with the library's own words */
static inline void expect_ok(int status, const struct riffle_error *error)
{
	char text[256];

	if (!status)
		return;
	riffle_error_format(error, text, sizeof text);
	fail_msg("%s", text);
}

static inline void expect_error(int status, const struct riffle_error *error, enum riffle_status wanted,
				const char *field)
{
	assert_int_equal(status, wanted);
	assert_int_equal(error->status, wanted);
	assert_string_equal(error->field, field);
	assert_non_null(error->problem);
}

#endif

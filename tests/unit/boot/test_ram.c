/* SPDX-License-Identifier: Apache-2.0 */
/* RAM as monitors lay it out: initrd, layout and boot agree on each, and what is impossible is said. */
#include "guest.h"

#include <riffle/layout.h>

#define PAGE 4096u
#define DRAWS 64
#define KERNEL (8 * MIB) /* guest_kernel()'s */
#define INITRD (3 * MIB + 5)
#define BARE (RIFFLE_TABLES_ZERO_PAGE | RIFFLE_TABLES_E820 | RIFFLE_TABLES_ENTRY)
#define MANY 118u

static struct riffle_error error;

struct row {
	const char *name;
	unsigned tables; /* RIFFLE_TABLES_* */
	unsigned flags;
	struct riffle_range ram[6];
	uint64_t initrd_end; /* of the part of RAM whose end it takes; 0: it fits nowhere */
	bool fits;           /* does the kernel? */
};

static const struct row rows[] = {
    {"a hole from 0xd0000000", 0, 0, {{0, 0xd0000000}, {4 * GIB, GIB}}, 2 * GIB, true},
    {"the upper part first", 0, 0, {{4 * GIB, GIB}, {0, 0xd0000000}}, 2 * GIB, true},
    {"up to a page below 0xd0000000", 0, 0, {{0, 0xd0000000 - PAGE}}, 2 * GIB, true},
    {"up to above 0xd0000000", 0, 0, {{0, 0xe0000000}}, 2 * GIB, true},
    {"up to the first APIC", 0, 0, {{0, 0xfec00000}}, 2 * GIB, true},
    {"a hole from 0xb0000000 to 6 GiB", 0, 0, {{0, 0xb0000000}, {6 * GIB, GIB}}, 2 * GIB, true},
    {"without a hole or APICs", BARE, 0, {{0, 6 * GIB}}, 2 * GIB, true},
    {"from 1 MiB and three pages on", BARE, 0, {{0, 0x9f000}, {MIB + 3 * PAGE, 47 * MIB}}, 48 * MIB + 3 * PAGE, true},
    {"low memory, then from 16 MiB on", BARE, 0, {{0, 0xa0000}, {16 * MIB, 16 * MIB}}, 32 * MIB, true},
    {"a hole at 15 MiB", 0, 0, {{0, 15 * MIB}, {16 * MIB, 64 * MIB}}, 80 * MIB, true},
    {"odd pages and gaps",
     0,
     0,
     {{0, 17 * MIB + PAGE}, {17 * MIB + 3 * PAGE, 11 * MIB}, {30 * MIB + PAGE, 10 * MIB - PAGE}, {41 * MIB, 2 * MIB}},
     40 * MIB,
     true},
    {"beyond a gap above 4 GiB alone", 0, 0, {{0, MIB}, {8 * GIB, 256 * MIB}}, 0, true},
    {"from an odd page above 1 TiB on", 0, 0, {{0, MIB}, {1024 * GIB + PAGE, 64 * MIB}}, 0, true},
    {"most that pages of 2 MiB map", 0, 0, {{0, 3 * GIB}, {4 * GIB, 113 * GIB}}, 2 * GIB, true},
    {"more, by pages of 1 GiB", 0, RIFFLE_MACHINE_GIB_PAGES, {{0, 3 * GIB}, {1024 * GIB, 1024 * GIB}}, 2 * GIB, true},
    {"just the kernel", BARE, 0, {{0, 0xa0000}, {16 * MIB, KERNEL}, {30 * MIB, 4 * MIB}}, 34 * MIB, true},
    /* impossible */
    {"a page less than the kernel",
     BARE,
     0,
     {{0, 0xa0000}, {16 * MIB, KERNEL - PAGE}, {30 * MIB, 4 * MIB}},
     34 * MIB,
     false},
    {"nothing above 1 MiB", 0, 0, {{0, MIB}}, 0, false},
    {"ranges shorter than the kernel",
     0,
     0,
     {{0, 16 * MIB}, {16 * MIB, 7 * MIB}, {23 * MIB, 7 * MIB}},
     30 * MIB,
     false},
};

static void set_ram(struct guest *guest, struct riffle_ram *ram, const struct riffle_range *ranges, size_t count)
{
	guest->machine.ram = ram;
	guest->machine.ram_count = 0;
	for (size_t i = 0; i < count && ranges[i].bytes; i++)
		ram[guest->machine.ram_count++] =
		    (struct riffle_ram){ranges[i].address, ranges[i].bytes, ranges[i].address ? NULL : guest->low};
}

/* Is this byte of RAM, by the ranges alone? */
static bool is_ram(const struct riffle_machine *m, uint64_t address)
{
	for (size_t i = 0; i < m->ram_count; i++)
		if (address >= m->ram[i].address && address - m->ram[i].address < m->ram[i].bytes)
			return true;
	return false;
}

/* Is it RAM by the e820 map? Entries ascend and do not overlap. */
static bool is_listed(const struct guest *guest, uint64_t address)
{
	const uint8_t *page = guest->low + RIFFLE_BOOT_ZERO_PAGE, *e = page + 0x2d0;
	uint64_t end = 0;
	bool found = false;

	for (unsigned i = 0; i < page[0x1e8]; i++, e += 20) {
		uint64_t start = riffle_get64(e);

		assert_true(start >= end);
		end = start + riffle_get64(e + 8);
		assert_true(end > start);
		found |= address >= start && address < end && riffle_get32(e + 16) == 1;
	}
	return found;
}

/* Around both ends of each range: what e820 lists is what there is, and mapped. */
static void check_map(const struct guest *guest)
{
	for (size_t i = 0; i < guest->machine.ram_count; i++) {
		const struct riffle_ram *ram = &guest->machine.ram[i];
		const uint64_t at[] = {ram->address - 1, ram->address, ram->address + ram->bytes / 2,
				       ram->address + ram->bytes - 1, ram->address + ram->bytes};

		for (unsigned k = 0; k < sizeof at / sizeof *at; k++) {
			bool there = is_ram(&guest->machine, at[k]);

			if (at[k] < 0x9fc00 || (at[k] >= MIB && at[k] < UINT64_MAX))
				assert_int_equal(is_listed(guest, at[k]), there);
			if (there)
				assert_true(guest_entry_of(guest, at[k]));
		}
	}
}

static bool overlaps(uint64_t a, uint64_t a_bytes, uint64_t b, uint64_t b_bytes)
{
	return a < b + b_bytes && b < a + a_bytes;
}

static struct riffle_memory memory_of(const struct guest *guest, struct riffle_range reserved[2])
{
	size_t count = riffle_boot_reserved(&guest->machine, reserved, 2);

	return (struct riffle_memory){guest->machine.ram, guest->machine.ram_count, reserved, count};
}

/* The kernel's places, one by one. */
static uint64_t count_places(const struct riffle_memory *m)
{
	uint64_t count = 0;

	for (size_t i = 0; i < m->ram_count; i++) {
		const uint64_t start = m->ram[i].address, end = start + m->ram[i].bytes;

		for (uint64_t at = 16 * MIB > start ? 16 * MIB : (start + 2 * MIB - 1) / (2 * MIB) * (2 * MIB);
		     at + KERNEL <= end; at += 2 * MIB) {
			bool taken = false;

			for (size_t r = 0; r < m->reserved_count; r++)
				taken |= overlaps(at, KERNEL, m->reserved[r].address, m->reserved[r].bytes);
			count += !taken;
		}
	}
	return count;
}

static void draw_and_write(struct guest *guest, const struct riffle_plan *plan)
{
	struct riffle_boot_registers registers;
	struct riffle_layout layout = RIFFLE_LAYOUT_INIT;
	struct riffle_range reserved[2];
	struct riffle_memory memory = memory_of(guest, reserved);
	struct riffle_loaded loaded;

	expect_ok(riffle_layout_draw(&layout, plan, &memory, RIFFLE_MODE_KASLR, NULL, &error), &error);
	assert_true(layout.physical_base >= 16 * MIB && layout.physical_base % (2 * MIB) == 0);
	for (uint64_t at = 0; at < KERNEL; at += PAGE)
		assert_true(is_ram(&guest->machine, layout.physical_base + at));
	for (size_t i = 0; i < memory.reserved_count; i++)
		assert_false(overlaps(layout.physical_base, KERNEL, reserved[i].address, reserved[i].bytes));
	loaded = guest_kernel(layout.physical_base);
	memset(guest->low, 0x5a, 0xa0000);
	expect_ok(riffle_boot_write(&registers, &guest->machine, plan, &loaded, &error), &error);
	assert_int_equal(registers.rip, layout.physical_base + 4 * MIB);
	assert_true(guest_entry_of(guest, layout.physical_base) &&
		    guest_entry_of(guest, layout.physical_base + KERNEL - 1));
	check_map(guest);
}

static void check_row(const struct row *row)
{
	struct riffle_header header;
	struct riffle_plan plan = guest_plan(&header);
	struct riffle_range reserved[2];
	struct riffle_memory memory;
	struct riffle_slots slots;
	struct riffle_ram ram[6];
	struct guest guest;
	int status;

	print_message("%s\n", row->name);
	header.window_bytes = GIB;
	guest_make(&guest, 2 * MIB);
	set_ram(&guest, ram, row->ram, 6);
	guest.machine.tables = row->tables;
	guest.machine.flags |= row->flags;
	if (row->tables)
		guest.machine.reset_port = guest.machine.sleep_control_port = 0;
	status = riffle_boot_place_initrd(&guest.machine.initrd_address, &guest.machine, &plan, INITRD, &error);
	if (row->initrd_end) {
		expect_ok(status, &error);
		assert_int_equal(guest.machine.initrd_address, row->initrd_end - 3 * MIB - PAGE);
		guest.machine.initrd_bytes = INITRD;
	}
	memory = memory_of(&guest, reserved);
	status = riffle_layout_slots(&slots, &plan, &memory, RIFFLE_MODE_KASLR, &error);
	if (!row->fits) {
		expect_error(status, &error, RIFFLE_ERR_SPACE, "guest memory");
		assert_int_equal(error.found, KERNEL);
	} else {
		expect_ok(status, &error);
		assert_int_equal(slots.physical, count_places(&memory));
		for (unsigned i = 0; i < DRAWS; i++)
			draw_and_write(&guest, &plan);
	}
	guest_free(&guest);
}

static void test_layouts_of_ram(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		check_row(&rows[i]);
}

/* As many pieces as e820 lists, a page apart, the kernel in any of those that hold it. */
static void test_many_pieces(void **state)
{
	static struct riffle_ram ram[MANY];
	struct riffle_header header;
	struct riffle_plan plan = guest_plan(&header);
	struct guest guest;

	(void)state;
	header.window_bytes = GIB;
	guest_make(&guest, 2 * MIB);
	ram[0] = (struct riffle_ram){0, MIB, guest.low};
	for (uint64_t i = 1; i < MANY; i++) /* 12 MiB are needed for each place of the kernel, whatever the offset */
		ram[MANY - i] = (struct riffle_ram){i * 16 * MIB, (i % 2 ? 12 * MIB : 4 * MIB) - PAGE, NULL};
	guest.machine.ram = ram;
	guest.machine.ram_count = MANY;
	for (unsigned i = 0; i < DRAWS; i++)
		draw_and_write(&guest, &plan);
	assert_int_equal(guest.low[RIFFLE_BOOT_ZERO_PAGE + 0x1e8], MANY + 1);
	guest_free(&guest);
}

/* An initrd of a machine whose RAM is out of its reach, and RAM that the page tables do not reach. */
static void test_impossible_ram(void **state)
{
	static const struct riffle_range above[] = {{0, MIB}, {4 * GIB, GIB}},
					 much[] = {{0, 3 * GIB}, {4 * GIB, 114 * GIB}}, apic[] = {{0, 0xfec01000}},
					 late[] = {{PAGE, GIB}};
	struct riffle_boot_registers registers;
	struct riffle_header header;
	struct riffle_plan plan = guest_plan(&header);
	struct riffle_loaded loaded = guest_kernel(32 * MIB);
	struct riffle_ram ram[2];
	struct guest guest;
	uint64_t initrd;

	(void)state;
	guest_make(&guest, 2 * MIB);
	set_ram(&guest, ram, above, 2);
	expect_error(riffle_boot_place_initrd(&initrd, &guest.machine, &plan, INITRD, &error), &error, RIFFLE_ERR_SPACE,
		     "initrd");
	assert_int_equal(error.found, INITRD);
	assert_int_equal(error.expected, 0);
	set_ram(&guest, ram, much, 2);
	expect_error(riffle_boot_write(&registers, &guest.machine, &plan, &loaded, &error), &error, RIFFLE_ERR_SPACE,
		     "ram");
	assert_int_equal(error.found, 117 * GIB);
	set_ram(&guest, ram, apic, 1);
	expect_error(riffle_boot_write(&registers, &guest.machine, &plan, &loaded, &error), &error, RIFFLE_ERR_ARGUMENT,
		     "ram");
	assert_int_equal(error.found, 0xfec00000);
	/* no RAM at 0, which zero page and tables need */
	set_ram(&guest, ram, late, 1);
	ram[0].host = guest.low;
	expect_error(riffle_boot_write(&registers, &guest.machine, &plan, &loaded, &error), &error, RIFFLE_ERR_ARGUMENT,
		     "ram");
	assert_int_equal(error.expected, MIB);
	guest_free(&guest);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_layouts_of_ram),
	    cmocka_unit_test(test_many_pieces),
	    cmocka_unit_test(test_impossible_ram),
	};
	return cmocka_run_group_tests_name("ram", tests, NULL, NULL);
}

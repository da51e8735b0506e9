/* SPDX-License-Identifier: Apache-2.0 */
/* A monitor's choices: which tables riffle_boot_write() writes, where RAM is, and its own boot code. */
#include "guest.h"

#define PAGE 4096u

static struct riffle_error error;

static int write_to(const struct guest *guest, struct riffle_boot_registers *registers, uint64_t kernel_base)
{
	struct riffle_header header;
	struct riffle_plan plan = guest_plan(&header);
	struct riffle_loaded loaded = guest_kernel(kernel_base);

	return riffle_boot_write(registers, &guest->machine, &plan, &loaded, &error);
}

static uint64_t page64(const struct guest *guest, unsigned offset)
{
	return riffle_get64(guest->low + RIFFLE_BOOT_ZERO_PAGE + offset);
}

/* --- tables --- */

/* Is every byte of [start, end) still the pattern? */
static bool untouched(const struct guest *guest, uint32_t start, uint32_t end)
{
	for (uint32_t at = start; at < end; at++)
		if (guest->low[at] != 0x5a)
			return false;
	return true;
}

static void make_bare(struct guest *guest, unsigned tables)
{
	guest_make(guest, 64 * MIB);
	memset(guest->low, 0x5a, MIB);
	guest->machine.tables = tables;
	if (tables && !(tables & RIFFLE_TABLES_ACPI))
		guest->machine.reset_port = guest->machine.sleep_control_port = 0;
}

static void check_tables(unsigned tables)
{
	const bool all = !tables;
	struct riffle_boot_registers registers;
	struct guest guest;

	make_bare(&guest, tables);
	expect_ok(write_to(&guest, &registers, 32 * MIB), &error);
	assert_int_equal(registers.rip, 36 * MIB);
	assert_int_equal(registers.rsi, RIFFLE_BOOT_ZERO_PAGE);
	assert_string_equal((char *)guest.low + RIFFLE_BOOT_CMDLINE, "console=ttyS0");
	assert_int_equal(guest.low[RIFFLE_BOOT_ZERO_PAGE + 0x1e8], all || tables & RIFFLE_TABLES_E820 ? 3 : 0);
	assert_int_equal(untouched(&guest, RIFFLE_BOOT_MP_TABLE, 0xa0000), !(all || tables & RIFFLE_TABLES_MP));
	assert_int_equal(untouched(&guest, RIFFLE_BOOT_ACPI, MIB), !(all || tables & RIFFLE_TABLES_ACPI));
	assert_int_equal(page64(&guest, 0x70), all || tables & RIFFLE_TABLES_ACPI ? RIFFLE_BOOT_ACPI : 0);
	if (all || tables & RIFFLE_TABLES_ENTRY) {
		assert_int_equal(registers.cr3, RIFFLE_BOOT_PML4);
		assert_int_equal(registers.gdt_address, RIFFLE_BOOT_GDT);
	} else {
		assert_true(untouched(&guest, RIFFLE_BOOT_GDT, RIFFLE_BOOT_GDT + 32));
		assert_true(untouched(&guest, RIFFLE_BOOT_PML4, RIFFLE_BOOT_CMDLINE));
		assert_int_equal(registers.cr3 | registers.gdt_address | registers.gdt_bytes, 0);
	}
	guest_free(&guest);
}

static void test_tables_are_chosen(void **state)
{
	(void)state;
	for (unsigned tables = 0; tables < 32; tables++)
		check_tables(tables);
}

/* Without ACPI and MP tables, RAM below 1 MiB may be in pieces too: each one is listed, up to where the reserved range
 * begins. */
static void test_e820_of_pieces(void **state)
{
	static const struct riffle_range pieces[] = {
	    {0, 0x40000}, {0x50000, 0x10000}, {0x90000, 0x18000}, {0xa9000, 2 * MIB - 0xa9000}, {3 * MIB, 61 * MIB}};
	static const uint64_t wanted[][3] = {{0, 0x40000, 1},       {0x50000, 0x10000, 1}, {0x90000, 0xfc00, 1},
					     {0x9fc00, 0x60400, 2}, {MIB, MIB, 1},         {3 * MIB, 61 * MIB, 1}};
	struct riffle_boot_registers registers;
	struct riffle_ram ram[5];
	struct guest guest;

	(void)state;
	make_bare(&guest, RIFFLE_TABLES_E820);
	for (unsigned i = 0; i < 5; i++)
		ram[i] = (struct riffle_ram){pieces[i].address, pieces[i].bytes, guest.low + pieces[i].address};
	guest.machine.ram = ram;
	guest.machine.ram_count = 5;
	expect_ok(write_to(&guest, &registers, 32 * MIB), &error);
	assert_int_equal(guest.low[RIFFLE_BOOT_ZERO_PAGE + 0x1e8], 6);
	for (unsigned i = 0; i < 6; i++) {
		assert_int_equal(page64(&guest, 0x2d0 + i * 20), wanted[i][0]);
		assert_int_equal(page64(&guest, 0x2d8 + i * 20), wanted[i][1]);
		assert_int_equal(riffle_get32(guest.low + RIFFLE_BOOT_ZERO_PAGE + 0x2e0 + i * 20), wanted[i][2]);
	}
	guest_free(&guest);
}

static void test_own_rsdp(void **state)
{
	struct riffle_boot_registers registers;
	struct guest guest;

	(void)state;
	make_bare(&guest, RIFFLE_TABLES_ZERO_PAGE | RIFFLE_TABLES_E820);
	guest.machine.rsdp_address = 0xe1234;
	expect_ok(write_to(&guest, &registers, 32 * MIB), &error);
	assert_int_equal(page64(&guest, 0x70), 0xe1234);
	guest.machine.tables |= RIFFLE_TABLES_ACPI;
	expect_error(write_to(&guest, &registers, 32 * MIB), &error, RIFFLE_ERR_ARGUMENT, "rsdp_address");
	guest.machine.tables = RIFFLE_TABLES_ALL;
	expect_error(write_to(&guest, &registers, 32 * MIB), &error, RIFFLE_ERR_ARGUMENT, "rsdp_address");
	guest_free(&guest);
}

/* no request is silently ignored */
static void test_choices_are_checked(void **state)
{
	struct riffle_boot_device device = {"LNRO0005", 0xd0000000, 4096, 5};
	struct riffle_boot_registers registers;
	struct guest guest;

	(void)state;
	make_bare(&guest, RIFFLE_TABLES_E820);
	for (unsigned bit = 1; bit < 0x100; bit <<= 1) {
		guest.machine.flags = bit;
		if (bit < 8)
			expect_ok(write_to(&guest, &registers, 32 * MIB), &error);
		else
			expect_error(write_to(&guest, &registers, 32 * MIB), &error, RIFFLE_ERR_ARGUMENT, "flags");
	}
	guest.machine.flags = 0;
	guest.machine.tables = 32 | RIFFLE_TABLES_E820;
	expect_error(write_to(&guest, &registers, 32 * MIB), &error, RIFFLE_ERR_ARGUMENT, "tables");
	guest.machine.tables = RIFFLE_TABLES_E820;
	guest.machine.devices = &device;
	guest.machine.device_count = 1;
	expect_error(write_to(&guest, &registers, 32 * MIB), &error, RIFFLE_ERR_ARGUMENT, "tables");
	guest.machine.device_count = 0;
	guest.machine.reset_port = 0xcf9;
	expect_error(write_to(&guest, &registers, 32 * MIB), &error, RIFFLE_ERR_ARGUMENT, "tables");
	guest.machine.reset_port = 0;
	guest.machine.sleep_control_port = 0x600;
	expect_error(write_to(&guest, &registers, 32 * MIB), &error, RIFFLE_ERR_ARGUMENT, "tables");
	guest.machine.sleep_control_port = 0;
	guest.machine.vcpus = 500; /* its own tables describe them */
	expect_ok(write_to(&guest, &registers, 32 * MIB), &error);
	guest.machine.tables |= RIFFLE_TABLES_MP;
	expect_error(write_to(&guest, &registers, 32 * MIB), &error, RIFFLE_ERR_ARGUMENT, "vcpus");
	guest_free(&guest);
}

static void test_reserved_words_are_checked(void **state)
{
	struct riffle_boot_device device = {"LNRO0005", 0xd0000000, 4096, 5};
	struct riffle_boot_registers registers;
	struct riffle_header header;
	struct riffle_plan plan = guest_plan(&header);
	struct riffle_loaded loaded = guest_kernel(32 * MIB);
	struct guest guest;

	(void)state;
	guest_make(&guest, 64 * MIB);
	guest.machine.devices = &device;
	guest.machine.device_count = 1;
	for (unsigned i = 0; i < sizeof guest.machine.reserved_zero; i++) {
		guest.machine.reserved_zero[i] = 1;
		expect_error(write_to(&guest, &registers, 32 * MIB), &error, RIFFLE_ERR_ARGUMENT, "machine");
		guest.machine.reserved_zero[i] = 0;
	}
	device.reserved_zero[1] = 1;
	expect_error(write_to(&guest, &registers, 32 * MIB), &error, RIFFLE_ERR_ARGUMENT, "device");
	device.reserved_zero[1] = 0;
	loaded.reserved_zero[sizeof loaded.reserved_zero - 1] = 1;
	expect_error(riffle_boot_write(&registers, &guest.machine, &plan, &loaded, &error), &error, RIFFLE_ERR_ARGUMENT,
		     "loaded");
	guest_free(&guest);
}

/* --- RAM --- */

static void test_ram_with_another_hole(void **state)
{
	struct riffle_boot_registers registers;
	struct riffle_ram ram[2];
	struct guest guest;
	uint64_t initrd;

	(void)state;
	guest_make(&guest, 5 * GIB); /* as much host memory */
	ram[0] = (struct riffle_ram){4 * GIB, GIB, guest.low + 0xd0000000};
	ram[1] = (struct riffle_ram){0, 0xd0000000, guest.low};
	guest.machine.ram = ram;
	guest.machine.ram_count = 2;
	expect_ok(write_to(&guest, &registers, 0xd0000000 - 8 * MIB), &error);
	assert_int_equal(guest.low[RIFFLE_BOOT_ZERO_PAGE + 0x1e8], 4);
	assert_int_equal(page64(&guest, 0x2d0 + 40), MIB);
	assert_int_equal(page64(&guest, 0x2d8 + 40), 0xd0000000 - MIB);
	assert_int_equal(page64(&guest, 0x2d0 + 60), 4 * GIB);
	expect_ok(riffle_boot_place_initrd(&initrd, &guest.machine, NULL, MIB, &error), &error);
	assert_int_equal(initrd, 2 * GIB - MIB);

	/* RAM without a hole: not where the tables say that APICs are */
	ram[0] = (struct riffle_ram){0, 5 * GIB, guest.low};
	guest.machine.ram_count = 1;
	expect_error(write_to(&guest, &registers, 32 * MIB), &error, RIFFLE_ERR_ARGUMENT, "ram");
	guest.machine.reset_port = guest.machine.sleep_control_port = 0;
	guest.machine.tables = RIFFLE_TABLES_ZERO_PAGE | RIFFLE_TABLES_E820 | RIFFLE_TABLES_ENTRY;
	expect_ok(write_to(&guest, &registers, 4 * GIB - 2 * MIB), &error);
	ram[0].bytes = 0xfec01000;
	guest.machine.tables |= RIFFLE_TABLES_MP;
	expect_error(write_to(&guest, &registers, 32 * MIB), &error, RIFFLE_ERR_ARGUMENT, "ram");
	ram[0].bytes = 0xfec00000;
	expect_ok(write_to(&guest, &registers, 32 * MIB), &error);
	guest_free(&guest);
}

/* RAM with gaps below 1 MiB, as on PCs */
static void test_ram_below_one_mib(void **state)
{
	struct riffle_boot_registers registers;
	struct riffle_ram ram[2];
	struct guest guest;

	(void)state;
	make_bare(&guest, RIFFLE_TABLES_ZERO_PAGE | RIFFLE_TABLES_E820 | RIFFLE_TABLES_ENTRY);
	ram[0] = (struct riffle_ram){0, 0x80000, guest.low};
	ram[1] = (struct riffle_ram){MIB, 63 * MIB, guest.low + MIB};
	guest.machine.ram = ram;
	guest.machine.ram_count = 2;
	expect_ok(write_to(&guest, &registers, 32 * MIB), &error);
	assert_int_equal(guest.low[RIFFLE_BOOT_ZERO_PAGE + 0x1e8], 3);
	assert_int_equal(page64(&guest, 0x2d8), 0x80000);
	assert_int_equal(page64(&guest, 0x2d0 + 20), 0x9fc00);
	assert_int_equal(page64(&guest, 0x2d0 + 40), MIB);
	guest.machine.tables |= RIFFLE_TABLES_MP;
	expect_error(write_to(&guest, &registers, 32 * MIB), &error, RIFFLE_ERR_ARGUMENT, "ram");
	assert_int_equal(error.expected, 0xa0000);
	ram[0].bytes = 0xa0000;
	expect_ok(write_to(&guest, &registers, 32 * MIB), &error);
	guest.machine.tables |= RIFFLE_TABLES_ACPI;
	expect_error(write_to(&guest, &registers, 32 * MIB), &error, RIFFLE_ERR_ARGUMENT, "ram");
	guest.machine.tables = RIFFLE_TABLES_ZERO_PAGE;
	ram[0].bytes = 0x23000;
	expect_ok(write_to(&guest, &registers, 32 * MIB), &error);
	ram[0].bytes = 0x22000;
	expect_error(write_to(&guest, &registers, 32 * MIB), &error, RIFFLE_ERR_ARGUMENT, "ram");
	assert_int_equal(error.expected, 0x23000);
	guest_free(&guest);
}

/* any number of ranges if they are adjacent, otherwise 126 runs */
static void test_many_stretches(void **state)
{
	struct riffle_boot_registers registers;
	struct riffle_ram *many = calloc(16384, sizeof *many);
	struct guest guest;

	(void)state;
	assert_non_null(many);
	guest_make(&guest, 64 * MIB);
	guest.machine.ram = many;
	many[0] = (struct riffle_ram){0, 48 * MIB, guest.low};
	for (unsigned i = 1; i <= 2048; i++) /* downwards */
		many[i] = (struct riffle_ram){56 * MIB - i * PAGE, PAGE, guest.low + 56 * MIB - i * PAGE};
	guest.machine.ram_count = 2049;
	expect_ok(write_to(&guest, &registers, 44 * MIB), &error);
	assert_int_equal(page64(&guest, 0x2d8 + 40), 55 * MIB);

	for (unsigned i = 1; i <= 126; i++)
		many[i] = (struct riffle_ram){64 * MIB + i * 2 * PAGE, PAGE, guest.low};
	guest.machine.ram_count = 126;
	expect_ok(write_to(&guest, &registers, 32 * MIB), &error);
	assert_int_equal(guest.low[RIFFLE_BOOT_ZERO_PAGE + 0x1e8], 128);
	guest.machine.ram_count = 127;
	expect_error(write_to(&guest, &registers, 32 * MIB), &error, RIFFLE_ERR_ARGUMENT, "ram");
	free(many);
	guest_free(&guest);
}

/* page tables cover every GiB that has RAM */
static void test_ram_far_away(void **state)
{
	const uint64_t far = UINT64_C(3) << 40, last = (UINT64_C(1) << 48) - MIB;
	struct riffle_boot_registers registers;
	struct riffle_ram ram[3];
	struct guest guest;

	(void)state;
	guest_make(&guest, 64 * MIB);
	ram[0] = (struct riffle_ram){0, 64 * MIB, guest.low};
	ram[1] = (struct riffle_ram){last, MIB, NULL};
	ram[2] = (struct riffle_ram){far + GIB / 2, GIB, NULL};
	guest.machine.ram = ram;
	guest.machine.ram_count = 3;
	for (int gib_pages = 0; gib_pages < 2; gib_pages++) {
		guest.machine.flags = gib_pages ? RIFFLE_MACHINE_GIB_PAGES : 0;
		memset(guest.low, 0x5a, MIB);
		expect_ok(write_to(&guest, &registers, 32 * MIB), &error);
		assert_true(guest_entry_of(&guest, 0));
		assert_true(guest_entry_of(&guest, 4 * GIB - 1));
		assert_false(guest_entry_of(&guest, 4 * GIB));
		assert_false(guest_entry_of(&guest, far - 1));
		assert_true(guest_entry_of(&guest, far));
		assert_true(guest_entry_of(&guest, far + 2 * GIB - 1));
		assert_false(guest_entry_of(&guest, far + 2 * GIB));
		assert_false(guest_entry_of(&guest, last - GIB));
		assert_true(guest_entry_of(&guest, last));
	}
	ram[1].address += MIB; /* beyond four levels */
	expect_error(write_to(&guest, &registers, 32 * MIB), &error, RIFFLE_ERR_SPACE, "ram");
	/* 4 GiB at 0, a PDPT and 112 directories: one page more than there is room for */
	guest.machine.flags = 0;
	guest.machine.ram_count = 2;
	ram[1] = (struct riffle_ram){far, 112 * GIB, NULL};
	expect_ok(write_to(&guest, &registers, 32 * MIB), &error);
	ram[1].bytes += PAGE;
	expect_error(write_to(&guest, &registers, 32 * MIB), &error, RIFFLE_ERR_SPACE, "ram");
	guest_free(&guest);
}

/* Without ACPI and MP tables, low RAM need not reach further than the page tables, nor further than 0x23000. */
static void test_ram_up_to_the_page_tables(void **state)
{
	static const struct {
		uint64_t top; /* of all RAM: each GiB from the fourth on takes a page more */
		uint32_t end;
	} rows[] = {
	    {64 * MIB, 0x23000}, {21 * GIB, 0x23000}, {22 * GIB, 0x31000}, {23 * GIB, 0x32000}, {30 * GIB, 0x39000},
	};
	struct riffle_boot_registers registers;
	struct riffle_ram ram[3];
	struct guest guest;

	(void)state;
	make_bare(&guest, RIFFLE_TABLES_ENTRY);
	guest.machine.ram = ram;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		ram[0] = (struct riffle_ram){0, rows[i].end, guest.low};
		ram[1] = (struct riffle_ram){16 * MIB, 48 * MIB, guest.low + 16 * MIB};
		ram[2] = (struct riffle_ram){4 * GIB, rows[i].top - 4 * GIB, NULL};
		guest.machine.ram_count = rows[i].top > 4 * GIB ? 3 : 2;
		memset(guest.low, 0x5a, MIB);
		expect_ok(write_to(&guest, &registers, 32 * MIB), &error);
		assert_true(untouched(&guest, rows[i].end, MIB));
		ram[0].bytes -= PAGE;
		expect_error(write_to(&guest, &registers, 32 * MIB), &error, RIFFLE_ERR_ARGUMENT, "ram");
		assert_string_equal(error.problem, "has no range from 0 to the end of what is written");
		assert_int_equal(error.expected, rows[i].end);
	}
	guest_free(&guest);
}

/* --- boot code of the caller's own --- */

static void test_setup_header(void **state)
{
	uint8_t got[RIFFLE_BOOT_SETUP_HEADER_BYTES + 1];
	struct riffle_boot_registers registers;
	struct riffle_header header;
	struct riffle_plan plan = guest_plan(&header);
	struct riffle_loaded loaded = guest_kernel(32 * MIB);
	struct guest guest;
	uint8_t *page;

	(void)state;
	memset(got, 0x5a, sizeof got);
	expect_ok(riffle_boot_setup_header(got, &plan, &loaded, &error), &error);
	assert_int_equal(got[RIFFLE_BOOT_SETUP_HEADER_BYTES], 0x5a);
	assert_int_equal(got[0x210 - 0x1f1], 0xff);
	assert_int_equal(got[0x211 - 0x1f1], 3);
	/* with the fields named in boot.h filled in it equals the one that riffle_boot_write() writes */
	guest_make(&guest, 64 * MIB);
	expect_ok(riffle_boot_write(&registers, &guest.machine, &plan, &loaded, &error), &error);
	page = guest.low + RIFFLE_BOOT_ZERO_PAGE;
	memcpy(got + (0x228 - 0x1f1), page + 0x228, 4);
	assert_memory_equal(got, page + 0x1f1, RIFFLE_BOOT_SETUP_HEADER_BYTES);
	guest_free(&guest);

	loaded.loadflags = 0;
	expect_ok(riffle_boot_setup_header(got, NULL, &loaded, &error), &error);
	assert_int_equal(got[0x211 - 0x1f1], 1);
	loaded.loadflags = 0x80;
	expect_error(riffle_boot_setup_header(got, &plan, &loaded, &error), &error, RIFFLE_ERR_ARGUMENT, "loadflags");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_e820_of_pieces),
	    cmocka_unit_test(test_tables_are_chosen),
	    cmocka_unit_test(test_own_rsdp),
	    cmocka_unit_test(test_choices_are_checked),
	    cmocka_unit_test(test_reserved_words_are_checked),
	    cmocka_unit_test(test_ram_with_another_hole),
	    cmocka_unit_test(test_ram_below_one_mib),
	    cmocka_unit_test(test_many_stretches),
	    cmocka_unit_test(test_ram_far_away),
	    cmocka_unit_test(test_ram_up_to_the_page_tables),
	    cmocka_unit_test(test_setup_header),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

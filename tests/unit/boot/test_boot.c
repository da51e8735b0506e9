/* SPDX-License-Identifier: Apache-2.0 */
/* What riffle_boot_write() leaves in guest memory: zero page, e820, page tables, GDT, and nothing anywhere else. */
#include "guest.h"

#define PAGE 4096u

static struct riffle_error error;

static uint64_t page64(const struct guest *guest, unsigned offset)
{
	return riffle_get64(guest->low + RIFFLE_BOOT_ZERO_PAGE + offset);
}

static uint32_t page32(const struct guest *guest, unsigned offset)
{
	return riffle_get32(guest->low + RIFFLE_BOOT_ZERO_PAGE + offset);
}

static void write_or_fail(struct riffle_boot_registers *registers, const struct guest *guest, uint64_t kernel_base)
{
	struct riffle_header header;
	struct riffle_plan plan = guest_plan(&header);
	struct riffle_loaded loaded = guest_kernel(kernel_base);

	expect_ok(riffle_boot_write(registers, &guest->machine, &plan, &loaded, &error), &error);
}

static int write_status(const struct guest *guest, const struct riffle_loaded *loaded)
{
	struct riffle_boot_registers registers;
	struct riffle_header header;
	struct riffle_plan plan = guest_plan(&header);

	return riffle_boot_write(&registers, &guest->machine, &plan, loaded, &error);
}

/* --- e820 --- */

struct e820 {
	uint64_t start, bytes;
	uint32_t type;
};

static void check_e820(uint64_t memory, const struct e820 *wanted, unsigned count)
{
	struct riffle_boot_registers registers;
	struct guest guest;

	guest_make(&guest, memory);
	write_or_fail(&registers, &guest, 32 * MIB);
	assert_int_equal(guest.low[RIFFLE_BOOT_ZERO_PAGE + 0x1e8], count);
	for (unsigned i = 0; i < count; i++) {
		assert_int_equal(page64(&guest, 0x2d0 + i * 20), wanted[i].start);
		assert_int_equal(page64(&guest, 0x2d8 + i * 20), wanted[i].bytes);
		assert_int_equal(page32(&guest, 0x2e0 + i * 20), wanted[i].type);
	}
	guest_free(&guest);
}

static void test_e820(void **state)
{
	const struct e820 low = {0, 0x9fc00, 1}, reserved = {0x9fc00, 0x60400, 2};

	(void)state;
	check_e820(64 * MIB, (struct e820[]){low, reserved, {MIB, 63 * MIB, 1}}, 3);
	check_e820(512 * MIB, (struct e820[]){low, reserved, {MIB, 511 * MIB, 1}}, 3);
	check_e820(3 * GIB, (struct e820[]){low, reserved, {MIB, 3 * GIB - MIB, 1}}, 3);
	check_e820(5 * GIB, (struct e820[]){low, reserved, {MIB, 3 * GIB - MIB, 1}, {4 * GIB, 2 * GIB, 1}}, 4);
}

/* stretches in any order, adjacent ones joined */
static void test_e820_joins_stretches(void **state)
{
	struct riffle_boot_registers registers;
	struct riffle_ram split[3];
	struct guest guest;

	(void)state;
	guest_make(&guest, 64 * MIB);
	split[0] = (struct riffle_ram){48 * MIB, 8 * MIB, guest.low + 48 * MIB};
	split[1] = (struct riffle_ram){2 * MIB, 46 * MIB, guest.low + 2 * MIB};
	split[2] = (struct riffle_ram){0, 2 * MIB, guest.low};
	guest.machine.ram = split;
	guest.machine.ram_count = 3;
	write_or_fail(&registers, &guest, 44 * MIB); /* across the seam at 48 MiB */
	assert_int_equal(guest.low[RIFFLE_BOOT_ZERO_PAGE + 0x1e8], 3);
	assert_int_equal(page64(&guest, 0x2d0 + 40), MIB);
	assert_int_equal(page64(&guest, 0x2d8 + 40), 55 * MIB);
	guest_free(&guest);
}

/* --- page tables --- */

static uint64_t table_entry(const struct guest *guest, uint64_t table, uint64_t index)
{
	uint64_t entry;

	assert_true(table + PAGE <= 0x90000);
	entry = riffle_get64(guest->low + table + index * 8);
	if (!(entry & 1))
		fail_msg("not present: table %#llx index %llu", (unsigned long long)table, (unsigned long long)index);
	assert_true(entry & 2);
	return entry;
}

/* walks the four levels as a vCPU does */
static uint64_t translate(const struct guest *guest, uint64_t cr3, uint64_t address)
{
	const uint64_t frame = UINT64_C(0x000ffffffffff000);
	uint64_t entry = table_entry(guest, cr3, address >> 39 & 511);

	entry = table_entry(guest, entry & frame, address >> 30 & 511);
	if (entry & 0x80) {
		assert_int_equal(entry & (GIB - 1) & frame, 0);
		return (entry & frame) | (address & (GIB - 1));
	}
	entry = table_entry(guest, entry & frame, address >> 21 & 511);
	assert_true(entry & 0x80);
	assert_int_equal(entry & (2 * MIB - 1) & frame, 0);
	return (entry & frame) | (address & (2 * MIB - 1));
}

static void check_identity(const struct guest *guest, uint64_t cr3, uint64_t start, uint64_t end)
{
	for (uint64_t a = start; a < end; a += 2 * MIB)
		assert_int_equal(translate(guest, cr3, a), a);
	assert_int_equal(translate(guest, cr3, end - 1), end - 1);
}

static void check_page_tables(uint64_t memory, unsigned flags)
{
	struct riffle_boot_registers registers;
	struct guest guest;

	guest_make(&guest, memory);
	guest.machine.flags |= flags;
	write_or_fail(&registers, &guest, 32 * MIB);
	check_identity(&guest, registers.cr3, 0, 4 * GIB);
	for (unsigned i = 0; i < guest.machine.ram_count; i++)
		check_identity(&guest, registers.cr3, guest.ram[i].address, guest.ram[i].address + guest.ram[i].bytes);
	assert_int_equal(translate(&guest, registers.cr3, registers.rip), registers.rip);
	assert_int_equal(translate(&guest, registers.cr3, registers.rsi), registers.rsi);
	guest_free(&guest);
}

static void test_page_tables(void **state)
{
	(void)state;
	check_page_tables(64 * MIB, 0);
	check_page_tables(512 * MIB, 0);
	check_page_tables(3 * GIB, 0);
	check_page_tables(5 * GIB, 0);
	check_page_tables(5 * GIB + 6 * MIB, 0);
	check_page_tables(5 * GIB, RIFFLE_MACHINE_GIB_PAGES);
}

/* Only the first MiB is ever written, so a stretch without host memory may stand for much RAM. */
static int write_large(struct guest *guest, uint64_t end, unsigned flags, struct riffle_boot_registers *registers)
{
	struct riffle_header header;
	struct riffle_plan plan = guest_plan(&header);
	struct riffle_loaded loaded = guest_kernel(32 * MIB);

	guest->ram[1] = (struct riffle_ram){4 * GIB, end - 4 * GIB, NULL};
	guest->machine.ram_count = 2;
	guest->machine.flags = flags;
	return riffle_boot_write(registers, &guest->machine, &plan, &loaded, &error);
}

static void test_page_tables_large(void **state)
{
	struct riffle_boot_registers registers;
	struct guest guest;

	(void)state;
	guest_make(&guest, 64 * MIB);
	expect_ok(write_large(&guest, 22 * GIB, 0, &registers), &error); /* one directory beyond those below 0x20000 */
	check_identity(&guest, registers.cr3, 0, 22 * GIB);
	expect_ok(write_large(&guest, 117 * GIB, 0, &registers), &error);
	check_identity(&guest, registers.cr3, 0, 117 * GIB);
	assert_string_equal((char *)guest.low + RIFFLE_BOOT_CMDLINE, "console=ttyS0"); /* no table lies on it */
	expect_error(write_large(&guest, 117 * GIB + PAGE, 0, &registers), &error, RIFFLE_ERR_SPACE, "ram");
	expect_ok(write_large(&guest, 512 * GIB, RIFFLE_MACHINE_GIB_PAGES, &registers), &error);
	for (uint64_t a = 0; a < 512 * GIB; a += GIB / 2)
		assert_int_equal(translate(&guest, registers.cr3, a), a);
	expect_ok(write_large(&guest, 512 * GIB + PAGE, RIFFLE_MACHINE_GIB_PAGES, &registers), &error);
	assert_int_equal(translate(&guest, registers.cr3, 512 * GIB), 512 * GIB);
	guest_free(&guest);
}

/* --- registers and GDT --- */

static void test_registers(void **state)
{
	struct riffle_boot_registers registers;
	struct guest guest;
	uint64_t code, data;

	(void)state;
	guest_make(&guest, 64 * MIB);
	write_or_fail(&registers, &guest, 32 * MIB);
	assert_int_equal(registers.rip, 36 * MIB);
	assert_int_equal(registers.rsi, 0x7000);
	assert_int_equal(registers.rsp, 0x8ff0);
	assert_int_equal(registers.rflags, 2); /* interrupts off */
	assert_int_equal(registers.cr0 & 0x80000001, 0x80000001);
	assert_int_equal(registers.cr3, 0x9000);
	assert_int_equal(registers.cr4, 0x20);
	assert_int_equal(registers.efer, 0x500);
	assert_int_equal(registers.cs, 0x10);
	assert_int_equal(registers.ds, 0x18);
	assert_true(registers.gdt_bytes >= registers.ds + 8);
	code = riffle_get64(guest.low + registers.gdt_address + registers.cs);
	data = riffle_get64(guest.low + registers.gdt_address + registers.ds);
	assert_int_equal(riffle_get64(guest.low + registers.gdt_address), 0);
	assert_int_equal(code & UINT64_C(0xff0000ffffff0000), 0); /* base 0 */
	assert_int_equal(data & UINT64_C(0xff0000ffffff0000), 0);
	assert_int_equal(code >> 40 & 0xff, 0x9b); /* present, execute/read */
	assert_int_equal(code >> 52 & 0xf, 0xa);   /* granularity, long */
	assert_int_equal(data >> 40 & 0xff, 0x93); /* present, read/write */
	assert_int_equal(data >> 52 & 0xf, 0xc);   /* granularity, 32-bit */
	assert_int_equal((data & 0xffff) | (data >> 32 & 0xf0000), 0xfffff);
	guest_free(&guest);
}

/* --- zero page --- */

static void test_zero_page_made_up(void **state)
{
	struct riffle_boot_registers registers;
	struct guest guest;
	uint8_t wanted[PAGE] = {0}, *h = wanted;

	(void)state;
	guest_make(&guest, 64 * MIB);
	memset(guest.low, 0xa5, MIB);
	guest.machine.initrd_address = 60 * MIB;
	guest.machine.initrd_bytes = 0x12345;
	write_or_fail(&registers, &guest, 32 * MIB);

	riffle_put64(h + 0x070, 0xe0000);
	h[0x1e8] = 3;
	riffle_put16(h + 0x1f2, 1);
	riffle_put16(h + 0x1fa, 0xffff);
	riffle_put16(h + 0x1fe, 0xaa55);
	memcpy(h + 0x202, "HdrS", 4);
	riffle_put16(h + 0x206, 0x20f);
	h[0x210] = 0xff;
	h[0x211] = 3;
	riffle_put32(h + 0x218, 60 * MIB);
	riffle_put32(h + 0x21c, 0x12345);
	riffle_put32(h + 0x228, 0x20000);
	riffle_put32(h + 0x22c, 0x7fffffff);
	riffle_put32(h + 0x230, 2 * MIB);
	h[0x234] = 1;
	h[0x235] = 21;
	riffle_put16(h + 0x236, 1);
	riffle_put32(h + 0x238, 2047);
	riffle_put64(h + 0x258, 16 * MIB);
	riffle_put32(h + 0x260, 8 * MIB);
	memcpy(h + 0x2d0, guest.low + RIFFLE_BOOT_ZERO_PAGE + 0x2d0, 60); /* test_e820's */
	assert_memory_equal(guest.low + RIFFLE_BOOT_ZERO_PAGE, wanted, PAGE);
	assert_string_equal((char *)guest.low + RIFFLE_BOOT_CMDLINE, "console=ttyS0");
	guest_free(&guest);
}

/* a bzImage's header goes in up to its own end and no further, but for the fields a loader writes */
static void test_zero_page_from_bzimage(void **state)
{
	struct riffle_boot_registers registers;
	struct riffle_header header;
	struct riffle_plan plan = guest_plan(&header);
	struct riffle_loaded loaded = guest_kernel(32 * MIB);
	struct guest guest;
	uint8_t *page, *from = header.setup_header;

	(void)state;
	guest_make(&guest, 64 * MIB);
	page = guest.low + RIFFLE_BOOT_ZERO_PAGE;
	for (unsigned i = 0; i < sizeof header.setup_header; i++)
		from[i] = (uint8_t)(i | 0x80);
	riffle_put16(from + (0x1fe - 0x1f1), 0xaa55);
	from[0x201 - 0x1f1] = 0x6a;
	memcpy(from + (0x202 - 0x1f1), "HdrS", 4);
	riffle_put16(from + (0x206 - 0x1f1), 0x20f);
	riffle_put32(from + (0x238 - 0x1f1), 100);
	header.flags |= RIFFLE_KERNEL_SETUP_HEADER;
	loaded.loadflags = 0;
	expect_ok(riffle_boot_write(&registers, &guest.machine, &plan, &loaded, &error), &error);
	for (unsigned at = 0x1f1; at < 0x26c; at++) {
		bool loaders = at == 0x210 || at == 0x211 || (at >= 0x228 && at < 0x22c) || (at >= 0x250 && at < 0x258);

		if (!loaders && page[at] != from[at - 0x1f1])
			fail_msg("zero page byte %#x is %#x", at, page[at]);
	}
	for (unsigned at = 0x26c; at < 0x2d0; at++)
		assert_int_equal(page[at], 0);
	assert_int_equal(page[0x210], 0xff);
	assert_int_equal(page[0x211], 1); /* no KASLR_FLAG, whatever the file had */
	assert_int_equal(riffle_get64(page + 0x250), 0);

	from[0x202 - 0x1f1] = 'X';
	expect_error(riffle_boot_write(&registers, &guest.machine, &plan, &loaded, &error), &error, RIFFLE_ERR_FORMAT,
		     "setup header magic");
	guest_free(&guest);
}

static void test_command_line_length(void **state)
{
	struct riffle_boot_registers registers;
	struct riffle_header header;
	struct riffle_plan plan = guest_plan(&header);
	struct riffle_loaded loaded = guest_kernel(32 * MIB);
	struct guest guest;
	char line[5000];

	(void)state;
	guest_make(&guest, 64 * MIB);
	memset(guest.low, 0xa5, MIB);
	memset(line, 'x', sizeof line);
	guest.machine.command_line = line;
	line[2047] = 0;
	expect_ok(riffle_boot_write(&registers, &guest.machine, &plan, &loaded, &error), &error);
	assert_string_equal((char *)guest.low + RIFFLE_BOOT_CMDLINE, line);
	line[2047] = 'x';
	line[2048] = 0;
	expect_error(riffle_boot_write(&registers, &guest.machine, &plan, &loaded, &error), &error, RIFFLE_ERR_SPACE,
		     "command line");
	assert_int_equal(error.found, 2048);
	assert_int_equal(error.expected, 2047);

	/* a header that takes more than our own room has */
	memcpy(header.setup_header + (0x202 - 0x1f1), "HdrS", 4);
	riffle_put16(header.setup_header + (0x1fe - 0x1f1), 0xaa55);
	riffle_put16(header.setup_header + (0x206 - 0x1f1), 0x20f);
	header.setup_header[0x201 - 0x1f1] = 0x6a;
	riffle_put32(header.setup_header + (0x238 - 0x1f1), UINT32_MAX);
	header.flags |= RIFFLE_KERNEL_SETUP_HEADER;
	line[2048] = 'x';
	line[4095] = 0;
	expect_ok(riffle_boot_write(&registers, &guest.machine, &plan, &loaded, &error), &error);
	line[4095] = 'x';
	line[4096] = 0;
	expect_error(riffle_boot_write(&registers, &guest.machine, &plan, &loaded, &error), &error, RIFFLE_ERR_SPACE,
		     "command line");

	riffle_put32(header.setup_header + (0x238 - 0x1f1), RIFFLE_BOOT_CMDLINE_MAX);
	expect_error(riffle_boot_write(&registers, &guest.machine, &plan, &loaded, &error), &error, RIFFLE_ERR_SPACE,
		     "command line");

	guest.machine.command_line = NULL;
	expect_ok(riffle_boot_write(&registers, &guest.machine, &plan, &loaded, &error), &error);
	assert_int_equal(guest.low[RIFFLE_BOOT_CMDLINE], 0);
	guest_free(&guest);
}

static void test_setup_data(void **state)
{
	struct riffle_boot_registers registers;
	struct riffle_loaded loaded = guest_kernel(32 * MIB);
	struct guest guest;
	uint8_t seed[257], *node;

	(void)state;
	guest_make(&guest, 64 * MIB);
	for (unsigned i = 0; i < sizeof seed; i++)
		seed[i] = (uint8_t)(i * 7 + 1);
	guest.machine.rng_seed = seed;
	guest.machine.rng_seed_bytes = 32;
	memset(guest.low, 0xa5, MIB);
	write_or_fail(&registers, &guest, 32 * MIB);
	assert_int_equal(page64(&guest, 0x250), RIFFLE_BOOT_SETUP_DATA);
	node = guest.low + RIFFLE_BOOT_SETUP_DATA;
	assert_int_equal(riffle_get64(node), 0);
	assert_int_equal(riffle_get32(node + 8), 9);
	assert_int_equal(riffle_get32(node + 12), 32);
	assert_memory_equal(node + 16, seed, 32);
	assert_int_equal(node[48], 0xa5);

	guest.machine.rng_seed_bytes = 256;
	write_or_fail(&registers, &guest, 32 * MIB);
	guest.machine.rng_seed_bytes = 257;
	expect_error(write_status(&guest, &loaded), &error, RIFFLE_ERR_ARGUMENT, "rng_seed_bytes");
	guest.machine.rng_seed_bytes = 0;
	expect_error(write_status(&guest, &loaded), &error, RIFFLE_ERR_ARGUMENT, "rng_seed_bytes");
	guest_free(&guest);
}

/* --- what is written, and what it depends on --- */

struct area {
	uint32_t start, end;
};

/* Two runs over different patterns: a byte that holds the pattern in both was not written. */
static void check_areas(uint64_t memory, const struct area *areas, unsigned count)
{
	const uint8_t seed[32] = {1};
	struct riffle_boot_device device = {"LNRO0005", 0xd0000000, 4096, 5};
	struct riffle_boot_registers registers;
	struct guest guest[2];

	for (int i = 0; i < 2; i++) {
		guest_make(&guest[i], memory);
		memset(guest[i].low, i ? 0xa5 : 0x5a, 2 * MIB);
		guest[i].machine.vcpus = 32;
		guest[i].machine.rng_seed = seed;
		guest[i].machine.rng_seed_bytes = sizeof seed;
		guest[i].machine.devices = &device;
		guest[i].machine.device_count = 1;
		write_or_fail(&registers, &guest[i], 32 * MIB);
	}
	for (uint32_t at = 0; at < 2 * MIB; at++) {
		bool documented = false;

		for (unsigned i = 0; i < count; i++)
			documented |= at >= areas[i].start && at < areas[i].end;
		if (!documented && (guest[0].low[at] != 0x5a || guest[1].low[at] != 0xa5))
			fail_msg("byte %#x was written", at);
		/* and what was written does not depend on what was there */
		if (documented && guest[0].low[at] != guest[1].low[at] &&
		    (guest[0].low[at] != 0x5a || guest[1].low[at] != 0xa5))
			fail_msg("byte %#x depends on what was there", at);
	}
	for (uint64_t at = 2 * MIB; at < memory; at += 8)
		if (riffle_get64(guest[0].low + at))
			fail_msg("%#llx was written", (unsigned long long)at);
	guest_free(&guest[0]);
	guest_free(&guest[1]);
}

static void test_nothing_else_is_written(void **state)
{
	const struct area areas[] = {
	    {RIFFLE_BOOT_GDT, RIFFLE_BOOT_GDT + 32},
	    {RIFFLE_BOOT_ZERO_PAGE, RIFFLE_BOOT_ZERO_PAGE + PAGE},
	    {RIFFLE_BOOT_PML4, RIFFLE_BOOT_PML4 + 6 * PAGE}, /* PML4, PDPT, four directories */
	    {RIFFLE_BOOT_CMDLINE, RIFFLE_BOOT_CMDLINE + sizeof "console=ttyS0"},
	    {RIFFLE_BOOT_SETUP_DATA, RIFFLE_BOOT_SETUP_DATA + 16 + 32},
	    {RIFFLE_BOOT_MP_TABLE, 0xa0000},
	    {RIFFLE_BOOT_ACPI, RIFFLE_BOOT_LOW_END},
	};

	(void)state;
	check_areas(64 * MIB, areas, sizeof areas / sizeof *areas);
}

static void test_same_bytes_for_every_layout(void **state)
{
	struct riffle_boot_registers registers, first;
	struct riffle_header header;
	struct riffle_plan plan = guest_plan(&header);
	struct guest guest;
	uint8_t *bytes = malloc(MIB);
	uint64_t x = 0x9e3779b97f4a7c15;

	(void)state;
	assert_non_null(bytes);
	guest_make(&guest, 5 * GIB);
	for (int i = 0; i < 50; i++) {
		struct riffle_loaded loaded;

		x = x * 6364136223846793005u + 1442695040888963407u;
		loaded = guest_kernel(16 * MIB + (x >> 40) % 1400 * 2 * MIB);
		if (i % 3 == 2)
			loaded = guest_kernel(4 * GIB + (x >> 40) % 1000 * 2 * MIB);
		loaded.virtual_base = UINT64_C(0xffffffff81000000) + (x >> 20) % 480 * 2 * MIB;
		memset(guest.low, 0, MIB);
		expect_ok(riffle_boot_write(&registers, &guest.machine, &plan, &loaded, &error), &error);
		assert_int_equal(registers.rip, loaded.entry);
		registers.rip = 0;
		if (i == 0) {
			memcpy(bytes, guest.low, MIB);
			first = registers;
		}
		assert_memory_equal(bytes, guest.low, MIB);
		assert_memory_equal(&registers, &first, sizeof first);
	}
	free(bytes);
	guest_free(&guest);
}

/* --- initrd and reserved ranges --- */

static void test_place_initrd(void **state)
{
	struct riffle_header header;
	struct riffle_plan plan = guest_plan(&header);
	struct guest guest;
	uint64_t address;

	(void)state;
	guest_make(&guest, 64 * MIB);
	expect_ok(riffle_boot_place_initrd(&address, &guest.machine, &plan, 1, &error), &error);
	assert_int_equal(address, 64 * MIB - PAGE);
	expect_ok(riffle_boot_place_initrd(&address, &guest.machine, NULL, PAGE + 1, &error), &error);
	assert_int_equal(address, 64 * MIB - 2 * PAGE);
	expect_ok(riffle_boot_place_initrd(&address, &guest.machine, NULL, 0, &error), &error);
	assert_int_equal(address, 0);
	expect_ok(riffle_boot_place_initrd(&address, &guest.machine, NULL, 63 * MIB, &error), &error);
	assert_int_equal(address, MIB);
	expect_error(riffle_boot_place_initrd(&address, &guest.machine, NULL, 63 * MIB + 1, &error), &error,
		     RIFFLE_ERR_SPACE, "initrd");
	assert_int_equal(error.expected, 63 * MIB);
	expect_error(riffle_boot_place_initrd(&address, &guest.machine, NULL, UINT64_MAX, &error), &error,
		     RIFFLE_ERR_SPACE, "initrd");
	guest_free(&guest);

	/* never above initrd_addr_max, which is odd on purpose here, nor in the hole */
	guest_make(&guest, 5 * GIB);
	expect_ok(riffle_boot_place_initrd(&address, &guest.machine, &plan, MIB, &error), &error);
	assert_int_equal(address, 2 * GIB - MIB);
	memcpy(header.setup_header + (0x202 - 0x1f1), "HdrS", 4);
	riffle_put16(header.setup_header + (0x1fe - 0x1f1), 0xaa55);
	riffle_put16(header.setup_header + (0x206 - 0x1f1), 0x20f);
	header.setup_header[0x201 - 0x1f1] = 0x6a;
	riffle_put32(header.setup_header + (0x22c - 0x1f1), 0x37fffabc);
	header.flags |= RIFFLE_KERNEL_SETUP_HEADER;
	expect_ok(riffle_boot_place_initrd(&address, &guest.machine, &plan, 1, &error), &error);
	assert_int_equal(address, 0x37ffe000);
	riffle_put32(header.setup_header + (0x22c - 0x1f1), UINT32_MAX);
	expect_ok(riffle_boot_place_initrd(&address, &guest.machine, &plan, 1, &error), &error);
	assert_int_equal(address, 3 * GIB - PAGE);
	/* up to protocol 2.02 the header has no such field (Documentation/arch/x86/boot.rst) */
	riffle_put16(header.setup_header + (0x206 - 0x1f1), 0x203);
	expect_ok(riffle_boot_place_initrd(&address, &guest.machine, &plan, 1, &error), &error);
	assert_int_equal(address, 3 * GIB - PAGE);
	riffle_put16(header.setup_header + (0x206 - 0x1f1), 0x202);
	expect_ok(riffle_boot_place_initrd(&address, &guest.machine, &plan, 1, &error), &error);
	assert_int_equal(address, 0x38000000 - PAGE);
	guest_free(&guest);
}

static void test_initrd_is_checked(void **state)
{
	struct riffle_loaded loaded = guest_kernel(32 * MIB);
	struct guest guest;
	const struct {
		uint64_t address, bytes;
		enum riffle_status status;
		const char *field;
	} rows[] = {
	    {50 * MIB + 1, MIB, RIFFLE_ERR_ARGUMENT, "initrd_address"},
	    {63 * MIB, MIB + 1, RIFFLE_ERR_SPACE, "initrd"},
	    {64 * MIB, 1, RIFFLE_ERR_SPACE, "initrd"},
	    {63 * MIB, UINT64_MAX, RIFFLE_ERR_SPACE, "initrd"},
	    {UINT64_MAX & ~UINT64_C(4095), PAGE, RIFFLE_ERR_SPACE, "initrd"},
	    {0, PAGE, RIFFLE_ERR_SPACE, "initrd"},
	    {40 * MIB - PAGE, PAGE, RIFFLE_ERR_ARGUMENT, "initrd"},
	    {31 * MIB, MIB + 1, RIFFLE_ERR_ARGUMENT, "initrd"},
	};

	(void)state;
	guest_make(&guest, 64 * MIB);
	for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
		guest.machine.initrd_address = rows[i].address;
		guest.machine.initrd_bytes = rows[i].bytes;
		expect_error(write_status(&guest, &loaded), &error, rows[i].status, rows[i].field);
	}
	guest.machine.initrd_address = 40 * MIB;
	guest.machine.initrd_bytes = 24 * MIB;
	expect_ok(write_status(&guest, &loaded), &error);
	guest_free(&guest);
}

static void test_reserved(void **state)
{
	struct riffle_range ranges[4];
	struct guest guest;

	(void)state;
	guest_make(&guest, 64 * MIB);
	assert_int_equal(riffle_boot_reserved(&guest.machine, ranges, 4), 1);
	assert_int_equal(ranges[0].address, 0);
	assert_int_equal(ranges[0].bytes, MIB);
	guest.machine.initrd_address = 60 * MIB;
	guest.machine.initrd_bytes = 5;
	assert_int_equal(riffle_boot_reserved(&guest.machine, ranges, 4), 2);
	assert_int_equal(ranges[1].address, 60 * MIB);
	assert_int_equal(ranges[1].bytes, 5);
	/* what it needs, and no more written than there is room for */
	ranges[1].bytes = 77;
	assert_int_equal(riffle_boot_reserved(&guest.machine, ranges, 1), 2);
	assert_int_equal(ranges[1].bytes, 77);
	assert_int_equal(riffle_boot_reserved(&guest.machine, NULL, 0), 2);
	guest_free(&guest);
}

/* --- what no machine may be --- */

static void test_machine_is_checked(void **state)
{
	struct riffle_loaded loaded = guest_kernel(32 * MIB), bad;
	struct riffle_ram many[64];
	struct guest guest;

	(void)state;
	guest_make(&guest, 64 * MIB);
	guest.machine.vcpus = 0;
	expect_error(write_status(&guest, &loaded), &error, RIFFLE_ERR_ARGUMENT, "vcpus");
	guest.machine.vcpus = 33;
	expect_error(write_status(&guest, &loaded), &error, RIFFLE_ERR_ARGUMENT, "vcpus");
	guest.machine.vcpus = 32;
	expect_ok(write_status(&guest, &loaded), &error);

	bad = guest_kernel(56 * MIB + PAGE); /* a page past the end of RAM */
	expect_error(write_status(&guest, &bad), &error, RIFFLE_ERR_ARGUMENT, "physical_base");
	bad = guest_kernel(MIB - PAGE);
	expect_error(write_status(&guest, &bad), &error, RIFFLE_ERR_ARGUMENT, "physical_base");
	bad = guest_kernel(32 * MIB);
	bad.entry = bad.end;
	expect_error(write_status(&guest, &bad), &error, RIFFLE_ERR_ARGUMENT, "entry");
	bad.entry = bad.physical_base - 1;
	expect_error(write_status(&guest, &bad), &error, RIFFLE_ERR_ARGUMENT, "entry");
	bad = guest_kernel(32 * MIB);
	bad.loadflags = 0x80;
	expect_error(write_status(&guest, &bad), &error, RIFFLE_ERR_ARGUMENT, "loadflags");

	guest.machine.ram_count = 0;
	expect_error(write_status(&guest, &loaded), &error, RIFFLE_ERR_ARGUMENT, "ram");
	guest.machine.ram_count = 64;
	guest.machine.ram = many;
	for (unsigned i = 0; i < 64; i++)
		many[i] = (struct riffle_ram){i * MIB, MIB, guest.low + i * MIB};
	expect_ok(write_status(&guest, &loaded), &error);
	many[1].address = MIB - PAGE; /* overlaps */
	expect_error(write_status(&guest, &loaded), &error, RIFFLE_ERR_ARGUMENT, "ram");
	assert_int_equal(error.found, MIB - PAGE);
	many[1].address = MIB + 1;
	expect_error(write_status(&guest, &loaded), &error, RIFFLE_ERR_ARGUMENT, "ram");
	many[1] = (struct riffle_ram){UINT64_MAX - 4095, 2 * PAGE, guest.low};
	expect_error(write_status(&guest, &loaded), &error, RIFFLE_ERR_ARGUMENT, "ram");
	many[1] = (struct riffle_ram){MIB, MIB, guest.low + MIB};
	many[0].host = NULL; /* nowhere to write to */
	expect_error(write_status(&guest, &loaded), &error, RIFFLE_ERR_ARGUMENT, "ram");
	guest_free(&guest);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_e820),
	    cmocka_unit_test(test_e820_joins_stretches),
	    cmocka_unit_test(test_page_tables),
	    cmocka_unit_test(test_page_tables_large),
	    cmocka_unit_test(test_registers),
	    cmocka_unit_test(test_zero_page_made_up),
	    cmocka_unit_test(test_zero_page_from_bzimage),
	    cmocka_unit_test(test_command_line_length),
	    cmocka_unit_test(test_setup_data),
	    cmocka_unit_test(test_nothing_else_is_written),
	    cmocka_unit_test(test_same_bytes_for_every_layout),
	    cmocka_unit_test(test_place_initrd),
	    cmocka_unit_test(test_initrd_is_checked),
	    cmocka_unit_test(test_reserved),
	    cmocka_unit_test(test_machine_is_checked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

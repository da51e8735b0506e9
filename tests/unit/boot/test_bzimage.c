/* SPDX-License-Identifier: Apache-2.0 */
/* A bzImage booted as such: where its protected-mode part goes, and which files are refused. */
#include "guest.h"

#define SECTS 3u
#define CODE_START ((SECTS + 1) * 512u)
#define CODE_BYTES 0x3000u
#define FILE_BYTES (CODE_START + CODE_BYTES)

static struct riffle_error error;
static uint8_t file[FILE_BYTES];

static void make_file(void)
{
	for (unsigned i = 0; i < FILE_BYTES; i++)
		file[i] = (uint8_t)(i * 31 + (i >> 8) + 1);
	memset(file + 0x1f1, 0, 0x280 - 0x1f1);
	file[0x1f1] = SECTS;
	riffle_put32(file + 0x1f4, CODE_BYTES / 16);
	riffle_put16(file + 0x1fe, 0xaa55);
	file[0x200] = 0xeb;
	file[0x201] = 0x6a;
	memcpy(file + 0x202, "HdrS", 4);
	riffle_put16(file + 0x206, 0x20f);
	file[0x211] = 1;
	riffle_put32(file + 0x22c, 0x7fffffff);
	riffle_put32(file + 0x230, 2 * MIB);
	file[0x234] = 1;
	riffle_put16(file + 0x236, 3);
	riffle_put32(file + 0x238, 2047);
	riffle_put64(file + 0x258, 16 * MIB);
	riffle_put32(file + 0x260, 8 * MIB);
	file[0x26c] = 0xcc; /* code behind the header */
}

static int boot(const struct guest *guest, size_t bytes, struct riffle_boot_registers *registers)
{
	uint8_t *copy = malloc(bytes ? bytes : 1); /* its own block, so that a read past the end is caught */
	int status;

	memcpy(copy, file, bytes < FILE_BYTES ? bytes : FILE_BYTES);
	status = riffle_boot_write_bzimage(registers, &guest->machine, copy, bytes, &error);
	free(copy);
	return status;
}

static void check_at(const struct guest *guest, uint64_t address)
{
	struct riffle_boot_registers registers;

	expect_ok(boot(guest, FILE_BYTES, &registers), &error);
	assert_int_equal(registers.rip, address + 0x200);
	assert_int_equal(registers.rsi, RIFFLE_BOOT_ZERO_PAGE);
	assert_memory_equal(guest->low + address, file + CODE_START, CODE_BYTES);
	for (unsigned i = 0; i < 4096; i++)
		assert_int_equal(guest->low[address + CODE_BYTES + i], 0);
}

static void test_preferred_address(void **state)
{
	struct guest guest;
	const uint8_t *page;

	(void)state;
	make_file();
	guest_make(&guest, 64 * MIB);
	page = guest.low + RIFFLE_BOOT_ZERO_PAGE;
	check_at(&guest, 16 * MIB);
	assert_int_equal(page[0x1f1], SECTS);
	assert_int_equal(page[0x210], 0xff);
	assert_int_equal(page[0x211], 1); /* the unpacker sets KASLR_FLAG itself */
	assert_int_equal(riffle_get32(page + 0x214), 16 * MIB);
	assert_int_equal(page[0x26c], 0);
	guest_free(&guest);
}

/* a header that says it is longer than the zero page's, and one that leaves setup_sects out */
static void test_odd_headers(void **state)
{
	struct guest guest;

	(void)state;
	make_file();
	guest_make(&guest, 64 * MIB);
	file[0x201] = 0xff;
	file[0x270] = 0x11;
	file[0x271] = 0x22;
	check_at(&guest, 16 * MIB);
	assert_int_equal(guest.low[RIFFLE_BOOT_ZERO_PAGE + 0x270], 0x11);
	assert_int_equal(guest.low[RIFFLE_BOOT_ZERO_PAGE + 0x271], 0);
	guest_free(&guest);

	make_file();
	guest_make(&guest, 64 * MIB);
	file[0x1f1] = 0;
	riffle_put32(file + 0x1f4, (FILE_BYTES - 5 * 512) / 16);
	expect_ok(boot(&guest, FILE_BYTES, &(struct riffle_boot_registers){0}), &error);
	assert_memory_equal(guest.low + 16 * MIB, file + 5 * 512, FILE_BYTES - 5 * 512);
	guest_free(&guest);
}

/* syssize counts paragraphs, the last of which the file may end in; what lies after them is not the kernel's. */
static void test_size_of_the_code(void **state)
{
	struct riffle_boot_registers registers;
	struct guest guest;

	(void)state;
	make_file();
	guest_make(&guest, 64 * MIB);
	riffle_put32(file + 0x1f4, CODE_BYTES / 16);
	expect_ok(boot(&guest, FILE_BYTES - 15, &registers), &error);
	assert_memory_equal(guest.low + 16 * MIB, file + CODE_START, CODE_BYTES - 15);
	assert_int_equal(guest.low[16 * MIB + CODE_BYTES - 15], 0);
	expect_error(boot(&guest, FILE_BYTES - 16, &registers), &error, RIFFLE_ERR_FORMAT, "syssize");
	guest_free(&guest);

	guest_make(&guest, 64 * MIB);
	memset(file + FILE_BYTES - 32, 0x55, 32);
	riffle_put32(file + 0x1f4, CODE_BYTES / 16 - 2);
	riffle_put32(file + 0x260, CODE_BYTES - 32);
	expect_ok(boot(&guest, FILE_BYTES, &registers), &error);
	assert_memory_equal(guest.low + 16 * MIB, file + CODE_START, CODE_BYTES - 32);
	for (unsigned i = 0; i < 32; i++)
		assert_int_equal(guest.low[16 * MIB + CODE_BYTES - 32 + i], 0);
	guest_free(&guest);
}

static void test_next_best_address(void **state)
{
	struct riffle_boot_registers registers;
	struct riffle_ram ram[2];
	struct guest guest;

	(void)state;
	/* the initrd takes the preferred window's end: behind it, aligned */
	make_file();
	guest_make(&guest, 64 * MIB);
	guest.machine.initrd_address = 23 * MIB;
	guest.machine.initrd_bytes = 2 * MIB + 1;
	check_at(&guest, 26 * MIB);
	file[0x234] = 0;
	expect_error(boot(&guest, FILE_BYTES, &registers), &error, RIFFLE_ERR_SPACE, "init_size");
	guest.machine.initrd_bytes = 0;
	check_at(&guest, 16 * MIB);
	guest_free(&guest);

	/* no RAM at the preferred address: up to the next stretch */
	make_file();
	guest_make(&guest, 64 * MIB);
	ram[0] = (struct riffle_ram){31 * MIB, 33 * MIB, guest.low + 31 * MIB};
	ram[1] = (struct riffle_ram){0, 16 * MIB, guest.low};
	guest.machine.ram = ram;
	guest.machine.ram_count = 2;
	check_at(&guest, 32 * MIB);
	guest_free(&guest);

	/* init_size is what has to fit, not the code */
	guest_make(&guest, 24 * MIB);
	check_at(&guest, 16 * MIB);
	riffle_put32(file + 0x260, 8 * MIB + 1);
	expect_error(boot(&guest, FILE_BYTES, &registers), &error, RIFFLE_ERR_SPACE, "init_size");
	guest_free(&guest);
}

static void put_u8(uint8_t *at, uint64_t value)
{
	*at = (uint8_t)value;
}

static void put_u16(uint8_t *at, uint64_t value)
{
	riffle_put16(at, (uint16_t)value);
}

static void put_u32(uint8_t *at, uint64_t value)
{
	riffle_put32(at, (uint32_t)value);
}

static void put_u64(uint8_t *at, uint64_t value)
{
	riffle_put64(at, value);
}

static void test_refused(void **state)
{
	const struct {
		void (*put)(uint8_t *at, uint64_t value);
		unsigned offset;
		uint64_t value;
		enum riffle_status status;
		const char *field;
	} rows[] = {
	    {put_u16, 0x1fe, 0xaa54, RIFFLE_ERR_FORMAT, "boot_flag"},
	    {put_u32, 0x202, 0, RIFFLE_ERR_FORMAT, "setup header magic"},
	    {put_u16, 0x206, 0x20b, RIFFLE_ERR_UNSUPPORTED, "boot protocol version"},
	    {put_u16, 0x236, 2, RIFFLE_ERR_UNSUPPORTED, "xloadflags"},
	    {put_u8, 0x211, 0, RIFFLE_ERR_UNSUPPORTED, "loadflags"},
	    {put_u8, 0x1f1, 255, RIFFLE_ERR_FORMAT, "setup_sects"},
	    {put_u32, 0x1f4, CODE_BYTES / 16 + 1, RIFFLE_ERR_FORMAT, "syssize"},
	    {put_u32, 0x1f4, UINT32_MAX, RIFFLE_ERR_FORMAT, "syssize"},
	    {put_u32, 0x260, 0, RIFFLE_ERR_FORMAT, "init_size"},
	    {put_u32, 0x260, CODE_BYTES - 1, RIFFLE_ERR_FORMAT, "init_size"},
	    {put_u32, 0x260, UINT32_MAX, RIFFLE_ERR_SPACE, "init_size"},
	    {put_u32, 0x230, 0, RIFFLE_ERR_FORMAT, "kernel_alignment"},
	    {put_u32, 0x230, 3 * MIB, RIFFLE_ERR_FORMAT, "kernel_alignment"},
	    {put_u64, 0x258, UINT64_MAX, RIFFLE_ERR_SPACE, "init_size"},
	    {put_u64, 0x258, UINT64_MAX - 8 * MIB + 1, RIFFLE_ERR_SPACE, "init_size"},
	};
	struct riffle_boot_registers registers;
	struct guest guest;

	(void)state;
	guest_make(&guest, 64 * MIB);
	for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
		make_file();
		rows[i].put(file + rows[i].offset, rows[i].value);
		expect_error(boot(&guest, FILE_BYTES, &registers), &error, rows[i].status, rows[i].field);
	}
	make_file();
	for (size_t bytes = 0; bytes < FILE_BYTES; bytes += bytes < 0x800 ? 1 : 509)
		assert_int_equal(boot(&guest, bytes, &registers), RIFFLE_ERR_FORMAT);
	riffle_put32(file + 0x1f4, 0); /* the entry has to be there all the same */
	expect_error(boot(&guest, CODE_START + 0x200, &registers), &error, RIFFLE_ERR_FORMAT, "setup_sects");
	expect_ok(boot(&guest, CODE_START + 0x201, &registers), &error);
	guest.machine.initrd_address = UINT64_MAX & ~UINT64_C(4095);
	guest.machine.initrd_bytes = 2 * MIB;
	expect_error(boot(&guest, FILE_BYTES, &registers), &error, RIFFLE_ERR_ARGUMENT, "initrd_address");
	guest_free(&guest);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_preferred_address), cmocka_unit_test(test_odd_headers),
	    cmocka_unit_test(test_size_of_the_code),  cmocka_unit_test(test_next_best_address),
	    cmocka_unit_test(test_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

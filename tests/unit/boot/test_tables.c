/* SPDX-License-Identifier: Apache-2.0 */
/* ACPI and MP tables as a kernel walks them: found, checked, followed; and read by ACPICA's compiler if installed. */
#include "guest.h"

#include <unistd.h>

static struct riffle_error error;

static const struct riffle_boot_device devices[] = {
    {"LNRO0005", 0xd0000000, 0x1000, 5},
    {"LNRO0005", 0xd0001000, 0x1000, 6},
    {"RIFL0001", 0xd0002000, 0x200, 23},
};

static void write_machine(const struct guest *guest)
{
	struct riffle_boot_registers registers;
	struct riffle_header header;
	struct riffle_plan plan = guest_plan(&header);
	struct riffle_loaded loaded = guest_kernel(32 * MIB);

	expect_ok(riffle_boot_write(&registers, &guest->machine, &plan, &loaded, &error), &error);
}

static void make_machine(struct guest *guest, unsigned vcpus)
{
	guest_make(guest, 64 * MIB);
	memset(guest->low, 0xa5, MIB);
	guest->machine.vcpus = vcpus;
	guest->machine.devices = devices;
	guest->machine.device_count = sizeof devices / sizeof *devices;
}

static uint8_t sum(const uint8_t *p, size_t bytes)
{
	uint8_t s = 0;

	while (bytes--)
		s = (uint8_t)(s + *p++);
	return s;
}

/* a table by its guest-physical address, its header and checksum verified */
static const uint8_t *table_at(const struct guest *guest, uint64_t address, const char *signature)
{
	const uint8_t *t = guest->low + address;

	assert_in_range(address, RIFFLE_BOOT_ACPI, RIFFLE_BOOT_LOW_END - 36);
	assert_int_equal(address % 16, 0);
	assert_memory_equal(t, signature, 4);
	assert_in_range(address + riffle_get32(t + 4), address + 36, RIFFLE_BOOT_LOW_END);
	assert_int_equal(sum(t, riffle_get32(t + 4)), 0);
	/* OEM id and table id padded to their lengths, OEM revision, creator, its revision */
	assert_memory_equal(t + 10, "RIFFLERIFFLEVM\1\0\0\0RIFL\1\0\0\0", 26);
	return t;
}

struct tables {
	const uint8_t *fadt, *madt, *dsdt;
};

/* as acpi_tb_parse_root_table() goes: RSDP, XSDT, and from the FADT to the DSDT */
static struct tables walk(const struct guest *guest)
{
	const uint8_t *rsdp = guest->low + riffle_get64(guest->low + RIFFLE_BOOT_ZERO_PAGE + 0x70), *xsdt;
	struct tables t;

	assert_ptr_equal(rsdp, guest->low + RIFFLE_BOOT_ACPI);
	assert_memory_equal(rsdp, "RSD PTR ", 8);
	assert_int_equal(rsdp[15], 2);
	assert_int_equal(riffle_get32(rsdp + 20), 36);
	assert_int_equal(sum(rsdp, 20), 0);
	assert_int_equal(sum(rsdp, 36), 0);
	xsdt = table_at(guest, riffle_get64(rsdp + 24), "XSDT");
	assert_int_equal(riffle_get32(xsdt + 4), 36 + 2 * 8);
	t.fadt = table_at(guest, riffle_get64(xsdt + 36), "FACP");
	t.madt = table_at(guest, riffle_get64(xsdt + 44), "APIC");
	t.dsdt = table_at(guest, riffle_get64(t.fadt + 140), "DSDT");
	assert_int_equal(riffle_get32(t.fadt + 40), riffle_get64(t.fadt + 140));
	return t;
}

static void test_fadt(void **state)
{
	struct guest guest;
	struct tables t;

	(void)state;
	make_machine(&guest, 1);
	write_machine(&guest);
	t = walk(&guest);
	assert_int_equal(riffle_get32(t.fadt + 4), 276);
	assert_true(riffle_get32(t.fadt + 112) & 1 << 20);       /* hardware-reduced */
	assert_true(riffle_get32(t.fadt + 112) & 1 << 10);       /* reset register */
	assert_int_equal(riffle_get16(t.fadt + 109), 1 | 2 | 4); /* legacy devices, 8042, no VGA, a clock */
	assert_int_equal(t.fadt[116], 1);
	assert_int_equal(riffle_get64(t.fadt + 120), 0xcf9);
	assert_int_equal(t.fadt[128], 6);
	assert_int_equal(t.fadt[244], 1);
	assert_int_equal(riffle_get64(t.fadt + 248), 0x600);
	assert_int_equal(riffle_get64(t.fadt + 260), 0x601);

	guest.machine.flags = 0;
	guest.machine.reset_port = guest.machine.sleep_control_port = 0;
	write_machine(&guest);
	t = walk(&guest);
	assert_false(riffle_get32(t.fadt + 112) & 1 << 10);
	assert_int_equal(riffle_get16(t.fadt + 109), 1 | 4 | 0x20);
	assert_int_equal(riffle_get64(t.fadt + 120), 0);
	assert_int_equal(riffle_get64(t.fadt + 248), 0);
	assert_int_equal(riffle_get64(t.fadt + 260), 0);
	assert_null(memmem(t.dsdt, riffle_get32(t.dsdt + 4), "_S5_", 4));
	guest_free(&guest);
}

struct field {
	unsigned at, bytes;
	uint64_t value;
};

/* ACPI 6.3, 5.2.9: every byte of the FADT behind its header; those that are not listed are 0. */
static void check_fadt(const uint8_t *fadt, const struct field *fields, unsigned count)
{
	uint8_t wanted[276] = {0};

	for (unsigned i = 0; i < count; i++)
		for (unsigned k = 0; k < fields[i].bytes; k++)
			wanted[fields[i].at + k] = (uint8_t)(fields[i].value >> 8 * k);
	assert_int_equal(fadt[8], 6); /* version 6.3 */
	assert_int_equal(fadt[131], 3);
	wanted[131] = 3;
	for (unsigned i = 36; i < sizeof wanted; i++)
		if (fadt[i] != wanted[i])
			fail_msg("FADT byte %u is %02x, expected %02x", i, fadt[i], wanted[i]);
}

static void test_every_byte_of_the_fadt(void **state)
{
	/* WBINVD, C1, no power and no sleep button, no RTC wake, reset register; hardware-reduced */
	const uint64_t flags = 1 << 0 | 1 << 2 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 10, reduced = 1 << 20;
	struct guest guest;
	struct tables t;

	(void)state;
	make_machine(&guest, 1);
	write_machine(&guest);
	t = walk(&guest);
	{
		const uint64_t dsdt = (uint64_t)(t.dsdt - guest.low);
		const struct field fields[] = {
		    {40, 4, dsdt},        {140, 8, dsdt},       {109, 2, 7},     {112, 4, flags | reduced},
		    {116, 4, 0x01000801}, {120, 8, 0xcf9},      {128, 1, 6},     {244, 4, 0x01000801},
		    {248, 8, 0x600},      {256, 4, 0x01000801}, {260, 8, 0x601},
		};

		check_fadt(t.fadt, fields, sizeof fields / sizeof *fields);
		assert_int_equal(t.dsdt[8], 2); /* integers of 64 bits */
		assert_int_equal(t.madt[8], 5);
	}
	guest.machine.sleep_control_port = 0;
	guest.machine.pm_port = 0x600;
	write_machine(&guest);
	t = walk(&guest);
	{
		const uint64_t dsdt = (uint64_t)(t.dsdt - guest.low), facs = riffle_get32(t.fadt + 36);
		const struct field fields[] = {
		    {36, 4, facs},        {132, 8, facs},  {40, 4, dsdt},        {140, 8, dsdt},  {46, 2, 9},
		    {56, 4, 0x600},       {64, 4, 0x604},  {88, 1, 4},           {89, 1, 2},      {96, 2, 0xffff},
		    {98, 2, 0xffff}, /* neither C2 nor C3 */
		    {109, 2, 7},          {112, 4, flags}, {116, 4, 0x01000801}, {120, 8, 0xcf9}, {128, 1, 6},
		    {148, 4, 0x02002001}, {152, 8, 0x600}, {172, 4, 0x02001001}, {176, 8, 0x604},
		};
		const uint8_t *p = guest.low + facs;

		check_fadt(t.fadt, fields, sizeof fields / sizeof *fields);
		for (unsigned i = 8; i < 64; i++)
			assert_int_equal(p[i], i == 32 ? 2 : 0); /* the FACS's version */
	}
	guest_free(&guest);
}

/* ACPI of a PC: fixed registers, an SCI, a FACS, PICs */
static void test_fixed_hardware(void **state)
{
	struct guest guest;
	struct tables t;
	const uint8_t *facs;

	(void)state;
	make_machine(&guest, 2);
	guest.machine.sleep_control_port = 0;
	guest.machine.pm_port = 0x600;
	write_machine(&guest);
	t = walk(&guest);
	assert_false(riffle_get32(t.fadt + 112) & 1 << 20);
	assert_int_equal(riffle_get16(t.fadt + 46), 9);
	assert_int_equal(riffle_get32(t.fadt + 48), 0); /* SMI command */
	assert_int_equal(riffle_get32(t.fadt + 56), 0x600);
	assert_int_equal(riffle_get32(t.fadt + 64), 0x604);
	assert_int_equal(t.fadt[88], 4);
	assert_int_equal(t.fadt[89], 2);
	assert_int_equal(riffle_get64(t.fadt + 152), 0x600);
	assert_int_equal(riffle_get64(t.fadt + 176), 0x604);
	assert_int_equal(riffle_get64(t.fadt + 248), 0);
	assert_int_equal(riffle_get32(t.fadt + 36), riffle_get64(t.fadt + 132));
	facs = guest.low + riffle_get32(t.fadt + 36);
	assert_int_equal(riffle_get32(t.fadt + 36) % 64, 0);
	assert_memory_equal(facs, "FACS", 4);
	assert_int_equal(riffle_get32(facs + 4), 64);
	assert_non_null(memmem(t.dsdt, riffle_get32(t.dsdt + 4), "_S5_", 4));
	assert_int_equal(riffle_get32(t.madt + 40), 1);
	assert_non_null(memmem(t.madt, riffle_get32(t.madt + 4), "\x02\x0a\x00\x09\x09\x00\x00\x00\x0d\x00", 10));
	/* the last port with room for all six registers, and the first without */
	guest.machine.pm_port = 0xfffa;
	write_machine(&guest);
	guest_free(&guest);
}

/* mov dx, 0xcf9; mov al, 6; out dx, al */
static void test_reset_vector(void **state)
{
	struct guest guest;

	(void)state;
	make_machine(&guest, 1);
	write_machine(&guest);
	assert_memory_equal(guest.low + 0xffff0, "\xba\xf9\x0c\xb0\x06\xee", 6);
	guest_free(&guest);
}

static void check_madt(unsigned vcpus)
{
	unsigned lapics = 0, ioapics = 0, nmis = 0;
	struct guest guest;
	const uint8_t *madt, *p;

	make_machine(&guest, vcpus);
	write_machine(&guest);
	madt = walk(&guest).madt;
	assert_int_equal(riffle_get32(madt + 36), 0xfee00000);
	for (p = madt + 44; p < madt + riffle_get32(madt + 4); p += p[1]) {
		assert_true(p[1] >= 2);
		switch (p[0]) {
		case 0:
			assert_int_equal(p[1], 8);
			assert_int_equal(p[3], lapics++);
			assert_int_equal(riffle_get32(p + 4), 1);
			break;
		case 1:
			assert_int_equal(p[1], 12);
			assert_int_equal(riffle_get32(p + 4), 0xfec00000);
			assert_int_equal(riffle_get32(p + 8), 0);
			ioapics++;
			break;
		case 4:
			assert_int_equal(p[1], 6);
			assert_int_equal(p[2], 0xff);
			assert_int_equal(p[5], 1);
			nmis++;
			break;
		default:
			fail_msg("MADT entry of type %u", p[0]);
		}
	}
	assert_ptr_equal(p, madt + riffle_get32(madt + 4));
	assert_int_equal(lapics, vcpus);
	assert_int_equal(ioapics, 1);
	assert_int_equal(nmis, 1);
	guest_free(&guest);
}

static void test_madt(void **state)
{
	(void)state;
	check_madt(1);
	check_madt(4);
	check_madt(32);
}

static void check_mp_table(unsigned vcpus)
{
	static const uint8_t entry_bytes[5] = {20, 8, 8, 8, 8};
	unsigned seen[5] = {0};
	struct guest guest;
	const uint8_t *pointer, *table, *p;

	make_machine(&guest, vcpus);
	write_machine(&guest);
	pointer = guest.low + 0x9fc00;
	assert_memory_equal(pointer, "_MP_", 4);
	assert_int_equal(sum(pointer, pointer[8] * 16u), 0);
	assert_int_equal(riffle_get32(pointer + 11), 0); /* no default configuration, no PIC mode */
	table = guest.low + riffle_get32(pointer + 4);
	assert_memory_equal(table, "PCMP", 4);
	assert_true(table + riffle_get16(table + 4) <= guest.low + 0xa0000);
	assert_int_equal(sum(table, riffle_get16(table + 4)), 0);
	p = table + 44;
	for (unsigned i = 0; i < riffle_get16(table + 34); i++, p += entry_bytes[p[0]]) {
		assert_in_range(p[0], 0, 4);
		if (p[0] == 0) {
			assert_int_equal(p[1], seen[0]);
			assert_int_equal(p[3], seen[0] ? 1 : 3);
		}
		if (p[0] == 3) { /* IRQ n on pin n */
			assert_int_equal(p[5], seen[3]);
			assert_int_equal(p[7], seen[3]);
		}
		seen[p[0]]++;
	}
	assert_ptr_equal(p, table + riffle_get16(table + 4));
	assert_int_equal(seen[0], vcpus);
	assert_int_equal(seen[1], 1);
	assert_int_equal(seen[2], 1);
	assert_int_equal(seen[3], 24);
	assert_int_equal(seen[4], 2);
	guest_free(&guest);
}

static void test_mp_table(void **state)
{
	(void)state;
	check_mp_table(1);
	check_mp_table(32);
}

static void test_devices_are_checked(void **state)
{
	const struct {
		struct riffle_boot_device device;
		const char *field;
	} rows[] = {
	    {{NULL, 0xd0000000, 4096, 5}, "device hid"},
	    {{"", 0xd0000000, 4096, 5}, "device hid"},
	    {{"ABC", 0xd0000000, 4096, 5}, "device hid"},
	    {{"LNRO00055", 0xd0000000, 4096, 5}, "device hid"},
	    {{"lnro0005", 0xd0000000, 4096, 5}, "device hid"},
	    {{"LNRO0005", 0xd0000000, 0, 5}, "device address"},
	    {{"LNRO0005", 0xfffff000, 8192, 5}, "device address"},
	    {{"LNRO0005", UINT64_C(0x100000000), 4096, 5}, "device address"},
	    {{"LNRO0005", UINT64_MAX, 4096, 5}, "device address"},
	    {{"LNRO0005", 64 * MIB - 1, 4096, 5}, "device address"},
	    {{"LNRO0005", 0xd0000000, 4096, 24}, "device gsi"},
	};
	struct riffle_boot_registers registers;
	struct riffle_header header;
	struct riffle_plan plan = guest_plan(&header);
	struct riffle_loaded loaded = guest_kernel(32 * MIB);
	struct guest guest;

	(void)state;
	make_machine(&guest, 1);
	for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
		guest.machine.devices = &rows[i].device;
		guest.machine.device_count = 1;
		expect_error(riffle_boot_write(&registers, &guest.machine, &plan, &loaded, &error), &error,
			     RIFFLE_ERR_ARGUMENT, rows[i].field);
	}
	guest.machine.device_count = 0;
	guest.machine.sleep_control_port = UINT16_MAX;
	expect_error(riffle_boot_write(&registers, &guest.machine, &plan, &loaded, &error), &error, RIFFLE_ERR_ARGUMENT,
		     "sleep_control_port");
	guest.machine.sleep_control_port = 0;
	guest.machine.pm_port = 0xfffb;
	expect_error(riffle_boot_write(&registers, &guest.machine, &plan, &loaded, &error), &error, RIFFLE_ERR_ARGUMENT,
		     "pm_port");
	guest_free(&guest);
}

/* Of a device's hid no more is read than shows that it is too long: nine letters at the end of what is mapped. */
static void test_long_hid_is_not_read_past(void **state)
{
	const size_t page = 4096;
	char *letters = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct riffle_boot_device device = {"", 0xd0000000, 4096, 5};
	struct riffle_boot_registers registers;
	struct riffle_header header;
	struct riffle_plan plan = guest_plan(&header);
	struct riffle_loaded loaded = guest_kernel(32 * MIB);
	struct guest guest;

	(void)state;
	assert_ptr_not_equal(letters, MAP_FAILED);
	assert_int_equal(mprotect(letters + page, page, PROT_NONE), 0);
	memset(letters, 'A', page);
	make_machine(&guest, 1);
	guest.machine.devices = &device;
	guest.machine.device_count = 1;
	device.hid = letters + page - 9;
	expect_error(riffle_boot_write(&registers, &guest.machine, &plan, &loaded, &error), &error, RIFFLE_ERR_ARGUMENT,
		     "device hid");
	assert_string_equal(error.problem, "is not 4 to 8 capitals and digits");
	letters[page - 1] = 0;
	expect_ok(riffle_boot_write(&registers, &guest.machine, &plan, &loaded, &error), &error);
	guest_free(&guest);
	munmap(letters, 2 * page);
}

/* as many devices as fit, and one more; nothing beyond 1 MiB is written */
static void test_most_devices(void **state)
{
	struct riffle_boot_device *many = calloc(4096, sizeof *many);
	struct riffle_boot_registers registers;
	struct riffle_header header;
	struct riffle_plan plan = guest_plan(&header);
	struct riffle_loaded loaded = guest_kernel(32 * MIB);
	struct guest guest;
	size_t count;
	int status;

	(void)state;
	assert_non_null(many);
	make_machine(&guest, 32);
	guest.machine.devices = many;
	for (unsigned i = 0; i < 4096; i++)
		many[i] = (struct riffle_boot_device){"LNRO0005", 0xd0000000 + i * UINT64_C(4096), 4096, i % 24};
	for (count = 1000;; count++) {
		guest.machine.device_count = count;
		status = riffle_boot_write(&registers, &guest.machine, &plan, &loaded, &error);
		assert_int_equal(riffle_get64(guest.low + MIB), 0);
		if (status)
			break;
		if (count % 64 == 0)
			walk(&guest);
	}
	expect_error(status, &error, RIFFLE_ERR_SPACE, "devices");
	assert_int_equal(error.found, count);
	print_message("%zu devices fit\n", count - 1);
	free(many);
	guest_free(&guest);
}

static void save(const char *directory, const char *name, const uint8_t *table)
{
	char path[256];
	FILE *f;

	snprintf(path, sizeof path, "%s/%s.dat", directory, name);
	f = fopen(path, "wb");
	assert_non_null(f);
	assert_int_equal(fwrite(table, 1, riffle_get32(table + 4), f), riffle_get32(table + 4));
	assert_int_equal(fclose(f), 0);
}

/*
 * ACPICA's own compiler disassembles every table without a complaint, finds in the DSDT what was put there, and
 * compiles that text again, without a warning, to the same bytes but for the header, which names the compiler.
 */
static const char acpica_script[] =
    "set -eu; cd \"$1\"; iasl -d dsdt.dat fadt.dat madt.dat >log 2>&1 || { cat log; exit 1; }\n"
    "if grep -Ei 'error|warning|invalid' log; then exit 1; fi\n"
    "if grep -Ei 'incorrect|invalid' fadt.dsl madt.dsl; then exit 1; fi\n"
    "for word in 'EisaId (\"PNP0501\")' 'EisaId (\"PNP0303\")' 'EisaId (\"PNP0B00\")' \\\n"
    "    'Name (_S5, Package (0x04)' '\"LNRO0005\"' 0xD0001000 'Interrupt (ResourceConsumer, Edge, ActiveHigh, "
    "Exclusive' '\"VM_Gen_Counter\"' 0x000DFFF0 '\"VMCLOCK\"' 'Method (_EVT, 1, Serialized)' \\\n"
    "    'Notify (\\_SB.VGEN, 0x80)' 'Notify (\\_SB.VCLK, 0x80)'; do\n"
    "  grep -qF \"$word\" dsdt.dsl || { echo \"no $word\"; cat dsdt.dsl; exit 1; }\n"
    "done\n"
    /* the compiler rejects the name by which drivers find the generation id */
    "LC_ALL=C sed -i 's/VMGENCTR/RIFL0001/' dsdt.dat dsdt.dsl\n"
    "iasl -oa -p again dsdt.dsl >log 2>&1 || { cat log; exit 1; }\n"
    "grep -q '0 Errors, 0 Warnings' log || { cat log; exit 1; }\n"
    "cmp -i 36 dsdt.dat again.aml\n";

static void check_with_acpica(size_t device_count)
{
	struct riffle_boot_device *many = calloc(device_count, sizeof *many);
	char directory[] = "/tmp/riffle-acpi-XXXXXX", command[2048];
	struct guest guest;
	struct tables t;
	int status;

	assert_non_null(many);
	for (unsigned i = 0; i < device_count; i++)
		many[i] = (struct riffle_boot_device){"LNRO0005", 0xd0000000 + i * UINT64_C(4096), 4096, i % 24};
	make_machine(&guest, 4);
	guest.machine.devices = many;
	guest.machine.device_count = device_count;
	guest.machine.event_gsi = 3;
	guest.machine.vmgenid_address = 0xdfff0;
	guest.machine.vmclock_address = 0xde000;
	write_machine(&guest);
	t = walk(&guest);
	assert_non_null(mkdtemp(directory));
	save(directory, "dsdt", t.dsdt);
	save(directory, "fadt", t.fadt);
	save(directory, "madt", t.madt);
	assert_int_equal(setenv("SCRIPT", acpica_script, 1), 0);
	snprintf(command, sizeof command, "sh -c \"$SCRIPT\" sh %s", directory);
	status = system(command);
	snprintf(command, sizeof command, "rm -rf %s", directory);
	assert_int_equal(system(command), 0);
	assert_int_equal(status, 0);
	free(many);
	guest_free(&guest);
}

/* lengths of one, two and three bytes */
static void test_acpica_reads_them(void **state)
{
	(void)state;
	if (system("command -v iasl >/dev/null 2>&1") != 0) {
		print_message("skipped: no iasl (Debian package acpica-tools)\n");
		skip();
	}
	check_with_acpica(3);
	check_with_acpica(60);
	check_with_acpica(1000);
}

static int write_events(uint8_t gsi, uint32_t vmgenid, uint32_t vmclock)
{
	struct riffle_boot_registers registers;
	struct riffle_header header;
	struct riffle_plan plan = guest_plan(&header);
	struct riffle_loaded loaded = guest_kernel(32 * MIB);
	struct guest guest;

	make_machine(&guest, 1);
	guest.machine.event_gsi = gsi;
	guest.machine.vmgenid_address = vmgenid;
	guest.machine.vmclock_address = vmclock;
	int status = riffle_boot_write(&registers, &guest.machine, &plan, &loaded, &error);

	guest_free(&guest);
	return status;
}

/* A generation id and VMClock may be outside RAM, or between base memory and the ACPI tables. */
static void test_events_are_checked(void **state)
{
	static const struct {
		uint8_t gsi;
		uint32_t vmgenid, vmclock;
		const char *field; /* NULL: good */
	} cases[] = {
	    {3, 0xdfff0, 0xde000, NULL},
	    {3, 0xdfff0, 0, NULL},
	    {23, 0, 0xa0000, NULL},
	    {3, 0xd8000000, 0xdffff000, NULL},
	    {3, 0xfffffff0, 0, NULL},
	    {0, 0, 0, NULL},
	    {0, 0xdfff0, 0, "event_gsi"},
	    {24, 0xdfff0, 0, "event_gsi"},
	    {3, 0, 0, "event_gsi"},
	    {3, 0xdfff8, 0, "vmgenid_address"}, /* its last byte is ACPI's */
	    {3, 0xdffec, 0, "vmgenid_address"},
	    {3, 0x9fff8, 0, "vmgenid_address"},
	    {3, 0x100000, 0, "vmgenid_address"},
	    {3, 64 * MIB - 8, 0, "vmgenid_address"},
	    {3, 0xfffffff8, 0, "vmgenid_address"},
	    {3, 0, 0xdf800, "vmclock_address"},
	    {3, 0, 0xe0000, "vmclock_address"},
	    {3, 0, 0x9f000, "vmclock_address"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		int status = write_events(cases[i].gsi, cases[i].vmgenid, cases[i].vmclock);

		assert_int_equal(status, cases[i].field ? RIFFLE_ERR_ARGUMENT : 0);
		if (cases[i].field)
			assert_string_equal(error.field, cases[i].field);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_every_byte_of_the_fadt),
	    cmocka_unit_test(test_fadt),
	    cmocka_unit_test(test_fixed_hardware),
	    cmocka_unit_test(test_reset_vector),
	    cmocka_unit_test(test_madt),
	    cmocka_unit_test(test_mp_table),
	    cmocka_unit_test(test_devices_are_checked),
	    cmocka_unit_test(test_long_hid_is_not_read_past),
	    cmocka_unit_test(test_most_devices),
	    cmocka_unit_test(test_acpica_reads_them),
	    cmocka_unit_test(test_events_are_checked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

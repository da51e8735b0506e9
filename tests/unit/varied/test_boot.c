/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Machines of every kind, most of them with one thing that is odd, and bzImages booted as such: what is refused, and
 * all that is written for the others, are as recorded.
 */
#include "tests/unit/boot/guest.h"
#include "tests/unit/varied/vary.h"

#include <string.h>

#include <riffle/riffle.h>

#define PAGE 4096u

static struct riffle_error error;
static uint8_t *low; /* what lies at guest address 0 */
enum { LOW = 64 << 20, FILE_AT = 0x600, FILE_BYTES = 0x3600 };

static void record_registers(struct recorded *r, const struct riffle_boot_registers *g)
{
	record(r, "%llx %llx %llx %llx, %llx %llx %llx %llx, %llx+%x %x %x", (unsigned long long)g->rip,
	       (unsigned long long)g->rsi, (unsigned long long)g->rsp, (unsigned long long)g->rflags,
	       (unsigned long long)g->cr0, (unsigned long long)g->cr3, (unsigned long long)g->cr4,
	       (unsigned long long)g->efer, (unsigned long long)g->gdt_address, g->gdt_bytes, g->cs, g->ds);
}

/* Everything below 1 MiB, where it is no longer the pattern. */
static void record_low(struct recorded *r)
{
	uint64_t word;

	for (uint32_t at = 0; at < MIB; at += 8) {
		memcpy(&word, low + at, 8);
		if (word == UINT64_C(0x5a5a5a5a5a5a5a5a))
			continue;
		record_bytes(r, &at, sizeof at);
		record_bytes(r, &word, sizeof word);
	}
	record(r, "%016" PRIx64, r->digest);
}

struct made {
	struct riffle_machine machine;
	struct riffle_ram ram[4];
	struct riffle_boot_device device[3];
	uint8_t seed[300];
	char line[5000];
	struct riffle_header header;
	struct riffle_plan plan;
	struct riffle_loaded loaded;
};

static uint64_t one_of(uint64_t *state, const uint64_t *numbers, size_t count)
{
	return numbers[test_random(state) % count];
}
#define ONE_OF(state, ...)                                                                                             \
	one_of(state, (const uint64_t[]){__VA_ARGS__}, sizeof((const uint64_t[]){__VA_ARGS__}) / sizeof(uint64_t))

/* What a monitor may well ask for. One draw an expression: within one, their order would be the compiler's. */
static void make_machine(struct made *m, uint64_t *random)
{
	const uint64_t end = ONE_OF(random, 64 * MIB, 512 * MIB, 3 * GIB, 2 * GIB - PAGE);
	const size_t line = ONE_OF(random, 0, 1, 20, 2000);

	memset(m, 0, sizeof *m);
	/* all but the first MiB is only counted */
	m->ram[0] = (struct riffle_ram){0, end, low};
	m->ram[1] = (struct riffle_ram){4 * GIB, ONE_OF(random, PAGE, GIB, 5 * GIB + 3 * MIB, 40 * GIB), low};
	m->ram[2] = (struct riffle_ram){end, ONE_OF(random, PAGE, MIB), low + end};
	m->ram[3] = (struct riffle_ram){200 * GIB, GIB, low};
	memset(m->line, 'x', line);
	memset(m->seed, 0x77, sizeof m->seed);
	for (unsigned i = 0; i < 3; i++)
		m->device[i] = (struct riffle_boot_device){.hid = (const char *[]){"LNRO0005", "PNP0", "ACPI0013"}[i],
							   .address = 0xd0000000 + i * PAGE,
							   .bytes = PAGE,
							   .gsi = 5 + i};
	m->machine = (struct riffle_machine){
	    .ram = m->ram, .command_line = m->line, .rng_seed = m->seed, .devices = m->device, .reset_value = 6};
	m->machine.ram_count = ONE_OF(random, 1, 2, 3, 4);
	m->machine.vcpus = (unsigned)ONE_OF(random, 1, 2, 7, 32);
	m->machine.flags = (unsigned)(test_random(random) % 8);
	m->machine.initrd_address = ONE_OF(random, 16 * MIB, 32 * MIB + PAGE);
	m->machine.initrd_bytes = ONE_OF(random, 0, 1, 3 * MIB + 5);
	m->machine.rng_seed_bytes = ONE_OF(random, 1, 32, 256);
	m->machine.device_count = ONE_OF(random, 0, 1, 3);
	m->machine.tables = (unsigned)ONE_OF(random, 0, 0, 0, 2, 6, 8, 10, 14, 16, 30, 31);
	m->machine.pm_port = (uint16_t)ONE_OF(random, 0, 0x600);
	m->machine.sleep_control_port = (uint16_t)ONE_OF(random, 0, 0x700);
	m->machine.reset_port = (uint16_t)ONE_OF(random, 0, 0xcf9);
	if (test_random(random) % 2)
		m->machine.event_gsi = 10;
	m->machine.vmgenid_address = m->machine.event_gsi ? (uint32_t)ONE_OF(random, 0, 0xc0000, 0xd1000000) : 0;
	m->machine.vmclock_address = m->machine.event_gsi ? (uint32_t)ONE_OF(random, 0xc1000, 0xd2000000) : 0;
	if (m->machine.tables && !(m->machine.tables & RIFFLE_TABLES_ACPI)) {
		m->machine.pm_port = m->machine.sleep_control_port = m->machine.reset_port = 0;
		m->machine.device_count = m->machine.event_gsi = 0;
		m->machine.vmgenid_address = m->machine.vmclock_address = 0;
		m->machine.rsdp_address = ONE_OF(random, 0, 0xe1000);
	}
	m->plan = guest_plan(&m->header);
	m->loaded = guest_kernel(ONE_OF(random, 48 * MIB, 40 * MIB));
	if (test_random(random) % 2) { /* it came as a bzImage */
		m->header.flags |= RIFFLE_KERNEL_SETUP_HEADER;
		for (unsigned i = 0; i < sizeof m->header.setup_header; i++)
			m->header.setup_header[i] = (uint8_t)(i * 37);
		m->header.setup_header[0x201 - 0x1f1] = (uint8_t)ONE_OF(random, 0x62, 0x6a, 0x66);
		riffle_put16(m->header.setup_header + (0x1fe - 0x1f1), 0xaa55);
		memcpy(m->header.setup_header + (0x202 - 0x1f1), "HdrS", 4);
		riffle_put16(m->header.setup_header + (0x206 - 0x1f1), 0x20f);
		riffle_put32(m->header.setup_header + (0x22c - 0x1f1),
			     (uint32_t)ONE_OF(random, 0x7fffffff, 0x37ffffff));
		riffle_put32(m->header.setup_header + (0x238 - 0x1f1), (uint32_t)ONE_OF(random, 2047, 255, 4096));
	}
}

/* One thing that is at an edge or past it. */
static void make_odd(struct made *m, uint64_t *random)
{
	struct riffle_boot_device *d = &m->device[test_random(random) % 3];
	struct riffle_ram *ram = &m->ram[test_random(random) % 4];
	struct riffle_machine *machine = &m->machine;

	switch (test_random(random) % 24) {
	case 0:
		machine->vcpus = (unsigned)ONE_OF(random, 0, 33, 31);
		break;
	case 1:
		machine->flags = (unsigned)ONE_OF(random, 8, 7, 1u << 31);
		break;
	case 2:
		memset(m->line, 'y', ONE_OF(random, 254, 255, 256, 2046, 2047, 2048, 4094, 4095, 4096));
		break;
	case 3:
		machine->initrd_address =
		    ONE_OF(random, 0, 1, PAGE, MIB - 1, 64 * MIB, 4 * GIB - PAGE, 4 * GIB, 48 * MIB + 1);
		break;
	case 4:
		machine->initrd_bytes = ONE_OF(random, UINT64_MAX, 64 * MIB, 16 * MIB, 16 * MIB + 1, 4 * GIB);
		break;
	case 5:
		machine->rng_seed_bytes = ONE_OF(random, 0, 257, 255);
		break;
	case 6:
		machine->rng_seed = NULL;
		break;
	case 7:
		d->hid = (const char *[]){
		    NULL, "", "PNP", "ABCDEFGH9", "lnro0005", "LNRO 005", "ABCD", "ABCDEFGH"}[test_random(random) % 8];
		break;
	case 8:
		d->address = ONE_OF(random, 0, PAGE, 0xfec00000, 0xfee00000, 0xfebff000, UINT64_MAX, 4 * GIB,
				    0xd0000800, 0xa0000, 0xbf000000);
		break;
	case 9:
		d->bytes = (uint32_t)ONE_OF(random, 0, 1, UINT32_MAX, 2 * PAGE);
		break;
	case 10:
		d->gsi = (uint32_t)ONE_OF(random, 0, 1, 2, 4, 8, 9, 10, 23, 24, UINT32_MAX);
		break;
	case 11:
		machine->rsdp_address = ONE_OF(random, 1, 0xe0000, UINT64_MAX);
		break;
	case 12:
		machine->tables = (unsigned)ONE_OF(random, 32, 1, 4, 12, 1u << 31);
		break;
	case 13:
		machine->pm_port = (uint16_t)ONE_OF(random, 1, 0xfffa, 0xfffb, 0xffff, 0x700, 0x6fe);
		break;
	case 14:
		machine->sleep_control_port = (uint16_t)ONE_OF(random, 1, 0xfffe, 0xffff, 0x605, 0x606, 0x5ff);
		break;
	case 15:
		machine->reset_port = (uint16_t)ONE_OF(random, 1, 0xffff, 0x64, 0x605);
		break;
	case 16:
		machine->event_gsi = (uint8_t)ONE_OF(random, 0, 1, 4, 5, 9, 23, 24);
		break;
	case 17:
		machine->vmgenid_address =
		    (uint32_t)ONE_OF(random, 4, 8, 0xa0000, 0x9fff8, 0xdfff0, 0xdfff8, 0xe0000, 0xd1000001, 0xfffffff8);
		break;
	case 18:
		machine->vmclock_address = (uint32_t)ONE_OF(random, 4, PAGE, 0xa0000, 0x9f000, 0xdf000, 0xdf004,
							    0xe0000, 0xd2000800, 0xfffff000);
		break;
	case 19:
		ram->address = ONE_OF(random, PAGE, 1, 0xa0000, MIB, 0x1000000000000, 0xffffffffff000, 4 * GIB, 2 * GIB,
				      0xfec00000);
		break;
	case 20:
		ram->bytes =
		    ONE_OF(random, 0, 1, PAGE, MIB, 0xa0000, 0x23000, 0x22000, 100 * GIB, UINT64_MAX - PAGE + 1);
		break;
	case 21:
		m->loaded.physical_base += ONE_OF(random, 1, PAGE, 2 * MIB, -(uint64_t)(48 * MIB), 4 * GIB);
		break;
	case 22:
		m->loaded.entry = ONE_OF(random, 0, m->loaded.end, m->loaded.end - 1, m->loaded.physical_base - 1);
		break;
	default:
		m->loaded.end = ONE_OF(random, 0, m->loaded.physical_base, 64 * MIB, 64 * MIB + 1, UINT64_MAX);
		break;
	}
}

static void record_boot(struct recorded *r, struct made *m)
{
	struct riffle_boot_registers g = {0};
	struct riffle_range reserved[4] = {{0}};
	uint64_t address = 0;
	uint8_t header[RIFFLE_BOOT_SETUP_HEADER_BYTES];

	memset(low, 0x5a, MIB);
	if (!record_status(r, riffle_boot_write(&g, &m->machine, &m->plan, &m->loaded, &error), &error))
		record_registers(r, &g);
	record_low(r);
	record(r, "%zu reserved", riffle_boot_reserved(&m->machine, reserved, 4));
	for (unsigned i = 0; i < 4; i++)
		record(r, "%llx+%llx", (unsigned long long)reserved[i].address, (unsigned long long)reserved[i].bytes);
	if (!record_status(
		r, riffle_boot_place_initrd(&address, &m->machine, &m->plan, m->machine.initrd_bytes, &error), &error))
		record(r, "initrd at %llx", (unsigned long long)address);
	if (!record_status(r, riffle_boot_setup_header(header, &m->plan, &m->loaded, &error), &error))
		record_bytes(r, header, sizeof header);
}

static void test_machines(void **state)
{
	static const struct recording wanted = {"machines", UINT64_C(0xd6ae89400496291c), 3843, 657};
	struct recorded r = recorded_begin(wanted.name);
	struct made *m = calloc(1, sizeof *m);
	uint64_t random = 11;

	(void)state;
	assert_non_null(m);
	for (unsigned n = 0; n < 1500; n++) {
		record(&r, "%u:", n);
		make_machine(m, &random);
		if (n % 4)
			make_odd(m, &random);
		record_boot(&r, m);
	}
	free(m);
	assert_true(recorded_is(&r, &wanted));
}

/* `input` is a bzImage. */
static void try_bzimage(struct recorded *r, const struct test_bytes *input)
{
	static unsigned turn;
	struct riffle_boot_registers g = {0};
	struct riffle_ram ram = {0, (const uint64_t[]){LOW, 32 * MIB, 25 * MIB, 24 * MIB}[turn++ % 4], low};
	const struct riffle_machine machine = {.ram = &ram,
					       .ram_count = 1,
					       .vcpus = 1,
					       .command_line = "quiet",
					       .initrd_address = turn % 3 ? 0 : 20 * MIB,
					       .initrd_bytes = turn % 3 ? 0 : MIB};

	memset(low, 0x5a, MIB);
	if (record_status(r, riffle_boot_write_bzimage(&g, &machine, input->at, input->count, &error), &error))
		return;
	record_registers(r, &g);
	record_low(r);
	if (g.rip >= MIB && g.rip - 0x200 <= LOW - FILE_BYTES)
		record_bytes(r, low + g.rip - 0x200, FILE_BYTES);
}

static void test_bzimages(void **state)
{
	static const struct varied part = {
	    {"booted bzImages", UINT64_C(0x12f95a0f969f90c7), 772, 428}, 0x1f0, 0x26c, 1200};
	struct test_bytes file = {0};

	(void)state;
	test_bytes_zero(&file, FILE_BYTES);
	for (unsigned i = 0; i < FILE_BYTES; i++)
		file.at[i] = (uint8_t)(i * 31 + (i >> 8) + 1);
	memset(file.at + 0x1f1, 0, 0x280 - 0x1f1);
	file.at[0x1f1] = FILE_AT / 512 - 1;
	riffle_put32(file.at + 0x1f4, (FILE_BYTES - FILE_AT) / 16);
	riffle_put16(file.at + 0x1fe, 0xaa55);
	memcpy(file.at + 0x200,
	       "\xeb\x6a"
	       "HdrS\x0f\x02",
	       8);
	file.at[0x211] = 1;
	riffle_put32(file.at + 0x22c, 0x7fffffff);
	riffle_put32(file.at + 0x230, 2 * MIB);
	file.at[0x234] = 1;
	riffle_put16(file.at + 0x236, 3);
	riffle_put32(file.at + 0x238, 2047);
	riffle_put64(file.at + 0x258, 16 * MIB);
	riffle_put32(file.at + 0x260, 8 * MIB);
	assert_true(vary_part(&part, &file, try_bzimage));
	test_bytes_free(&file);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_machines),
	    cmocka_unit_test(test_bzimages),
	};

	low = mmap(NULL, LOW, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (low == MAP_FAILED)
		return 1;
	return cmocka_run_group_tests_name("varied-boot", tests, NULL, NULL);
}

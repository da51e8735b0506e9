/* SPDX-License-Identifier: Apache-2.0 */
/* What a PVH loader hands over becomes a zero page, or is refused; and a kernel in place is checked against it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "common/bytes.h"
#include "stage/pvh.h"
#include "stage/stage.h"

#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)
#define LIMIT (64 * GIB)

/* the places that Firecracker and Cloud Hypervisor use */
#define INFO 0x6000u
#define MODULES 0x6040u
#define MAP 0x7000u
#define LINE 0x20000u

static uint8_t guest[256 << 10];
static uint8_t zero_page[4096];

static const void *at_guest(void *opaque, uint64_t address, uint64_t bytes)
{
	(void)opaque;
	return riffle_inside(address, bytes, sizeof guest) ? guest + address : NULL;
}

static const struct stage_view view = {at_guest, NULL};

static void map_entry(unsigned index, uint64_t address, uint64_t bytes, uint32_t type)
{
	uint8_t *entry = guest + MAP + 24 * (size_t)index;

	riffle_put64(entry, address);
	riffle_put64(entry + 8, bytes);
	riffle_put32(entry + 16, type);
}

static void module(uint64_t address, uint64_t bytes)
{
	riffle_put64(guest + MODULES, address);
	riffle_put64(guest + MODULES + 8, bytes);
}

/* A start info as a loader makes it: 5 GiB in two stretches, an initrd, a command line, an RSDP. */
static int start(void **state)
{
	(void)state;
	memset(guest, 0, sizeof guest);
	memset(zero_page, 0, sizeof zero_page);
	riffle_put32(zero_page + 0x202, 0x53726448); /* the packer's part */
	riffle_put32(zero_page + 0x238, 2047);
	zero_page[0x211] = 1;
	riffle_put32(guest + INFO, 0x336ec578);
	riffle_put32(guest + INFO + 4, 1);
	riffle_put32(guest + INFO + 12, 1);
	riffle_put64(guest + INFO + 16, MODULES);
	riffle_put64(guest + INFO + 24, LINE);
	riffle_put64(guest + INFO + 32, 0xe0000);
	riffle_put64(guest + INFO + 40, MAP);
	riffle_put32(guest + INFO + 48, 3);
	module(0x1bffff000, 0x123456789);
	map_entry(0, 0, 0x9fc00, 1);
	map_entry(1, MIB, 3 * GIB - MIB, 1);
	map_entry(2, 4 * GIB, 2 * GIB, 1);
	return 0;
}

static int convert(void)
{
	return stage_pvh_zero_page(zero_page, INFO, &view, NULL);
}

static void assert_e820(unsigned index, uint64_t address, uint64_t bytes, uint32_t type)
{
	const uint8_t *entry = zero_page + 0x2d0 + 20 * (size_t)index;

	assert_int_equal(riffle_get64(entry), address);
	assert_int_equal(riffle_get64(entry + 8), bytes);
	assert_int_equal(riffle_get32(entry + 16), type);
}

static void start_info_becomes_a_zero_page(void **state)
{
	(void)state;
	assert_int_equal(convert(), RIFFLE_OK);
	assert_int_equal(zero_page[0x1e8], 4);
	assert_e820(0, 0, 0x9fc00, 1);
	assert_e820(1, MIB, 3 * GIB - MIB, 1);
	assert_e820(2, 4 * GIB, 2 * GIB, 1);
	assert_e820(3, 0xa0000, 0x60000, 2);
	assert_int_equal(riffle_get32(zero_page + 0x218), 0xbffff000);
	assert_int_equal(riffle_get32(zero_page + 0x0c0), 1);
	assert_int_equal(riffle_get32(zero_page + 0x21c), 0x23456789);
	assert_int_equal(riffle_get32(zero_page + 0x0c4), 1);
	assert_int_equal(riffle_get32(zero_page + 0x228), LINE);
	assert_int_equal(riffle_get32(zero_page + 0x0c8), 0);
	assert_int_equal(riffle_get64(zero_page + 0x070), 0xe0000);
	assert_int_equal(zero_page[0x210], 0xff);
	/* the packer's part stays, and the sentinel is clear */
	assert_int_equal(riffle_get32(zero_page + 0x202), 0x53726448);
	assert_int_equal(riffle_get32(zero_page + 0x238), 2047);
	assert_int_equal(zero_page[0x211], 1);
	assert_int_equal(zero_page[0x1ef], 0);
	assert_int_equal(stage_initrd(zero_page).address, 0x1bffff000);
	assert_int_equal(stage_initrd(zero_page).bytes, 0x123456789);
}

/* A machine that was reset without its image being loaded again finds its old zero page. */
static void a_second_time_leaves_nothing_of_the_first(void **state)
{
	(void)state;
	assert_int_equal(convert(), RIFFLE_OK);
	riffle_put32(guest + INFO + 12, 0); /* neither a module, nor a command line, nor an RSDP any more */
	riffle_put64(guest + INFO + 24, 0);
	riffle_put64(guest + INFO + 32, 0);
	riffle_put32(guest + INFO + 48, 1);
	assert_int_equal(convert(), RIFFLE_OK);
	assert_int_equal(zero_page[0x1e8], 2);
	assert_e820(1, 0xa0000, 0x60000, 2);
	assert_e820(2, 0, 0, 0);
	assert_int_equal(stage_initrd(zero_page).bytes, 0);
	assert_int_equal(stage_command_line(zero_page).address, 0);
	assert_int_equal(riffle_get64(zero_page + 0x070), 0);
}

static void a_map_may_have_127_entries(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 128; i++)
		map_entry(i, i * 2 * MIB, MIB, 1);
	riffle_put32(guest + INFO + 48, 127);
	assert_int_equal(convert(), RIFFLE_OK);
	assert_int_equal(zero_page[0x1e8], 128);
	assert_e820(126, 252 * MIB, MIB, 1);
	assert_e820(127, 0xa0000, 0x60000, 2);
	/* the byte after the table */
	assert_int_equal(zero_page[0x2d0 + 128 * 20], 0);
	riffle_put32(guest + INFO + 48, 128);
	assert_int_equal(convert(), RIFFLE_ERR_UNSUPPORTED);
	riffle_put32(guest + INFO + 48, UINT32_MAX);
	assert_int_equal(convert(), RIFFLE_ERR_UNSUPPORTED);
	riffle_put32(guest + INFO + 48, 0);
	assert_int_equal(convert(), RIFFLE_ERR_FORMAT);
}

static void lies_are_refused(void **state)
{
	static const struct {
		unsigned field;
		uint64_t last; /* the highest address that does */
	} pointers[] = {
	    {INFO + 16, sizeof guest - 32},
	    {INFO + 24, sizeof guest - 2048},
	    {INFO + 40, sizeof guest - 3 * 24},
	};

	for (size_t i = 0; i < sizeof pointers / sizeof *pointers; i++) {
		start(state);
		riffle_put64(guest + pointers[i].field, pointers[i].last);
		assert_int_equal(convert(), RIFFLE_OK);
		riffle_put64(guest + pointers[i].field, pointers[i].last + 1);
		assert_int_equal(convert(), RIFFLE_ERR_FORMAT);
		riffle_put64(guest + pointers[i].field, UINT64_MAX);
		assert_int_equal(convert(), RIFFLE_ERR_FORMAT);
		riffle_put64(guest + pointers[i].field, UINT64_MAX - 23);
		assert_int_equal(convert(), RIFFLE_ERR_FORMAT);
	}
	start(state);
	riffle_put32(guest + INFO + 4, 0);
	assert_int_equal(convert(), RIFFLE_ERR_UNSUPPORTED);
	riffle_put32(guest + INFO, 0x336ec579);
	assert_int_equal(convert(), RIFFLE_ERR_FORMAT);
	/* one that is truncated by the end of memory: of version 1 it has 56 bytes */
	start(state);
	memmove(guest + sizeof guest - 56, guest + INFO, 56);
	assert_int_equal(stage_pvh_zero_page(zero_page, sizeof guest - 56, &view, NULL), RIFFLE_OK);
	memmove(guest + sizeof guest - 55, guest + INFO, 55);
	assert_int_equal(stage_pvh_zero_page(zero_page, sizeof guest - 55, &view, NULL), RIFFLE_ERR_FORMAT);
	assert_int_equal(stage_pvh_zero_page(zero_page, sizeof guest - 39, &view, NULL), RIFFLE_ERR_FORMAT);
	assert_int_equal(stage_pvh_zero_page(zero_page, UINT64_MAX, &view, NULL), RIFFLE_ERR_FORMAT);
}

static int reserve(struct stage_machine *m, uint64_t own_bytes)
{
	const struct riffle_range own = {MIB, own_bytes};
	uint64_t end;

	assert_int_equal(convert(), RIFFLE_OK);
	assert_int_equal(stage_machine_ram(m, &end, zero_page, LIMIT, NULL), RIFFLE_OK);
	/* its zero page lies in the image */
	return stage_machine_reserve(m, zero_page, MIB + 4096, &own, &view, NULL);
}

static void an_initrd_on_the_stage_is_refused(void **state)
{
	struct stage_machine m;

	(void)state;
	module(41 * MIB, 4096);
	assert_int_equal(reserve(&m, 40 * MIB), RIFFLE_OK);
	module(41 * MIB - 1, 4096);
	assert_int_equal(reserve(&m, 40 * MIB), RIFFLE_ERR_FORMAT);
	module(MIB - 4096, 4096);
	assert_int_equal(reserve(&m, 40 * MIB), RIFFLE_OK);
	module(MIB - 4096, 4097);
	assert_int_equal(reserve(&m, 40 * MIB), RIFFLE_ERR_FORMAT);
	module(0, 60 * MIB); /* all over it */
	assert_int_equal(reserve(&m, 40 * MIB), RIFFLE_ERR_FORMAT);
	module(20 * MIB, 0); /* none */
	assert_int_equal(reserve(&m, 40 * MIB), RIFFLE_OK);
	module(UINT64_MAX - 10, 4096);
	assert_int_equal(reserve(&m, 40 * MIB), RIFFLE_ERR_FORMAT);
}

static int check(const struct stage_machine *m, uint64_t address, uint64_t bytes)
{
	const struct riffle_range kernel = {address, bytes};

	return stage_machine_check(m, zero_page, &kernel, NULL);
}

static void a_kernel_in_place_is_in_ram_and_on_nothing(void **state)
{
	struct stage_machine m;
	struct riffle_error error;
	const struct riffle_range on_initrd = {90 * MIB, 20 * MIB};

	(void)state;
	module(100 * MIB, 8 * MIB);
	map_entry(1, MIB, 255 * MIB, 1);
	map_entry(2, 200 * MIB, MIB, 2);
	assert_int_equal(reserve(&m, MIB), RIFFLE_OK);
	assert_int_equal(check(&m, 16 * MIB, 84 * MIB), RIFFLE_OK);
	assert_int_equal(check(&m, 16 * MIB, 84 * MIB + 1), RIFFLE_ERR_SPACE);
	assert_int_equal(check(&m, 108 * MIB, 92 * MIB), RIFFLE_OK);
	assert_int_equal(check(&m, 108 * MIB - 1, 92 * MIB), RIFFLE_ERR_SPACE);
	assert_int_equal(check(&m, 108 * MIB, 92 * MIB + 1), RIFFLE_ERR_SPACE);
	assert_int_equal(check(&m, 201 * MIB, 55 * MIB), RIFFLE_OK);
	assert_int_equal(check(&m, 201 * MIB, 55 * MIB + 1), RIFFLE_ERR_SPACE); /* past RAM's end */
	assert_int_equal(check(&m, 2 * MIB, MIB), RIFFLE_OK);
	assert_int_equal(check(&m, 2 * MIB - 1, MIB), RIFFLE_ERR_SPACE); /* the stub itself */
	assert_int_equal(check(&m, GIB, MIB), RIFFLE_ERR_SPACE);
	assert_int_equal(check(&m, UINT64_MAX - MIB, MIB), RIFFLE_ERR_SPACE);
	assert_int_equal(stage_machine_check(&m, zero_page, &on_initrd, &error), RIFFLE_ERR_SPACE);
	assert_string_equal(error.field, "initrd");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup(start_info_becomes_a_zero_page, start),
	    cmocka_unit_test_setup(a_second_time_leaves_nothing_of_the_first, start),
	    cmocka_unit_test_setup(a_map_may_have_127_entries, start),
	    cmocka_unit_test_setup(lies_are_refused, start),
	    cmocka_unit_test_setup(an_initrd_on_the_stage_is_refused, start),
	    cmocka_unit_test_setup(a_kernel_in_place_is_in_ram_and_on_nothing, start),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

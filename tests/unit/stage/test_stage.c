/* SPDX-License-Identifier: Apache-2.0 */
/* The stage's parts that run anywhere: zero page to memory map, what is reserved, the packed kernel. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <riffle/layout.h>

#include "common/bytes.h"
#include "prepared_builder.h"
#include "stage/choose.h"
#include "stage/machine.h"
#include "stage/package.h"
#include "stage/stage.h"

#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)
#define LIMIT (64 * GIB)
#define OWN (&(struct riffle_range){MIB, 40 * MIB})
#define ZERO_PAGE 0x10000u

/* a guest's memory, from address 0 */
static uint8_t guest[64 << 10];
static uint8_t zero_page[4096];

static const void *at_guest(void *opaque, uint64_t address, uint64_t bytes)
{
	(void)opaque;
	return riffle_inside(address, bytes, sizeof guest) ? guest + address : NULL;
}

static const struct stage_view view = {at_guest, NULL};

static int start(void **state)
{
	(void)state;
	memset(guest, 0, sizeof guest);
	memset(zero_page, 0, sizeof zero_page);
	return 0;
}

static void e820(uint64_t address, uint64_t bytes, uint32_t type)
{
	uint8_t *entry = zero_page + 0x2d0 + 20 * (size_t)zero_page[0x1e8]++;

	riffle_put64(entry, address);
	riffle_put64(entry + 8, bytes);
	riffle_put32(entry + 16, type);
}

static void node(uint32_t address, uint64_t next, uint32_t type, uint32_t bytes)
{
	riffle_put64(guest + address, next);
	riffle_put32(guest + address + 8, type);
	riffle_put32(guest + address + 12, bytes);
}

static bool reserved(const struct stage_machine *m, uint64_t address, uint64_t bytes)
{
	for (size_t i = 0; i < m->memory.reserved_count; i++)
		if (m->reserved[i].address == address && m->reserved[i].bytes == bytes)
			return true;
	return false;
}

static void ram_is_sorted_merged_and_rounded(void **state)
{
	struct stage_machine m;
	uint64_t end;

	(void)state;
	e820(4 * GIB, GIB, 1);
	e820(MIB + 1, 100 * MIB, 1);
	e820(50 * MIB, 150 * MIB, 1); /* overlaps */
	e820(200 * MIB, 56 * MIB, 1); /* touches */
	e820(300 * MIB, 4095, 1);     /* no whole page */
	e820(400 * MIB, 0, 1);
	e820(0, 0x9fc00, 1);
	e820(500 * MIB, MIB, 2);
	assert_int_equal(stage_machine_ram(&m, &end, zero_page, LIMIT, NULL), RIFFLE_OK);
	assert_int_equal(m.memory.ram_count, 3);
	assert_int_equal(m.ram[0].bytes, 0x9f000);
	assert_int_equal(m.ram[1].address, MIB + 4096);
	assert_int_equal(m.ram[1].address + m.ram[1].bytes, 256 * MIB);
	assert_int_equal(m.ram[2].address, 4 * GIB);
	assert_int_equal(end, 5 * GIB);
}

static void ram_ends_at_the_limit(void **state)
{
	struct stage_machine m;
	uint64_t end;

	(void)state;
	e820(LIMIT - MIB, 2 * MIB, 1);
	e820(LIMIT + MIB, MIB, 1);
	e820(UINT64_MAX - 4095, 8192, 1); /* wraps */
	e820(MIB, UINT64_MAX, 1);         /* so does this: up to the limit */
	assert_int_equal(stage_machine_ram(&m, &end, zero_page, LIMIT, NULL), RIFFLE_OK);
	assert_int_equal(m.memory.ram_count, 1);
	assert_int_equal(m.ram[0].address, MIB);
	assert_int_equal(end, LIMIT);
	zero_page[0x1e8] = 0;
	assert_int_equal(stage_machine_ram(&m, &end, zero_page, LIMIT, NULL), RIFFLE_OK);
	assert_int_equal(m.memory.ram_count, 0);
	assert_int_equal(end, 0);
	zero_page[0x1e8] = 129;
	assert_int_equal(stage_machine_ram(&m, &end, zero_page, LIMIT, NULL), RIFFLE_ERR_FORMAT);
}

static int reserve_all(struct stage_machine *m)
{
	uint64_t end;

	assert_int_equal(stage_machine_ram(m, &end, zero_page, LIMIT, NULL), RIFFLE_OK);
	return stage_machine_reserve(m, zero_page, ZERO_PAGE, OWN, &view, NULL);
}

static void what_is_taken_is_reserved(void **state)
{
	struct stage_machine m;

	(void)state;
	e820(MIB, 255 * MIB, 1);
	e820(240 * MIB, MIB, 3);
	riffle_put32(zero_page + 0x228, 0x20000); /* command line */
	riffle_put32(zero_page + 0x238, 4095);
	riffle_put32(zero_page + 0x218, 0x8000000); /* initrd, above 4 GiB */
	riffle_put32(zero_page + 0x0c0, 1);
	riffle_put32(zero_page + 0x21c, 12345);
	riffle_put32(zero_page + 0x1c0, 1); /* EFI */
	riffle_put32(zero_page + 0x1d0, 0x30000);
	riffle_put32(zero_page + 0x1d4, 960);
	riffle_put64(zero_page + 0x250, 0x1000);
	node(0x1000, 0x2000, 9, 32);
	node(0x2000, 0, UINT32_C(1) << 31, 24);
	riffle_put64(guest + 0x2010 + 8, 777);
	riffle_put64(guest + 0x2010 + 16, 100 * MIB);
	assert_int_equal(reserve_all(&m), RIFFLE_OK);
	assert_true(reserved(&m, MIB, 40 * MIB));
	assert_true(reserved(&m, ZERO_PAGE, 4096));
	assert_true(reserved(&m, 0x20000, 4096));
	assert_true(reserved(&m, 0x108000000, 12345));
	assert_true(reserved(&m, 240 * MIB, MIB));
	assert_true(reserved(&m, 0x30000, 960));
	assert_true(reserved(&m, 0x1000, 48));
	assert_true(reserved(&m, 0x2000, 40));
	assert_true(reserved(&m, 100 * MIB, 777));
	assert_int_equal(m.memory.reserved_count, 9);
	assert_int_equal(m.reserved[0].address, MIB); /* the stage's own is the first */
	assert_int_equal(m.seed.address, 0x1010);
	assert_int_equal(m.seed.bytes, 32);
}

static void lying_zero_pages_are_refused(void **state)
{
	struct stage_machine m;

	(void)state;
	e820(MIB, 255 * MIB, 1);
	riffle_put64(zero_page + 0x250, sizeof guest - 8); /* a head that is truncated */
	assert_int_equal(reserve_all(&m), RIFFLE_ERR_FORMAT);
	riffle_put64(zero_page + 0x250, UINT64_MAX - 3);
	assert_int_equal(reserve_all(&m), RIFFLE_ERR_FORMAT);
	riffle_put64(zero_page + 0x250, 0x1000);
	node(0x1000, 0, 9, UINT32_MAX); /* data that reach past memory */
	assert_int_equal(reserve_all(&m), RIFFLE_ERR_FORMAT);
	node(0x1000, 0x1000, 9, 32); /* a ring */
	assert_int_equal(reserve_all(&m), RIFFLE_ERR_FORMAT);
	node(0x1000, 0, UINT32_C(1) << 31, 8); /* too short to say where */
	assert_int_equal(reserve_all(&m), RIFFLE_ERR_FORMAT);
	node(0x1000, 0, UINT32_C(1) << 31, 24); /* elsewhere, and round the end */
	riffle_put64(guest + 0x1010 + 8, 8192);
	riffle_put64(guest + 0x1010 + 16, UINT64_MAX - 1);
	assert_int_equal(reserve_all(&m), RIFFLE_ERR_FORMAT);
	riffle_put64(zero_page + 0x250, 0);
	assert_int_equal(reserve_all(&m), RIFFLE_OK);
	/* reserved entries that wrap are cut, and a full map still fits */
	while (zero_page[0x1e8] < 128)
		e820(UINT64_MAX - 10, UINT64_MAX, 2);
	assert_int_equal(reserve_all(&m), RIFFLE_OK);
}

static void words_are_whole(void **state)
{
	(void)state;
	assert_true(stage_has_word("quiet nokaslr", 100, "nokaslr"));
	assert_true(stage_has_word("nokaslr quiet", 100, "nokaslr"));
	assert_true(stage_has_word("  nokaslr  ", 100, "nokaslr"));
	assert_true(stage_has_word("nokaslrX", 7, "nokaslr"));
	assert_false(stage_has_word("nokaslr1 xnokaslr nokasl", 100, "nokaslr"));
	assert_false(stage_has_word("nokaslr", 6, "nokaslr"));
	assert_false(stage_has_word("", 100, "nokaslr"));
	assert_false(stage_has_word("a=nokaslr ", 100, "nokaslr"));
}

static void tables_map_each_address_to_itself(void **state)
{
	static uint8_t tables[STAGE_TABLES_BYTES];
	const uint64_t base = 0x700000, addresses[] = {0, 2 * MIB, 3 * GIB + 6 * MIB, 5 * GIB - 1};

	(void)state;
	for (int five = 0; five < 2; five++) {
		uint64_t root = stage_page_tables(tables, base, 5, five);

		assert_int_equal(root, five ? base : base + 4096);
		for (size_t i = 0; i < sizeof addresses / sizeof *addresses; i++) {
			uint64_t table = root, a = addresses[i], entry = 0;

			for (int shift = five ? 48 : 39; shift >= 21; shift -= 9) {
				entry = riffle_get64(tables + (table - base) + 8 * (a >> shift & 511));
				assert_int_equal(entry & 3, 3);
				assert_int_equal(entry >> 7 & 1, shift == 21);
				table = entry & ~UINT64_C(0xfff);
			}
			assert_int_equal(table, a & ~(2 * MIB - 1));
		}
		/* nothing beyond */
		assert_int_equal(riffle_get64(tables + 2 * 4096 + 5 * 8), 0);
	}
}

/* A kernel of 40 MiB with gaps of up to 20 MiB, in one stretch of RAM from 1 MiB on. */
static struct riffle_header header;
static struct riffle_plan sliding;
static const struct riffle_block blocks[] = {{.align = 2 << 20, .gaps = 1, .kind = RIFFLE_BLOCK_TEXT},
					     {.align = 1 << 20, .gaps = 21, .kind = RIFFLE_BLOCK_DATA}};

static void start_sliding(struct stage_machine *m, uint64_t end)
{
	memset(zero_page, 0, sizeof zero_page);
	header = (struct riffle_header){.flags = RIFFLE_KERNEL_RELOCATABLE,
					.image_bytes = 40 * MIB,
					.link_phys = 16 * MIB,
					.link_virt = UINT64_C(0xffffffff81000000),
					.window_bytes = 1024 * MIB};
	sliding = (struct riffle_plan){
	    .header = &header, .blocks = blocks, .block_count = 2, .slide_max = (uint32_t)(20 * MIB)};
	e820(0, end, 1);
	assert_int_equal(reserve_all(m), RIFFLE_OK);
}

static int draw(struct stage_machine *m, struct riffle_layout *layout, bool *crowded, uint64_t randomize,
		uint64_t initrd_bytes)
{
	static const uint8_t key[32] = {9};
	struct riffle_random random;
	struct riffle_seeded seeded;

	riffle_random_from_seed(&random, &seeded, key);
	*layout = (struct riffle_layout){.slide_count = 77};
	return stage_draw(layout, crowded, randomize, &sliding, &m->memory, initrd_bytes, &random, NULL);
}

/* The stage is in the kernel's way, but its memory is the kernel's later. */
static void sections_slide_where_memory_allows(void **state)
{
	/* behind the stage, on a multiple of 2 MiB: kernel and gaps */
	const uint64_t fits = (42 + 40 + 20) * MIB;
	/* kernel, gaps twice, the zero page, and what an initrd unpacks to */
	const uint64_t initrd_bytes = (fits - 40 * MIB - 40 * MIB - 4096) / 4;
	struct stage_machine m;
	struct riffle_layout layout;
	bool crowded;

	(void)state;
	start_sliding(&m, fits);
	assert_int_equal(draw(&m, &layout, &crowded, STAGE_AUTO, initrd_bytes), RIFFLE_OK);
	assert_int_equal(layout.mode, RIFFLE_MODE_KASLR);
	assert_int_equal(layout.slide_count, 2);
	assert_false(crowded);
	assert_int_equal(draw(&m, &layout, &crowded, STAGE_AUTO, initrd_bytes + 1), RIFFLE_OK);
	assert_int_equal(layout.slide_count, 0);
	assert_true(crowded);
	/* who asks for it gets it, if there is a place at all */
	assert_int_equal(draw(&m, &layout, &crowded, RIFFLE_MODE_KASLR | STAGE_SLIDE, initrd_bytes + 1), RIFFLE_OK);
	assert_int_equal(layout.slide_count, 2);
	assert_false(crowded);
	start_sliding(&m, fits - 4096);
	assert_int_equal(draw(&m, &layout, &crowded, STAGE_AUTO, 0), RIFFLE_OK);
	assert_int_equal(layout.slide_count, 0);
	assert_true(crowded);
	assert_int_equal(draw(&m, &layout, &crowded, RIFFLE_MODE_KASLR | STAGE_SLIDE, 0), RIFFLE_ERR_SPACE);
	/* enough behind the stage, and too little left over if something else than the stage takes the rest */
	start_sliding(&m, fits);
	m.reserved[m.memory.reserved_count++] = (struct riffle_range){MIB, 40 * MIB};
	assert_int_equal(draw(&m, &layout, &crowded, STAGE_AUTO, 0), RIFFLE_OK);
	assert_true(crowded);
}

static void modes_are_what_was_asked_for(void **state)
{
	struct stage_machine m;
	struct riffle_layout layout;
	bool crowded;

	(void)state;
	start_sliding(&m, 512 * MIB);
	assert_int_equal(draw(&m, &layout, &crowded, RIFFLE_MODE_KASLR, 0), RIFFLE_OK);
	assert_int_equal(layout.slide_count, 0);
	assert_false(crowded);
	/* this plan has no chunks */
	assert_int_equal(draw(&m, &layout, &crowded, RIFFLE_MODE_FGKASLR, 0), RIFFLE_ERR_UNSUPPORTED);
	for (unsigned i = 0; i < 2; i++) {
		const uint64_t none[] = {1, 4, 0x100, 0x101, 0x104, 0x202, UINT64_C(0x100000002), UINT64_MAX};

		for (unsigned k = 0; k < sizeof none / sizeof *none; k++)
			assert_int_equal(draw(&m, &layout, &crowded, none[k], 0), RIFFLE_ERR_FORMAT);
		sliding.block_count = 0;
	}
	assert_int_equal(draw(&m, &layout, &crowded, STAGE_AUTO, 0), RIFFLE_OK);
	assert_int_equal(layout.slide_count, 0);
	assert_false(crowded); /* more memory would change nothing */
	assert_int_equal(draw(&m, &layout, &crowded, RIFFLE_MODE_KASLR | STAGE_SLIDE, 0), RIFFLE_ERR_UNSUPPORTED);
	assert_false(stage_needs_all(RIFFLE_MODE_KASLR));
	assert_true(stage_needs_all(STAGE_AUTO) && stage_needs_all(RIFFLE_MODE_FGKASLR) &&
		    stage_needs_all(RIFFLE_MODE_KASLR | STAGE_SLIDE));
}

struct packed {
	struct builder b;
	uint64_t *bytes;
	uint64_t count;
};

static void pack(struct packed *p)
{
	uint64_t at;

	builder_start(&p->b, 3 << 20, 1 << 20);
	builder_extent(&p->b, 0, 0x3000);
	builder_extent(&p->b, 0x10000, 0x2345);
	for (unsigned i = 0; i < 0x3000; i++)
		p->b.image[i] = (uint8_t)(i * 7 + 1);
	for (unsigned i = 0; i < 0x2345; i++)
		p->b.image[0x10000 + i] = (uint8_t)(i * 5 + 3);
	builder_seal(&p->b);
	at = sizeof p->b.header + p->b.plan_bytes;
	p->count = at + 0x3000 + 0x2345;
	p->bytes = calloc(1, p->count);
	memcpy(p->bytes, &p->b.header, sizeof p->b.header);
	memcpy((uint8_t *)p->bytes + sizeof p->b.header, p->b.plan, p->b.plan_bytes);
	memcpy((uint8_t *)p->bytes + at, p->b.image, 0x3000);
	memcpy((uint8_t *)p->bytes + at + 0x3000, p->b.image + 0x10000, 0x2345);
}

static void unpack(struct packed *p)
{
	free(p->bytes);
	builder_end(&p->b);
}

static void package_reads_as_the_file_it_was(void **state)
{
	static const uint64_t spans[][2] = {{0, 0x3000},       {0x2ff0, 0x20},    {0x3000, 0x1000}, {0x2000, 0x12345},
					    {0x10001, 0x2344}, {0x12344, 0x10},   {0xfff8, 0x10},   {5, 0},
					    {0x20000, 0x1000}, {0, (3 << 20) - 1}};
	struct stage_package package;
	struct riffle_source source;
	struct riffle_plan plan = RIFFLE_PLAN_INIT;
	struct packed p;
	uint8_t *buffer = malloc(3 << 20);

	(void)state;
	pack(&p);
	assert_int_equal(stage_package_open(&package, &plan, p.bytes, p.count, true, NULL), RIFFLE_OK);
	source = stage_package_source(&package);
	for (size_t i = 0; i < sizeof spans / sizeof *spans; i++) {
		memset(buffer, 0xee, 3 << 20);
		assert_int_equal(
		    source.read(source.opaque, p.b.header.payload_offset + spans[i][0], buffer, spans[i][1], NULL),
		    RIFFLE_OK);
		assert_memory_equal(buffer, p.b.image + spans[i][0], spans[i][1]);
		assert_int_equal(buffer[spans[i][1]], 0xee);
	}
	assert_int_equal(source.read(source.opaque, p.b.header.payload_offset - 1, buffer, 1, NULL), RIFFLE_ERR_FORMAT);
	assert_int_equal(source.read(source.opaque, p.b.header.file_bytes, buffer, 1, NULL), RIFFLE_ERR_FORMAT);
	assert_int_equal(source.read(source.opaque, UINT64_MAX, buffer, 2, NULL), RIFFLE_ERR_FORMAT);
	free(buffer);
	unpack(&p);
}

static void lying_packages_are_refused(void **state)
{
	struct stage_package package;
	struct riffle_plan plan = RIFFLE_PLAN_INIT;
	struct packed p;
	struct riffle_header *h;

	(void)state;
	pack(&p);
	h = (void *)p.bytes;
	assert_int_equal(stage_package_open(&package, &plan, p.bytes, 4095, true, NULL), RIFFLE_ERR_FORMAT);
	assert_int_equal(stage_package_open(&package, &plan, p.bytes, p.count - 1, true, NULL), RIFFLE_ERR_FORMAT);
	assert_int_equal(stage_package_open(&package, &plan, p.bytes, 4096 + 8, true, NULL), RIFFLE_ERR_FORMAT);
	h->plan_bytes = UINT64_MAX;
	assert_int_equal(stage_package_open(&package, &plan, p.bytes, p.count, true, NULL), RIFFLE_ERR_FORMAT);
	h->plan_bytes = p.b.plan_bytes;
	h->base_bytes = p.b.plan_bytes + 8;
	assert_int_equal(stage_package_open(&package, &plan, p.bytes, p.count, false, NULL), RIFFLE_ERR_FORMAT);
	h->base_bytes = p.b.header.base_bytes;
	for (uint64_t i = 0; i < 4096 + p.b.plan_bytes; i++) {
		((uint8_t *)p.bytes)[i] ^= 0x10;
		assert_int_not_equal(stage_package_open(&package, &plan, p.bytes, p.count, true, NULL), RIFFLE_OK);
		((uint8_t *)p.bytes)[i] ^= 0x10;
	}
	assert_int_equal(stage_package_open(&package, &plan, p.bytes, p.count, true, NULL), RIFFLE_OK);
	unpack(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup(ram_is_sorted_merged_and_rounded, start),
	    cmocka_unit_test_setup(ram_ends_at_the_limit, start),
	    cmocka_unit_test_setup(what_is_taken_is_reserved, start),
	    cmocka_unit_test_setup(lying_zero_pages_are_refused, start),
	    cmocka_unit_test(words_are_whole),
	    cmocka_unit_test(tables_map_each_address_to_itself),
	    cmocka_unit_test_setup(sections_slide_where_memory_allows, start),
	    cmocka_unit_test_setup(modes_are_what_was_asked_for, start),
	    cmocka_unit_test(package_reads_as_the_file_it_was),
	    cmocka_unit_test(lying_packages_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

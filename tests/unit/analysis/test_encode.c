/* SPDX-License-Identifier: Apache-2.0 */
/* Encodes hand-built shuffles: what each section of the plan holds, up to its bounds, and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/bytes.h"
#include "common/plan_shape.h"
#include "prepare/analysis/encode.h"

enum { IMAGE = 0x200000, DATA = 0x100000 };
static const uint64_t LINK = UINT64_C(0xffffffff81000000);

struct kernel {
	uint8_t bytes[IMAGE];
	struct image_segment segment[2];
	struct riffle_image image;
	struct shuffle shuffle;
	struct encoded encoded;
	struct riffle_error error;
};

static struct kernel *kernel;

static int tear_down(void **state);

/* Also in the middle of a test, for another kernel. */
static int set_up(void **state)
{
	if (kernel)
		tear_down(state);
	kernel = calloc(1, sizeof *kernel);
	if (!kernel)
		return -1;
	kernel->segment[0] =
	    (struct image_segment){.phys = 0x1000000, .file_bytes = DATA, .memory_bytes = DATA, .bytes = kernel->bytes};
	kernel->segment[1] = (struct image_segment){
	    .phys = 0x1000000 + DATA, .file_bytes = DATA, .memory_bytes = DATA, .bytes = kernel->bytes + DATA};
	kernel->image = (struct riffle_image){.segment = kernel->segment,
					      .segment_count = 2,
					      .link_phys = 0x1000000,
					      .link_virt = LINK,
					      .image_bytes = IMAGE};
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	encoded_free(&kernel->encoded);
	free(kernel->shuffle.range);
	free(kernel->shuffle.ref);
	free(kernel->shuffle.slides.cross);
	free(kernel->image.reloc64.offset);
	free(kernel->image.reloc32.offset);
	free(kernel->image.reloc32_inverse.offset);
	free(kernel);
	kernel = NULL;
	return 0;
}

/* Room for one more: exact in short lists, so that sanitizers notice who reads past the end; doubled in long ones. */
static void *grown(void *list, uint32_t count, size_t bytes)
{
	uint32_t room = count + 1;

	if (count >= 4096) {
		if (count & (count - 1))
			return list;
		room = 2 * count;
	}
	list = reallocarray(list, room, bytes);
	assert_non_null(list);
	return list;
}

static void add_range(uint32_t offset, uint32_t bytes, enum shuffle_pin pin)
{
	struct shuffle *s = &kernel->shuffle;

	s->range = grown(s->range, s->range_count, sizeof *s->range);
	s->range[s->range_count++] = (struct shuffle_range){.offset = offset, .bytes = bytes, .pin = (uint8_t)pin};
}

static void add_ref(uint32_t field, enum shuffle_field kind, uint32_t target)
{
	struct shuffle *s = &kernel->shuffle;

	s->ref = grown(s->ref, s->ref_count, sizeof *s->ref);
	s->ref[s->ref_count++] = (struct shuffle_ref){.field = field, .target = target, .kind = (uint8_t)kind};
}

static void add_reloc(struct image_relocs *list, uint32_t offset)
{
	list->offset = grown(list->offset, list->count, sizeof *list->offset);
	list->offset[list->count++] = offset;
}

/* an absolute field and its relocation */
static void add_absolute(uint32_t field, enum shuffle_field kind, uint32_t target)
{
	add_ref(field, kind, target);
	add_reloc(kind == SHUFFLE_ABS64   ? &kernel->image.reloc64
		  : kind == SHUFFLE_ABS32 ? &kernel->image.reloc32
					  : &kernel->image.reloc32_inverse,
		  field);
}

/* Two regions of two chunks each, between code that stays. */
enum { CHUNK0 = 0x100, CHUNK1 = 0x140, FIXED = 0x160, CHUNK2 = 0x1c0, CHUNK3 = 0x200, END = 0x210, CHUNKS = 4 };

static void add_four_chunks(void)
{
	add_range(0, CHUNK0, SHUFFLE_PIN_HEAD);
	add_range(CHUNK0, CHUNK1 - CHUNK0, SHUFFLE_PIN_NONE);
	add_range(CHUNK1, FIXED - CHUNK1, SHUFFLE_PIN_NONE);
	add_range(FIXED, CHUNK2 - FIXED, SHUFFLE_PIN_SECTION);
	add_range(CHUNK2, CHUNK3 - CHUNK2, SHUFFLE_PIN_NONE);
	add_range(CHUNK3, END - CHUNK3, SHUFFLE_PIN_NONE);
	add_range(END, DATA - END, SHUFFLE_PIN_SECTION);
}

static int encode(void)
{
	encoded_free(&kernel->encoded);
	return encode_shuffle(&kernel->encoded, &kernel->image, &kernel->shuffle, &kernel->error);
}

static void must_encode(void)
{
	char text[256];

	if (encode()) {
		riffle_error_format(&kernel->error, text, sizeof text);
		fail_msg("%s", text);
	}
}

static void must_refuse(const char *field, const char *problem)
{
	assert_int_equal(encode(), RIFFLE_ERR_UNSUPPORTED);
	assert_string_equal(kernel->error.field, field);
	assert_string_equal(kernel->error.problem, problem);
	for (unsigned i = 0; i < RIFFLE_SECTION_COUNT; i++)
		assert_null(kernel->encoded.entries[i]);
	/* also when nobody asks why */
	assert_int_equal(encode_shuffle(&kernel->encoded, &kernel->image, &kernel->shuffle, NULL),
			 RIFFLE_ERR_UNSUPPORTED);
}

static const void *section(enum riffle_section_kind kind, uint32_t count)
{
	assert_int_equal(kernel->encoded.count[kind], count);
	return kernel->encoded.entries[kind];
}

/* Compares a section with a list of the same entries. */
#define EXPECT(kind, type, ...)                                                                                        \
	do {                                                                                                           \
		const type wanted_[] = {__VA_ARGS__};                                                                  \
		assert_memory_equal(section(kind, sizeof wanted_ / sizeof *wanted_), wanted_, sizeof wanted_);         \
	} while (0)

static const struct riffle_chunk *chunk(void)
{
	return kernel->encoded.entries[RIFFLE_SECTION_CHUNKS];
}

/* --- chunks, regions, groups --- */

static void test_chunks_and_regions(void **state)
{
	(void)state;
	add_four_chunks();
	must_encode();
	EXPECT(RIFFLE_SECTION_REGIONS, struct riffle_region, {CHUNK0, 0x60, 0, 2}, {CHUNK2, 0x50, 2, 2});
	EXPECT(RIFFLE_SECTION_CHUNKS, struct riffle_chunk, {CHUNK0, 4, 0, 0, 0, 0, 0}, {CHUNK1, 2, 0, 0, 0, 0, 0},
	       {CHUNK2, 4, 0, 0, 0, 0, 0}, {CHUNK3, 1, 0, 0, 0, 0, 0});
	EXPECT(RIFFLE_SECTION_GROUPS, struct riffle_group, {2, 0, 0, 0, 0, 0}, {2, 0, 0, 0, 0, 0});
	for (unsigned i = RIFFLE_SECTION_GROUPS + 1; i < RIFFLE_SECTION_COUNT; i++)
		assert_int_equal(kernel->encoded.count[i], 0);
}

/* A gap between ranges, as between two sections, ends a region as pinned code does. */
static void test_regions_end_at_gaps(void **state)
{
	(void)state;
	add_range(0x100, 0x40, SHUFFLE_PIN_NONE);
	add_range(0x150, 0x40, SHUFFLE_PIN_NONE);
	must_encode();
	EXPECT(RIFFLE_SECTION_REGIONS, struct riffle_region, {0x100, 0x40, 0, 1}, {0x150, 0x40, 1, 1});
}

static void test_sizes_of_chunks(void **state)
{
	(void)state;
	add_range(0x100, RIFFLE_CHUNK_BYTES_MAX - 16, SHUFFLE_PIN_NONE);
	must_encode();
	kernel->shuffle.range[0].bytes = RIFFLE_CHUNK_BYTES_MAX + 16;
	must_refuse("chunk", "is too long or of no whole number of units");
	assert_int_equal(kernel->error.found, LINK + 0x100);
	kernel->shuffle.range[0].bytes = 0x48;
	must_refuse("chunk", "is too long or of no whole number of units");
	kernel->shuffle.range[0].pin = SHUFFLE_PIN_LARGE;
	must_refuse("chunks", "are none: all of .text is pinned");
}

static void test_most_chunks(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < RIFFLE_CHUNKS_MAX - 1; i++)
		add_range(i * 16, 16, SHUFFLE_PIN_NONE);
	must_encode();
	section(RIFFLE_SECTION_CHUNKS, RIFFLE_CHUNKS_MAX - 1);
	assert_int_equal(chunk()[RIFFLE_CHUNKS_MAX - 2].image_offset, (RIFFLE_CHUNKS_MAX - 2) * 16);
	add_range((RIFFLE_CHUNKS_MAX - 1) * 16, 16, SHUFFLE_PIN_NONE);
	must_refuse("chunks", "are too many");
	assert_int_equal(kernel->error.found, RIFFLE_CHUNKS_MAX);
	assert_int_equal(kernel->error.expected, RIFFLE_CHUNKS_MAX - 1);
}

static void test_most_regions(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < PLAN_REGIONS_MAX; i++)
		add_range(i * 32, 16, SHUFFLE_PIN_NONE);
	must_encode();
	section(RIFFLE_SECTION_REGIONS, PLAN_REGIONS_MAX);
	section(RIFFLE_SECTION_GROUPS, PLAN_REGIONS_MAX);
	add_range(PLAN_REGIONS_MAX * 32, 16, SHUFFLE_PIN_NONE);
	must_refuse("regions", "are too many: pinned code is scattered all over .text");
	assert_int_equal(kernel->error.expected, PLAN_REGIONS_MAX);
}

/* A group holds as many chunks as 64 KiB do, to the byte, and none of another region. */
static void test_groups_are_full(void **state)
{
	(void)state;
	add_range(0, 0x8000, SHUFFLE_PIN_NONE);
	add_range(0x8000, 0x8000, SHUFFLE_PIN_NONE);
	add_range(0x10000, 0x8000, SHUFFLE_PIN_NONE);
	add_range(0x18000, 0x8010, SHUFFLE_PIN_NONE);
	add_range(0x20010, 0x10, SHUFFLE_PIN_NONE);
	add_range(0x30000, 0x10, SHUFFLE_PIN_NONE);
	add_ref(0x10004, SHUFFLE_PC32, 0);
	add_ref(0x18008, SHUFFLE_PC32, 0x20010);
	add_ref(0x20014, SHUFFLE_PC32, 0x30000);
	must_encode();
	EXPECT(RIFFLE_SECTION_GROUPS, struct riffle_group, {2, 0, 0, 0, 0, 0}, {1, 1, 1, 0, 0, 0}, {2, 130, 2, 0, 0, 0},
	       {1, 0, 0, 0, 0, 0});
	EXPECT(RIFFLE_SECTION_PC_TARGETS, uint16_t, 0, 4, 5);
}

/* --- references --- */

static void test_references_in_chunks(void **state)
{
	(void)state;
	add_four_chunks();
	add_ref(CHUNK0, SHUFFLE_PC32, CHUNK1 - 1);        /* its own chunk: nothing changes */
	add_ref(CHUNK0 + 4, SHUFFLE_PC32, CHUNK1);        /* another */
	add_ref(CHUNK0 + 0x10, SHUFFLE_PC32, CHUNK0 - 1); /* what stays: its own position alone */
	add_absolute(CHUNK0 + 0x18, SHUFFLE_INVERSE32, UINT32_MAX);
	add_absolute(CHUNK0 + 0x20, SHUFFLE_ABS64, CHUNK3 - 1);
	add_absolute(CHUNK0 + 0x28, SHUFFLE_ABS64, END); /* what stays: nothing */
	add_absolute(CHUNK0 + 0x30, SHUFFLE_ABS32, CHUNK3);
	add_absolute(CHUNK0 + 0x34, SHUFFLE_ABS32, UINT32_MAX);
	add_ref(CHUNK0 + 0x3c, SHUFFLE_PC32, CHUNK3);       /* the last four bytes */
	add_absolute(CHUNK1 + 0x18, SHUFFLE_ABS64, CHUNK0); /* the last eight */
	add_ref(CHUNK2, SHUFFLE_PC32, UINT32_MAX);
	add_ref(CHUNK2 + 8, SHUFFLE_PC32, FIXED - 1);
	add_ref(CHUNK3 + 12, SHUFFLE_PC32, CHUNK2);
	must_encode();
	EXPECT(RIFFLE_SECTION_GROUPS, struct riffle_group, {2, 2, 2, 2, 1, 2}, {2, 2, 2, 1, 0, 0});
	EXPECT(RIFFLE_SECTION_PC_STEPS, uint8_t, 4, 0x38, 8, 0x44);
	EXPECT(RIFFLE_SECTION_PC_TARGETS, uint16_t, 1, 3, 1, 2);
	EXPECT(RIFFLE_SECTION_OWN_STEPS, uint8_t, 0x10, 8, 0);
	EXPECT(RIFFLE_SECTION_ABS32_REFS, struct riffle_ref, {0x30, 3});
	EXPECT(RIFFLE_SECTION_ABS64_REFS, struct riffle_ref, {0x20, 2}, {0x58, 0});
	section(RIFFLE_SECTION_FIXED32, 0);
	section(RIFFLE_SECTION_FIXED64, 0);
}

/* A step has one byte; longer distances are made of several. */
static void test_steps(void **state)
{
	static const uint32_t distance[] = {0, 254, 255, 256, 509, 510, 511, 1000};
	static const uint8_t step[] = {0, 254, 255, 0, 255, 1, 255, 254, 255, 255, 0, 255, 255, 1, 255, 255, 255, 235};
	static const uint32_t target[] = {0, 0x1100};

	for (unsigned i = 0; i < 2; i++) {
		uint32_t at = 0x100;

		set_up(state);
		add_range(0x100, 0x1000, SHUFFLE_PIN_NONE);
		add_range(0x1100, 0x10, SHUFFLE_PIN_NONE);
		for (unsigned j = 0; j < sizeof distance / sizeof *distance; j++)
			add_ref(at += distance[j], SHUFFLE_PC32, target[i]);
		must_encode();
		assert_memory_equal(section(i ? RIFFLE_SECTION_PC_STEPS : RIFFLE_SECTION_OWN_STEPS, sizeof step), step,
				    sizeof step);
		section(RIFFLE_SECTION_PC_TARGETS, i ? 8 : 0);
		tear_down(state);
	}
	set_up(state);
}

static void test_fields_across_a_chunks_end(void **state)
{
	static const struct {
		enum shuffle_field kind;
		uint32_t bytes;
	} rows[] = {{SHUFFLE_PC32, 4}, {SHUFFLE_ABS32, 4}, {SHUFFLE_INVERSE32, 4}, {SHUFFLE_ABS64, 8}};

	for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
		set_up(state);
		add_four_chunks();
		if (rows[i].kind == SHUFFLE_PC32)
			add_ref(CHUNK1 - rows[i].bytes, rows[i].kind, CHUNK2);
		else
			add_absolute(CHUNK1 - rows[i].bytes, rows[i].kind, CHUNK2);
		must_encode();
		kernel->shuffle.ref[0].field++;
		must_refuse("reference", "lies across a chunk's end");
		assert_int_equal(kernel->error.found, LINK + CHUNK1 - rows[i].bytes + 1);
		tear_down(state);
	}
	set_up(state);
}

static void test_references_in_what_stays(void **state)
{
	(void)state;
	add_four_chunks();
	add_ref(0x20, SHUFFLE_PC32, CHUNK0);
	add_ref(0x28, SHUFFLE_PC32, CHUNK0 - 1);
	add_ref(0x30, SHUFFLE_ABS64, CHUNK2);
	add_ref(0x38, SHUFFLE_ABS32, CHUNK3);
	add_ref(0x3c, SHUFFLE_ABS64, FIXED);
	add_ref(0x48, SHUFFLE_PC32, UINT32_MAX);
	add_ref(FIXED, SHUFFLE_PC32, CHUNK1 - 1);
	add_ref(END, SHUFFLE_PC32, END - 1);
	add_ref(END + 4, SHUFFLE_PC32, END);
	add_ref(DATA, SHUFFLE_ABS64, CHUNK2 - 1);
	add_ref(DATA + 8, SHUFFLE_ABS64, CHUNK1);
	must_encode();
	EXPECT(RIFFLE_SECTION_FIXED32, uint32_t, 0x20, 0x38, FIXED, END);
	EXPECT(RIFFLE_SECTION_FIXED32_TARGETS, uint16_t, 0, 3, 0, 3);
	EXPECT(RIFFLE_SECTION_FIXED64, uint32_t, 0x30, DATA + 8);
	EXPECT(RIFFLE_SECTION_FIXED64_TARGETS, uint16_t, 2, 1);
	section(RIFFLE_SECTION_PC_STEPS, 0);
	section(RIFFLE_SECTION_TABLES, 0);
}

/* A load takes a chunk's absolute fields from the relocations: none may lack a reference, or have one too many. */
static void test_relocations_in_chunks(void **state)
{
	static const enum shuffle_field kinds[] = {SHUFFLE_ABS32, SHUFFLE_ABS64, SHUFFLE_INVERSE32};

	for (unsigned i = 0; i < 3; i++) {
		struct image_relocs *list;

		set_up(state);
		list = kinds[i] == SHUFFLE_ABS64   ? &kernel->image.reloc64
		       : kinds[i] == SHUFFLE_ABS32 ? &kernel->image.reloc32
						   : &kernel->image.reloc32_inverse;
		add_four_chunks();
		add_reloc(list, 0x10);
		add_absolute(CHUNK0, kinds[i], CHUNK2);
		add_absolute(CHUNK1 + 8, kinds[i], CHUNK2);
		add_reloc(list, FIXED);
		add_reloc(list, END);
		must_encode();
		list->offset[3] = CHUNK1 + 16;
		must_refuse("absolute references in chunks", "are not the relocations there");
		assert_int_equal(kernel->error.found, 2);
		assert_int_equal(kernel->error.expected, 3);
		list->offset[2] = list->offset[3] = END;
		must_refuse("absolute references in chunks", "are not the relocations there");
		assert_int_equal(kernel->error.expected, 1);
		tear_down(state);
	}
	set_up(state);
}

/* --- rows of references --- */

enum { ROW = 512 }; /* fewer references are no table */

/* `count` PC-relative references, `step` bytes apart, to each chunk in turn, and to what stays. */
static uint32_t add_row(uint32_t at, uint32_t count, uint32_t step)
{
	static const uint32_t target[] = {CHUNK0, CHUNK1, FIXED, CHUNK2, CHUNK3};

	for (uint32_t i = 0; i < count; i++, at += step)
		add_ref(at, SHUFFLE_PC32, target[i % 5]);
	return at;
}

/* how many of a row's references lead to chunks */
static uint32_t moving(uint32_t count)
{
	return count - (count + 2) / 5;
}

static void test_rows_become_tables(void **state)
{
	static const uint16_t led[] = {0, 1, CHUNKS, 2, 3};
	const uint16_t *target;
	uint32_t at;

	(void)state;
	add_four_chunks();
	at = add_row(DATA, ROW, 4);
	must_encode();
	EXPECT(RIFFLE_SECTION_TABLES, struct riffle_table, {RIFFLE_TABLE_SITES, DATA, 0, ROW, 0, 0});
	target = section(RIFFLE_SECTION_SITE_TARGETS, ROW);
	for (uint32_t i = 0; i < ROW; i++)
		assert_int_equal(target[i], led[i % 5]);
	section(RIFFLE_SECTION_FIXED32, 0);

	/* another, after the longest gap that ends the first; what follows it alone is no part of it */
	add_ref(at + 64, SHUFFLE_PC32, CHUNK1);
	add_row(at + 68, ROW - 1, 4);
	add_ref(DATA + 0x4000, SHUFFLE_PC32, CHUNK2);
	must_encode();
	EXPECT(RIFFLE_SECTION_TABLES, struct riffle_table, {RIFFLE_TABLE_SITES, DATA, 0, ROW, 0, 0},
	       {RIFFLE_TABLE_SITES, at + 64, 0, ROW, ROW, 0});
	section(RIFFLE_SECTION_SITE_TARGETS, 2 * ROW);
	EXPECT(RIFFLE_SECTION_FIXED32, uint32_t, DATA + 0x4000);
	EXPECT(RIFFLE_SECTION_FIXED32_TARGETS, uint16_t, 2);
}

static void test_short_rows_do_not(void **state)
{
	(void)state;
	add_four_chunks();
	add_row(DATA, ROW - 1, 4);
	must_encode();
	section(RIFFLE_SECTION_TABLES, 0);
	section(RIFFLE_SECTION_FIXED32, moving(ROW - 1));
}

/* A table has two bytes for each word of the row, used or not; single references have six. */
static void test_sparse_rows(void **state)
{
	uint32_t at;

	(void)state;
	add_four_chunks();
	at = add_row(DATA, ROW, 8);
	must_encode();
	EXPECT(RIFFLE_SECTION_TABLES, struct riffle_table, {RIFFLE_TABLE_SITES, DATA, 0, 2 * ROW - 1, 0, 0});
	for (uint32_t i = 1; i < 2 * ROW - 1; i += 2)
		assert_int_equal(((const uint16_t *)kernel->encoded.entries[RIFFLE_SECTION_SITE_TARGETS])[i], CHUNKS);

	/* with as many words as three times the references: no table is smaller */
	kernel->shuffle.ref_count = 0;
	at = add_row(DATA, ROW, 12);                 /* 3 * 511 + 1 words */
	add_ref(at - 12 + 16, SHUFFLE_PC32, CHUNK0); /* four more, and one more reference: 3 * 512 + 2 */
	must_encode();
	section(RIFFLE_SECTION_TABLES, 1);
	kernel->shuffle.ref[ROW].field += 4; /* 3 * 513 */
	must_encode();
	section(RIFFLE_SECTION_TABLES, 0);
	section(RIFFLE_SECTION_FIXED32, moving(ROW) + 1);
}

/* What lies between two references is at most 64 bytes from field to field, and whole words. */
static void test_gaps_in_rows(void **state)
{
	(void)state;
	add_four_chunks();
	add_row(add_row(DATA, ROW / 2, 4) - 4 + 64, ROW / 2, 4);
	must_encode();
	EXPECT(RIFFLE_SECTION_TABLES, struct riffle_table, {RIFFLE_TABLE_SITES, DATA, 0, ROW + 15, 0, 0});
	for (uint32_t i = ROW / 2; i < ROW; i++)
		kernel->shuffle.ref[i].field += 4;
	must_encode();
	section(RIFFLE_SECTION_TABLES, 0);
	for (uint32_t i = ROW / 2; i < ROW; i++)
		kernel->shuffle.ref[i].field -= 6;
	must_encode();
	section(RIFFLE_SECTION_TABLES, 0);
	for (uint32_t i = ROW / 2; i < ROW; i++)
		kernel->shuffle.ref[i].field -= 2;
	must_encode();
	section(RIFFLE_SECTION_TABLES, 1);
	kernel->shuffle.ref[ROW / 2].kind = SHUFFLE_ABS32;
	must_encode();
	section(RIFFLE_SECTION_TABLES, 0);
	section(RIFFLE_SECTION_FIXED32, 2 * moving(ROW / 2));
}

/* Where a row goes on into a chunk, it ends. */
static void test_rows_end_at_chunks(void **state)
{
	(void)state;
	add_range(0x1000, 0x40, SHUFFLE_PIN_NONE);
	add_range(0x1040, 0x40, SHUFFLE_PIN_NONE);
	for (uint32_t at = 0x1000 - 4 * ROW; at < 0x1080; at += 4)
		add_ref(at, SHUFFLE_PC32, 0x1040);
	must_encode();
	EXPECT(RIFFLE_SECTION_TABLES, struct riffle_table, {RIFFLE_TABLE_SITES, 0x1000 - 4 * ROW, 0, ROW, 0, 0});
	section(RIFFLE_SECTION_PC_TARGETS, 16);
}

/* A field that is relocated as well cannot be one of a table. */
static void test_rows_with_relocations(void **state)
{
	for (unsigned kind = 0; kind < 3; kind++) {
		struct image_relocs *list;

		set_up(state);
		list = (struct image_relocs *[]){&kernel->image.reloc64, &kernel->image.reloc32,
						 &kernel->image.reloc32_inverse}[kind];
		add_four_chunks();
		add_row(DATA, ROW, 4);
		add_reloc(list, DATA - 8);
		add_reloc(list, DATA + 4 * ROW);
		must_encode();
		section(RIFFLE_SECTION_TABLES, 1);
		list->offset[0] = DATA - 7;
		must_encode();
		section(RIFFLE_SECTION_TABLES, 0);
		list->offset[0] = DATA - 8;
		list->offset[1] = DATA + 4 * ROW - 1;
		must_encode();
		section(RIFFLE_SECTION_TABLES, 0);
		section(RIFFLE_SECTION_FIXED32, moving(ROW));
		tear_down(state);
	}
	set_up(state);
}

/* So many tables that there is room for the sorted ones. */
static void test_most_rows(void **state)
{
	uint32_t at = DATA;

	(void)state;
	add_four_chunks();
	for (unsigned i = 0; i < PLAN_TABLES_MAX - 3; i++)
		at = add_row(at + 64, ROW, 4);
	must_encode();
	section(RIFFLE_SECTION_TABLES, PLAN_TABLES_MAX - 4);
	section(RIFFLE_SECTION_FIXED32, moving(ROW));
}

/* --- sorted tables --- */

static void put_distance(uint32_t at, uint32_t target)
{
	riffle_put32(kernel->bytes + at, target - at);
}

/* Before the first region, in it, between the two, in the second, and after it. */
static const uint32_t sorted[] = {0x10,       0x20,   CHUNK0,     CHUNK0 + 8, CHUNK1 - 1, CHUNK1, FIXED,   FIXED + 1,
				  CHUNK2 - 1, CHUNK2, CHUNK3 - 1, CHUNK3,     END,        END,    END + 1, DATA};
enum { SORTED = sizeof sorted / sizeof *sorted };

static void check_counts(size_t offset, uint32_t first_gap)
{
	static const uint16_t wanted[CHUNKS] = {3, 1, 2, 1};
	const uint32_t *gap = kernel->encoded.entries[RIFFLE_SECTION_GAPS];

	for (unsigned i = 0; i < CHUNKS; i++)
		assert_int_equal(riffle_get16((const uint8_t *)&chunk()[i] + offset), wanted[i]);
	assert_int_equal(gap[first_gap], 2);
	assert_int_equal(gap[first_gap + 1], 3);
	assert_int_equal(gap[first_gap + 2], 4);
}

static void add_table(enum shuffle_table_kind kind, uint32_t offset, uint32_t second, uint32_t entries)
{
	kernel->shuffle.table[kernel->shuffle.table_count++] =
	    (struct shuffle_table){.kind = (uint8_t)kind, .offset = offset, .second = second, .entries = entries};
}

static void add_sorted_tables(void)
{
	add_table(SHUFFLE_TABLE_EXTABLE, DATA, 0, SORTED);
	add_table(SHUFFLE_TABLE_ORC, DATA + 0x1000, DATA + 0x2000, SORTED);
	add_table(SHUFFLE_TABLE_MCOUNT, DATA + 0x3000, DATA + 0x4000, SORTED);
	for (uint32_t i = 0; i < SORTED; i++) {
		put_distance(DATA + 12 * i, sorted[i]);
		put_distance(DATA + 12 * i + 4, sorted[SORTED - 1 - i]);
		put_distance(DATA + 12 * i + 8, sorted[(i + 5) % SORTED]);
		put_distance(DATA + 0x1000 + 4 * i, sorted[i]);
		riffle_put64(kernel->bytes + DATA + 0x3000 + 8 * i, LINK + sorted[i]);
	}
}

static uint16_t chunk_at(uint32_t offset)
{
	return offset >= CHUNK0 && offset < CHUNK1   ? 0
	       : offset >= CHUNK1 && offset < FIXED  ? 1
	       : offset >= CHUNK2 && offset < CHUNK3 ? 2
	       : offset >= CHUNK3 && offset < END    ? 3
						     : CHUNKS;
}

static void test_sorted_tables(void **state)
{
	const uint16_t *target;

	(void)state;
	add_four_chunks();
	add_sorted_tables();
	must_encode();
	EXPECT(RIFFLE_SECTION_TABLES, struct riffle_table, {RIFFLE_TABLE_EXTABLE, DATA, 0, SORTED, 0, 0},
	       {RIFFLE_TABLE_ORC, DATA + 0x1000, DATA + 0x2000, SORTED, 3, 0},
	       {RIFFLE_TABLE_MCOUNT, DATA + 0x3000, 0, SORTED, 6, 0});
	section(RIFFLE_SECTION_GAPS, 9);
	check_counts(offsetof(struct riffle_chunk, exceptions), 0);
	check_counts(offsetof(struct riffle_chunk, orc), 3);
	check_counts(offsetof(struct riffle_chunk, mcount), 6);
	target = section(RIFFLE_SECTION_EXTABLE_TARGETS, 2 * SORTED);
	for (uint32_t i = 0; i < SORTED; i++) {
		assert_int_equal(target[2 * i], chunk_at(sorted[SORTED - 1 - i]));
		assert_int_equal(target[2 * i + 1], UINT16_MAX);
	}
	kernel->shuffle.table[0].third_is_pointer = true;
	must_encode();
	target = section(RIFFLE_SECTION_EXTABLE_TARGETS, 2 * SORTED);
	for (uint32_t i = 0; i < SORTED; i++)
		assert_int_equal(target[2 * i + 1], chunk_at(sorted[(i + 5) % SORTED]));
}

/* An emptied entry of mcount points nowhere: it stays, wherever the addresses around it lead. */
static void test_empty_mcount_entries(void **state)
{
	static const uint64_t address[] = {0, UINT64_C(0xffffffff81000000) + CHUNK0,
					   UINT64_C(0xffffffff81000000) + IMAGE, UINT64_MAX};

	(void)state;
	add_four_chunks();
	add_table(SHUFFLE_TABLE_MCOUNT, DATA, 0, 4);
	for (unsigned i = 0; i < 4; i++)
		riffle_put64(kernel->bytes + DATA + 8 * i, address[i]);
	must_encode();
	EXPECT(RIFFLE_SECTION_GAPS, uint32_t, 1, 2, 0);
	assert_int_equal(chunk()[0].mcount, 1);
}

static void test_tables_out_of_order(void **state)
{
	static const uint32_t order[][2] = {
	    {CHUNK1, CHUNK0}, /* chunks of a region */
	    {CHUNK2, CHUNK1}, /* regions */
	    {FIXED, CHUNK1},  /* see below */
	};

	(void)state;
	add_four_chunks();
	add_table(SHUFFLE_TABLE_ORC, DATA, DATA + 0x1000, 3);
	for (unsigned i = 0; i < 3; i++) {
		put_distance(DATA, CHUNK1);
		put_distance(DATA + 4, order[i][0]);
		put_distance(DATA + 8, order[i][1]);
		must_refuse("sorted table", "is not sorted by address");
		assert_int_equal(kernel->error.found, LINK + DATA);
	}
	/* entries that stay come after the first region's as soon as there was one of those */
	put_distance(DATA + 8, CHUNK2);
	must_encode();
	EXPECT(RIFFLE_SECTION_GAPS, uint32_t, 0, 1, 0);
}

static void test_most_entries_of_a_chunk(void **state)
{
	(void)state;
	add_four_chunks();
	add_table(SHUFFLE_TABLE_MCOUNT, DATA, 0, UINT16_MAX);
	for (uint32_t i = 0; i <= UINT16_MAX; i++)
		riffle_put64(kernel->bytes + DATA + 8 * i, LINK + CHUNK2);
	must_encode();
	assert_int_equal(chunk()[2].mcount, UINT16_MAX);
	kernel->shuffle.table[0].entries++;
	must_refuse("sorted table", "has too many entries of one chunk");
}

static void test_tables_in_the_image(void **state)
{
	static const uint32_t bytes[] = {
	    [SHUFFLE_TABLE_EXTABLE] = 12, [SHUFFLE_TABLE_ORC] = 4, [SHUFFLE_TABLE_MCOUNT] = 8};

	for (unsigned kind = 0; kind < 3; kind++) {
		set_up(state);
		add_four_chunks();
		add_table(kind, IMAGE - 3 * bytes[kind], 0, 3);
		for (uint32_t at = IMAGE - 3 * bytes[kind]; at < IMAGE; at += bytes[kind])
			put_distance(at, 0x20);
		must_encode();
		kernel->shuffle.table[0].offset++;
		must_refuse("sorted table", "leads outside the image");
		assert_int_equal(kernel->error.found, LINK + IMAGE - 3 * bytes[kind] + 1);
		/* as the second one too */
		kernel->shuffle.table[1] = kernel->shuffle.table[0];
		kernel->shuffle.table[0].entries = 0;
		kernel->shuffle.table_count = 2;
		must_refuse("sorted table", "leads outside the image");
		tear_down(state);
	}
	set_up(state);
}

/* --- kallsyms --- */

enum { OFFSETS = DATA, NAMES = DATA + 0x1000, SEQS = DATA + 0x2000, MARKERS = DATA + 0x3000 };

/* symbols at the addresses of `sorted`, whose names have 1, 2, 3 bytes and so on besides their length */
static void add_kallsyms(void)
{
	uint32_t at = NAMES;

	kernel->shuffle.kallsyms = (struct shuffle_kallsyms){.present = true,
							     .self_relative = true,
							     .count = SORTED,
							     .offsets = OFFSETS,
							     .names = NAMES,
							     .seqs = SEQS,
							     .markers = MARKERS};
	for (uint32_t i = 0; i < SORTED; i++) {
		put_distance(OFFSETS + 4 * i, sorted[i]);
		kernel->bytes[at] = (uint8_t)(i + 1);
		at += i + 2;
		kernel->bytes[SEQS + 3 * i + 2] = (uint8_t)(SORTED - 1 - i);
	}
	kernel->shuffle.kallsyms.names_bytes = at - NAMES;
}

static void test_kallsyms(void **state)
{
	static const uint16_t name_bytes[CHUNKS] = {4 + 5 + 6, 7, 11 + 12, 13};

	(void)state;
	add_four_chunks();
	add_kallsyms();
	must_encode();
	EXPECT(RIFFLE_SECTION_KALLSYMS, struct riffle_kallsyms,
	       {RIFFLE_KALLSYMS_SELF_RELATIVE, SORTED, OFFSETS, NAMES, kernel->shuffle.kallsyms.names_bytes, MARKERS,
		SEQS, 0});
	check_counts(offsetof(struct riffle_chunk, symbols), 0);
	EXPECT(RIFFLE_SECTION_GAPS, uint32_t, 2, 3, 4, 2 + 3, 8 + 9 + 10, 14 + 15 + 16 + 17);
	for (unsigned i = 0; i < CHUNKS; i++)
		assert_int_equal(chunk()[i].name_bytes, name_bytes[i]);
}

/* Offsets from a base, all of them or only those below zero. */
static void test_kallsyms_with_a_base(void **state)
{
	struct shuffle_kallsyms *k = &kernel->shuffle.kallsyms;

	(void)state;
	add_four_chunks();
	add_kallsyms();
	k->self_relative = false;
	k->relative_base = LINK + 0x10;
	for (uint32_t i = 0; i < SORTED; i++)
		riffle_put32(kernel->bytes + OFFSETS + 4 * i, sorted[i] - 0x10);
	must_encode();
	check_counts(offsetof(struct riffle_chunk, symbols), 0);
	assert_int_equal(((struct riffle_kallsyms *)kernel->encoded.entries[RIFFLE_SECTION_KALLSYMS])->flags, 0);

	k->absolute_percpu = true;
	for (uint32_t i = 0; i < SORTED; i++)
		riffle_put32(kernel->bytes + OFFSETS + 4 * i, 0u - 1 - (sorted[i] - 0x10));
	/* percpu symbols, whatever address that would be elsewhere, and one past the image */
	riffle_put32(kernel->bytes + OFFSETS, CHUNK3);
	riffle_put32(kernel->bytes + OFFSETS + 4, 0);
	riffle_put32(kernel->bytes + OFFSETS + 4 * (SORTED - 1), 0u - 1 - (IMAGE - 0x10));
	must_encode();
	check_counts(offsetof(struct riffle_chunk, symbols), 0);
	assert_int_equal(((struct riffle_kallsyms *)kernel->encoded.entries[RIFFLE_SECTION_KALLSYMS])->flags,
			 RIFFLE_KALLSYMS_ABSOLUTE_PERCPU);
}

static void test_lengths_of_names(void **state)
{
	struct shuffle_kallsyms *k = &kernel->shuffle.kallsyms;

	(void)state;
	add_four_chunks();
	add_kallsyms();
	k->count = 3;
	k->seqs = 0;
	/* two bytes for the length from 128 on, seven bits in the first */
	memcpy(kernel->bytes + NAMES, (const uint8_t[]){127}, 1);
	memcpy(kernel->bytes + NAMES + 128, (const uint8_t[]){0x80, 1}, 2);
	memcpy(kernel->bytes + NAMES + 258, (const uint8_t[]){0x83, 2}, 2);
	k->names_bytes = 258 + 2 + 259;
	must_encode();
	EXPECT(RIFFLE_SECTION_GAPS, uint32_t, 2, 0, 0, 258, 0, 0);
	assert_int_equal(chunk()[0].name_bytes, 261);

	k->names_bytes++;
	must_refuse("kallsyms names", "are not all used");
	assert_int_equal(kernel->error.found, LINK + NAMES + 519);
	k->names_bytes -= 2;
	must_refuse("kallsyms names", "lead past their end");
	k->names_bytes = 258;
	must_refuse("kallsyms names", "lead past their end");
	k->names_bytes = 259; /* its length is cut short */
	must_refuse("kallsyms names", "lead past their end");
}

static void test_kallsyms_are_checked(void **state)
{
	struct shuffle_kallsyms *k = &kernel->shuffle.kallsyms;

	(void)state;
	add_four_chunks();
	add_kallsyms();
	for (unsigned byte = 0; byte < 3; byte++) {
		uint8_t *seq = kernel->bytes + SEQS + 3 * 7 + byte;
		uint8_t usual = *seq;

		*seq = byte == 2 ? SORTED : 1;
		must_refuse("kallsyms by-name sequence", "names a symbol that is not there");
		assert_int_equal(kernel->error.found, LINK + SEQS + 3 * 7);
		*seq = usual;
	}
	put_distance(OFFSETS + 4 * 3, CHUNK1);
	must_refuse("kallsyms", "is not sorted by address");
	put_distance(OFFSETS + 4 * 3, sorted[3]);

	k->offsets = IMAGE - 4 * SORTED + 1;
	must_refuse("kallsyms", "leads outside the image");
	k->offsets = OFFSETS;
	k->names = IMAGE - k->names_bytes + 1;
	must_refuse("kallsyms", "leads outside the image");
	k->names = NAMES;
	k->seqs = IMAGE - 3 * SORTED + 1;
	must_refuse("kallsyms", "leads outside the image");
	/* without them, nothing is looked at */
	k->present = false;
	must_encode();
	section(RIFFLE_SECTION_KALLSYMS, 0);
	section(RIFFLE_SECTION_GAPS, 0);
}

/* Each of the three at the image's very end. */
static void test_kallsyms_at_the_end(void **state)
{
	struct shuffle_kallsyms *k = &kernel->shuffle.kallsyms;

	(void)state;
	add_four_chunks();
	add_kallsyms();
	k->offsets = IMAGE - 4 * SORTED;
	for (uint32_t i = 0; i < SORTED; i++)
		put_distance(k->offsets + 4 * i, sorted[i]);
	must_encode();
	add_kallsyms();
	k->names = IMAGE - k->names_bytes;
	memcpy(kernel->bytes + k->names, kernel->bytes + NAMES, k->names_bytes);
	must_encode();
	add_kallsyms();
	k->seqs = IMAGE - 3 * SORTED;
	memset(kernel->bytes + k->seqs, 0, 3 * SORTED);
	must_encode();
}

/* --- slides --- */

static void test_slides(void **state)
{
	struct shuffle_slides *s = &kernel->shuffle.slides;

	(void)state;
	add_four_chunks();
	s->cross = calloc(2, sizeof *s->cross);
	assert_non_null(s->cross);
	s->cross[0] = (struct shuffle_cross){0x24, 1};
	s->cross[1] = (struct shuffle_cross){0x80, 2};
	s->cross_count = 2;
	s->table[0] = (struct riffle_cross_table){DATA, 5, 8, RIFFLE_CROSS_DISTANCE64, 0, 0};
	s->table_count = 1;
	must_encode();
	for (unsigned i = RIFFLE_SECTION_BLOCKS; i <= RIFFLE_SECTION_CROSS_TABLES; i++)
		assert_int_equal(kernel->encoded.count[i], 0); /* nothing without blocks */

	s->block[0] = (struct riffle_block){0, 4096, 1, RIFFLE_BLOCK_TEXT};
	s->block[1] = (struct riffle_block){0x80000, 4096, 9, RIFFLE_BLOCK_RODATA};
	s->block[2] = (struct riffle_block){DATA, 0x200000, 3, RIFFLE_BLOCK_DATA};
	s->block_count = 3;
	must_encode();
	EXPECT(RIFFLE_SECTION_BLOCKS, struct riffle_block, s->block[0], s->block[1], s->block[2]);
	EXPECT(RIFFLE_SECTION_CROSS32, uint32_t, 0x24, 0x80);
	EXPECT(RIFFLE_SECTION_CROSS32_BLOCKS, uint8_t, 1, 2);
	EXPECT(RIFFLE_SECTION_CROSS_TABLES, struct riffle_cross_table, s->table[0]);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
	    TEST(test_chunks_and_regions),
	    TEST(test_regions_end_at_gaps),
	    TEST(test_sizes_of_chunks),
	    TEST(test_most_chunks),
	    TEST(test_most_regions),
	    TEST(test_groups_are_full),
	    TEST(test_references_in_chunks),
	    TEST(test_steps),
	    TEST(test_fields_across_a_chunks_end),
	    TEST(test_references_in_what_stays),
	    TEST(test_relocations_in_chunks),
	    TEST(test_rows_become_tables),
	    TEST(test_short_rows_do_not),
	    TEST(test_sparse_rows),
	    TEST(test_gaps_in_rows),
	    TEST(test_rows_end_at_chunks),
	    TEST(test_rows_with_relocations),
	    TEST(test_most_rows),
	    TEST(test_sorted_tables),
	    TEST(test_empty_mcount_entries),
	    TEST(test_tables_out_of_order),
	    TEST(test_most_entries_of_a_chunk),
	    TEST(test_tables_in_the_image),
	    TEST(test_kallsyms),
	    TEST(test_kallsyms_with_a_base),
	    TEST(test_lengths_of_names),
	    TEST(test_kallsyms_are_checked),
	    TEST(test_kallsyms_at_the_end),
	    TEST(test_slides),
	};
	return cmocka_run_group_tests_name("encode", tests, NULL, NULL);
}

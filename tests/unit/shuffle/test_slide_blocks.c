/* SPDX-License-Identifier: Apache-2.0 */
/* Which blocks of a kernel slide: only gaps whose memory the kernel gets; and which addresses tell their block. */
#include <stddef.h>

#include "prepare/shuffle/slides.h"
#include "work_builder.h"

#define BLOCKS 5u
#define END 0x9000u
#define FIELD 0x4100u /* in read-only data */
#define HUGE_PAGE 0x200000u

struct place {
	const char *symbol;
	uint32_t offset;
};

/* Of Debian's kernels, in their order. */
static const struct place places[] = {
    {"_etext", 0x3800},
    {"__start_rodata", 0x4000},
    {"__end_rodata", 0x4800},
    {"_sdata", 0x5000},
    {"__init_begin", 0x5800},
    {"_sinittext", 0x6000},
    {"__init_end", 0x7000},
    {"__start_bss_decrypted_unused", 0x7800},
    {"__end_bss_decrypted", 0x8000},
    {"__end_of_kernel_reserve", 0x8000},
    {"__brk_base", 0x8000},
};
#define PLACES (sizeof places / sizeof *places)

/* The same of 6.12, where .text is filled up to read-only data. */
static const struct place filled[PLACES] = {
    {"_etext", 0x3000},
    {"__start_rodata", 0x3000},
    {"__end_rodata", 0x4000},
    {"_sdata", 0x5000},
    {"__init_begin", 0x5800},
    {"_sinittext", 0x6000},
    {"__init_end", 0x7000},
    {"__start_bss_decrypted_unused", 0x7800},
    {"__end_bss_decrypted", 0x8000},
    {"__end_of_kernel_reserve", 0x8000},
    {"__brk_base", 0x8000},
};

/*
 * A kernel with one of these symbols at another offset, or without it if that is 0; and with a section of a page that
 * ends there, unless it is 0.
 */
static struct builder *kernel_of(const struct place *all, const struct place *other, uint32_t end)
{
	struct builder *b = build(0x3000);

	b->image.section_count = 1; /* .text alone: what is behind it lies in no section */
	if (end)
		set_section(b, ".table", end - 0x800, 0x800, SHF_ALLOC);
	for (size_t i = 0; i < PLACES; i++) {
		bool changed = other && !strcmp(other->symbol, all[i].symbol);

		if (!changed || other->offset)
			add_symbol(b, changed ? other->offset : all[i].offset, all[i].symbol);
	}
	return b;
}

static struct builder *kernel(const struct place *other, uint32_t end)
{
	return kernel_of(places, other, end);
}

static void gaps_come_back_or_are_none(void **state)
{
	static const struct {
		struct place other;
		uint32_t none; /* a bit for each block that has no gap before it */
		uint32_t end;
	} cases[] = {
	    {{"_text", 0}, 0, 0},
	    {{"_text", 0}, 1, 0x4000},
	    {{"_text", 0}, 2, 0x5000},
	    {{"_text", 0}, 4, 0x6000},
	    {{"_text", 0}, 8, 0x7000},        /* a table that ends with .init: the end would go with .bss */
	    {{"_text", 0}, 0, 0x8000},        /* .bss ends where .brk begins */
	    {{"_etext", 0x4000}, 1, 0},       /* text ends where read-only data begins: 6.12 */
	    {{"__end_rodata", 0x5000}, 2, 0}, /* likewise */
	    {{"__init_begin", 0x6000}, 4, 0}, /* no per-CPU template: one processor */
	    /* no CONFIG_AMD_MEM_ENCRYPT: nothing behind .bss is freed */
	    {{"__start_bss_decrypted_unused", 0x8000}, 16, 0},
	    {{"__start_bss_decrypted_unused", 0}, 16, 0},
	    {{"__end_bss_decrypted", 0}, 16, 0},
	    {{"__end_bss_decrypted", 0x7c00}, 16, 0},
	    {{"__end_of_kernel_reserve", 0x7c00}, 0, 0},
	    {{"__end_of_kernel_reserve", 0}, 0, 0},
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct builder *b = kernel(&cases[i].other, cases[i].end);

		assert_int_equal(slides_find_blocks(&b->work, &b->error), 0);
		assert_string_equal(b->result.slides.none, "");
		assert_int_equal(b->result.slides.block_count, BLOCKS + 1);
		for (uint32_t k = 0; k < BLOCKS; k++)
			if ((b->result.slides.block[k + 1].gaps == 1) != (cases[i].none >> k & 1))
				fail_msg("%s at %x: block %u has %u gaps", cases[i].other.symbol, cases[i].other.offset,
					 k + 1, b->result.slides.block[k + 1].gaps);
		/* the last gap takes the rest, or is none */
		assert_int_equal(b->result.slides.block[BLOCKS].gaps, cases[i].none >> (BLOCKS - 1) & 1);
		tear_down(b);
	}
}

/*
 * Where text ends as read-only data begins, the kernel keeps the gap: there is one if another that it keeps can take
 * the rest, at the end of read-only data.
 */
static void kept_gaps_are_a_pair(void **state)
{
	static const struct {
		struct place other;
		uint32_t end;
		bool paired;
	} cases[] = {
	    {{"_text", 0}, 0, true},
	    {{"_text", 0}, 0x3800, true},
	    {{"_text", 0}, 0x5000, true},        /* of .data's gap alone */
	    {{"__init_begin", 0x6000}, 0, true}, /* another gap that there is not */
	    {{"_etext", 0}, 0, false},
	    {{"_etext", 0x2800}, 0, false}, /* that gap comes back, but a section ends there */
	    {{"_text", 0}, 0x3000, false},  /* a table that ends with text */
	    {{"_text", 0}, 0x4000, false},  /* one at the end of read-only data */
	    {{"_text", 0}, 0x4400, false},  /* one across it */
	    {{"__end_rodata", 0}, 0, false},
	    {{"__end_rodata", 0x3000}, 0, false}, /* nothing in it */
	    {{"__end_rodata", 0x3800}, 0, false}, /* not on a page */
	    {{"__end_rodata", 0x5000}, 0, false}, /* nothing behind it that is freed */
	};
	static const struct {
		uint32_t at;
		uint64_t align;
		bool paired;
	} aligned[] = {{0x3400, 4096, true},
		       {0x3400, 8192, false},
		       {0x3000, 8192, false},
		       {0x2c00, 8192, true},
		       {0x4000, 8192, true}};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct builder *b = kernel_of(filled, &cases[i].other, cases[i].end);
		const struct riffle_block *block = b->result.slides.block;

		assert_int_equal(slides_find_blocks(&b->work, &b->error), 0);
		assert_string_equal(b->result.slides.none, "");
		if (b->result.slides.block_count != BLOCKS + 1 + cases[i].paired ||
		    block[1].gaps != (cases[i].paired ? 513u : 1u))
			fail_msg("%s at %x, %x: %u blocks, the second with %u gaps", cases[i].other.symbol,
				 cases[i].other.offset, cases[i].end, b->result.slides.block_count, block[1].gaps);
		if (cases[i].paired) {
			assert_int_equal(block[1].align, 4096);
			assert_int_equal(block[2].image_offset, 0x4000);
			assert_int_equal(block[2].align, 4096);
			assert_int_equal(block[2].gaps, 0);
			assert_int_equal(block[2].kind, RIFFLE_BLOCK_RODATA_END);
			assert_int_equal(block[3].image_offset, 0x5000);
		}
		tear_down(b);
	}
	/* a section of read-only data, of text or behind both, and its alignment */
	for (size_t i = 0; i < sizeof aligned / sizeof *aligned; i++) {
		struct builder *b = kernel_of(filled, NULL, 0);

		set_section(b, ".table", aligned[i].at, 0x300, SHF_ALLOC);
		b->section[b->image.section_count - 1].align = aligned[i].align;
		assert_int_equal(slides_find_blocks(&b->work, &b->error), 0);
		if (b->result.slides.block_count != BLOCKS + 1 + aligned[i].paired)
			fail_msg("%x, %u: %u blocks", aligned[i].at, (unsigned)aligned[i].align,
				 b->result.slides.block_count);
		tear_down(b);
	}
}

/* An address is at most the end rounded up to a huge page; one farther out has no block, and the kernel no slides. */
static void addresses_past_the_end(void **state)
{
	static const struct {
		uint64_t value;
		bool slides;
	} cases[] = {
	    {LINK + END, true},
	    {LINK + END + HUGE_PAGE - 1, true},
	    {LINK + END + HUGE_PAGE, false},
	    {LINK + (64 << 20), false},
	    {0, true}, /* of a per-CPU variable */
	    {LINK - 16, true},
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		for (unsigned width = 4; width <= 8; width += 4) {
			struct builder *b = kernel(NULL, 0);

			b->relocs[width == 8 ? 0 : 1][0] = FIELD;
			*(width == 8 ? &b->image.reloc64.count : &b->image.reloc32.count) = 1;
			memcpy(b->work.bytes + FIELD, &cases[i].value, width);
			assert_int_equal(slides_find_blocks(&b->work, &b->error), 0);
			assert_int_equal(slides_finish(&b->work, &b->error), 0);
			if ((b->result.slides.block_count != 0) != cases[i].slides)
				fail_msg("%llx, %u bytes: %s", (unsigned long long)cases[i].value, width,
					 b->result.slides.none);
			assert_true(cases[i].slides || strstr(b->result.slides.none, "far past the image"));
			free(b->result.slides.cross);
			tear_down(b);
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(gaps_come_back_or_are_none),
	    cmocka_unit_test(kept_gaps_are_a_pair),
	    cmocka_unit_test(addresses_past_the_end),
	};
	return cmocka_run_group_tests_name("slide-blocks", tests, NULL, NULL);
}

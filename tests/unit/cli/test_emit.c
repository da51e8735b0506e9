/* SPDX-License-Identifier: Apache-2.0 */
/* An emitted kernel's segments, and the arguments of a monitor that name the kernel. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdlib.h>

#include "cli/commands/emit_image.h"
#include "cli/commands/emit_options.h"

#define MIB (UINT64_C(1) << 20)
#define BASE (64 * MIB)
#define PAGE 4096u

static struct riffle_header header;
static struct riffle_extent extents[400];
static struct riffle_plan plan;
static struct boot_elf_segment segments[EMIT_SEGMENTS_MAX];

/* One extent after another, each of a page, with `gap(i)` pages before it. */
static void make_plan(unsigned count, unsigned (*gap)(unsigned index))
{
	uint32_t at = 0;

	for (unsigned i = 0; i < count; i++) {
		at += gap(i) * PAGE;
		extents[i] = (struct riffle_extent){.image_offset = at, .bytes = PAGE};
		at += PAGE;
	}
	header.image_bytes = at + 5 * PAGE + 123;
	plan = (struct riffle_plan){.header = &header, .extents = extents, .extent_count = count};
}

/* However extents were merged: no gap in memory, every extent in one segment, correct file offsets. */
static unsigned check(void)
{
	unsigned count = emit_segments(segments, &plan, &(struct riffle_layout){.physical_base = BASE}), in = 0;

	assert_in_range(count, 1, EMIT_SEGMENTS_MAX);
	for (unsigned i = 0; i < count; i++) {
		const struct boot_elf_segment *s = &segments[i];

		assert_int_equal(s->file_offset - EMIT_IMAGE_OFFSET, s->address - BASE);
		assert_true(s->file_bytes <= s->memory_bytes);
		assert_int_equal(s->address + s->memory_bytes,
				 i + 1 < count ? segments[i + 1].address : BASE + header.image_bytes);
	}
	for (unsigned i = 0; i < plan.extent_count; i++) {
		uint64_t start = BASE + extents[i].image_offset;

		while (start >= segments[in].address + segments[in].memory_bytes)
			in++;
		assert_true(start >= segments[in].address);
		assert_true(start + extents[i].bytes <= segments[in].address + segments[in].file_bytes);
	}
	return count;
}

static unsigned one(unsigned index)
{
	return index ? 1 : 0;
}

static unsigned none(unsigned index)
{
	(void)index;
	return 0;
}

static unsigned every_tenth(unsigned index)
{
	return index && index % 10 == 0 ? 20 : 1;
}

static unsigned anything(unsigned index)
{
	(void)index;
	return (unsigned)rand() % 64;
}

static void each_extent_has_a_segment(void **state)
{
	(void)state;
	make_plan(1, none);
	assert_int_equal(check(), 1);
	make_plan(EMIT_SEGMENTS_MAX, one);
	assert_int_equal(check(), EMIT_SEGMENTS_MAX);
	/* neighbours without a gap are one */
	make_plan(400, none);
	assert_int_equal(check(), 1);
}

static void small_gaps_are_closed_first(void **state)
{
	(void)state;
	make_plan(EMIT_SEGMENTS_MAX + 1, one);
	assert_int_equal(check(), 1);
	make_plan(400, every_tenth);
	assert_int_equal(check(), 40);
	for (unsigned seed = 0; seed < 200; seed++) {
		srand(seed);
		make_plan(1 + seed * 2, anything);
		check();
	}
}

static void at_signs(void **state)
{
	(void)state;
	assert_int_equal(emit_place_of_kernel("@"), 0);
	assert_int_equal(emit_place_of_kernel("--kernel=@"), 9);
	assert_int_equal(emit_place_of_kernel("=@"), 1);
	assert_int_equal(emit_place_of_kernel(""), -1);
	assert_int_equal(emit_place_of_kernel("a@"), -1);
	assert_int_equal(emit_place_of_kernel("@@"), -1);
	assert_int_equal(emit_place_of_kernel("=@ "), -1);
	assert_int_equal(emit_place_of_kernel("user@host"), -1);
}

static void the_default_reserve(void **state)
{
	static const struct {
		const char *memory;
		uint64_t reserve;
	} cases[] = {
	    {"128M", 32 * MIB}, {"254M", 127 * MIB / 2}, {"256M", 64 * MIB}, {"258M", 64 * MIB}, {"8G", 64 * MIB}};
	struct emit_options o;

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		const char *argv[] = {"emit", "-m", cases[i].memory, "-o", "file", "kernel", NULL};

		assert_int_equal(emit_options_parse(&o, 6, (char **)(uintptr_t)argv), EMIT_GO);
		assert_int_equal(o.reserve_top, cases[i].reserve);
		assert_string_equal(o.kernel, "kernel");
		assert_string_equal(o.output, "file");
		assert_true(o.randomize_auto);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(each_extent_has_a_segment),
	    cmocka_unit_test(small_gaps_are_closed_first),
	    cmocka_unit_test(at_signs),
	    cmocka_unit_test(the_default_reserve),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

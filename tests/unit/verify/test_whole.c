/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Small kernels that can be shuffled, and whose sections can slide apart, go the whole way: analysed, written, loaded
 * at many layouts, and each time found right by verify; and whatever is spoiled, in one part or in one byte anywhere,
 * is found wrong.
 */
#include "common/bytes.h"
#include "tests/unit/verify/whole.h"

static int set_up_movable(void **state)
{
	return whole_set_up(state, test_movable_kernel);
}

static int set_up_sliding(void **state)
{
	return whole_set_up(state, test_sliding_kernel);
}

static void full_kernel(struct test_bytes *file)
{
	test_full_kernel(file, NULL, 0);
}

static int set_up_full(void **state)
{
	return whole_set_up(state, full_kernel);
}

static uint64_t differences(struct whole *w)
{
	struct verify_result result;

	free(compare(w, &result, 0));
	return result.different;
}

/* By how much the last block slides. */
static uint32_t slides(const struct whole *w)
{
	return w->layout.slide_count ? w->layout.slide[w->layout.slide_count - 1] : 0;
}

static void test_every_layout_is_right(void **state)
{
	struct whole *w = *state;
	struct verify_result result;

	for (uint8_t i = 0; i < 40; i++) {
		uint32_t moved = 0;
		char *lines;

		draw_and_load(w, i % 4 ? RIFFLE_MODE_FGKASLR : RIFFLE_MODE_KASLR, i);
		lines = compare(w, &result, 10);
		assert_string_equal(lines, "");
		free(lines);
		assert_int_equal(result.different, 0);
		assert_int_equal(result.bytes, w->image->image_bytes + slides(w));
		/* each function has an instruction that is as long as it may be, and no fewer than five */
		assert_true(result.unwinds >= 5 * TEST_MOVABLE_FUNCTIONS);
		/* a chunk is at its place when those before it are as long as they were */
		for (uint32_t k = 0, at = w->plan.regions[0].image_offset; i % 4 && k < w->plan.chunk_count; k++) {
			const struct riffle_chunk *c = &w->plan.chunks[w->order[k]];

			moved += c->image_offset != at;
			at += riffle_chunk_bytes(c);
		}
		assert_int_equal(result.moved, moved);
	}
}

/* What each part knows of: tables entry by entry, and code by its instructions. */
static void test_parts(void **state)
{
	static const struct verify_part wanted[] = {
	    {".smp_locks", TEST_MOVABLE_FUNCTIONS},         {"__ex_table", TEST_MOVABLE_FUNCTIONS / 2},
	    {".orc_unwind_ip", TEST_MOVABLE_FUNCTIONS + 1}, {".orc_unwind", TEST_MOVABLE_FUNCTIONS + 1},
	    {"absolute64", TEST_MOVABLE_FUNCTIONS},
	};
	struct whole *w = *state;

	for (unsigned i = 0; i < sizeof wanted / sizeof *wanted; i++) {
		unsigned seen = 0;

		for (unsigned k = 0; k < verify_part_count(w->verify); k++) {
			struct verify_part part = verify_part(w->verify, k);

			if (strcmp(part.name, wanted[i].name))
				continue;
			seen++;
			assert_int_equal(part.fields, wanted[i].fields);
		}
		assert_int_equal(seen, 1);
	}
	assert_false(verify_rela(w->verify).present);
}

/* Each part can be left stale, and that is seen, in that part. */
static void test_spoiled_parts(void **state)
{
	struct whole *w = *state;

	for (unsigned i = 0; i < verify_part_count(w->verify); i++) {
		const char *name = verify_part(w->verify, i).name;
		struct verify_result result;
		char *lines;

		draw_and_load(w, RIFFLE_MODE_FGKASLR, 7);
		if (!verify_spoil(w->verify, &w->plan, &w->layout, name, loaded(w), &error)) {
			/* one alone, which is always 0 */
			assert_string_equal(name, "kallsyms-markers");
			assert_int_equal(error.status, RIFFLE_ERR_ARGUMENT);
			continue;
		}
		lines = compare(w, &result, 1);
		assert_true(result.different > 0);
		if (!strstr(lines, name))
			fail_msg("%s: %s", name, lines);
		free(lines);
	}
	assert_false(verify_spoil(w->verify, &w->plan, &w->layout, "no such part", loaded(w), &error));
	assert_int_equal(error.status, RIFFLE_ERR_ARGUMENT);
	assert_string_equal(error.field, "spoil");
	assert_int_equal(differences(w) > 0, true);
}

/* Where a kernel is linked no part of it is changed, and so none can be left stale. */
static void test_nothing_to_spoil(void **state)
{
	struct whole *w = *state;

	draw_and_load(w, RIFFLE_MODE_OFF, 0);
	for (unsigned i = 0; i < verify_part_count(w->verify); i++) {
		char line[256];

		assert_false(
		    verify_spoil(w->verify, &w->plan, &w->layout, verify_part(w->verify, i).name, loaded(w), &error));
		riffle_error_format(&error, line, sizeof line);
		assert_string_equal(
		    line, "spoil: changes nothing: this kernel has no such part, or the layout leaves it as it is");
	}
	assert_int_equal(differences(w), 0);
}

/* One byte anywhere is one difference. */
static void test_every_byte_is_compared(void **state)
{
	struct whole *w = *state;

	draw_and_load(w, RIFFLE_MODE_FGKASLR, 9);
	for (uint64_t at = 0; at < w->image->image_bytes; at += at < 0x5000 ? 37 : 911) {
		loaded(w)[at] ^= 0x10;
		if (differences(w) < 1)
			fail_msg("a change at %llx is not seen", (unsigned long long)at);
		loaded(w)[at] ^= 0x10;
	}
	loaded(w)[w->image->image_bytes - 1] = 1;
	assert_int_equal(differences(w), 1);
	loaded(w)[w->image->image_bytes - 1] = 0;
	/* two at most three bytes apart are one, and one is as long as it is */
	loaded(w)[0x100] ^= 1;
	loaded(w)[0x104] ^= 1;
	assert_int_equal(differences(w), 1);
	loaded(w)[0x105] ^= 1;
	loaded(w)[0x10a] ^= 1;
	assert_int_equal(differences(w), 2);
}

/* A line says where: in memory and as linked, in which section, after which symbol, by what field. */
static void test_lines_of_differences(void **state)
{
	struct whole *w = *state;
	const struct riffle_chunk *third = &w->plan.chunks[3], *fifth = &w->plan.chunks[5];
	uint32_t at, shift[TEST_MOVABLE_FUNCTIONS];
	struct verify_result result;
	char wanted[512], *lines;
	uint8_t *p;

	draw_and_load(w, RIFFLE_MODE_FGKASLR, 11);
	at = w->plan.regions[0].image_offset;
	for (uint32_t k = 0; k < w->plan.chunk_count; k++) {
		const struct riffle_chunk *c = &w->plan.chunks[w->order[k]];

		shift[w->order[k]] = at - c->image_offset;
		at += riffle_chunk_bytes(c);
	}
	/* its ret, which is no field; and a byte of the distance in another one's call */
	p = loaded(w) + third->image_offset + shift[3] + 15;
	assert_int_equal(*p, 0xc3);
	*p = 0xf4;
	lines = compare(w, &result, 10);
	assert_int_equal(result.different, 1);
	snprintf(wanted, sizeof wanted,
		 "image offset 0x%x, linked at 0x%llx: .text, function04+0xf, no reference: loaded f4, expected c3\n",
		 third->image_offset + shift[3] + 15,
		 (unsigned long long)(w->image->link_virt + third->image_offset + 15));
	assert_string_equal(lines, wanted);
	free(lines);
	*p = 0xc3;

	p = loaded(w) + fifth->image_offset + shift[5] + 4;
	*p ^= 0xff;
	lines = compare(w, &result, 10);
	assert_int_equal(result.different, 1);
	snprintf(
	    wanted, sizeof wanted,
	    "image offset 0x%x, linked at 0x%llx: .text, function06+0x4, code: loaded %02x, expected %02x (refers to "
	    "function39+0x0)\n",
	    fifth->image_offset + shift[5] + 4, (unsigned long long)(w->image->link_virt + fifth->image_offset + 4), *p,
	    *p ^ 0xff);
	assert_string_equal(lines, wanted);
	free(lines);
	lines = compare(w, &result, 0);
	assert_string_equal(lines, "");
	free(lines);
	*p ^= 0xff;

	/* the entry is one more place that a load can get wrong */
	w->entry++;
	lines = compare(w, &result, 10);
	assert_int_equal(result.different, 1);
	assert_string_equal(lines, "entry: at image offset 0x1, where 0x1 was linked, expected 0x0\n");
	free(lines);
	w->entry = UINT64_MAX;
	assert_int_equal(differences(w), 1);
}

/* An order that is none: a chunk twice, and one that is not there. */
static void test_bad_orders(void **state)
{
	struct whole *w = *state;
	struct verify_result result;
	uint16_t usual;

	draw_and_load(w, RIFFLE_MODE_FGKASLR, 12);
	usual = w->order[5];
	w->order[5] = w->order[4];
	assert_int_not_equal(
	    verify_compare(&result, w->verify, &w->plan, &w->layout, loaded(w), w->entry, 0, NULL, &error), 0);
	w->order[5] = TEST_MOVABLE_FUNCTIONS;
	assert_int_not_equal(
	    verify_compare(&result, w->verify, &w->plan, &w->layout, loaded(w), w->entry, 0, NULL, &error), 0);
	w->order[5] = usual;
	assert_int_equal(differences(w), 0);
}

/* Chunks begin and end between instructions. */
static void test_chunks(void **state)
{
	struct whole *w = *state;
	struct riffle_chunk *chunks = malloc(w->plan.chunk_count * sizeof *chunks);
	struct riffle_plan plan = w->plan;
	FILE *nowhere = fopen("/dev/null", "w");

	assert_non_null(chunks);
	assert_non_null(nowhere);
	memcpy(chunks, w->plan.chunks, w->plan.chunk_count * sizeof *chunks);
	plan.chunks = chunks;
	assert_int_equal(verify_chunks(w->verify, &plan, 10, nowhere), 0);
	/* in the middle of the function: in its `lock` prefix's instruction, or before what it falls through to */
	chunks[4].image_offset += 1;
	assert_true(verify_chunks(w->verify, &plan, 10, nowhere) > 0);
	chunks[4].image_offset -= 1;
	chunks[4].units += 1;
	assert_true(verify_chunks(w->verify, &plan, 10, nowhere) > 0);
	chunks[4].units -= 1;
	assert_int_equal(verify_chunks(w->verify, &plan, 10, nowhere), 0);
	fclose(nowhere);
	free(chunks);
}

/* A shuffle, and nothing else, closes /proc/kallsyms: verify has its own opinion of what is right, and where. */
static void test_kallsyms_mode(void **state)
{
	struct whole *w = *state;
	struct riffle_header changed = *w->plan.header;
	const struct riffle_header *header = w->plan.header;
	uint32_t at = header->kallsyms_mode;
	struct verify_result result;
	char *lines;

	assert_true(header->features & RIFFLE_FEATURE_KALLSYMS_MODE);
	assert_int_equal(riffle_get32(w->image->segment[0].bytes + at), 0444);
	for (uint8_t number = 20; number < 24; number++) {
		enum riffle_mode mode = number < 22 ? RIFFLE_MODE_FGKASLR : RIFFLE_MODE_KASLR;
		uint32_t right = number < 22 ? 0400 : 0444;
		uint8_t *field;

		draw_and_load(w, mode, number);
		field = loaded(w) + at + (w->layout.slide_count ? w->layout.slide[3] : 0);
		assert_int_equal(riffle_get32(field), right);
		assert_int_equal(differences(w), 0);
		riffle_put32(field, right ^ 044);
		lines = compare(w, &result, 1);
		assert_int_equal(result.different, 1);
		assert_non_null(strstr(lines, "kallsyms_init+0x1, kallsyms-mode: loaded "));
		free(lines);
	}
	/* a plan that does not close it is no excuse */
	changed.features &= ~RIFFLE_FEATURE_KALLSYMS_MODE;
	w->plan.header = &changed;
	draw_and_load(w, RIFFLE_MODE_FGKASLR, 20);
	assert_int_equal(differences(w), 1);
	draw_and_load(w, RIFFLE_MODE_KASLR, 22);
	assert_int_equal(differences(w), 0);
	w->plan.header = header;
}

/* A changed byte of a block that slides is told where it was linked, and a gap is compared too. */
static void test_slid_blocks(void **state)
{
	struct whole *w = *state;
	struct verify_result result;
	char wanted[512], *lines;

	assert_int_equal(w->plan.block_count, 6);
	draw_and_load(w, RIFFLE_MODE_FGKASLR, 13);
	for (unsigned i = 1; i < 6; i++) {
		uint32_t from = w->plan.blocks[i].image_offset, slide = w->layout.slide[i];
		uint32_t first = from + slide, gap = slide - w->layout.slide[i - 1];

		loaded(w)[first] ^= 1;
		lines = compare(w, &result, 10);
		assert_int_equal(result.different, 1);
		snprintf(wanted, sizeof wanted, "image offset 0x%x, linked at 0x%llx: ", first,
			 (unsigned long long)(w->image->link_virt + from));
		assert_memory_equal(lines, wanted, strlen(wanted));
		free(lines);
		loaded(w)[first] ^= 1;
		if (!gap)
			continue;
		loaded(w)[first - 1] ^= 1;
		loaded(w)[first - gap] ^= 1;
		assert_int_equal(differences(w), 2);
		loaded(w)[first - 1] ^= 1;
		loaded(w)[first - gap] ^= 1;
	}
	assert_int_equal(differences(w), 0);
}

/* Each block by itself, as far as it can, and all of them. */
static void test_slides_by_hand(void **state)
{
	struct whole *w = *state;

	for (unsigned from = 1; from <= 6; from++) {
		uint32_t slide = 0;

		draw_and_load(w, RIFFLE_MODE_FGKASLR, 15);
		for (unsigned i = 0; i < 6; i++) {
			if (i == from || from == 6)
				slide += (w->plan.blocks[i].gaps - 1) * w->plan.blocks[i].align;
			w->layout.slide[i] = slide;
		}
		load(w);
		assert_int_equal(differences(w), 0);
	}
	assert_int_equal(slides(w), w->plan.slide_max);
}

/* Code is what sections of code hold in the file: not room for some, none at all, nor what can be written. */
static void test_what_is_code(void **state)
{
	static const struct image_section odd[] = {
	    {".text.room", 0x1000, 0x1000, SHF_ALLOC | SHF_EXECINSTR, SHT_NOBITS},
	    {".text.none", 0x1000, 0, SHF_ALLOC | SHF_EXECINSTR, SHT_PROGBITS},
	    {".data.code", 0x1000, 0x1000, SHF_ALLOC | SHF_EXECINSTR | SHF_WRITE, SHT_PROGBITS},
	    {".data.more", 0x1000, 0x1000, SHF_ALLOC, SHT_PROGBITS},
	    {".text.away", 0x1000, 0x1000, SHF_ALLOC | SHF_EXECINSTR, SHT_PROGBITS},
	};
	enum { ODD = sizeof odd / sizeof *odd };
	struct whole *w = *state;
	struct riffle_image image = *w->image;
	struct image_section *section = calloc(image.section_count + 1, sizeof *section);
	struct verify *verify;

	assert_non_null(section);
	memcpy(section, image.section, image.section_count * sizeof *section);
	image.section = section;
	image.section_count++;
	for (unsigned i = 0; i < ODD; i++) {
		/* none of their addresses is in the image */
		section[image.section_count - 1] = odd[i];
		if (i < ODD - 1) {
			expect_ok(verify_open(&verify, &image, -1, NULL, NULL, &error));
			verify_close(verify);
		} else {
			assert_int_equal(verify_open(&verify, &image, -1, NULL, NULL, &error), RIFFLE_ERR_UNSUPPORTED);
			assert_string_equal(error.field, "code section");
			assert_int_equal(error.found, 0x1000);
		}
	}
	free(section);
}

int main(void)
{
	const struct CMUnitTest movable[] = {
	    cmocka_unit_test(test_every_layout_is_right),
	    cmocka_unit_test(test_parts),
	    cmocka_unit_test(test_spoiled_parts),
	    cmocka_unit_test(test_nothing_to_spoil),
	    cmocka_unit_test(test_every_byte_is_compared),
	    cmocka_unit_test(test_lines_of_differences),
	    cmocka_unit_test(test_bad_orders),
	    cmocka_unit_test(test_chunks),
	    cmocka_unit_test(test_what_is_code),
	};
	const struct CMUnitTest sliding[] = {
	    cmocka_unit_test(test_every_layout_is_right), cmocka_unit_test(test_parts),
	    cmocka_unit_test(test_spoiled_parts),         cmocka_unit_test(test_nothing_to_spoil),
	    cmocka_unit_test(test_slid_blocks),           cmocka_unit_test(test_kallsyms_mode),
	    cmocka_unit_test(test_slides_by_hand),        cmocka_unit_test(test_chunks),
	};
	const struct CMUnitTest full[] = {
	    cmocka_unit_test(test_every_layout_is_right),
	    cmocka_unit_test(test_spoiled_parts),
	    cmocka_unit_test(test_nothing_to_spoil),
	    cmocka_unit_test(test_slides_by_hand),
	    cmocka_unit_test(test_chunks),
	};
	int failed;

	if (system("command -v objdump >/dev/null 2>&1") != 0) {
		print_message("skipped: no objdump (Debian package binutils)\n");
		return 77;
	}
	failed = cmocka_run_group_tests_name("verify-movable", movable, set_up_movable, tear_down);
	failed += cmocka_run_group_tests_name("verify-sliding", sliding, set_up_sliding, tear_down);
	return failed + cmocka_run_group_tests_name("verify-full", full, set_up_full, tear_down);
}

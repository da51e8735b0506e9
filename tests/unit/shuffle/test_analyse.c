/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of the analysis as a whole on the smallest of kernels: what it gives, and what it refuses before it begins. */
#include "prepare/shuffle/debug.h"
#include "work_builder.h"

#define TEXT 0x4000u

static struct debug_symbol symbol[] = {
    {LINK, 1, "_text", STT_NOTYPE, STB_GLOBAL, 1, 'T'},
    {LINK + 0x3000, 6, "caller", STT_FUNC, STB_GLOBAL, 1, 'T'},
    {LINK + 0x3050, 1, "callee", STT_FUNC, STB_LOCAL, 1, 't'},
    {LINK + 0x3050, 1, "alias", STT_FUNC, STB_LOCAL, 1, 't'},
    {LINK + 0x30a0, 1, "last", STT_FUNC, STB_LOCAL, 1, 't'},
    {0x3070, 0, "a_number", STT_NOTYPE, STB_LOCAL, SHN_ABS, 'a'},
    {LINK + 0x3070, 0, "file.c", STT_FILE, STB_LOCAL, SHN_ABS, 't'},
};

/* An image of one segment, its bytes the builder's. */
static struct builder *kernel(struct image_segment *segment)
{
	struct builder *b = build(TEXT);

	CODE(b, 0x3050, "\xc3");
	CODE(b, 0x30a0, "\xc3");
	REL32(b, 0x3000, "\xe8", 0x3050);
	CODE(b, 0x3005, "\xc3");
	*segment = (struct image_segment){LINK, 0x1000000, b->work.image_bytes, b->work.image_bytes, 5, b->work.bytes};
	b->image.segment = segment;
	b->image.segment_count = 1;
	b->image.link_phys = 0x1000000;
	return b;
}

static int analyse(struct builder *b, struct shuffle **shuffle)
{
	struct shuffle_debug debug = {.symbol = symbol, .symbol_count = sizeof symbol / sizeof *symbol};

	return shuffle_analyse(shuffle, &b->image, &debug, &b->error);
}

static void test_small_kernel(void **state)
{
	struct image_segment segment;
	struct builder *b = kernel(&segment);
	struct shuffle *shuffle;

	(void)state;
	b->section[2].name = ".rodata"; /* an empty table of alternatives is none */
	/* data among which there is code that is copied before it runs: not decoded, or the jump would be a reference
	 */
	b->section[3].flags |= SHF_EXECINSTR;
	REL32(b, TEXT + 2 * OTHER_BYTES, "\xe9", 0x3050);
	good(b, analyse(b, &shuffle));
	assert_int_equal(shuffle->range_count, 5); /* the second is the hole behind the head */
	assert_int_equal(shuffle->chunk_count, 3);
	assert_int_equal(shuffle->range[0].pin, SHUFFLE_PIN_HEAD);
	assert_string_equal(shuffle->range[2].name, "caller");
	assert_int_equal(shuffle->range[2].offset, 0x3000);
	assert_int_equal(shuffle->range[3].offset, 0x3050);
	assert_int_equal(shuffle->range[3].functions, 1);
	assert_int_equal(shuffle->ref_count, 1);
	assert_int_equal(shuffle->ref[0].field, 0x3001);
	assert_int_equal(shuffle->ref[0].target, 0x3050);
	assert_false(shuffle->kallsyms.present);
	shuffle_free(shuffle);
	tear_down(b);
}

static void test_no_symbols(void **state)
{
	struct image_segment segment;
	struct builder *b = kernel(&segment);
	struct shuffle *shuffle;

	(void)state;
	assert_int_equal(shuffle_analyse(&shuffle, &b->image, NULL, &b->error), RIFFLE_ERR_UNSUPPORTED);
	assert_string_equal(b->error.field, "symbols");
	assert_null(shuffle);
	tear_down(b);
}

/* Each row spoils one section header, or the segment. */
static void test_refused(void **state)
{
	static const struct {
		const char *field;
		int status;
	} row[] = {
	    {"section headers", RIFFLE_ERR_UNSUPPORTED},
	    {"code section", RIFFLE_ERR_UNSUPPORTED},
	    {"code section", RIFFLE_ERR_UNSUPPORTED},
	    {"code section", RIFFLE_ERR_UNSUPPORTED},
	    {"segment", RIFFLE_ERR_FORMAT},
	    {"segment", RIFFLE_ERR_FORMAT},
	    {"image", RIFFLE_ERR_FORMAT},
	};

	(void)state;
	for (unsigned i = 0; i < sizeof row / sizeof *row; i++) {
		struct image_segment segment;
		struct builder *b = kernel(&segment);
		struct shuffle *shuffle;

		switch (i) {
		case 0:
			b->image.section_count = 0;
			break;
		case 1:
			b->section[0].bytes = UINT64_MAX;
			break;
		case 2:
			b->section[0].address = 0x1000;
			break;
		case 3:
			b->section[1].address -= 1;
			break;
		case 4:
			segment.phys -= 1;
			break;
		case 5:
			segment.file_bytes += 1;
			break;
		default:
			b->image.image_bytes = (UINT64_C(1) << 30) + 1;
		}
		assert_int_equal(analyse(b, &shuffle), row[i].status);
		assert_string_equal(b->error.field, row[i].field);
		assert_null(shuffle);
		tear_down(b);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_small_kernel),
	    cmocka_unit_test(test_no_symbols),
	    cmocka_unit_test(test_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

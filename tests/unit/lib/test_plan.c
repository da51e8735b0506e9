/* SPDX-License-Identifier: Apache-2.0 */
/* A prepared kernel is checked to the last offset: every invalid field is refused and named. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include <riffle/plan.h>

#include "prepared_builder.h"

static void good_kernel(struct builder *b)
{
	builder_start(b, 3 << 20, 1 << 20);
	builder_extent(b, 0, 0x3000);
	builder_extent(b, 0x10000, 0x2345);
	b->count64 = 3;
	b->reloc64 = malloc(12);
	memcpy(b->reloc64, (uint32_t[]){8, 0x2ff8, 0x1233d}, 12); /* the last ones end with their extents */
	b->count32 = 2;
	b->reloc32 = malloc(8);
	memcpy(b->reloc32, (uint32_t[]){0x20, 0x12341}, 8);
	b->count_inverse = 1;
	b->inverse = malloc(4);
	memcpy(b->inverse, (uint32_t[]){0x10000}, 4);
	builder_seal(b);
}

static int check(const struct builder *b, struct riffle_plan *plan, struct riffle_error *error)
{
	return riffle_plan_check(plan, &b->header, b->plan, b->plan_bytes, b->header.file_bytes, error);
}

static void right_plan_is_taken(void **state)
{
	struct riffle_error error;
	struct riffle_plan plan = RIFFLE_PLAN_INIT;
	struct builder b;

	(void)state;
	good_kernel(&b);
	assert_int_equal(check(&b, &plan, &error), RIFFLE_OK);
	assert_int_equal(plan.segment_count, 1);
	assert_int_equal(plan.extent_count, 2);
	assert_int_equal(plan.reloc64_count, 3);
	assert_int_equal(plan.reloc64[2], 0x1233d);
	assert_int_equal(plan.reloc32_count, 2);
	assert_int_equal(plan.reloc32_inverse[0], 0x10000);
	builder_end(&b);
}

static void extents_may_touch(void **state)
{
	struct riffle_error error;
	struct riffle_plan plan = RIFFLE_PLAN_INIT;
	struct builder b;

	(void)state;
	good_kernel(&b);
	b.extent[0].bytes = 0x10000;
	builder_seal(&b);
	assert_int_equal(check(&b, &plan, &error), RIFFLE_OK);
	assert_int_equal(plan.extents[0].image_offset + plan.extents[0].bytes, plan.extents[1].image_offset);
	builder_end(&b);
}

/* An invalid number in the header (by offset) or in the plan, and the error it must cause. */
struct lie {
	const char *what;
	void (*tell)(struct builder *b);
	int status;
	const char *field;
};

static struct riffle_segment *segments(struct builder *b)
{
	return (void *)((uint8_t *)b->plan + b->header.section[RIFFLE_SECTION_SEGMENTS].offset);
}

static struct riffle_extent *extents(struct builder *b)
{
	return (void *)((uint8_t *)b->plan + b->header.section[RIFFLE_SECTION_EXTENTS].offset);
}

static uint32_t *relocs(struct builder *b, unsigned kind)
{
	return (void *)((uint8_t *)b->plan + b->header.section[kind].offset);
}

#define LIE(name, ...)                                                                                                 \
	static void name(struct builder *b)                                                                            \
	{                                                                                                              \
		__VA_ARGS__;                                                                                           \
	}
LIE(lie_magic, b->header.magic[0] = 'r')
LIE(lie_version, b->header.version = 1)
LIE(lie_header_bytes, b->header.header_bytes = 512)
LIE(lie_feature, b->header.features = UINT64_C(1) << 63)
LIE(lie_file_short, b->header.file_bytes++)
LIE(lie_plan_offset, b->header.plan_offset = 8192)
LIE(lie_plan_huge, b->header.plan_bytes = UINT64_MAX - 7)
LIE(lie_plan_odd, b->header.plan_bytes++)
LIE(lie_payload_odd, b->header.payload_offset += 4096)
LIE(lie_payload_low, b->header.payload_offset = 0)
LIE(lie_payload_high, b->header.payload_offset = UINT64_C(1) << 62)
LIE(lie_image_zero, b->header.image_bytes = 0)
LIE(lie_image_large, b->header.image_bytes = RIFFLE_IMAGE_MAX + 1)
LIE(lie_image_window, b->header.image_bytes = RIFFLE_IMAGE_MAX - (15 << 20))
LIE(lie_link_odd, b->header.link_phys += 4096)
LIE(lie_link_virt, b->header.link_virt += 4096)
LIE(lie_window, b->header.window_bytes = UINT64_C(2) << 30)
LIE(lie_entry_out, b->header.entry_offset = b->header.image_bytes)
LIE(lie_entry_bss, b->header.entry_offset = 2 << 20)
LIE(lie_entry_moves, b->header.features |= RIFFLE_FEATURE_ENTRY_MOVES)
LIE(lie_build_id, b->header.build_id_bytes = 33)
LIE(lie_escape, memcpy(b->header.no_shuffle, "\033]0;x", 6))
LIE(lie_text, memset(b->header.kernel_version, 'x', sizeof b->header.kernel_version))
LIE(lie_section_offset, b->header.section[RIFFLE_SECTION_RELOC64].offset = UINT64_MAX - 7)
LIE(lie_section_count, b->header.section[RIFFLE_SECTION_RELOC64].count = UINT64_C(1) << 62)
LIE(lie_section_more, b->header.section[RIFFLE_SECTION_RELOC32_INVERSE].count = 4096)
LIE(lie_section_odd, b->header.section[RIFFLE_SECTION_RELOC32].offset += 4)
LIE(lie_no_segments, b->header.section[RIFFLE_SECTION_SEGMENTS].count = 0)
LIE(lie_segment_file, segments(b)->file_bytes = segments(b)->memory_bytes + 1)
LIE(lie_segment_end, segments(b)->memory_bytes++)
LIE(lie_extent_order, extents(b)[1].image_offset = 0x2000;
    extents(b)[1].file_offset = b->header.payload_offset + 0x2000)
LIE(lie_extent_overlap, extents(b)[0].bytes = 0x10001)
LIE(lie_extent_empty, extents(b)[0].bytes = 0)
LIE(lie_extent_bss, extents(b)[1].bytes = 2 << 20)
LIE(lie_extent_outside, extents(b)[1].image_offset = 0xfffff000)
LIE(lie_extent_start, extents(b)[1].image_offset += 8; extents(b)[1].file_offset += 8)
LIE(lie_extent_file, extents(b)[1].file_offset += 4096)
LIE(lie_relocs_order, relocs(b, RIFFLE_SECTION_RELOC64)[1] = 8)
LIE(lie_relocs_between, relocs(b, RIFFLE_SECTION_RELOC64)[1] = 0x4000)
LIE(lie_relocs_across, relocs(b, RIFFLE_SECTION_RELOC64)[1] = 0x2ffc)
LIE(lie_relocs_end, relocs(b, RIFFLE_SECTION_RELOC32)[1] = 0x12342)
LIE(lie_relocs_far, relocs(b, RIFFLE_SECTION_RELOC32_INVERSE)[0] = UINT32_MAX)
LIE(lie_flags, b->header.flags = 0)

static const struct lie lies[] = {
    {"magic", lie_magic, RIFFLE_ERR_FORMAT, "magic"},
    {"version", lie_version, RIFFLE_ERR_UNSUPPORTED, "version"},
    {"header_bytes", lie_header_bytes, RIFFLE_ERR_FORMAT, "header_bytes"},
    {"unknown feature", lie_feature, RIFFLE_ERR_UNSUPPORTED, "features"},
    {"file size", lie_file_short, RIFFLE_ERR_FORMAT, "file_bytes"},
    {"plan offset", lie_plan_offset, RIFFLE_ERR_FORMAT, "plan_offset"},
    {"huge plan", lie_plan_huge, RIFFLE_ERR_FORMAT, "plan_bytes"},
    {"odd plan", lie_plan_odd, RIFFLE_ERR_FORMAT, "plan_bytes"},
    {"odd payload", lie_payload_odd, RIFFLE_ERR_FORMAT, "payload_offset"},
    {"payload over header", lie_payload_low, RIFFLE_ERR_FORMAT, "payload_offset"},
    {"payload past end", lie_payload_high, RIFFLE_ERR_FORMAT, "payload_offset"},
    {"empty image", lie_image_zero, RIFFLE_ERR_FORMAT, "image_bytes"},
    {"large image", lie_image_large, RIFFLE_ERR_FORMAT, "image_bytes"},
    {"image past window", lie_image_window, RIFFLE_ERR_FORMAT, "image_bytes"},
    {"odd link address", lie_link_odd, RIFFLE_ERR_FORMAT, "link_phys"},
    {"virtual link address", lie_link_virt, RIFFLE_ERR_FORMAT, "link_virt"},
    {"window", lie_window, RIFFLE_ERR_FORMAT, "window_bytes"},
    {"entry outside", lie_entry_out, RIFFLE_ERR_FORMAT, "entry_offset"},
    {"entry in bss", lie_entry_bss, RIFFLE_ERR_FORMAT, "entry_offset"},
    {"entry that moves without chunks", lie_entry_moves, RIFFLE_ERR_FORMAT, "features"},
    {"build id", lie_build_id, RIFFLE_ERR_FORMAT, "build_id_bytes"},
    {"a reason that speaks to the terminal", lie_escape, RIFFLE_ERR_FORMAT, "no_shuffle"},
    {"unterminated version", lie_text, RIFFLE_ERR_FORMAT, "kernel_version"},
    {"section offset", lie_section_offset, RIFFLE_ERR_FORMAT, "reloc64"},
    {"section count", lie_section_count, RIFFLE_ERR_FORMAT, "reloc64"},
    {"section too long", lie_section_more, RIFFLE_ERR_FORMAT, "reloc32_inverse"},
    {"section alignment", lie_section_odd, RIFFLE_ERR_FORMAT, "reloc32"},
    {"no segments", lie_no_segments, RIFFLE_ERR_FORMAT, "segments"},
    {"segment larger in file", lie_segment_file, RIFFLE_ERR_FORMAT, "segment file_bytes"},
    {"segment past image", lie_segment_end, RIFFLE_ERR_FORMAT, "segment"},
    {"extents overlap", lie_extent_order, RIFFLE_ERR_FORMAT, "extent image_offset"},
    {"extents overlap by a byte", lie_extent_overlap, RIFFLE_ERR_FORMAT, "extent image_offset"},
    {"empty extent", lie_extent_empty, RIFFLE_ERR_FORMAT, "extent image_offset"},
    {"extent in bss", lie_extent_bss, RIFFLE_ERR_FORMAT, "extent image_offset"},
    {"extent outside", lie_extent_outside, RIFFLE_ERR_FORMAT, "extent image_offset"},
    {"extent start", lie_extent_start, RIFFLE_ERR_FORMAT, "extent image_offset"},
    {"extent in file", lie_extent_file, RIFFLE_ERR_FORMAT, "extent file_offset"},
    {"unsorted relocations", lie_relocs_order, RIFFLE_ERR_FORMAT, "reloc64"},
    {"relocation between extents", lie_relocs_between, RIFFLE_ERR_FORMAT, "reloc64"},
    {"relocation across an extent's end", lie_relocs_across, RIFFLE_ERR_FORMAT, "reloc64"},
    {"relocation past the last extent", lie_relocs_end, RIFFLE_ERR_FORMAT, "reloc32"},
    {"relocation far away", lie_relocs_far, RIFFLE_ERR_FORMAT, "reloc32_inverse"},
    {"flags deny relocations", lie_flags, RIFFLE_ERR_FORMAT, "flags"},
};

static void every_lie_is_refused(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
		struct riffle_error error = {0};
		struct riffle_plan plan = RIFFLE_PLAN_INIT;
		struct builder b;
		uint64_t file_bytes;
		int status;

		good_kernel(&b);
		file_bytes = b.header.file_bytes;
		lies[i].tell(&b);
		builder_sums(&b);
		status = riffle_plan_check(&plan, &b.header, b.plan, b.plan_bytes, file_bytes, &error);
		if (status != lies[i].status || strcmp(error.field, lies[i].field))
			fail_msg("%s: status %d field %s", lies[i].what, status, error.field ? error.field : "-");
		assert_null(plan.header);
		builder_end(&b);
	}
}

static void changed_bytes_are_noticed(void **state)
{
	struct riffle_error error;
	struct riffle_plan plan = RIFFLE_PLAN_INIT;
	struct builder b;

	(void)state;
	good_kernel(&b);
	for (size_t i = 8; i < sizeof b.header; i++) {
		((uint8_t *)&b.header)[i] ^= 0x40;
		assert_int_not_equal(check(&b, &plan, &error), RIFFLE_OK);
		((uint8_t *)&b.header)[i] ^= 0x40;
	}
	for (size_t i = 0; i < b.plan_bytes; i++) {
		((uint8_t *)b.plan)[i] ^= 1;
		assert_int_equal(check(&b, &plan, &error), RIFFLE_ERR_CHECKSUM);
		assert_string_equal(error.field, i < b.header.base_bytes ? "plan_checksum" : "shuffle_checksum");
		((uint8_t *)b.plan)[i] ^= 1;
	}
	builder_end(&b);
}

static void every_truncation_is_refused(void **state)
{
	struct riffle_source_memory memory;
	struct riffle_source source;
	struct riffle_error error;
	struct riffle_plan plan = RIFFLE_PLAN_INIT;
	struct builder b;
	uint8_t *file;

	(void)state;
	good_kernel(&b);
	file = builder_file(&b);
	for (uint64_t bytes = 0; bytes < RIFFLE_HEADER_BYTES + b.plan_bytes + 64; bytes += bytes < 200 ? 1 : 61) {
		uint8_t *part =
		    malloc(bytes ? bytes : 1); /* exact size, so that a sanitizer detects an overrun by one byte */

		memcpy(part, file, bytes);
		riffle_source_from_bytes(&source, &memory, part, bytes);
		assert_int_not_equal(riffle_plan_open(&plan, &source, &error), RIFFLE_OK);
		free(part);
	}
	riffle_source_from_bytes(&source, &memory, file, b.header.file_bytes - 1);
	assert_int_equal(riffle_plan_open(&plan, &source, &error), RIFFLE_ERR_FORMAT);
	assert_string_equal(error.field, "file_bytes");
	riffle_source_from_bytes(&source, &memory, file, b.header.file_bytes);
	assert_int_equal(riffle_plan_open(&plan, &source, &error), RIFFLE_OK);
	riffle_plan_close(&plan);
	riffle_plan_close(&plan);
	free(file);
	builder_end(&b);
}

static void a_file_cut_short_is_an_error(void **state)
{
	struct riffle_source source;
	struct riffle_error error;
	struct riffle_plan plan = RIFFLE_PLAN_INIT;
	struct builder b;
	uint8_t *file, byte;
	int fd = memfd_create("prepared", 0);

	(void)state;
	good_kernel(&b);
	file = builder_file(&b);
	assert_int_equal(write(fd, file, b.header.file_bytes), b.header.file_bytes);
	assert_int_equal(riffle_source_from_fd(&source, fd, &error), RIFFLE_OK);
	assert_int_equal(riffle_plan_open(&plan, &source, &error), RIFFLE_OK);
	assert_int_equal(ftruncate(fd, 100), 0);
	assert_int_equal(source.read(source.opaque, 200, &byte, 1, &error), RIFFLE_ERR_CHANGED);
	riffle_plan_close(&plan);
	assert_int_equal(riffle_plan_open(&plan, &source, &error), RIFFLE_ERR_CHANGED);
	close(fd);
	assert_int_equal(riffle_source_from_fd(&source, fd, &error), RIFFLE_ERR_IO);
	free(file);
	builder_end(&b);
}

static void errors_read_well(void **state)
{
	struct riffle_error error = {.field = "e_machine",
				     .problem = "is not x86-64",
				     .found = 183,
				     .has_found = 1,
				     .expected = 62,
				     .has_expected = 1};
	char text[80], tiny[6];

	(void)state;
	riffle_error_format(&error, text, sizeof text);
	assert_string_equal(text, "e_machine: is not x86-64 (found 183, expected 62)");
	error.has_expected = 0;
	error.found = 0x12345678;
	error.sys_errno = 2;
	riffle_error_format(&error, text, sizeof text);
	assert_string_equal(text, "e_machine: is not x86-64 (found 0x12345678): No such file or directory");
	riffle_error_format(&error, tiny, sizeof tiny);
	assert_string_equal(tiny, "e_mac");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(extents_may_touch),
	    cmocka_unit_test(right_plan_is_taken),
	    cmocka_unit_test(every_lie_is_refused),
	    cmocka_unit_test(changed_bytes_are_noticed),
	    cmocka_unit_test(every_truncation_is_refused),
	    cmocka_unit_test(a_file_cut_short_is_an_error),
	    cmocka_unit_test(errors_read_well),
	};
	return cmocka_run_group_tests_name("plan", tests, NULL, NULL);
}

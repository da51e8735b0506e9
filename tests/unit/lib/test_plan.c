/* SPDX-License-Identifier: Apache-2.0 */
/* A prepared kernel is checked to the last offset: every invalid field is refused and named. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include <riffle/plan.h>

#include "plan/areas.h"
#include "plan/frames.h"
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
	const char *message;
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
LIE(lie_paged, b->header.features |= RIFFLE_FEATURE_PAGED)
LIE(lie_mode, b->header.features |= RIFFLE_FEATURE_KALLSYMS_MODE)
LIE(lie_mode_denied, b->header.kallsyms_mode = 0x1000)
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
    {"magic", lie_magic, RIFFLE_ERR_FORMAT, "magic: is not that of a prepared kernel"},
    {"version", lie_version, RIFFLE_ERR_UNSUPPORTED,
     "version: is not one this library reads; prepare the kernel again (found 1, expected 2)"},
    {"header_bytes", lie_header_bytes, RIFFLE_ERR_FORMAT, "header_bytes: is wrong (found 512, expected 4096)"},
    {"unknown feature", lie_feature, RIFFLE_ERR_UNSUPPORTED,
     "features: hold bits this library does not know (found 0x8000000000000000)"},
    {"file size", lie_file_short, RIFFLE_ERR_FORMAT,
     "file_bytes: is not the size of the file (cut short?) (found 0x500000, expected 0x500001)"},
    {"plan offset", lie_plan_offset, RIFFLE_ERR_FORMAT, "plan_offset: is wrong (found 8192, expected 4096)"},
    {"huge plan", lie_plan_huge, RIFFLE_ERR_FORMAT,
     "plan_bytes: is out of range or no multiple of 8 (found 0xfffffffffffffff8)"},
    {"odd plan", lie_plan_odd, RIFFLE_ERR_FORMAT, "plan_bytes: is out of range or no multiple of 8 (found 145)"},
    {"odd payload", lie_payload_odd, RIFFLE_ERR_FORMAT,
     "payload_offset: is not a multiple of 2 MiB (compressed: 4 KiB) between plan and end of file (found 0x201000)"},
    {"payload over header", lie_payload_low, RIFFLE_ERR_FORMAT,
     "payload_offset: is not a multiple of 2 MiB (compressed: 4 KiB) between plan and end of file (found 0)"},
    {"payload past end", lie_payload_high, RIFFLE_ERR_FORMAT,
     "payload_offset: is not a multiple of 2 MiB (compressed: 4 KiB) between plan and end of file (found "
     "0x4000000000000000)"},
    {"empty image", lie_image_zero, RIFFLE_ERR_FORMAT, "image_bytes: is 0 or too large (found 0, expected 0x40000000)"},
    {"large image", lie_image_large, RIFFLE_ERR_FORMAT,
     "image_bytes: is 0 or too large (found 0x40000001, expected 0x40000000)"},
    {"image past window", lie_image_window, RIFFLE_ERR_FORMAT,
     "image_bytes: lead past the end of the kernel's address window (found 0x40100000, expected 0x40000000)"},
    {"odd link address", lie_link_odd, RIFFLE_ERR_FORMAT,
     "link_phys: is not a multiple of 2 MiB below 1 GiB (found 0x1001000)"},
    {"virtual link address", lie_link_virt, RIFFLE_ERR_FORMAT,
     "link_virt: does not belong to link_phys (found 0xffffffff81001000, expected 0xffffffff81000000)"},
    {"window", lie_window, RIFFLE_ERR_FORMAT, "window_bytes: is neither 512 MiB nor 1 GiB (found 0x80000000)"},
    {"entry outside", lie_entry_out, RIFFLE_ERR_FORMAT,
     "entry_offset: is outside the image (found 0x300000, expected 0x300000)"},
    {"entry in bss", lie_entry_bss, RIFFLE_ERR_FORMAT, "entry_offset: is in no segment's file bytes (found 0x200000)"},
    {"entry that moves without chunks", lie_entry_moves, RIFFLE_ERR_FORMAT,
     "features: let the entry move without a shuffle (found 4)"},
    {"a chunk by page without chunks", lie_paged, RIFFLE_ERR_FORMAT,
     "features: have a chunk by page without a shuffle (found 32)"},
    {"a mode of kallsyms without chunks", lie_mode, RIFFLE_ERR_FORMAT,
     "features: have a mode of kallsyms without a shuffle (found 128)"},
    {"a mode of kallsyms without the feature", lie_mode_denied, RIFFLE_ERR_FORMAT,
     "kallsyms_mode: is given without its feature (found 4096)"},
    {"build id", lie_build_id, RIFFLE_ERR_FORMAT, "build_id_bytes: is too large (found 33, expected 32)"},
    {"a reason that speaks to the terminal", lie_escape, RIFFLE_ERR_FORMAT,
     "no_shuffle: holds what is not printable ASCII (found 27)"},
    {"unterminated version", lie_text, RIFFLE_ERR_FORMAT, "kernel_version: is not terminated"},
    {"section offset", lie_section_offset, RIFFLE_ERR_FORMAT,
     "reloc64: section reaches outside its part of the plan (found 0xfffffffffffffff8, expected 144)"},
    {"section count", lie_section_count, RIFFLE_ERR_FORMAT,
     "reloc64: section reaches outside its part of the plan (found 56, expected 144)"},
    {"section too long", lie_section_more, RIFFLE_ERR_FORMAT,
     "reloc32_inverse: section reaches outside its part of the plan (found 80, expected 144)"},
    {"section alignment", lie_section_odd, RIFFLE_ERR_FORMAT,
     "reloc32: section reaches outside its part of the plan (found 76, expected 144)"},
    {"no segments", lie_no_segments, RIFFLE_ERR_FORMAT, "segments: there are none"},
    {"segment larger in file", lie_segment_file, RIFFLE_ERR_FORMAT,
     "segment file_bytes: is larger than its memory (found 0x300001, expected 0x300000)"},
    {"segment past image", lie_segment_end, RIFFLE_ERR_FORMAT,
     "segment: ends outside the image (found 0x300001, expected 0x300000)"},
    {"extents overlap", lie_extent_order, RIFFLE_ERR_FORMAT,
     "extent image_offset: overlaps the one before, is out of order, or is empty (found 8192, expected 12288)"},
    {"extents overlap by a byte", lie_extent_overlap, RIFFLE_ERR_FORMAT,
     "extent image_offset: overlaps the one before, is out of order, or is empty (found 0x10000, expected 0x10001)"},
    {"empty extent", lie_extent_empty, RIFFLE_ERR_FORMAT,
     "extent image_offset: overlaps the one before, is out of order, or is empty (found 0, expected 0)"},
    {"extent in bss", lie_extent_bss, RIFFLE_ERR_FORMAT,
     "extent image_offset: is not inside one segment's file bytes (found 0x10000)"},
    {"extent outside", lie_extent_outside, RIFFLE_ERR_FORMAT,
     "extent image_offset: is not inside one segment's file bytes (found 0xfffff000)"},
    {"extent start", lie_extent_start, RIFFLE_ERR_FORMAT,
     "extent image_offset: starts neither on a page nor with its segment (found 0x10008)"},
    {"extent in file", lie_extent_file, RIFFLE_ERR_FORMAT,
     "extent file_offset: is wrong or past the end of the file (found 0x211000)"},
    {"unsorted relocations", lie_relocs_order, RIFFLE_ERR_FORMAT, "reloc64: list is not strictly ascending (found 1)"},
    {"relocation between extents", lie_relocs_between, RIFFLE_ERR_FORMAT,
     "reloc64: entry lies outside every extent (found 16384)"},
    {"relocation across an extent's end", lie_relocs_across, RIFFLE_ERR_FORMAT,
     "reloc64: entry lies outside every extent (found 12284)"},
    {"relocation past the last extent", lie_relocs_end, RIFFLE_ERR_FORMAT,
     "reloc32: entry lies outside every extent (found 0x12342)"},
    {"relocation far away", lie_relocs_far, RIFFLE_ERR_FORMAT,
     "reloc32_inverse: entry lies outside every extent (found 0xffffffff)"},
    {"flags deny relocations", lie_flags, RIFFLE_ERR_FORMAT, "flags: deny the relocations that are there"},
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
		if (status != lies[i].status || strcmp(message_of(status, &error), lies[i].message))
			fail_msg("%s: status %d, %s", lies[i].what, status, message_of(status, &error));
		assert_null(plan.header);
		builder_end(&b);
	}
}

/* The header says that the kernel is compressed, the plan in `stored` bytes; the payload follows at once. */
static void compress(struct builder *b, uint64_t stored)
{
	b->header.features |= RIFFLE_FEATURE_COMPRESSED;
	b->header.plan_stored_bytes = stored;
	b->header.payload_offset = RIFFLE_HEADER_BYTES + ((stored + 4095) & ~UINT64_C(4095));
}

static void link_at(struct builder *b, uint64_t link_phys)
{
	b->header.link_phys = link_phys;
	b->header.link_virt = UINT64_C(0xffffffff80000000) + link_phys;
}

/* Two segments that touch inside a page, the second one with 0x800 bytes that are not in the file. */
static void split_segment(struct builder *b)
{
	b->segments = 2;
	b->segment[1] = b->segment[0];
	b->segment[0].memory_bytes = b->segment[0].file_bytes = 0x10800;
	b->segment[1].image_offset = 0x10800;
	b->segment[1].memory_bytes = (3 << 20) - 0x10800;
	b->segment[1].file_bytes = (2 << 20) - 0x10800;
	b->extent[1].bytes = 0x800;
	builder_extent(b, 0x10800, 0x2000);
	b->reloc64[2] = 0x10800;
	b->reloc32[1] = 0x107fc;
	builder_seal(b);
}

static void one_field(struct builder *b, uint32_t extent_bytes, uint32_t field64, uint32_t field32)
{
	b->extents = 1;
	b->extent[0].bytes = extent_bytes;
	b->count_inverse = 0;
	b->count64 = field64 != UINT32_MAX;
	b->reloc64[0] = field64;
	b->count32 = field32 != UINT32_MAX;
	b->reloc32[0] = field32;
	builder_seal(b);
}

#define NO_FIELD UINT32_MAX
LIE(limit_nothing, (void)b)
LIE(limit_plan_most, compress(b, 4096); b->header.plan_bytes = RIFFLE_PLAN_MAX; b->header.base_bytes -= 8)
LIE(limit_plan_more, compress(b, 4096); b->header.plan_bytes = RIFFLE_PLAN_MAX + 8; b->header.base_bytes -= 8)
LIE(limit_plan_end, b->header.file_bytes = RIFFLE_HEADER_BYTES + b->plan_bytes - 1)
LIE(limit_base_more, b->header.base_bytes += 8)
LIE(limit_base_odd, b->header.base_bytes -= 4)
LIE(limit_stored, b->header.plan_stored_bytes = 1)
LIE(limit_stored_to_end, compress(b, 4096); b->header.file_bytes = 8192)
LIE(limit_stored_past_end, compress(b, 8192); b->header.file_bytes = 8192)
LIE(limit_payload_early, compress(b, 4096); b->header.payload_offset = 4096)
LIE(limit_payload_odd, compress(b, 4096); b->header.payload_offset += 2048)
LIE(limit_payload_late, b->header.payload_offset = b->header.file_bytes + (1 << 20))
LIE(limit_storage, compress(b, 4096); b->header.storage = RIFFLE_COMPRESSION_LZ4)
LIE(limit_text, memcpy(b->header.no_shuffle, " ~", 3))
LIE(limit_text_low, memcpy(b->header.no_shuffle, "\x1f", 2))
LIE(limit_text_high, memcpy(b->header.no_shuffle, "a\x7f", 3))
LIE(limit_text_long, memset(b->header.no_slides, 'x', sizeof b->header.no_slides - 1))
LIE(limit_text_longer, memset(b->header.no_slides, 'x', sizeof b->header.no_slides))
LIE(limit_image, link_at(b, 0); b->header.image_bytes = RIFFLE_IMAGE_MAX)
LIE(limit_link, link_at(b, RIFFLE_IMAGE_MAX))
LIE(limit_link_far, link_at(b, RIFFLE_IMAGE_MAX + (2 << 20)))
LIE(limit_link_odd, link_at(b, 15 << 20))
LIE(limit_slides, b->header.features = RIFFLE_FEATURE_SLIDES)
LIE(limit_link_wrong, b->header.link_virt = b->header.link_phys)
LIE(limit_window, b->header.window_bytes = 512 << 20)
LIE(limit_window_end, b->header.window_bytes = 512 << 20; link_at(b, 510 << 20))
LIE(limit_window_full, link_at(b, RIFFLE_IMAGE_MAX - (4 << 20)))
LIE(limit_entry_last, b->header.entry_offset = (2 << 20) - 1)
LIE(limit_entry_first, b->header.entry_offset = 0)
LIE(limit_build_id, b->header.build_id_bytes = 32)
LIE(limit_section_end, b->header.section[RIFFLE_SECTION_RELOC32_INVERSE].count = 16)
LIE(limit_section_past, b->header.section[RIFFLE_SECTION_RELOC32_INVERSE].count = 17)
LIE(limit_section_more, b->header.section[RIFFLE_SECTION_EXTENTS].count = 9)
LIE(limit_two, split_segment(b))
LIE(limit_two_overlap, split_segment(b); segments(b)[1].image_offset--)
LIE(limit_two_entry, b->header.entry_offset = 0x10800; split_segment(b))
LIE(limit_two_between, split_segment(b); segments(b)[0].file_bytes -= 0x10; extents(b)[1].bytes -= 0x10;
    b->header.entry_offset = 0x107ff)
LIE(limit_two_across, split_segment(b); extents(b)[1].bytes++)
LIE(limit_two_gap, split_segment(b); segments(b)[1].image_offset += 0x1000; segments(b)[1].memory_bytes -= 0x1000;
    segments(b)[1].file_bytes -= 0x1000)
LIE(limit_segment_empty, b->segment[0].file_bytes = b->segment[0].memory_bytes = 0; builder_seal(b))
LIE(limit_file_end, b->header.file_bytes = b->header.payload_offset + 0x12345)
LIE(limit_file_short, b->header.file_bytes = b->header.payload_offset + 0x12344)
LIE(limit_extent_end, b->extent[1].bytes = (2 << 20) - 0x10000; builder_seal(b))
LIE(limit_extent_past, b->extent[1].bytes = (2 << 20) - 0xffff; builder_seal(b))
LIE(limit_field64, one_field(b, 8, 0, NO_FIELD))
LIE(limit_field64_short, one_field(b, 7, 0, NO_FIELD))
LIE(limit_field32, one_field(b, 4, NO_FIELD, 0))
LIE(limit_field32_short, one_field(b, 3, NO_FIELD, 0))
LIE(limit_field32_late, one_field(b, 16, NO_FIELD, 13))
LIE(limit_inverse_late, relocs(b, RIFFLE_SECTION_RELOC32_INVERSE)[0] = 0x12342)
LIE(limit_no_extents, b->extents = 0; builder_seal(b))
LIE(limit_bare, b->count64 = b->count32 = b->count_inverse = 0; b->header.flags = 0; builder_seal(b))
LIE(limit_bare64, b->count32 = b->count_inverse = 0; b->header.flags = 0; builder_seal(b))
LIE(limit_bare32, b->count64 = b->count_inverse = 0; b->header.flags = 0; builder_seal(b))
LIE(limit_bare_inverse, b->count64 = b->count32 = 0; b->header.flags = 0; builder_seal(b))

/* What is just within each limit, and just outside it. What passes the limit of a header alone may be refused later. */
static const struct lie limits[] = {
    {"nothing", limit_nothing, RIFFLE_OK, "taken"},
    {"the largest plan", limit_plan_most, RIFFLE_ERR_ARGUMENT,
     "plan_bytes: is not what the header says (found 144, expected 0x10000000)"},
    {"a larger plan", limit_plan_more, RIFFLE_ERR_FORMAT,
     "plan_bytes: is out of range or no multiple of 8 (found 0x10000008)"},
    {"a file that ends inside the plan", limit_plan_end, RIFFLE_ERR_FORMAT,
     "plan_bytes: is out of range or no multiple of 8 (found 144)"},
    {"a base longer than the plan", limit_base_more, RIFFLE_ERR_FORMAT,
     "base_bytes: is more than the plan or no multiple of 8 (found 152, expected 144)"},
    {"a base that is no multiple of 8", limit_base_odd, RIFFLE_ERR_FORMAT,
     "base_bytes: is more than the plan or no multiple of 8 (found 140, expected 144)"},
    {"a stored plan without compression", limit_stored, RIFFLE_ERR_FORMAT,
     "plan_stored_bytes: reaches past the end of the file, or is there without compression (found 1)"},
    {"a stored plan up to the end of the file", limit_stored_to_end, RIFFLE_ERR_FORMAT,
     "extent file_offset: is wrong or past the end of the file (found 0x200000)"},
    {"a stored plan past the end", limit_stored_past_end, RIFFLE_ERR_FORMAT,
     "plan_stored_bytes: reaches past the end of the file, or is there without compression (found 8192)"},
    {"a payload in the stored plan", limit_payload_early, RIFFLE_ERR_FORMAT,
     "payload_offset: is not a multiple of 2 MiB (compressed: 4 KiB) between plan and end of file (found 4096)"},
    {"a compressed payload inside a page", limit_payload_odd, RIFFLE_ERR_FORMAT,
     "payload_offset: is not a multiple of 2 MiB (compressed: 4 KiB) between plan and end of file (found 10240)"},
    {"a payload past the end", limit_payload_late, RIFFLE_ERR_FORMAT,
     "payload_offset: is not a multiple of 2 MiB (compressed: 4 KiB) between plan and end of file (found 0x600000)"},
    {"a payload right after the plan", limit_storage, RIFFLE_ERR_FORMAT,
     "extent file_offset: is wrong or past the end of the file (found 0x200000)"},
    {"all that is printable", limit_text, RIFFLE_OK, "taken"},
    {"the last control character", limit_text_low, RIFFLE_ERR_FORMAT,
     "no_shuffle: holds what is not printable ASCII (found 31)"},
    {"delete", limit_text_high, RIFFLE_ERR_FORMAT, "no_shuffle: holds what is not printable ASCII (found 127)"},
    {"the longest text", limit_text_long, RIFFLE_OK, "taken"},
    {"a longer text", limit_text_longer, RIFFLE_ERR_FORMAT, "no_slides: is not terminated"},
    {"the largest image", limit_image, RIFFLE_OK, "taken"},
    {"the largest link address", limit_link, RIFFLE_ERR_FORMAT,
     "image_bytes: lead past the end of the kernel's address window (found 0x40300000, expected 0x40000000)"},
    {"a larger link address", limit_link_far, RIFFLE_ERR_FORMAT,
     "link_phys: is not a multiple of 2 MiB below 1 GiB (found 0x40200000)"},
    {"a link address in the middle of a huge page", limit_link_odd, RIFFLE_ERR_FORMAT,
     "link_phys: is not a multiple of 2 MiB below 1 GiB (found 0xf00000)"},
    {"slides without a shuffle", limit_slides, RIFFLE_ERR_FORMAT,
     "features: let blocks slide without a shuffle (found 8)"},
    {"a virtual address that is physical", limit_link_wrong, RIFFLE_ERR_FORMAT,
     "link_virt: does not belong to link_phys (found 0x1000000, expected 0xffffffff81000000)"},
    {"the small window", limit_window, RIFFLE_OK, "taken"},
    {"the end of the small window", limit_window_end, RIFFLE_ERR_FORMAT,
     "image_bytes: lead past the end of the kernel's address window (found 0x20100000, expected 0x20000000)"},
    {"the end of the window", limit_window_full, RIFFLE_OK, "taken"},
    {"an entry at the last byte", limit_entry_last, RIFFLE_OK, "taken"},
    {"an entry at the first byte", limit_entry_first, RIFFLE_OK, "taken"},
    {"the longest build id", limit_build_id, RIFFLE_OK, "taken"},
    {"a section up to the end of the plan", limit_section_end, RIFFLE_ERR_FORMAT,
     "reloc32_inverse: list is not strictly ascending (found 15)"},
    {"a section past the end of the plan", limit_section_past, RIFFLE_ERR_FORMAT,
     "reloc32_inverse: section reaches outside its part of the plan (found 80, expected 144)"},
    {"a section of large entries past the end", limit_section_more, RIFFLE_ERR_FORMAT,
     "extents: section reaches outside its part of the plan (found 24, expected 144)"},
    {"segments that touch", limit_two, RIFFLE_OK, "taken"},
    {"segments that overlap by a byte", limit_two_overlap, RIFFLE_ERR_FORMAT,
     "segment image_offset: overlaps the one before or is out of order (found 0x107ff, expected 0x10800)"},
    {"an entry in the second segment", limit_two_entry, RIFFLE_OK, "taken"},
    {"an entry between file bytes", limit_two_between, RIFFLE_ERR_FORMAT,
     "entry_offset: is in no segment's file bytes (found 0x107ff)"},
    {"an extent across segments", limit_two_across, RIFFLE_ERR_FORMAT,
     "extent image_offset: is not inside one segment's file bytes (found 0x10000)"},
    {"an extent between segments", limit_two_gap, RIFFLE_ERR_FORMAT,
     "extent image_offset: is not inside one segment's file bytes (found 0x10800)"},
    {"a segment without file bytes", limit_segment_empty, RIFFLE_ERR_FORMAT,
     "entry_offset: is in no segment's file bytes (found 256)"},
    {"a file that ends with its last extent", limit_file_end, RIFFLE_OK, "taken"},
    {"a file that ends before its last extent", limit_file_short, RIFFLE_ERR_FORMAT,
     "extent file_offset: is wrong or past the end of the file (found 0x210000)"},
    {"an extent up to the end of its segment's bytes", limit_extent_end, RIFFLE_OK, "taken"},
    {"an extent past the end of its segment's bytes", limit_extent_past, RIFFLE_ERR_FORMAT,
     "extent image_offset: is not inside one segment's file bytes (found 0x10000)"},
    {"an extent of one wide field", limit_field64, RIFFLE_OK, "taken"},
    {"an extent shorter than its wide field", limit_field64_short, RIFFLE_ERR_FORMAT,
     "reloc64: entry lies outside every extent (found 0)"},
    {"an extent of one field", limit_field32, RIFFLE_OK, "taken"},
    {"an extent shorter than its field", limit_field32_short, RIFFLE_ERR_FORMAT,
     "reloc32: entry lies outside every extent (found 0)"},
    {"a field across the end of the only extent", limit_field32_late, RIFFLE_ERR_FORMAT,
     "reloc32: entry lies outside every extent (found 13)"},
    {"an inverse field across the end of the last extent", limit_inverse_late, RIFFLE_ERR_FORMAT,
     "reloc32_inverse: entry lies outside every extent (found 0x12342)"},
    {"fields without extents", limit_no_extents, RIFFLE_ERR_FORMAT,
     "reloc64: entry lies outside every extent (found 8)"},
    {"a kernel without relocations", limit_bare, RIFFLE_OK, "taken"},
    {"wide relocations that the flags deny", limit_bare64, RIFFLE_ERR_FORMAT,
     "flags: deny the relocations that are there"},
    {"relocations that the flags deny", limit_bare32, RIFFLE_ERR_FORMAT, "flags: deny the relocations that are there"},
    {"inverse relocations that the flags deny", limit_bare_inverse, RIFFLE_ERR_FORMAT,
     "flags: deny the relocations that are there"},
};

static void limits_are_exact(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
		struct riffle_error error = {0};
		struct riffle_plan plan = RIFFLE_PLAN_INIT;
		struct builder b;
		int status;

		good_kernel(&b);
		limits[i].tell(&b);
		if (b.header.base_bytes <= b.plan_bytes)
			builder_sums(&b);
		b.header.header_checksum = riffle_checksum_header(&b.header);
		status = check(&b, &plan, &error);
		if (status != limits[i].status || strcmp(message_of(status, &error), limits[i].message))
			fail_msg("%s: status %d, %s", limits[i].what, status, message_of(status, &error));
		builder_end(&b);
	}
}

/* What a caller may get wrong, as opposed to a file. */
static void wrong_arguments_are_refused(void **state)
{
	struct riffle_error error;
	struct riffle_plan plan = RIFFLE_PLAN_INIT;
	struct builder b;
	uint8_t *moved;
	int status;

	(void)state;
	good_kernel(&b);
	moved = malloc(sizeof b.header + b.plan_bytes + 8);
	for (unsigned by = 1; by < 8; by++) {
		memcpy(moved + by, &b.header, sizeof b.header);
		assert_int_equal(
		    riffle_plan_check(&plan, moved + by, b.plan, b.plan_bytes, b.header.file_bytes, &error),
		    RIFFLE_ERR_ARGUMENT);
		assert_string_equal(error.field, "header");
		memcpy(moved + by, b.plan, b.plan_bytes);
		assert_int_equal(
		    riffle_plan_check(&plan, &b.header, moved + by, b.plan_bytes, b.header.file_bytes, &error),
		    RIFFLE_ERR_ARGUMENT);
		assert_string_equal(error.field, "header");
	}
	free(moved);
	for (int by = -8; by <= 8; by += 16) {
		status =
		    riffle_plan_check(&plan, &b.header, b.plan, b.plan_bytes + (size_t)by, b.header.file_bytes, &error);
		assert_int_equal(status, RIFFLE_ERR_ARGUMENT);
		assert_string_equal(message_of(status, &error),
				    by < 0 ? "plan_bytes: is not what the header says (found 136, expected 144)"
					   : "plan_bytes: is not what the header says (found 152, expected 144)");
	}
	builder_end(&b);
}

/* A caller's struct may be longer than this library's, up to a page, and then all of it is cleared; never shorter. */
static void plans_of_later_callers_are_cleared(void **state)
{
	static const struct {
		size_t size;
		int status;
	} sizes[] = {
	    {sizeof(struct riffle_plan) - 1, RIFFLE_ERR_ARGUMENT},
	    {sizeof(struct riffle_plan), RIFFLE_OK},
	    {4096, RIFFLE_OK},
	    {4097, RIFFLE_ERR_ARGUMENT},
	};

	(void)state;
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		struct riffle_plan *plan = malloc(4098);
		struct riffle_error error;

		memset(plan, 0xee, 4098);
		plan->size = sizes[i].size;
		assert_int_equal(riffle_plan_clear(plan, &error), sizes[i].status);
		assert_int_equal(plan->size, sizes[i].size);
		for (size_t at = sizeof plan->size; at < 4098; at++)
			assert_int_equal(((uint8_t *)plan)[at], sizes[i].status || at >= sizes[i].size ? 0xee : 0);
		free(plan);
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
	/* without chunks there is no order that would need memory */
	assert_null(plan.spare);
	assert_int_equal(plan.spare_bytes, 0);
	/* a huge page, and as much to align it */
	assert_int_equal(plan.owned_bytes, 4 << 20);
	assert_int_equal(ftruncate(fd, 100), 0);
	assert_int_equal(source.read(source.opaque, 200, &byte, 1, &error), RIFFLE_ERR_CHANGED);
	riffle_plan_close(&plan);
	assert_int_equal(riffle_plan_open(&plan, &source, &error), RIFFLE_ERR_CHANGED);
	close(fd);
	assert_int_equal(riffle_source_from_fd(&source, fd, &error), RIFFLE_ERR_IO);
	/* one that cannot be read */
	fd = open("/tmp", O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, file, b.header.file_bytes), b.header.file_bytes);
	assert_int_equal(riffle_source_from_fd(&source, fd, &error), RIFFLE_OK);
	assert_string_equal(message_of(riffle_plan_open(&plan, &source, &error), &error),
			    "read: failed: Bad file descriptor");
	close(fd);
	free(file);
	builder_end(&b);
}

/* What a shuffled load writes itself, in the order of the image: all of it, without what can wait, without sites. */
static void areas_of_a_plan(void **state)
{
	static const struct riffle_region regions[] = {{.image_offset = 0x1000, .bytes = 0x800}};
	static const struct riffle_table tables[] = {
	    {.kind = RIFFLE_TABLE_SITES, .image_offset = 0x9000, .entries = 5},
	    {.kind = RIFFLE_TABLE_ORC, .image_offset = 0x8000, .second_offset = 0x8800, .entries = 10},
	    {.kind = RIFFLE_TABLE_ORC, .image_offset = 0xa000, .second_offset = 0xa800},
	};
	struct riffle_kallsyms kallsyms = {.offsets = 0x4000, .names = 0x5000, .names_bytes = 99, .markers = 0x6000};
	struct riffle_plan plan = {
	    .regions = regions, .region_count = 1, .tables = tables, .table_count = 3, .kallsyms = &kallsyms};
	struct plan_areas areas;

	(void)state;
	for (uint32_t symbols = 255; symbols <= 257; symbols++) {
		kallsyms.symbols = symbols;
		kallsyms.seqs = symbols % 2 ? 0x7000 : 0;
		const struct plan_area expected[] = {
		    {0x1000, 0x1800},
		    {0x4000, 0x4000 + symbols * 4},
		    {0x5000, 0x5000 + 99},
		    {0x6000, 0x6000 + (symbols > 256 ? 8 : 4)},
		    {0x7000, 0x7000 + symbols * 3},
		    {0x8000, 0x8000 + 10 * 4},
		    {0x8800, 0x8800 + 10 * 6},
		    {0x9000, 0x9000 + 5 * 4},
		};

		for (unsigned which = 0; which < 4; which++) {
			const unsigned bits = (which & 1 ? PLAN_AREAS_LOAD : 0) | (which & 2 ? PLAN_AREAS_LAZY : 0);
			unsigned at = 0;

			riffle_plan_areas_of(&areas, &plan, bits);
			for (unsigned i = 0; i < 8; i++) {
				if ((i == 7 && which & 1) || (i && i < 7 && which & 2) || (i == 4 && !kallsyms.seqs))
					continue;
				assert_true(at < areas.count);
				assert_int_equal(areas.area[at].start, expected[i].start);
				assert_int_equal(areas.area[at++].end, expected[i].end);
			}
			assert_int_equal(areas.count, at);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(extents_may_touch),
	    cmocka_unit_test(right_plan_is_taken),
	    cmocka_unit_test(every_lie_is_refused),
	    cmocka_unit_test(limits_are_exact),
	    cmocka_unit_test(wrong_arguments_are_refused),
	    cmocka_unit_test(plans_of_later_callers_are_cleared),
	    cmocka_unit_test(changed_bytes_are_noticed),
	    cmocka_unit_test(every_truncation_is_refused),
	    cmocka_unit_test(a_file_cut_short_is_an_error),
	    cmocka_unit_test(areas_of_a_plan),
	};
	return cmocka_run_group_tests_name("plan", tests, NULL, NULL);
}

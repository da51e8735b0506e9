/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Prepared kernels with one thing changed and sealed again: which are refused, in which words; and of the others what
 * layouts are drawn, which false ones are refused, and what is loaded, are as recorded.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include <riffle/riffle.h>

#include "common/checksum.h"
#include "prepare/analysis/encode.h"
#include "prepare/analysis/prepared.h"
#include "tests/unit/varied/layouts.h"
#include "tests/unit/varied/vary.h"

enum { MEMORY = 64 << 20, FLOOR = 16 << 20, SLIDES_SHOWN = 512 << 10 };

static struct riffle_error error;
static struct test_bytes payload; /* behind the plan, which is what is varied */
static uint64_t payload_offset;
static uint8_t *memory;

/* Header and plan, then the payload where the header of the kernel as it was has it. */
static int read_file(void *opaque, uint64_t offset, void *buffer, size_t bytes, struct riffle_error *reason)
{
	const struct test_bytes *plan = opaque;

	if (offset >= payload_offset && offset - payload_offset <= payload.count &&
	    bytes <= payload.count - (offset - payload_offset))
		memcpy(buffer, payload.at + (offset - payload_offset), bytes);
	else if (offset <= plan->count && bytes <= plan->count - offset)
		memcpy(buffer, plan->at + offset, bytes);
	else {
		*reason = (struct riffle_error){.status = RIFFLE_ERR_IO, .field = "file", .problem = "ends there"};
		return RIFFLE_ERR_IO;
	}
	return 0;
}

static void seal(uint8_t *file, size_t bytes)
{
	struct riffle_header h;
	const uint8_t *plan = file + RIFFLE_HEADER_BYTES;

	memcpy(&h, file, sizeof h);
	if (h.plan_bytes <= bytes - RIFFLE_HEADER_BYTES && h.base_bytes <= h.plan_bytes) {
		h.plan_checksum = riffle_checksum(plan, h.base_bytes);
		h.shuffle_checksum = riffle_checksum(plan + h.base_bytes, h.plan_bytes - h.base_bytes);
	}
	h.header_checksum = riffle_checksum_header(&h);
	memcpy(file, &h, sizeof h);
}

static void record_layout(struct recorded *r, const struct riffle_layout *l, const struct riffle_plan *plan)
{
	record(r, "mode %u at %llx, %llx", l->mode, (unsigned long long)l->physical_base,
	       (unsigned long long)l->virtual_base);
	if (l->mode == RIFFLE_MODE_FGKASLR)
		record_bytes(r, l->order, plan->chunk_count * sizeof *l->order);
	for (unsigned i = 0; i < l->slide_count; i++)
		record(r, "slide %x", l->slide[i]);
}

static void record_load(struct recorded *r, const struct riffle_plan *plan, const struct riffle_source *source,
			const struct riffle_layout *layout, const struct riffle_memory *guest)
{
	const size_t bytes = riffle_load_workspace(plan);
	const uint32_t slide = layout->slide_count ? layout->slide[layout->slide_count - 1] : 0;
	struct riffle_loaded at = {0};
	void *workspace = aligned_alloc(64, ((bytes ? bytes : 1) + 63) & ~(size_t)63);
	int status;

	assert_non_null(workspace);
	status = layout->mode == RIFFLE_MODE_FGKASLR || layout->slide_count
		     ? riffle_load_shuffled(&at, plan, source, layout, guest, RIFFLE_LOAD_CLEAR, NULL, workspace, bytes,
					    &error)
		     : riffle_load(&at, plan, source, layout, guest, RIFFLE_LOAD_CLEAR, NULL, &error);
	if (!record_status(r, status, &error) && plan->header->image_bytes <= 1 << 20 && slide <= SLIDES_SHOWN) {
		record_bytes(r, memory + at.physical_base - FLOOR, plan->header->image_bytes + slide);
		record(r, "entry %llx, end %llx, %llu copied, %llu fields, flags %x: %016" PRIx64,
		       (unsigned long long)at.entry, (unsigned long long)at.end, (unsigned long long)at.bytes_copied,
		       (unsigned long long)at.relocations, at.loadflags, r->digest);
	}
	free(workspace);
}

/* One thing of a layout that is false. */
static void spoil(struct riffle_layout *l, const struct riffle_plan *plan, uint64_t random)
{
	const uint64_t little =
	    (const uint64_t[]){1, 4096, 2 << 20, -(uint64_t)1, -(uint64_t)(2 << 20), 1 << 30}[random % 6];
	const unsigned i = (unsigned)(random >> 16);

	switch (random >> 8 & 7) {
	case 0:
		l->physical_base += little;
		break;
	case 1:
		l->virtual_base += little;
		break;
	case 2:
		l->mode = (enum riffle_mode)((unsigned)l->mode + 1 + (unsigned)(little & 3));
		break;
	case 3:
		l->order_count += (uint32_t)little;
		break;
	case 4:
		l->slide_count += (uint32_t)little;
		break;
	case 5:
	case 6:
		l->slide[i % RIFFLE_BLOCKS_MAX] += (uint32_t)little;
		break;
	default:
		if (plan->chunk_count)
			l->order[i % plan->chunk_count] = (uint16_t)(l->order[i % plan->chunk_count] + little);
		break;
	}
}

static void try_layouts(struct recorded *r, const struct riffle_plan *plan, const struct riffle_source *source)
{
	static unsigned turn;
	const struct riffle_range reserved = {FLOOR + (turn % 5) * (3u << 20), 1 << 20};
	const struct riffle_ram ram = {FLOOR, MEMORY - (turn % 7) * (1u << 20), memory};
	const struct riffle_memory guest = {
	    .ram = &ram, .ram_count = 1, .reserved = &reserved, .reserved_count = turn % 2};
	uint16_t *order = calloc(plan->chunk_count + 1u, sizeof *order);
	struct riffle_layout l = {
	    .order = order, .order_count = plan->chunk_count, .slide_count = turn % 3 ? plan->block_count : 0};
	const enum riffle_mode mode = (enum riffle_mode)(turn % 8 > 3 ? 3 : turn % 8);
	uint8_t seed[32] = {(uint8_t)turn, (uint8_t)(turn >> 8)};
	struct riffle_seeded seeded;
	struct riffle_random random;
	struct riffle_slots slots;

	assert_non_null(order);
	turn++;
	if (mode < RIFFLE_MODE_KASLR)
		l.slide_count = 0;
	riffle_random_from_seed(&random, &seeded, seed);
	if (!record_status(r,
			   l.slide_count ? riffle_layout_slots_slid(&slots, plan, &guest, mode, &error)
					 : riffle_layout_slots(&slots, plan, &guest, mode, &error),
			   &error))
		record(r, "%llu slots, %llu", (unsigned long long)slots.physical, (unsigned long long)slots.virtual_);
	if (!record_status(r, riffle_layout_draw(&l, plan, &guest, mode, &random, &error), &error)) {
		record_layout(r, &l, plan);
		record_status(r, riffle_layout_check(&l, plan, &guest, &error), &error);
		slide_little(&l, plan);
		record_load(r, plan, source, &l, &guest);
		spoil(&l, plan, turn * UINT64_C(0x9e3779b97f4a7c15) >> 20);
		record_status(r, riffle_layout_check(&l, plan, &guest, &error), &error);
		record_status(r, riffle_layout_check_order(&l, plan, &error), &error);
		record_status(r, riffle_layout_check_slides(&l, plan, &error), &error);
	}
	free(order);
}

static void try_plan(struct recorded *r, const struct test_bytes *input)
{
	struct test_bytes file = {0};
	struct riffle_plan plan = RIFFLE_PLAN_INIT;
	const struct riffle_source source = {
	    .read = read_file, .opaque = &file, .bytes = payload_offset + payload.count};

	test_bytes_add(&file, input->at, input->count);
	/* or, now and then, as it is */
	if ((r->accepted + r->refused) % 32 != 31)
		seal(file.at, file.count);
	if (!record_status(r, riffle_plan_open(&plan, &source, &error), &error)) {
		record(r, "%u segments, %u extents, %u chunks, %u groups, %u tables, %u blocks, up to %x",
		       plan.segment_count, plan.extent_count, plan.chunk_count, plan.group_count, plan.table_count,
		       plan.block_count, plan.slide_max);
		try_layouts(r, &plan, &source);
		riffle_plan_close(&plan);
	}
	test_bytes_free(&file);
}

static void make_plan(struct test_bytes *plan)
{
	struct riffle_header *h;
	struct test_bytes file = {0};
	struct riffle_image *image;
	struct shuffle *shuffle;
	int fd, out = memfd_create("prepared", MFD_CLOEXEC);

	test_full_kernel(&file, NULL, 0);
	fd = test_file_of(&file);
	assert_int_equal(riffle_image_open(&image, fd, -1, &error), 0);
	assert_int_equal(shuffle_analyse(&shuffle, image, NULL, &error), 0);
	assert_int_equal(riffle_prepared_write(image, shuffle, NULL, RIFFLE_COMPRESSION_NONE, out, &error), 0);
	test_bytes_zero(plan, RIFFLE_HEADER_BYTES);
	assert_int_equal(pread(out, plan->at, RIFFLE_HEADER_BYTES, 0), RIFFLE_HEADER_BYTES);
	h = (void *)plan->at;
	payload_offset = h->payload_offset;
	payload = (struct test_bytes){0};
	test_bytes_zero(&payload, h->file_bytes - payload_offset);
	assert_int_equal(pread(out, payload.at, payload.count, (off_t)payload_offset), payload.count);
	test_bytes_zero(plan, h->plan_bytes);
	h = (void *)plan->at;
	assert_int_equal(pread(out, plan->at + RIFFLE_HEADER_BYTES, h->plan_bytes, RIFFLE_HEADER_BYTES), h->plan_bytes);
	shuffle_free(shuffle);
	riffle_image_close(image);
	test_bytes_free(&file);
	close(fd);
	close(out);
}

static void test_header(void **state)
{
	static const struct varied part = {
	    {"plan: header", UINT64_C(0xf46bdb1225087cb7), 11772, 2445}, 0, sizeof(struct riffle_header), 2000};
	struct test_bytes plan = {0};

	(void)state;
	make_plan(&plan);
	assert_true(vary_part(&part, &plan, try_plan));
	test_bytes_free(&plan);
	test_bytes_free(&payload);
}

static void test_sections(void **state)
{
	static const struct varied parts[RIFFLE_SECTION_COUNT] = {
	    [RIFFLE_SECTION_SEGMENTS] = {{"plan: segments", UINT64_C(0x6a83edabb4de4241), 1594, 451}, .count = 400},
	    [RIFFLE_SECTION_EXTENTS] = {{"plan: extents", UINT64_C(0x665fa1a0f6727b21), 329, 407}, .count = 400},
	    [RIFFLE_SECTION_RELOC64] = {{"plan: reloc64", UINT64_C(0x0065d27c8f6c4746), 766, 439}, .count = 400},
	    [RIFFLE_SECTION_RELOC32] = {{"plan: reloc32", UINT64_C(0xd62dca9438075325), 697, 224}, .count = 200},
	    [RIFFLE_SECTION_REGIONS] = {{"plan: regions", UINT64_C(0x20cad228c278147b), 121, 312}, .count = 300},
	    [RIFFLE_SECTION_CHUNKS] = {{"plan: chunks", UINT64_C(0x106c0b4a1a4ed817), 56, 400}, .count = 400},
	    [RIFFLE_SECTION_GROUPS] = {{"plan: groups", UINT64_C(0x30d305cbb179fe02), 137, 303}, .count = 300},
	    [RIFFLE_SECTION_PC_STEPS] = {{"plan: pc steps", UINT64_C(0xb16d19067a7c3c78), 2398, 557}, .count = 400},
	    [RIFFLE_SECTION_PC_TARGETS] = {{"plan: pc targets", UINT64_C(0x5a386dd9c8868169), 1173, 359}, .count = 300},
	    [RIFFLE_SECTION_OWN_STEPS] = {{"plan: own steps", UINT64_C(0xe5ada4e582e0388d), 2565, 635}, .count = 400},
	    [RIFFLE_SECTION_FIXED32] = {{"plan: fixed32", UINT64_C(0x9813877efd5f3063), 751, 440}, .count = 400},
	    [RIFFLE_SECTION_FIXED32_TARGETS] = {{"plan: fixed32 targets", UINT64_C(0xb8b82fdef6cfc963), 1080, 326},
						.count = 300},
	    [RIFFLE_SECTION_FIXED64] = {{"plan: fixed64", UINT64_C(0xc2048a75dc1d9692), 895, 422}, .count = 400},
	    [RIFFLE_SECTION_FIXED64_TARGETS] = {{"plan: fixed64 targets", UINT64_C(0xff6c20f8b1d19a16), 1155, 349},
						.count = 300},
	    [RIFFLE_SECTION_TABLES] = {{"plan: tables", UINT64_C(0xc91d97908d068bf9), 621, 637}, .count = 600},
	    [RIFFLE_SECTION_GAPS] = {{"plan: gaps", UINT64_C(0x7b497db758ab510a), 95, 403}, .count = 400},
	    [RIFFLE_SECTION_EXTABLE_TARGETS] = {{"plan: extable targets", UINT64_C(0x4e78238e0a600efe), 1450, 348},
						.count = 300},
	    [RIFFLE_SECTION_KALLSYMS] = {{"plan: kallsyms", UINT64_C(0x0a33427c2baf52b1), 820, 634}, .count = 600},
	    [RIFFLE_SECTION_BLOCKS] = {{"plan: blocks", UINT64_C(0x3d64632127877852), 1451, 654}, .count = 600},
	    [RIFFLE_SECTION_CROSS32] = {{"plan: cross32", UINT64_C(0x5241d2cd042b3fa9), 1173, 445}, .count = 400},
	    [RIFFLE_SECTION_CROSS32_BLOCKS] = {{"plan: cross32 blocks", UINT64_C(0xce900465fabd5429), 991, 338},
					       .count = 300},
	    [RIFFLE_SECTION_CROSS_TABLES] = {{"plan: cross tables", UINT64_C(0x51d1221914d54c37), 1176, 649},
					     .count = 600},
	};
	const struct riffle_header *h;
	struct test_bytes plan = {0};
	bool good = true;

	(void)state;
	make_plan(&plan);
	h = (const void *)plan.at;
	for (unsigned i = 0; i < RIFFLE_SECTION_COUNT; i++) {
		const struct riffle_section *s = &h->section[i];
		struct varied part = parts[i];

		if (!s->count)
			continue;
		if (!part.count)
			fail_msg("section %u is there and not varied", i);
		part.from = (uint32_t)(RIFFLE_HEADER_BYTES + s->offset);
		part.to = part.from + (uint32_t)((s->count * encoded_entry_bytes[i] + 7) & ~UINT64_C(7));
		good &= vary_part(&part, &plan, try_plan);
	}
	test_bytes_free(&plan);
	test_bytes_free(&payload);
	assert_true(good);
}

/* The kernel's own bytes, which a load reads to relocate them. */
static void test_payload(void **state)
{
	static const struct recording wanted = {"plan: payload", UINT64_C(0xbc556c2b6db9379c), 6077, 1123};
	struct recorded r = recorded_begin(wanted.name);
	struct test_bytes plan = {0}, kept = {0};
	uint64_t random = 7;

	(void)state;
	make_plan(&plan);
	test_bytes_add(&kept, payload.at, payload.count);
	for (unsigned n = 0; n < 900; n++) {
		vary(payload.at, n % 2 ? 0x2000 : 0x1000, n % 3 ? 0x3400 : 0x7000, &random);
		try_plan(&r, &plan);
		memcpy(payload.at, kept.at, kept.count);
	}
	test_bytes_free(&plan);
	test_bytes_free(&kept);
	test_bytes_free(&payload);
	assert_true(recorded_is(&r, &wanted));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_header),
	    cmocka_unit_test(test_sections),
	    cmocka_unit_test(test_payload),
	};

	memory = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED)
		return 1;
	return cmocka_run_group_tests_name("varied-plans", tests, NULL, NULL);
}

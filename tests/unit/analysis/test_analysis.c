/* SPDX-License-Identifier: Apache-2.0 */
/* Analyses hand-built images: what is written for them, and which are refused and why. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include <riffle/plan.h>

#include "common/bytes.h"
#include "common/checksum.h"
#include "kernel/frame_reader.h"
#include "prepare/analysis/analysis.h"
#include "prepare/analysis/frames.h"
#include "prepare/analysis/prepared.h"

#define MIB (UINT64_C(1) << 20)
#define PAGE 4096u
#define LINK_PHYS (16 * MIB)
#define LINK_VIRT (START_KERNEL_MAP + LINK_PHYS)
#define TEXT_BYTES (15 * PAGE)
#define PERCPU_OFFSET (2 * MIB)
#define PERCPU_BYTES (2 * PAGE)
#define DATA_OFFSET (PERCPU_OFFSET + PERCPU_BYTES)
#define DATA_BYTES (3 * PAGE + 100) /* ends inside a page */
#define IMAGE_BYTES (4 * MIB)

/*
 * Text of ten pages (0, 2 and 9 hold something; 5 and 6 are zero but for a field across their border), a zero-based
 * percpu segment and data with .bss behind it.
 */
struct fixture {
	struct riffle_image image;
	struct image_segment segment[3];
	uint8_t text[TEXT_BYTES], percpu[PERCPU_BYTES], data[DATA_BYTES];
	uint32_t reloc64[4], reloc32[2], inverse[2];
	struct riffle_error error;
	int fd;
};

static void put_inverse(struct fixture *f, uint32_t offset, uint64_t target)
{
	riffle_put32(f->text + offset, (uint32_t)(target - (LINK_VIRT + offset) - 4));
}

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof *f);

	assert_non_null(f);
	f->segment[0] = (struct image_segment){LINK_VIRT, LINK_PHYS, TEXT_BYTES, TEXT_BYTES, 5, f->text};
	f->segment[1] = (struct image_segment){0, LINK_PHYS + PERCPU_OFFSET, PERCPU_BYTES, PERCPU_BYTES, 6, f->percpu};
	f->segment[2] = (struct image_segment){
	    LINK_VIRT + DATA_OFFSET, LINK_PHYS + DATA_OFFSET, DATA_BYTES, IMAGE_BYTES - DATA_OFFSET, 6, f->data};
	f->reloc64[0] = 7 * PAGE + 4093; /* across pages 7 and 8 */
	f->reloc64[1] = 14 * PAGE;
	f->reloc64[2] = PERCPU_OFFSET + 16;
	f->reloc64[3] = DATA_OFFSET + DATA_BYTES - 8;
	riffle_put64(f->text + f->reloc64[0], LINK_VIRT);
	riffle_put64(f->text + f->reloc64[1], LINK_VIRT + IMAGE_BYTES);
	riffle_put64(f->percpu + 16, LINK_PHYS + 0x67);
	riffle_put64(f->data + DATA_BYTES - 8, LINK_VIRT + DATA_OFFSET);
	f->reloc32[0] = 8;
	f->reloc32[1] = 2 * PAGE + 1;
	riffle_put32(f->text + 8, (uint32_t)LINK_VIRT);
	riffle_put32(f->text + 2 * PAGE + 1, (uint32_t)LINK_VIRT + 100);
	f->inverse[0] = 4;
	f->inverse[1] = 2 * PAGE + 5;
	put_inverse(f, f->inverse[0], 0);
	put_inverse(f, f->inverse[1], PERCPU_BYTES);
	f->image = (struct riffle_image){
	    .kind = RIFFLE_SOURCE_ELF_RELA,
	    .segment = f->segment,
	    .segment_count = 3,
	    .link_phys = LINK_PHYS,
	    .link_virt = LINK_VIRT,
	    .image_bytes = IMAGE_BYTES,
	    .entry_offset = 0x10,
	    .kernel_alignment = 2 * MIB,
	    .relocatable = true,
	    .inverse_list = true,
	    .reloc64 = {f->reloc64, 4},
	    .reloc32 = {f->reloc32, 2},
	    .reloc32_inverse = {f->inverse, 2},
	    .kernel_version = "6.1.0 (unit test)",
	    .build_id = {1, 2, 3},
	    .build_id_bytes = 3,
	};
	f->fd = memfd_create("prepared", MFD_CLOEXEC);
	assert_true(f->fd >= 0);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	close(f->fd);
	free(f);
	return 0;
}

static void must_write_as(struct fixture *f, enum riffle_compression storage)
{
	int status = riffle_prepared_write(&f->image, NULL, NULL, storage, f->fd, &f->error);

	if (status) {
		char line[256];

		riffle_error_format(&f->error, line, sizeof line);
		fail_msg("%s", line);
	}
}

static void must_write(struct fixture *f)
{
	must_write_as(f, RIFFLE_COMPRESSION_NONE);
}

static int check_digest(struct fixture *f)
{
	struct frame_reader *frames;
	struct riffle_source source;
	int status;

	assert_int_equal(riffle_source_from_fd(&source, f->fd, &f->error), 0);
	assert_int_equal(frame_reader_begin(&frames, &source, &f->error), 0);
	status = riffle_prepared_check_digest(f->fd, &source, &f->error);
	frame_reader_end(frames);
	return status;
}

static void must_refuse(struct fixture *f, enum riffle_status status, const char *field, const char *problem)
{
	uint8_t start[8] = {0};

	assert_int_equal(riffle_prepared_write(&f->image, NULL, NULL, RIFFLE_COMPRESSION_NONE, f->fd, &f->error),
			 status);
	assert_int_equal(f->error.status, status);
	assert_string_equal(f->error.field, field);
	if (!strstr(f->error.problem, problem))
		fail_msg("%s: %s (wanted: %s)", f->error.field, f->error.problem, problem);
	if (pread(f->fd, start, sizeof start, 0) < 0)
		fail();
	assert_false(riffle_plan_is_prepared(start, sizeof start));
}

/* The library's own reader loads the file back to the same bytes as the image. */
static void test_round_trip(void **state)
{
	struct fixture *f = *state;
	static const struct riffle_extent wanted[] = {
	    {0, 9 * PAGE, 0},     /* with gaps of one page, and of four */
	    {14 * PAGE, PAGE, 0}, /* but not with one of five */
	    {PERCPU_OFFSET, PAGE, 0},
	    {DATA_OFFSET + 3 * PAGE, 100, 0},
	};
	struct riffle_source source;
	struct riffle_plan plan = RIFFLE_PLAN_INIT;
	struct stat st;

	must_write(f);
	assert_int_equal(riffle_source_from_fd(&source, f->fd, &f->error), 0);
	assert_int_equal(riffle_plan_open(&plan, &source, &f->error), 0);
	assert_int_equal(plan.header->flags, RIFFLE_KERNEL_RELOCATABLE | RIFFLE_KERNEL_INVERSE);
	assert_int_equal(plan.header->load_bytes, TEXT_BYTES + PERCPU_BYTES + DATA_BYTES);
	assert_int_equal(plan.header->image_bytes, IMAGE_BYTES);
	assert_int_equal(plan.header->window_bytes, 1024 * MIB);
	assert_string_equal(plan.header->kernel_version, "6.1.0 (unit test)");
	assert_int_equal(plan.segment_count, 3);
	assert_int_equal(plan.segments[1].link_virt, 0);
	assert_int_equal(plan.segments[2].memory_bytes, IMAGE_BYTES - DATA_OFFSET);
	assert_int_equal(plan.reloc64_count, 4);
	assert_memory_equal(plan.reloc64, f->reloc64, sizeof f->reloc64);
	assert_memory_equal(plan.reloc32, f->reloc32, sizeof f->reloc32);
	assert_memory_equal(plan.reloc32_inverse, f->inverse, sizeof f->inverse);

	assert_int_equal(plan.extent_count, sizeof wanted / sizeof *wanted);
	for (uint32_t i = 0; i < plan.extent_count; i++) {
		const struct riffle_extent *extent = &plan.extents[i];
		bool in_data = extent->image_offset >= DATA_OFFSET, in_percpu = extent->image_offset >= PERCPU_OFFSET;
		const uint8_t *original = in_data ? f->data : in_percpu ? f->percpu : f->text;
		uint32_t start = in_data ? DATA_OFFSET : in_percpu ? PERCPU_OFFSET : 0;
		uint8_t bytes[9 * PAGE];

		assert_int_equal(extent->image_offset, wanted[i].image_offset);
		assert_int_equal(extent->bytes, wanted[i].bytes);
		assert_int_equal(extent->file_offset, plan.header->payload_offset + extent->image_offset);
		assert_int_equal(pread(f->fd, bytes, extent->bytes, (off_t)extent->file_offset), extent->bytes);
		assert_memory_equal(bytes, original + (extent->image_offset - start), extent->bytes);
	}
	assert_int_equal(fstat(f->fd, &st), 0);
	assert_int_equal((uint64_t)st.st_size, plan.header->payload_offset + DATA_OFFSET + DATA_BYTES);
	assert_true(st.st_blocks * 512 <= 64 * 1024); /* of 4 MiB only the non-zero pages */
	riffle_plan_close(&plan);
	assert_int_equal(check_digest(f), 0);
}

static void flip(int fd, uint64_t offset)
{
	uint8_t byte;

	assert_int_equal(pread(fd, &byte, 1, (off_t)offset), 1);
	byte ^= 0x10;
	assert_int_equal(pwrite(fd, &byte, 1, (off_t)offset), 1);
}

/* The same kernel compressed: another payload, and the same bytes out of it. */
static void test_compressed_round_trip(void **state)
{
	struct fixture *f = *state;
	static const enum riffle_compression methods[] = {RIFFLE_COMPRESSION_LZ4, RIFFLE_COMPRESSION_ZSTD};

	for (size_t m = 0; m < 2; m++) {
		struct frame_reader *reader;
		struct riffle_source source;
		struct riffle_plan plan = RIFFLE_PLAN_INIT;
		uint64_t of_plan, of_frames;
		struct stat st;

		assert_int_equal(ftruncate(f->fd, 0), 0);
		must_write_as(f, methods[m]);
		assert_int_equal(riffle_source_from_fd(&source, f->fd, &f->error), 0);
		assert_int_equal(frame_reader_begin(&reader, &source, &f->error), 0);
		assert_int_equal(riffle_plan_open(&plan, &source, &f->error), 0);
		/* a check decompresses all that there is: what opening the plan took, and every frame */
		of_plan = of_frames = frame_reader_decompressed(reader);
		assert_int_equal(riffle_prepared_check_digest(f->fd, &source, &f->error), 0);
		for (uint32_t i = 0; i < plan.frame_count; i++)
			of_frames += plan.frames[i].bytes;
		assert_int_equal(frame_reader_decompressed(reader), of_plan + of_frames);
		assert_int_equal(plan.header->features, RIFFLE_FEATURE_COMPRESSED);
		assert_int_equal(plan.header->storage, methods[m]);
		assert_int_equal(plan.extent_count, 4);
		assert_int_equal(plan.frame_count, 4);
		for (uint32_t i = 0; i < plan.extent_count; i++) {
			const struct riffle_extent *extent = &plan.extents[i];
			bool in_data = extent->image_offset >= DATA_OFFSET,
			     in_percpu = extent->image_offset >= PERCPU_OFFSET;
			const uint8_t *original = in_data ? f->data : in_percpu ? f->percpu : f->text;
			uint32_t start = in_data ? DATA_OFFSET : in_percpu ? PERCPU_OFFSET : 0;
			uint8_t bytes[9 * PAGE];

			assert_int_equal(plan.frames[i].image_offset, extent->image_offset);
			assert_true(plan.frames[i].stored_bytes < plan.frames[i].bytes);
			assert_int_equal(
			    riffle_plan_read(&plan, &source, extent->image_offset, bytes, extent->bytes, &f->error), 0);
			assert_memory_equal(bytes, original + (extent->image_offset - start), extent->bytes);
		}
		assert_int_equal(fstat(f->fd, &st), 0);
		assert_true(st.st_size < 16 * PAGE);
		riffle_plan_close(&plan);
		frame_reader_end(reader);
		assert_int_equal(check_digest(f), 0);
		for (off_t place = 0; place < st.st_size; place += 1 + place / 50) {
			flip(f->fd, (uint64_t)place);
			assert_int_not_equal(check_digest(f), 0);
			flip(f->fd, (uint64_t)place);
		}
	}
	assert_int_equal(riffle_prepared_write(&f->image, NULL, NULL, RIFFLE_COMPRESSION_XZ, f->fd, &f->error),
			 RIFFLE_ERR_UNSUPPORTED);
}

static int check_frame_list(const struct stored_frames *frames, const uint32_t (*wanted)[2], uint32_t count)
{
	if (frames->count != count)
		return 0;
	for (uint32_t i = 0; i < count; i++)
		if (frames->frame[i].image_offset != wanted[i][0] || frames->frame[i].bytes != wanted[i][1])
			return 0;
	return 1;
}

/* Frames end where a load's reads end: at a block, an area's edge, a group of chunks, a table's chunk of input. */
static void test_frames_are_cut_where_loads_read(void **state)
{
	struct riffle_chunk chunks[] = {
	    {.image_offset = 0x100000, .units = 0x8000 / RIFFLE_CHUNK_ALIGN},
	    {.image_offset = 0x108000, .units = 0x6000 / RIFFLE_CHUNK_ALIGN},
	    {.image_offset = 0x10e000, .units = 0x4000 / RIFFLE_CHUNK_ALIGN},
	};
	struct riffle_group groups[] = {{.chunk_count = 2}, {.chunk_count = 1}};
	struct riffle_region region = {.image_offset = 0x100000, .bytes = 0x12000, .chunk_count = 3};
	struct riffle_table table = {
	    .kind = RIFFLE_TABLE_EXTABLE, .image_offset = 0x200000 - 0x20000, .entries = 10000};
	const struct riffle_extent extent = {.image_offset = 0x1000, .bytes = 0x201000};
	const struct encoded shuffle = {
	    .entries = {[RIFFLE_SECTION_REGIONS] = &region,
			[RIFFLE_SECTION_CHUNKS] = chunks,
			[RIFFLE_SECTION_GROUPS] = groups,
			[RIFFLE_SECTION_TABLES] = &table},
	    .count = {[RIFFLE_SECTION_REGIONS] = 1,
		      [RIFFLE_SECTION_CHUNKS] = 3,
		      [RIFFLE_SECTION_GROUPS] = 2,
		      [RIFFLE_SECTION_TABLES] = 1},
	};
	const struct plan_areas areas = {.area = {{0x100000, 0x112000}, {0x1e0000, 0x1e0000 + 120000}}, .count = 2};
	static const uint32_t list[][2] = {
	    {0x1000, 0x40000},   {0x41000, 0x40000}, {0x81000, 0x40000},  {0xc1000, 0x3f000},
	    {0x100000, 0xe000},  {0x10e000, 0x4000}, {0x112000, 0x40000}, {0x152000, 0x40000},
	    {0x192000, 0x40000}, {0x1d2000, 0xe000}, {0x1e0000, 120000},  {0x1e0000 + 120000, 0x20000 - 120000},
	    {0x200000, 0x2000},
	};
	struct stored_frames frames;
	struct riffle_error error;

	(void)state;
	assert_int_equal(frames_cut(&frames, &extent, 1, &areas, &shuffle, &error), 0);
	assert_true(check_frame_list(&frames, list, sizeof list / sizeof *list));
	frames_free(&frames);
}

/* The same input gives the same file, so that a prepared kernel can be compared and signed. */
static void test_deterministic(void **state)
{
	struct fixture *f = *state;
	struct riffle_header first, second;

	must_write(f);
	assert_int_equal(pread(f->fd, &first, sizeof first, 0), sizeof first);
	assert_int_equal(ftruncate(f->fd, 0), 0);
	must_write(f);
	assert_int_equal(pread(f->fd, &second, sizeof second, 0), sizeof second);
	assert_memory_equal(&first, &second, sizeof first);
	assert_int_equal(first.header_checksum, riffle_checksum_header(&first));
}

/* A changed byte anywhere in the file is detected: header, plan, extents, and gaps between them. */
static void test_check_finds_flipped_byte(void **state)
{
	struct fixture *f = *state;
	struct riffle_header header;
	uint64_t places[9];

	must_write(f);
	assert_int_equal(pread(f->fd, &header, sizeof header, 0), sizeof header);
	places[0] = offsetof(struct riffle_header, kernel_version) + 3;
	places[1] = RIFFLE_HEADER_BYTES - 1;
	places[2] = header.plan_offset;
	places[3] = header.plan_offset + header.plan_bytes - 1;
	places[4] = header.plan_offset + header.plan_bytes;
	places[5] = header.payload_offset;
	places[6] = header.payload_offset + 7 * PAGE;
	places[7] = header.payload_offset + 10 * PAGE;
	places[8] = header.file_bytes - 1;
	for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
		flip(f->fd, places[i]);
		if (check_digest(f) != RIFFLE_ERR_CHECKSUM)
			fail_msg("a flipped bit at %#llx went unnoticed", (unsigned long long)places[i]);
		flip(f->fd, places[i]);
		assert_int_equal(check_digest(f), 0);
	}
}

static void test_full_disk(void **state)
{
	struct fixture *f = *state;
	struct rlimit old, small = {MIB, MIB};

	/* stands for ENOSPC: the same path, with EFBIG */
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	small.rlim_max = old.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	assert_int_equal(riffle_prepared_write(&f->image, NULL, NULL, RIFFLE_COMPRESSION_NONE, f->fd, &f->error),
			 RIFFLE_ERR_IO);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	assert_true(f->error.sys_errno != 0);
	assert_string_equal(f->error.field, "output");
}

static void test_no_relocations(void **state)
{
	struct fixture *f = *state;
	struct riffle_header header;

	f->image.relocatable = false;
	f->image.inverse_list = false;
	f->image.reloc64.count = f->image.reloc32.count = f->image.reloc32_inverse.count = 0;
	must_write(f);
	assert_int_equal(pread(f->fd, &header, sizeof header, 0), sizeof header);
	assert_int_equal(header.flags, 0);
	assert_int_equal(header.window_bytes, 512 * MIB);
	assert_int_equal(check_digest(f), 0);
}

/* Geometry that the format cannot express, or that no kernel has. */
static void test_geometry(void **state)
{
	struct fixture *f = *state;
	const struct riffle_image image = f->image;
	struct image_segment segment[3];

	memcpy(segment, f->segment, sizeof segment);
#define REFUSED(change, field, problem)                                                                                \
	do {                                                                                                           \
		change;                                                                                                \
		must_refuse(f, RIFFLE_ERR_FORMAT, field, problem);                                                     \
		f->image = image;                                                                                      \
		memcpy(f->segment, segment, sizeof segment);                                                           \
	} while (0)
	REFUSED(f->image.link_phys += PAGE, "lowest p_paddr", "multiple of 2 MiB");
	REFUSED(f->image.link_phys = 1024 * MIB, "lowest p_paddr", "window");
	REFUSED(f->image.link_virt += 2 * MIB, "lowest p_vaddr", "mapping");
	REFUSED(f->image.image_bytes = 1024 * MIB - LINK_PHYS + 1, "image size", "window");
	REFUSED(f->image.image_bytes = 0, "image size", "window");
	REFUSED(f->image.segment_count = 0, "e_phnum", "not a valid number");
	REFUSED(f->segment[1].phys = LINK_PHYS + TEXT_BYTES - 1, "p_paddr", "overlaps");
	REFUSED(f->segment[1].phys = LINK_PHYS - 1, "p_paddr", "below");
	REFUSED(f->segment[0].phys += 2 * MIB - TEXT_BYTES;
		f->segment[0].virt += 2 * MIB - TEXT_BYTES, "p_paddr", "not the lowest");
	REFUSED(f->segment[2].memory_bytes++, "p_memsz", "past the end");
	REFUSED(f->segment[2].memory_bytes = UINT64_MAX, "p_memsz", "past the end");
	REFUSED(f->segment[1].file_bytes++, "p_filesz", "larger");
	REFUSED(f->segment[1].virt = 4096, "p_vaddr", "neither");
	REFUSED(f->image.entry_offset = TEXT_BYTES, "e_entry", "outside");
	REFUSED(f->image.entry_offset = UINT64_MAX, "e_entry", "outside");
	REFUSED(f->image.entry_offset = DATA_OFFSET + DATA_BYTES, "e_entry", "outside");
#undef REFUSED
	must_write(f);
}

static void test_relocations_refused(void **state)
{
	struct fixture *f = *state;
	struct fixture good = *f;

#define REFUSED(change, field, problem)                                                                                \
	do {                                                                                                           \
		change;                                                                                                \
		must_refuse(f, RIFFLE_ERR_FORMAT, field, problem);                                                     \
		*f = good;                                                                                             \
	} while (0)
	REFUSED(f->reloc64[1] = f->reloc64[0], "64-bit relocation", "ascending");
	REFUSED(f->reloc64[1] = TEXT_BYTES - 7, "64-bit relocation", "outside every segment");
	REFUSED(f->reloc64[3] = DATA_OFFSET + DATA_BYTES - 7, "64-bit relocation", "outside every segment");
	REFUSED(f->reloc64[3] = DATA_OFFSET + DATA_BYTES + PAGE, "64-bit relocation", "outside every segment");
	REFUSED(f->reloc64[3] = UINT32_MAX, "64-bit relocation", "outside every segment");
	REFUSED(f->reloc32[1] = TEXT_BYTES + 4, "32-bit relocation", "outside every segment");
	REFUSED(f->inverse[1] = TEXT_BYTES - 3, "inverse 32-bit relocation", "outside every segment");
	REFUSED(riffle_put64(f->text + 14 * PAGE, 0x1234567812345678), "relocations", "of another one");
	REFUSED(riffle_put32(f->text + 8, 0x12345678), "relocations", "of another one");
	REFUSED(put_inverse(f, 4, PERCPU_BYTES + PAGE + 1), "inverse 32-bit relocation", "does not reach percpu");
	REFUSED(put_inverse(f, 4, UINT64_MAX), "inverse 32-bit relocation", "does not reach percpu");
	REFUSED(f->segment[1].virt = LINK_VIRT + PERCPU_OFFSET, "inverse 32-bit relocation", "without a percpu");
	/* the low half of a 64-bit link address is a 32-bit one: each list is valid, but not both together */
	REFUSED(f->reloc32[1] = f->reloc64[1], "relocations", "overlap");
#undef REFUSED
	must_write(f);
}

static void put_2000_relocations(struct fixture *f, uint32_t list[2000])
{
	for (uint32_t i = 0; i < 2000; i++) {
		list[i] = 8 * PAGE / 2 + 8 * i;
		riffle_put64(f->text + list[i], LINK_VIRT + i);
	}
	f->image.inverse_list = false;
	f->image.reloc64 = (struct image_relocs){list, 2000};
	f->image.reloc32.count = f->image.reloc32_inverse.count = 0;
}

/* The tolerated share of fields without an address: 1 in 1000 passes, one more does not. */
static void test_one_in_a_thousand(void **state)
{
	struct fixture *f = *state;
	static uint32_t list[2000];

	put_2000_relocations(f, list);
	riffle_put64(f->text + list[7], 1);
	riffle_put64(f->text + list[1999], START_KERNEL_MAP + 1024 * MIB);
	must_write(f);
	assert_int_equal(ftruncate(f->fd, 0), 0);
	riffle_put64(f->text + list[50], UINT64_C(0x4141414141414141));
	must_refuse(f, RIFFLE_ERR_FORMAT, "relocations", "of another one");
	assert_int_equal(f->error.found, 3);
	assert_int_equal(f->error.expected, 2);
}

/* Zero fields, cleared by the kernel's build: 10 in 1000 pass, independent of others; one more does not. */
static void test_zero_fields(void **state)
{
	struct fixture *f = *state;
	static uint32_t list[2000];

	put_2000_relocations(f, list);
	for (int i = 100; i < 120; i++)
		riffle_put64(f->text + list[i], 0);
	riffle_put64(f->text + list[7], 1);
	must_write(f);
	assert_int_equal(ftruncate(f->fd, 0), 0);
	riffle_put64(f->text + list[120], 0);
	must_refuse(f, RIFFLE_ERR_FORMAT, "relocations", "are zero");
	assert_int_equal(f->error.found, 21);
	assert_int_equal(f->error.expected, 20);
}

/* A segment that starts in the middle of a page keeps its start, and is not joined with what precedes it. */
static void test_segments_share_a_page(void **state)
{
	struct fixture *f = *state;
	struct riffle_extent *extents;
	uint32_t count;

	f->image.reloc64.count = f->image.reloc32.count = f->image.reloc32_inverse.count = 0;
	f->segment[0].file_bytes = f->segment[0].memory_bytes = PAGE + 100;
	memset(f->text + PAGE, 1, 100);
	f->segment[1] =
	    (struct image_segment){LINK_VIRT + PAGE + 100, LINK_PHYS + PAGE + 100, PAGE, PAGE, 6, f->percpu};
	memset(f->percpu, 2, PAGE);
	f->image.segment_count = 2;
	assert_int_equal(analysis_check_geometry(&f->image, &f->error), 0);
	assert_int_equal(analysis_find_extents(&f->image, &(struct plan_areas){0}, &extents, &count, &f->error), 0);
	assert_int_equal(count, 2);
	assert_int_equal(extents[0].image_offset, 0);
	assert_int_equal(extents[0].bytes, PAGE + 100);
	assert_int_equal(extents[1].image_offset, PAGE + 100);
	assert_int_equal(extents[1].bytes, PAGE);
	free(extents);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
	    TEST(test_round_trip),
	    TEST(test_compressed_round_trip),
	    cmocka_unit_test(test_frames_are_cut_where_loads_read),
	    TEST(test_deterministic),
	    TEST(test_check_finds_flipped_byte),
	    TEST(test_full_disk),
	    TEST(test_no_relocations),
	    TEST(test_geometry),
	    TEST(test_relocations_refused),
	    TEST(test_one_in_a_thousand),
	    TEST(test_zero_fields),
	    TEST(test_segments_share_a_page),
	};

	return cmocka_run_group_tests_name("analysis", tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Analyses hand-built images: what is written for them, and which are refused and why. */
#include <lz4.h>
#include <lz4hc.h>
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
#include <zstd.h>

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

static uint64_t random_number(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

/* A byte that is not 0 keeps its page, wherever in the page it is; nothing else is kept. */
static void test_every_byte_counts(void **state)
{
	struct fixture *f = *state;

	f->image.reloc64.count = f->image.reloc32.count = f->image.reloc32_inverse.count = 0;
	f->image.segment_count = 1;
	f->segment[0].file_bytes = f->segment[0].memory_bytes = 3 * PAGE - 35;
	memset(f->text, 0, sizeof f->text);
	for (uint32_t at = PAGE - 2; at < 3 * PAGE - 34; at++) {
		struct riffle_extent *extents = NULL;
		uint32_t count, page = at / PAGE * PAGE;

		f->text[at] = (uint8_t)(1u << at % 8);
		assert_int_equal(analysis_find_extents(&f->image, &(struct plan_areas){0}, &extents, &count, &f->error),
				 0);
		if (at == 3 * PAGE - 35) {
			assert_int_equal(count, 0);
		} else {
			assert_int_equal(count, 1);
			assert_int_equal(extents->image_offset, page);
			assert_int_equal(extents->bytes, page == 2 * PAGE ? PAGE - 35 : PAGE);
			assert_int_equal(extents->file_offset, 0);
		}
		f->text[at] = 0;
		free(extents);
	}
}

/* Pages that a field or an area touches, by any of their bytes, are kept as well; so are up to four pages between two
 * that are. */
static void test_fields_and_areas_keep_their_pages(void **state)
{
	enum { PAGES = 400, SEGMENT = 250 };
	struct fixture *f = *state;
	static uint8_t bytes[PAGES * PAGE];
	uint64_t s = 7919;

	for (unsigned round = 0; round < 60; round++) {
		uint32_t list[3][4], widths[3] = {8, 4, 4}, count = 0, made;
		struct image_relocs *relocs[3] = {&f->image.reloc64, &f->image.reloc32, &f->image.reloc32_inverse};
		static bool wanted[PAGES];
		static struct riffle_extent expected[PAGES];
		struct riffle_extent *extents;
		struct plan_areas areas = {.count = round % 5};

		memset(wanted, 0, sizeof wanted);
		f->segment[0] = (struct image_segment){LINK_VIRT, LINK_PHYS, SEGMENT * PAGE, SEGMENT * PAGE, 5, bytes};
		f->segment[1] = (struct image_segment){LINK_VIRT + SEGMENT * PAGE,
						       LINK_PHYS + SEGMENT * PAGE,
						       (PAGES - SEGMENT) * PAGE,
						       (PAGES - SEGMENT) * PAGE,
						       6,
						       bytes + SEGMENT * PAGE};
		f->image.segment_count = 2;
		f->image.image_bytes = PAGES * PAGE;
		for (unsigned k = 0; k < 3; k++) {
			uint32_t at = 0;

			relocs[k]->offset = list[k];
			relocs[k]->count = 0;
			for (unsigned i = 0; i < 4; i++) {
				/* around a page's edge */
				at += (uint32_t)(1 + random_number(&s) % 60) * PAGE;
				list[k][i] = at - 9 + (uint32_t)(random_number(&s) % 12);
				if (list[k][i] < SEGMENT * PAGE && list[k][i] + widths[k] > SEGMENT * PAGE)
					list[k][i] = SEGMENT * PAGE;
				relocs[k]->count++;
				wanted[list[k][i] / PAGE] = wanted[(list[k][i] + widths[k] - 1) / PAGE] = true;
			}
		}
		for (unsigned i = 0; i < areas.count; i++) {
			uint32_t start =
				     (i ? areas.area[i - 1].start : 0) + (uint32_t)(random_number(&s) % (90 * PAGE)),
				 end = start + 1 + (uint32_t)(random_number(&s) % (3 * PAGE));

			if (i % 2)
				end = (end + PAGE) / PAGE * PAGE;
			if (i == 2)
				start = start / PAGE * PAGE;
			areas.area[i] = (struct plan_area){start, end};
			for (uint32_t at = start; at < end; at++)
				wanted[at / PAGE] = true;
		}
		for (uint32_t page = 0, last = 0; page < PAGES; page++) {
			if (!wanted[page])
				continue;
			if (count && page - last <= 5 && (last < SEGMENT) == (page < SEGMENT))
				expected[count - 1].bytes = page * PAGE + PAGE - expected[count - 1].image_offset;
			else
				expected[count++] = (struct riffle_extent){.image_offset = page * PAGE, .bytes = PAGE};
			last = page;
		}
		assert_int_equal(analysis_find_extents(&f->image, &areas, &extents, &made, &f->error), 0);
		for (uint32_t i = 0; i < count && i < made; i++)
			if (extents[i].image_offset != expected[i].image_offset ||
			    extents[i].bytes != expected[i].bytes)
				fail_msg("round %u, extent %u: 0x%x and 0x%x bytes, not 0x%x and 0x%x", round, i,
					 extents[i].image_offset, extents[i].bytes, expected[i].image_offset,
					 expected[i].bytes);
		assert_int_equal(made, count);
		free(extents);
	}
}

/* More extents than fit the first list. */
static void test_many_extents(void **state)
{
	enum { EXTENTS = 300 };
	struct fixture *f = *state;
	uint8_t *bytes = calloc(EXTENTS, 6 * PAGE);
	struct riffle_extent *extents;
	uint32_t count;

	f->image.reloc64.count = f->image.reloc32.count = f->image.reloc32_inverse.count = 0;
	f->image.segment_count = 1;
	f->segment[0].file_bytes = EXTENTS * 6 * PAGE;
	f->segment[0].bytes = bytes;
	for (uint32_t i = 0; i < EXTENTS; i++)
		bytes[i * 6 * PAGE + i] = 1;
	assert_int_equal(analysis_find_extents(&f->image, &(struct plan_areas){0}, &extents, &count, &f->error), 0);
	assert_int_equal(count, EXTENTS);
	for (uint32_t i = 0; i < EXTENTS; i++) {
		assert_int_equal(extents[i].image_offset, i * 6 * PAGE);
		assert_int_equal(extents[i].bytes, PAGE);
	}
	free(extents);
	free(bytes);
}

/* What an image may just be, and what it may just not be, with the whole message. */
static void test_geometry_limits(void **state)
{
	struct fixture *f = *state;
	const struct riffle_image image = f->image;
	struct image_segment segment[3];
	static struct image_segment many[66];
	char line[256];

	memcpy(segment, f->segment, sizeof segment);
#define LIMIT(change, message)                                                                                         \
	do {                                                                                                           \
		int status;                                                                                            \
                                                                                                                       \
		change;                                                                                                \
		status = analysis_check_geometry(&f->image, &f->error);                                                \
		assert_int_equal(status, *(message) ? RIFFLE_ERR_FORMAT : RIFFLE_OK);                                  \
		if (status) {                                                                                          \
			riffle_error_format(&f->error, line, sizeof line);                                             \
			assert_string_equal(line, message);                                                            \
		}                                                                                                      \
		f->image = image;                                                                                      \
		memcpy(f->segment, segment, sizeof segment);                                                           \
	} while (0)
#define MOVE(to)                                                                                                       \
	do {                                                                                                           \
		f->image.link_phys = (to);                                                                             \
		f->image.link_virt = START_KERNEL_MAP + (to);                                                          \
		for (unsigned i = 0; i < 3; i++) {                                                                     \
			f->segment[i].phys += (to)-LINK_PHYS;                                                          \
			f->segment[i].virt += i == 1 ? 0 : (to)-LINK_PHYS;                                             \
		}                                                                                                      \
	} while (0)
	LIMIT((void)0, "");
	LIMIT(MOVE(LINK_PHYS + MIB), "lowest p_paddr: is not a multiple of 2 MiB (found 0x1100000)");
	LIMIT(MOVE(LINK_PHYS + 2 * MIB), "");
	LIMIT(MOVE(1020 * MIB), "");
	LIMIT(MOVE(1022 * MIB),
	      "image size: does not fit the kernel's address window (found 0x400000, expected 0x200000)");
	LIMIT(MOVE(1024 * MIB),
	      "lowest p_paddr: lies outside the kernel's address window (found 0x40000000, expected 0x40000000)");
	LIMIT(f->image.image_bytes = 1008 * MIB, "");
	LIMIT(f->image.image_bytes = 1008 * MIB + 1,
	      "image size: does not fit the kernel's address window (found 0x3f000001, expected 0x3f000000)");
	LIMIT(f->image.image_bytes = 0,
	      "image size: does not fit the kernel's address window (found 0, expected 0x3f000000)");
	LIMIT(f->image.link_virt++, "lowest p_vaddr: is not its physical address in the kernel's mapping (found "
				    "0xffffffff81000001, expected 0xffffffff81000000)");
	LIMIT(f->segment[1].phys = LINK_PHYS + TEXT_BYTES, "");
	LIMIT(f->segment[1].phys = LINK_PHYS + TEXT_BYTES - 1,
	      "p_paddr: overlaps the segment before (found 0x100efff, expected 0x100f000)");
	LIMIT(f->segment[1].phys = LINK_PHYS - 1, "p_paddr: lies below the image (found 0xffffff, expected 0x1000000)");
	LIMIT(f->segment[2].memory_bytes--, "");
	LIMIT(f->segment[2].memory_bytes++,
	      "p_memsz: reaches past the end of the image (found 0x1fe001, expected 0x400000)");
	LIMIT(f->segment[1].file_bytes++, "p_filesz: is larger than p_memsz (found 8193, expected 8192)");
	LIMIT(f->segment[1].virt = 1, "p_vaddr: is neither 0 nor the segment's place in the kernel's mapping (found 1, "
				      "expected 0xffffffff81200000)");
	LIMIT(f->segment[1].virt = LINK_VIRT + PERCPU_OFFSET, "");
	LIMIT(f->image.entry_offset = 0, "");
	LIMIT(f->image.entry_offset = TEXT_BYTES - 1, "");
	LIMIT(f->image.entry_offset = TEXT_BYTES, "e_entry: lies outside every segment (found 0x100f000)");
	LIMIT(f->image.entry_offset = PERCPU_OFFSET - 1, "e_entry: lies outside every segment (found 0x11fffff)");
	LIMIT(f->image.entry_offset = PERCPU_OFFSET, "");
	LIMIT(f->image.entry_offset = DATA_OFFSET + DATA_BYTES - 1, "");
	LIMIT(f->image.segment_count = 0, "e_phnum: is not a valid number of segments (found 0, expected 64)");
	for (unsigned i = 0; i < 66; i++)
		many[i] = (struct image_segment){LINK_VIRT + i * PAGE, LINK_PHYS + i * PAGE, PAGE, PAGE, 5, f->text};
	LIMIT(f->image.segment = many; f->image.segment_count = 64, "");
	LIMIT(f->image.segment = many;
	      f->image.segment_count = 65, "e_phnum: is not a valid number of segments (found 65, expected 64)");
	LIMIT(f->image.segment = many + 1;
	      f->image.segment_count = 1,
	      "p_paddr: of the first segment is not the lowest (found 0x1001000, expected 0x1000000)");
#undef MOVE
#undef LIMIT
}

/*
 * A piece is stored compressed if that is shorter, with LZ4 by more than a quarter; each piece of a plan for itself,
 * their lengths first.
 */
static void test_pieces_that_do_not_shrink_are_stored(void **state)
{
	static uint8_t plan[RIFFLE_FRAME_BYTES_MAX * 2 + 4096], packed[RIFFLE_FRAME_BYTES_MAX * 2], back[sizeof plan];
	static const uint32_t sizes[] = {1,
					 2,
					 200,
					 RIFFLE_FRAME_BYTES_MAX - 1,
					 RIFFLE_FRAME_BYTES_MAX,
					 RIFFLE_FRAME_BYTES_MAX + 1,
					 2 * RIFFLE_FRAME_BYTES_MAX,
					 2 * RIFFLE_FRAME_BYTES_MAX + 4096};
	ZSTD_CCtx *zstd = ZSTD_createCCtx();
	unsigned kept[2] = {0}, shrunk[2] = {0};

	(void)state;
	ZSTD_CCtx_setParameter(zstd, ZSTD_c_compressionLevel, 15);
	for (unsigned i = 0; i < 2 * (sizeof sizes / sizeof *sizes + 64); i++) {
		bool lz4 = i % 2;
		uint32_t bytes = i / 2 < 64 ? 2000 : sizes[i / 2 - 64], done = 0, pieces, at;
		uint64_t stored_bytes, s = 99;
		struct riffle_error error;
		uint8_t *stored;

		/* in the first 64, what cannot be compressed grows from a half to nearly all */
		memset(plan, 0, sizeof plan);
		for (uint32_t k = 0; k < (i / 2 < 64 ? 1000 + i / 2 * 16 : bytes / 3); k++)
			plan[k] = (uint8_t)random_number(&s);
		assert_int_equal(frames_store_plan(&stored, &stored_bytes, plan, bytes,
						   lz4 ? RIFFLE_COMPRESSION_LZ4 : RIFFLE_COMPRESSION_ZSTD, &error),
				 0);
		pieces = (bytes + RIFFLE_FRAME_BYTES_MAX - 1) / RIFFLE_FRAME_BYTES_MAX;
		at = pieces * 4;
		for (uint32_t k = 0; k < pieces; k++) {
			uint32_t left = bytes - done,
				 piece = left < RIFFLE_FRAME_BYTES_MAX ? left : RIFFLE_FRAME_BYTES_MAX,
				 of = riffle_get32(stored + 4 * k), n;

			n = lz4 ? (uint32_t)LZ4_compress_HC((const char *)plan + done, (char *)packed, (int)piece,
							    sizeof packed, LZ4HC_CLEVEL_MAX)
				: (uint32_t)ZSTD_compress2(zstd, packed, sizeof packed, plan + done, piece);
			if (n > (lz4 ? piece - piece / 4 - 1 : piece - 1) || piece < 2)
				n = piece;
			assert_int_equal(of, n);
			if (of == piece) {
				assert_memory_equal(stored + at, plan + done, piece);
				kept[lz4]++;
			} else {
				if (lz4)
					assert_int_equal(LZ4_decompress_safe((char *)stored + at, (char *)back, (int)of,
									     sizeof back),
							 piece);
				else
					assert_int_equal(ZSTD_decompress(back, sizeof back, stored + at, of), piece);
				assert_memory_equal(back, plan + done, piece);
				shrunk[lz4]++;
			}
			at += of;
			done += piece;
		}
		assert_int_equal(stored_bytes, at);
		free(stored);
	}
	for (unsigned i = 0; i < 2; i++)
		assert_true(kept[i] && shrunk[i] > 10);
	ZSTD_freeCCtx(zstd);
}

/* Any extents, cut at any places: frames fill the extents, and end where they must and nowhere else. */
static void test_frames_end_at_each_cut(void **state)
{
	static struct plan_areas areas;
	uint64_t s = 4711;

	(void)state;
	for (unsigned round = 0; round < 100; round++) {
		struct riffle_extent extents[6];
		struct stored_frames frames;
		struct riffle_error error;
		uint32_t at = 0, next = 0;

		areas.count = round % 12;
		for (unsigned i = 0; i < areas.count; i++, at += (uint32_t)(random_number(&s) % 0x60000)) {
			areas.area[i].start = at;
			areas.area[i].end = at += (uint32_t)(random_number(&s) % 0x60000);
		}
		at = 0;
		for (unsigned i = 0; i < 6; i++) {
			/* some start or end at a cut */
			at += (uint32_t)(random_number(&s) % 0x30000);
			if (i < areas.count && areas.area[i].start > at)
				at = areas.area[i].start;
			extents[i].image_offset = at;
			extents[i].bytes = 1 + (uint32_t)(random_number(&s) % 0x110000);
			at += extents[i].bytes;
		}
		assert_int_equal(frames_cut(&frames, extents, 6, &areas, &(struct encoded){0}, &error), 0);
		for (unsigned i = 0; i < 6; i++) {
			uint32_t end = extents[i].image_offset + extents[i].bytes;

			for (uint32_t start = extents[i].image_offset; start < end; next++) {
				uint32_t stop = end;

				if (stop - start > RIFFLE_FRAME_BYTES_MAX)
					stop = start + RIFFLE_FRAME_BYTES_MAX;
				if (stop > start / 0x200000 * 0x200000 + 0x200000)
					stop = start / 0x200000 * 0x200000 + 0x200000;
				for (unsigned k = 0; k < areas.count; k++) {
					if (areas.area[k].start > start && areas.area[k].start < stop)
						stop = areas.area[k].start;
					if (areas.area[k].end > start && areas.area[k].end < stop)
						stop = areas.area[k].end;
				}
				assert_true(next < frames.count);
				assert_int_equal(frames.frame[next].image_offset, start);
				assert_int_equal(frames.frame[next].bytes, stop - start);
				start = stop;
			}
		}
		assert_int_equal(frames.count, next);
		frames_free(&frames);
	}
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
	    TEST(test_every_byte_counts),
	    TEST(test_fields_and_areas_keep_their_pages),
	    TEST(test_many_extents),
	    TEST(test_geometry_limits),
	    cmocka_unit_test(test_pieces_that_do_not_shrink_are_stored),
	    cmocka_unit_test(test_frames_end_at_each_cut),
	};

	return cmocka_run_group_tests_name("analysis", tests, NULL, NULL);
}

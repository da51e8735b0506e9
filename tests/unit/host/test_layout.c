/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Layout files: layouts survive a round trip, addresses map to their chunk, and invalid files are refused with a
 * message.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "host/layout_json.h"

#define LINK UINT64_C(0xffffffff81000000)
#define RUNNING UINT64_C(0xffffffff9a000000)
#define IMAGE_BYTES 0x100000u
#define REGIONS 3u
#define CHUNKS 700u

static char directory[] = "/tmp/riffle-layout-XXXXXX";
static uint64_t seed;
static struct riffle_error error;

static uint32_t below(uint32_t bound)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (uint32_t)(seed >> 16) % bound;
}

/* A plan of which only the shape counts: chunks in three regions, the second of one chunk. */
struct sample {
	struct riffle_header header;
	struct riffle_region region[REGIONS];
	struct riffle_chunk chunk[CHUNKS];
	struct riffle_plan plan;
	uint16_t order[CHUNKS];
	struct riffle_layout layout;
};

static void make_sample(struct sample *s)
{
	static const uint32_t count[REGIONS] = {300, 1, CHUNKS - 301};
	uint32_t at = 0x1000, chunk = 0;

	memset(s, 0, sizeof *s);
	s->header = (struct riffle_header){.link_phys = 0x1000000, .link_virt = LINK, .image_bytes = IMAGE_BYTES};
	strcpy(s->header.kernel_version, "6.1.0 \"test\"");
	s->header.build_id_bytes = 20;
	memset(s->header.build_id, 0xab, 20);
	memset(s->header.content_digest, 0x12, sizeof s->header.content_digest);
	memset(s->header.source_digest, 0x34, sizeof s->header.source_digest);
	s->header.shuffle_checksum = 0x56789abcdef;
	for (uint32_t r = 0; r < REGIONS; r++) {
		s->region[r] =
		    (struct riffle_region){.image_offset = at, .first_chunk = chunk, .chunk_count = count[r]};
		for (uint32_t i = 0; i < count[r]; i++, chunk++) {
			s->chunk[chunk].image_offset = at;
			s->chunk[chunk].units = (uint16_t)(1 + below(20));
			s->order[chunk] = (uint16_t)chunk;
			at += riffle_chunk_bytes(&s->chunk[chunk]);
		}
		s->region[r].bytes = at - s->region[r].image_offset;
		at += 16 * (1 + below(300));
		for (uint32_t i = count[r] - 1; i; i--) {
			uint16_t *a = &s->order[chunk - count[r] + i], *b = &s->order[chunk - count[r] + below(i + 1)];
			uint16_t kept = *a;

			*a = *b;
			*b = kept;
		}
	}
	s->plan = (struct riffle_plan){.header = &s->header,
				       .regions = s->region,
				       .region_count = REGIONS,
				       .chunks = s->chunk,
				       .chunk_count = CHUNKS};
	s->layout = (struct riffle_layout){.mode = RIFFLE_MODE_FGKASLR,
					   .physical_base = 0x5e00000,
					   .virtual_base = RUNNING,
					   .order = s->order,
					   .order_count = CHUNKS};
}

static const char *path_of(const char *name)
{
	static char path[128];

	snprintf(path, sizeof path, "%s/%s", directory, name);
	unlink(path);
	return path;
}

/* Where an image offset moves, by walking the regions in the drawn order. */
static uint32_t moved(const struct sample *s, uint32_t offset)
{
	for (uint32_t r = 0; r < REGIONS; r++) {
		uint32_t at = s->region[r].image_offset;

		for (uint32_t i = 0; i < s->region[r].chunk_count; i++) {
			const struct riffle_chunk *c = &s->chunk[s->order[s->region[r].first_chunk + i]];

			if (offset >= c->image_offset && offset - c->image_offset < riffle_chunk_bytes(c))
				return at + offset - c->image_offset;
			at += riffle_chunk_bytes(c);
		}
	}
	return offset;
}

static void expect_addresses(const struct layout_file *file, const struct sample *s)
{
	uint64_t link, address;

	for (uint32_t offset = 0; offset < IMAGE_BYTES; offset += 8) {
		assert_true(layout_file_from_link(file, LINK + offset, &address));
		assert_int_equal(address, RUNNING + moved(s, offset));
		assert_true(layout_file_to_link(file, address, &link));
		assert_int_equal(link, LINK + offset);
	}
	assert_false(layout_file_to_link(file, RUNNING - 1, &link));
	assert_false(layout_file_to_link(file, RUNNING + IMAGE_BYTES, &link));
	assert_false(layout_file_to_link(file, LINK, &link));
	assert_false(layout_file_from_link(file, LINK - 1, &address));
	assert_false(layout_file_from_link(file, LINK + IMAGE_BYTES, &address));
}

static void test_round_trip(void **state)
{
	static struct sample s;
	struct layout_file told, read;
	uint16_t order[CHUNKS];
	const char *path = path_of("layout");
	struct stat st;

	(void)state;
	make_sample(&s);
	assert_int_equal(layout_file_describe(&told, &s.layout, &s.plan, &error), 0);
	expect_addresses(&told, &s);
	assert_int_equal(layout_file_write(path, &told, &error), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(layout_file_read(path, &read, &error), 0);
	assert_int_equal(read.layout.mode, RIFFLE_MODE_FGKASLR);
	assert_int_equal(read.layout.physical_base, 0x5e00000);
	assert_string_equal(read.kernel_version, "6.1.0 \"test\"");
	assert_string_equal(read.build_id, "abababababababababababababababababababab");
	expect_addresses(&read, &s);
	assert_int_equal(layout_file_order(&read, &s.plan, order, &error), 0);
	assert_memory_equal(order, s.order, sizeof order);
	assert_string_equal(read.content_digest, told.content_digest);
	assert_string_equal(read.source_digest, told.source_digest);
	assert_string_equal(read.shuffle_checksum, "0000056789abcdef");
	layout_file_free(&read);
	layout_file_free(&read); /* once more does no harm */

	/* neither over a file nor through a link */
	assert_int_equal(layout_file_write(path, &told, &error), RIFFLE_ERR_IO);
	path = path_of("link");
	assert_int_equal(symlink("nowhere", path), 0);
	assert_int_equal(layout_file_write(path, &told, &error), RIFFLE_ERR_IO);
	layout_file_free(&told);
}

static const struct riffle_block blocks[] = {
    {.image_offset = 0, .align = 2 << 20, .gaps = 1},
    {.image_offset = 0x60000, .align = 16384, .gaps = 512},
    {.image_offset = 0x80000, .align = 4096, .gaps = 512},
    {.image_offset = 0xc0000, .align = 4096, .gaps = 512},
};
static const uint32_t slides[] = {0, 0x8000, 0x8000, 0x14000};
#define BLOCKS 4u

static void slide(struct sample *s)
{
	s->plan.blocks = blocks;
	s->plan.block_count = s->layout.slide_count = BLOCKS;
	memcpy(s->layout.slide, slides, sizeof slides);
}

static uint32_t slid(uint32_t offset)
{
	uint32_t b = BLOCKS - 1;

	while (offset < blocks[b].image_offset)
		b--;
	return slides[b];
}

/* Every address of each block is one of the kernel as linked, and none in a gap. */
static void expect_slid(const struct layout_file *file, const struct sample *s)
{
	static const uint32_t gaps[][2] = {{0x60000, 0x68000}, {0xc8000, 0xd4000}};
	uint64_t link, address;

	for (uint32_t offset = 0; offset < IMAGE_BYTES; offset += 8) {
		assert_true(layout_file_from_link(file, LINK + offset, &address));
		assert_int_equal(address, RUNNING + slid(offset) + (s->layout.order ? moved(s, offset) : offset));
		assert_true(layout_file_to_link(file, address, &link));
		assert_int_equal(link, LINK + offset);
	}
	for (unsigned g = 0; g < 2; g++) {
		for (uint32_t at = gaps[g][0]; at < gaps[g][1]; at += 8)
			assert_false(layout_file_to_link(file, RUNNING + at, &link));
		assert_true(layout_file_to_link(file, RUNNING + gaps[g][0] - 1, &link));
		assert_true(layout_file_to_link(file, RUNNING + gaps[g][1], &link));
	}
	assert_true(layout_file_to_link(file, RUNNING + IMAGE_BYTES + 0x14000 - 1, &link));
	assert_int_equal(link, LINK + IMAGE_BYTES - 1);
	assert_false(layout_file_to_link(file, RUNNING + IMAGE_BYTES + 0x14000, &link));
	assert_false(layout_file_from_link(file, LINK + IMAGE_BYTES, &address));
}

static void test_slides(void **state)
{
	struct sample *s = calloc(1, sizeof *s);
	struct layout_file told, read;
	struct riffle_layout layout;

	(void)state;
	for (enum riffle_mode mode = RIFFLE_MODE_KASLR; mode <= RIFFLE_MODE_FGKASLR; mode++) {
		const char *path = path_of("slid");

		make_sample(s);
		slide(s);
		s->layout.mode = mode;
		if (mode == RIFFLE_MODE_KASLR)
			s->layout.order = NULL;
		assert_int_equal(layout_file_describe(&told, &s->layout, &s->plan, &error), 0);
		expect_slid(&told, s);
		assert_int_equal(layout_file_write(path, &told, &error), 0);
		layout_file_free(&told);
		assert_int_equal(layout_file_read(path, &read, &error), 0);
		assert_int_equal(read.layout.mode, mode);
		expect_slid(&read, s);
		layout = (struct riffle_layout){.slide_count = 1};
		assert_int_equal(layout_file_slides(&read, &s->plan, &layout, &error), 0);
		assert_int_equal(layout.slide_count, BLOCKS);
		assert_memory_equal(layout.slide, slides, sizeof slides);
		layout_file_free(&read);
	}
	free(s);
}

/* Blocks that are not the kernel's: fewer, more, or elsewhere. A layout without slides fits every kernel. */
static void test_slides_of_another(void **state)
{
	struct sample *s = calloc(1, sizeof *s);
	struct riffle_layout layout = {0};
	struct riffle_block other[BLOCKS];
	struct layout_file told;

	(void)state;
	make_sample(s);
	slide(s);
	assert_int_equal(layout_file_describe(&told, &s->layout, &s->plan, &error), 0);
	for (uint32_t count = 0; count <= BLOCKS + 1; count++) {
		s->plan.block_count = count;
		assert_int_equal(layout_file_slides(&told, &s->plan, &layout, &error),
				 count == BLOCKS ? 0 : RIFFLE_ERR_FORMAT);
		if (count != BLOCKS)
			assert_int_equal(error.expected, count);
	}
	s->plan.block_count = BLOCKS;
	s->plan.blocks = other;
	for (uint32_t i = 0; i < BLOCKS; i++) {
		memcpy(other, blocks, sizeof blocks);
		other[i].image_offset += 4096;
		assert_int_equal(layout_file_slides(&told, &s->plan, &layout, &error), RIFFLE_ERR_FORMAT);
		assert_string_equal(error.field, "slides");
		assert_int_equal(error.found, i);
	}
	told.layout.slide_count = 0;
	assert_int_equal(layout_file_slides(&told, &s->plan, &layout, &error), 0);
	assert_int_equal(layout.slide_count, 0);
	layout_file_free(&told);
	free(s);
}

/* Without a shuffle there are no chunks, and the image moves as a whole. */
static void test_plain(void **state)
{
	static struct sample s;
	struct layout_file told, read;
	const char *path = path_of("plain");
	uint64_t link;

	(void)state;
	make_sample(&s);
	s.layout.mode = RIFFLE_MODE_KASLR;
	assert_int_equal(layout_file_describe(&told, &s.layout, &s.plan, &error), 0);
	assert_int_equal(layout_file_write(path, &told, &error), 0);
	layout_file_free(&told);
	assert_int_equal(layout_file_read(path, &read, &error), 0);
	assert_null(read.chunk);
	assert_int_equal(read.chunk_count, 0);
	assert_true(layout_file_to_link(&read, RUNNING + 0x12345, &link));
	assert_int_equal(link, LINK + 0x12345);
	layout_file_free(&read);
}

/* The same prepared file, or one of the same input with the same chunks. */
static void test_which_kernel(void **state)
{
	static struct sample s;
	struct riffle_header *h = &s.header;
	struct layout_file told;

	(void)state;
	make_sample(&s);
	assert_int_equal(layout_file_describe(&told, &s.layout, &s.plan, &error), 0);
	h->content_digest[31] ^= 1;
	assert_true(layout_file_is_for(&told, h));
	h->shuffle_checksum ^= 1;
	assert_false(layout_file_is_for(&told, h));
	h->shuffle_checksum ^= 1;
	h->source_digest[0] ^= 1;
	assert_false(layout_file_is_for(&told, h));
	h->content_digest[31] ^= 1;
	assert_true(layout_file_is_for(&told, h));
	/* a member missing in an older file equals nothing */
	h->content_digest[31] ^= 1;
	told.source_digest[0] = told.shuffle_checksum[0] = 0;
	assert_false(layout_file_is_for(&told, h));
	layout_file_free(&told);
}

static void test_another_kernels(void **state)
{
	static struct sample s;
	struct layout_file told;
	uint16_t order[CHUNKS];

	(void)state;
	make_sample(&s);
	assert_int_equal(layout_file_describe(&told, &s.layout, &s.plan, &error), 0);
	s.plan.chunk_count--;
	assert_int_equal(layout_file_order(&told, &s.plan, order, &error), RIFFLE_ERR_FORMAT);
	assert_int_equal(error.found, CHUNKS);
	s.plan.chunk_count++;
	s.chunk[400].units += 1;
	assert_int_equal(layout_file_order(&told, &s.plan, order, &error), RIFFLE_ERR_FORMAT);
	assert_int_equal(error.found, 400);
	s.chunk[400].units -= 1;
	s.chunk[0].image_offset -= 16;
	assert_int_equal(layout_file_order(&told, &s.plan, order, &error), RIFFLE_ERR_FORMAT);
	assert_int_equal(error.found, 0);
	layout_file_free(&told);
}

static void read_text(const char *text, enum riffle_status status, const char *field, const char *problem)
{
	struct layout_file file;
	const char *path = path_of("hostile");
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600), got;

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
	got = layout_file_read(path, &file, &error);
	if (got != (int)status)
		fail_msg("%s: %d instead of %d", text, got, status);
	if (!got) {
		layout_file_free(&file);
		return;
	}
	if (strcmp(error.field, field) || !strstr(error.problem, problem))
		fail_msg("%s: %s %s", text, error.field, error.problem);
	assert_null(file.chunk);
}

#define ADDRESSES(virtual_base, link_virtual)                                                                          \
	"\"physical_base\":\"0x5e00000\",\"virtual_base\":\"" virtual_base "\",\"link_physical\":\"0x1000000\","       \
	"\"link_virtual\":\"" link_virtual "\","
#define USUAL ADDRESSES("0xffffffff9a000000", "0xffffffff81000000")
#define SHUFFLED(rows) "{\"riffle_layout\":1,\"mode\":\"fgkaslr\"," USUAL "\"image_bytes\":4096,\"chunks\":" rows "}"

#define SLID_AT(mode, base, rows)                                                                                      \
	"{\"riffle_layout\":1,\"mode\":\"" mode "\"," ADDRESSES(base, "0xffffffff81000000") "\"image_bytes\":65536,"   \
											    "\"slides\":" rows "}"
#define SLID(rows) SLID_AT("kaslr+slide", "0xffffffff9a000000", rows)

static void test_hostile_slides(void **state)
{
	static const struct {
		const char *text, *field, *problem;
	} cases[] = {
	    {"{\"riffle_layout\":1,\"mode\":\"kaslr+slide\"," USUAL "\"image_bytes\":65536}", "slides", "missing"},
	    {SLID("null"), "slides", "missing"},
	    {SLID("7"), "slides", "missing"},
	    {SLID("{\"0\":[0,0],\"1\":[4096,0]}"), "slides", "missing"},
	    {SLID("[]"), "slides", "too few"},
	    {SLID("[[0,0]]"), "slides", "too few"},
	    {SLID("[[0,0],[16,0],[32,0],[48,0],[64,0],[80,0],[96,0],[112,0],[128,0]]"), "slides", "too many"},
	    {SLID("[0,4096]"), "slides", "pairs"},
	    {SLID("[[0,0],4096]"), "slides", "pairs"},
	    {SLID("[[0,0],[4096]]"), "slides", "pairs"},
	    {SLID("[[0,0],[4096,0,0]]"), "slides", "pairs"},
	    {SLID("[[0,0],[\"4096\",0]]"), "slides", "pairs"},
	    {SLID("[[0,0],[4096,\"0\"]]"), "slides", "pairs"},
	    {SLID("[[0,0],[4096.5,0]]"), "slides", "pairs"},
	    {SLID("[[0,0],[4096,0.5]]"), "slides", "pairs"},
	    {SLID("[[0,0],[4096,null]]"), "slides", "pairs"},
	    {SLID("[[4096,0],[8192,0]]"), "slides", "overlap"},
	    {SLID("[[0,4096],[8192,4096]]"), "slides", "overlap"},
	    {SLID("[[0,0],[0,0]]"), "slides", "overlap"},
	    {SLID("[[0,0],[-4096,0]]"), "slides", "overlap"},
	    {SLID("[[0,0],[4096,-4096]]"), "slides", "overlap"},
	    {SLID("[[0,0],[65536,0]]"), "slides", "overlap"},
	    {SLID("[[0,0],[9223372036854775807,0]]"), "slides", "overlap"},
	    {SLID("[[0,0],[4294971392,0]]"), "slides", "overlap"}, /* 4096 in 32 bits */
	    {SLID("[[0,0],[4096,67108865]]"), "slides", "overlap"},
	    {SLID("[[0,0],[4096,4294967296]]"), "slides", "overlap"},
	    {SLID("[[0,0],[4096,9223372036854775807]]"), "slides", "overlap"},
	    {SLID("[[0,0],[4096,99999999999999999999]]"), "layout file", "not JSON"},
	    {SLID("[[0,0],[8192,4096],[8192,4096]]"), "slides", "overlap"},
	    {SLID("[[0,0],[8192,4096],[4096,8192]]"), "slides", "overlap"},
	    {SLID("[[0,0],[4096,8192],[8192,4096]]"), "slides", "overlap"},
	    {SLID_AT("off+slide", "0xffffffff9a000000", "[[0,0],[4096,0]]"), "mode", "not known"},
	    {SLID_AT("physical+slide", "0xffffffff9a000000", "[[0,0],[4096,0]]"), "mode", "not known"},
	    {SLID_AT("kaslr+slides", "0xffffffff9a000000", "[[0,0],[4096,0]]"), "mode", "not known"},
	    {SLID_AT("fgkaslr+slide", "0xffffffff9a000000", "[[0,0],[4096,0]]"), "chunks", "missing"},
	    {SLID_AT("kaslr+slide", "0xffffffffffe00000", "[[0,0],[4096,2031616]]"), "image_bytes", "past the end"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		read_text(cases[i].text, RIFFLE_ERR_FORMAT, cases[i].field, cases[i].problem);
	read_text(SLID("[[0,0],[4096,67108864]]"), RIFFLE_OK, "", "");
	read_text(SLID("[[0,0],[1,0],[65535,7]]"), RIFFLE_OK, "", "");
	read_text(SLID("[[0,0],[16,0],[32,0],[48,0],[64,0],[80,0],[96,0],[112,0]]"), RIFFLE_OK, "", "");
	read_text(SLID_AT("kaslr+slide", "0xffffffffffe00000", "[[0,0],[4096,2031615]]"), RIFFLE_OK, "", "");
	/* no slides in this mode: what is said of them does not matter */
	read_text(SLID_AT("kaslr", "0xffffffff9a000000", "7"), RIFFLE_OK, "", "");
}

static void test_hostile(void **state)
{
	static const struct {
		const char *text, *field, *problem;
	} cases[] = {
	    {"", "layout file", "not JSON"},
	    {"[]", "riffle_layout", "is not 1"},
	    {"{\"riffle_layout\":2}", "riffle_layout", "is not 1"},
	    {"{\"riffle_layout\":1,\"riffle_layout\":1}", "layout file", "not JSON"},
	    {"{\"riffle_layout\":1,\"mode\":\"some\"}", "mode", "not known"},
	    {"{\"riffle_layout\":1,\"mode\":\"kaslr\"}", "physical_base", "missing"},
	    {"{\"riffle_layout\":1,\"mode\":\"kaslr\"," USUAL "\"image_bytes\":\"4096\"}", "image_bytes", "positive"},
	    {"{\"riffle_layout\":1,\"mode\":\"kaslr\"," USUAL "\"image_bytes\":-1}", "image_bytes", "positive"},
	    {"{\"riffle_layout\":1,\"mode\":\"kaslr\"," USUAL "\"image_bytes\":1073741825}", "image_bytes", "1 GiB"},
	    {"{\"riffle_layout\":1,\"mode\":\"kaslr\"," ADDRESSES("0xffffffffffffffff", "0x0") "\"image_bytes\":4096}",
	     "image_bytes", "past the end"},
	    {"{\"riffle_layout\":1,\"mode\":\"kaslr\"," ADDRESSES("0x0", "0xffffffffffffffff") "\"image_bytes\":4096}",
	     "image_bytes", "past the end"},
	    {"{\"riffle_layout\":1,\"mode\":\"kaslr\"," ADDRESSES("81000000", "0x0") "\"image_bytes\":4096}",
	     "virtual_base", "0x"},
	    {"{\"riffle_layout\":1,\"mode\":\"fgkaslr\"," USUAL "\"image_bytes\":4096}", "chunks", "missing"},
	    {SHUFFLED("[]"), "chunks", "missing"},
	    {SHUFFLED("{\"0\":[0,16,0]}"), "chunks", "missing"},
	    {SHUFFLED("[16]"), "chunks", "three numbers"},
	    {SHUFFLED("[[0,16]]"), "chunks", "three numbers"},
	    {SHUFFLED("[[0,16,0,0]]"), "chunks", "three numbers"},
	    {SHUFFLED("[[0,16,\"0\"]]"), "chunks", "three numbers"},
	    {SHUFFLED("[[0,16,0.5]]"), "chunks", "three numbers"},
	    {SHUFFLED("[[0,16,99999999999999999999]]"), "layout file", "not JSON"},
	    {SHUFFLED("[[0,0,0]]"), "chunks", "outside"},
	    {SHUFFLED("[[0,-16,0]]"), "chunks", "outside"},
	    {SHUFFLED("[[-16,16,16]]"), "chunks", "outside"},
	    {SHUFFLED("[[0,4097,0]]"), "chunks", "outside"},
	    {SHUFFLED("[[4096,16,-16]]"), "chunks", "outside"},
	    {SHUFFLED("[[9223372036854775807,9223372036854775807,0]]"), "chunks", "outside"},
	    {SHUFFLED("[[0,9223372036854775807,0]]"), "chunks", "outside"},
	    {SHUFFLED("[[16,16,-9223372036854775807]]"), "chunks", "outside"},
	    {SHUFFLED("[[16,16,9223372036854775807]]"), "chunks", "outside"},
	    {SHUFFLED("[[16,16,-32]]"), "chunks", "outside"},
	    {SHUFFLED("[[0,16,4096]]"), "chunks", "outside"},
	    {SHUFFLED("[[0,32,0],[16,16,0]]"), "chunks", "overlap"},
	    {SHUFFLED("[[32,16,0],[0,16,0]]"), "chunks", "overlap"},
	    /* two at one place; one over half of another; into a place that none left; out of a fixed hole */
	    {SHUFFLED("[[0,16,16],[16,16,0]]"), "chunks", "fill the places"},
	    {SHUFFLED("[[0,32,16],[32,16,-16]]"), "chunks", "fill the places"},
	    {SHUFFLED("[[0,16,64],[16,16,-16]]"), "chunks", "fill the places"},
	    {SHUFFLED("[[0,16,32],[64,16,-64]]"), "chunks", "fill the places"},
	    {SHUFFLED("[[0,16,1],[16,16,-16]]"), "chunks", "fill the places"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		read_text(cases[i].text, RIFFLE_ERR_FORMAT, cases[i].field, cases[i].problem);
	read_text(SHUFFLED("[[0,16,0]]"), RIFFLE_OK, "", "");
	read_text(SHUFFLED("[[0,16,32],[16,32,-16]]"), RIFFLE_OK, "", "");
	read_text(SHUFFLED("[[0,16,4080],[4080,16,-4080]]"), RIFFLE_OK, "", "");
	/* members of later versions, and chunks without a shuffle, are ignored */
	read_text("{\"riffle_layout\":1,\"mode\":\"off\",\"new\":{}," USUAL "\"chunks\":7,\"image_bytes\":4096}",
		  RIFFLE_OK, "", "");
}

/* A row for each chunk that 16 bits can number, and one more. */
static void test_too_many(void **state)
{
	static char text[65535 * 20 + 400];
	char *at = text;

	(void)state;
	at += sprintf(at, "{\"riffle_layout\":1,\"mode\":\"fgkaslr\"," USUAL "\"image_bytes\":1048576,\"chunks\":[");
	for (unsigned i = 0; i < RIFFLE_CHUNKS_MAX; i++)
		at += sprintf(at, "%s[%u,16,0]", i ? "," : "", 16 * i);
	strcpy(at, "]}");
	read_text(text, RIFFLE_ERR_FORMAT, "chunks", "too many");
	*strrchr(text, ',') = ' '; /* not JSON any more, in the last row */
	read_text(text, RIFFLE_ERR_FORMAT, "layout file", "not JSON");
}

static int remove_directory(void **state)
{
	static const char *const names[] = {"layout", "link", "plain", "hostile", "slid"};

	(void)state;
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		path_of(names[i]);
	return rmdir(directory);
}

/* Opening a FIFO without a writer would block forever. */
static void test_odd_files(void **state)
{
	struct layout_file file;
	char path[64];

	(void)state;
	snprintf(path, sizeof path, "%s/fifo", directory);
	assert_int_equal(mkfifo(path, 0600), 0);
	alarm(20);
	assert_int_equal(layout_file_read(path, &file, &error), RIFFLE_ERR_FORMAT);
	assert_string_equal(error.problem, "is not a regular file");
	assert_int_equal(layout_file_read(directory, &file, &error), RIFFLE_ERR_FORMAT);
	assert_int_equal(layout_file_read("/dev/zero", &file, &error), RIFFLE_ERR_FORMAT);
	alarm(0);
	unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_round_trip),        cmocka_unit_test(test_plain),
	    cmocka_unit_test(test_which_kernel),      cmocka_unit_test(test_another_kernels),
	    cmocka_unit_test(test_hostile),           cmocka_unit_test(test_too_many),
	    cmocka_unit_test(test_odd_files),         cmocka_unit_test(test_slides),
	    cmocka_unit_test(test_slides_of_another), cmocka_unit_test(test_hostile_slides),
	};
	const char *given = getenv("RIFFLE_SEED");

	seed = given ? strtoull(given, NULL, 0) | 1 : (uint64_t)time(NULL) << 1 | 1;
	print_message("RIFFLE_SEED=%" PRIu64 "\n", seed);
	if (!mkdtemp(directory))
		return 1;
	return cmocka_run_group_tests_name("layout", tests, NULL, remove_directory);
}

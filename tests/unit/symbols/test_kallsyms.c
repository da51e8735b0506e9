/* SPDX-License-Identifier: Apache-2.0 */
/* kallsyms tables of every format are found and read to the last symbol; broken ones are refused safely. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "kallsyms_builder.h"
#include "prepare/symbols/kallsyms.h"
#include "prepare/symbols/symbols.h"

static struct kallsyms_image image;
static struct riffle_error error;

static int read_image(struct symbols *symbols, const uint8_t *bytes, size_t count)
{
	symbols_init(symbols, LINK_VIRTUAL, LINK_VIRTUAL + IMAGE_BYTES);
	return symbols_from_kallsyms(symbols, bytes, count, &error);
}

static void check_all(const struct kallsyms_format *format, const struct symbols *symbols)
{
	uint32_t first = format->addresses == PERCPU_ZERO ? PERCPU_SYMBOLS : 0;
	struct symbol_place place;
	char name[512];

	assert_int_equal(symbols->count, image.count - first);
	for (uint32_t i = first; i < image.count; i++) {
		uint64_t address = kallsyms_address(format, i);
		uint64_t next = i + 1 < image.count ? kallsyms_address(format, i + 1) : LINK_VIRTUAL + IMAGE_BYTES;

		kallsyms_name(name, format, i);
		assert_true(symbols_find(&place, symbols, address + 3));
		assert_string_equal(place.name, name + 1);
		assert_int_equal(place.offset, 3);
		assert_int_equal(place.bytes, next - address);
	}
}

static void test_every_format(void **state)
{
	static const uint32_t counts[] = {10, 255, 256, 257, 3000};
	struct symbols symbols;

	(void)state;
	for (size_t f = 0; f < KALLSYMS_FORMATS; f++)
		for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
			kallsyms_build(&image, &kallsyms_formats[f], counts[c], 0x4000 + f * 0x1238);
			if (read_image(&symbols, image.bytes, IMAGE_BYTES)) {
				fail_msg("%s, %u symbols: %s", kallsyms_formats[f].name, counts[c], error.problem);
				return;
			}
			check_all(&kallsyms_formats[f], &symbols);
			symbols_free(&symbols);
		}
}

static void check_place(const struct kallsyms_place *place, const struct kallsyms_format *format)
{
	assert_int_equal(place->count, image.count);
	assert_int_equal(place->num_syms, image.num_syms);
	assert_int_equal(place->offsets, image.offsets);
	assert_int_equal(place->names, image.names);
	if (image.count > 256) /* a single marker is 0, as the padding before it is */
		assert_int_equal(place->markers, image.markers);
	assert_true(place->names + place->names_bytes <= image.markers &&
		    place->names + place->names_bytes + 8 > image.markers);
	assert_int_equal(place->seqs, image.seqs);
	assert_int_equal(place->tokens, image.token_table);
	assert_int_equal(place->tokens + place->tokens_bytes, image.token_index + 512);
	assert_int_equal(place->self_relative, format->addresses == SELF);
	assert_int_equal(place->absolute_percpu, format->addresses == PERCPU_ZERO);
	assert_int_equal(place->relative_base, format->addresses == SELF ? 0 : LINK_VIRTUAL);
}

struct expected {
	const struct kallsyms_format *format;
	uint32_t count;
};

static void check_symbol(void *opaque, uint64_t address, char type, const char *text)
{
	struct expected *e = opaque;
	char name[512];

	kallsyms_name(name, e->format, e->count);
	assert_int_equal(type, name[0]);
	assert_string_equal(text, name + 1);
	assert_true(address == kallsyms_address(e->format, e->count));
	e->count++;
}

static void count_symbol(void *opaque, uint64_t address, char type, const char *text)
{
	(void)address;
	(void)type;
	*(size_t *)opaque += strlen(text);
}

/* where each table is, and all symbols with their types, percpu ones too */
static void test_places_and_list(void **state)
{
	static const uint32_t counts[] = {10, 256, 3000};
	struct kallsyms_place place;
	char *names;

	(void)state;
	for (size_t f = 0; f < KALLSYMS_FORMATS; f++)
		for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
			const struct kallsyms_format *format = &kallsyms_formats[f];

			kallsyms_build(&image, format, counts[c], 0x4000 + f * 0x1238);
			assert_int_equal(kallsyms_find(&place, image.bytes, IMAGE_BYTES, LINK_VIRTUAL, &error), 0);
			check_place(&place, format);
			struct expected expected = {format, 0};

			assert_int_equal(kallsyms_read(&names, &place, image.bytes, IMAGE_BYTES, LINK_VIRTUAL,
						       check_symbol, &expected, &error),
					 0);
			assert_int_equal(expected.count, counts[c]);
			free(names);
		}
}

/* an order by name that names a symbol twice, or one that is not there */
static void test_broken_seqs(void **state)
{
	struct kallsyms_place place;

	(void)state;
	for (size_t f = 0; f < KALLSYMS_FORMATS; f++) {
		if (!kallsyms_formats[f].seqs)
			continue;
		for (unsigned wrong = 1; wrong < 256; wrong += 254) {
			kallsyms_build(&image, &kallsyms_formats[f], 300, 0x4000);
			image.bytes[image.seqs + 3 * 40 + (wrong == 1 ? 2 : 0)] ^= (uint8_t)wrong;
			assert_int_equal(kallsyms_find(&place, image.bytes, IMAGE_BYTES, LINK_VIRTUAL, &error),
					 RIFFLE_ERR_FORMAT);
			assert_string_equal(error.field, "kallsyms_seqs_of_names");
		}
	}
}

/* tables at the very start and the very end of an image */
static void test_at_the_edges(void **state)
{
	struct symbols symbols;
	uint8_t *exact;

	(void)state;
	for (size_t f = 0; f < KALLSYMS_FORMATS; f++) {
		kallsyms_build(&image, &kallsyms_formats[f], 700, 0);
		exact = malloc(image.end);
		assert_non_null(exact);
		memcpy(exact, image.bytes, image.end);
		assert_int_equal(read_image(&symbols, exact, image.end), RIFFLE_OK);
		check_all(&kallsyms_formats[f], &symbols);
		symbols_free(&symbols);
		free(exact);
	}
}

static void expect_none(const uint8_t *bytes, size_t count)
{
	struct symbols symbols;

	assert_int_equal(read_image(&symbols, bytes, count), RIFFLE_ERR_FORMAT);
	assert_string_equal(error.field, "kallsyms");
	symbols_free(&symbols);
}

static void test_none(void **state)
{
	static uint8_t zero[65536];

	(void)state;
	expect_none(zero, sizeof zero);
	expect_none(zero, 0);
	expect_none(zero, 511);
	/* rising numbers without strings */
	for (unsigned i = 0; i < 32768; i++)
		riffle_put16(zero + i * 2, (uint16_t)i);
	expect_none(zero, sizeof zero);
}

/* one wrong value in each table that ties the others together */
static void test_broken_tables(void **state)
{
	const struct kallsyms_format *format = &kallsyms_formats[3];

	(void)state;
	kallsyms_build(&image, format, 1000, 0x4000);
	image.bytes[image.num_syms]++;
	expect_none(image.bytes, IMAGE_BYTES);
	kallsyms_build(&image, format, 1000, 0x4000);
	image.bytes[image.names]++;
	expect_none(image.bytes, IMAGE_BYTES);
	kallsyms_build(&image, format, 1000, 0x4000);
	image.bytes[image.markers + 8] ^= 1;
	expect_none(image.bytes, IMAGE_BYTES);
	kallsyms_build(&image, format, 1000, 0x4000);
	image.bytes[image.token_index + 300] ^= 1;
	expect_none(image.bytes, IMAGE_BYTES);
	kallsyms_build(&image, format, 1000, 0x4000);
	image.bytes[image.token_table + 100] ^= 0xff;
	expect_none(image.bytes, IMAGE_BYTES);
	kallsyms_build(&image, format, 1000, 0x4000);
	riffle_put32(image.bytes + image.offsets + 2000, 0x7fffffff); /* no longer ascending */
	expect_none(image.bytes, IMAGE_BYTES);
}

/* How many bytes may lie between the markers and the strings: padding, or an order by name and padding. */
static void test_room_after_markers(void **state)
{
	static const struct {
		size_t format;
		uint32_t bytes_each, bytes; /* for each symbol, and more */
		int status;
	} rows[] = {
	    {6, 0, 0, 0},
	    {6, 0, 15, 0},
	    {6, 0, 16, RIFFLE_ERR_FORMAT},
	    {6, 3, -1u, RIFFLE_ERR_FORMAT},
	    {6, 3, 0, 0},
	    {6, 3, 31, 0},
	    {6, 3, 32, RIFFLE_ERR_FORMAT},
	    {2, 3, 31, 0},
	    {2, 3, 32, RIFFLE_ERR_FORMAT},
	};
	/* two markers and three: each 256th symbol has one */
	static const uint32_t counts[] = {257, 512, 513, 768};
	struct symbols symbols;

	(void)state;
	for (size_t r = 0; r < sizeof rows / sizeof *rows; r++)
		for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
			int status;

			image.has_room = true;
			image.room = rows[r].bytes_each * counts[c] + rows[r].bytes;
			kallsyms_build(&image, &kallsyms_formats[rows[r].format], counts[c], 0x4000);
			image.has_room = false;
			status = read_image(&symbols, image.bytes, IMAGE_BYTES);
			if (status != rows[r].status)
				fail_msg("%u symbols, room of %u: status %d", counts[c], image.room, status);
			if (!status)
				check_all(&kallsyms_formats[rows[r].format], &symbols);
			symbols_free(&symbols);
		}
}

/* Tables that are none, as far as the strings go: each of them makes the search go back to the start of the image. */
static size_t put_decoys(uint8_t *bytes, size_t at, unsigned count)
{
	for (; count; count--) {
		for (unsigned i = 0; i < 256; i++, at += 2)
			memcpy(bytes + at, "a", 2);
		for (unsigned i = 0; i < 256; i++, at += 2)
			riffle_put16(bytes + at, (uint16_t)(i * 2));
	}
	return at;
}

/*
 * The search takes four steps for each byte of the image at most. One from the image's end to its start takes a step
 * for four bytes: after 15 of these real tables are found, after 17 they are not.
 */
static void test_hostile_work(void **state)
{
	static const struct {
		unsigned decoys;
		int status;
	} rows[] = {{0, 0}, {15, 0}, {17, RIFFLE_ERR_FORMAT}, {30, RIFFLE_ERR_FORMAT}};
	const struct kallsyms_format *format = &kallsyms_formats[3];
	const size_t first = IMAGE_BYTES - 0xc000;
	struct symbols symbols;

	(void)state;
	for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
		int status;

		memset(image.bytes, 0, IMAGE_BYTES);
		kallsyms_put(&image, format, 10, put_decoys(image.bytes, first, rows[r].decoys));
		assert_true(image.end <= IMAGE_BYTES);
		status = read_image(&symbols, image.bytes, IMAGE_BYTES);
		if (status != rows[r].status)
			fail_msg("%u decoys: status %d", rows[r].decoys, status);
		if (status)
			assert_string_equal(error.problem, "no such tables in this kernel");
		else
			check_all(format, &symbols);
		symbols_free(&symbols);
	}
}

static void test_cut_short(void **state)
{
	struct symbols symbols;

	(void)state;
	for (size_t f = 0; f < KALLSYMS_FORMATS; f++) {
		kallsyms_build(&image, &kallsyms_formats[f], 40, 0);
		for (size_t bytes = 0; bytes < image.end; bytes += 3) {
			uint8_t *exact = malloc(bytes ? bytes : 1);

			assert_non_null(exact);
			memcpy(exact, image.bytes, bytes);
			if (!read_image(&symbols, exact, bytes)) /* seqs_of_names, the last, are not needed */
				assert_true(!kallsyms_formats[f].offsets_first && bytes >= image.end - 3 * 40);
			symbols_free(&symbols);
			free(exact);
		}
	}
}

/* random damage: whatever the result, there are no invalid accesses (checked by the sanitizers) */
static void test_damage(void **state)
{
	const char *given = getenv("RIFFLE_TEST_SEED");
	uint64_t seed = given ? strtoull(given, NULL, 0) : 20240607, x = seed;
	struct kallsyms_place place;
	struct symbols symbols;
	unsigned read = 0;
	size_t bytes = 0;
	char *names;

	(void)state;
	print_message("seed %llu\n", (unsigned long long)seed);
	for (unsigned round = 0; round < 400; round++) {
		const struct kallsyms_format *format = &kallsyms_formats[round % KALLSYMS_FORMATS];

		kallsyms_build(&image, format, 300, 0);
		for (unsigned i = 0; i < 1 + round % 8; i++) {
			x = x * 6364136223846793005u + 1442695040888963407u;
			image.bytes[(x >> 33) % image.end] = (uint8_t)(x >> 24);
		}
		read += !read_image(&symbols, image.bytes, image.end);
		symbols_free(&symbols);
		if (!kallsyms_find(&place, image.bytes, image.end, LINK_VIRTUAL, &error) &&
		    !kallsyms_read(&names, &place, image.bytes, image.end, LINK_VIRTUAL, count_symbol, &bytes, &error))
			free(names);
	}
	print_message("%u of 400 damaged images were read all the same\n", read);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_places_and_list),
	    cmocka_unit_test(test_broken_seqs),
	    cmocka_unit_test(test_every_format),
	    cmocka_unit_test(test_at_the_edges),
	    cmocka_unit_test(test_none),
	    cmocka_unit_test(test_broken_tables),
	    cmocka_unit_test(test_room_after_markers),
	    cmocka_unit_test(test_hostile_work),
	    cmocka_unit_test(test_cut_short),
	    cmocka_unit_test(test_damage),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

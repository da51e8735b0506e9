/* SPDX-License-Identifier: Apache-2.0 */
/* Scans and copies with wider vectors, on a processor that has them, give exactly the results of the plain ones. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "common/cpu.h"
#include "load/shuffle.h"
#include "plan/scan_loops.h"

enum { LENGTHS = 700 };

static uint64_t next64(void)
{
	static uint64_t state = 0x2545f4914f6cdd1d;

	state ^= state << 13, state ^= state >> 7, state ^= state << 17;
	return state;
}

/* The list ends where its memory does, so that a sanitizer detects an overrun by one entry. */
static void scans_are_the_same(void **state)
{
	(void)state;
	if (!riffle_cpu_has_avx2())
		skip();
	for (uint32_t count = 0; count < LENGTHS; count++) {
		uint32_t *list = malloc(count * sizeof *list + 1);
		uint16_t *targets = malloc(count * sizeof *targets + 1);
		uint8_t *steps = malloc(count + 1);

		for (uint32_t i = 0; i < count; i++) {
			/* with the largest values, equal neighbours and runs of far steps */
			list[i] = next64() % 4 ? (uint32_t)next64() : i ? list[i - 1] : UINT32_MAX;
			targets[i] = (uint16_t)(next64() % (count % 2 ? 65536 : 100));
			steps[i] = next64() % 3 ? RIFFLE_STEP_FAR : (uint8_t)next64();
		}
		assert_int_equal(riffle_scan_descents_avx2(list, count), scan_descents(list, count));
		assert_int_equal(riffle_scan_most_avx2(targets, count), scan_most(targets, count));
		assert_int_equal(riffle_scan_far_avx2(steps, count), scan_far(steps, count));
		assert_true(riffle_scan_checksum_avx2(steps, count) == riffle_checksum(steps, count));
		free(list);
		free(targets);
		free(steps);
	}
}

static void scans_count(void **state)
{
	static uint8_t steps[1000];

	(void)state;
	memset(steps, RIFFLE_STEP_FAR, sizeof steps);
	assert_int_equal(riffle_scan_far(steps, sizeof steps), sizeof steps);
	assert_int_equal(riffle_scan_descents((const uint32_t[]){1, 2, 2, 1, 0xffffffff}, 5), 2);
	assert_int_equal(riffle_scan_most((const uint16_t[]){1, 65535, 2}, 3), 65535);
}

typedef void scatter(const struct shuffle_load *s, uint32_t first, uint32_t count, const uint8_t *bytes);

/* Every size of a chunk at every offset in a cache line, in two calls; bytes between chunks are not written. */
static void check_scatter(scatter *of)
{
	enum { CHUNKS = 500, HALF = 201, IMAGE = 1 << 20 };
	static struct riffle_chunk chunk[CHUNKS];
	static int32_t shift[CHUNKS + 1];
	static uint8_t image[IMAGE], expected[IMAGE], bytes[IMAGE];
	const struct riffle_plan plan = {.size = sizeof plan, .chunks = chunk, .chunk_count = CHUNKS};
	struct shuffle_load s = {.load = {.plan = &plan, .image = image}, .shift = shift};
	uint32_t at = 0, to = 0;

	for (uint32_t i = 0; i < CHUNKS; i++) {
		chunk[i].image_offset = at;
		chunk[i].units = (uint16_t)(1 + i % 67);
		at += riffle_chunk_bytes(&chunk[i]);
		to += (uint32_t)(next64() % 9) * 16;
		shift[i] = (int32_t)(to - chunk[i].image_offset);
		to += riffle_chunk_bytes(&chunk[i]);
		assert_true(to <= IMAGE);
	}
	for (uint32_t i = 0; i < IMAGE; i++) {
		bytes[i] = (uint8_t)next64();
		image[i] = expected[i] = (uint8_t)next64();
	}
	for (uint32_t i = 0; i < CHUNKS; i++)
		memcpy(expected + chunk[i].image_offset + shift[i], bytes + chunk[i].image_offset,
		       riffle_chunk_bytes(&chunk[i]));
	of(&s, 0, HALF, bytes);
	of(&s, HALF, CHUNKS - HALF, bytes + chunk[HALF].image_offset);
	assert_memory_equal(image, expected, IMAGE);
}

static void chunks_are_scattered(void **state)
{
	(void)state;
	check_scatter(riffle_shuffle_scatter);
	check_scatter(riffle_shuffle_scatter_plain);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(scans_are_the_same),
	    cmocka_unit_test(scans_count),
	    cmocka_unit_test(chunks_are_scattered),
	};
	return cmocka_run_group_tests_name("scan", tests, NULL, NULL);
}

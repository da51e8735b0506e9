/* SPDX-License-Identifier: Apache-2.0 */
/* The figures that inspect prints about a shuffle, against small cases counted by hand. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cli/commands/chunk_stats.h"

static void expect_near(double a, double b)
{
	if (fabs(a - b) > 1e-6)
		fail_msg("%f instead of %f", a, b);
}

static void test_orders(void **state)
{
	double bits = 0;

	(void)state;
	expect_near(order_bits(0), 0);
	expect_near(order_bits(1), 0);
	for (uint32_t n = 2; n < 3000; n++) {
		bits += log2(n);
		expect_near(order_bits(n), bits);
	}
}

static void test_sums(void **state)
{
	/* three regions: of 1, of 99 and of 2 chunks; sizes 16, 32 … 1632 */
	const struct riffle_region region[] = {
	    {.image_offset = 0x1000, .bytes = 16, .first_chunk = 0, .chunk_count = 1},
	    {.image_offset = 0x2000, .bytes = 80784, .first_chunk = 1, .chunk_count = 99},
	    {.image_offset = 0x20000, .bytes = 3248, .first_chunk = 100, .chunk_count = 2},
	};
	static const uint8_t steps[104] = {[7] = RIFFLE_STEP_FAR, [8] = RIFFLE_STEP_FAR};
	struct riffle_chunk chunk[102];
	const struct riffle_plan plan = {.regions = region,
					 .region_count = 3,
					 .chunks = chunk,
					 .chunk_count = 102,
					 .pc_target_count = 204,
					 .own_steps = steps,
					 .own_step_count = 104,
					 .abs32_ref_count = 1,
					 .abs64_ref_count = 306,
					 .fixed32_count = 7,
					 .fixed64_count = 9};
	struct chunk_stats s;
	struct riffle_error error;

	(void)state;
	for (unsigned i = 0; i < 102; i++)
		chunk[i] = (struct riffle_chunk){.units = (uint16_t)(1 + (i * 37 + 11) % 102)};
	assert_int_equal(chunk_stats(&s, &plan, &error), 0);
	assert_int_equal(s.chunks, 102);
	assert_int_equal(s.regions, 3);
	assert_int_equal(s.alone, 1);
	assert_int_equal(s.bytes, 16 * 102 * 103 / 2);
	assert_int_equal(s.size[0], 16);
	assert_int_equal(s.size[1], 16 * 51);
	assert_int_equal(s.size[2], 16 * 91);
	assert_int_equal(s.size[3], 16 * 100);
	assert_int_equal(s.size[4], 16 * 102);
	assert_int_equal(s.pc32, 204);
	assert_int_equal(s.abs32, 1);
	assert_int_equal(s.abs64, 306);
	assert_int_equal(s.own32, 102);
	assert_int_equal(s.fixed32, 7);
	assert_int_equal(s.fixed64, 9);
	assert_int_equal(s.largest_chunks, 99);
	assert_int_equal(s.largest_bytes, 80784);
	expect_near(s.order_bits, order_bits(99) + 1);
	expect_near(s.place_bits, (99 * log2(99) + 2 * 1) / 102);
}

static void test_nothing(void **state)
{
	const struct riffle_plan plan = {0};
	struct chunk_stats s;
	struct riffle_error error;

	(void)state;
	assert_int_equal(chunk_stats(&s, &plan, &error), 0);
	assert_int_equal(s.chunks, 0);
	assert_int_equal(bases_left(&s, 10), 0);
}

/* All bases for which some place in the region gives an address, by brute force. */
static void test_bases_left(void **state)
{
	const uint64_t step = 2 << 20;

	(void)state;
	for (uint64_t bytes = 16; bytes < 5 * step; bytes += 16 * 4099) {
		const struct chunk_stats s = {.largest_bytes = bytes};
		uint64_t most = 0;

		for (uint64_t address = 10 * step; address < 11 * step; address += 16 * 1021) {
			uint64_t count = 0;

			for (uint64_t base = 0; base < 20 * step; base += step)
				count += address >= base && address - base < bytes;
			most = count > most ? count : most;
		}
		assert_int_equal(bases_left(&s, 100), most);
		assert_int_equal(bases_left(&s, 1), 1);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_orders),
	    cmocka_unit_test(test_sums),
	    cmocka_unit_test(test_nothing),
	    cmocka_unit_test(test_bases_left),
	};

	return cmocka_run_group_tests_name("chunk-stats", tests, NULL, NULL);
}

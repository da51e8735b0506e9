/* SPDX-License-Identifier: Apache-2.0 */
/* Vector code and its plain counterpart give the same bytes, for every length and alignment, and touch no others. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "load/vector.h"
#include "vector_plain.h"

enum { LENGTHS = 400, MARGIN = 80 };

static uint8_t next_byte(void)
{
	static uint64_t state = 0x9e3779b97f4a7c15;

	state ^= state << 13, state ^= state >> 7, state ^= state << 17;
	return (uint8_t)state;
}

/*
 * Source and destination end exactly where the bytes do, so that a sanitizer detects an overrun; margins detect others.
 */
static void compare(size_t bytes, size_t off_to, size_t off_from, int add, uint32_t number)
{
	uint8_t *from = malloc(off_from + bytes + 1), *to = malloc(off_to + bytes + MARGIN);
	uint8_t *twin = malloc(off_to + bytes + MARGIN), *exact = malloc(bytes + !bytes);

	for (size_t i = 0; i < off_from + bytes; i++)
		from[i] = next_byte();
	for (size_t i = 0; i < off_to + bytes + MARGIN; i++)
		to[i] = twin[i] = next_byte();
	if (add) {
		riffle_copy_add32(to + off_to, from + off_from, (uint32_t)(bytes / 4), number);
		riffle_copy_add32(exact, from + off_from, (uint32_t)(bytes / 4), number);
		plain_add32(twin + off_to, from + off_from, (uint32_t)(bytes / 4), number);
	} else {
		riffle_copy_short(to + off_to, from + off_from, bytes);
		riffle_copy_short(exact, from + off_from, bytes);
		plain_copy(twin + off_to, from + off_from, bytes);
	}
	assert_memory_equal(to, twin, off_to + bytes + MARGIN);
	if (bytes)
		assert_memory_equal(exact, twin + off_to, bytes);
	free(from);
	free(to);
	free(twin);
	free(exact);
}

static void copies_are_the_same(void **state)
{
	(void)state;
	for (size_t bytes = 0; bytes < LENGTHS; bytes++)
		for (size_t off = 0; off < 16; off++)
			compare(bytes, off, (off * 7 + bytes) % 16, 0, 0);
}

static void sums_are_the_same(void **state)
{
	(void)state;
	for (size_t count = 0; count < LENGTHS / 4; count++)
		for (size_t off = 0; off < 16; off++)
			compare(4 * count, off, (off * 5 + count) % 16, 1, (uint32_t)(0xfffff000u + 977 * off));
}

/* Copies in steps give the same, and write at most to the end of their last step. */
static void compare_steps(size_t bytes, size_t off, uint32_t step, int add)
{
	size_t whole = bytes ? (bytes + step - 1) / step * step : step;
	uint8_t *from = malloc(off + whole), *to = malloc(whole), *twin = malloc(whole);

	for (size_t i = 0; i < off + whole; i++)
		from[i] = next_byte();
	if (add) {
		riffle_run_add32(to, from + off, bytes, 0xfffffff0u + step, step);
		plain_add32(twin, from + off, (uint32_t)(bytes / 4), 0xfffffff0u + step);
	} else {
		riffle_run_copy(to, from + off, bytes, step);
		plain_copy(twin, from + off, bytes);
	}
	if (bytes)
		assert_memory_equal(to, twin, bytes);
	free(from);
	free(to);
	free(twin);
}

static void steps_are_the_same(void **state)
{
	(void)state;
	for (size_t bytes = 0; bytes < LENGTHS; bytes++)
		for (size_t off = 0; off < 16; off++) {
			compare_steps(bytes, off, 16, 0);
			compare_steps(bytes, off, 64, 0);
			compare_steps(bytes & ~(size_t)3, off, 16, 1);
			compare_steps(bytes & ~(size_t)3, off, RUN_STEP, 1);
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(steps_are_the_same),
	    cmocka_unit_test(copies_are_the_same),
	    cmocka_unit_test(sums_are_the_same),
	};
	return cmocka_run_group_tests_name("vector", tests, NULL, NULL);
}

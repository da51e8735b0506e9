/* SPDX-License-Identifier: Apache-2.0 */
/* The table of leaks, cell by cell, for a kernel whose fixed code suffices for a chain and one whose does not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cli/commands/leaks.h"

static const struct leak_limits limits = {.base_bits = 9,
					  .shuffles = true,
					  .place_bits = 15,
					  .address_bits = 22,
					  .other_bits = 14,
					  .bases_bits = 2,
					  .kit = false};

static void expect(const struct leak_limits *l, enum leak_mode mode, enum leak leak, double base, double function,
		   double reuse)
{
	struct leak_left left;

	assert_true(leak_left(&left, l, mode, leak));
	if (left.base != base || left.rodata != base || left.data != base || left.function != function ||
	    left.function_reuse != reuse)
		fail_msg("%s, %s: %g %g %g %g %g", leak_mode_name(mode), leak_name(leak), left.base, left.rodata,
			 left.data, left.function, left.function_reuse);
}

static void test_not_shuffled(void **state)
{
	struct leak_limits l = limits;
	struct leak_left left;

	(void)state;
	for (unsigned i = 0; i < LEAKS; i++) {
		expect(&limits, LEAK_MODE_OFF, i, 0, 0, 0);
		expect(&limits, LEAK_MODE_KASLR, i, i == LEAK_NONE ? 9 : 0, i == LEAK_NONE ? 9 : 0,
		       i == LEAK_NONE ? 9 : 0);
	}
	l.shuffles = false;
	assert_false(leak_left(&left, &l, LEAK_MODE_FGKASLR, LEAK_NONE));
	assert_true(leak_left(&left, &l, LEAK_MODE_KASLR, LEAK_NONE));
}

static void test_shuffled(void **state)
{
	struct leak_limits kit = limits;

	(void)state;
	kit.kit = true;
	expect(&limits, LEAK_MODE_FGKASLR, LEAK_NONE, 9, 22, 22);
	expect(&limits, LEAK_MODE_FGKASLR, LEAK_FUNCTION, 2, 14, 14);
	expect(&limits, LEAK_MODE_FGKASLR, LEAK_FIXED, 0, 15, 15);
	expect(&limits, LEAK_MODE_FGKASLR, LEAK_RODATA, 0, 15, 15);
	expect(&limits, LEAK_MODE_FGKASLR, LEAK_DATA, 0, 15, 15);
	expect(&limits, LEAK_MODE_FGKASLR, LEAK_READS, 0, 0, 0);
	expect(&kit, LEAK_MODE_FGKASLR, LEAK_NONE, 9, 22, 9);
	expect(&kit, LEAK_MODE_FGKASLR, LEAK_FUNCTION, 2, 14, 2);
	expect(&kit, LEAK_MODE_FGKASLR, LEAK_FIXED, 0, 15, 0);
	expect(&kit, LEAK_MODE_FGKASLR, LEAK_RODATA, 0, 15, 0);
	expect(&kit, LEAK_MODE_FGKASLR, LEAK_DATA, 0, 15, 0);
	expect(&kit, LEAK_MODE_FGKASLR, LEAK_READS, 0, 0, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_not_shuffled),
	    cmocka_unit_test(test_shuffled),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

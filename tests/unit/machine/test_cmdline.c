/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of a command line that concern the loader, parsed as Linux does. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/gaps_kept.h"
#include "machine/cmdline.h"

#define K UINT64_C(1024)
#define M (K * K)
#define G (K * M)

static void words(void **state)
{
	(void)state;
	assert_true(cmdline_has_word("nokaslr", "nokaslr"));
	assert_true(cmdline_has_word("a nokaslr", "nokaslr"));
	assert_true(cmdline_has_word("a\tnokaslr\nb", "nokaslr"));
	assert_true(cmdline_has_word("  nokaslr  ", "nokaslr"));
	assert_false(cmdline_has_word("nokaslr=1", "nokaslr"));
	assert_false(cmdline_has_word("xnokaslr", "nokaslr"));
	assert_false(cmdline_has_word("nokasl", "nokaslr"));
	assert_false(cmdline_has_word("a,nokaslr", "nokaslr"));
	assert_false(cmdline_has_word("", "nokaslr"));
}

static void expect(const char *line, const struct riffle_range *expected, size_t count)
{
	struct riffle_range ranges[8];
	size_t found = cmdline_reserved(line, ranges, 8);

	if (found != count)
		fail_msg("%s: %zu ranges, expected %zu", line, found, count);
	for (size_t i = 0; i < count; i++)
		if (ranges[i].address != expected[i].address || ranges[i].bytes != expected[i].bytes)
			fail_msg("%s: range %zu is 0x%llx + 0x%llx", line, i, (unsigned long long)ranges[i].address,
				 (unsigned long long)ranges[i].bytes);
}

#define EXPECT(line, ...)                                                                                              \
	do {                                                                                                           \
		const struct riffle_range wanted[] = {__VA_ARGS__};                                                    \
		expect(line, wanted, sizeof wanted / sizeof *wanted);                                                  \
	} while (0)

#define ABOVE(limit)                                                                                                   \
	{                                                                                                              \
		limit, UINT64_MAX - (limit)                                                                            \
	}

static void limits(void **state)
{
	(void)state;
	EXPECT("mem=128M", ABOVE(128 * M));
	EXPECT("mem=0x8000000", ABOVE(128 * M));
	EXPECT("a mem=1g b", ABOVE(G));
	EXPECT("mem=1G mem=512M mem=2G", ABOVE(512 * M)); /* the lowest counts */
	EXPECT("memmap=256M", ABOVE(256 * M));
	EXPECT("mem=131072k", ABOVE(128 * M));
	EXPECT("\"mem=64M\"", ABOVE(64 * M));
	/* what Linux ignores */
	expect("mem=nopentium", NULL, 0);
	expect("mem=0", NULL, 0);
	expect("mem=", NULL, 0);
	expect("mem=-1M", NULL, 0);
	expect("xmem=1M memx=1M mem", NULL, 0);
	expect("quiet -- mem=1M", NULL, 0);
	expect("memmap=", NULL, 0);
}

static void ranges_taken(void **state)
{
	(void)state;
	EXPECT("memmap=300M$100M", {100 * M, 300 * M});
	EXPECT("memmap=16M#0x10000000", {256 * M, 16 * M});
	EXPECT("memmap=1G!4G", {4 * G, G});
	EXPECT("memmap=4K%1M-1+2", {M, 4 * K});
	EXPECT("memmap=1M$2M,3M$8M", {2 * M, M}, {8 * M, 3 * M});
	EXPECT("memmap=1M$2M memmap=3M$8M,1G", {2 * M, M}, {8 * M, 3 * M}, ABOVE(G));
	EXPECT("memmap=16E$1E", {1024 * G * K * K, UINT64_MAX - 1024 * G * K * K}); /* ends at the end */
	/* RAM that is given beside other RAM takes nothing away */
	expect("memmap=1G@4G", NULL, 0);
}

static void exact_maps(void **state)
{
	(void)state;
	EXPECT("memmap=exactmap memmap=64M@16M", {0, 16 * M}, ABOVE(80 * M));
	EXPECT("memmap=exactmap,640K@0,127M@1M", {640 * K, M - 640 * K}, ABOVE(128 * M));
	/* in any order, overlapping; earlier words are discarded */
	EXPECT("memmap=1G@8G memmap=exactmap memmap=64M@96M memmap=128M@0", ABOVE(160 * M));
	EXPECT("memmap=exactmap", ABOVE(0));
}

/* Ranges beyond the limit are not lost: the last range grows to cover them. */
static void too_many(void **state)
{
	struct riffle_range ranges[2];

	(void)state;
	assert_int_equal(cmdline_reserved("memmap=1M$10M,1M$20M,1M$30M,1M$15M mem=1G", ranges, 2), 2);
	assert_int_equal(ranges[0].address, 10 * M);
	assert_int_equal(ranges[1].address, 15 * M);
	assert_true(ranges[1].address + ranges[1].bytes == UINT64_MAX);
	assert_int_equal(cmdline_reserved("mem=1G", ranges, 0), 0);
}

static void gaps_kept(void **state)
{
	static const char *const off[] = {
	    "rodata=off", "rodata=0",           "rodata=n",         "quiet rodata=OFF",
	    "rodata=No",  "rodata=fx",          "rodata=\"off\"",   "a=\"b rodata=1 c\" rodata=0",
	    "rodata=dis", "rodata=on rodata=0", "rodata=0 rodata=?"};
	static const char *const on[] = {
	    "",          "rodata=on", "rodata=1",           "rodata=0 rodata=Y", "xrodata=0",        "rodata=",
	    "rodata=o?", "rodata=?0", "a=\"b rodata=0 c\"", "rodata 0",          "quiet -- rodata=0"};

	(void)state;
	for (size_t i = 0; i < sizeof off / sizeof *off; i++)
		if (!riffle_gaps_are_kept(off[i], strlen(off[i])))
			fail_msg("\"%s\" keeps no gaps", off[i]);
	for (size_t i = 0; i < sizeof on / sizeof *on; i++)
		if (riffle_gaps_are_kept(on[i], strlen(on[i])))
			fail_msg("\"%s\" keeps the gaps", on[i]);
	/* a line whose end is its length's */
	assert_true(riffle_gaps_are_kept("rodata=0 rodata=1", 16));
	assert_false(riffle_gaps_are_kept("rodata=0", 7));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(words),      cmocka_unit_test(limits),   cmocka_unit_test(ranges_taken),
	    cmocka_unit_test(exact_maps), cmocka_unit_test(too_many), cmocka_unit_test(gaps_kept),
	};

	return cmocka_run_group_tests_name("machine command line", tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* What "auto" comes to for a kernel in a guest, and the reasons that it gives. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <riffle/riffle.h>

#include "host/mode.h"

#define MIB (UINT64_C(1) << 20)

static struct riffle_header header;
static struct riffle_plan plan;
static struct riffle_ram ram[2];
static struct riffle_range reserved[2];
static const struct riffle_memory memory = {.ram = ram, .ram_count = 2, .reserved = reserved, .reserved_count = 2};

/* A kernel of 40 MiB with everything, and gaps of up to 20 MiB; a guest whose first MiB is taken. */
static int set_up(void **state)
{
	(void)state;
	header = (struct riffle_header){.flags = RIFFLE_KERNEL_RELOCATABLE,
					.image_bytes = 40 * MIB,
					.link_phys = 16 * MIB,
					.link_virt = UINT64_C(0xffffffff81000000),
					.window_bytes = 1024 * MIB};
	plan = (struct riffle_plan){
	    .header = &header, .chunk_count = 30000, .block_count = 6, .slide_max = (uint32_t)(20 * MIB)};
	reserved[0] = (struct riffle_range){0, MIB};
	reserved[1] = (struct riffle_range){0, 0};
	return 0;
}

static bool slides(uint64_t bytes, uint64_t initrd_bytes)
{
	enum riffle_mode mode;
	bool slide;

	ram[0] = (struct riffle_ram){.bytes = bytes / 2};
	ram[1] = (struct riffle_ram){.address = bytes / 2, .bytes = bytes / 2};
	mode_automatic(&mode, &slide, &plan, &memory, initrd_bytes);
	assert_int_equal(mode, plan.chunk_count ? RIFFLE_MODE_FGKASLR : RIFFLE_MODE_KASLR);
	return slide;
}

static void test_the_strongest_that_the_kernel_allows(void **state)
{
	(void)state;
	assert_true(slides(512 * MIB, 0));
	plan.chunk_count = 0;
	assert_true(slides(512 * MIB, 0));
	plan.block_count = 0;
	assert_false(slides(512 * MIB, 0));
	plan.chunk_count = 30000;
	assert_false(slides(512 * MIB, 0));
}

static void test_gaps_leave_as_much_memory_as_they_take(void **state)
{
	/* kernel, gaps twice, the first MiB */
	const uint64_t least = (40 + 20 + 20 + 1) * MIB;

	(void)state;
	ram[0] = (struct riffle_ram){.bytes = least};
	for (uint64_t more = 0; more < 2; more++) {
		struct riffle_memory one = {.ram = ram, .ram_count = 1, .reserved = reserved, .reserved_count = 2};
		enum riffle_mode mode;
		bool slide;

		ram[0].bytes = least - 4096 + more * 4096;
		mode_automatic(&mode, &slide, &plan, &one, 0);
		assert_int_equal(slide, more);
		/* what lies beside RAM takes nothing of it, and what lies in it does */
		ram[0].bytes = least;
		reserved[1] = (struct riffle_range){least - (more ? 0 : 4096), 8192};
		mode_automatic(&mode, &slide, &plan, &one, 0);
		assert_int_equal(slide, more);
		reserved[1].bytes = 0;
		/* an initrd's contents */
		ram[0].bytes = least + 8 * MIB;
		mode_automatic(&mode, &slide, &plan, &one, 2 * MIB + 1 - more);
		assert_int_equal(slide, more);
	}
}

/* Enough memory, but no piece of it is long enough for the largest gaps. */
static void test_gaps_fit_a_piece_of_memory(void **state)
{
	(void)state;
	assert_false(slides(2 * 58 * MIB, 0));
	assert_true(slides(2 * 78 * MIB, 0));
	/* nor is the window of addresses */
	header.window_bytes = 16 * MIB + 58 * MIB;
	assert_false(slides(512 * MIB, 0));
	header.window_bytes += 2 * MIB;
	assert_true(slides(512 * MIB, 0));
}

static void test_reasons(void **state)
{
	char text[2][MODE_REASON_BYTES];

	(void)state;
	assert_int_equal(mode_reasons(text, RIFFLE_MODE_FGKASLR, true, &plan, NULL), 0);
	assert_int_equal(mode_reasons(text, RIFFLE_MODE_FGKASLR, false, &plan, NULL), 1);
	assert_string_equal(text[0], "this kernel's sections do not slide apart: gaps of up to 20 MiB leave too little "
				     "of the guest's memory to start in");
	assert_int_equal(mode_reasons(text, RIFFLE_MODE_FGKASLR, false, &plan, "it keeps the gaps"), 1);
	assert_string_equal(text[0], "this kernel's sections do not slide apart: it keeps the gaps");
	plan.block_count = 0;
	strcpy(header.no_slides, "table: leads elsewhere");
	assert_int_equal(mode_reasons(text, RIFFLE_MODE_FGKASLR, false, &plan, NULL), 1);
	assert_string_equal(text[0], "this kernel's sections do not slide apart: table: leads elsewhere");
	strcpy(header.no_shuffle, "symbols: are missing");
	assert_int_equal(mode_reasons(text, RIFFLE_MODE_KASLR, false, &plan, NULL), 2);
	assert_string_equal(text[0], "this kernel is not shuffled: symbols: are missing");
	assert_string_equal(text[1], "this kernel's sections do not slide apart: table: leads elsewhere");
	/* the same for both */
	header.no_slides[0] = '\0';
	assert_int_equal(mode_reasons(text, RIFFLE_MODE_KASLR, false, &plan, NULL), 1);
	assert_string_equal(text[0],
			    "this kernel is not shuffled, and its sections do not slide apart: symbols: are missing");
	/* whole, whatever the reason's length */
	memset(header.no_shuffle, 'x', sizeof header.no_shuffle - 1);
	assert_int_equal(mode_reasons(text, RIFFLE_MODE_KASLR, false, &plan, NULL), 1);
	assert_true(strlen(text[0]) > sizeof header.no_shuffle && text[0][strlen(text[0]) - 1] == 'x');
}

/* The order of functions shows in a file that is the guest's to close, unless the load does it. */
static void test_kallsyms(void **state)
{
	(void)state;
	header.features = RIFFLE_FEATURE_SHUFFLE;
	assert_non_null(strstr(mode_kallsyms_stays_open(&plan, RIFFLE_MODE_FGKASLR), "chmod 400 /proc/kallsyms"));
	for (enum riffle_mode mode = RIFFLE_MODE_OFF; mode < RIFFLE_MODE_FGKASLR; mode++)
		assert_null(mode_kallsyms_stays_open(&plan, mode));
	header.features |= RIFFLE_FEATURE_KALLSYMS_MODE;
	assert_null(mode_kallsyms_stays_open(&plan, RIFFLE_MODE_FGKASLR));
}

/* Each mode that the kernel does not allow, with what it allows. */
static void test_refusals(void **state)
{
	char text[MODE_REASON_BYTES];
	struct riffle_error error;

	(void)state;
	memset(&header, 0, sizeof header);
	header.flags = RIFFLE_KERNEL_RELOCATABLE;
	plan.chunk_count = plan.block_count = 1;
	for (int mode = RIFFLE_MODE_OFF; mode <= RIFFLE_MODE_FGKASLR; mode++)
		assert_int_equal(mode_check(text, (enum riffle_mode)mode, mode >= RIFFLE_MODE_KASLR, &plan, &error), 0);
	plan.block_count = 0;
	assert_int_equal(mode_check(text, RIFFLE_MODE_FGKASLR, false, &plan, &error), 0);
	assert_int_equal(mode_check(text, RIFFLE_MODE_KASLR, true, &plan, &error), RIFFLE_ERR_UNSUPPORTED);
	assert_string_equal(error.field, "--randomize=...+slide");
	assert_string_equal(error.problem,
			    "the sections of this kernel cannot slide apart (it was prepared without blocks); "
			    "it can be randomised without +slide");
	plan.chunk_count = 0;
	strcpy(header.no_shuffle, "symbols: are missing");
	assert_int_equal(mode_check(text, RIFFLE_MODE_KASLR, false, &plan, &error), 0);
	assert_int_equal(mode_check(text, RIFFLE_MODE_FGKASLR, true, &plan, &error), RIFFLE_ERR_UNSUPPORTED);
	assert_string_equal(error.field, "--randomize=fgkaslr");
	assert_string_equal(error.problem,
			    "this kernel cannot be shuffled (symbols: are missing); --randomize=kaslr moves it "
			    "as a whole");
	header.flags = 0;
	assert_int_equal(mode_check(text, RIFFLE_MODE_FGKASLR, false, &plan, &error), RIFFLE_ERR_UNSUPPORTED);
	assert_string_equal(error.problem, "this kernel cannot be shuffled (symbols: are missing); without relocations "
					   "--randomize=physical or off is all that it can have");
	assert_int_equal(mode_check(text, RIFFLE_MODE_PHYSICAL, true, &plan, &error), RIFFLE_ERR_UNSUPPORTED);
	assert_string_equal(error.problem, "the sections of this kernel cannot slide apart (symbols: are missing)");
	/* whole, whatever the reason's length */
	memset(header.no_shuffle, 'x', sizeof header.no_shuffle - 1);
	assert_int_equal(mode_check(text, RIFFLE_MODE_FGKASLR, false, &plan, &error), RIFFLE_ERR_UNSUPPORTED);
	assert_string_equal(text + strlen(text) - 3, "ave");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup(test_the_strongest_that_the_kernel_allows, set_up),
	    cmocka_unit_test_setup(test_gaps_leave_as_much_memory_as_they_take, set_up),
	    cmocka_unit_test_setup(test_gaps_fit_a_piece_of_memory, set_up),
	    cmocka_unit_test_setup(test_reasons, set_up),
	    cmocka_unit_test_setup(test_kallsyms, set_up),
	    cmocka_unit_test_setup(test_refusals, set_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

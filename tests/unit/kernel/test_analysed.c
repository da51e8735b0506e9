/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kernels whose shuffle does not fit into a plan are written without one, with the reason, unless a shuffle was
 * required.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include <riffle/plan.h>

#include "kernel/analysed.h"
#include "tests/lib/kernels.h"

#define RANGES_MAX 2100u

struct fixture {
	struct test_kernel kernel;
	struct analysed analysed;
	struct riffle_error error;
	int fd, out;
};

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof *f);
	struct test_kernel_spec spec = test_kernel_spec();

	assert_non_null(f);
	spec.segment_bytes = 0x20000;
	spec.relocs = 4;
	test_kernel_build(&f->kernel, &spec);
	test_bytes_add(&f->kernel.elf, f->kernel.list.at, f->kernel.list.count);
	f->fd = test_file_of(&f->kernel.elf);
	f->out = memfd_create("prepared", MFD_CLOEXEC);
	assert_int_equal(riffle_image_open(&f->analysed.image, f->fd, -1, &f->error), 0);
	f->analysed.shuffle = calloc(1, sizeof *f->analysed.shuffle);
	f->analysed.shuffle->range = calloc(RANGES_MAX, sizeof *f->analysed.shuffle->range);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	analysed_close(&f->analysed);
	test_kernel_free(&f->kernel);
	close(f->fd);
	close(f->out);
	free(f);
	return 0;
}

static void add_range(struct fixture *f, uint32_t bytes, uint8_t pin)
{
	struct shuffle *s = f->analysed.shuffle;
	const struct shuffle_range *last = s->range_count ? &s->range[s->range_count - 1] : NULL;

	assert_true(s->range_count < RANGES_MAX);
	s->range[s->range_count++] =
	    (struct shuffle_range){last ? last->offset + last->bytes : 0x4000, bytes, pin, 1, "f"};
}

static void must_write_without(struct fixture *f, const char *why)
{
	struct riffle_source source;
	struct riffle_plan plan = RIFFLE_PLAN_INIT;

	assert_int_equal(analysed_write(&f->analysed, RIFFLE_COMPRESSION_NONE, f->out, &f->error), 0);
	assert_null(f->analysed.shuffle);
	assert_int_equal(riffle_source_from_fd(&source, f->out, &f->error), 0);
	assert_int_equal(riffle_plan_open(&plan, &source, &f->error), 0);
	assert_int_equal(plan.chunk_count, 0);
	if (strncmp(plan.header->no_shuffle, why, strlen(why)))
		fail_msg("%s", plan.header->no_shuffle);
	riffle_plan_close(&plan);
}

static void test_nothing_moves(void **state)
{
	add_range(*state, 0x1000, SHUFFLE_PIN_UNEXPLAINED);
	must_write_without(*state, "chunks: are none: all of .text is pinned");
}

static void test_too_many_regions(void **state)
{
	for (unsigned i = 0; i <= 1024; i++) {
		add_range(*state, 16, SHUFFLE_PIN_NONE);
		add_range(*state, 16, SHUFFLE_PIN_SECTION);
	}
	must_write_without(
	    *state, "regions: are too many: pinned code is scattered all over .text (found 1025, expected 1024)");
}

static void test_odd_chunk(void **state)
{
	add_range(*state, 24, SHUFFLE_PIN_NONE);
	must_write_without(*state, "chunk: is too long or of no whole number of units");
}

/* The encoder accepts it, but opening the plan fails: the chunks are in no extent. */
static void test_refused_plan(void **state)
{
	struct fixture *f = *state;

	add_range(f, 0x100, SHUFFLE_PIN_NONE);
	f->analysed.shuffle->range[0].offset = (uint32_t)f->analysed.image->image_bytes - 0x100;
	must_write_without(f, "area: does not lie in one extent");
}

/* Slides that make a plan that is refused cost no shuffle. */
static void test_refused_slides(void **state)
{
	struct fixture *f = *state;
	struct shuffle_slides *s = &f->analysed.shuffle->slides;
	struct riffle_source source;
	struct riffle_plan plan = RIFFLE_PLAN_INIT;

	add_range(f, 0x100, SHUFFLE_PIN_NONE);
	f->analysed.must_shuffle = true;
	s->block[0] = (struct riffle_block){.align = 2u << 20, .gaps = 1, .kind = RIFFLE_BLOCK_TEXT};
	s->block[1] =
	    (struct riffle_block){.image_offset = 0x4080, .align = 4096, .gaps = 2, .kind = RIFFLE_BLOCK_DATA};
	s->block_count = 2;
	assert_int_equal(analysed_write(&f->analysed, RIFFLE_COMPRESSION_NONE, f->out, &f->error), 0);
	assert_non_null(f->analysed.shuffle);
	assert_int_equal(riffle_source_from_fd(&source, f->out, &f->error), 0);
	assert_int_equal(riffle_plan_open(&plan, &source, &f->error), 0);
	assert_int_equal(plan.chunk_count, 1);
	assert_int_equal(plan.block_count, 0);
	if (strncmp(plan.header->no_slides, "block image_offset", 18))
		fail_msg("%s", plan.header->no_slides);
	riffle_plan_close(&plan);
}

static void test_demanded(void **state)
{
	struct fixture *f = *state;

	f->analysed.must_shuffle = true;
	add_range(f, 24, SHUFFLE_PIN_NONE);
	assert_int_equal(analysed_write(&f->analysed, RIFFLE_COMPRESSION_NONE, f->out, &f->error),
			 RIFFLE_ERR_UNSUPPORTED);
	assert_string_equal(f->error.field, "chunk");
}

static void test_no_analysis(void **state)
{
	struct fixture *f = *state;

	shuffle_free(f->analysed.shuffle);
	f->analysed.shuffle = NULL;
	snprintf(f->analysed.no_shuffle, sizeof f->analysed.no_shuffle, "riffle-prepare: crashed");
	must_write_without(f, "riffle-prepare: crashed");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
	    TEST(test_nothing_moves),  TEST(test_too_many_regions), TEST(test_odd_chunk),   TEST(test_refused_plan),
	    TEST(test_refused_slides), TEST(test_demanded),         TEST(test_no_analysis),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

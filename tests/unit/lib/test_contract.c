/* SPDX-License-Identifier: Apache-2.0 */
/* The library's guarantees: sizes and reserved words checked, unknown bits refused, secrets wiped. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include <riffle/riffle.h>

#include "shuffled_kernel.h"

#define MIB (UINT64_C(1) << 20)
#define GUEST (32 * MIB)

static struct riffle_error error;

/* A kernel that can be shuffled, and everything a load needs, with valid arguments. */
struct setting {
	struct shuffled_kernel *k;
	uint8_t *file, *guest, *workspace;
	size_t workspace_bytes;
	uint16_t order[SK_CHUNKS_MAX];
	struct riffle_source_memory bytes;
	struct riffle_source source;
	struct riffle_plan plan;
	struct riffle_ram ram;
	struct riffle_memory memory;
	struct riffle_layout layout;
	struct riffle_workers workers;
	struct riffle_loaded loaded;
	unsigned options;
};

static void run_one_by_one(void *opaque, void (*job)(void *, unsigned), void *argument, unsigned jobs)
{
	(void)opaque;
	for (unsigned i = 0; i < jobs; i++)
		job(argument, i);
}

static int set_up(void **state)
{
	const struct sk_shape shape = {.seed = 7, .regions = 2, .seqs = 1};
	struct setting *s = calloc(1, sizeof *s);

	s->k = sk_make(&shape);
	s->file = builder_file(&s->k->b);
	riffle_source_from_bytes(&s->source, &s->bytes, s->file, s->k->b.header.file_bytes);
	s->plan = (struct riffle_plan)RIFFLE_PLAN_INIT;
	assert_int_equal(riffle_plan_open(&s->plan, &s->source, &error), 0);
	s->guest = calloc(1, GUEST);
	s->ram = (struct riffle_ram){0, GUEST, s->guest};
	s->memory = (struct riffle_memory){.ram = &s->ram, .ram_count = 1};
	s->workspace_bytes = riffle_load_workspace(&s->plan);
	s->workspace = aligned_alloc(64, s->workspace_bytes + 64);
	s->workers.run = run_one_by_one;
	s->layout = (struct riffle_layout)RIFFLE_LAYOUT_INIT;
	s->layout.order = s->order;
	s->layout.order_count = s->plan.chunk_count;
	assert_int_equal(riffle_layout_draw(&s->layout, &s->plan, &s->memory, RIFFLE_MODE_FGKASLR, NULL, &error), 0);
	*state = s;
	return 0;
}

static int tear_down(void **state)
{
	struct setting *s = *state;

	riffle_plan_close(&s->plan);
	sk_free(s->k);
	free(s->file);
	free(s->guest);
	free(s->workspace);
	free(s);
	return 0;
}

static int load(struct setting *s)
{
	return riffle_load_shuffled(&s->loaded, &s->plan, &s->source, &s->layout, &s->memory, s->options, &s->workers,
				    s->workspace, s->workspace_bytes, &error);
}

static void expect_argument(int status, const char *field)
{
	assert_int_equal(status, RIFFLE_ERR_ARGUMENT);
	assert_string_equal(error.field, field);
}

static void versions_are_the_headers(void **state)
{
	char text[32];

	(void)state;
	assert_int_equal(riffle_version(), RIFFLE_VERSION);
	assert_string_equal(riffle_version_string(), RIFFLE_VERSION_STRING);
	snprintf(text, sizeof text, "%u.%u.%u", RIFFLE_VERSION / 10000, RIFFLE_VERSION / 100 % 100,
		 RIFFLE_VERSION % 100);
	assert_string_equal(text, RIFFLE_VERSION_STRING);
	assert_int_equal(riffle_format_version(), RIFFLE_FORMAT_VERSION);
}

static void plan_tells_its_size(void **state)
{
	struct setting *s = *state;
	const size_t sizes[] = {0, sizeof(struct riffle_plan) - 1, 4097, SIZE_MAX};
	struct {
		struct riffle_plan plan;
		uint8_t later[64], beyond[8];
	} longer;

	for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		struct riffle_plan plan = {.size = sizes[i], .owned = &plan};

		expect_argument(riffle_plan_open(&plan, &s->source, &error), "plan size");
		assert_ptr_equal(plan.owned, &plan); /* not a byte of it written */
		expect_argument(riffle_plan_check(&plan, &s->k->b.header, s->k->b.plan, s->k->b.plan_bytes,
						  s->k->b.header.file_bytes, &error),
				"plan size");
	}
	/* the struct of a later header: members unknown to this version are 0 */
	memset(&longer, 0x5a, sizeof longer);
	longer.plan.size = offsetof(typeof(longer), beyond);
	assert_int_equal(riffle_plan_open(&longer.plan, &s->source, &error), 0);
	assert_int_equal(longer.plan.chunk_count, s->plan.chunk_count);
	for (unsigned i = 0; i < sizeof longer.later; i++)
		assert_int_equal(longer.later[i], 0);
	assert_int_equal(longer.beyond[0], 0x5a);
	riffle_plan_close(&longer.plan);
	assert_int_equal(longer.plan.size, offsetof(typeof(longer), beyond));
	riffle_plan_close(&longer.plan);
	assert_int_equal(riffle_plan_open(&longer.plan, &s->source, &error), 0);
	riffle_plan_close(&longer.plan);
}

static void zeroed_plan_may_be_closed(void **state)
{
	struct riffle_plan plan;

	(void)state;
	memset(&plan, 0, sizeof plan);
	riffle_plan_close(&plan);
}

static void reserved_words_are_checked(void **state)
{
	struct setting *s = *state;
	struct riffle_random random;
	struct riffle_seeded seeded;
	struct riffle_slots slots;
	uint64_t number;

	s->layout.reserved_zero[sizeof s->layout.reserved_zero / 4 - 1] = 1;
	expect_argument(load(s), "layout");
	expect_argument(riffle_layout_check(&s->layout, &s->plan, &s->memory, &error), "layout");
	expect_argument(riffle_layout_draw(&s->layout, &s->plan, &s->memory, RIFFLE_MODE_KASLR, NULL, &error),
			"layout");
	memset(s->layout.reserved_zero, 0, sizeof s->layout.reserved_zero);
	s->memory.reserved_zero[3] = 1;
	expect_argument(load(s), "memory");
	expect_argument(riffle_layout_slots(&slots, &s->plan, &s->memory, RIFFLE_MODE_KASLR, &error), "memory");
	s->memory.reserved_zero[3] = 0;
	s->source.reserved_zero[1] = 1;
	expect_argument(load(s), "payload");
	{
		struct riffle_plan plan = RIFFLE_PLAN_INIT;

		expect_argument(riffle_plan_open(&plan, &s->source, &error), "source");
	}
	s->source.reserved_zero[1] = 0;
	s->workers.reserved_zero[1] = 1;
	expect_argument(load(s), "workers");
	s->layout.mode = RIFFLE_MODE_KASLR;
	expect_argument(riffle_load(&s->loaded, &s->plan, &s->source, &s->layout, &s->memory, 0, &s->workers, &error),
			"workers");
	s->layout.mode = RIFFLE_MODE_FGKASLR;
	s->workers.reserved_zero[1] = 0;
	riffle_random_from_seed(&random, &seeded, (const uint8_t[32]){1});
	random.reserved_zero[1] = 1;
	expect_argument(riffle_random_below(&number, 5, &random, &error), "random");
	assert_int_equal(load(s), 0);
}

static void unknown_bits_are_refused(void **state)
{
	struct setting *s = *state;

	for (unsigned bit = 4; bit; bit <<= 1) {
		s->options = bit;
		expect_argument(load(s), "options");
		/* for the modes that are loaded plainly too */
		s->layout.mode = RIFFLE_MODE_KASLR;
		expect_argument(load(s), "options");
		expect_argument(
		    riffle_load(&s->loaded, &s->plan, &s->source, &s->layout, &s->memory, bit, NULL, &error),
		    "options");
		assert_int_equal(error.found, bit);
		s->layout.mode = RIFFLE_MODE_FGKASLR;
	}
	s->options = 0;
	expect_argument(riffle_load(&s->loaded, &s->plan, &s->source, &s->layout, &s->memory, 0, NULL, &error), "mode");
	s->layout.mode = (enum riffle_mode)(RIFFLE_MODE_FGKASLR + 1);
	expect_argument(load(s), "mode");
	expect_argument(riffle_layout_check(&s->layout, &s->plan, &s->memory, &error), "mode");
}

static void workspace_is_checked(void **state)
{
	struct setting *s = *state;

	s->workspace += 24;
	expect_argument(load(s), "workspace");
	assert_int_equal(error.found, 24);
	assert_int_equal(error.expected, 0);
	s->workspace -= 24;
	s->workspace_bytes--;
	expect_argument(load(s), "workspace");
	assert_int_equal(error.found + 1, error.expected);
	s->workspace_bytes++;
	assert_int_equal(load(s), 0);
}

/* Nothing outside [physical_base, end) is written, whatever was there. */
static void load_writes_the_kernel_alone(void **state)
{
	struct setting *s = *state;

	memset(s->guest, 0x5a, GUEST);
	s->options = RIFFLE_LOAD_CLEAR;
	assert_int_equal(load(s), 0);
	assert_int_equal(s->loaded.physical_base, s->layout.physical_base);
	for (uint64_t at = 0; at < GUEST; at++)
		if ((at < s->loaded.physical_base || at >= s->loaded.end) && s->guest[at] != 0x5a)
			fail_msg("byte %#llx was written", (unsigned long long)at);
}

static void layouts_are_wiped(void **state)
{
	struct setting *s = *state;
	uint8_t bytes[5] = {1, 2, 3, 4, 5};

	s->order[s->plan.chunk_count - 1] = 77;
	riffle_layout_wipe(&s->layout);
	assert_int_equal(s->layout.physical_base, 0);
	assert_int_equal(s->layout.virtual_base, 0);
	assert_int_equal(s->layout.mode, RIFFLE_MODE_OFF);
	for (uint32_t i = 0; i < s->plan.chunk_count; i++)
		assert_int_equal(s->order[i], 0);
	/* and another one can be drawn into it */
	assert_int_equal(riffle_layout_draw(&s->layout, &s->plan, &s->memory, RIFFLE_MODE_FGKASLR, NULL, &error), 0);
	assert_int_equal(load(s), 0);
	s->layout.order = NULL;
	riffle_layout_wipe(&s->layout);

	riffle_wipe(bytes + 1, 3);
	assert_memory_equal(bytes, ((uint8_t[]){1, 0, 0, 0, 5}), 5);
	riffle_wipe(NULL, 0);
}

/* Every form of an error's line, and where numbers change from decimal to hexadecimal. */
static void errors_as_lines(void **state)
{
	static const struct {
		struct riffle_error error;
		const char *line;
	} cases[] = {
	    {{.field = "f", .problem = "p"}, "f: p"},
	    {{.found = 7, .expected = 8}, "riffle: failed"},
	    {{.field = "f", .problem = "p", .sys_errno = ENOENT}, "f: p: No such file or directory"},
	    {{.field = "f", .problem = "p", .found = 65535, .has_found = RIFFLE_SHOW_NUMBER}, "f: p (found 65535)"},
	    {{.field = "f", .problem = "p", .found = 65536, .has_found = RIFFLE_SHOW_NUMBER}, "f: p (found 0x10000)"},
	    {{.field = "f", .problem = "p", .found = UINT64_MAX, .has_found = RIFFLE_SHOW_NUMBER},
	     "f: p (found 0xffffffffffffffff)"},
	    {{.field = "f", .problem = "p", .expected = 9, .has_expected = RIFFLE_SHOW_HEX}, "f: p (expected 0x9)"},
	    {{.field = "f",
	      .problem = "p",
	      .found = 0x207,
	      .has_found = RIFFLE_SHOW_VERSION,
	      .expected = 0x20c,
	      .has_expected = RIFFLE_SHOW_VERSION,
	      .sys_errno = EIO},
	     "f: p (found 2.07, expected 2.12): Input/output error"},
	};
	char line[100];

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		riffle_error_format(&cases[i].error, line, sizeof line);
		assert_string_equal(line, cases[i].line);
	}
	/* cut short, and nothing at all */
	memset(line, 'x', sizeof line);
	riffle_error_format(&cases[0].error, line, 4);
	assert_memory_equal(line, "f: \0x", 5);
	riffle_error_format(&cases[0].error, line + 1, 0);
	assert_memory_equal(line, "f: \0x", 5);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(versions_are_the_headers),
	    TEST(plan_tells_its_size),
	    cmocka_unit_test(zeroed_plan_may_be_closed),
	    cmocka_unit_test(errors_as_lines),
	    TEST(reserved_words_are_checked),
	    TEST(unknown_bits_are_refused),
	    TEST(workspace_is_checked),
	    TEST(load_writes_the_kernel_alone),
	    TEST(layouts_are_wiped),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

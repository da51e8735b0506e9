/* SPDX-License-Identifier: Apache-2.0 */
/* A small kernel on the whole of its way: analysed, prepared, opened for verify, loaded at a layout and compared. */
#ifndef RIFFLE_TESTS_WHOLE_H
#define RIFFLE_TESTS_WHOLE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include <riffle/riffle.h>

#include "prepare/analysis/prepared.h"
#include "prepare/verify/verify.h"
#include "tests/lib/kernels.h"

enum { MEMORY = 64 << 20 };

struct whole {
	struct riffle_image *image;
	struct shuffle *shuffle;
	struct verify *verify;
	struct riffle_source source;
	struct riffle_plan plan;
	struct riffle_layout layout;
	uint16_t order[TEST_MOVABLE_FUNCTIONS];
	uint8_t *memory;
	uint64_t entry; /* image offset, as loaded */
	struct riffle_ram ram;
	void *workspace;
	int kernel, prepared;
};

static struct riffle_error error;

static inline void expect_ok(int status)
{
	char text[256];

	if (!status)
		return;
	riffle_error_format(&error, text, sizeof text);
	fail_msg("%s", text);
}

static inline int whole_set_up(void **state, void (*build)(struct test_bytes *))
{
	struct whole *w = calloc(1, sizeof *w);
	struct test_bytes file = {0};

	if (system("command -v objdump >/dev/null 2>&1") != 0 || !w)
		return -1;
	build(&file);
	w->kernel = test_file_of(&file);
	w->prepared = memfd_create("prepared", MFD_CLOEXEC);
	test_bytes_free(&file);
	expect_ok(riffle_image_open(&w->image, w->kernel, -1, &error));
	expect_ok(shuffle_analyse(&w->shuffle, w->image, NULL, &error));
	expect_ok(riffle_prepared_write(w->image, w->shuffle, NULL, RIFFLE_COMPRESSION_NONE, w->prepared, &error));
	expect_ok(verify_open(&w->verify, w->image, -1, NULL, NULL, &error));
	w->plan = (struct riffle_plan)RIFFLE_PLAN_INIT;
	expect_ok(riffle_source_from_fd(&w->source, w->prepared, &error));
	expect_ok(riffle_plan_open(&w->plan, &w->source, &error));
	w->memory = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(w->memory, MAP_FAILED);
	w->ram = (struct riffle_ram){.address = w->image->link_phys, .bytes = MEMORY, .host = w->memory};
	w->workspace = aligned_alloc(64, (riffle_load_workspace(&w->plan) + 63) & ~(size_t)63);
	assert_non_null(w->workspace);
	*state = w;
	return 0;
}

static inline int tear_down(void **state)
{
	struct whole *w = *state;

	verify_close(w->verify);
	shuffle_free(w->shuffle);
	riffle_image_close(w->image);
	riffle_plan_close(&w->plan);
	munmap(w->memory, MEMORY);
	free(w->workspace);
	close(w->kernel);
	close(w->prepared);
	free(w);
	return 0;
}

/* Where the image lies in the memory. */
static inline uint8_t *loaded(const struct whole *w)
{
	return w->memory + (w->layout.physical_base - w->ram.address);
}

static inline void load(struct whole *w)
{
	const struct riffle_memory memory = {.ram = &w->ram, .ram_count = 1};
	struct riffle_loaded at;

	expect_ok(riffle_load_shuffled(&at, &w->plan, &w->source, &w->layout, &memory, RIFFLE_LOAD_CLEAR, NULL,
				       w->workspace, riffle_load_workspace(&w->plan), &error));
	w->entry = at.entry - at.physical_base;
}

static inline void draw_and_load(struct whole *w, enum riffle_mode mode, uint8_t number)
{
	const struct riffle_memory memory = {.ram = &w->ram, .ram_count = 1};
	const uint8_t seed[32] = {number, 1};
	struct riffle_seeded seeded;
	struct riffle_random random;

	/* every other layout of a kernel that can */
	w->layout = (struct riffle_layout){
	    .order = w->order, .order_count = w->plan.chunk_count, .slide_count = number % 2 ? w->plan.block_count : 0};
	riffle_random_from_seed(&random, &seeded, seed);
	expect_ok(riffle_layout_draw(&w->layout, &w->plan, &memory, mode, &random, &error));
	load(w);
}

/* The report's lines, for free(); *result is filled in. */
static inline char *compare(struct whole *w, struct verify_result *result, unsigned limit)
{
	char *lines = NULL;
	size_t bytes = 0;
	FILE *report = open_memstream(&lines, &bytes);

	assert_non_null(report);
	expect_ok(verify_compare(result, w->verify, &w->plan, &w->layout, loaded(w), w->entry, limit, report, &error));
	fclose(report);
	return lines;
}

#endif

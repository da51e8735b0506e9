/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Small kernels with one thing changed that can be shuffled still load right, as verify sees it. And what verify says
 * of loads that do not, of kernels that it does not know, and of false chunks, is as recorded.
 */
#include "tests/unit/varied/layouts.h"
#include "tests/unit/varied/vary.h"
#include "tests/unit/verify/whole.h"

static struct whole *w; /* the full kernel, loaded right */
static uint8_t *right;

static void full_kernel(struct test_bytes *file)
{
	test_full_kernel(file, NULL, 0);
}

static int set_up_full(void **state)
{
	int status = whole_set_up(state, full_kernel);

	w = *state;
	return status;
}

/* With gaps that follow, which a false layout may make longer. */
static uint64_t loaded_bytes(void)
{
	return w->image->image_bytes + (256u << 10);
}

static void load_right(uint8_t number)
{
	draw_and_load(w, number % 3 ? RIFFLE_MODE_FGKASLR : RIFFLE_MODE_KASLR, number);
	slide_little(&w->layout, &w->plan);
	load(w);
	free(right);
	right = malloc(loaded_bytes());
	assert_non_null(right);
	memcpy(right, loaded(w), loaded_bytes());
}

static void record_comparison(struct recorded *r, const struct verify *verify, const struct riffle_plan *plan,
			      const uint8_t *memory, uint64_t entry, unsigned limit)
{
	struct verify_result result = {0};
	char *lines = NULL;
	size_t bytes = 0;
	FILE *report = open_memstream(&lines, &bytes);

	assert_non_null(report);
	if (!record_status(r, verify_compare(&result, verify, plan, &w->layout, memory, entry, limit, report, &error),
			   &error))
		record(r, "%llu bytes, %llu different, %llu moved, %llu unwinds", (unsigned long long)result.bytes,
		       (unsigned long long)result.different, (unsigned long long)result.moved,
		       (unsigned long long)result.unwinds);
	fclose(report);
	for (char *line = strtok(lines, "\n"); line; line = strtok(NULL, "\n"))
		record(r, "  %s", line);
	free(lines);
}

/* `input` is what lies in memory. */
static void try_memory(struct recorded *r, const struct test_bytes *input)
{
	record_comparison(r, w->verify, &w->plan, input->at, w->entry + (r->accepted % 50 == 49), r->accepted % 4);
}

static void test_memory(void **state)
{
	static const struct varied parts[] = {
	    {{"loaded 1", UINT64_C(0x691e6f2be00976a5), 150, 0}, 0, 0x1000, 150},
	    {{"loaded 2", UINT64_C(0x9b6ff25b5be50ded), 150, 0}, 0x2000, 0x3400, 150},
	    {{"loaded 3", UINT64_C(0xfc7156144cb68e5d), 150, 0}, 0, 0, 150},
	    {{"loaded 4", UINT64_C(0x5686f4172c97b50c), 150, 0}, 0, 0, 150},
	};
	bool good = true;

	(void)state;
	for (unsigned i = 0; i < sizeof parts / sizeof *parts; i++) {
		struct test_bytes memory = {0};

		load_right((uint8_t)(i + 1));
		test_bytes_add(&memory, right, loaded_bytes());
		good &= vary_part(&parts[i], &memory, try_memory);
		test_bytes_free(&memory);
	}
	assert_true(good);
}

/* A layout that is not the one that was loaded. */
static void test_layouts(void **state)
{
	static const struct recording wanted = {"layouts", UINT64_C(0x7c2aa3341ef6eb0c), 56, 4};
	struct recorded r = recorded_begin(wanted.name);
	uint64_t random = 1;

	(void)state;
	for (unsigned n = 0; n < 60; n++) {
		uint16_t *a, *b, kept;

		if (n % 20 == 0)
			load_right((uint8_t)(n + 4));
		a = &w->order[test_random(&random) % w->plan.chunk_count];
		b = &w->order[test_random(&random) % w->plan.chunk_count];
		kept = *a;
		*a = *b;
		if (n % 8)
			*b = kept; /* else one twice */
		if (w->layout.slide_count && n % 5 == 4)
			w->layout.slide[1 + n / 5 % 5] += 4096 * (n % 3);
		record(&r, "%u:", n);
		record_comparison(&r, w->verify, &w->plan, right, w->entry, 3);
		load_right((uint8_t)(n + 4));
	}
	assert_true(recorded_is(&r, &wanted));
}

/* Each part's fixups undone. */
static void test_spoiled(void **state)
{
	static const struct recording wanted = {"spoiled", UINT64_C(0x426a150588527c65), 178, 11};
	struct recorded r = recorded_begin(wanted.name);

	(void)state;
	for (uint8_t n = 1; n < 5; n++)
		for (unsigned i = 0; i < verify_part_count(w->verify); i++) {
			const char *part = verify_part(w->verify, i).name;

			load_right(n);
			record(&r, "%s, layout %u:", part, n);
			if (!record_status(
				&r,
				verify_spoil(w->verify, &w->plan, &w->layout, part, right, &error) ? 0 : error.status,
				&error))
				record_comparison(&r, w->verify, &w->plan, right, w->entry, 4);
		}
	assert_true(recorded_is(&r, &wanted));
}

/* `input` is the plan's chunks. */
static void try_chunks(struct recorded *r, const struct test_bytes *input)
{
	struct riffle_plan plan = w->plan;
	char *lines = NULL;
	size_t bytes = 0;
	FILE *report = open_memstream(&lines, &bytes);

	assert_non_null(report);
	plan.chunks = (const void *)input->at;
	record(r, "%llu wrong", (unsigned long long)verify_chunks(w->verify, &plan, 3, report));
	fclose(report);
	record(r, "%s", lines);
	free(lines);
}

static void test_chunks(void **state)
{
	static const struct varied part = {{"chunks", UINT64_C(0xac75da08a866ef18), 0, 0}, 0, 0, 400};
	struct test_bytes chunks = {0};

	(void)state;
	test_bytes_add(&chunks, w->plan.chunks, w->plan.chunk_count * sizeof *w->plan.chunks);
	assert_true(vary_part(&part, &chunks, try_chunks));
	test_bytes_free(&chunks);
}

static void record_parts(struct recorded *r, const struct verify *verify)
{
	for (unsigned i = 0; i < verify_part_count(verify); i++)
		record(r, "part %s: %llu", verify_part(verify, i).name,
		       (unsigned long long)verify_part(verify, i).fields);
}

/* `input` is a kernel: as verify sees it, with the plan of the kernel as it was. */
static void try_kernel(struct recorded *r, const struct test_bytes *input)
{
	int fd = test_file_of(input);
	struct riffle_image *image;
	struct verify *verify;

	if (!riffle_image_open(&image, fd, -1, &error)) {
		if (!record_status(r, verify_open(&verify, image, -1, NULL, NULL, &error), &error)) {
			record_parts(r, verify);
			if (image->image_bytes == w->image->image_bytes)
				record_comparison(r, verify, &w->plan, right, w->entry, 4);
			verify_close(verify);
		}
		riffle_image_close(image);
	}
	close(fd);
}

static void test_kernels(void **state)
{
	static const struct varied parts[] = {
	    {{"verified tables", UINT64_C(0x93b3eb5e30cef603), 80, 0}, 0x3000, 0x3800, 40},
	    {{"verified kallsyms", UINT64_C(0x33bf2f9f403548f9), 120, 0}, 0x3800, 0x4400, 60},
	    {{"verified patching", UINT64_C(0x104c8c8080c0af87), 92, 14}, 0x7000, 0x7660, 60},
	    {{"verified sections", UINT64_C(0x90734bf0e45d2609), 88, 7}, 0x9000, 0x9680, 60},
	    {{"verified relocations", UINT64_C(0x898e51f61598502e), 28, 3}, 0x9750, 0, 40},
	};
	struct test_bytes file = {0};
	bool good = true;

	(void)state;
	load_right(7);
	full_kernel(&file);
	for (unsigned i = 0; i < sizeof parts / sizeof *parts; i++)
		good &= vary_part(&parts[i], &file, try_kernel);
	test_bytes_free(&file);
	assert_true(good);
}

/* Whether a kernel can be shuffled. */
static bool is_taken(const struct test_bytes *file)
{
	int fd = test_file_of(file);
	struct riffle_image *image;
	struct shuffle *shuffle;
	bool taken = false;

	if (!riffle_image_open(&image, fd, -1, &error)) {
		taken = !shuffle_analyse(&shuffle, image, NULL, &error);
		if (taken)
			shuffle_free(shuffle);
		riffle_image_close(image);
	}
	close(fd);
	return taken;
}

static struct test_bytes varied_kernel;

static void take_varied(struct test_bytes *file)
{
	test_bytes_add(file, varied_kernel.at, varied_kernel.count);
}

static void load_and_verify(const char *part, unsigned number)
{
	struct whole *k;
	void *state = NULL;

	assert_int_equal(whole_set_up(&state, take_varied), 0);
	k = state;
	for (uint8_t i = 0; i < 3; i++) {
		struct verify_result result;
		char *lines;

		draw_and_load(k, i ? RIFFLE_MODE_FGKASLR : RIFFLE_MODE_KASLR, i);
		slide_little(&k->layout, &k->plan);
		load(k);
		lines = compare(k, &result, 3);
		if (result.different)
			fail_msg("%s %u, layout %u: %s", part, number, i, lines);
		free(lines);
	}
	tear_down(&state);
}

/* Whatever is taken loads right. */
static void test_loads(void **state)
{
	static const struct {
		const char *name;
		uint32_t from, to;
	} parts[] = {{"tables", 0x3000, 0x3800},
		     {"kallsyms", 0x3800, 0x4400},
		     {"patching", 0x7000, 0x7660},
		     {"sections", 0x9000, 0x9680}};
	struct test_bytes file = {0};
	uint64_t random = 1;

	(void)state;
	full_kernel(&file);
	test_bytes_add(&varied_kernel, file.at, file.count);
	for (unsigned i = 0; i < sizeof parts / sizeof *parts; i++)
		for (unsigned n = 0; n < 12; n++) {
			memcpy(varied_kernel.at, file.at, file.count);
			vary(varied_kernel.at, parts[i].from, parts[i].to, &random);
			if (is_taken(&varied_kernel))
				load_and_verify(parts[i].name, n);
		}
	test_bytes_free(&varied_kernel);
	test_bytes_free(&file);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_memory), cmocka_unit_test(test_layouts), cmocka_unit_test(test_spoiled),
	    cmocka_unit_test(test_chunks), cmocka_unit_test(test_kernels), cmocka_unit_test(test_loads),
	};

	if (system("command -v objdump >/dev/null 2>&1") != 0) {
		print_message("skipped: no objdump (Debian package binutils)\n");
		return 77;
	}
	return cmocka_run_group_tests_name("varied-verify", tests, set_up_full, tear_down);
}

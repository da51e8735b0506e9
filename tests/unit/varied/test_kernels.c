/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Small kernels with one thing changed, thousands of times, each opened, analysed and prepared: what is refused, in
 * which words, and all that is found in the others, to the last byte of the prepared kernel, is as recorded. The
 * unchanged kernels are proven right by tests/unit/verify/test_whole.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include <riffle/riffle.h>

#include "prepare/analysis/prepared.h"
#include "tests/unit/varied/vary.h"

static struct riffle_error error;
static union {
	struct riffle_header header;
	uint8_t bytes[1 << 20];
} prepared;
static int out;

static void record_slides(struct recorded *r, const struct shuffle_slides *s)
{
	record(r, "%u blocks, %u crossing, %u tables, %u unread, %u leads %s", s->block_count, s->cross_count,
	       s->table_count, s->unread_count, s->leads, s->none);
	for (uint32_t i = 0; i < s->block_count; i++)
		record(r, "block %x: %u gaps of %x, kind %u", s->block[i].image_offset, s->block[i].gaps,
		       s->block[i].align, s->block[i].kind);
	for (uint32_t i = 0; i < s->table_count; i++)
		record(r, "column %s %u of %x: %u", s->column[i].table, s->column[i].at, s->table[i].image_offset,
		       s->table[i].entries);
	for (uint32_t i = 0; i < s->unread_count; i++)
		record(r, "unread %x+%x", s->unread[i].offset, s->unread[i].bytes);
}

static void record_shuffle(struct recorded *r, const struct shuffle *s)
{
	const struct shuffle_census *c = &s->census;

	record(r,
	       "%u chunks; %llu instructions, %llu branches, %llu operands, %llu bytes, %llu movable, %llu of several",
	       s->chunk_count, (unsigned long long)c->instructions, (unsigned long long)c->branches,
	       (unsigned long long)c->rip_operands, (unsigned long long)c->function_bytes,
	       (unsigned long long)c->movable_bytes, (unsigned long long)c->multi_function_bytes);
	record(r, "%llu words, %llu by chance, %llu of rela, %llu agree", (unsigned long long)c->words_scanned,
	       (unsigned long long)c->words_chance, (unsigned long long)c->rela_checked,
	       (unsigned long long)c->rela_agree);
	for (uint32_t i = 0; i < s->range_count; i++) {
		record_bytes(r, s->range[i].name, strlen(s->range[i].name));
		record_bytes(
		    r, &(uint32_t[]){s->range[i].offset, s->range[i].bytes, s->range[i].pin, s->range[i].functions},
		    16);
	}
	for (uint32_t i = 0; i < s->ref_count; i++)
		record_bytes(r, &(uint32_t[]){s->ref[i].field, s->ref[i].target, s->ref[i].kind, s->ref[i].found_by},
			     16);
	record_slides(r, &s->slides);
}

/* What is written is what a load takes. */
static void expect_plan(void)
{
	struct riffle_plan plan = RIFFLE_PLAN_INIT;
	struct riffle_source source;
	char text[512];

	if (!riffle_source_from_fd(&source, out, &error) && !riffle_plan_open(&plan, &source, &error)) {
		riffle_plan_close(&plan);
		return;
	}
	riffle_error_format(&error, text, sizeof text);
	fail_msg("%s", text);
}

/* All of a prepared kernel but the hole before its payload. */
static void record_prepared(struct recorded *r, const struct riffle_image *image, const struct shuffle *shuffle)
{
	struct riffle_header *h = &prepared.header;
	size_t plan, payload;

	assert_int_equal(ftruncate(out, 0), 0);
	if (record_status(r, riffle_prepared_write(image, shuffle, "x", RIFFLE_COMPRESSION_NONE, out, &error), &error))
		return;
	assert_int_equal(pread(out, h, sizeof *h, 0), sizeof *h);
	plan = h->plan_offset + h->plan_bytes;
	payload = h->file_bytes - h->payload_offset;
	assert_true(plan <= sizeof prepared && payload <= sizeof prepared);
	assert_int_equal(pread(out, prepared.bytes, plan, 0), plan);
	record_bytes(r, prepared.bytes, plan);
	assert_int_equal(pread(out, prepared.bytes, payload, (off_t)h->payload_offset), payload);
	record_bytes(r, prepared.bytes, payload);
	record(r, "%zu and %zu bytes: %016" PRIx64, plan, payload, r->digest);
	expect_plan();
}

static void record_kernel(struct recorded *r, const struct test_bytes *file)
{
	int fd = test_file_of(file);
	struct riffle_image *image;
	struct shuffle *shuffle = NULL;

	if (!record_status(r, riffle_image_open(&image, fd, -1, &error), &error)) {
		if (!record_status(r, shuffle_analyse(&shuffle, image, NULL, &error), &error))
			record_shuffle(r, shuffle);
		record_prepared(r, image, shuffle);
		shuffle_free(shuffle);
		riffle_image_close(image);
	}
	close(fd);
}

static void full_kernel(struct test_bytes *file)
{
	test_full_kernel(file, NULL, 0);
}

/* Parts of the kernels' files. */
static const struct {
	void (*build)(struct test_bytes *);
	struct varied part;
} parts[] = {
    {test_movable_kernel, {{"movable", UINT64_C(0xdb582ca4e8cd539d), 854, 32}, 0, 0, 300}},
    {test_sliding_kernel, {{"headers", UINT64_C(0x78b02389557f26de), 239, 235}, 0, 120, 300}},
    {full_kernel, {{"text", UINT64_C(0x1aa3b01719ce8e77), 2651, 49}, 0x2000, 0x2900, 900}},
    {full_kernel, {{"tables", UINT64_C(0x23aabf833239cc9c), 1306, 194}, 0x3000, 0x3800, 500}},
    {full_kernel, {{"kallsyms", UINT64_C(0x52470593279249e1), 1236, 264}, 0x3800, 0x4400, 500}},
    {full_kernel, {{"data", UINT64_C(0xbd34fb8a3235d30f), 503, 97}, 0x6000, 0x6200, 200}},
    {full_kernel, {{"patching", UINT64_C(0x0d67498be05eead7), 2374, 326}, 0x7000, 0x7660, 900}},
    {full_kernel, {{"init", UINT64_C(0xe9a08c911bcca9b8), 583, 17}, 0x8000, 0x8080, 200}},
    {full_kernel, {{"sections", UINT64_C(0x2789ae071a73db7a), 2090, 296}, 0x9000, 0x9680, 900}},
    {full_kernel, {{"names, relocations", UINT64_C(0x9b84497d7f17a631), 516, 318}, 0x9680, 0, 400}},
};

static void test_parts(void **state)
{
	bool good = true;

	(void)state;
	for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
		struct test_bytes file = {0};

		parts[i].build(&file);
		good &= vary_part(&parts[i].part, &file, record_kernel);
		test_bytes_free(&file);
	}
	assert_true(good);
}

/* Functions that the kernel finds by name, alone and where their end is given: what they are says which names stay. */
static void test_names(void **state)
{
	static const char *const single[] = {
	    "__x86_indirect_thunk_rax",
	    "__x86_return_thunk",
	    "__x86_call_depth_tracking",
	    "srso_alias_safe_ret",
	    "retbleed_return_thunk",
	    "zen_untrain_ret",
	    "entry_untrain_ret",
	    "its_return_thunk_x",
	    "clear_bhb_loop",
	    "pvh_start_xen",
	    "hypercall_page",
	    "relocate_kernel",
	    "relocate_range",
	    "__enc_copy",
	    "core_restore_code",
	    "__pfx_function",
	    "__cfi_function",
	    "__pfx_srso_x",
	    "__relocate_kernel_start",
	    "object_start",
	    "_etext",
	    "__fentry__",
	    "__static_call_text_start",
	    "__entry_text_end",
	};
	static const char *const pair[][2] = {
	    {"__noinstr_text_start", "__noinstr_text_end"},
	    {"__sched_text_start", "__sched_text_end"},
	    {"__cpuidle_text_start", "__cpuidle_text_end"},
	    {"__lock_text_start", "__lock_text_end"},
	    {"__kprobes_text_start", "__kprobes_text_end"},
	    {"__entry_text_start", "__entry_text_end"},
	    {"__irqentry_text_start", "__irqentry_text_end"},
	    {"__softirqentry_text_start", "__softirqentry_text_end"},
	    {"__static_call_text_start", "__static_call_text_end"},
	    {"__indirect_thunk_start", "__indirect_thunk_end"},
	    {"ftrace_caller", "ftrace_caller_end"},
	    {"ftrace_regs_caller", "ftrace_regs_caller_end"},
	    {"__relocate_kernel_start", "__relocate_kernel_end"},
	    {"table_start", "table_end"},
	};
	static const struct recording wanted = {"names", UINT64_C(0xb58cdcc0b0cbfd72), 804, 48};
	static const uint32_t into[] = {0, 3, 16};
	struct recorded r = recorded_begin(wanted.name);
	struct test_bytes file = {0};

	(void)state;
	for (unsigned i = 0; i < sizeof single / sizeof *single; i++)
		for (unsigned k = 0; k < 6; k++) {
			const struct test_name name = {(unsigned[]){0, 17, 47}[k / 2], into[k % 2], single[i]};

			record(&r, "%s at %u+%u:", name.name, name.function, name.into);
			test_full_kernel(&file, &name, 1);
			record_kernel(&r, &file);
			test_bytes_free(&file);
		}
	for (unsigned i = 0; i < sizeof pair / sizeof *pair; i++)
		for (unsigned k = 0; k < 10; k++) {
			const struct test_name name[] = {
			    {17, into[k % 3], pair[i][0]},
			    {(unsigned[]){17, 18, 21, 16, 47}[k % 5], into[k % 2], pair[i][1]}};

			record(&r, "%s at 17+%u, end at %u+%u:", name->name, name->into, name[1].function,
			       name[1].into);
			test_full_kernel(&file, name, k < 9 ? 2 : 1);
			record_kernel(&r, &file);
			test_bytes_free(&file);
		}
	assert_true(recorded_is(&r, &wanted));
}

/* Where blocks begin, and what lies before them. */
static void test_blocks(void **state)
{
	enum { RODATA = 0x2000, DATA = 0x5000, INIT = 0x6000, INIT_TEXT = 0x7000, BSS = 0x8000, BRK = 0xa000 };
	static const struct {
		const char *name;
		uint32_t at[8]; /* 0: no more */
	} cases[] = {
	    {"_etext", {RODATA, RODATA - 1, RODATA + 1, TEST_NOWHERE, 0x1500, 0x1000}},
	    {"__start_rodata", {TEST_NOWHERE, RODATA + 0x10, RODATA + 0x1000, 0x1000, DATA}},
	    {"__end_rodata", {DATA, DATA - 1, DATA - 0x1000, 0x3000, RODATA, 0x4800, 0x4010}},
	    {"_sdata", {TEST_NOWHERE, DATA + 8, DATA - 0x1000, INIT, RODATA}},
	    {"__init_begin", {TEST_NOWHERE, INIT_TEXT, INIT_TEXT - 1, BSS, BSS - 16}},
	    {"_sinittext", {TEST_NOWHERE, INIT_TEXT + 0x20, INIT, BSS}},
	    {"__init_end", {TEST_NOWHERE, BSS - 0x1000, BSS + 0x1000, BRK}},
	    {"__brk_base", {TEST_NOWHERE, BRK + 0x1000, BRK - 0x1000, BRK + 1}},
	    {"__end_of_kernel_reserve", {BRK, BRK - 1, BRK - 0x1000, BRK + 1}},
	};
	/* with the gap in question, in all ways */
	static const struct test_name more[][3] = {
	    {{TEST_NO_FUNCTION, RODATA, "_etext"}, {TEST_NO_FUNCTION, 0x4000, "__end_rodata"}},
	    {{TEST_NO_FUNCTION, RODATA, "_etext"}, {TEST_NO_FUNCTION, 0x4800, "__end_rodata"}},
	    {{TEST_NO_FUNCTION, RODATA, "_etext"}, {TEST_NO_FUNCTION, 0x3000, "__end_rodata"}},
	    {{TEST_NO_FUNCTION, RODATA, "_etext"}, {TEST_NO_FUNCTION, RODATA, "__end_rodata"}},
	    {{TEST_NO_FUNCTION, RODATA, "_etext"}, {TEST_NO_FUNCTION, DATA, "__end_rodata"}},
	    {{TEST_NO_FUNCTION, RODATA - 16, "_etext"}, {TEST_NO_FUNCTION, 0x4000, "__end_rodata"}},
	    {{TEST_NO_FUNCTION, RODATA, "_etext"},
	     {TEST_NO_FUNCTION, 0x4000, "__end_rodata"},
	     {TEST_NO_FUNCTION, BRK - 16, "__end_of_kernel_reserve"}},
	    {{TEST_NO_FUNCTION, BRK - 0x800, "__start_bss_decrypted_unused"},
	     {TEST_NO_FUNCTION, BRK, "__end_bss_decrypted"}},
	    {{TEST_NO_FUNCTION, BRK, "__start_bss_decrypted_unused"}, {TEST_NO_FUNCTION, BRK, "__end_bss_decrypted"}},
	    {{TEST_NO_FUNCTION, BRK - 0x800, "__start_bss_decrypted_unused"},
	     {TEST_NO_FUNCTION, BRK - 1, "__end_bss_decrypted"}},
	};
	static const struct recording wanted = {"blocks", UINT64_C(0xe1132ec2e8f1ecf0), 162, 0};
	struct recorded r = recorded_begin(wanted.name);
	struct test_bytes file = {0};

	(void)state;
	for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++)
		for (unsigned k = 0; cases[i].at[k]; k++) {
			const struct test_name name = {TEST_NO_FUNCTION, cases[i].at[k], cases[i].name};

			record(&r, "%s at %x:", name.name, name.into);
			test_full_kernel(&file, &name, 1);
			record_kernel(&r, &file);
			test_bytes_free(&file);
		}
	for (unsigned i = 0; i < sizeof more / sizeof *more; i++) {
		record(&r, "more names %u:", i);
		test_full_kernel(&file, more[i], more[i][2].name ? 3 : 2);
		record_kernel(&r, &file);
		test_bytes_free(&file);
	}
	assert_true(recorded_is(&r, &wanted));
}

/* Addresses in data that lead to where a symbol is near, to the end of something, or to nothing. */
static void test_addresses(void **state)
{
	enum { FIELD = 0x1000 + 0x5000 + 8 * 40, NEAR = 0x3800, END = 0x4f00 };
	static const struct test_name names[] = {{TEST_NO_FUNCTION, NEAR, "mark"},
						 {TEST_NO_FUNCTION, END, "__end_rodata_x"}};
	static const uint64_t link = UINT64_C(0xffffffff81000000);
	const uint64_t addresses[] = {link,
				      link + 0x2000,
				      link + 0x3400,
				      link + 0x37ff,
				      link + NEAR,
				      link + NEAR + 1,
				      link + NEAR + 0xfff,
				      link + NEAR + 0x1000,
				      link + NEAR + 0x1001,
				      link + END - 1,
				      link + END - 2,
				      link + 0x4fff,
				      link + 0x5000,
				      link + 0x5180,
				      link + 0x5200,
				      link + 0x5fff,
				      link + 0xbfff,
				      link + 0xc000,
				      link + 0xc001,
				      link + 0x10000,
				      link + 0x200000,
				      link + 0x210000,
				      link - 1,
				      link - 0x1000000,
				      0,
				      0x1000000,
				      0x1000000 + NEAR + 0x1000,
				      0x1000000 + 0xc000,
				      UINT64_MAX,
				      link + 0x3fffffff,
				      link + 0x3effffff,
				      link + 0x3f000000};
	static const struct recording wanted = {"addresses", UINT64_C(0x0f582fe5d51964ac), 88, 8};
	struct recorded r = recorded_begin(wanted.name);
	struct test_bytes file = {0};

	(void)state;
	test_full_kernel(&file, names, 2);
	for (unsigned i = 0; i < sizeof addresses / sizeof *addresses; i++) {
		record(&r, "%llx:", (unsigned long long)addresses[i]);
		riffle_put64(file.at + FIELD, addresses[i]);
		record_kernel(&r, &file);
	}
	test_bytes_free(&file);
	assert_true(recorded_is(&r, &wanted));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_parts),
	    cmocka_unit_test(test_names),
	    cmocka_unit_test(test_blocks),
	    cmocka_unit_test(test_addresses),
	};

	out = memfd_create("prepared", MFD_CLOEXEC);
	return cmocka_run_group_tests_name("varied-kernels", tests, NULL, NULL);
}

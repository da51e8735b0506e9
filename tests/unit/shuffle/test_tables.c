/* SPDX-License-Identifier: Apache-2.0 */
/* Every known table is read with entries of each kernel's size; one that does not decode is refused by its name. */
#include "tables_builder.h"

#define ENTRIES 37u
#define NAMES (DATA + 0x8000u)

/* A table of distances, and where in its entries they are. */
struct sample {
	const char *section, *start, *stop;
	uint32_t stride;
	uint32_t field[2]; /* the second: 0 when there is none */
	uint32_t behind;   /* the target is an operand that ends so many bytes on */
};

static const struct sample samples[] = {
    {".altinstructions", NULL, NULL, 12, {0, 4}, 0},
    {".altinstructions", NULL, NULL, 13, {0, 4}, 0},
    {".altinstructions", NULL, NULL, 14, {0, 4}, 0},
    {"__bug_table", NULL, NULL, 8, {0, 0}, 0},
    {"__bug_table", NULL, NULL, 12, {0, 0}, 0},
    {NULL, "__start___bug_table", "__stop___bug_table", 16, {0, 0}, 0},
    {".smp_locks", NULL, NULL, 4, {0, 0}, 0},
    {".retpoline_sites", NULL, NULL, 4, {0, 0}, 0},
    {".return_sites", NULL, NULL, 4, {0, 0}, 0},
    {".call_sites", NULL, NULL, 4, {0, 0}, 0},
    {".ibt_endbr_seal", NULL, NULL, 4, {0, 0}, 0},
    {".cfi_sites", NULL, NULL, 4, {0, 0}, 0},
    {"__kcfi_traps", NULL, NULL, 4, {0, 0}, 0},
    {"__ksymtab", NULL, NULL, 8, {0, 0}, 0},
    {"__ksymtab", NULL, NULL, 12, {0, 0}, 0},
    {"__ksymtab_gpl", NULL, NULL, 12, {0, 0}, 0},
    {".pci_fixup", NULL, NULL, 16, {12, 0}, 0},
    {NULL, "__start___jump_table", "__stop___jump_table", 16, {0, 4}, 0},
    {NULL, "__start_static_call_sites", "__stop_static_call_sites", 8, {0, 0}, 0},
    {NULL, "__start_static_call_tramp_key", "__stop_static_call_tramp_key", 8, {0, 0}, 0},
    {NULL, "__initcall_start", "__initcall_end", 4, {0, 0}, 0},
    {NULL, "__con_initcall_start", "__con_initcall_end", 4, {0, 0}, 0},
    {"runtime_shift_d_hash_shift", NULL, NULL, 4, {0, 0}, 1},
    {"runtime_ptr_dentry_hashtable", NULL, NULL, 4, {0, 0}, 4},
};
#define SAMPLES (sizeof samples / sizeof *samples)

static const char *name_of(const struct sample *s)
{
	return s->section ? s->section : s->start;
}

/* What errors call it: the section that other kernels have it in, if any. */
static const char *called(const struct sample *s)
{
	static const char *const other[][2] = {
	    {"__start___bug_table", "__bug_table"},
	    {"__start___jump_table", "__jump_table"},
	    {"__start_static_call_sites", ".static_call_sites"},
	    {"__start_static_call_tramp_key", ".static_call_tramp_key"},
	};

	for (size_t i = 0; i < sizeof other / sizeof *other; i++)
		if (!strcmp(name_of(s), other[i][0]))
			return other[i][1];
	/* a name out of the kernel file would not outlive it */
	return strncmp(name_of(s), "runtime_", 8) ? name_of(s) : "runtime_*";
}

static bool is(const struct sample *s, const char *name)
{
	return !strncmp(name_of(s), name, strlen(name));
}

static uint32_t target_of(const struct sample *s, uint32_t entry, unsigned field)
{
	if (s->behind)
		return instruction(entry * 3 + 1) - s->behind;
	return instruction(entry * 7 + field * 3);
}

/* Fills an entry with what is no distance into code, then with its distances. */
static void put_entry(struct kernel *k, const struct sample *s, uint32_t at, uint32_t entry)
{
	for (uint32_t i = 0; i < s->stride; i++)
		k->work.bytes[at + i] = (uint8_t)(1 + i);
	for (unsigned f = 0; f < 2 && (!f || s->field[f]); f++)
		put_distance(k, at + s->field[f], target_of(s, entry, f));
	if (is(s, ".altinstructions"))
		k->work.bytes[at + (s->stride == 14 ? 12 : 10)] = 5;
	if (is(s, "__ksymtab"))
		put_distance(k, at + 4, NAMES + entry * 4);
	if (is(s, "__ksymtab") && s->stride == 12)
		put_distance(k, at + 8, NAMES);
}

static struct kernel *make_table(const struct sample *s, uint32_t offset, uint32_t bytes)
{
	struct kernel *k = make_kernel();

	if (s->section) {
		name_section(k, s->section, offset, bytes, 0);
	} else {
		name_place(k, s->start, offset);
		name_place(k, s->stop, offset + bytes);
	}
	name_section(k, "__ksymtab_strings", NAMES, 0x1000, 0);
	memset(k->work.bytes + NAMES, 'n', 0x1000);
	for (uint32_t i = 0; i < ENTRIES; i++)
		put_entry(k, s, offset + i * s->stride, i);
	return k;
}

static void test_every_table(void **state)
{
	(void)state;
	for (size_t n = 0; n < SAMPLES; n++) {
		const struct sample *s = &samples[n];
		uint32_t offset = DATA + 0x102, fields = s->field[1] ? 2 : 1;
		struct kernel *k = make_table(s, offset, ENTRIES * s->stride);

		good(k, tables_read(&k->work, &k->error));
		assert_int_equal(k->work.known_count, 1);
		assert_int_equal(k->work.known[0].offset, offset);
		assert_int_equal(k->work.known[0].bytes, ENTRIES * s->stride);
		assert_int_equal(k->work.ref_count, ENTRIES * fields);
		for (uint32_t i = 0; i < k->work.ref_count; i++) {
			const struct shuffle_ref *ref = &k->work.ref[i];

			assert_int_equal(ref->field, offset + i / fields * s->stride + s->field[i % fields]);
			assert_int_equal(ref->target, target_of(s, i / fields, i % fields));
			assert_int_equal(ref->kind, SHUFFLE_PC32);
			assert_int_equal(ref->found_by, SHUFFLE_BY_TABLE);
		}
		end_kernel(k);
	}
}

/* one entry leads one byte too far */
static void test_wrong_entry(void **state)
{
	(void)state;
	for (size_t n = 0; n < SAMPLES; n++) {
		const struct sample *s = &samples[n];
		uint32_t offset = DATA + 0x200, bad = offset + (ENTRIES - 1) * s->stride + s->field[0];
		struct kernel *k = make_table(s, offset, ENTRIES * s->stride);

		put_distance(k, bad, target_of(s, ENTRIES - 1, 0) + 1);
		assert_int_equal(tables_read(&k->work, &k->error), RIFFLE_ERR_UNSUPPORTED);
		assert_string_equal(k->error.field, called(s));
		/* into data, then out of the image */
		put_distance(k, bad, IMAGE - 8);
		if (!is(s, "__ksymtab")) /* which may export variables */
			assert_int_equal(tables_read(&k->work, &k->error), RIFFLE_ERR_UNSUPPORTED);
		put_distance(k, bad, IMAGE + 8);
		if (!is(s, "__ksymtab"))
			assert_int_equal(tables_read(&k->work, &k->error), RIFFLE_ERR_UNSUPPORTED);
		/* and the other field */
		put_distance(k, bad, target_of(s, ENTRIES - 1, 0));
		for (unsigned out = 0; s->field[1] && out < 2; out++) {
			put_distance(k, bad - s->field[0] + s->field[1], out ? IMAGE + 8 : IMAGE - 8);
			assert_int_equal(tables_read(&k->work, &k->error), RIFFLE_ERR_UNSUPPORTED);
			assert_string_equal(k->error.field, called(s));
		}
		end_kernel(k);
	}
}

static void test_cut_entry(void **state)
{
	(void)state;
	for (size_t n = 0; n < SAMPLES; n++) {
		const struct sample *s = &samples[n];
		struct kernel *k = make_table(s, DATA + 0x200, ENTRIES * s->stride - 1);

		assert_int_equal(tables_read(&k->work, &k->error), RIFFLE_ERR_UNSUPPORTED);
		assert_string_equal(k->error.field, called(s));
		end_kernel(k);
	}
}

static void test_exported_variables(void **state)
{
	const struct sample *s = &samples[14];
	struct kernel *k = make_table(s, DATA, ENTRIES * s->stride);

	(void)state;
	put_distance(k, DATA, DATA + 0x7000);                /* a variable */
	riffle_put32(k->work.bytes + DATA + 12, 0x7effe000); /* an offset into percpu */
	good(k, tables_read(&k->work, &k->error));
	assert_int_equal(k->work.ref_count, ENTRIES - 2);
	put_distance(k, DATA + 4, DATA); /* no name */
	assert_int_equal(tables_read(&k->work, &k->error), RIFFLE_ERR_UNSUPPORTED);
	end_kernel(k);
}

/* the linker script fills .smp_locks with zeros, up to a page's end; nothing may follow them */
static void test_lock_padding(void **state)
{
	const struct sample *s = &samples[6];
	struct kernel *k = make_table(s, DATA, 0x1000);

	(void)state;
	good(k, tables_read(&k->work, &k->error));
	assert_int_equal(k->work.ref_count, ENTRIES);
	forget(k);
	put_distance(k, DATA + 0xffc, instruction(0));
	refused(k, tables_read(&k->work, &k->error), ".smp_locks", DATA + ENTRIES * 4);
	end_kernel(k);
}

/* a label with room for two bytes stays as far from its target as it is */
static void test_short_label(void **state)
{
	const struct sample *s = &samples[17];
	struct kernel *k = make_table(s, DATA, ENTRIES * s->stride);

	(void)state;
	k->work.bytes[target_of(s, 0, 0)] = 0xeb;
	memcpy(k->work.bytes + target_of(s, 1, 0), "\x66\x90", 2);
	k->work.bytes[target_of(s, 2, 0)] = 0xe9;
	good(k, tables_read(&k->work, &k->error));
	assert_int_equal(k->work.tie_count, 2);
	for (uint32_t i = 0; i < 2; i++) {
		assert_int_equal(k->work.tie[i].a, target_of(s, i, 0));
		assert_int_equal(k->work.tie[i].b, target_of(s, i, 1));
	}
	k->work.bytes[target_of(s, 3, 0)] = 0xc3;
	forget(k);
	refused(k, tables_read(&k->work, &k->error), "__jump_table", DATA + 3 * s->stride);
	end_kernel(k);
}

/* a site in the code that kexec copies, which lies among data and does not move: no reference of ours */
static void test_copied_code(void **state)
{
	const struct sample *s = &samples[0];
	struct kernel *k = make_table(s, DATA, ENTRIES * s->stride);

	(void)state;
	put_distance(k, DATA, IMAGE - 0x800);
	refused(k, tables_read(&k->work, &k->error), s->section ? s->section : s->start, DATA);
	forget(k);
	name_place(k, "__relocate_kernel_start", IMAGE - 0x800);
	name_place(k, "__relocate_kernel_end", IMAGE - 0x100);
	good(k, tables_read(&k->work, &k->error));
	assert_int_equal(k->work.ref_count, ENTRIES * 2 - 1);
	end_kernel(k);
}

/* The first and the last place in that code to which each kind of field may lead, and those just outside. */
static void test_edges_of_copied_code(void **state)
{
	enum { START = IMAGE - 0x800, END = IMAGE - 0x100 };
	static const struct {
		unsigned sample, field;
		uint32_t target;
		const char *problem; /* NULL: accepted */
	} rows[] = {
	    {2, 0, START, NULL},
	    {2, 0, START - 1, "leads to no instruction"},
	    {2, 0, END - 5, NULL}, /* its five bytes are replaced */
	    {2, 0, END - 4, "replaces bytes that are no code"},
	    {2, 0, END - 1, "replaces bytes that are no code"},
	    {2, 0, END, "leads to no instruction"},
	    {2, 4, START, NULL},
	    {2, 4, START - 1, "leads to no code"},
	    {2, 4, END, NULL}, /* a replacement may be empty */
	    {2, 4, END + 1, "leads to no code"},
	    {8, 0, START, NULL},
	    {8, 0, START - 1, "leads to no instruction"},
	    {8, 0, END - 1, NULL},
	    {8, 0, END, "leads to no instruction"},
	};

	(void)state;
	for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
		const struct sample *s = &samples[rows[i].sample];
		struct kernel *k = make_table(s, DATA, ENTRIES * s->stride);
		int status;

		name_place(k, "__relocate_kernel_start", START);
		name_place(k, "__relocate_kernel_end", END);
		put_distance(k, DATA + rows[i].field, rows[i].target);
		status = tables_read(&k->work, &k->error);
		if (!rows[i].problem && status)
			fail_msg("row %u: %s %s", i, k->error.field, k->error.problem);
		if (rows[i].problem) {
			bool late = !strncmp(rows[i].problem, "replaces", 8);

			refused(k, status, s->section, DATA + (late ? 0 : rows[i].field));
			assert_string_equal(k->error.problem, rows[i].problem);
		}
		end_kernel(k);
	}
}

/* Up to 6.13 it is a part of .text, and like all other text: an alternative's site is where an instruction starts. */
static void test_copied_code_in_text(void **state)
{
	const struct sample *s = &samples[2];

	(void)state;
	for (uint32_t inside = 0; inside < 2; inside++) {
		struct kernel *k = make_table(s, DATA, ENTRIES * s->stride);

		name_place(k, "__relocate_kernel_start", function(20));
		name_place(k, "__relocate_kernel_end", function(30));
		put_distance(k, DATA, function(25) + inside);
		if (inside)
			refused(k, tables_read(&k->work, &k->error), s->section, DATA);
		else
			good(k, tables_read(&k->work, &k->error));
		assert_int_equal(k->work.copied_bytes, 0);
		/* nor does a kernel that has none have it at offset 0 */
		k->work.code_count = 0;
		assert_false(table_leads_to_code(&k->work, 0, true));
		end_kernel(k);
	}
}

/* an alternative that replaces bytes of two functions holds these together */
static void test_wide_alternative(void **state)
{
	const struct sample *s = &samples[0];
	struct kernel *k = make_table(s, DATA, ENTRIES * s->stride);
	uint32_t last = function(9) + FUNCTION - INSTRUCTION;

	(void)state;
	put_distance(k, DATA, last);
	good(k, tables_read(&k->work, &k->error));
	assert_int_equal(k->work.tie_count, 0);
	k->work.bytes[DATA + 10] = 6;
	forget(k);
	good(k, tables_read(&k->work, &k->error));
	assert_int_equal(k->work.tie_count, 1);
	assert_int_equal(k->work.tie[0].a, last);
	assert_int_equal(k->work.tie[0].b, last + 5);
	/* the first function, of which there is less before than the alternative is long */
	put_distance(k, DATA, function(0) + FUNCTION - INSTRUCTION);
	k->work.bytes[DATA + 10] = FUNCTION;
	forget(k);
	good(k, tables_read(&k->work, &k->error));
	assert_int_equal(k->work.tie_count, 1);
	assert_int_equal(k->work.tie[0].b, function(1) + FUNCTION - INSTRUCTION - 1);
	end_kernel(k);
}

static void test_bounds(void **state)
{
	struct kernel *k = make_kernel();

	(void)state;
	name_place(k, "__initcall_start", DATA);
	refused(k, tables_read(&k->work, &k->error), "__initcall_start", DATA);
	name_place(k, "__initcall_end", DATA - 4);
	refused(k, tables_read(&k->work, &k->error), "__initcall_start", DATA);
	end_kernel(k);

	k = make_kernel();
	name_section(k, ".return_sites", IMAGE - 8, 12, 0);
	refused(k, tables_read(&k->work, &k->error), ".return_sites", IMAGE - 8);
	k->section[2].address = LINK - 8;
	assert_int_equal(tables_read(&k->work, &k->error), RIFFLE_ERR_UNSUPPORTED);
	k->section[2].address = LINK;
	k->section[2].bytes = UINT64_MAX;
	assert_int_equal(tables_read(&k->work, &k->error), RIFFLE_ERR_UNSUPPORTED);
	end_kernel(k);
}

/* whatever the tables' bytes are, reading them stays in the image (the sanitizers watch) */
static void test_noise(void **state)
{
	unsigned read = 0;

	(void)state;
	for (unsigned round = 0; round < 300; round++) {
		struct kernel *k = make_kernel();

		if (!round)
			print_message("seed %llu\n", (unsigned long long)k->seed);
		k->seed += round;
		for (unsigned i = 0; i < 1 + round % 3; i++) {
			const struct sample *s = &samples[random64(k) % SAMPLES];
			uint32_t offset = DATA + (uint32_t)(random64(k) % (IMAGE - DATA));
			uint32_t bytes = (uint32_t)(random64(k) % (IMAGE - offset)) & ~3u;

			if (s->section)
				name_section(k, s->section, offset, bytes, 0);
			else
				name_place(k, i % 2 ? s->start : s->stop, offset);
			for (uint32_t at = offset; at + 4 <= offset + bytes && at < offset + 400; at += 4)
				put_distance(k, at, (uint32_t)(random64(k) % (TEXT_BYTES / INSTRUCTION)) * INSTRUCTION);
		}
		if (round % 5 == 0)
			name_section(k, "__ex_table", DATA, (uint32_t)(random64(k) % 0x1000), 0);
		read += !tables_read(&k->work, &k->error);
		end_kernel(k);
	}
	print_message("%u of 300 kernels were read\n", read);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_every_table),
	    cmocka_unit_test(test_wrong_entry),
	    cmocka_unit_test(test_cut_entry),
	    cmocka_unit_test(test_exported_variables),
	    cmocka_unit_test(test_lock_padding),
	    cmocka_unit_test(test_short_label),
	    cmocka_unit_test(test_copied_code),
	    cmocka_unit_test(test_wide_alternative),
	    cmocka_unit_test(test_edges_of_copied_code),
	    cmocka_unit_test(test_copied_code_in_text),
	    cmocka_unit_test(test_bounds),
	    cmocka_unit_test(test_noise),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

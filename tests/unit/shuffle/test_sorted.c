/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tables that the kernel searches by bisection: found with their format, refused if not sorted as the search requires.
 */
#include "tables_builder.h"

#define ENTRIES 50u
#define STATES (DATA + 0x4000u)

static void put_extable(struct kernel *k, bool handlers)
{
	for (uint32_t i = 0; i < ENTRIES; i++) {
		uint32_t at = DATA + i * 12;

		put_distance(k, at, instruction(i * 5));
		put_distance(k, at + 4, instruction(i * 5 + 2));
		if (handlers)
			put_distance(k, at + 8, function(20 + i % 3));
		else
			riffle_put32(k->work.bytes + at + 8, 0xfff20000u | i % 8 << 8 | i % 20);
	}
}

static struct kernel *make_extable(bool handlers)
{
	struct kernel *k = make_kernel();

	name_section(k, "__ex_table", DATA, ENTRIES * 12, 0);
	put_extable(k, handlers);
	return k;
}

static void test_extable(void **state)
{
	(void)state;
	for (int handlers = 0; handlers < 2; handlers++) {
		struct kernel *k = make_extable(handlers);
		const struct shuffle_table *t = &k->result.table[0];

		good(k, tables_read(&k->work, &k->error));
		assert_int_equal(k->result.table_count, 1);
		assert_int_equal(t->kind, SHUFFLE_TABLE_EXTABLE);
		assert_int_equal(t->offset, DATA);
		assert_int_equal(t->entries, ENTRIES);
		assert_int_equal(t->third_is_pointer, handlers);
		assert_int_equal(k->work.ref_count, 0); /* fixed up as a whole */
		assert_int_equal(k->work.known_count, 1);
		end_kernel(k);
	}
}

static void test_extable_broken(void **state)
{
	struct kernel *k = make_extable(false);

	(void)state;
	put_distance(k, DATA + 12 * 7, instruction(7 * 5 - 6)); /* below the one before it */
	refused(k, tables_read(&k->work, &k->error), "__ex_table", DATA + 12 * 7);
	put_extable(k, false);
	put_distance(k, DATA + 12 * 7 + 4, instruction(3) + 2);
	refused(k, tables_read(&k->work, &k->error), "__ex_table", DATA + 12 * 7 + 4);
	put_extable(k, false);
	put_distance(k, DATA + 8, function(21)); /* one handler among types */
	refused(k, tables_read(&k->work, &k->error), "__ex_table", DATA);
	put_extable(k, true);
	riffle_put32(k->work.bytes + DATA + 8, 3);
	refused(k, tables_read(&k->work, &k->error), "__ex_table", DATA);
	k->section[2].bytes--;
	refused(k, tables_read(&k->work, &k->error), "__ex_table", DATA);
	end_kernel(k);
}

static void put_orc(struct kernel *k)
{
	for (uint32_t i = 0; i < ENTRIES; i++)
		put_distance(k, DATA + i * 4, i + 1 < ENTRIES ? function(PINNED + i) + i % 3 : INIT + INIT_BYTES);
}

static void test_orc(void **state)
{
	struct kernel *k = make_kernel();
	const struct shuffle_table *t = &k->result.table[0];

	(void)state;
	name_section(k, ".orc_unwind_ip", DATA, ENTRIES * 4, 0);
	name_section(k, ".orc_unwind", STATES, ENTRIES * 6, 0);
	put_orc(k);
	good(k, tables_read(&k->work, &k->error));
	assert_int_equal(k->result.table_count, 1);
	assert_int_equal(t->kind, SHUFFLE_TABLE_ORC);
	assert_int_equal(t->offset, DATA);
	assert_int_equal(t->second, STATES);
	assert_int_equal(t->entries, ENTRIES);

	/* code that kexec copies lies among data: where symbols say so its entries are right, the one at its end too */
	forget(k);
	put_distance(k, DATA + (ENTRIES - 2) * 4, IMAGE - 0x800);
	put_distance(k, DATA + (ENTRIES - 1) * 4, IMAGE - 0x100);
	refused(k, tables_read(&k->work, &k->error), ".orc_unwind_ip", DATA + (ENTRIES - 2) * 4);
	forget(k);
	name_place(k, "__relocate_kernel_start", IMAGE - 0x800);
	name_place(k, "__relocate_kernel_end", IMAGE - 0x100);
	good(k, tables_read(&k->work, &k->error));
	assert_int_equal(k->result.table_count, 1);
	forget(k);
	put_distance(k, DATA + (ENTRIES - 1) * 4, IMAGE - 0xff);
	refused(k, tables_read(&k->work, &k->error), ".orc_unwind_ip", DATA + (ENTRIES - 1) * 4);
	put_orc(k);

	forget(k);
	put_distance(k, DATA + 40, function(PINNED + 8));
	refused(k, tables_read(&k->work, &k->error), ".orc_unwind_ip", DATA + 40);
	put_orc(k);
	put_distance(k, DATA + (ENTRIES - 1) * 4, INIT + INIT_BYTES + 1);
	refused(k, tables_read(&k->work, &k->error), ".orc_unwind_ip", DATA + (ENTRIES - 1) * 4);
	put_orc(k);
	k->section[3].bytes -= 6;
	refused(k, tables_read(&k->work, &k->error), ".orc_unwind", STATES);
	k->section[3].name = ".other";
	assert_int_equal(tables_read(&k->work, &k->error), RIFFLE_ERR_UNSUPPORTED);
	end_kernel(k);
}

static void put_mcount(struct kernel *k, uint32_t zeros)
{
	for (uint32_t i = 0; i < ENTRIES; i++)
		riffle_put64(k->work.bytes + DATA + i * 8, i < zeros ? 0 : LINK + instruction(i * 16));
}

static struct kernel *make_mcount(uint32_t zeros)
{
	struct kernel *k = make_kernel();

	name_place(k, "__start_mcount_loc", DATA);
	name_place(k, "__stop_mcount_loc", DATA + ENTRIES * 8);
	put_mcount(k, zeros);
	return k;
}

/* sorted, with the entries of overridden functions zeroed or none; not sorted by the build: then the kernel does it */
static void test_mcount(void **state)
{
	(void)state;
	for (uint32_t zeros = 0; zeros < 8; zeros += 4) {
		struct kernel *k = make_mcount(zeros);

		good(k, tables_read(&k->work, &k->error));
		assert_int_equal(k->result.table_count, 1);
		assert_int_equal(k->result.table[0].kind, SHUFFLE_TABLE_MCOUNT);
		assert_int_equal(k->result.table[0].offset, DATA);
		assert_int_equal(k->result.table[0].entries, ENTRIES);
		forget(k);
		riffle_put64(k->work.bytes + DATA + 80, LINK + instruction(0));
		good(k, tables_read(&k->work, &k->error));
		assert_int_equal(k->result.table_count, 0);
		end_kernel(k);
	}
}

static void test_mcount_broken(void **state)
{
	struct kernel *k = make_mcount(0);

	(void)state;
	riffle_put64(k->work.bytes + DATA + 80, LINK + instruction(160) + 1);
	refused(k, tables_read(&k->work, &k->error), "__mcount_loc", DATA + 80);
	put_mcount(k, 0);
	riffle_put64(k->work.bytes + DATA + 80, 0); /* not at the start */
	refused(k, tables_read(&k->work, &k->error), "__mcount_loc", DATA + 80);
	end_kernel(k);

	/* a kernel with a function tracer whose table cannot be found must not be shuffled */
	k = make_kernel();
	name_place(k, "__fentry__", function(5));
	name_place(k, "ftrace_replace_code", function(6));
	assert_int_equal(tables_read(&k->work, &k->error), RIFFLE_ERR_UNSUPPORTED);
	assert_string_equal(k->error.field, "__mcount_loc");
	end_kernel(k);
}

/* the kernel has kallsyms, says its debug vmlinux, but the tables are not there or lie */
static void test_kallsyms_lies(void **state)
{
	struct kernel *k = make_kernel();

	(void)state;
	name_place(k, "kallsyms_names", DATA);
	assert_int_equal(tables_read(&k->work, &k->error), RIFFLE_ERR_FORMAT);
	assert_string_equal(k->error.field, "kallsyms");
	end_kernel(k);
}

/* The sorted tables come after all others, for tests that leave one out. */
static void test_table_names(void **state)
{
	unsigned count = table_count();

	(void)state;
	assert_string_equal(table_name(0), ".altinstructions");
	assert_string_equal(table_name(count - 4), "__con_initcall_start");
	assert_string_equal(table_name(count - 3), "runtime_*");
	assert_string_equal(table_name(count - 2), "__ex_table");
	assert_string_equal(table_name(count - 1), ".orc_unwind_ip");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_extable),       cmocka_unit_test(test_extable_broken),
	    cmocka_unit_test(test_orc),           cmocka_unit_test(test_mcount),
	    cmocka_unit_test(test_mcount_broken), cmocka_unit_test(test_kallsyms_lies),
	    cmocka_unit_test(test_table_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

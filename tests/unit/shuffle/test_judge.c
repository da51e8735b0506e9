/* SPDX-License-Identifier: Apache-2.0 */
/* The linker's relocations confirm references, explain unknown tables, and are refused if they contradict. */
#include "prepare/shuffle/debug.h"
#include "tables_builder.h"

#define PERCPU_SECTION 9u

enum { NOTHING, TEXT_START, CALLEE, VARIABLE, COUNTER, NUMBER, TEXT_SECTION, MISSING, END, BEYOND, SYMBOLS };

struct trial {
	struct kernel *k;
	struct shuffle_debug debug;
	struct debug_symbol symbol[SYMBOLS];
	struct debug_rela rela[64];
};

static struct trial *make_trial(void)
{
	struct trial *t = calloc(1, sizeof *t);

	assert_non_null(t);
	t->k = make_kernel();
	t->symbol[TEXT_START] = (struct debug_symbol){.address = LINK, .name = "_text", .section = 1};
	t->symbol[CALLEE] = (struct debug_symbol){.address = LINK + function(50), .name = "callee", .section = 1};
	t->symbol[VARIABLE] = (struct debug_symbol){.address = LINK + DATA + 64, .name = "variable", .section = 2};
	t->symbol[COUNTER] = (struct debug_symbol){.address = 64, .name = "counter", .section = PERCPU_SECTION};
	t->symbol[NUMBER] = (struct debug_symbol){.address = 99, .name = "number", .section = SHN_ABS};
	t->symbol[TEXT_SECTION] = (struct debug_symbol){.address = LINK, .name = "", .type = STT_SECTION, .section = 1};
	t->symbol[END] = (struct debug_symbol){.address = LINK + t->k->work.image_bytes, .name = "_end", .section = 3};
	t->symbol[BEYOND] =
	    (struct debug_symbol){.address = LINK + t->k->work.image_bytes, .name = "n", .section = SHN_ABS};
	t->symbol[MISSING] = (struct debug_symbol){.name = "missing", .section = SHN_UNDEF};
	t->debug = (struct shuffle_debug){.symbol = t->symbol,
					  .symbol_count = SYMBOLS,
					  .has_rela = true,
					  .rela = t->rela,
					  .percpu_section = PERCPU_SECTION};
	t->k->work.debug = &t->debug;
	return t;
}

static void end_trial(struct trial *t)
{
	end_kernel(t->k);
	free(t);
}

/* An entry, and its field as the linker leaves it. */
static void add_rela(struct trial *t, uint32_t field, uint32_t type, uint32_t symbol, int64_t addend)
{
	uint8_t *at = t->k->work.bytes + field;
	uint64_t sum = t->symbol[symbol].address + (uint64_t)addend, place = LINK + field;

	t->rela[t->debug.rela_count++] = (struct debug_rela){field, type, symbol, addend};
	if (type == R_X86_64_64)
		riffle_put64(at, sum);
	else if (type == R_X86_64_PC64)
		riffle_put64(at, sum - place);
	else
		riffle_put32(at, (uint32_t)(type == R_X86_64_32S || type == R_X86_64_32 ? sum : sum - place));
}

static const struct shuffle_ref *ref_at(const struct trial *t, uint32_t field)
{
	for (uint32_t i = 0; i < t->k->work.ref_count; i++)
		if (t->k->work.ref[i].field == field)
			return &t->k->work.ref[i];
	return NULL;
}

static void expect(const struct trial *t, uint32_t field, enum shuffle_field kind, uint32_t target)
{
	const struct shuffle_ref *ref = ref_at(t, field);

	assert_non_null(ref);
	assert_int_equal(ref->kind, kind);
	assert_int_equal(ref->target, target);
	assert_int_equal(ref->found_by, SHUFFLE_BY_RELA);
}

static void test_kinds(void **state)
{
	struct trial *t = make_trial();
	uint32_t code = function(30) + 1;

	(void)state;
	add_rela(t, code, R_X86_64_PLT32, CALLEE, -4);
	add_rela(t, code + 8, R_X86_64_PC32, VARIABLE, -4);
	add_rela(t, code + 16, R_X86_64_32S, CALLEE, 0);
	add_rela(t, code + 24, R_X86_64_PC32, COUNTER, -4); /* the code moves, the percpu offset does not */
	add_rela(t, code + 32, R_X86_64_32S, COUNTER, 0);   /* nothing moves */
	add_rela(t, code + 40, R_X86_64_32, NUMBER, 0);
	add_rela(t, code + 48, R_X86_64_PC32, TEXT_SECTION, function(60) - 4);
	add_rela(t, code + 56, R_X86_64_32S, END, 0);    /* an address, though the image ends there */
	add_rela(t, code + 64, R_X86_64_32S, BEYOND, 0); /* the same number, and none */
	add_rela(t, DATA, R_X86_64_64, CALLEE, 0);
	add_rela(t, DATA + 8, R_X86_64_PC32, CALLEE, 10);
	add_rela(t, DATA + 16, R_X86_64_PC32, TEXT_SECTION, function(60) + 5);
	add_rela(t, DATA + 24, R_X86_64_32, TEXT_START, 4095); /* follows the symbol, not the sum */
	add_rela(t, DATA + 32, R_X86_64_64, VARIABLE, 0);      /* from data to data */
	add_rela(t, DATA + 40, R_X86_64_PC32, MISSING, 0);
	good(t->k, judge_add_refs(&t->k->work, &t->k->error));
	expect(t, code, SHUFFLE_PC32, function(50));
	expect(t, code + 8, SHUFFLE_PC32, DATA + 64);
	expect(t, code + 16, SHUFFLE_ABS32, function(50));
	expect(t, code + 24, SHUFFLE_INVERSE32, UINT32_MAX);
	expect(t, code + 48, SHUFFLE_PC32, function(60));
	expect(t, code + 56, SHUFFLE_ABS32, UINT32_MAX);
	expect(t, DATA, SHUFFLE_ABS64, function(50));
	expect(t, DATA + 8, SHUFFLE_PC32, function(50));
	expect(t, DATA + 16, SHUFFLE_PC32, function(60) + 5);
	expect(t, DATA + 24, SHUFFLE_ABS32, 0);
	assert_int_equal(t->k->work.ref_count, 10);
	end_trial(t);
}

/* entries that do not match the field, of an unused type, or too wide: such a kernel is not understood */
static void test_refused(void **state)
{
	struct trial *t = make_trial();

	(void)state;
	add_rela(t, DATA + 8, R_X86_64_PC32, CALLEE, 0);
	t->k->work.bytes[DATA + 8]++;
	refused(t->k, judge_add_refs(&t->k->work, &t->k->error), ".rela", DATA + 8);
	t->debug.rela_count = 0;
	add_rela(t, DATA + 16, R_X86_64_PC64, CALLEE, 0);
	refused(t->k, judge_add_refs(&t->k->work, &t->k->error), ".rela", DATA + 16);
	t->debug.rela_count = 0;
	add_rela(t, DATA + 16, R_X86_64_PC64, VARIABLE, 0);
	good(t->k, judge_add_refs(&t->k->work, &t->k->error));
	add_rela(t, DATA + 24, R_X86_64_TPOFF32, VARIABLE, 0);
	refused(t->k, judge_add_refs(&t->k->work, &t->k->error), ".rela", DATA + 24);
	end_trial(t);
}

/* the build sorts some tables after the link: their entries are of what stood there before */
static void test_stale(void **state)
{
	struct trial *t = make_trial();

	(void)state;
	t->k->result.table[0] = (struct shuffle_table){.kind = SHUFFLE_TABLE_ORC, .offset = DATA, .entries = 4};
	t->k->result.table_count = 1;
	for (uint32_t i = 0; i < 4; i++) {
		add_rela(t, DATA + i * 4, R_X86_64_PC32, CALLEE, i);
		put_distance(t->k, DATA + i * 4, function(90 - i));
	}
	good(t->k, judge_add_refs(&t->k->work, &t->k->error));
	assert_int_equal(t->k->work.ref_count, 0);
	add_rela(t, DATA + 16, R_X86_64_PC32, CALLEE, 0);
	put_distance(t->k, DATA + 16, function(90));
	refused(t->k, judge_add_refs(&t->k->work, &t->k->error), ".rela", DATA + 16);
	end_trial(t);
}

static int judge_one(struct trial *t, uint32_t field, uint32_t target, unsigned found_by)
{
	struct shuffle_ref ref = {field, target, SHUFFLE_PC32, (uint8_t)found_by};
	struct shuffle result = {.ref = &ref, .ref_count = 1};
	int status;

	t->k->work.result = &result;
	status = judge_by_rela(&t->k->work, &t->k->error);
	t->k->work.result = &t->k->result;
	return status;
}

static void test_confirmed(void **state)
{
	struct trial *t = make_trial();
	struct shuffle_ref ref[] = {
	    {function(30) + 1, function(50), SHUFFLE_PC32, SHUFFLE_BY_CODE | SHUFFLE_BY_RELA},
	    {function(31) + 1, function(50), SHUFFLE_PC32, SHUFFLE_BY_CODE}, /* by the assembler */
	    {DATA, function(50), SHUFFLE_ABS64, SHUFFLE_BY_RELOC | SHUFFLE_BY_RELA},
	    {DATA + 8, function(50), SHUFFLE_PC32, SHUFFLE_BY_RELA}, /* an unknown table */
	};
	uint32_t field = function(31) + 1;

	(void)state;
	t->k->result.ref = ref;
	t->k->result.ref_count = 4;
	good(t->k, judge_by_rela(&t->k->work, &t->k->error));
	assert_int_equal(t->k->result.census.rela_checked, 3);
	assert_int_equal(t->k->result.census.rela_agree, 2);
	t->k->result.ref = NULL;

	/* found, but the linker knows nothing of it, though the assembler cannot have known the distance */
	refused(t->k, judge_one(t, field, INIT + 5, SHUFFLE_BY_CODE), ".rela", field);
	refused(t->k, judge_one(t, INIT + 1, function(50), SHUFFLE_BY_CODE), ".rela", INIT + 1);
	refused(t->k, judge_one(t, DATA, function(50), SHUFFLE_BY_TABLE), ".rela", DATA);
	refused(t->k, judge_one(t, DATA, function(50), SHUFFLE_BY_RELOC), ".rela", DATA);
	t->debug.has_rela = false;
	good(t->k, judge_one(t, DATA, function(50), SHUFFLE_BY_TABLE));
	t->k->work.debug = NULL;
	good(t->k, judge_one(t, DATA, function(50), SHUFFLE_BY_TABLE));
	good(t->k, judge_add_refs(&t->k->work, &t->k->error));
	end_trial(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_kinds),
	    cmocka_unit_test(test_refused),
	    cmocka_unit_test(test_stale),
	    cmocka_unit_test(test_confirmed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

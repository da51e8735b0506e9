/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of chunks: what is joined, what is pinned and why, and that ranges cover .text whatever is in it. */
#include "work_builder.h"

#define TEXT 0xa000u
#define LARGE_TEXT 0x18000u
#define STEP 0x50u /* no power of two, a multiple of 16 */
#define FIRST TEXT_SKIP
#define DATA (TEXT + 2 * OTHER_BYTES)
#define F(i) (FIRST + (i)*STEP)
#define ROUTINES 8u

static const char *const routine[ROUTINES] = {"f0", "f1", "f2", "f3", "f4", "f5", "f6", "f7"};

/* Eight functions that return; f7 goes on to the end of .text with padding. `before` f3 is a symbol, or NULL. */
static struct builder *functions(const char *before)
{
	struct builder *b = build(TEXT);

	for (uint32_t i = 0; i < ROUTINES; i++) {
		if (i == 3 && before)
			add_symbol(b, F(i) - 16, before);
		add_symbol(b, F(i), routine[i]);
		CODE(b, F(i), "\xc3");
	}
	add_symbol(b, F(ROUTINES), "__entry_text_start");
	add_symbol(b, F(ROUTINES) + 4, "__entry_text_end");
	CODE(b, F(ROUTINES), "\xc3");
	return b;
}

static struct builder *eight_functions(void)
{
	return functions(NULL);
}

/* The addresses of unwind states, ascending. */
static void put_orc(struct builder *b, const uint32_t *ip, uint32_t count)
{
	b->result.table_count = 1;
	b->result.table[0] = (struct shuffle_table){SHUFFLE_TABLE_ORC, false, DATA, DATA + 0x800, count};
	for (uint32_t i = 0; i < count; i++)
		riffle_put32(b->work.bytes + DATA + i * 4, ip[i] - (DATA + i * 4));
}

/* Ends the last function of interest: behind it there is a hole up to the end of .text. */
static void add_tail(struct builder *b, uint32_t offset)
{
	add_symbol(b, offset, "tail");
	CODE(b, offset, "\xc3");
}

static void make_chunks(struct builder *b)
{
	uint32_t at = 0, chunks = 0;

	good(b, code_decode(&b->work, &b->error));
	good(b, chunks_build(&b->work, &b->error));
	for (uint32_t i = 0; i < b->result.range_count; i++) {
		const struct shuffle_range *range = &b->result.range[i];

		assert_int_equal(range->offset, at);
		assert_true(range->bytes > 0);
		if (range->pin == SHUFFLE_PIN_NONE) {
			chunks++;
			assert_int_equal(range->offset % SHUFFLE_ALIGN, 0);
			assert_int_equal(range->bytes % SHUFFLE_ALIGN, 0);
			assert_true(range->bytes <= SHUFFLE_CHUNK_MAX);
		}
		at += range->bytes;
	}
	assert_int_equal(at, b->work.text_bytes);
	assert_int_equal(chunks, b->result.chunk_count);
}

static void assert_apart(const struct builder *b, uint32_t x, uint32_t y)
{
	assert_ptr_not_equal(range_of(b, x), range_of(b, y));
	assert_int_equal(range_of(b, x)->pin, SHUFFLE_PIN_NONE);
	assert_int_equal(range_of(b, y)->pin, SHUFFLE_PIN_NONE);
}

static void assert_joined(const struct builder *b, uint32_t x, uint32_t y)
{
	assert_ptr_equal(range_of(b, x), range_of(b, y));
	assert_int_equal(range_of(b, x)->pin, SHUFFLE_PIN_NONE);
}

static void assert_pinned(const struct builder *b, uint32_t x, enum shuffle_pin why)
{
	assert_int_equal(range_of(b, x)->pin, why);
}

static void test_functions_are_chunks(void **state)
{
	struct builder *b = eight_functions();

	(void)state;
	make_chunks(b);
	assert_int_equal(b->result.chunk_count, ROUTINES);
	for (uint32_t i = 0; i < ROUTINES; i++) {
		assert_int_equal(range_of(b, F(i))->offset, F(i));
		assert_int_equal(range_of(b, F(i))->bytes, STEP);
		assert_int_equal(range_of(b, F(i))->functions, 1);
		assert_string_equal(range_of(b, F(i))->name, routine[i]);
	}
	assert_pinned(b, 0, SHUFFLE_PIN_HEAD);
	assert_pinned(b, F(ROUTINES), SHUFFLE_PIN_SECTION);
	assert_int_equal(b->result.census.movable_bytes, ROUTINES);
	assert_int_equal(b->result.census.multi_function_bytes, 0);
	tear_down(b);
}

static void test_code_that_goes_on(void **state)
{
	struct builder *b = eight_functions();

	(void)state;
	CODE(b, F(1), "\x48\x89\xc3"); /* falls into f2 */
	CODE(b, F(3), "\xeb\x4e");     /* short jump to f4 */
	REL32(b, F(5), "\xe8", F(0));  /* ends with a call: it does not return */
	make_chunks(b);
	assert_apart(b, F(0), F(1));
	assert_joined(b, F(1), F(2));
	assert_apart(b, F(2), F(3));
	assert_joined(b, F(3), F(4));
	assert_apart(b, F(5), F(6));
	assert_int_equal(range_of(b, F(1))->functions, 2);
	assert_int_equal(b->result.census.multi_function_bytes, 3 + 1 + 2 + 1);
	tear_down(b);
}

static void test_places_and_names(void **state)
{
	struct builder *b = build(TEXT);

	(void)state;
	add_symbol(b, F(0), "f0");
	add_symbol(b, F(1), "__pfx_f1");
	add_symbol(b, F(1) + 16, "f1");
	add_symbol(b, F(3), "f2");
	add_symbol(b, F(3) + 9, "f2.cold");
	add_tail(b, F(4));
	REL32(b, F(0), "\xe9", F(1) + 16);
	CODE(b, F(1) + 16, "\xc3");
	CODE(b, F(3), "\xc3");
	CODE(b, F(3) + 9, "\xc3");
	CODE(b, F(1), "\xc3"); /* whatever is in it, it stays before its function */
	make_chunks(b);
	assert_apart(b, F(0), F(1));
	assert_joined(b, F(1), F(1) + 16);
	assert_int_equal(range_of(b, F(1))->functions, 1);
	assert_apart(b, F(1), F(3));
	assert_joined(b, F(3), F(3) + 9);
	tear_down(b);
}

static void test_unwind_entries(void **state)
{
	struct builder *b = eight_functions();
	const uint32_t ip[] = {F(0), F(0) + 8, F(1), F(3), F(3) + 1, F(4), F(5), F(7), F(8)};

	(void)state;
	put_orc(b, ip, 9);
	make_chunks(b);
	assert_apart(b, F(0), F(1));
	assert_joined(b, F(1), F(2));
	assert_apart(b, F(2), F(3));
	assert_apart(b, F(4), F(5));
	assert_joined(b, F(5), F(6));
	assert_apart(b, F(6), F(7));
	tear_down(b);
}

/* In front of f1 and f5 there is room that the kernel writes to; in front of f2 one byte is too few, f3's has a name.
 */
static struct builder *functions_with_room(const char *third)
{
	struct builder *b = functions(third);

	/* somebody calls them: they are no steps of a table of code */
	REL32(b, F(7), "\xe8", F(1));
	REL32(b, F(7) + 5, "\xe8", F(3));
	REL32(b, F(7) + 10, "\xe9", F(5));
	memset(b->work.bytes + F(1) - 16, 0x90, 16);
	memset(b->work.bytes + F(2) - 15, 0x90, 15);
	memset(b->work.bytes + F(3) - 16, 0x90, 16);
	memset(b->work.bytes + F(5) - 16, 0x90, 16);
	return b;
}

static void test_room_before_functions(void **state)
{
	struct builder *b = functions_with_room("__cfi_f3");
	const uint32_t ip[] = {F(0), F(1), F(2), F(3) - 16, F(3), F(4), F(6), F(7), F(8)};

	(void)state;
	good(b, room_name(&b->work, &b->error));
	make_chunks(b);
	assert_apart(b, F(0), F(1) - 16);
	assert_joined(b, F(1) - 16, F(1));
	assert_int_equal(range_of(b, F(1))->functions, 1);
	assert_int_equal(range_of(b, F(2))->offset, F(2));
	assert_joined(b, F(3) - 16, F(3));
	assert_apart(b, F(4), F(5));
	tear_down(b);

	/* room that is never run needs no unwind state; f5 has none of its own, and stays behind f4 with what lies
	 * between */
	b = functions_with_room("__cfi_f3");
	put_orc(b, ip, 9);
	good(b, room_name(&b->work, &b->error));
	make_chunks(b);
	assert_apart(b, F(0), F(1) - 16);
	assert_joined(b, F(1) - 16, F(1));
	assert_joined(b, F(4), F(5) - 16);
	assert_joined(b, F(5) - 16, F(5));
	assert_apart(b, F(5), F(6));
	tear_down(b);

	/* kernels without kCFI name it all, and fill holes with nops */
	b = functions_with_room("other");
	good(b, room_name(&b->work, &b->error));
	make_chunks(b);
	assert_int_equal(range_of(b, F(1))->offset, F(1));
	tear_down(b);
}

static void test_alternative_at_the_end(void **state)
{
	struct builder *b = eight_functions();
	const uint32_t entry = TEXT + OTHER_BYTES;

	(void)state;
	CODE(b, F(2), "\x90\xc3");
	good(b, work_add_ref(&b->work, entry, F(2) + 1, SHUFFLE_PC32, SHUFFLE_BY_TABLE, &b->error));
	good(b, work_add_ref(&b->work, entry + 12, F(4) + 1, SHUFFLE_PC32, SHUFFLE_BY_TABLE, &b->error));
	make_chunks(b);
	assert_joined(b, F(2), F(3));
	assert_apart(b, F(4), F(5));
	tear_down(b);
}

/* Routines at multiples of a power of two: those that nothing leads to are found from the first. */
static void test_steps(void **state)
{
	struct builder *b = build(TEXT);
	const uint32_t at = FIRST;

	(void)state;
	for (uint32_t i = 0; i < 6; i++) {
		add_symbol(b, at + i * 16, routine[i]);
		CODE(b, at + i * 16, "\xc3");
	}
	add_tail(b, at + 6 * 16 + 32);
	riffle_put64(b->work.bytes + DATA, LINK + at);
	riffle_put32(b->work.bytes + DATA + 8, (uint32_t)(LINK + at + 48));
	relocate(b, &b->image.reloc64, DATA);
	relocate(b, &b->image.reloc32, DATA + 8);
	/* that the kernel patches its return does not mean that anyone calls it */
	good(b, work_add_ref(&b->work, TEXT + OTHER_BYTES, at + 32, SHUFFLE_PC32, SHUFFLE_BY_TABLE, &b->error));
	b->section[2].name = ".return_sites";
	make_chunks(b);
	assert_joined(b, at, at + 16);
	assert_joined(b, at, at + 32);
	assert_apart(b, at, at + 48);
	assert_joined(b, at + 48, at + 64);
	tear_down(b);
}

static void test_ties(void **state)
{
	struct builder *b = eight_functions();

	(void)state;
	good(b, work_add_tie(&b->work, F(3) + 2, F(1), &b->error));
	make_chunks(b);
	assert_apart(b, F(0), F(1));
	assert_joined(b, F(1), F(2));
	assert_joined(b, F(1), F(3));
	assert_apart(b, F(3), F(4));
	tear_down(b);
}

/* A text as large as `far`, without holes: no page of it is padding alone. */
static struct builder *large_text(void)
{
	struct builder *b = build(LARGE_TEXT);

	for (uint32_t at = FIRST; at < LARGE_TEXT; at += 16)
		CODE(b, at, "\xc3");
	return b;
}

static void test_far_ties(void **state)
{
	struct builder *b;

	(void)state;
	for (uint32_t more = 0; more <= 16; more += 16) {
		const uint32_t c = FIRST + SHUFFLE_CHUNK_MAX - 0x60 + more;

		b = large_text();
		add_symbol(b, FIRST, "a");
		add_symbol(b, FIRST + 0x60, "b");
		add_symbol(b, c, "c");
		add_symbol(b, c + 0x60, "d");
		add_symbol(b, c + 0xc0, "e");
		good(b, work_add_tie(&b->work, FIRST, c, &b->error));
		make_chunks(b);
		if (!more)
			assert_joined(b, FIRST, c);
		else
			assert_pinned(b, FIRST, SHUFFLE_PIN_LARGE);
		if (more)
			assert_pinned(b, c, SHUFFLE_PIN_LARGE);
		assert_int_equal(range_of(b, c + 0x60)->pin, SHUFFLE_PIN_NONE);
		tear_down(b);
	}
}

static void test_large(void **state)
{
	struct builder *b;

	(void)state;
	for (uint32_t more = 0; more <= 16; more += 16) {
		b = large_text();
		add_symbol(b, FIRST, "a");
		add_symbol(b, FIRST + SHUFFLE_CHUNK_MAX + more, "b");
		add_symbol(b, FIRST + SHUFFLE_CHUNK_MAX + more + 0x60, "c");
		make_chunks(b);
		assert_pinned(b, FIRST, more ? SHUFFLE_PIN_LARGE : SHUFFLE_PIN_NONE);
		assert_int_equal(range_of(b, FIRST + SHUFFLE_CHUNK_MAX + more)->pin, SHUFFLE_PIN_NONE);
		tear_down(b);
	}
}

/* A page of padding is no part of the function before it, and does not move; one byte less is. */
static void test_holes(void **state)
{
	struct builder *b;

	(void)state;
	for (uint32_t less = 0; less <= 16; less += 16) {
		const uint32_t next = FIRST + 16 + WORK_HOLE_BYTES - less;
		uint32_t ip[] = {FIRST, next, next + 0x50};

		b = build(TEXT);
		add_symbol(b, FIRST, "a");
		add_symbol(b, next, "b");
		add_symbol(b, next + 0x50, "c");
		CODE(b, FIRST, "\xc3");
		CODE(b, next, "\xc3");
		CODE(b, next + 0x50, "\xc3");
		put_orc(b, ip, 3);
		make_chunks(b);
		assert_int_equal(range_of(b, FIRST)->pin, SHUFFLE_PIN_NONE);
		assert_int_equal(range_of(b, FIRST)->bytes, less ? 16 + WORK_HOLE_BYTES - less : 16);
		assert_int_equal(range_of(b, next)->offset, next);
		assert_int_equal(range_of(b, next)->pin, SHUFFLE_PIN_NONE);
		if (!less)
			assert_pinned(b, FIRST + 16, SHUFFLE_PIN_SECTION);
		tear_down(b);
	}
}

static void test_doubt_pins_all_that_is_tied(void **state)
{
	struct builder *b = eight_functions();

	(void)state;
	CODE(b, F(3), "\x06\xc3");     /* no instruction */
	CODE(b, F(2), "\x48\x89\xc3"); /* falls into f3 */
	make_chunks(b);
	assert_pinned(b, F(3), SHUFFLE_PIN_UNEXPLAINED);
	assert_pinned(b, F(2), SHUFFLE_PIN_UNEXPLAINED);
	assert_pinned(b, F(4), SHUFFLE_PIN_UNEXPLAINED); /* where f3 ends is not known */
	assert_apart(b, F(1), F(5));
	tear_down(b);
}

/* A bracket moves as one, and a function that begins where it ends goes along: references to the end mean either. */
static void test_bracket_moves_with_its_end(void **state)
{
	struct builder *b = build(TEXT);

	(void)state;
	add_symbol(b, F(0), "f0");
	add_symbol(b, F(1), "__sched_text_start");
	add_symbol(b, F(1), "schedule");
	add_symbol(b, F(2), "schedule_idle");
	add_symbol(b, F(3), "__sched_text_end");
	add_symbol(b, F(3), "f3");
	add_symbol(b, F(4), "__x86_indirect_thunk_rax");
	add_symbol(b, F(5), "f5");
	add_symbol(b, F(6), "its_time");
	for (uint32_t i = 0; i < 7; i++)
		CODE(b, F(i), "\xc3");
	add_tail(b, F(7));
	make_chunks(b);
	assert_apart(b, F(0), F(1));
	assert_joined(b, F(1), F(2));
	assert_joined(b, F(1), F(3));
	assert_pinned(b, F(4), SHUFFLE_PIN_SECTION);
	assert_apart(b, F(5), F(6));
	tear_down(b);
}

/* Nothing but padding follows a bracket's end, and a thunk after that: the one moves, the other does not. */
static void test_bracket_before_a_thunk(void **state)
{
	struct builder *b = build(TEXT);

	(void)state;
	add_symbol(b, F(0), "f0");
	add_symbol(b, F(1), "__lock_text_start");
	add_symbol(b, F(2) - 8, "__lock_text_end");
	add_symbol(b, F(2), "__x86_indirect_thunk_rax");
	add_symbol(b, F(3), "f3");
	for (uint32_t i = 0; i < 4; i++)
		CODE(b, F(i), "\xc3");
	add_tail(b, F(4));
	make_chunks(b);
	assert_apart(b, F(0), F(1));
	assert_joined(b, F(1), F(2) - 8);
	assert_pinned(b, F(2), SHUFFLE_PIN_SECTION);
	tear_down(b);
	/* the bracket's end is the thunk's start: which of them a reference means is not known */
	b = build(TEXT);
	add_symbol(b, F(0), "f0");
	add_symbol(b, F(1), "__lock_text_start");
	add_symbol(b, F(2), "__lock_text_end");
	add_symbol(b, F(2), "__x86_indirect_thunk_rax");
	add_symbol(b, F(3), "f3");
	for (uint32_t i = 0; i < 4; i++)
		CODE(b, F(i), "\xc3");
	add_tail(b, F(4));
	make_chunks(b);
	assert_pinned(b, F(1), SHUFFLE_PIN_SECTION);
	assert_apart(b, F(0), F(3));
	tear_down(b);
}

static void test_large_bracket_stays(void **state)
{
	(void)state;
	for (uint32_t more = 0; more <= 16; more += 16) {
		struct builder *b = large_text();
		const uint32_t end = FIRST + 0x60 + SHUFFLE_CHUNK_MAX - 0x50 + more;

		add_symbol(b, FIRST, "f0");
		add_symbol(b, FIRST + 0x60, "__sched_text_start");
		add_symbol(b, FIRST + 0xb0, "schedule");
		add_symbol(b, end, "__sched_text_end");
		add_symbol(b, end + 0x50, "f1");
		add_symbol(b, end + 0xa0, "f2");
		make_chunks(b);
		if (more) {
			assert_pinned(b, FIRST + 0x60, SHUFFLE_PIN_SECTION);
			assert_pinned(b, FIRST + 0xb0, SHUFFLE_PIN_SECTION);
			assert_pinned(b, end, SHUFFLE_PIN_SECTION);
		} else {
			assert_joined(b, FIRST + 0x60, FIRST + 0xb0);
			assert_joined(b, FIRST + 0x60, end);
		}
		assert_apart(b, FIRST, end + 0x50);
		tear_down(b);
	}
}

/* Trampolines move one by one, though nothing leads to some; one without an unwind entry of its own belongs to the one
 * before. */
static void test_static_calls(void **state)
{
	struct builder *b = build(TEXT);
	const uint32_t at = FIRST + 0x100;
	const uint32_t ip[] = {FIRST,     at,        at + 0x10, at + 0x20,  at + 0x30,  at + 0x40, at + 0x50,
			       at + 0x60, at + 0x80, at + 0xd0, at + 0x100, at + 0x110, at + 0x140};

	(void)state;
	add_symbol(b, FIRST, "f0");
	add_symbol(b, at, "__static_call_text_start");
	for (uint32_t i = 0; i < 8; i++) {
		add_symbol(b, at + 16 * i, routine[i]);
		CODE(b, at + 16 * i, "\xc3");
	}
	add_symbol(b, at + 0x80, "__static_call_text_end");
	add_symbol(b, at + 0x80, "__indirect_thunk_start");
	add_symbol(b, at + 0xd0, "__indirect_thunk_end");
	add_symbol(b, at + 0xd0, "f1");
	add_symbol(b, at + 0x100, "f2");
	add_symbol(b, at + 0x110, "f3"); /* nothing leads to it: a step, as anywhere else */
	add_symbol(b, at + 0x140, "f4");
	CODE(b, FIRST, "\xc3");
	CODE(b, at + 0x80, "\xc3");
	CODE(b, at + 0xd0, "\xc3");
	CODE(b, at + 0x100, "\xc3");
	CODE(b, at + 0x110, "\xc3");
	CODE(b, at + 0x140, "\xc3");
	put_orc(b, ip, 13);
	make_chunks(b);
	assert_apart(b, FIRST, at);
	for (uint32_t i = 0; i < 6; i++)
		assert_apart(b, at + 16 * i, at + 16 * i + 16);
	assert_joined(b, at + 0x60, at + 0x70);
	assert_pinned(b, at + 0x80, SHUFFLE_PIN_SECTION);
	assert_joined(b, at + 0x100, at + 0x110);
	tear_down(b);
}

static void test_bad_brackets(void **state)
{
	static const struct {
		const char *first, *second;
	} row[] = {
	    {"__sched_text_end", "__sched_text_start"},
	    {"__entry_text_end", "other"},
	};

	(void)state;
	for (unsigned i = 0; i < sizeof row / sizeof *row; i++) {
		struct builder *b = build(TEXT);

		add_symbol(b, F(0), row[i].first);
		add_symbol(b, F(1), row[i].second);
		good(b, code_decode(&b->work, &b->error));
		assert_int_equal(chunks_build(&b->work, &b->error), RIFFLE_ERR_UNSUPPORTED);
		assert_true(b->error.has_found && b->error.found >= LINK);
		tear_down(b);
	}
}

/* kallsyms leaves out an end that is _etext */
static void test_bracket_up_to_the_end(void **state)
{
	struct builder *b = eight_functions();

	(void)state;
	add_symbol(b, F(ROUTINES) + 0x100, "f8");
	add_symbol(b, F(ROUTINES) + 0x200, "__indirect_thunk_start");
	CODE(b, F(ROUTINES) + 4, "\xc3");
	CODE(b, F(ROUTINES) + 0x100, "\xc3");
	CODE(b, F(ROUTINES) + 0x200, "\xc3");
	make_chunks(b);
	assert_int_equal(range_of(b, F(1))->pin, SHUFFLE_PIN_NONE);
	assert_int_equal(range_of(b, F(ROUTINES) + 0x100)->pin, SHUFFLE_PIN_NONE);
	assert_pinned(b, F(ROUTINES) + 0x200, SHUFFLE_PIN_SECTION);
	assert_pinned(b, TEXT - 1, SHUFFLE_PIN_SECTION);
	tear_down(b);
}

/* The image's first bytes stay, with what is tied to them; the rest of the start-up code moves, the entry too. */
static void test_head(void **state)
{
	struct builder *b = build(TEXT);

	(void)state;
	add_symbol(b, 0x100, "secondary_startup_64");
	add_symbol(b, 0x150, "startup_64");
	add_symbol(b, 0x1a0, "sme_enable");
	add_symbol(b, 0x1f0, "pvh_start_xen");
	add_symbol(b, 0x250, "f0");
	add_symbol(b, 0x2a0, "f1");
	add_tail(b, 0x2f0);
	for (uint32_t i = 0; i < b->work.symbol_count; i++)
		CODE(b, b->work.symbol[i].offset, "\xc3");
	CODE(b, 0, "\x0f\x84\xfa\x00\x00\x00\x74\xf8\xc3"); /* je secondary_startup_64, by 32 bits */
	CODE(b, 0x1f0, "\x06\xc3");                         /* 32-bit code; what follows may belong to it */
	b->image.entry_offset = 0x150;
	make_chunks(b);
	assert_pinned(b, 0, SHUFFLE_PIN_HEAD);
	assert_apart(b, 0x100, 0x150);
	assert_apart(b, 0x150, 0x1a0);
	assert_apart(b, 0x1a0, 0x1f0);
	assert_joined(b, 0x1f0, 0x250);
	assert_apart(b, 0x250, 0x2a0);
	tear_down(b);
	/* by 8 bits: tied */
	b = build(TEXT);
	add_symbol(b, 0x50, "secondary_startup_64");
	add_symbol(b, 0xa0, "f0");
	add_tail(b, 0xf0);
	for (uint32_t i = 0; i < b->work.symbol_count; i++)
		CODE(b, b->work.symbol[i].offset, "\xc3");
	CODE(b, 0, "\xeb\x4e");
	make_chunks(b);
	assert_pinned(b, 0x50, SHUFFLE_PIN_HEAD);
	assert_int_equal(range_of(b, 0xa0)->pin, SHUFFLE_PIN_NONE);
	tear_down(b);
}

static void test_blocks_and_pages(void **state)
{
	struct builder *b = build(TEXT);

	(void)state;
	add_symbol(b, F(0), "ftrace_caller");
	add_symbol(b, F(1), "ftrace_call");
	add_symbol(b, F(2), "ftrace_caller_end");
	add_symbol(b, F(3), "f3");
	add_symbol(b, 0x4000, "hypercall_page");
	add_symbol(b, 0x4050, "inside");
	add_symbol(b, 0x4fe0, "across");
	add_symbol(b, 0x5040, "behind");
	add_symbol(b, 0x5090, "restore_registers");
	add_symbol(b, 0x50e0, "core_restore_code"); /* copied with what follows, a page in all */
	add_symbol(b, 0x5130, "f4");
	add_symbol(b, 0x60d0, "f5");
	add_symbol(b, 0x6120, "f6");
	add_tail(b, 0x6170);
	for (uint32_t i = 1; i < b->work.symbol_count; i++)
		CODE(b, b->work.symbol[i].offset, "\xc3");
	make_chunks(b);
	assert_joined(b, F(0), F(1));
	assert_joined(b, F(0), F(2));
	assert_apart(b, F(2), F(3));
	assert_pinned(b, 0x4000, SHUFFLE_PIN_PAGE);
	assert_pinned(b, 0x4050, SHUFFLE_PIN_PAGE);
	assert_pinned(b, 0x4fe0, SHUFFLE_PIN_PAGE);
	assert_apart(b, 0x5040, 0x5090);
	assert_apart(b, 0x5090, 0x50e0);
	assert_joined(b, 0x50e0, 0x5130);
	assert_joined(b, 0x50e0, 0x60d0);
	assert_apart(b, 0x60d0, 0x6120);
	tear_down(b);
}

/* The range of the chunk that the kernel maps by page; NULL if there is none. */
static const struct shuffle_range *paged_range(const struct builder *b)
{
	uint32_t chunk = 0, i = 0;

	if (!b->result.has_paged)
		return NULL;
	while (b->result.range[i].pin || chunk++ < b->result.paged_chunk)
		i++;
	return &b->result.range[i];
}

/* kexec's code, which must start a chunk, and that at a page. */
static void test_code_mapped_by_page(void **state)
{
	static const struct {
		uint32_t at;
		const char *before;
		bool paged;
	} rows[] = {{0x4000, "\xc3", true}, {0x4010, "\xc3", false}, {0x4000, "\x90", false}};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct builder *b = build(TEXT);

		add_symbol(b, F(0), "f0");
		add_symbol(b, F(1), "f1");
		add_symbol(b, rows[i].at, "relocate_kernel");
		add_symbol(b, rows[i].at + 0x100, "identity_mapped");
		add_symbol(b, rows[i].at + 0x900, "f2");
		add_tail(b, rows[i].at + 0x950);
		for (uint32_t k = 1; k < b->work.symbol_count; k++)
			CODE(b, b->work.symbol[k].offset, "\xc3");
		memset(b->work.bytes + F(1), rows[i].before[0], rows[i].at - F(1));
		make_chunks(b);
		assert_joined(b, rows[i].at, rows[i].at + 0x100);
		assert_ptr_equal(paged_range(b), rows[i].paged ? range_of(b, rows[i].at) : NULL);
		tear_down(b);
	}
}

/* Code that is copied as a whole: from its first byte to its last, which is that of its end's symbol or of its room. */
static void test_copied(void **state)
{
	static const struct {
		const char *start, *end;
		uint32_t last; /* from the first */
	} cases[] = {
	    {"ftrace_caller", "ftrace_caller_end", 0x100},
	    {"ftrace_regs_caller", "ftrace_regs_caller_end", 0x100},
	    {"relocate_kernel", NULL, 2047},
	    {"relocate_range", NULL, 2047},
	    {"__enc_copy", NULL, 255},
	    {"core_restore_code", NULL, 4095},
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct builder *b = build(TEXT);
		const uint32_t at = F(1);

		add_symbol(b, F(0), "f0");
		add_symbol(b, at, cases[i].start);
		if (cases[i].end)
			add_symbol(b, at + 0x100, cases[i].end);
		add_tail(b, F(20));
		assert_false(pins_is_copied(&b->work, at - 1));
		assert_true(pins_is_copied(&b->work, at));
		assert_true(pins_is_copied(&b->work, at + cases[i].last));
		assert_false(pins_is_copied(&b->work, at + cases[i].last + 1));
		tear_down(b);
	}
}

/* The kernel compares addresses with `_etext - 1`: what has that byte stays, and nothing else does for that reason. */
static void test_last_byte_of_text(void **state)
{
	static const struct {
		uint32_t etext;
		uint32_t stays; /* a function, or ROUTINES: none */
	} rows[] = {
	    {F(3), 2}, {F(3) + 1, 3}, {F(3) + 2, 3}, {F(4) - 1, 3}, {F(4), 3}, {TEXT + 1, ROUTINES}, {0, ROUTINES},
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct builder *b = eight_functions();
		struct work *w = &b->work;
		uint32_t at;

		add_symbol(b, rows[i].etext, "_etext");
		for (at = w->symbol_count - 1; at && w->symbol[at - 1].offset > rows[i].etext; at--) {
			w->symbol[at] = w->symbol[at - 1];
			w->symbol[at - 1] = (struct work_symbol){rows[i].etext, 0, 't', "_etext"};
		}
		CODE(b, rows[i].etext, "\xc3"); /* what follows it is code of its own */
		make_chunks(b);
		for (uint32_t k = 0; k < ROUTINES; k++)
			if (unit_of(b, F(k))->pin != (k == rows[i].stays ? SHUFFLE_PIN_SECTION : SHUFFLE_PIN_NONE))
				fail_msg("_etext at %x: f%u: %u", rows[i].etext, k, unit_of(b, F(k))->pin);
		tear_down(b);
	}
}

static void test_too_many(void **state)
{
	const uint32_t functions = SHUFFLE_CHUNKS_MAX + 700;
	struct builder *b = build(TEXT_SKIP + functions * 0x30);

	(void)state;
	b->work.symbol = realloc(b->work.symbol, (functions + 2) * sizeof *b->work.symbol);
	for (uint32_t i = 0; i < functions; i++) {
		b->work.symbol[b->work.symbol_count++] = (struct work_symbol){TEXT_SKIP + i * 0x30, 0, 't', "f"};
		CODE(b, TEXT_SKIP + i * 0x30, "\xc3");
	}
	/* at a page: not joined to the one before */
	b->work.symbol[b->work.symbol_count - functions + 0x3000 / 0x30].name = "relocate_kernel";
	make_chunks(b);
	assert_int_equal(b->result.chunk_count, SHUFFLE_CHUNKS_MAX);
	assert_int_equal(paged_range(b)->offset, TEXT_SKIP + 0x3000);
	tear_down(b);
}

/* `regions` functions that can move, each after one that cannot; the first and the last are followed by another. */
static struct builder *islands(uint32_t regions)
{
	struct builder *b = build(TEXT_SKIP + (2 * regions + 3) * 0x30);
	uint32_t at = TEXT_SKIP;

	b->work.symbol = realloc(b->work.symbol, (2 * (size_t)regions + 5) * sizeof *b->work.symbol);
	for (uint32_t i = 0; i < 2 * regions + 2; i++, at += 0x30) {
		bool pinned = i != 2 && i != 2 * regions + 1 && (i < 2 ? i == 0 : i % 2);

		b->work.symbol[b->work.symbol_count++] = (struct work_symbol){at, 0, 't', pinned ? "srso_thunk" : "f"};
		CODE(b, at, "\xc3");
	}
	add_symbol(b, at, "srso_end");
	CODE(b, at, "\xc3");
	return b;
}

static uint32_t count_regions(const struct builder *b)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < b->result.range_count; i++)
		count += !b->result.range[i].pin && (!i || b->result.range[i - 1].pin);
	return count;
}

static void test_too_many_regions(void **state)
{
	struct builder *b = islands(SHUFFLE_REGIONS_MAX);
	uint32_t last;

	(void)state;
	make_chunks(b);
	assert_int_equal(count_regions(b), SHUFFLE_REGIONS_MAX);
	assert_int_equal(b->result.chunk_count, SHUFFLE_REGIONS_MAX + 2);
	tear_down(b);

	b = islands(SHUFFLE_REGIONS_MAX + 3);
	last = TEXT_SKIP + (2 * SHUFFLE_REGIONS_MAX + 7) * 0x30;
	make_chunks(b);
	assert_int_equal(count_regions(b), SHUFFLE_REGIONS_MAX);
	assert_int_equal(b->result.chunk_count, SHUFFLE_REGIONS_MAX + 2);
	assert_int_equal(range_of(b, TEXT_SKIP + 0x30)->pin, SHUFFLE_PIN_NONE);
	assert_int_equal(range_of(b, last)->pin, SHUFFLE_PIN_NONE);
	assert_pinned(b, last - 3 * 0x30, SHUFFLE_PIN_ISLAND);
	tear_down(b);
}

/* Any bytes, any symbols, ties and references: make_chunks() checks what must hold. */
static void test_noise(void **state)
{
	(void)state;
	for (unsigned seed = 1; seed <= 40; seed++) {
		struct builder *b = build(TEXT);

		srand(seed);
		if (seed % 2)
			for (uint32_t i = 0; i < TEXT; i++)
				b->work.bytes[i] = (uint8_t)rand();
		for (uint32_t offset = 1; offset < TEXT; offset += 1 + (uint32_t)rand() % 200)
			add_symbol(b, seed % 3 ? (offset + 15) / 16 * 16 % TEXT : offset, routine[rand() % 8]);
		for (uint32_t i = 1; i < b->work.symbol_count; i++)
			if (b->work.symbol[i].offset < b->work.symbol[i - 1].offset)
				b->work.symbol[i].offset = b->work.symbol[i - 1].offset;
		for (unsigned i = 0; i < seed; i++)
			good(b, work_add_tie(&b->work, (uint32_t)rand() % TEXT, (uint32_t)rand() % TEXT, &b->error));
		print_message("seed %u\n", seed);
		make_chunks(b);
		tear_down(b);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_functions_are_chunks),
	    cmocka_unit_test(test_code_that_goes_on),
	    cmocka_unit_test(test_places_and_names),
	    cmocka_unit_test(test_unwind_entries),
	    cmocka_unit_test(test_room_before_functions),
	    cmocka_unit_test(test_alternative_at_the_end),
	    cmocka_unit_test(test_steps),
	    cmocka_unit_test(test_ties),
	    cmocka_unit_test(test_far_ties),
	    cmocka_unit_test(test_large),
	    cmocka_unit_test(test_doubt_pins_all_that_is_tied),
	    cmocka_unit_test(test_holes),
	    cmocka_unit_test(test_bracket_moves_with_its_end),
	    cmocka_unit_test(test_bracket_before_a_thunk),
	    cmocka_unit_test(test_large_bracket_stays),
	    cmocka_unit_test(test_static_calls),
	    cmocka_unit_test(test_bad_brackets),
	    cmocka_unit_test(test_bracket_up_to_the_end),
	    cmocka_unit_test(test_head),
	    cmocka_unit_test(test_blocks_and_pages),
	    cmocka_unit_test(test_copied),
	    cmocka_unit_test(test_code_mapped_by_page),
	    cmocka_unit_test(test_last_byte_of_text),
	    cmocka_unit_test(test_too_many),
	    cmocka_unit_test(test_too_many_regions),
	    cmocka_unit_test(test_noise),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Data with words that lead to code and to variables, scattered in rows, objects and sections of any form: what the
 * two searches for unknown tables take for one, and how many words they count, is as recorded.
 */
#include "tests/unit/shuffle/tables_builder.h"

#include "prepare/shuffle/slides.h"
#include "tests/unit/recorded.h"

enum { RWDATA = 0x20000, VARIABLES = 60 };

static uint32_t below(struct kernel *k, uint32_t bound)
{
	return (uint32_t)(random64(k) % bound);
}

static struct kernel *make(unsigned number)
{
	static const uint32_t starts[] = {0, DATA, RWDATA};
	struct kernel *k = make_kernel();

	k->seed = number;
	k->result.slides.block_count = 3;
	for (unsigned i = 0; i < 3; i++)
		k->result.slides.block[i] = (struct riffle_block){.image_offset = starts[i], .align = 4096, .gaps = 2};
	for (unsigned i = 0; i < VARIABLES; i++)
		name_place(k, "variable", RWDATA + i * 64 + below(k, 3) * 4);
	if (number % 2)
		name_place(k, "last", IMAGE - 1 - below(k, 24));
	return k;
}

/* One draw an expression, here and below: within one, their order would be the compiler's. */
static uint32_t target(struct kernel *k, unsigned kind)
{
	const uint32_t at = below(k, 5000), little = below(k, 24);

	switch (kind) {
	case 0:
	case 1: /* a variable, or something in it */
		return RWDATA + at % VARIABLES * 64 + little % 2 * 4 +
		       (const uint32_t[]){0, 0, 0, 8, 16, 24}[little / 4];
	case 2:
	case 3:
		return instruction(at);
	case 4:
		return instruction(at) + 1 + little % 4;
	case 5:
		return at % (PINNED * FUNCTION / INSTRUCTION) * INSTRUCTION;
	case 6:
		return INIT + at % (INIT_BYTES / INSTRUCTION) * INSTRUCTION;
	default:
		return DATA + at;
	}
}

static void put_row(struct kernel *k, uint32_t at, uint32_t step, uint32_t count)
{
	const unsigned kind = below(k, 8), once = below(k, 6), back = below(k, 16);
	const uint32_t same = target(k, kind) - at;

	for (uint32_t i = 0; i < count; i++)
		if (once)
			put_distance(k, at + i * step, target(k, kind) + (back < 4 ? 4 * back : 0));
		else
			riffle_put32(k->work.bytes + at + i * step, same);
}

static void put_string(struct kernel *k, uint32_t at)
{
	const uint32_t from = RWDATA + 0x8000 + below(k, 64) * 4, into = below(k, 6);

	memcpy(k->work.bytes + at, into < 3 ? "\0text" : "\0t", into < 3 ? 6 : 3);
	put_distance(k, from, at + into % 3);
}

/* One more thing in the kernel; all of a round lie near each other. */
static void put_something(struct kernel *k, uint32_t near)
{
	static const char *const names[][2] = {
	    {"x_start", "x_end"}, {"x_start", "x_stop"}, {"start_x", "end_x"}, {"x_start", "y_end"}};
	const uint32_t place = below(k, 200), count = 2 + below(k, 9), what = below(k, 12), pair = below(k, 4);
	const uint32_t at = near + place * (below(k, 3) ? 4 : 1), whole = below(k, 2);
	const uint32_t step = whole ? 4 * (1 + below(k, 4)) : 4 + below(k, 62);
	const uint32_t before = below(k, 2), behind = below(k, 8);
	struct shuffle_slides *s = &k->result.slides;
	uint32_t unread;

	switch (what) {
	case 0:
	case 1:
	case 2:
	case 3:
		put_row(k, at, step, count);
		break;
	case 4:
		put_row(k, at, step, count);
		name_place(k, "object", at - before * 4);
		name_place(k, "next", at + count * step - behind % 2 * 4 + (behind < 5 ? 0 : step));
		break;
	case 5:
		put_row(k, at, 4, count);
		name_section(k, ".unknown", at - 4 * before, 4 * (count + behind / 2) + behind % 4, 0);
		break;
	case 6:
		put_row(k, at, step, count);
		name_place(k, names[pair][0], at);
		name_place(k, "between", at + step);
		name_place(k, names[pair][1], at + count * step);
		break;
	case 7:
		put_string(k, at);
		break;
	case 8:
		k->reloc64[k->image.reloc64.count] = near + 8 * k->image.reloc64.count;
		k->image.reloc64.count++;
		break;
	case 9:
		k->work.known[k->work.known_count++] = (struct work_known){at, 1 + 5 * behind, "known"};
		break;
	case 10:
		s->table[s->table_count++] = (struct riffle_cross_table){
		    at & ~3u, count, step & ~3u, before ? RIFFLE_CROSS_DISTANCE64 : RIFFLE_CROSS_DISTANCE32, 0, 0};
		break;
	default:
		unread = function(20 + s->unread_count);
		s->unread[s->unread_count++] = (struct shuffle_unread){unread, FUNCTION};
		memcpy(k->work.bytes + unread + place % 60, "\x66\x0f\x1f\x84\0\0\0\0\0\x66\x90", 11);
		put_row(k, unread + 8 + place / 4, 4 + behind, 2);
		break;
	}
}

static void record_both(struct recorded *r, struct kernel *k)
{
	if (!record_status(r, census_take(&k->work, &k->error), &k->error))
		record(r, "%llu words, %llu by chance", (unsigned long long)k->result.census.words_scanned,
		       (unsigned long long)k->result.census.words_chance);
	if (!record_status(r, slides_census(&k->work, &k->error), &k->error))
		record(r, "%u leads %s", k->result.slides.leads, k->result.slides.none);
}

static void test_scattered(void **state)
{
	static const struct recording wanted = {"scattered", UINT64_C(0x43860b424e0b5d90), 1886, 114};
	struct recorded r = recorded_begin(wanted.name);

	(void)state;
	for (unsigned n = 0; n < 1000; n++) {
		struct kernel *k = make(n);
		const uint32_t page = below(k, 16), things = 1 + below(k, 4);
		const uint32_t near = (below(k, 4) ? DATA : RWDATA) + 0x2000 + 0x100 * page;

		record(&r, "%u:", n);
		for (unsigned i = 0; i < things; i++)
			put_something(k, near);
		record_both(&r, k);
		end_kernel(k);
	}
	assert_true(recorded_is(&r, &wanted));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_scattered),
	};

	return cmocka_run_group_tests_name("varied-tables", tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Code of short instructions in any order: all that is measured of its gadgets is as recorded. */
#include <elf.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "prepare/strength/strength.h"
#include "tests/unit/varied/vary.h"

#define LINK UINT64_C(0xffffffff81000000)
enum {
	TEXT = 0x400,
	TEXT_BYTES = 0x1000,
	RETPOLINES = 0x1400,
	RETURNS = 0x1440,
	IMAGE = 0x1800,
	RANGES = 160,
	SITES = 16
};

static void record_counts(struct recorded *r, const char *what, const struct strength_counts *c)
{
	record(r, "%s: %llu", what, (unsigned long long)c->starts);
	for (unsigned i = 0; i < STRENGTH_CLASSES; i++)
		record(r, "  %s %llu", strength_class_name(i), (unsigned long long)c->class[i]);
}

/* Two regions: of 62 to 65 chunks, and of the rest. */
static void make_ranges(struct shuffle_range *range, unsigned first)
{
	for (unsigned i = 0; i < RANGES; i++)
		range[i] = (struct shuffle_range){TEXT + 0x100 + 16 * i, 16,
						  i == first ? SHUFFLE_PIN_SECTION : SHUFFLE_PIN_NONE, 1, ""};
}

static void try(struct recorded *r, const struct test_bytes *input)
{
	static unsigned turn;
	struct image_section section[] = {
	    {".text", LINK + TEXT, TEXT_BYTES, SHF_ALLOC | SHF_EXECINSTR, SHT_PROGBITS, 16},
	    {".retpoline_sites", LINK + RETPOLINES, 4 * SITES, SHF_ALLOC, SHT_PROGBITS, 4},
	    {".return_sites", LINK + RETURNS, 4 * SITES, SHF_ALLOC, SHT_PROGBITS, 4},
	};
	struct image_segment segment = {LINK, 0x1000000, IMAGE, IMAGE, 7, input->at};
	const struct riffle_image image = {.segment = &segment,
					   .segment_count = 1,
					   .link_phys = 0x1000000,
					   .link_virt = LINK,
					   .image_bytes = IMAGE,
					   .section = section,
					   .section_count = 3};
	struct shuffle_range range[RANGES];
	const struct shuffle shuffle = {.range = range, .range_count = RANGES};
	struct strength s;
	struct riffle_error error;

	make_ranges(range, 62 + turn++ % 4);
	if (record_status(r, strength_measure(&s, &image, turn % 8 ? &shuffle : NULL, &error), &error))
		return;
	record_counts(r, "all", &s.all);
	record_counts(r, "fixed", &s.fixed);
	record(r, "%llu bytes, %llu fixed, %s", (unsigned long long)s.text_bytes, (unsigned long long)s.fixed_bytes,
	       s.kit ? "kit" : "no kit");
	for (uint32_t i = 0; i < s.gadget_count; i++)
		record(r, "  %x: %x", s.gadget[i].offset, s.gadget[i].classes);
	strength_free(&s);
}

/* Instructions of a byte or more that gadgets are made of, some of them cut. */
static void make_code(struct test_bytes *file, uint64_t seed)
{
	static const char *const piece[] = {
	    "\x58",
	    "\x5f",
	    "\x5e",
	    "\x5a",
	    "\x59",
	    "\x5c",
	    "\x5b",
	    "\x41\x58",
	    "\x41\x59",
	    "\x48\x8b\x07",
	    "\x48\x8b\x3f",
	    "\x48\x8b\x34\x24",
	    "\x48\x8b\x47\x08",
	    "\x48\x89\x07",
	    "\x48\x89\x46\x10",
	    "\x89\x1e",
	    "\x48\x89\xc4",
	    "\x48\x94",
	    "\x48\x87\xe7",
	    "\xc9",
	    "\xff\xe0",
	    "\xff\xd0",
	    "\xff\x27",
	    "\xff\x67\x18",
	    "\xff\x14\x24",
	    "\x41\xff\xe3",
	    "\xff\x55\x10",
	    "\x0f\x22\xc0",
	    "\x0f\x22\xd8",
	    "\x0f\x30",
	    "\x0f\x01\x17",
	    "\x48\x0f\x07",
	    "\x48\xcf",
	    "\x90",
	    "\xcc",
	    "\xf4",
	    "\x0f\x0b",
	    "\xeb\x02",
	    "\x74\x02",
	    "\xcd\x80",
	    "\x0f\x05",
	    "\x48\x01\xc7",
	    "\x48\x31\xff",
	    "\x48\x89\xc7",
	    "\x48\x8d\x7f\x08",
	    "\xc3",
	    "\xc3",
	    "\xc3",
	    "\xcb",
	    "\xc2\x08",
	    "\x4c\x89\x04\x24\xc3",
	    "\x48\x89\x04\x24\xc3",
	    "\x0f\x23\xf8",
	};
	uint8_t *at;

	test_bytes_zero(file, IMAGE);
	for (at = file->at + TEXT; at < file->at + TEXT + TEXT_BYTES - 8;) {
		const char *p = piece[test_random(&seed) % (sizeof piece / sizeof *piece)];

		memcpy(at, p, strlen(p));
		at += strlen(p);
	}
	/* holes that are just long enough, and just not */
	memset(file->at + TEXT + 0x300, 0xcc, 64);
	memset(file->at + TEXT + 0x400, 0x90, 63);
	for (unsigned i = 0; i < SITES; i++) {
		uint32_t site = TEXT + 0x140 + 0x60 * i, thunk = TEXT + 0x20 + 0x50 * i, back = TEXT + 0x160 + 0x60 * i;

		file->at[site] = i % 3 ? 0xe8 : i % 2 ? 0x2e : 0xe9;
		file->at[site + 1] = i % 3 ? file->at[site + 1] : 0xe9;
		riffle_put32(file->at + site + (i % 3 ? 1 : 2), thunk - site - (i % 3 ? 5 : 6));
		memcpy(file->at + thunk + i,
		       (const char *[]){"\x48\x89\x04\x24", "\x4c\x89\x04\x24", "\xff\xe0\x90\x90",
					"\x41\xff\xe2\x90"}[i % 4],
		       4);
		file->at[back] = 0xe9;
		riffle_put32(file->at + RETPOLINES + 4 * i, site - (RETPOLINES + 4 * i));
		riffle_put32(file->at + RETURNS + 4 * i, back - (RETURNS + 4 * i));
	}
}

static void test_code(void **state)
{
	static const struct varied parts[] = {
	    {{"code 1", UINT64_C(0xfbc8e2d9cc437fbb), 40, 0}, TEXT, TEXT + TEXT_BYTES, 40},
	    {{"code 2", UINT64_C(0xa7acb5dd3575a6a5), 40, 0}, TEXT, TEXT + TEXT_BYTES, 40},
	    {{"code 3", UINT64_C(0xe248abbdc0dd7183), 40, 0}, TEXT, TEXT + TEXT_BYTES, 40},
	    {{"sites", UINT64_C(0xceb915e66f49093c), 100, 0}, RETPOLINES, RETURNS + 4 * SITES, 100},
	};
	bool good = true;

	(void)state;
	for (unsigned i = 0; i < sizeof parts / sizeof *parts; i++) {
		struct test_bytes file = {0};

		make_code(&file, i + 1);
		good &= vary_part(&parts[i], &file, try);
		test_bytes_free(&file);
	}
	assert_true(good);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_code),
	};

	return cmocka_run_group_tests_name("varied-strength", tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Gadgets in hand-written code: where they start, what they do, and which of them a shuffle moves. */
#include <elf.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "prepare/strength/internal.h"

#define LINK UINT64_C(0xffffffff81000000)
#define TEXT 0x1000u /* image offset of .text, so that nobody confuses the two */
#define TEXT_BYTES 0x1000u
#define SITES 0x2000u
#define IMAGE_BYTES 0x3000u

struct kernel {
	struct riffle_image image;
	struct image_segment segment;
	struct image_section section[3];
	uint8_t bytes[IMAGE_BYTES];
	struct shuffle shuffle;
	struct shuffle_range range[200];
	struct strength strength;
	struct riffle_error error;
};

static struct kernel *make(void)
{
	struct kernel *k = calloc(1, sizeof *k);

	k->segment = (struct image_segment){.virt = LINK,
					    .phys = 0x1000000,
					    .file_bytes = IMAGE_BYTES,
					    .memory_bytes = IMAGE_BYTES,
					    .flags = 5,
					    .bytes = k->bytes};
	k->image.segment = &k->segment;
	k->image.segment_count = 1;
	k->image.link_phys = 0x1000000;
	k->image.link_virt = LINK;
	k->image.image_bytes = IMAGE_BYTES;
	k->section[0] =
	    (struct image_section){".text", LINK + TEXT, TEXT_BYTES, SHF_ALLOC | SHF_EXECINSTR, SHT_PROGBITS};
	k->image.section = k->section;
	k->image.section_count = 1;
	k->shuffle.range = k->range;
	memset(k->bytes + TEXT, 0xcc, TEXT_BYTES);
	return k;
}

static void code(struct kernel *k, uint32_t at, const char *bytes, size_t count)
{
	memcpy(k->bytes + TEXT + at, bytes, count);
}
#define CODE(k, at, text) code(k, at, text, sizeof(text) - 1)

static void sites(struct kernel *k, const char *name, uint32_t place, uint32_t site)
{
	int32_t distance = (int32_t)(TEXT + site) - (int32_t)place;

	memcpy(k->bytes + place, &distance, 4);
	k->section[k->image.section_count++] = (struct image_section){name, LINK + place, 4, SHF_ALLOC, SHT_PROGBITS};
}

static void range(struct kernel *k, uint32_t from, uint32_t to, uint8_t pin)
{
	k->range[k->shuffle.range_count++] = (struct shuffle_range){TEXT + from, to - from, pin, 1, "x"};
}

/* As many chunks of 16 bytes as it takes to count as moving. */
static uint32_t chunks(struct kernel *k, uint32_t from, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		range(k, from + 16 * i, from + 16 * (i + 1), SHUFFLE_PIN_NONE);
	return from + 16 * count;
}

static const struct strength *measure(struct kernel *k)
{
	int status = strength_measure(&k->strength, &k->image, k->shuffle.range_count ? &k->shuffle : NULL, &k->error);

	if (status)
		print_error("%s: %s\n", k->error.field, k->error.problem);
	assert_int_equal(status, 0);
	return &k->strength;
}

static void end(struct kernel *k)
{
	strength_free(&k->strength);
	free(k);
}

/* What is at a place of the text, by the list of useful gadgets; 0: no such gadget. */
static uint32_t classes_at(const struct strength *s, uint32_t at)
{
	for (uint32_t i = 0; i < s->gadget_count; i++)
		if (s->gadget[i].offset == TEXT + at)
			return s->gadget[i].classes;
	return 0;
}
#define HAS(name) (UINT32_C(1) << STRENGTH_##name)

static void test_six_instructions_and_no_seventh(void **state)
{
	struct kernel *k = make();

	(void)state;
	/* pop rdi and six pops of rax, then a return: of eight starts the two furthest are too far */
	CODE(k, 0x40, "\x5f\x58\x58\x58\x58\x58\x58\xc3");
	assert_int_equal(measure(k)->all.starts, 6);
	assert_int_equal(k->strength.all.class[STRENGTH_LOAD_RDI], 0);
	end(k);
	k = make();
	CODE(k, 0x40, "\x5f\x58\x58\x58\x58\xc3");
	assert_int_equal(measure(k)->all.starts, 6);
	assert_int_equal(k->strength.all.class[STRENGTH_LOAD_RDI], 1);
	end(k);
}

static void test_what_ends_none(void **state)
{
	struct kernel *k = make();

	(void)state;
	CODE(k, 0x20, "\x5f\xe8\x01\x00\x00\x00"); /* a direct call */
	CODE(k, 0x40, "\x5f\x75\x02\xcc");         /* a branch on a condition */
	CODE(k, 0x60, "\x5f\x0f\x0b");             /* a trap */
	CODE(k, 0x80, "\x5f\xcc\xc3");             /* a breakpoint before the return, which alone is one */
	CODE(k, TEXT_BYTES - 2, "\x5f\x90");       /* the end of the text */
	assert_int_equal(measure(k)->all.starts, 1);
	end(k);
}

static void test_classes(void **state)
{
	static const struct {
		const char *bytes;
		size_t count;
		uint32_t is, is_not;
	} row[] = {
#define ROW(bytes, is, is_not) {bytes, sizeof(bytes) - 1, is, is_not}
	    ROW("\x5f\xc3", HAS(LOAD_RDI), HAS(LOAD_RSI) | HAS(PIVOT) | HAS(STORE) | HAS(READ)),
	    ROW("\x5e\xc3", HAS(LOAD_RSI), HAS(LOAD_RDI)),
	    ROW("\x5a\xc3", HAS(LOAD_RDX), HAS(LOAD_RDI)),
	    /* pop rdi; xor edi, edi; pop rsi: what was loaded is gone */
	    ROW("\x5f\x31\xff\x5e\xc3", HAS(LOAD_RSI), HAS(LOAD_RDI)),
	    /* pop rax; mov rdi, rax */
	    ROW("\x58\x48\x89\xc7\xc3", HAS(LOAD_RDI), HAS(STORE)),
	    /* mov [rdi], rsi; mov [rsp + 8], rsi beside it would be no store */
	    ROW("\x48\x89\x37\xc3", HAS(STORE), HAS(READ)),
	    /* mov rdx, [rax + 8] */
	    ROW("\x48\x8b\x50\x08\xc3", HAS(READ) | HAS(LOAD_RDX), HAS(STORE)),
	    /* xchg rsp, rax; mov rsp, rbp; pop rsp; leave */
	    ROW("\x48\x94\xc3", HAS(PIVOT), HAS(STORE)),
	    ROW("\x48\x89\xec\xc3", HAS(PIVOT), 0),
	    ROW("\x5c\xc3", HAS(PIVOT), 0),
	    ROW("\xc9\xc3", HAS(PIVOT), 0),
	    /* mov cr3, rax; wrmsr */
	    ROW("\x0f\x22\xd8\xc3", HAS(CONTROL), HAS(STORE)),
	    ROW("\x0f\x30\xc3", HAS(CONTROL), 0),
	    /* pop rdi; iretq */
	    ROW("\x5f\x48\xcf", HAS(USER) | HAS(LOAD_RDI), 0),
	    /* jmp rax; pop rax in front of it; jmp [rax + 16] */
	    ROW("\x58\xff\xe0", HAS(CALL) | HAS(CALL_LOADED), 0),
	    ROW("\x5f\xff\x67\x10", HAS(CALL) | HAS(CALL_LOADED), 0),
	};

	(void)state;
	for (unsigned i = 0; i < sizeof row / sizeof *row; i++) {
		struct kernel *k = make();
		uint32_t classes;

		code(k, 0x40, row[i].bytes, row[i].count);
		classes = classes_at(measure(k), 0x40);
		if ((classes & row[i].is) != row[i].is || classes & row[i].is_not)
			print_error("row %u: classes %#x\n", i, classes);
		assert_int_equal(classes & row[i].is, row[i].is);
		assert_int_equal(classes & row[i].is_not, 0);
		end(k);
	}
}

/* add rsp, 8; ret and mov [rsp + 8], rax; ret are of no class, and of no use */
static void test_the_stack_itself(void **state)
{
	struct kernel *k = make();

	(void)state;
	CODE(k, 0x40, "\x48\x83\xc4\x08\xc3");
	CODE(k, 0x60, "\x48\x89\x44\x24\x08\xc3");
	measure(k);
	assert_int_equal(classes_at(&k->strength, 0x40), 0);
	assert_int_equal(classes_at(&k->strength, 0x60), 0);
	end(k);
}

/* A call through rax counts as loaded once another fixed gadget loads rax and returns, and not when that one moves. */
static void test_call_needs_a_load(void **state)
{
	for (int i = 0; i < 3; i++) {
		struct kernel *k = make();
		uint32_t behind;

		(void)state;
		range(k, 0, 0x80, SHUFFLE_PIN_SECTION);
		behind = chunks(k, 0x80, STRENGTH_PLACES);
		range(k, behind, TEXT_BYTES, SHUFFLE_PIN_SECTION);
		CODE(k, 0x40, "\xff\xe0");
		if (i)
			code(k, i == 1 ? 0x80 : behind, "\x58\xc3", 2);
		measure(k);
		assert_int_equal(k->strength.fixed.class[STRENGTH_CALL], 1);
		assert_int_equal(k->strength.fixed.class[STRENGTH_CALL_LOADED], i == 2);
		assert_int_equal(k->strength.all.class[STRENGTH_CALL_LOADED], i != 0);
		end(k);
	}
}

/* Fixed: starts and ends in what is pinned, or in so few chunks that their places can be guessed. */
static void test_fixed(void **state)
{
	(void)state;
	for (int few = 0; few < 2; few++) {
		struct kernel *k = make();
		uint32_t behind;

		range(k, 0, 0x40, SHUFFLE_PIN_HEAD);
		behind = chunks(k, 0x40, STRENGTH_PLACES - few);
		range(k, behind, TEXT_BYTES, SHUFFLE_PIN_SECTION);
		CODE(k, 0x10, "\x5f\xc3");          /* two, fixed */
		CODE(k, 0x3f, "\x5f\xc3");          /* runs into a chunk: moves, both */
		code(k, behind - 1, "\x5f\xc3", 2); /* the second one is fixed */
		measure(k);
		assert_int_equal(k->strength.all.starts, 6);
		assert_int_equal(k->strength.fixed.starts, few ? 6 : 3);
		assert_int_equal(k->strength.fixed.class[STRENGTH_LOAD_RDI], few ? 3 : 1);
		assert_int_equal(classes_at(&k->strength, 0x10), HAS(LOAD_RDI));
		assert_int_equal(classes_at(&k->strength, 0x3f), few ? HAS(LOAD_RDI) : 0);
		/* the text but for its holes of 64 equal bytes or more: 16 and 45 bytes of padding, and six of gadgets
		 */
		assert_int_equal(k->strength.text_bytes, 16 + 45 + 6);
		assert_int_equal(k->strength.fixed_bytes, few ? 16 + 45 + 6 : 16 + 45 + 4);
		end(k);
	}
}

/* call through a thunk of r9, and a jump to the return thunk, as the kernel patches them */
static void test_patched_sites(void **state)
{
	struct kernel *k = make();

	(void)state;
	CODE(k, 0x100, "\xe8\x02\x00\x00\x00\xf3\x90\x4c\x89\x0c\x24\xe9\x10\x00\x00\x00");
	CODE(k, 0x40, "\x41\x59\x2e\xe8\xb8\x00\x00\x00"); /* pop r9; cs call 0x100 */
	CODE(k, 0x60, "\x5f\xe9\x5a\x00\x00\x00");         /* pop rdi; jmp 0xc0 */
	measure(k);
	assert_int_equal(k->strength.all.starts, 0);
	strength_free(&k->strength);
	sites(k, ".retpoline_sites", SITES, 0x42);
	sites(k, ".return_sites", SITES + 0x10, 0x61);
	measure(k);
	assert_int_equal(classes_at(&k->strength, 0x40), HAS(CALL) | HAS(CALL_LOADED) | HAS(LOAD_R9));
	assert_int_equal(classes_at(&k->strength, 0x60), HAS(LOAD_RDI));
	end(k);
}

/* Lets the site at 0x40 be patched; `bytes` are what must be there then, with padding around. */
static void check_patched(struct kernel *k, const char *sites_of, const uint8_t *bytes, unsigned count)
{
	struct gadget_text text;

	sites(k, sites_of, SITES, 0x40);
	assert_int_equal(gadgets_find(&text, &k->image, &k->error), 0);
	assert_int_equal(text.code[0x3f], 0xcc);
	assert_memory_equal(text.code + 0x40, bytes, count);
	assert_int_equal(text.code[0x40 + count], 0xcc);
	gadgets_free(&text);
	end(k);
}

/* Calls of and jumps to the thunks of all registers, in both of a thunk's forms, with a prefix and without. */
static void test_every_retpoline(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 16 * 2 * 2 * 2; i++) {
		const unsigned reg = i % 16, jumps = i / 16 % 2, plain = i / 32 % 2, prefix = i / 64;
		const unsigned high = reg >> 3, bytes = prefix + 5;
		const uint8_t thunk[] = {
		    0xe8, 2,   0, 0, 0, 0xf3, 0x90, (uint8_t)(0x48 | high << 2), 0x89, (uint8_t)(0x04 | (reg & 7) << 3),
		    0x24, 0xc3};
		const uint8_t jump[] = {0x90, high ? 0x41 : 0x90, 0xff, (uint8_t)(0xe0 | (reg & 7))};
		uint8_t site[6] = {0x2e}, wanted[6];
		struct kernel *k = make();
		int32_t distance = 0x100 - (0x40 + (int32_t)bytes);

		code(k, 0x100, plain ? (const char *)jump : (const char *)thunk, plain ? sizeof jump : sizeof thunk);
		site[prefix] = jumps ? 0xe9 : 0xe8;
		memcpy(site + prefix + 1, &distance, 4);
		code(k, 0x40, (const char *)site, bytes);
		memset(wanted, jumps ? 0xcc : 0x90, sizeof wanted);
		wanted[0] = 0x41;
		wanted[high] = 0xff;
		wanted[high + 1] = (uint8_t)((jumps ? 0xe0 : 0xd0) | (reg & 7));
		check_patched(k, ".retpoline_sites", wanted, bytes);
	}
}

/* What is no call of a retpoline, or of something too far away to be one, stays. */
static void test_sites_that_stay(void **state)
{
	static const struct {
		uint8_t site[5];
		const char *sites;
	} rows[] = {
	    {{0xe8, 0xbb, 0x01, 0, 0}, ".retpoline_sites"},       /* padding */
	    {{0xe8, 0xba, 0x0f, 0, 0}, ".retpoline_sites"},       /* the last byte of .text */
	    {{0xe8, 0xbb, 0x0f, 0, 0}, ".retpoline_sites"},       /* behind it */
	    {{0xe8, 0xba, 0xff, 0xff, 0xff}, ".retpoline_sites"}, /* before it */
	    {{0xe8, 0xbb, 0x02, 0, 0}, ".retpoline_sites"},       /* a thunk, after more than it may have */
	    {{0xeb, 0xbb, 0, 0, 0}, ".retpoline_sites"},          /* no call */
	    {{0xff, 0xd0, 0x90, 0x90, 0x90}, ".retpoline_sites"}, /* patched already */
	    {{0xe8, 0xbb, 0, 0, 0}, ".return_sites"},             /* no jump */
	    {{0xc3, 0xcc, 0xcc, 0xcc, 0xcc}, ".return_sites"},
	};

	(void)state;
	for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct kernel *k = make();

		CODE(k, 0x100, "\xff\xe0");
		CODE(k, 0x300 + 32, "\xff\xe0");
		code(k, 0x40, (const char *)rows[i].site, 5);
		check_patched(k, rows[i].sites, rows[i].site, 5);
	}
}

/* Up to the last byte of .text, and not beyond. */
static void test_sites_at_the_end(void **state)
{
	struct gadget_text text;

	(void)state;
	for (unsigned beyond = 0; beyond < 2; beyond++) {
		struct kernel *k = make();
		const uint32_t at = TEXT_BYTES - 5 + beyond;

		code(k, at, "\xe9\0\0\0", 5 - beyond);
		sites(k, ".return_sites", SITES, at);
		assert_int_equal(gadgets_find(&text, &k->image, &k->error), 0);
		assert_int_equal(text.code[at], beyond ? 0xe9 : 0xc3);
		gadgets_free(&text);
		CODE(k, 0x100, "\xff\xe0");
		k->section[1].name = ".retpoline_sites";
		gadgets_find(&text, &k->image, &k->error);
		assert_int_equal(text.code[at], 0xe9);
		gadgets_free(&text);
		end(k);
	}
}

/* Each of the three is needed: a load from the stack, a load from there, a call through that; or a jump through memory.
 */
static void test_kit(void **state)
{
	static const struct {
		const char *one, *two, *three;
		bool kit;
	} row[] = {
	    {"\x58\xc3", "\x48\x8b\x18\xc3", "\xff\xe3", true}, /* pop rax; mov rbx, [rax]; jmp rbx */
	    {"\x90\xc3", "\x48\x8b\x18\xc3", "\xff\xe3", false},
	    {"\x59\xc3", "\x48\x8b\x18\xc3", "\xff\xe3", false}, /* pop rcx */
	    {"\x58\xc3", "\x90\xc3", "\xff\xe3", false},
	    {"\x58\xc3", "\x48\x8b\x18\xc3", "\xff\xe1", false},         /* jmp rcx */
	    {"\x58\xc3", "\x48\x8b\x18\x31\xdb\xc3", "\xff\xe3", false}, /* xor ebx, ebx */
	    {"\x58\xc3", "\x90\xc3", "\xff\x60\x10", true},              /* jmp [rax + 16] */
	    {"\x59\xc3", "\x90\xc3", "\xff\x60\x10", false},
	    {"\x90\xc3", "\x90\xc3", "\x58\x48\x8b\x18\xff\xe3", true}, /* all in one */
	    {"\x90\xc3", "\x90\xc3", "\x58\xff\xe0", false},            /* no more than a return */
	    /* mov rbx, [rax]; jmp rbx in one, where rax has to come from the stack, before or in it; or is the stack's
	       own */
	    {"\x58\xc3", "\x90\xc3", "\x48\x8b\x18\xff\xe3", true},
	    {"\x90\xc3", "\x90\xc3", "\x48\x8b\x18\xff\xe3", false},
	    {"\x59\xc3", "\x90\xc3", "\x48\x8b\x18\xff\xe3", false},
	};

	(void)state;
	for (unsigned i = 0; i < sizeof row / sizeof *row; i++) {
		struct kernel *k = make();

		code(k, 0x40, row[i].one, strlen(row[i].one));
		code(k, 0x80, row[i].two, strlen(row[i].two));
		code(k, 0xc0, row[i].three, strlen(row[i].three));
		if (measure(k)->kit != row[i].kit)
			fail_msg("row %u", i);
		end(k);
	}
}

static void test_refused(void **state)
{
	struct kernel *k = make();

	(void)state;
	k->section[0].bytes = IMAGE_BYTES - TEXT + 1;
	assert_int_equal(strength_measure(&k->strength, &k->image, NULL, &k->error), RIFFLE_ERR_FORMAT);
	k->section[0].name = ".data";
	assert_int_equal(strength_measure(&k->strength, &k->image, NULL, &k->error), RIFFLE_ERR_UNSUPPORTED);
	end(k);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_six_instructions_and_no_seventh),
	    cmocka_unit_test(test_what_ends_none),
	    cmocka_unit_test(test_classes),
	    cmocka_unit_test(test_the_stack_itself),
	    cmocka_unit_test(test_call_needs_a_load),
	    cmocka_unit_test(test_fixed),
	    cmocka_unit_test(test_patched_sites),
	    cmocka_unit_test(test_every_retpoline),
	    cmocka_unit_test(test_sites_that_stay),
	    cmocka_unit_test(test_sites_at_the_end),
	    cmocka_unit_test(test_kit),
	    cmocka_unit_test(test_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

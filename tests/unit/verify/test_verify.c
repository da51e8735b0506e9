/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of prepare/verify: lines of objdump, kallsyms of each version, places, sorted tables. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
/* cmocka wants those first */
#include <cmocka.h>

#include "kallsyms_builder.h"
#include "prepare/verify/internal.h"

#define BASE UINT64_C(0xffffffff81000000)

/* ---- objdump's lines */

static struct objdump_line parse(const char *text)
{
	struct objdump_line line;

	assert_true(verify_parse_line(&line, text));
	return line;
}

static void test_branches(void **state)
{
	static const struct {
		const char *text;
		uint64_t target;
		bool stops;
	} row[] = {
	    {"ffffffff81000010:\tcall   ffffffff81000200 <s+0x10>\n", BASE + 0x200, true},
	    {"ffffffff81000010:\tjmp    ffffffff81000012 <s>\n", BASE + 0x12, true},
	    {"ffffffff81000010:\tjne,pt ffffffff81000012 <s>\n", BASE + 0x12, false},
	    {"ffffffff81000010:\tbnd jmp ffffffff81000012 <s>\n", BASE + 0x12, true},
	    {"ffffffff81000010:\tloopne ffffffff81000012 <s>\n", BASE + 0x12, false},
	    {"ffffffff81000010:\tjrcxz  ffffffff81000012\n", BASE + 0x12, false},
	    {"ffffffff81000010:\txbegin ffffffff81000012 <s>\n", BASE + 0x12, false},
	};

	(void)state;
	for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
		struct objdump_line line = parse(row[i].text);

		assert_true(line.branch);
		assert_false(line.rip);
		assert_int_equal(line.address, BASE + 0x10);
		assert_int_equal(line.target, row[i].target);
		assert_int_equal(line.stops, row[i].stops);
	}
}

static void test_rip_operands(void **state)
{
	struct objdump_line line =
	    parse("ffffffff81000000:\tlea    0x1003f51(%rip),%rsp        # ffffffff82003f58 <s+0x1>\n");

	(void)state;
	assert_true(line.rip && !line.branch && !line.stops);
	assert_int_equal(line.displacement, 0x1003f51);
	assert_int_equal(line.target, UINT64_C(0xffffffff82003f58));
	line = parse("ffffffff81000000:\tmov    %gs:-0x7effa(%rip),%eax        # 12f4c <s>\n");
	assert_true(line.rip);
	assert_int_equal(line.displacement, -0x7effa);
	assert_int_equal(line.target, 0x12f4c);
	line = parse("ffffffff81000000:\tcall   *0x10(%rip)        # ffffffff81000016 <s>\n");
	assert_true(line.rip && !line.branch && line.stops);
	line = parse("ffffffff81000000:\tlock cmpxchg %edx,0x0(%rip)        # ffffffff81000008 <s>\n");
	assert_true(line.rip);
	assert_int_equal(line.displacement, 0);
}

static void test_others(void **state)
{
	static const char *const none[] = {"", "\n", "Disassembly of section .c:\n", "ffffffff81000000 <s>:\n",
					   "/proc/self/fd/3:     file format elf64-x86-64\n"};
	struct objdump_line line;

	(void)state;
	for (size_t i = 0; i < sizeof none / sizeof *none; i++)
		assert_false(verify_parse_line(&line, none[i]));
	line = parse("ffffffff81000000:\tret\n");
	assert_true(line.stops && !line.branch && !line.rip && !line.padding);
	line = parse("ffffffff81000000:\tjmp    *%rax\n");
	assert_true(line.stops && !line.branch);
	line = parse("ffffffff81000000:\tdata16 cs nopw 0x0(%rax,%rax,1)\n");
	assert_true(line.padding && !line.stops);
	assert_true(parse("ffffffff81000000:\txchg   %ax,%ax\n").padding);
	assert_false(parse("ffffffff81000000:\txchg   %eax,%ebx\n").padding);
	line = parse("ffffffff81000000:\tmov    $0xffffffff81000000,%rax\n");
	assert_false(line.branch || line.rip);
	line = parse("ffffffff81000000:\tpush   $0xffffffffffffff8c\n");
	assert_false(line.branch || line.rip);
}

/* ---- an image of the tests' own */

static struct verify *new_verify(struct riffle_image *image, uint32_t bytes)
{
	struct verify *v = calloc(1, sizeof *v);

	assert_non_null(v);
	*image = (struct riffle_image){.link_virt = BASE, .image_bytes = bytes};
	v->image = image;
	v->link_virt = BASE;
	v->image_bytes = bytes;
	v->bytes = calloc(bytes + 8, 1); /* as verify_open() does */
	assert_non_null(v->bytes);
	return v;
}

/* Four chunks of 16, 32, 16 and 64 bytes from 0x1000 on. */
static const struct riffle_chunk chunks[] = {
    {.image_offset = 0x1000, .units = 1},
    {.image_offset = 0x1010, .units = 2},
    {.image_offset = 0x1030, .units = 1},
    {.image_offset = 0x1040, .units = 4},
};
static const struct riffle_region region = {0x1000, 128, 0, 4};
static const struct riffle_plan plan = {.chunks = chunks, .chunk_count = 4, .regions = &region, .region_count = 1};
static uint16_t order[] = {3, 1, 0, 2};
static const struct riffle_layout layout = {
    .mode = RIFFLE_MODE_FGKASLR, .virtual_base = BASE + 0x400000, .order = order, .order_count = 4};

/* where each chunk is in that order */
static const uint32_t placed[] = {0x1060, 0x1040, 0x1070, 0x1000};

static void put_distance(struct verify *v, uint32_t field, uint32_t to)
{
	riffle_put32(v->bytes + field, to - field);
}

static void test_places(void **state)
{
	struct riffle_image image;
	struct verify *v = new_verify(&image, 0x4000);
	struct riffle_error error;
	struct places p;

	(void)state;
	assert_int_equal(verify_places(&p, v, &plan, &layout, &error), 0);
	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(place_of(&p, chunks[i].image_offset), placed[i]);
		uint32_t last = riffle_chunk_bytes(&chunks[i]) - 1;

		assert_int_equal(place_of(&p, chunks[i].image_offset + last), placed[i] + last);
	}
	assert_int_equal(place_of(&p, 0xfff), 0xfff);
	assert_int_equal(place_of(&p, 0x1080), 0x1080);
	assert_int_equal(place_address(&p, v, 0x1040), 0x1040);
	assert_int_equal(p.moved, 4);
	verify_places_free(&p);
	for (unsigned i = 0; i < 2; i++) {
		uint16_t wrong[] = {3, 1, 0, (uint16_t)(i ? 4 : 1)};
		struct riffle_layout bad = layout;

		bad.order = wrong;
		assert_int_equal(verify_places(&p, v, &plan, &bad, &error), RIFFLE_ERR_FORMAT);
	}
	verify_close(v);
}

static void test_sorted_tables(void **state)
{
	/* code places at link time, ascending; where they are after the shuffle, ascending; the first's numbers of
	 * these */
	static const uint32_t at[] = {0x800, 0x1004, 0x1010, 0x1028, 0x1030, 0x1044, 0x1048, 0x1080};
	static const uint32_t sorted[] = {0x800, 0x1004, 0x1008, 0x1040, 0x1058, 0x1064, 0x1070, 0x1080};
	static const unsigned from[] = {0, 5, 6, 2, 3, 1, 4, 7};
	struct riffle_image image;
	struct verify *v = new_verify(&image, 0x4000);
	struct riffle_error error;
	uint8_t *out = malloc(0x4000);
	struct places p;

	(void)state;
	v->extable = (struct sorted){.offset = 0x2000, .entries = 8};
	v->orc = (struct sorted){.offset = 0x2100, .second = 0x2200, .entries = 8};
	v->mcount = (struct sorted){.offset = 0x2300, .entries = 8};
	for (uint32_t i = 0; i < 8; i++) {
		put_distance(v, 0x2000 + 12 * i, at[i]);
		put_distance(v, 0x2004 + 12 * i, 0x1044);
		riffle_put32(v->bytes + 0x2008 + 12 * i, i);
		put_distance(v, 0x2100 + 4 * i, at[i]);
		memset(v->bytes + 0x2200 + 6 * i, (int)i + 1, 6);
		riffle_put64(v->bytes + 0x2300 + 8 * i, i ? BASE + at[i] : 0);
	}
	assert_int_equal(verify_places(&p, v, &plan, &layout, &error), 0);
	memcpy(out, v->bytes, 0x4000);
	assert_int_equal(verify_write_sorted(v, &p, out, &error), 0);
	for (uint32_t i = 0; i < 8; i++) {
		assert_int_equal(0x2000 + 12 * i + riffle_get32(out + 0x2000 + 12 * i), sorted[i]);
		assert_int_equal(0x2004 + 12 * i + riffle_get32(out + 0x2004 + 12 * i), 0x1004);
		assert_int_equal(riffle_get32(out + 0x2008 + 12 * i), from[i]);
		assert_int_equal(0x2100 + 4 * i + riffle_get32(out + 0x2100 + 4 * i), sorted[i]);
		for (unsigned k = 0; k < 6; k++)
			assert_int_equal(out[0x2200 + 6 * i + k], from[i] + 1);
		assert_int_equal(riffle_get64(out + 0x2300 + 8 * i), i ? BASE + 0x400000 + sorted[i] : 0);
	}
	verify_places_free(&p);
	free(out);
	verify_close(v);
}

/* Without a shuffle tables stay as the file has them, in whatever order; __ex_table and ORC may be sorted at boot. */
static void test_unsorted_tables(void **state)
{
	const struct riffle_layout kaslr = {.mode = RIFFLE_MODE_KASLR, .virtual_base = BASE + 0x400000};
	static const struct riffle_plan none;
	struct riffle_image image;
	struct verify *v = new_verify(&image, 0x4000);
	struct riffle_error error;
	uint8_t *out = malloc(0x4000);
	struct places p;

	(void)state;
	v->extable = (struct sorted){.offset = 0x2000, .entries = 8};
	v->orc = (struct sorted){.offset = 0x2100, .second = 0x2200, .entries = 8};
	v->mcount = (struct sorted){.offset = 0x2300, .entries = 8};
	for (uint32_t i = 0; i < 8; i++) {
		put_distance(v, 0x2000 + 12 * i, 0x1000 + 16 * (i ^ 5));
		put_distance(v, 0x2004 + 12 * i, 0x1044);
		put_distance(v, 0x2100 + 4 * i, 0x1000 + 16 * (i ^ 3));
		memset(v->bytes + 0x2200 + 6 * i, (int)i + 1, 6);
		riffle_put64(v->bytes + 0x2300 + 8 * i, BASE + 0x1000 + 16 * (i ^ 6));
	}
	assert_int_equal(verify_places(&p, v, &none, &kaslr, &error), 0);
	memcpy(out, v->bytes, 0x4000);
	assert_int_equal(verify_write_sorted(v, &p, out, &error), 0);
	assert_memory_equal(out, v->bytes, 0x4000);
	verify_places_free(&p);
	free(out);
	verify_close(v);
}

/* ---- kallsyms of each age: what is decoded is what was encoded, and identity writes the same bytes */

static struct kallsyms_image built;

static void decode_format(const struct kallsyms_format *format)
{
	static const struct riffle_plan none;
	struct riffle_layout plain = {.mode = RIFFLE_MODE_FGKASLR, .virtual_base = BASE, .order = order};
	struct riffle_image image;
	struct verify *v = new_verify(&image, IMAGE_BYTES);
	struct riffle_error error;
	uint8_t *out = malloc(IMAGE_BYTES);
	uint32_t inside = 0;
	struct places p;
	char name[512];

	memset(built.bytes, 0, sizeof built.bytes);
	kallsyms_put(&built, format, 1000, 0x40000);
	memcpy(v->bytes, built.bytes, IMAGE_BYTES);
	assert_int_equal(verify_find_names(v, &error), 0);
	assert_true(v->names.present);
	assert_int_equal(v->names.count, 1000);
	assert_int_equal(v->names.names, built.names);
	assert_int_equal(v->names.markers, built.markers);
	assert_int_equal(v->names.offsets, built.offsets);
	assert_int_equal(v->names.seqs, built.seqs);
	for (uint32_t i = 0; i < 1000; i++) {
		uint64_t address = kallsyms_address(format, i);

		assert_int_equal(v->names.address[i], address);
		if (kallsyms_is_percpu(format, i))
			continue;
		kallsyms_name(name, format, i);
		assert_int_equal(v->symbol[inside].offset, address - BASE);
		assert_int_equal(v->symbol[inside].type, name[0]);
		assert_string_equal(v->symbol[inside].name, name + 1);
		inside++;
	}
	assert_int_equal(v->symbol_count, inside);
	/* nothing moves: every table is written as it was */
	assert_int_equal(verify_places(&p, v, &none, &plain, &error), 0);
	memcpy(out, v->bytes, IMAGE_BYTES);
	memset(out + v->names.names, 0xaa, v->names.names_bytes);
	memset(out + v->names.offsets, 0xaa, 4000);
	memset(out + v->names.markers, 0xaa, 16);
	if (v->names.seqs)
		memset(out + v->names.seqs, 0xaa, 3000);
	assert_int_equal(verify_write_sorted(v, &p, out, &error), 0);
	assert_memory_equal(out, v->bytes, IMAGE_BYTES);
	verify_places_free(&p);
	free(out);
	verify_close(v);
}

static void test_kallsyms(void **state)
{
	(void)state;
	for (unsigned i = 0; i < KALLSYMS_FORMATS; i++)
		decode_format(&kallsyms_formats[i]);
}

/* Symbols of the second half before those of the first: names, markers and the order by name follow. */
static void test_kallsyms_moved(void **state)
{
	static const struct riffle_chunk halves[] = {{.image_offset = 0, .units = 750},
						     {.image_offset = 12000, .units = 750}};
	static const struct riffle_region whole = {0, 24000, 0, 2};
	static const struct riffle_plan two = {
	    .chunks = halves, .chunk_count = 2, .regions = &whole, .region_count = 1};
	uint16_t swapped[] = {1, 0};
	struct riffle_layout swap = {
	    .mode = RIFFLE_MODE_FGKASLR, .virtual_base = BASE, .order = swapped, .order_count = 2};
	struct riffle_image image;
	struct riffle_error error;
	char name[512];

	(void)state;
	for (unsigned f = 0; f < KALLSYMS_FORMATS; f++) {
		const struct kallsyms_format *format = &kallsyms_formats[f];
		uint32_t first = format->addresses == PERCPU_ZERO ? PERCPU_SYMBOLS : 0;
		struct verify *v = new_verify(&image, IMAGE_BYTES), *w = new_verify(&image, IMAGE_BYTES);
		struct places p;

		memset(built.bytes, 0, sizeof built.bytes);
		kallsyms_put(&built, format, 1000, 0x40000);
		memcpy(v->bytes, built.bytes, IMAGE_BYTES);
		assert_int_equal(verify_find_names(v, &error), 0);
		assert_int_equal(verify_places(&p, v, &two, &swap, &error), 0);
		memcpy(w->bytes, v->bytes, IMAGE_BYTES);
		assert_int_equal(verify_write_sorted(v, &p, w->bytes, &error), 0);
		/* what was written decodes again, to the same names at the other addresses */
		assert_int_equal(verify_find_names(w, &error), 0);
		assert_true(w->names.present);
		for (uint32_t i = 0; i + first < 1000; i++) {
			/* symbols 500 … lie in the second half, which comes first */
			uint32_t old = i < 500 ? i + 500 : i - 500 + first;

			kallsyms_name(name, format, old);
			assert_string_equal(w->symbol[i].name, name + 1);
			assert_int_equal(w->symbol[i].offset, (uint32_t)(kallsyms_address(format, old) - BASE) +
								  (old < 500 ? 12000u : -12000u));
		}
		for (uint32_t i = 0; i < 1000 && built.seqs; i++) {
			const uint8_t *seq = w->bytes + built.seqs + 3 * (size_t)i;
			uint32_t expected = i < first ? i : i >= 500 ? i - 500 + first : i + 500;

			assert_int_equal((uint32_t)seq[0] << 16 | (uint32_t)seq[1] << 8 | seq[2], expected);
		}
		verify_places_free(&p);
		verify_close(v);
		verify_close(w);
	}
}

/* ---- code through the real objdump, and edges of chunks */

static const uint8_t code[] = {
    0xe8, 0x0b, 0x00, 0x00, 0x00,                            /* 00: call 10 */
    0xeb, 0x05,                                              /* 05: jmp 0c */
    0x0f, 0x0b, 0x90, 0x90, 0x90,                            /* 07: ud2, padding */
    0xc3, 0xcc, 0xcc, 0xcc,                                  /* 0c: ret, padding */
    0x48, 0x8b, 0x05, 0xf0, 0x00, 0x00, 0x00,                /* 10: mov 0x107(%rip) */
    0xc7, 0x05, 0xe7, 0x00, 0x00, 0x00, 5,    5,    5,    5, /* 17: movl $…, 0x108(%rip) */
    0xf2, 0x0f, 0x00, 0xf7,                                  /* 21: lkgs %edi */
    0x0f, 0x85, 0xd5, 0xff, 0xff, 0xff,                      /* 25: jne 00 */
    0x0f, 0x0b, 'x',  'e',  'n',  0x0f, 0xa2,                /* 2b: ud2; "xen"; cpuid */
    0xf3, 0x0f, 0x1e, 0xfa,                                  /* 32: endbr64; runs on */
    0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0xc3, 0xcc, 0xcc,
    0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc,
};

/* So many bytes at 0x1000 as all the code there is. */
static void disassemble(struct verify *v, uint32_t bytes)
{
	struct riffle_error error;

	v->code[0] = (struct code){".text", 0x1000, bytes, BASE + 0x1000};
	v->code_count = 1;
	assert_int_equal(verify_disassemble(v, NULL, NULL, &error), 0);
}

static void test_code(void **state)
{
	static const struct ref expected[] = {
	    {.field = 0x1001, .target = 0x1010, .kind = REF_PC32},
	    {.field = 0x1006, .target = 0x100c, .kind = REF_PC8},
	    {.field = 0x1013, .target = 0x1107, .kind = REF_PC32},
	    {.field = 0x1019, .target = 0x1108, .kind = REF_PC32},
	    {.field = 0x1027, .target = 0x1000, .kind = REF_PC32},
	};
	static const struct {
		uint32_t offset, bytes;
		unsigned wrong;
	} row[] = {
	    {0x1000, 16, 0}, {0x1000, 32, 1 /* ends in an instruction */},
	    {0x1010, 16, 1}, {0x1040, 16, 1 /* run across */},
	    {0x1000, 64, 1}, {0x1000, 80, 0},
	    {0x1001, 16, 1}, {0x1050, 16, 1 /* outside */},
	};
	struct riffle_image image;
	struct verify *v = new_verify(&image, 0x4000);
	FILE *sink = fopen("/dev/null", "w");

	(void)state;
	assert_int_equal(sizeof code, 0x50);
	memcpy(v->bytes + 0x1000, code, sizeof code);
	disassemble(v, sizeof code);
	assert_int_equal(v->ref_count, sizeof expected / sizeof *expected);
	for (size_t i = 0; i < v->ref_count; i++) {
		assert_int_equal(v->ref[i].field, expected[i].field);
		assert_int_equal(v->ref[i].target, expected[i].target);
		assert_int_equal(v->ref[i].kind, expected[i].kind);
	}
	for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
		struct riffle_chunk one = {.image_offset = row[i].offset, .units = (uint16_t)(row[i].bytes / 16)};
		struct riffle_plan of_one = {.chunks = &one, .chunk_count = 1};

		assert_int_equal(verify_chunks(v, &of_one, 0, sink), row[i].wrong);
	}
	fclose(sink);
	verify_close(v);
}

/* A caller that lets nobody wait for its children, from which no status of objdump comes. */
static void test_code_without_a_status(void **state)
{
	struct riffle_image image;
	struct verify *v = new_verify(&image, 0x4000);
	void (*before)(int) = signal(SIGCHLD, SIG_IGN);

	(void)state;
	memcpy(v->bytes + 0x1000, code, sizeof code);
	disassemble(v, sizeof code);
	assert_int_equal(v->ref_count, 5);
	signal(SIGCHLD, before);
	verify_close(v);
}

/* The last bytes of a distance and the prefix after it look like LKGS; the first of two such is also part of a mov. */
static void test_no_lkgs(void **state)
{
	static const uint8_t like[] = {
	    0xb8, 0xf2, 0x0f, 0x00, 0xf0,                         /* 00: mov $0xf0000ff2, %eax */
	    0xe8, 0x7b, 0xf2, 0x0f, 0x00,                         /* 05: call */
	    0xf0, 0x48, 0x83, 0x05, 0x60, 0x66, 0x09, 0x00, 0x01, /* 0a: lock addq $1, 0x96660(%rip) */
	    0xf2, 0x0f, 0x00, 0xf7,                               /* 13: lkgs %edi */
	    0xe8, 0xe4, 0xff, 0xff, 0xff, 0xc3,                   /* 17: call 00; ret */
	    0xcc, 0xcc, 0xcc,
	};
	static const uint32_t fields[] = {0x1006, 0x100e, 0x1018}, targets[] = {0x100285, 0x97673, 0x1000};
	struct riffle_image image;
	struct verify *v = new_verify(&image, 0x200000);

	(void)state;
	memcpy(v->bytes + 0x1000, like, sizeof like);
	disassemble(v, sizeof like);
	assert_int_equal(v->ref_count, 3);
	for (size_t i = 0; i < 3; i++) {
		assert_int_equal(v->ref[i].field, fields[i]);
		assert_int_equal(v->ref[i].target, targets[i]);
		assert_int_equal(v->ref[i].kind, REF_PC32);
	}
	assert_int_equal(v->no_lkgs_count, 2);
	verify_close(v);
}

/* As lld fills holes between sections: objdump leaves the first one byte late, and after a fix the second as well. */
static void test_holes(void **state)
{
	static const uint8_t holes[] = {
	    0xc3, 0xcc, 0xcc, 0,    0, 0xcc, 0xcc, 0,    0,    0xcc, 0xcc,
	    0,    0,    0xcc, 0xcc, 0,                                  /* 00: ret, hole */
	    0x48, 0x69, 0x0d, 0x85, 0, 0,    0,    0x80, 0x96, 0x98, 0, /* 10: imul $…, 0xa0(%rip) */
	    0xc3, 0xcc, 0,    0,    0,                                  /* 1b: ret, hole */
	    0x48, 0x8b, 0x05, 0xf0, 0, 0,    0,    0xc3, 0xcc, 0xcc, 0,
	    0,    0xcc, 0xcc, 0,    0, /* 20: mov 0x117(%rip); ret, hole */
	};
	static const struct ref expected[] = {
	    {.field = 0x1013, .target = 0x10a0, .kind = REF_PC32},
	    {.field = 0x1023, .target = 0x1117, .kind = REF_PC32},
	};
	struct riffle_chunk each[] = {{.image_offset = 0x1000, .units = 1},
				      {.image_offset = 0x1010, .units = 1},
				      {.image_offset = 0x1020, .units = 1}};
	struct riffle_plan of_each = {.chunks = each, .chunk_count = 3};
	struct riffle_image image;
	struct verify *v = new_verify(&image, 0x4000);

	(void)state;
	assert_int_equal(sizeof holes, 0x30);
	memcpy(v->bytes + 0x1000, holes, sizeof holes);
	disassemble(v, sizeof holes);
	assert_int_equal(v->restart_count, 2);
	assert_int_equal(v->ref_count, 2);
	for (size_t i = 0; i < 2; i++) {
		assert_int_equal(v->ref[i].field, expected[i].field);
		assert_int_equal(v->ref[i].target, expected[i].target);
		assert_int_equal(v->ref[i].kind, expected[i].kind);
	}
	assert_int_equal(verify_chunks(v, &of_each, 3, stderr), 0);
	verify_close(v);
}

/* An alternative is written over its site in one piece: all of its bytes have to be in one chunk. */
static void test_alternatives(void **state)
{
	static const struct {
		uint32_t stride, length_at;
		uint32_t site;
		uint8_t length;
		unsigned wrong;
	} rows[] = {
	    {12, 10, 0x1010, 16, 0}, {12, 10, 0x1010, 17, 1}, {13, 10, 0x101f, 1, 0},  {13, 10, 0x101f, 2, 1},
	    {14, 12, 0x101c, 4, 0},  {14, 12, 0x101c, 5, 1},  {14, 12, 0x1020, 48, 0}, {14, 12, 0x1020, 49, 1},
	};
	struct riffle_chunk two[] = {{.image_offset = 0x1000, .units = 2}, {.image_offset = 0x1020, .units = 3}};
	struct riffle_plan of_two = {.chunks = two, .chunk_count = 2};
	FILE *sink = fopen("/dev/null", "w");

	(void)state;
	assert_non_null(sink);
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct riffle_image image;
		struct verify *v = new_verify(&image, 0x4000);
		struct riffle_error error;
		uint8_t part;

		memset(v->bytes + 0x1000, 0xc3, 0x60);
		disassemble(v, 0x60);
		put_distance(v, 0x2000, rows[i].site);
		v->bytes[0x2000 + rows[i].length_at] = rows[i].length;
		assert_int_equal(verify_new_part(v, ".altinstructions", 0x2000, rows[i].stride, &part, &error), 0);
		v->part[part].stride = (uint8_t)rows[i].stride;
		if (verify_chunks(v, &of_two, 0, sink) != rows[i].wrong)
			fail_msg("%u bytes at %x", rows[i].length, rows[i].site);
		verify_close(v);
	}
	fclose(sink);
}

/* With kCFI the 16 bytes before a sealed function are written to, whatever they belong to. */
static void test_seals(void **state)
{
	struct riffle_chunk two[] = {{.image_offset = 0x1000, .units = 2}, {.image_offset = 0x1020, .units = 3}};
	struct riffle_plan of_two = {.chunks = two, .chunk_count = 2};
	struct riffle_image image;
	struct verify *v = new_verify(&image, 0x4000);
	struct riffle_error error;
	uint8_t part;

	(void)state;
	memset(v->bytes + 0x1000, 0xc3, 0x50);
	disassemble(v, 0x50);
	put_distance(v, 0x2000, 0x1030);
	put_distance(v, 0x2004, 0x1020);
	assert_int_equal(verify_new_part(v, ".ibt_endbr_seal", 0x2000, 8, &part, &error), 0);
	v->part[part].stride = 4;
	assert_int_equal(verify_chunks(v, &of_two, 3, stderr), 0);
	assert_int_equal(verify_new_part(v, ".cfi_sites", 0x2008, 8, &part, &error), 0);
	assert_int_equal(verify_chunks(v, &of_two, 0, stderr), 1);
	two[0].units = 1;
	two[1] = (struct riffle_chunk){.image_offset = 0x1010, .units = 4};
	assert_int_equal(verify_chunks(v, &of_two, 3, stderr), 0);
	verify_close(v);
}

/* ---- the mode of /proc/kallsyms */

#define MOVE 0xbe, 0x24, 0x01, 0x00, 0x00 /* mov $0444, %esi */
#define CALL(at, to) 0xe8, (uint8_t)((to) - (at)-5), 0, 0, 0

/* The kernel's initcall as 32 bytes at 0x1000, of this name and type; at 0x1040 there is proc_create(). */
static uint32_t mode_in(const char *name, char type, const char *creator, const uint8_t initcall[32])
{
	struct symbol symbols[] = {
	    {0x1000, type, name}, {0x1000, 't', "alias"}, {0x1020, 't', "next"}, {0x1040, 'T', creator}};
	struct riffle_image image;
	struct verify *v = new_verify(&image, 0x4000);
	struct riffle_error error;
	uint32_t mode;

	memset(v->bytes + 0x1000, 0x90, 0x50);
	memcpy(v->bytes + 0x1000, initcall, 32);
	v->symbol = memcpy(malloc(sizeof symbols), symbols, sizeof symbols);
	v->symbol_count = 4;
	disassemble(v, 0x50);
	assert_int_equal(verify_find_mode(v, &error), 0);
	mode = v->mode;
	if (mode) {
		assert_string_equal(verify_part(v, v->part_count - 1).name, "kallsyms-mode");
		assert_int_equal(verify_part(v, v->part_count - 1).fields, 1);
	}
	verify_close(v);
	return mode;
}

static void test_mode(void **state)
{
	static const char stub[] = "__initstub__kmod_kallsyms__389_1052_kallsyms_init6";
	static const uint8_t plain[32] = {MOVE, CALL(5, 0x40), 0xc3}, behind[32] = {CALL(0, 0x40), MOVE, 0xc3},
			     twice[32] = {MOVE, MOVE, CALL(10, 0x40), 0xc3},
			     calls[32] = {MOVE, CALL(5, 0x40), CALL(10, 0x40), 0xc3},
			     elsewhere[32] = {MOVE, CALL(5, 0x20), 0xc3},
			     other[32] = {0xbe, 0x24, 0x01, 0x01, 0x00, CALL(5, 0x40), 0xc3},
			     /* movabs with a move in its number */
	    number[32] = {0x48, 0xb8, MOVE, 0, 0, 0, CALL(10, 0x40), 0xc3}, next[32] = {CALL(0, 0x40), [0x1b] = MOVE};

	(void)state;
	assert_int_equal(mode_in("kallsyms_init", 't', "proc_create", plain), 0x1001);
	assert_int_equal(mode_in(stub, 't', "proc_create_data", plain), 0x1001);
	assert_int_equal(mode_in("kallsyms_init6", 't', "proc_create", plain), 0);
	assert_int_equal(mode_in("__initstub_kallsyms_init7", 't', "proc_create", plain), 0);
	assert_int_equal(mode_in("kallsyms_init", 'd', "proc_create", plain), 0);
	assert_int_equal(mode_in("kallsyms_init", 't', "proc_remove", plain), 0);
	assert_int_equal(mode_in("kallsyms_init", 't', "proc_create", behind), 0);
	assert_int_equal(mode_in("kallsyms_init", 't', "proc_create", twice), 0);
	assert_int_equal(mode_in("kallsyms_init", 't', "proc_create", calls), 0);
	assert_int_equal(mode_in("kallsyms_init", 't', "proc_create", elsewhere), 0);
	assert_int_equal(mode_in("kallsyms_init", 't', "proc_create", other), 0);
	assert_int_equal(mode_in("kallsyms_init", 't', "proc_create", number), 0);
	assert_int_equal(mode_in("kallsyms_init", 't', "proc_create", next), 0);
}

/* A name with terminal control characters. */
static void test_part_names(void **state)
{
	struct riffle_image image;
	struct verify *v = new_verify(&image, 0x4000);
	struct riffle_error error;
	uint8_t part;

	(void)state;
	assert_int_equal(verify_new_part(v, "runtime_\033[31m\x7f", 0x2000, 8, &part, &error), 0);
	assert_string_equal(verify_part(v, part).name, "runtime_?[31m?");
	verify_close(v);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_branches),      cmocka_unit_test(test_rip_operands),
	    cmocka_unit_test(test_others),        cmocka_unit_test(test_places),
	    cmocka_unit_test(test_sorted_tables), cmocka_unit_test(test_unsorted_tables),
	    cmocka_unit_test(test_kallsyms),      cmocka_unit_test(test_kallsyms_moved),
	    cmocka_unit_test(test_code),          cmocka_unit_test(test_code_without_a_status),
	    cmocka_unit_test(test_holes),         cmocka_unit_test(test_no_lkgs),
	    cmocka_unit_test(test_seals),         cmocka_unit_test(test_alternatives),
	    cmocka_unit_test(test_part_names),    cmocka_unit_test(test_mode),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The cost of an analysis in basic blocks and bytes allocated: it must not grow faster than the input. */
#include "grown.h"

#include <malloc.h>
#include <sys/mman.h>
#include <unistd.h>

#include "prepare/analysis/prepared.h"
#include "prepare/symbols/kallsyms.h"

static uint64_t blocks; /* run by the library, which is compiled to count them */

void __sanitizer_cov_trace_pc(void);
void __sanitizer_cov_trace_pc(void)
{
	blocks++;
}

static size_t live, peak; /* bytes that the library has allocated */

void *__real_malloc(size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
void *__real_realloc(void *at, size_t bytes);
void __real_free(void *at);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes);
void *__wrap_realloc(void *at, size_t bytes);
void *__wrap_reallocarray(void *at, size_t count, size_t bytes);
void __wrap_free(void *at);

static void *count(void *at)
{
	live += at ? malloc_usable_size(at) : 0;
	peak = live > peak ? live : peak;
	return at;
}

void *__wrap_malloc(size_t bytes)
{
	return count(__real_malloc(bytes));
}

void *__wrap_calloc(size_t number, size_t bytes)
{
	return count(__real_calloc(number, bytes));
}

void *__wrap_realloc(void *at, size_t bytes)
{
	size_t old = at ? malloc_usable_size(at) : 0;
	void *more = __real_realloc(at, bytes);

	live -= more ? old : 0;
	return count(more);
}

void *__wrap_reallocarray(void *at, size_t number, size_t bytes)
{
	size_t total;

	return __builtin_mul_overflow(number, bytes, &total) ? NULL : __wrap_realloc(at, total);
}

void __wrap_free(void *at)
{
	live -= at ? malloc_usable_size(at) : 0;
	__real_free(at);
}

/* Analyses and writes the kernel, which must succeed or fail for the given reason; returns the blocks executed. */
static uint64_t cost(struct grown *g, const char *refused)
{
	const struct shuffle_debug debug = {.symbol = g->symbol, .symbol_count = g->symbols};
	int out = memfd_create("prepared", MFD_CLOEXEC), status;
	struct riffle_error error = {0};
	struct shuffle *shuffle;
	uint64_t before = blocks;

	status = shuffle_analyse(&shuffle, &g->image, &debug, &error);
	if (!status)
		status = riffle_prepared_write(&g->image, shuffle, NULL, RIFFLE_COMPRESSION_LZ4, out, &error);
	if (!refused && status)
		fail_msg("%s %s %llx", error.field, error.problem, (unsigned long long)error.found);
	if (refused && (!status || !strstr(error.problem, refused)))
		fail_msg("%s, wanted %s", status ? error.problem : "taken", refused);
	shuffle_free(shuffle);
	close(out);
	before = blocks - before;
	grown_end(g);
	return before;
}

static uint64_t functions(unsigned n)
{
	return cost(grown_start(n, 0x1000, 0), NULL);
}

/* Zeros at the end of the table of locks. */
static uint64_t locks(unsigned n)
{
	struct grown *g = grown_start(64, n * 16, 0);

	grown_section(g, ".smp_locks", g->text_bytes, n * 16, 0);
	grown_distance(g, g->text_bytes, HEAD);
	return cost(g, NULL);
}

/* Names of starts and ends of objects, all in one place. */
static uint64_t starts(unsigned n)
{
	struct grown *g = grown_start(64, 0x1000, 2 * n);

	for (unsigned i = 0; i < n; i++) {
		grown_symbol(g, g->text_bytes + 16, grown_name(g, "object_start", i));
		grown_symbol(g, g->text_bytes + 500, grown_name(g, "object_end", i));
	}
	return cost(g, NULL);
}

static uint64_t same_starts(unsigned n)
{
	struct grown *g = grown_start(64, 0x1000, 0);

	for (unsigned i = 0; i < n; i++) {
		grown_symbol(g, g->text_bytes + 16, "object_start");
		grown_symbol(g, g->text_bytes + 400, "object_end");
		grown_symbol(g, g->text_bytes + 500, "object_stop");
	}
	return cost(g, NULL);
}

/* Section headers that all claim the same bytes. */
static uint64_t sections(unsigned n)
{
	struct grown *g = grown_start(64, 64 * n, 0);

	for (unsigned i = 0; i < n; i++)
		grown_section(g, ".rodata", g->text_bytes, 64 * n, 0);
	return cost(g, NULL);
}

/* Tables that all claim the same bytes. */
static uint64_t tables(unsigned n)
{
	struct grown *g = grown_start(64, 64 * n, 0);

	for (unsigned i = 0; i < n; i++)
		grown_section(g, "runtime_x", g->text_bytes, 64 * n, 0);
	for (unsigned i = 0; i < 16 * n; i++)
		grown_distance(g, g->text_bytes + 4 * i, HEAD);
	return cost(g, "overlaps another table");
}

/* Labels of two bytes that tie both ends of a chunk together, cut as finely as possible. */
static uint64_t ties(unsigned n)
{
	struct grown *g = grown_start(0x100, 16 * n, 0);
	uint32_t first = HEAD + 0x100, last = HEAD + 0x2f00;

	for (uint32_t at = first + 2; at < first + 2 + n; at++)
		grown_symbol(g, at, "label");
	memcpy(g->at + first, "\x66\x90", 2);
	memset(g->at + first + 2, 0x90, n);
	grown_section(g, "__jump_table", g->text_bytes, 16 * n, SHF_WRITE);
	for (unsigned i = 0; i < n; i++) {
		grown_distance(g, g->text_bytes + 16 * i, first);
		grown_distance(g, g->text_bytes + 16 * i + 4, last);
	}
	return cost(g, NULL);
}

/* More functions than chunks have numbers. */
static uint64_t chunks(unsigned n)
{
	return cost(grown_start(SHUFFLE_CHUNKS_MAX / 2 + n, 0x1000, 0), NULL);
}

/* Every other function is pinned; each has an entry of the unwinder. */
static uint64_t regions(unsigned n)
{
	struct grown *g = grown_start(2 * n, 2 * n * 10, 0);
	uint32_t ip = g->text_bytes, state = ip + 2 * n * 4;

	for (unsigned i = 0; i < n; i++)
		g->symbol[1 + 2 * i].name = "srso_thunk";
	grown_section(g, ".orc_unwind_ip", ip, 2 * n * 4, 0);
	grown_section(g, ".orc_unwind", state, 2 * n * 6, 0);
	for (unsigned i = 0; i < 2 * n; i++)
		grown_distance(g, ip + 4 * i, HEAD + FUNCTION * i);
	return cost(g, NULL);
}

/* One repeated word that leads into code wherever it is: no table, but long rows that look like one. */
static uint64_t words(unsigned n)
{
	struct grown *g = grown_start(n, 4 * n, 0);

	for (unsigned i = 0; i < n; i++)
		riffle_put32(g->at + g->text_bytes + 4 * i, (uint32_t) - (int32_t)(4 * n + 16));
	return cost(g, NULL);
}

static uint64_t relocations(unsigned n)
{
	struct grown *g = grown_start(n, 8 * n, 0);

	g->reloc64 = malloc(n * sizeof *g->reloc64);
	for (unsigned i = 0; i < n; i++) {
		g->reloc64[i] = g->text_bytes + 8 * i;
		riffle_put64(g->at + g->text_bytes + 8 * i, LINK + HEAD + FUNCTION * i);
	}
	g->image.reloc64 = (struct image_relocs){g->reloc64, n};
	return cost(g, NULL);
}

/* Alternating zero and non-zero pages: as many extents, frames and cuts as possible. */
static uint64_t extents(unsigned n)
{
	struct grown *g = grown_start(64, n * 0x2000, 0);

	for (unsigned i = 0; i < n; i++)
		g->at[g->text_bytes + i * 0x2000] = 1;
	return cost(g, NULL);
}

/* Memory beyond the file's bytes, with symbols that claim a table in it. */
static uint64_t memory(unsigned n)
{
	struct grown *g = grown_start(64, 0x1000, 0);

	g->segment.memory_bytes += n * UINT64_C(0x1000);
	g->image.image_bytes += n * UINT64_C(0x1000);
	grown_symbol(g, g->bytes, "__smp_locks");
	grown_symbol(g, g->bytes + n * 0x1000 - 16, "__smp_locks_end");
	return cost(g, "has no contents in the file");
}

/* A token table behind words that are a number of symbols each, and names of three codes as well. */
static uint64_t numbers(unsigned n)
{
	size_t bytes = 4 * n + 2048, table = 4 * n;
	uint8_t *image = calloc(bytes, 1);
	struct kallsyms_place place;
	struct riffle_error error;
	uint64_t before = blocks;

	for (unsigned i = 0; i < n; i++)
		riffle_put32(image + 4 * i, 0x3f03);
	for (unsigned i = 0; i < 256; i++) {
		image[table + 2 * i] = 'x';
		riffle_put16(image + table + 512 + 2 * i, (uint16_t)(2 * i));
	}
	assert_int_equal(kallsyms_find(&place, image, bytes, LINK, &error), RIFFLE_ERR_FORMAT);
	free(image);
	return blocks - before;
}

/* Index after index, each with a table of tokens before it. */
static uint64_t indexes(unsigned n)
{
	const size_t step = 1024;
	uint8_t *image = calloc(n + 1, step);
	struct kallsyms_place place;
	struct riffle_error error;
	uint64_t before = blocks;

	for (unsigned k = 0; k < n; k++)
		for (unsigned i = 0; i < 256; i++) {
			image[k * step + 2 * i] = 'x';
			riffle_put16(image + k * step + 512 + 2 * i, (uint16_t)(2 * i));
		}
	assert_int_equal(kallsyms_find(&place, image, (n + 1) * step, LINK, &error), RIFFLE_ERR_FORMAT);
	free(image);
	return blocks - before;
}

static void test_growth(void **state)
{
	static const struct {
		const char *name;
		uint64_t (*run)(unsigned n);
		unsigned n;
	} row[] = {
	    {"functions", functions, 5000},
	    {"locks", locks, 5000},
	    {"starts", starts, 3000},
	    {"same starts", same_starts, 2000},
	    {"sections", sections, 1000},
	    {"tables", tables, 70},
	    {"ties", ties, 4000},
	    {"chunks", chunks, 32000},
	    {"regions", regions, 500},
	    {"words", words, 5000},
	    {"relocations", relocations, 5000},
	    {"extents", extents, 500},
	    {"memory", memory, 1000},
	    {"numbers", numbers, 16000},
	    {"indexes", indexes, 40},
	};

	(void)state;
	for (unsigned i = 0; i < sizeof row / sizeof *row; i++) {
		uint64_t one = row[i].run(row[i].n), two = row[i].run(2 * row[i].n);

		print_message("%-12s %10llu blocks, %10llu with twice as much: %.2f\n", row[i].name,
			      (unsigned long long)one, (unsigned long long)two, (double)two / (double)one);
		if (two * 2 > one * 5)
			fail_msg("%s: twice as much costs %.2f times as much", row[i].name, (double)two / (double)one);
	}
}

/* A table's size in a header alone does not cause an allocation of that size. */
static void test_no_bits(void **state)
{
	struct grown *g = grown_start(64, 0x1000, 0);

	(void)state;
	grown_section(g, ".smp_locks", g->text_bytes, 0x1000, 0);
	g->section[g->image.section_count - 1].type = SHT_NOBITS;
	cost(g, "has no contents in the file");
}

struct tally {
	uint32_t symbols;
	size_t bytes;
};

static void take(void *opaque, uint64_t address, char type, const char *name)
{
	struct tally *tally = opaque;

	(void)address;
	(void)type;
	tally->symbols++;
	tally->bytes += strlen(name) + 1;
}

/* kallsyms of 7.2's kind around `count` names of `codes` codes, each of which stands for `token` letters. */
static uint8_t *make_kallsyms(size_t *bytes, uint32_t count, unsigned codes, unsigned token)
{
	size_t names = 4, markers = (names + (size_t)count * (codes + 1) + 3) & ~(size_t)3;
	size_t tokens = markers + (count + 255) / 256 * 4,
	       index = (tokens + 256 * (size_t)(token + 1) + 3) & ~(size_t)3;
	size_t offsets = index + 512, seqs = offsets + (size_t)count * 4, i;
	uint8_t *image = calloc(*bytes = seqs + (size_t)count * 3, 1);

	assert_non_null(image);
	riffle_put32(image, count);
	memset(image + names, 'a', (size_t)count * (codes + 1));
	for (i = 0; i < count; i++) {
		image[names + i * (codes + 1)] = (uint8_t)codes;
		if (i % 256 == 0)
			riffle_put32(image + markers + i / 256 * 4, (uint32_t)(i * (codes + 1)));
		riffle_put32(image + offsets + i * 4, (uint32_t) - (int32_t)(offsets + i * 4));
		image[seqs + 3 * i] = (uint8_t)(i >> 16);
		image[seqs + 3 * i + 1] = (uint8_t)(i >> 8);
		image[seqs + 3 * i + 2] = (uint8_t)i;
	}
	for (i = 0; i < 256; i++) {
		memset(image + tokens + i * (token + 1), 't', token);
		riffle_put16(image + index + 2 * i, (uint16_t)(i * (token + 1)));
	}
	return image;
}

/* A million symbols take 24 bytes each plus their names, however large these claim to unpack to. */
static void test_memory(void **state)
{
	const uint32_t count = 1000000;
	struct tally tally = {0};
	struct kallsyms_place place;
	struct riffle_error error;
	size_t bytes, before;
	uint8_t *image;
	char *names;

	(void)state;
	image = make_kallsyms(&bytes, count, 5, 4);
	before = peak = live;
	assert_int_equal(kallsyms_find(&place, image, bytes, LINK, &error), 0);
	assert_int_equal(kallsyms_read(&names, &place, image, bytes, LINK, take, &tally, &error), 0);
	assert_int_equal(tally.symbols, count);
	assert_int_equal(tally.bytes, (size_t)count * 20);
	free(names);
	free(image);
	print_message("%.1f bytes a symbol\n", (double)(peak - before) / count);
	assert_true(peak - before < (size_t)count * 24);

	image = make_kallsyms(&bytes, count, 5, 200);
	before = peak = live;
	assert_int_equal(kallsyms_find(&place, image, bytes, LINK, &error), 0);
	assert_int_equal(kallsyms_read(&names, &place, image, bytes, LINK, take, &tally, &error), RIFFLE_ERR_FORMAT);
	assert_string_equal(error.problem, "names unpack to more than any kernel's");
	free(image);
	assert_true(peak - before < (size_t)count * 24);
}

/* The analysis of a kernel that has nothing but symbols. */
static void test_memory_of_analysis(void **state)
{
	const uint32_t count = 400000;
	uint8_t *tables;
	struct riffle_error error;
	struct shuffle *shuffle;
	size_t bytes, before;
	struct grown *g;

	(void)state;
	tables = make_kallsyms(&bytes, count, 5, 4);
	g = grown_start(64, (uint32_t)bytes + 0x1000, 0);
	memcpy(g->at + (g->text_bytes + 0xfffu) / 0x1000 * 0x1000, tables, bytes);
	free(tables);
	before = peak = live;
	assert_int_equal(shuffle_analyse(&shuffle, &g->image, NULL, &error), 0);
	print_message("%zu bytes for an image of %u and %u symbols\n", peak - before, g->bytes, count);
	/* the image flat, a byte of it in the census, a bit for where instructions start */
	assert_true(peak - before < 2 * (size_t)g->bytes + g->bytes / 8 + (size_t)count * (24 + 20) + 0x20000);
	shuffle_free(shuffle);
	grown_end(g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_growth),
	    cmocka_unit_test(test_no_bits),
	    cmocka_unit_test(test_memory),
	    cmocka_unit_test(test_memory_of_analysis),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

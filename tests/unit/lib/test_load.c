/* SPDX-License-Identifier: Apache-2.0 */
/* riffle_load() gives exactly the result of a naive loader, and touches nothing else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/mman.h>

#include <cmocka.h>

#include <riffle/load.h>

#include "prepared_builder.h"

#define MIB (UINT64_C(1) << 20)
#define IMAGE (7 * MIB)

/* A separate small generator, so that an error in the library's cannot hide. */
static uint64_t next_number(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

static void put_relocs(uint32_t **list, uint32_t *count, const uint8_t *wanted, uint8_t kind)
{
	*list = malloc(IMAGE / 16 * sizeof **list);
	*count = 0;
	for (uint32_t at = 0; at < IMAGE; at++)
		if (wanted[at] == kind)
			(*list)[(*count)++] = at;
}

/* Fields of all three kinds scattered over two extents and placed across every 256 KiB and 2 MiB boundary. */
static void strewn_kernel(struct builder *b, uint64_t seed)
{
	uint8_t *wanted = calloc(1, IMAGE), *taken = calloc(1, IMAGE + 8);

	builder_start(b, IMAGE, MIB / 2);
	builder_extent(b, 0, (uint32_t)(4 * MIB + 0x123));
	builder_extent(b, (uint32_t)(5 * MIB), (uint32_t)MIB);
	for (unsigned i = 0; i < b->extents; i++)
		for (uint32_t at = 0; at < b->extent[i].bytes; at++)
			b->image[b->extent[i].image_offset + at] = (uint8_t)next_number(&seed);
	for (unsigned i = 0; i < 40000; i++) {
		unsigned e = i % 4 == 3;
		uint8_t kind = (uint8_t)(1 + next_number(&seed) % 3);
		uint32_t size = kind == 1 ? 8 : 4, at;

		if (i < 2000 && i % 2) /* across an edge, at each distance from it */
			at = (uint32_t)((1 + next_number(&seed) % 15) * MIB / 4 - 1 - next_number(&seed) % 7);
		else
			at = b->extent[e].image_offset + (uint32_t)(next_number(&seed) % (b->extent[e].bytes - 8));
		if (memcmp(taken + at, "\0\0\0\0\0\0\0\0", size))
			continue;
		memset(taken + at, 1, size);
		wanted[at] = kind;
	}
	put_relocs(&b->reloc64, &b->count64, wanted, 1);
	put_relocs(&b->reloc32, &b->count32, wanted, 2);
	put_relocs(&b->inverse, &b->count_inverse, wanted, 3);
	free(wanted);
	free(taken);
	builder_seal(b);
}

static bool has_field_across(const uint32_t *list, uint32_t count, uint32_t bytes, uint32_t edge)
{
	for (uint32_t i = 0; i < count; i++)
		if (list[i] < edge && edge < list[i] + bytes)
			return true;
	return false;
}

/* The first extent in pieces that follow each other without a gap, as those of two segments may. */
static void cut_first_extent(struct builder *b)
{
	struct riffle_extent whole = b->extent[0], second = b->extent[1];
	uint32_t from = 0;

	b->extents = 0;
	for (uint32_t edge = 4096; edge < whole.bytes; edge += 0x61000) {
		while (has_field_across(b->reloc64, b->count64, 8, edge) ||
		       has_field_across(b->reloc32, b->count32, 4, edge) ||
		       has_field_across(b->inverse, b->count_inverse, 4, edge))
			edge += 4096;
		builder_extent(b, from, edge - from);
		from = edge;
	}
	builder_extent(b, from, whole.bytes - from);
	builder_extent(b, second.image_offset, second.bytes);
	assert_true(b->extents > 10);
	builder_seal(b);
}

static uint8_t *naive(const struct builder *b, uint64_t delta)
{
	uint8_t *image = malloc(IMAGE);

	memcpy(image, b->image, IMAGE);
	for (uint32_t i = 0; i < b->count64; i++) {
		uint64_t v;
		memcpy(&v, image + b->reloc64[i], 8);
		v += delta;
		memcpy(image + b->reloc64[i], &v, 8);
	}
	for (uint32_t i = 0; i < b->count32; i++) {
		uint32_t v;
		memcpy(&v, image + b->reloc32[i], 4);
		v += (uint32_t)delta;
		memcpy(image + b->reloc32[i], &v, 4);
	}
	for (uint32_t i = 0; i < b->count_inverse; i++) {
		uint32_t v;
		memcpy(&v, image + b->inverse[i], 4);
		v -= (uint32_t)delta;
		memcpy(image + b->inverse[i], &v, 4);
	}
	return image;
}

struct guest {
	struct riffle_ram ram;
	struct riffle_memory memory;
};

static void guest_start(struct guest *g, int fill)
{
	g->ram = (struct riffle_ram){0, 64 * MIB, aligned_alloc(4096, 64 * MIB)};
	memset(g->ram.host, fill, 64 * MIB);
	g->memory = (struct riffle_memory){&g->ram, 1, NULL, 0};
}

/* everything but the image must still hold `fill` */
static void assert_untouched(const struct guest *g, uint64_t from, uint8_t fill)
{
	const uint8_t *host = g->ram.host;

	for (uint64_t i = 0; i < g->ram.bytes; i++)
		if ((i < from || i >= from + IMAGE) && host[i] != fill)
			fail_msg("byte at 0x%llx was touched", (unsigned long long)i);
}

/* runs the jobs in an unexpected order */
static void run_backwards(void *opaque, void (*job)(void *, unsigned), void *argument, unsigned jobs)
{
	*(unsigned *)opaque = jobs;
	while (jobs--)
		job(argument, jobs);
}

static void loads_to_the_byte(void **state)
{
	(void)state;
	for (unsigned round = 0; round < 8; round++) {
		const unsigned slot = round % 6 + round / 6;
		struct riffle_layout layout = {RIFFLE_MODE_KASLR, (16 + 2 * slot) * MIB,
					       0xffffffff81000000 + slot * 77 * 2 * MIB};
		unsigned jobs = 0, clear = round & 1 ? RIFFLE_LOAD_CLEAR : 0;
		struct riffle_workers workers = {run_backwards, &jobs};
		struct riffle_source_memory bytes;
		struct riffle_source source;
		struct riffle_loaded loaded;
		struct riffle_error error;
		struct riffle_plan plan = RIFFLE_PLAN_INIT;
		struct builder b;
		struct guest g;
		uint8_t *file, *expected;

		strewn_kernel(&b, 88172645463325252ull + round);
		if (round > 5)
			cut_first_extent(&b);
		file = builder_file(&b);
		expected = naive(&b, layout.virtual_base - b.header.link_virt);
		guest_start(&g, clear ? 0xa5 : 0);
		riffle_source_from_bytes(&source, &bytes, file, b.header.file_bytes);
		assert_int_equal(riffle_plan_open(&plan, &source, &error), 0);
		assert_int_equal(riffle_load(&loaded, &plan, &source, &layout, &g.memory, clear,
					     round & 2 ? &workers : NULL, &error),
				 0);
		assert_memory_equal((uint8_t *)g.ram.host + layout.physical_base, expected, IMAGE);
		assert_untouched(&g, layout.physical_base, clear ? 0xa5 : 0);
		assert_int_equal(loaded.entry, layout.physical_base + 0x100);
		assert_int_equal(loaded.end, layout.physical_base + IMAGE);
		assert_int_equal(loaded.loadflags, 2);
		assert_int_equal(loaded.relocations, round ? b.count64 + b.count32 + b.count_inverse : 0);
		assert_true(b.count64 > 5000 && b.count32 > 5000 && b.count_inverse > 5000);
		assert_int_equal(jobs, round & 2 ? 4 : 0);
		riffle_plan_close(&plan);
		free(g.ram.host);
		free(expected);
		free(file);
		builder_end(&b);
	}
}

/*
 * A field across the end of a piece is complete only once the next piece has been read. Here a carry changes every byte
 * of each field, so that one changed too early is wrong.
 */
static void fields_across_edges_are_changed_once_they_are_whole(void **state)
{
	static const struct {
		uint32_t bytes;
		uint64_t value;
	} kinds[] = {{8, 0x00ffffffffffffff}, {4, 0x00ffffff}, {4, 0x01000000}};
	struct riffle_layout layout = {RIFFLE_MODE_KASLR, 16 * MIB, 0xffffffff81000000 + 4 * MIB};

	(void)state;
	for (unsigned kind = 0; kind < 3; kind++) {
		for (uint32_t before = 0; before <= kinds[kind].bytes; before++) {
			struct riffle_plan plan = RIFFLE_PLAN_INIT;
			struct riffle_source_memory bytes;
			struct riffle_source source;
			struct riffle_loaded loaded;
			struct riffle_error error;
			struct builder b;
			struct guest g;
			uint32_t *list = calloc(3, sizeof *list);
			uint8_t *file, *expected;

			builder_start(&b, IMAGE, MIB / 2);
			builder_extent(&b, 0, (uint32_t)(4 * MIB));
			for (uint32_t edge = 1; edge <= 3; edge++) {
				list[edge - 1] = (uint32_t)(edge * MIB - before);
				memcpy(b.image + list[edge - 1], &kinds[kind].value, kinds[kind].bytes);
			}
			*(kind == 0 ? &b.reloc64 : kind == 1 ? &b.reloc32 : &b.inverse) = list;
			*(kind == 0 ? &b.count64 : kind == 1 ? &b.count32 : &b.count_inverse) = 3;
			builder_seal(&b);
			file = builder_file(&b);
			expected = naive(&b, layout.virtual_base - b.header.link_virt);
			guest_start(&g, 0);
			riffle_source_from_bytes(&source, &bytes, file, b.header.file_bytes);
			assert_int_equal(riffle_plan_open(&plan, &source, &error), 0);
			assert_int_equal(riffle_load(&loaded, &plan, &source, &layout, &g.memory, 0, NULL, &error), 0);
			if (memcmp((uint8_t *)g.ram.host + layout.physical_base, expected, IMAGE))
				fail_msg("kind %u, %u bytes before the edge", kind, before);
			riffle_plan_close(&plan);
			free(g.ram.host);
			free(expected);
			free(file);
			builder_end(&b);
		}
	}
}

/* Zero pages are not touched: they must not even become resident. */
static void zero_pages_stay_away(void **state)
{
	struct riffle_layout layout = {RIFFLE_MODE_KASLR, 16 * MIB, 0xffffffff82000000};
	struct riffle_source_memory bytes;
	struct riffle_source source;
	struct riffle_loaded loaded;
	struct riffle_error error;
	struct riffle_plan plan = RIFFLE_PLAN_INIT;
	struct builder b;
	struct riffle_ram ram = {0, 32 * MIB, NULL};
	struct riffle_memory memory = {&ram, 1, NULL, 0};
	unsigned char resident[IMAGE / 4096];
	unsigned count = 0;
	uint8_t *file;

	(void)state;
	strewn_kernel(&b, 5);
	file = builder_file(&b);
	ram.host = mmap(NULL, ram.bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	madvise(ram.host, ram.bytes, MADV_NOHUGEPAGE);
	riffle_source_from_bytes(&source, &bytes, file, b.header.file_bytes);
	assert_int_equal(riffle_plan_open(&plan, &source, &error), 0);
	assert_int_equal(riffle_load(&loaded, &plan, &source, &layout, &memory, 0, NULL, &error), 0);
	assert_int_equal(mincore((uint8_t *)ram.host + 16 * MIB, IMAGE, resident), 0);
	for (unsigned i = 0; i < sizeof resident; i++)
		count += resident[i] & 1;
	assert_int_equal(count, (4 * MIB + 4096 + MIB) / 4096);
	assert_int_equal(loaded.bytes_copied, 5 * MIB + 0x123);
	riffle_plan_close(&plan);
	munmap(ram.host, ram.bytes);
	free(file);
	builder_end(&b);
}

static void layouts_that_do_not_fit_are_refused(void **state)
{
	const struct {
		struct riffle_layout layout;
		uint64_t ram_bytes;
		int status;
	} rows[] = {
	    {{RIFFLE_MODE_KASLR, 16 * MIB, 0xffffffff81000000}, 24 * MIB, RIFFLE_OK},
	    {{RIFFLE_MODE_KASLR, 16 * MIB, 0xffffffff81000000}, 22 * MIB, RIFFLE_ERR_SPACE},
	    {{RIFFLE_MODE_KASLR, UINT64_MAX - 2 * MIB + 1, 0xffffffff81000000}, 24 * MIB, RIFFLE_ERR_SPACE},
	    {{RIFFLE_MODE_KASLR, 17 * MIB, 0xffffffff81000000}, 64 * MIB, RIFFLE_ERR_ARGUMENT},
	    {{RIFFLE_MODE_KASLR, 16 * MIB, 0xffffffffc0000000}, 64 * MIB, RIFFLE_ERR_SPACE},
	    {{RIFFLE_MODE_KASLR, 16 * MIB, 0xffffffffbfa00000}, 64 * MIB, RIFFLE_ERR_SPACE},
	    {{RIFFLE_MODE_KASLR, 16 * MIB, 0xffffffffbf800000}, 64 * MIB, RIFFLE_OK},
	    {{RIFFLE_MODE_KASLR, 16 * MIB, 0xffffffff80e00000}, 64 * MIB, RIFFLE_ERR_SPACE},
	    {{RIFFLE_MODE_KASLR, 16 * MIB, 0}, 64 * MIB, RIFFLE_ERR_SPACE},
	    {{RIFFLE_MODE_KASLR, 16 * MIB, 0xffffffff81001000}, 64 * MIB, RIFFLE_ERR_SPACE},
	};
	struct riffle_source_memory bytes;
	struct riffle_source source;
	struct riffle_loaded loaded;
	struct riffle_error error;
	struct riffle_plan plan = RIFFLE_PLAN_INIT;
	struct builder b;
	struct guest g;
	uint8_t *file;

	(void)state;
	strewn_kernel(&b, 6);
	file = builder_file(&b);
	guest_start(&g, 0);
	riffle_source_from_bytes(&source, &bytes, file, b.header.file_bytes);
	assert_int_equal(riffle_plan_open(&plan, &source, &error), 0);
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		g.ram.bytes = rows[i].ram_bytes;
		if (riffle_load(&loaded, &plan, &source, &rows[i].layout, &g.memory, 0, NULL, &error) != rows[i].status)
			fail_msg("row %zu", i);
	}
	riffle_plan_close(&plan);
	free(g.ram.host);
	free(file);
	builder_end(&b);
}

/* A source that fails part-way: one error, from the first job that meets it. */
static int read_until(void *opaque, uint64_t offset, void *buffer, size_t bytes, struct riffle_error *error)
{
	(void)buffer;
	if (offset + bytes > *(uint64_t *)opaque) {
		error->status = RIFFLE_ERR_CHANGED;
		error->field = "file";
		return RIFFLE_ERR_CHANGED;
	}
	return 0;
}

static void failing_source_is_an_error(void **state)
{
	struct riffle_layout layout = {RIFFLE_MODE_KASLR, 16 * MIB, 0xffffffff82000000};
	struct riffle_loaded loaded;
	struct riffle_error error;
	struct riffle_plan plan = RIFFLE_PLAN_INIT;
	struct builder b;
	struct guest g;

	(void)state;
	strewn_kernel(&b, 7);
	guest_start(&g, 0);
	assert_int_equal(riffle_plan_check(&plan, &b.header, b.plan, b.plan_bytes, b.header.file_bytes, &error), 0);
	for (uint64_t limit = 0; limit < b.header.file_bytes; limit += 777777) {
		struct riffle_source source = {read_until, &limit, b.header.file_bytes};
		const struct riffle_extent *last = &b.extent[1];

		error.field = NULL;
		if (limit >= last->file_offset + last->bytes)
			break;
		assert_int_equal(riffle_load(&loaded, &plan, &source, &layout, &g.memory, 0, NULL, &error),
				 RIFFLE_ERR_CHANGED);
		assert_string_equal(error.field, "file");
	}
	free(g.ram.host);
	builder_end(&b);
}

struct loadable {
	struct builder b;
	struct riffle_plan plan;
	struct riffle_source_memory bytes;
	struct riffle_source source;
	struct riffle_ram ram[3];
	struct riffle_memory memory;
	struct riffle_layout layout;
	struct riffle_workers workers;
	unsigned jobs, options;
	uint8_t *file;
	void *host;
};

/* One page of code, of which one field is relocated, in an image of 3 MiB; loaded at its link address. */
static void loadable_start(struct loadable *l)
{
	struct riffle_error error;

	memset(l, 0, sizeof *l);
	builder_start(&l->b, 3 * MIB, 2 * MIB);
	builder_extent(&l->b, 0, 4096);
	memset(l->b.image, 0x5a, 4096);
	l->b.reloc32 = calloc(1, sizeof *l->b.reloc32);
	l->b.count32 = 1;
	builder_seal(&l->b);
	l->file = builder_file(&l->b);
	riffle_source_from_bytes(&l->source, &l->bytes, l->file, l->b.header.file_bytes);
	l->plan = (struct riffle_plan)RIFFLE_PLAN_INIT;
	assert_int_equal(riffle_plan_open(&l->plan, &l->source, &error), 0);
	l->host = calloc(1, 4 * MIB);
	/* one stretch that the host has not mapped, one below the kernel */
	l->ram[0] = (struct riffle_ram){16 * MIB, 4 * MIB, NULL};
	l->ram[1] = (struct riffle_ram){0, 4 * MIB, l->host};
	l->ram[2] = (struct riffle_ram){16 * MIB, 3 * MIB, l->host};
	l->memory = (struct riffle_memory){l->ram, 3, NULL, 0};
	l->layout = (struct riffle_layout){RIFFLE_MODE_KASLR, 16 * MIB, 0xffffffff81000000};
	l->workers = (struct riffle_workers){run_backwards, &l->jobs};
}

static void loadable_end(struct loadable *l)
{
	riffle_plan_close(&l->plan);
	free(l->host);
	free(l->file);
	builder_end(&l->b);
}

static int reserved_words(struct loadable *l, unsigned which)
{
	*(uint8_t *)(which == 0   ? (void *)&l->layout.reserved_zero
		     : which == 1 ? (void *)&l->memory.reserved_zero
		     : which == 2 ? (void *)&l->source.reserved_zero
				  : (void *)&l->workers.reserved_zero) = 7;
	return 0;
}

#define CASE(name, ...)                                                                                                \
	static void name(struct loadable *l)                                                                           \
	{                                                                                                              \
		__VA_ARGS__;                                                                                           \
	}
CASE(as_it_is, (void)l)
CASE(unknown_option, l->options = RIFFLE_LOAD_LAZY_TABLES)
CASE(of_a_shuffle, l->layout.mode = RIFFLE_MODE_FGKASLR)
CASE(layout_reserved, reserved_words(l, 0))
CASE(memory_reserved, reserved_words(l, 1))
CASE(source_reserved, reserved_words(l, 2))
CASE(workers_reserved, reserved_words(l, 3))
CASE(in_a_huge_page, l->layout.physical_base += MIB)
CASE(ram_too_short, l->ram[2].bytes -= 4096)
CASE(ram_above, l->ram[2].address += 4096)
CASE(not_mapped, l->ram[2].host = NULL)
CASE(fixed_kernel, ((struct riffle_header *)(uintptr_t)l->plan.header)->flags = 0; l->layout.virtual_base += 2 * MIB)
CASE(fixed_in_place, ((struct riffle_header *)(uintptr_t)l->plan.header)->flags = 0)
CASE(last_slot, l->layout.virtual_base += 1004 * MIB)
CASE(past_the_window, l->layout.virtual_base += 1006 * MIB)
CASE(below_its_link, l->layout.virtual_base -= 2 * MIB)
CASE(between_slots, l->layout.virtual_base += MIB)
CASE(frames, l->plan.frame_count = 1)

static const struct {
	const char *what;
	void (*tell)(struct loadable *l);
	int status;
	const char *message;
} requests[] = {
    {"as it is", as_it_is, RIFFLE_OK, "taken"},
    {"an option of shuffled loads", unknown_option, RIFFLE_ERR_ARGUMENT, "options: hold an unknown bit (found 2)"},
    {"a shuffle", of_a_shuffle, RIFFLE_ERR_ARGUMENT, "mode: is a shuffle's: riffle_load_shuffled() loads it (found 3)"},
    {"layout's reserved bytes", layout_reserved, RIFFLE_ERR_ARGUMENT,
     "layout: has reserved bytes that are not 0: was it initialised? (found 7)"},
    {"memory's reserved bytes", memory_reserved, RIFFLE_ERR_ARGUMENT,
     "memory: has reserved bytes that are not 0: was it initialised? (found 7)"},
    {"payload's reserved bytes", source_reserved, RIFFLE_ERR_ARGUMENT,
     "payload: has reserved bytes that are not 0: was it initialised? (found 7)"},
    {"workers' reserved bytes", workers_reserved, RIFFLE_ERR_ARGUMENT,
     "workers: has reserved bytes that are not 0: was it initialised? (found 7)"},
    {"a base inside a huge page", in_a_huge_page, RIFFLE_ERR_ARGUMENT,
     "physical_base: is not a multiple of 2 MiB (found 0x1100000)"},
    {"RAM that ends a page early", ram_too_short, RIFFLE_ERR_SPACE,
     "physical_base: leaves part of the kernel outside guest RAM (found 0x1000000)"},
    {"RAM that starts a page late", ram_above, RIFFLE_ERR_SPACE,
     "physical_base: leaves part of the kernel outside guest RAM (found 0x1000000)"},
    {"RAM that the host has not mapped", not_mapped, RIFFLE_ERR_SPACE,
     "physical_base: leaves part of the kernel outside guest RAM (found 0x1000000)"},
    {"a kernel that cannot move", fixed_kernel, RIFFLE_ERR_UNSUPPORTED,
     "virtual_base: differs from the link address of a kernel without relocations (found 0xffffffff81200000)"},
    {"a kernel that need not move", fixed_in_place, RIFFLE_OK, "taken"},
    {"the last slot", last_slot, RIFFLE_OK, "taken"},
    {"past the window", past_the_window, RIFFLE_ERR_SPACE,
     "virtual_base: puts the kernel outside its address window (found 0xffffffffbfe00000)"},
    {"below the link address", below_its_link, RIFFLE_ERR_SPACE,
     "virtual_base: puts the kernel outside its address window (found 0xffffffff80e00000)"},
    {"between slots", between_slots, RIFFLE_ERR_SPACE,
     "virtual_base: puts the kernel outside its address window (found 0xffffffff81100000)"},
    {"frames that the source cannot read", frames, RIFFLE_ERR_UNSUPPORTED,
     "storage: is compressed, and there is nothing here that decompresses (riffle_source.read_frame)"},
};

/* Each request that cannot be honoured is refused before anything is written, and says why. */
static void requests_are_checked(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof requests / sizeof *requests; i++) {
		struct riffle_error error = {0};
		struct riffle_loaded loaded;
		struct loadable l;
		int status;

		loadable_start(&l);
		requests[i].tell(&l);
		status = riffle_load(&loaded, &l.plan, &l.source, &l.layout, &l.memory, l.options, &l.workers, &error);
		if (status != requests[i].status || strcmp(message_of(status, &error), requests[i].message))
			fail_msg("%s: status %d, %s", requests[i].what, status, message_of(status, &error));
		assert_int_equal(l.jobs, status ? 0 : 2);
		assert_int_equal(((uint8_t *)l.host)[4095], status ? 0 : 0x5a);
		assert_int_equal(((uint8_t *)l.host)[4096], 0);
		if (!status) {
			bool moved = l.layout.virtual_base != l.b.header.link_virt;

			assert_int_equal(*(uint32_t *)l.host,
					 0x5a5a5a5a + (uint32_t)(l.layout.virtual_base - l.b.header.link_virt));
			assert_int_equal(loaded.relocations, moved ? 1 : 0);
			assert_int_equal(loaded.physical_base, l.layout.physical_base);
			assert_int_equal(loaded.virtual_base, l.layout.virtual_base);
			assert_int_equal(loaded.entry, 16 * MIB + 0x100);
			assert_int_equal(loaded.end, 19 * MIB);
			assert_int_equal(loaded.bytes_copied, 4096);
			assert_true(loaded.load_ticks > 0);
			assert_true(loaded.load_ticks >= loaded.relocate_ticks);
		}
		loadable_end(&l);
	}
}

/* The kernel is told that it was randomised if its virtual base was drawn. */
static void loadflags_tell_of_randomisation(void **state)
{
	struct riffle_error error;
	struct riffle_loaded loaded;
	struct loadable l;

	(void)state;
	loadable_start(&l);
	for (enum riffle_mode mode = RIFFLE_MODE_OFF; mode <= RIFFLE_MODE_KASLR; mode++) {
		l.layout.mode = mode;
		assert_int_equal(riffle_load(&loaded, &l.plan, &l.source, &l.layout, &l.memory, 0, NULL, &error), 0);
		assert_int_equal(loaded.loadflags, mode == RIFFLE_MODE_KASLR ? 2 : 0);
	}
	loadable_end(&l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(loads_to_the_byte),
	    cmocka_unit_test(fields_across_edges_are_changed_once_they_are_whole),
	    cmocka_unit_test(zero_pages_stay_away),
	    cmocka_unit_test(layouts_that_do_not_fit_are_refused),
	    cmocka_unit_test(failing_source_is_an_error),
	    cmocka_unit_test(requests_are_checked),
	    cmocka_unit_test(loadflags_tell_of_randomisation),
	};
	return cmocka_run_group_tests_name("load", tests, NULL, NULL);
}

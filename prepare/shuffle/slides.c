/* SPDX-License-Identifier: Apache-2.0 */
/* Finds the blocks of a kernel that can slide apart, and every distance that leads from one to another. */
#include <elf.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/kernel_map.h"
#include "common/plan_shape.h"
#include "common/search.h"
#include "prepare/shuffle/slides.h"
#include "prepare/shuffle/tables.h"

#define KIB 1024u
#define PAGE 4096u
/* Of memory that the kernel does not free, gaps may take this much: as much in each load, so that it tells nothing. */
#define LOST_BYTES (2 * KIB * KIB)

/*
 * Where blocks begin, in the order of arch/x86/kernel/vmlinux.lds.S. The order stays, so sorted tables stay sorted. The
 * per-CPU template lies between __init_begin and _sinittext, and is data.
 *
 * before: where the memory begins that the kernel frees, or never takes, up to the block: [_etext, __start_rodata),
 * [__end_rodata, _sdata), [__init_begin, __init_end), [__end_of_kernel_reserve, __brk_base). Whatever is at the same
 * address as the block goes with the block, so if `before` is there as well, the gap would lie before both and not come
 * back. That would show in the size of memory, which anybody in the guest can read: there is no gap then, except before
 * read-only data (find_pair() below).
 * Nor is there one where a section ends at the block, because its end, to which the kernel walks it, would go with the
 * block. Of .bss, which always ends at .brk, only more is cleared.
 * freed: memory that the kernel frees as well. If it ends where the block begins, its end goes with the block, and the
 * gap comes back with that memory. Kernels without CONFIG_AMD_MEM_ENCRYPT have none there.
 *
 * align: in .data the initial task's stack is aligned to THREAD_SIZE (16 KiB), the page table that PTI doubles to two
 * pages, as in .init; the others need pages. A block moves by the gaps of all blocks up to it, so no gap is finer than
 * those after it. Read-only data needs pages; 16 KiB are for .data.
 * gaps: 512 for 9 bits. A pointer to .bss tells what it and .init moved beyond data in units of 16 KiB, so there it
 * takes four times as many for data to keep 9 bits. The last gap takes the rest (balance() below).
 */
static const struct edge {
	const char *symbol, *before, *freed, *freed_end;
	uint32_t kind, align, gaps;
} edges[] = {
    {"__start_rodata", "_etext", NULL, NULL, RIFFLE_BLOCK_RODATA, 16 * KIB, 512},
    {"_sdata", "__end_rodata", NULL, NULL, RIFFLE_BLOCK_DATA, 16 * KIB, 512},
    {"_sinittext", "__init_begin", NULL, NULL, RIFFLE_BLOCK_INIT, 8 * KIB, 256},
    {"__init_end", "__init_begin", NULL, NULL, RIFFLE_BLOCK_BSS, 4 * KIB, 2048},
    {"__brk_base", "__end_of_kernel_reserve", "__start_bss_decrypted_unused", "__end_bss_decrypted", RIFFLE_BLOCK_BRK,
     4 * KIB, 512},
};
#define EDGES (sizeof edges / sizeof *edges)

void slides_none(struct work *work, const char *format, ...)
{
	struct shuffle_slides *s = &work->result->slides;
	va_list list;

	if (s->none[0])
		return;
	va_start(list, format);
	vsnprintf(s->none, sizeof s->none, format, list);
	va_end(list);
	s->block_count = 0;
}

uint32_t slides_block(const struct work *work, uint32_t offset)
{
	const struct shuffle_slides *s = &work->result->slides;
	uint32_t b = s->block_count;

	while (b > 1 && offset < s->block[b - 1].image_offset)
		b--;
	return b ? b - 1 : 0;
}

static bool section_crosses(const struct work *work, uint32_t edge)
{
	for (unsigned i = 0; i < work->image->section_count; i++) {
		const struct image_section *section = &work->image->section[i];
		uint64_t from = section->address - work->link_virt;

		if (section->address && from < edge && section->bytes > edge - from)
			return true;
	}
	return false;
}

static bool section_ends(const struct work *work, uint32_t edge, bool code_too)
{
	for (unsigned i = 0; i < work->image->section_count; i++) {
		const struct image_section *section = &work->image->section[i];

		if (section->address && section->bytes && section->address + section->bytes - work->link_virt == edge &&
		    (code_too || !IMAGE_IS_CODE(section->flags)))
			return true;
	}
	return false;
}

/* Whether what begins between two offsets is aligned to no more than pages. */
static bool needs_pages(const struct work *work, uint32_t from, uint32_t to)
{
	for (unsigned i = 0; i < work->image->section_count; i++) {
		const struct image_section *section = &work->image->section[i];

		if (section->address - work->link_virt - from < to - from && section->align > PAGE)
			return false;
	}
	return true;
}

/* Whether the kernel gets the memory of a gap before the block that begins at this offset, and no section gets it. */
static bool comes_back(const struct work *work, const struct edge *edge, uint32_t at)
{
	const struct work_symbol *before = work_symbol_named(work, edge->before);
	const struct work_symbol *freed = edge->freed ? work_symbol_named(work, edge->freed) : NULL;
	const struct work_symbol *end = freed ? work_symbol_named(work, edge->freed_end) : NULL;

	if (edge->kind != RIFFLE_BLOCK_BRK && section_ends(work, at, true))
		return false;
	return (before && before->offset < at) || (end && end->offset == at && freed->offset < at);
}

/*
 * In 6.12 _etext is __start_rodata. The kernel keeps a gap there: to it that is text, of which it knows only where it
 * begins and ends. If another gap that it keeps takes the rest of LOST_BYTES, the size of memory is the same in each
 * boot. That gap lies before __end_rodata, behind all that is in read-only data: the symbol tells the kernel where the
 * memory begins that it frees, up to .data, and what may be called read-only.
 *
 * Both gaps together always move .data by LOST_BYTES, so the first one's steps are pages, which is all that the kernel
 * needs there (mark_rodata_ro()), if no section of read-only data is aligned to more.
 */
static void find_pair(struct work *work, uint32_t data)
{
	struct shuffle_slides *s = &work->result->slides;
	struct riffle_block *rodata = &s->block[s->block_count - 1];
	const struct work_symbol *text_end = work_symbol_named(work, "_etext");
	const struct work_symbol *end = work_symbol_named(work, "__end_rodata");

	if (rodata->kind != RIFFLE_BLOCK_RODATA || rodata->gaps > 1 || !text_end ||
	    text_end->offset != rodata->image_offset || section_ends(work, rodata->image_offset, false))
		return;
	if (!end || end->offset % PAGE || end->offset <= rodata->image_offset || end->offset >= data ||
	    section_crosses(work, end->offset) || section_ends(work, end->offset, true) ||
	    !needs_pages(work, rodata->image_offset, end->offset))
		return;
	rodata->align = PAGE;
	rodata->gaps = LOST_BYTES / PAGE + 1;
	s->block[s->block_count++] =
	    (struct riffle_block){.image_offset = end->offset, .align = PAGE, .kind = RIFFLE_BLOCK_RODATA_END};
}

/*
 * Until the kernel frees the gaps it sizes limits by the memory that is free, which everybody in the guest can read:
 * the root file system's size, file-max, threads-max. If the last gap takes the rest of a sum that is the same in each
 * load, they tell nothing. .brk then moves with the base, and nothing else does.
 */
static void balance(struct shuffle_slides *s)
{
	struct riffle_block *last = &s->block[s->block_count - 1];

	if (last->gaps > 1)
		last->gaps = 0;
}

int slides_find_blocks(struct work *work, struct riffle_error *error)
{
	struct shuffle_slides *s = &work->result->slides;

	(void)error;
	s->block[0] = (struct riffle_block){.align = 2 * KIB * KIB, .gaps = 1, .kind = RIFFLE_BLOCK_TEXT};
	s->block_count = 1;
	for (unsigned i = 0; i < EDGES; i++) {
		const struct work_symbol *symbol = work_symbol_named(work, edges[i].symbol);
		uint32_t last = s->block[s->block_count - 1].image_offset, at = symbol ? symbol->offset : 0;

		if (!symbol || at % PAGE || at <= last || section_crosses(work, at)) {
			slides_none(work, "%s is %s", edges[i].symbol,
				    !symbol     ? "not among the symbols"
				    : at % PAGE ? "not on a page"
						: "not where a block begins");
			return 0;
		}
		find_pair(work, at);
		s->block[s->block_count++] =
		    (struct riffle_block){.image_offset = at,
					  .align = edges[i].align,
					  .gaps = comes_back(work, &edges[i], at) ? edges[i].gaps : 1,
					  .kind = edges[i].kind};
	}
	balance(s);
	return 0;
}

/* Whether this offset is neither in a section nor the end of one: nothing lies there that could be meant. */
static bool in_hole(const struct work *work, uint64_t offset)
{
	bool any = false;

	for (unsigned i = 0; i < work->image->section_count; i++) {
		const struct image_section *section = &work->image->section[i];

		any |= section->address != 0;
		if (section->address && work->link_virt + offset - section->address <= section->bytes)
			return false;
	}
	/* the per-CPU template has a section, but at address 0 */
	for (unsigned i = 0; i < work->image->segment_count; i++) {
		const struct image_segment *segment = &work->image->segment[i];
		uint64_t from = segment->phys - work->image->link_phys;

		if (segment->virt != work->link_virt + from && offset - from < segment->memory_bytes)
			return false;
	}
	return any;
}

void slides_unread(struct work *work, uint32_t offset, uint32_t bytes)
{
	struct shuffle_slides *s = &work->result->slides;

	if (s->unread_count == sizeof s->unread / sizeof *s->unread)
		slides_none(work, "too much code is not understood, the last at %llx",
			    (unsigned long long)(work->link_virt + offset));
	else
		s->unread[s->unread_count++] = (struct shuffle_unread){offset, bytes};
}

int slides_note(struct work *work, uint32_t field, uint64_t address, unsigned bits, struct riffle_error *error)
{
	struct shuffle_slides *s = &work->result->slides;
	uint64_t offset = address - work->link_virt;
	uint32_t to;
	int status;

	if (!s->block_count)
		return 0;
	if (offset > work->image_bytes) {
		slides_none(work, "code at %llx refers to %llx, which is outside the image",
			    (unsigned long long)(work->link_virt + field), (unsigned long long)address);
		return 0;
	}
	to = slides_block(work, (uint32_t)offset);
	if (to == slides_block(work, field))
		return 0;
	if (bits != 32) {
		slides_none(work, "code at %llx refers to another section by %u bits",
			    (unsigned long long)(work->link_virt + field), bits);
		return 0;
	}
	status = work_grow(&s->cross, s->cross_count, &s->cross_room, sizeof *s->cross, error);
	if (!status)
		s->cross[s->cross_count++] = (struct shuffle_cross){field, to};
	return status;
}

static void add_table(struct work *work, struct shuffle_column column, uint32_t offset, uint32_t entries,
		      uint32_t stride, uint32_t kind, uint32_t base)
{
	struct shuffle_slides *s = &work->result->slides;

	if (!s->block_count || !entries)
		return;
	if (s->table_count == RIFFLE_CROSS_TABLES_MAX) {
		slides_none(work, "there are too many tables of distances");
		return;
	}
	s->column[s->table_count] = column;
	s->table[s->table_count++] = (struct riffle_cross_table){offset + column.at, entries, stride, kind, base, 0};
}

/* The columns of a table that hold distances, by its stride; 8 + a negative number is a wide one. */
static const struct columns {
	const char *table;
	uint32_t stride;
	uint8_t count, at[3];
	bool last_is_wide;
} columns[] = {
    {".altinstructions", 0, 2, {0, 4}, false},   {"__bug_table", 8, 1, {0}, false},
    {"__bug_table", 12, 2, {0, 4}, false},       {"__bug_table", 16, 3, {0, 4, 8}, false},
    {"__ksymtab", 8, 2, {0, 4}, false},          {"__ksymtab", 12, 3, {0, 4, 8}, false},
    {"__ksymtab_gpl", 8, 2, {0, 4}, false},      {"__ksymtab_gpl", 12, 3, {0, 4, 8}, false},
    {".pci_fixup", 16, 1, {12}, false},          {"__jump_table", 16, 3, {0, 4, 8}, true},
    {".static_call_sites", 8, 2, {0, 4}, false}, {".static_call_tramp_key", 8, 2, {0, 4}, false},
};

/*
 * Everything that a column of a table leads to is something: an instruction, the text of a name, a variable; or a
 * per-CPU one, whose distance is among the inverse relocations.
 */
static bool leads_inside(const struct work *work, uint32_t at, bool wide)
{
	const struct image_relocs *inverse = &work->image->reloc32_inverse;
	uint32_t i = riffle_first_at_least(inverse->offset, inverse->count, at);
	int64_t distance = wide ? (int64_t)riffle_get64(work->bytes + at) : (int32_t)riffle_get32(work->bytes + at);

	if (i < inverse->count && inverse->offset[i] == at)
		return true;
	return distance >= -(int64_t)at && distance < (int64_t)work->image_bytes - (int64_t)at;
}

static void add_column(struct work *work, const char *name, uint32_t at, uint32_t offset, uint32_t entries,
		       uint32_t stride, bool wide)
{
	for (uint32_t i = 0; i < entries; i++)
		if (!leads_inside(work, offset + at + i * stride, wide)) {
			slides_none(work, "%s has an entry at %llx that leads outside the image", name,
				    (unsigned long long)(work->link_virt + offset + at + i * stride));
			return;
		}
	add_table(work, (struct shuffle_column){name, at}, offset, entries, stride,
		  wide ? RIFFLE_CROSS_DISTANCE64 : RIFFLE_CROSS_DISTANCE32, 0);
}

void slides_note_table(struct work *work, const char *name, uint32_t offset, uint32_t bytes, uint32_t stride)
{
	const struct columns plain = {name, stride, 1, {0}, false}, *c = &plain;

	for (unsigned i = 0; i < sizeof columns / sizeof *columns; i++)
		if (!strcmp(columns[i].table, name) && (!columns[i].stride || columns[i].stride == stride))
			c = &columns[i];
	if (c == &plain && stride != 4) {
		slides_none(work, "%s has entries of %u bytes", name, stride);
		return;
	}
	for (unsigned i = 0; i < c->count; i++)
		add_column(work, name, c->at[i], offset, bytes / stride, stride, c->last_is_wide && i + 1u == c->count);
}

/* Tables that hold distances to data alone, and so are nothing to a shuffle. */
static const struct data_table {
	const char *section, *start, *stop;
} data_tables[] = {
    {"__tracepoints_ptrs", "__start___tracepoints_ptrs", "__stop___tracepoints_ptrs"},
};

static int read_data_tables(struct work *work, struct riffle_error *error)
{
	for (unsigned i = 0; i < sizeof data_tables / sizeof *data_tables; i++) {
		const struct data_table *t = &data_tables[i];
		struct table_place place;
		int status = table_find(&place, work, t->section, t->start, t->stop, error);

		if (status)
			return status;
		if (!place.found)
			continue;
		if (place.bytes % 4 || place.offset % 4)
			slides_none(work, "%s is not made of whole entries", t->section);
		else
			add_column(work, t->section, 0, place.offset, place.bytes / 4, 4, false);
	}
	return 0;
}

static void add_sorted(struct work *work)
{
	const struct shuffle *result = work->result;

	for (unsigned i = 0; i < result->table_count; i++) {
		const struct shuffle_table *t = &result->table[i];

		if (t->kind == SHUFFLE_TABLE_ORC)
			add_column(work, ".orc_unwind_ip", 0, t->offset, t->entries, 4, false);
		if (t->kind != SHUFFLE_TABLE_EXTABLE)
			continue;
		for (uint32_t at = 0; at <= (t->third_is_pointer ? 8u : 4u); at += 4)
			add_column(work, "__ex_table", at, t->offset, t->entries, 12, false);
	}
}

static void add_kallsyms(struct work *work)
{
	const struct shuffle_kallsyms *k = &work->result->kallsyms;
	const struct shuffle_column column = {"kallsyms offsets", 0};
	uint64_t base = k->relative_base - work->link_virt;

	if (!k->present) {
		if (work_symbol_named(work, "kallsyms_names"))
			slides_none(work, "kallsyms was not read");
		return;
	}
	if (k->self_relative) {
		add_table(work, column, k->offsets, k->count, 4, RIFFLE_CROSS_DISTANCE32, 0);
		return;
	}
	if (base >= work->result->slides.block[1].image_offset) {
		slides_none(work, "the base of kallsyms is not in .text");
		return;
	}
	add_table(work, column, k->offsets, k->count, 4,
		  k->absolute_percpu ? RIFFLE_CROSS_COUNTDOWN32 : RIFFLE_CROSS_OFFSET32, (uint32_t)base);
}

static int by_field(const void *a, const void *b)
{
	const struct shuffle_cross *x = a, *y = b;

	return (x->field > y->field) - (x->field < y->field);
}

/* Sorts the fields; a field that occurs twice has been decoded twice, which must agree. */
static void sort_cross(struct work *work)
{
	struct shuffle_slides *s = &work->result->slides;
	uint32_t kept = 0;

	if (s->cross_count)
		qsort(s->cross, s->cross_count, sizeof *s->cross, by_field);
	for (uint32_t i = 0; i < s->cross_count; i++) {
		if (kept && s->cross[i].field - s->cross[kept - 1].field < 4) {
			if (s->cross[i].field != s->cross[kept - 1].field ||
			    s->cross[i].block != s->cross[kept - 1].block)
				slides_none(work, "code at %llx is read in two ways",
					    (unsigned long long)(work->link_virt + s->cross[i].field));
			continue;
		}
		s->cross[kept++] = s->cross[i];
	}
	s->cross_count = kept;
}

/*
 * The kernel compares addresses with the last byte before __end_rodata_hpage_align, whose page it keeps read-only;
 * nothing lies there, so it does not matter whether that is before or after a gap.
 */
static bool is_last_of_rodata(const struct work *work, uint64_t offset)
{
	for (uint32_t i = work_first_symbol(work, (uint32_t)offset + 1);
	     i < work->symbol_count && work->symbol[i].offset == offset + 1; i++)
		if (!strncmp(work->symbol[i].name, "__end_rodata", 12))
			return true;
	return false;
}

/*
 * A page's bytes less one are what rounding up to a page adds to a symbol: the place may be past the last section, but
 * the symbol that is meant is in the same block.
 */
static bool is_near_symbol(const struct work *work, uint64_t offset)
{
	uint32_t i = work_first_symbol(work, (uint32_t)offset + 1);

	return i && offset - work->symbol[i - 1].offset < PAGE &&
	       slides_block(work, work->symbol[i - 1].offset) == slides_block(work, (uint32_t)offset);
}

/* Absolute fields follow the block of their value, so the value must be something of that block. */
static void check_absolute(struct work *work, const struct image_relocs *list, unsigned width)
{
	for (uint32_t i = 0; i < list->count && work->result->slides.block_count; i++) {
		const uint8_t *field = work->bytes + list->offset[i];
		uint64_t value = width == 8 ? riffle_get64(field) : (uint64_t)(int64_t)(int32_t)riffle_get32(field);
		uint64_t offset = value - work->link_virt;

		if (offset >= work->image_bytes + PLAN_PAST_END && value - START_KERNEL_MAP < RIFFLE_IMAGE_MAX &&
		    value >= work->link_virt) {
			slides_none(work, "the address at %llx leads to %llx, far past the image",
				    (unsigned long long)(work->link_virt + list->offset[i]), (unsigned long long)value);
			return;
		}
		if (offset >= work->image_bytes)
			offset = value - work->image->link_phys;
		if (offset < work->image_bytes && in_hole(work, offset) && !is_near_symbol(work, offset) &&
		    !is_last_of_rodata(work, offset))
			slides_none(work, "the address at %llx leads to %llx, where no section is",
				    (unsigned long long)(work->link_virt + list->offset[i]), (unsigned long long)value);
	}
}

bool slides_has_symbol(const struct work *work, uint64_t offset)
{
	uint32_t i = work_first_symbol(work, (uint32_t)offset);

	return i < work->symbol_count && work->symbol[i].offset == offset;
}

int slides_finish(struct work *work, struct riffle_error *error)
{
	struct shuffle_slides *s = &work->result->slides;
	int status = 0;

	if (s->block_count)
		status = read_data_tables(work, error);
	if (status || !s->block_count)
		return status;
	add_sorted(work);
	add_kallsyms(work);
	sort_cross(work);
	check_absolute(work, &work->image->reloc64, 8);
	check_absolute(work, &work->image->reloc32, 4);
	for (uint32_t i = 0; i < work->unit_count; i++)
		if (work->unit[i].unexplained)
			slides_unread(work, work->unit[i].offset, work->unit[i].bytes);
	if (s->block_count)
		status = slides_census(work, error);
	if (!status && s->block_count && work->slides_tell)
		status = slides_probe(work, error);
	return status;
}

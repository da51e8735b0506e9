/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A small kernel with many chunks, all of whose references and table entries are known, so that any order can be
 * checked.
 */
#ifndef TEST_SHUFFLED_KERNEL_H
#define TEST_SHUFFLED_KERNEL_H

#include <stdbool.h>

#include "prepared_builder.h"

#define SK_IMAGE (8u << 20)
#define SK_CHUNKS_MAX 3000u
#define SK_REGIONS_MAX 1025u
#define SK_REFS_MAX 40000u
#define SK_LIST_MAX 20000u

enum sk_kind { SK_PC32, SK_ABS32, SK_ABS64, SK_INVERSE };

struct sk_ref {
	uint32_t field, target; /* target: image offset, UINT32_MAX none */
	enum sk_kind kind;
	uint64_t value; /* as linked */
};

struct sk_exception {
	uint32_t insn, fixup, data;
};

struct sk_symbol {
	uint32_t address;
	uint8_t name[20]; /* length byte(s) and codes, as in the table */
	uint32_t bytes;
};

/* The kernel's shape: the formats of its tables. */
struct sk_shape {
	uint64_t seed;
	unsigned regions; /* 1, 2, or many: then they are of two chunks each */
	int handlers;     /* exception table with handlers */
	int self_relative, absolute_percpu, seqs;
	int small;          /* a plan of a few KB, for a fuzz target to start from */
	int huge_fixed_run; /* more symbols in front than 16 bits can count */
};

struct shuffled_kernel {
	struct builder b;
	struct sk_shape shape;
	struct riffle_region region[SK_REGIONS_MAX];
	struct riffle_chunk chunk[SK_CHUNKS_MAX];
	uint32_t chunks;
	struct sk_ref ref[SK_REFS_MAX];
	uint32_t refs;
	struct sk_exception exception[SK_LIST_MAX];
	uint32_t orc[SK_LIST_MAX], mcount[SK_LIST_MAX];
	uint32_t exceptions, orcs, mcounts, symbols;
	struct sk_symbol *symbol;
	struct riffle_table table[4];
	struct riffle_kallsyms kallsyms;
	uint32_t table_at[3], orc_states_at;
	/* sections */
	struct riffle_group group[SK_CHUNKS_MAX];
	uint8_t pc_step[2 * SK_REFS_MAX], own_step[2 * SK_REFS_MAX];
	uint16_t pc_target[SK_REFS_MAX];
	struct riffle_ref abs32_ref[SK_REFS_MAX], abs64_ref[SK_REFS_MAX];
	uint32_t groups, pc_steps, pc_targets, own_steps, abs32_refs, abs64_refs;
	uint32_t fixed32[SK_REFS_MAX], fixed64[SK_REFS_MAX], fixed32s, fixed64s;
	uint16_t fixed32_target[SK_REFS_MAX], fixed64_target[SK_REFS_MAX];
	uint32_t gap[5 * (SK_REGIONS_MAX + 1)], gaps;
	uint16_t site_target[SK_LIST_MAX];
	uint32_t sites_at, sites;
	uint16_t extable_target[2 * SK_LIST_MAX];
	uint8_t taken[SK_IMAGE];
};

static inline uint64_t sk_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

/* The chunk an image offset lies in, or the count of chunks. */
static inline uint32_t sk_chunk_of(const struct shuffled_kernel *k, uint32_t offset)
{
	uint32_t low = 0, high = k->chunks;

	while (low < high) {
		uint32_t middle = (low + high) / 2;

		if (k->chunk[middle].image_offset + riffle_chunk_bytes(&k->chunk[middle]) <= offset)
			low = middle + 1;
		else
			high = middle;
	}
	return low < k->chunks && offset >= k->chunk[low].image_offset ? low : k->chunks;
}

/* The mode of /proc/kallsyms at an image offset; where nothing else is changed, SK_MODE is one. */
#define SK_MODE 0x320001u

static inline void sk_set_mode(struct shuffled_kernel *k, uint32_t at, uint32_t value)
{
	memcpy(k->b.image + at, &value, sizeof value);
	k->b.header.features |= RIFFLE_FEATURE_KALLSYMS_MODE;
	k->b.header.kallsyms_mode = at;
}

/* text: [1 MiB, 3 MiB) of the image; regions inside; fixed code, data and tables around */
#define SK_TEXT 0x100000u
#define SK_TEXT_END 0x300000u
#define SK_TABLES 0x400000u

static inline uint32_t sk_text_address(const struct shuffled_kernel *k, uint64_t *s)
{
	return SK_TEXT + (uint32_t)(sk_random(s) % (k->shape.small ? 0xa000 : SK_TEXT_END - SK_TEXT));
}

static inline void sk_make_chunks(struct shuffled_kernel *k, uint64_t *s)
{
	uint32_t at = SK_TEXT + 0x3000;

	for (unsigned r = 0; r < k->shape.regions; r++) {
		bool many = k->shape.regions > 2;
		uint32_t count = many ? 2 : k->shape.small ? 8 + 4 * r : r ? 200 : 1500;

		k->region[r] =
		    (struct riffle_region){.image_offset = at, .first_chunk = k->chunks, .chunk_count = count};
		for (uint32_t i = 0; i < count; i++) {
			uint32_t bytes = 16 * (1 + (uint32_t)(sk_random(s) % (many ? 20 : i % 50 ? 40 : 1000)));

			k->chunk[k->chunks++] =
			    (struct riffle_chunk){.image_offset = at, .units = (uint16_t)(bytes / 16)};
			at += bytes;
		}
		k->region[r].bytes = at - k->region[r].image_offset;
		at += many ? 0x110 : 0x5010;
	}
}

static inline void sk_put(struct shuffled_kernel *k, uint32_t at, uint64_t value, unsigned bytes)
{
	memcpy(k->b.image + at, &value, bytes);
}

static inline int sk_compare_refs(const void *a, const void *b)
{
	const struct sk_ref *x = a, *y = b;

	return (x->field > y->field) - (x->field < y->field);
}

static inline uint64_t sk_value(uint32_t field, uint32_t target, enum sk_kind kind, uint64_t delta)
{
	uint64_t link = UINT64_C(0xffffffff81000000);

	switch (kind) {
	case SK_PC32:
		return (uint32_t)(target - field - 4);
	case SK_ABS32:
		return (uint32_t)(link + delta + target);
	case SK_ABS64:
		return link + delta + target;
	default: /* a percpu symbol at address 0x1234, seen from the field */
		return (uint32_t)(0x1234 - (link + delta + field) - 4);
	}
}

static inline void sk_make_refs(struct shuffled_kernel *k, uint64_t *s)
{
	for (unsigned i = 0; i < (k->shape.small ? 2000u : 30000u) && k->refs < SK_REFS_MAX; i++) {
		enum sk_kind kind = (enum sk_kind)(sk_random(s) % 10 < 6 ? SK_PC32 : sk_random(s) % 4);
		uint32_t bytes = kind == SK_ABS64 ? 8 : 4, field, target = sk_text_address(k, s), from;

		field = i % 4 ? sk_text_address(k, s) : 0x4000 + (uint32_t)(sk_random(s) % 0xf0000);
		if (i % 7 == 0) /* across a block's edge, in fixed places and in chunks */
			field = (SK_TEXT_END & ~0x1fffffu) - 1 - (uint32_t)(sk_random(s) % 7);
		if (kind == SK_INVERSE)
			target = UINT32_MAX;
		else if (i % 9 == 0)
			target = 0x350000 + (uint32_t)(sk_random(s) % 0x10000);
		from = sk_chunk_of(k, field);
		if (from != sk_chunk_of(k, field + bytes - 1) || memcmp(k->taken + field, "\0\0\0\0\0\0\0\0", bytes))
			continue;
		memset(k->taken + field, 1, bytes);
		k->ref[k->refs++] = (struct sk_ref){field, target, kind, sk_value(field, target, kind, 0)};
		sk_put(k, field, k->ref[k->refs - 1].value, bytes);
	}
	qsort(k->ref, k->refs, sizeof *k->ref, sk_compare_refs);
}

static inline int sk_compare32(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static inline uint32_t sk_addresses(const struct shuffled_kernel *k, uint32_t *list, uint32_t count, uint64_t *s)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < count; i++)
		list[i] = sk_text_address(k, s);
	qsort(list, count, sizeof *list, sk_compare32);
	for (uint32_t i = 0; i < count; i++)
		if (!kept || list[i] != list[kept - 1])
			list[kept++] = list[i];
	return kept;
}

/* the encoding of each table for any layout, given by `address` */
typedef uint32_t (*sk_mapping)(const struct shuffled_kernel *k, uint32_t offset);

static inline void sk_encode_exception(uint8_t out[12], uint32_t at, const struct sk_exception *e, uint32_t insn,
				       uint32_t fixup, uint32_t third)
{
	uint32_t word[3] = {insn - at, fixup - (at + 4), third};

	(void)e;
	memcpy(out, word, 12);
}

/* Counts each entry for its chunk, by a counter of the chunk at `member`, or for the gap in which it lies. */
static inline void sk_count(struct shuffled_kernel *k, size_t member, const uint32_t *address, uint32_t count,
			    uint32_t amount)
{
	for (uint32_t i = 0; i < count; i++) {
		uint32_t chunk = sk_chunk_of(k, address[i]), region = 0;

		if (chunk < k->chunks) {
			*(uint16_t *)(void *)((uint8_t *)&k->chunk[chunk] + member) += (uint16_t)amount;
			continue;
		}
		while (region < k->shape.regions && address[i] >= k->region[region].image_offset)
			region++;
		k->gap[k->gaps + region] += amount;
	}
}

static inline void sk_count_table(struct shuffled_kernel *k, struct riffle_table *t, size_t member,
				  const uint32_t *address, uint32_t count)
{
	t->entries = count;
	t->first = k->gaps;
	sk_count(k, member, address, count, 1);
	k->gaps += k->shape.regions + 1;
}

/* A row of PC-relative words in a fixed place, in no order. */
static inline void sk_make_sites(struct shuffled_kernel *k, uint32_t at, uint64_t *s)
{
	k->sites = k->shape.small ? 30 : 700;
	k->sites_at = at;
	for (uint32_t i = 0; i < k->sites; i++, at += 4) {
		uint32_t target = i % 50 ? sk_text_address(k, s) : 0x350000 + i;

		k->site_target[i] = (uint16_t)sk_chunk_of(k, target);
		sk_put(k, at, target - at, 4);
	}
	k->table[3] =
	    (struct riffle_table){.kind = RIFFLE_TABLE_SITES, .image_offset = k->sites_at, .entries = k->sites};
}

static inline void sk_make_tables(struct shuffled_kernel *k, uint64_t *s)
{
	static uint32_t insn[SK_LIST_MAX];
	uint32_t at = SK_TABLES;

	k->exceptions = sk_addresses(k, insn, k->shape.small ? 10 : 500, s);
	k->table_at[0] = at;
	for (uint32_t i = 0; i < k->exceptions; i++) {
		struct sk_exception *e = &k->exception[i];

		*e = (struct sk_exception){insn[i], sk_text_address(k, s), (uint32_t)sk_random(s)};
		if (k->shape.handlers)
			e->data = sk_text_address(k, s);
		sk_encode_exception(k->b.image + at, at, e, e->insn, e->fixup,
				    k->shape.handlers ? e->data - (at + 8) : e->data);
		k->extable_target[2 * i] = (uint16_t)sk_chunk_of(k, e->fixup);
		k->extable_target[2 * i + 1] = k->shape.handlers ? (uint16_t)sk_chunk_of(k, e->data) : 0xffff;
		at += 12;
	}
	k->table[0] = (struct riffle_table){.kind = RIFFLE_TABLE_EXTABLE, .image_offset = k->table_at[0]};
	sk_count_table(k, &k->table[0], offsetof(struct riffle_chunk, exceptions), insn, k->exceptions);

	at += 8;
	k->orcs = sk_addresses(k, k->orc, k->shape.small ? 90 : SK_LIST_MAX - 1, s);
	k->table_at[1] = at;
	for (uint32_t i = 0; i < k->orcs; i++, at += 4)
		sk_put(k, at, k->orc[i] - at, 4);
	k->orc_states_at = at;
	for (uint32_t i = 0; i < k->orcs * 6; i++)
		k->b.image[at++] = (uint8_t)sk_random(s);
	k->table[1] = (struct riffle_table){
	    .kind = RIFFLE_TABLE_ORC, .image_offset = k->table_at[1], .second_offset = k->orc_states_at};
	sk_count_table(k, &k->table[1], offsetof(struct riffle_chunk, orc), k->orc, k->orcs);

	at = (at + 7) & ~7u;
	k->mcounts = sk_addresses(k, k->mcount, k->shape.small ? 20 : 3000, s);
	k->table_at[2] = at;
	for (uint32_t i = 0; i < k->mcounts; i++, at += 8)
		sk_put(k, at, sk_value(0, k->mcount[i], SK_ABS64, 0), 8);
	k->table[2] = (struct riffle_table){.kind = RIFFLE_TABLE_MCOUNT, .image_offset = k->table_at[2]};
	sk_count_table(k, &k->table[2], offsetof(struct riffle_chunk, mcount), k->mcount, k->mcounts);
	/* sites cross the end of a load's read, and of a load's block, with one entry split in half */
	sk_make_sites(k, k->shape.small ? at : 0x600000 + (k->shape.seed % 2 << 20) - 1402, s);
	at += k->shape.small ? 4 * k->sites : 0;
	k->kallsyms.offsets = (at + 7) & ~7u;
}

static inline uint32_t sk_kallsyms_word(const struct shuffled_kernel *k, uint32_t index, uint32_t address)
{
	if (k->shape.self_relative)
		return address - (k->kallsyms.offsets + 4 * index);
	return k->shape.absolute_percpu ? (uint32_t)-1 - address : address;
}

static inline void sk_make_kallsyms(struct shuffled_kernel *k, uint64_t *s)
{
	uint32_t in_front = k->shape.huge_fixed_run ? 70000 : 300, in_text = k->shape.small ? 300 : 6000, behind = 500,
		 at;
	uint32_t *address = malloc((in_front + in_text + behind) * sizeof *address);
	uint32_t shape_gaps = k->shape.regions + 1;
	struct riffle_kallsyms *ks = &k->kallsyms;

	for (uint32_t i = 0; i < in_front; i++)
		address[k->symbols++] = i % SK_TEXT;
	qsort(address, k->symbols, sizeof *address, sk_compare32);
	for (uint32_t i = 0; i < in_text; i++) /* aliases too */
		address[k->symbols + i] = i % 5 ? sk_text_address(k, s) : address[k->symbols + i - 1 + !i];
	if (in_text)
		address[k->symbols] = SK_TEXT;
	qsort(address + k->symbols, in_text, sizeof *address, sk_compare32);
	k->symbols += in_text;
	for (uint32_t i = 0; i < behind; i++)
		address[k->symbols++] = SK_TEXT_END + i * 16;
	k->symbol = calloc(k->symbols, sizeof *k->symbol);

	ks->symbols = k->symbols;
	ks->flags = (k->shape.self_relative ? RIFFLE_KALLSYMS_SELF_RELATIVE : 0) |
		    (k->shape.absolute_percpu ? RIFFLE_KALLSYMS_ABSOLUTE_PERCPU : 0);
	for (uint32_t i = 0; i < k->symbols; i++)
		sk_put(k, ks->offsets + 4 * i, sk_kallsyms_word(k, i, address[i]), 4);
	ks->markers = ks->offsets + 4 * k->symbols;
	ks->names = ks->markers + (k->symbols + 255) / 256 * 4;
	ks->first_gap = k->gaps;
	sk_count(k, offsetof(struct riffle_chunk, symbols), address, k->symbols, 1);
	at = 0;
	for (uint32_t i = 0; i < k->symbols; i++) {
		struct sk_symbol *symbol = &k->symbol[i];
		uint32_t length = 1 + (uint32_t)(sk_random(s) % 15), head = i % 11 ? 1 : 2;

		/* a length in two bytes is legal for short names too */
		symbol->address = address[i];
		symbol->name[0] = (uint8_t)(head == 2 ? length | 0x80 : length);
		for (uint32_t n = 0; n < length; n++)
			symbol->name[head + n] = (uint8_t)sk_random(s);
		symbol->bytes = head + length;
		if (i % 256 == 0)
			sk_put(k, ks->markers + i / 256 * 4, at, 4);
		memcpy(k->b.image + ks->names + at, symbol->name, symbol->bytes);
		k->gaps += shape_gaps;
		sk_count(k, offsetof(struct riffle_chunk, name_bytes), &address[i], 1, symbol->bytes);
		k->gaps -= shape_gaps;
		at += symbol->bytes;
	}
	ks->names_bytes = at;
	k->gaps += 2 * shape_gaps;
	if (k->shape.seqs) {
		ks->seqs = ks->names + at;
		for (uint32_t i = 0; i < k->symbols; i++) {
			uint32_t which = (uint32_t)(((uint64_t)i * 7919) % k->symbols);
			uint8_t *seq = k->b.image + ks->seqs + 3 * i;

			seq[0] = (uint8_t)(which >> 16), seq[1] = (uint8_t)(which >> 8), seq[2] = (uint8_t)which;
		}
	}
	free(address);
}

static inline void sk_step(uint8_t *steps, uint32_t *count, uint32_t *of_group, uint32_t *last, uint32_t field)
{
	for (; field - *last >= 255; *last += 255, ++*of_group)
		steps[(*count)++] = 255;
	steps[(*count)++] = (uint8_t)(field - *last);
	*last = field;
	++*of_group;
}

/* Lists of the plan from the references: relocations of everything absolute, chunk and fixed references. */
static inline void sk_make_lists(struct shuffled_kernel *k)
{
	struct builder *b = &k->b;
	uint32_t next = 0;

	b->reloc64 = malloc((k->refs + k->mcounts) * 4);
	b->reloc32 = malloc(k->refs * 4);
	b->inverse = malloc(k->refs * 4);
	for (uint32_t i = 0; i < k->refs; i++) {
		const struct sk_ref *r = &k->ref[i];
		uint16_t target = (uint16_t)(r->target == UINT32_MAX ? k->chunks : sk_chunk_of(k, r->target));

		if (r->kind == SK_ABS64)
			b->reloc64[b->count64++] = r->field;
		else if (r->kind == SK_ABS32)
			b->reloc32[b->count32++] = r->field;
		else if (r->kind == SK_INVERSE)
			b->inverse[b->count_inverse++] = r->field;
		if (sk_chunk_of(k, r->field) < k->chunks || target == k->chunks)
			continue;
		if (r->kind == SK_ABS64) {
			k->fixed64_target[k->fixed64s] = target;
			k->fixed64[k->fixed64s++] = r->field;
		} else {
			k->fixed32_target[k->fixed32s] = target;
			k->fixed32[k->fixed32s++] = r->field;
		}
	}
	for (uint32_t i = 0; i < k->mcounts; i++)
		b->reloc64[b->count64++] = k->table_at[2] + 8 * i;
	for (uint32_t c = 0, r = 0; c < k->chunks; k->groups++) {
		struct riffle_group *g = &k->group[k->groups];
		uint32_t start = k->chunk[c].image_offset, end = start, last_pc = 0, last_own = 0;

		while (c >= k->region[r].first_chunk + k->region[r].chunk_count)
			r++;
		/* shorter than possible, so that there are many */
		for (; c < k->region[r].first_chunk + k->region[r].chunk_count &&
		       end + riffle_chunk_bytes(&k->chunk[c]) - start <= 40000;
		     c++, g->chunk_count++)
			end += riffle_chunk_bytes(&k->chunk[c]);
		while (next < k->refs && k->ref[next].field < start)
			next++;
		for (; next < k->refs && k->ref[next].field < end; next++) {
			const struct sk_ref *ref = &k->ref[next];
			uint32_t target = ref->target == UINT32_MAX ? k->chunks : sk_chunk_of(k, ref->target);
			uint16_t field = (uint16_t)(ref->field - start);

			if (ref->kind == SK_INVERSE || (ref->kind == SK_PC32 && target == k->chunks)) {
				sk_step(k->own_step, &k->own_steps, &g->own_steps, &last_own, field);
			} else if (ref->kind == SK_PC32 && target != sk_chunk_of(k, ref->field)) {
				sk_step(k->pc_step, &k->pc_steps, &g->pc_steps, &last_pc, field);
				k->pc_target[k->pc_targets++] = (uint16_t)target;
				g->pc_targets++;
			} else if (ref->kind == SK_ABS32 && target != k->chunks) {
				k->abs32_ref[k->abs32_refs++] = (struct riffle_ref){field, (uint16_t)target};
				g->abs32_refs++;
			} else if (ref->kind == SK_ABS64 && target != k->chunks) {
				k->abs64_ref[k->abs64_refs++] = (struct riffle_ref){field, (uint16_t)target};
				g->abs64_refs++;
			}
		}
	}
}

static inline struct shuffled_kernel *sk_build(const struct sk_shape *shape)
{
	struct shuffled_kernel *k = calloc(1, sizeof *k);
	uint64_t s = shape->seed;
	struct builder *b = &k->b;

	k->shape = *shape;
	builder_start(b, SK_IMAGE, 0x1000);
	for (uint32_t i = 0; i < SK_IMAGE - 0x1000; i++)
		b->image[i] = (uint8_t)sk_random(&s);
	builder_extent(b, 0, SK_IMAGE - 0x1000);
	sk_make_chunks(k, &s);
	sk_make_refs(k, &s);
	sk_make_tables(k, &s);
	sk_make_kallsyms(k, &s);
	sk_make_lists(k);
	b->header.features = RIFFLE_FEATURE_SHUFFLE;
	return k;
}

static inline void sk_free(struct shuffled_kernel *k)
{
	builder_end(&k->b);
	free(k->symbol);
	free(k);
}

static inline void sk_name_sections(struct shuffled_kernel *k)
{
	struct builder *b = &k->b;

	builder_extra(b, RIFFLE_SECTION_REGIONS, k->region, k->shape.regions, sizeof *k->region);
	builder_extra(b, RIFFLE_SECTION_CHUNKS, k->chunk, k->chunks, sizeof *k->chunk);
	builder_extra(b, RIFFLE_SECTION_GROUPS, k->group, k->groups, sizeof *k->group);
	builder_extra(b, RIFFLE_SECTION_PC_STEPS, k->pc_step, k->pc_steps, 1);
	builder_extra(b, RIFFLE_SECTION_PC_TARGETS, k->pc_target, k->pc_targets, sizeof *k->pc_target);
	builder_extra(b, RIFFLE_SECTION_OWN_STEPS, k->own_step, k->own_steps, 1);
	builder_extra(b, RIFFLE_SECTION_ABS32_REFS, k->abs32_ref, k->abs32_refs, sizeof *k->abs32_ref);
	builder_extra(b, RIFFLE_SECTION_ABS64_REFS, k->abs64_ref, k->abs64_refs, sizeof *k->abs64_ref);
	builder_extra(b, RIFFLE_SECTION_FIXED32, k->fixed32, k->fixed32s, 4);
	builder_extra(b, RIFFLE_SECTION_FIXED32_TARGETS, k->fixed32_target, k->fixed32s, 2);
	builder_extra(b, RIFFLE_SECTION_FIXED64, k->fixed64, k->fixed64s, 4);
	builder_extra(b, RIFFLE_SECTION_FIXED64_TARGETS, k->fixed64_target, k->fixed64s, 2);
	builder_extra(b, RIFFLE_SECTION_TABLES, k->table, 4, sizeof *k->table);
	builder_extra(b, RIFFLE_SECTION_GAPS, k->gap, k->gaps, sizeof *k->gap);
	builder_extra(b, RIFFLE_SECTION_SITE_TARGETS, k->site_target, k->sites, sizeof *k->site_target);
	builder_extra(b, RIFFLE_SECTION_EXTABLE_TARGETS, k->extable_target, 2 * k->exceptions, 2);
	builder_extra(b, RIFFLE_SECTION_KALLSYMS, &k->kallsyms, 1, sizeof k->kallsyms);
}

static inline void *sk_copy(const void *from, size_t bytes)
{
	void *copy = malloc(bytes ? bytes : 1);

	memcpy(copy, from, bytes);
	return copy;
}

/* A kernel of its own for each test to change; as building one takes longer than most tests, it is a copy of one that
 * is kept. */
static inline struct shuffled_kernel *sk_make(const struct sk_shape *shape)
{
	static struct shuffled_kernel *kept[8];
	struct shuffled_kernel *k;
	struct builder *b;
	unsigned i = 0;

	while (i < 7 && kept[i] && memcmp(&kept[i]->shape, shape, sizeof *shape) != 0)
		i++;
	if (kept[i] && memcmp(&kept[i]->shape, shape, sizeof *shape) != 0) {
		sk_free(kept[i]);
		kept[i] = NULL;
	}
	if (!kept[i])
		kept[i] = sk_build(shape);
	k = sk_copy(kept[i], sizeof *k);
	b = &k->b;
	b->image = sk_copy(b->image, b->header.image_bytes);
	b->reloc64 = sk_copy(b->reloc64, (k->refs + k->mcounts) * sizeof *b->reloc64);
	b->reloc32 = sk_copy(b->reloc32, k->refs * sizeof *b->reloc32);
	b->inverse = sk_copy(b->inverse, k->refs * sizeof *b->inverse);
	k->symbol = sk_copy(k->symbol, k->symbols * sizeof *k->symbol);
	sk_name_sections(k);
	builder_seal(b);
	return k;
}

#endif

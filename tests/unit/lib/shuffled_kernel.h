/* SPDX-License-Identifier: Apache-2.0 */
/* A small kernel of many chunks whose every reference and table entry is known, so that any order can be judged. */
#ifndef TEST_SHUFFLED_KERNEL_H
#define TEST_SHUFFLED_KERNEL_H

#include "prepared_builder.h"

#define SK_IMAGE (8u << 20)
#define SK_CHUNKS_MAX 3000u
#define SK_REFS_MAX 40000u
#define SK_LIST_MAX 20000u

enum sk_kind { SK_PC32, SK_ABS32, SK_ABS64, SK_INVERSE };

struct sk_ref {
	uint32_t field, target; /* target: image offset, UINT32_MAX none */
	enum sk_kind kind;
	uint64_t value;         /* as linked */
};

struct sk_exception {
	uint32_t insn, fixup, data;
};

struct sk_symbol {
	uint32_t address;
	uint8_t name[20];       /* length byte(s) and codes, as in the table */
	uint32_t bytes;
};

/* How the kernel is made: what formats of tables it has. */
struct sk_shape {
	uint64_t seed;
	unsigned regions;       /* 1 or 2 */
	int handlers;           /* exception table with handlers */
	int self_relative, absolute_percpu, seqs;
	int huge_fixed_run;     /* more symbols in front than a run's count can hold */
};

struct shuffled_kernel {
	struct builder b;
	struct sk_shape shape;
	struct riffle_region region[2];
	struct riffle_chunk chunk[SK_CHUNKS_MAX];
	uint32_t chunks;
	struct sk_ref ref[SK_REFS_MAX];
	uint32_t refs;
	struct sk_exception exception[SK_LIST_MAX];
	uint32_t orc[SK_LIST_MAX], mcount[SK_LIST_MAX];
	uint32_t exceptions, orcs, mcounts, symbols;
	struct sk_symbol *symbol;
	struct riffle_table table[3];
	struct riffle_kallsyms kallsyms;
	uint32_t table_at[3], orc_states_at;
	/* sections */
	struct riffle_chunk_ref chunk_ref[SK_REFS_MAX];
	uint32_t fixed32[SK_REFS_MAX], fixed64[SK_REFS_MAX], fixed32s, fixed64s, chunk_refs;
	uint16_t fixed32_target[SK_REFS_MAX], fixed64_target[SK_REFS_MAX];
	struct riffle_run run[4 * SK_LIST_MAX];
	uint32_t runs;
	uint16_t extable_target[2 * SK_LIST_MAX];
	struct riffle_symbol_run *symbol_run;
	uint32_t symbol_runs;
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

		if (k->chunk[middle].image_offset + k->chunk[middle].bytes <= offset)
			low = middle + 1;
		else
			high = middle;
	}
	return low < k->chunks && offset >= k->chunk[low].image_offset ? low : k->chunks;
}

/* text: [1 MiB, 3 MiB) of the image; regions inside; fixed code, data and tables around */
#define SK_TEXT 0x100000u
#define SK_TEXT_END 0x300000u
#define SK_TABLES 0x400000u

static inline uint32_t sk_text_address(uint64_t *s)
{
	return SK_TEXT + (uint32_t)(sk_random(s) % (SK_TEXT_END - SK_TEXT));
}

static inline void sk_make_chunks(struct shuffled_kernel *k, uint64_t *s)
{
	uint32_t at = SK_TEXT + 0x3000;

	for (unsigned r = 0; r < k->shape.regions; r++) {
		uint32_t count = r ? 200 : 1500;

		k->region[r] = (struct riffle_region){.image_offset = at, .first_chunk = k->chunks, .chunk_count = count};
		for (uint32_t i = 0; i < count; i++) {
			uint32_t bytes = 16 * (1 + (uint32_t)(sk_random(s) % (i % 50 ? 40 : 1000)));

			k->chunk[k->chunks++] = (struct riffle_chunk){.image_offset = at, .bytes = bytes};
			at += bytes;
		}
		k->region[r].bytes = at - k->region[r].image_offset;
		at += 0x5010 & ~15u;
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
	for (unsigned i = 0; i < 30000 && k->refs < SK_REFS_MAX; i++) {
		enum sk_kind kind = (enum sk_kind)(sk_random(s) % 10 < 6 ? SK_PC32 : sk_random(s) % 4);
		uint32_t bytes = kind == SK_ABS64 ? 8 : 4, field, target = sk_text_address(s), from;

		field = i % 4 ? sk_text_address(s) : 0x4000 + (uint32_t)(sk_random(s) % 0xf0000);
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

static inline uint32_t sk_addresses(uint32_t *list, uint32_t count, uint64_t *s)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < count; i++)
		list[i] = sk_text_address(s);
	qsort(list, count, sizeof *list, sk_compare32);
	for (uint32_t i = 0; i < count; i++)
		if (!kept || list[i] != list[kept - 1])
			list[kept++] = list[i];
	return kept;
}

/* the encoding of each table, at any layout: `address` gives where things are */
typedef uint32_t (*sk_mapping)(const struct shuffled_kernel *k, uint32_t offset);

static inline void sk_encode_exception(uint8_t out[12], uint32_t at, const struct sk_exception *e, uint32_t insn,
				       uint32_t fixup, uint32_t third)
{
	uint32_t word[3] = {insn - at, fixup - (at + 4), third};

	(void)e;
	memcpy(out, word, 12);
}

static inline void sk_add_runs(struct shuffled_kernel *k, struct riffle_table *t, const uint32_t *address,
			       uint32_t stride_words, uint32_t count)
{
	t->first_run = k->runs;
	for (uint32_t i = 0; i < count; i++) {
		uint16_t chunk = (uint16_t)sk_chunk_of(k, address[i * stride_words]);

		if (k->runs > t->first_run && k->run[k->runs - 1].chunk == chunk)
			k->run[k->runs - 1].entries++;
		else
			k->run[k->runs++] = (struct riffle_run){chunk, 1};
	}
	t->run_count = k->runs - t->first_run;
	t->entries = count;
}

static inline void sk_make_tables(struct shuffled_kernel *k, uint64_t *s)
{
	static uint32_t insn[SK_LIST_MAX];
	uint32_t at = SK_TABLES;

	k->exceptions = sk_addresses(insn, 500, s);
	k->table_at[0] = at;
	for (uint32_t i = 0; i < k->exceptions; i++) {
		struct sk_exception *e = &k->exception[i];

		*e = (struct sk_exception){insn[i], sk_text_address(s), (uint32_t)sk_random(s)};
		if (k->shape.handlers)
			e->data = sk_text_address(s);
		sk_encode_exception(k->b.image + at, at, e, e->insn, e->fixup,
				    k->shape.handlers ? e->data - (at + 8) : e->data);
		k->extable_target[2 * i] = (uint16_t)sk_chunk_of(k, e->fixup);
		k->extable_target[2 * i + 1] = k->shape.handlers ? (uint16_t)sk_chunk_of(k, e->data) : 0xffff;
		at += 12;
	}
	k->table[0] = (struct riffle_table){.kind = RIFFLE_TABLE_EXTABLE, .image_offset = k->table_at[0]};
	sk_add_runs(k, &k->table[0], insn, 1, k->exceptions);

	at += 8;
	k->orcs = sk_addresses(k->orc, SK_LIST_MAX - 1, s);
	k->table_at[1] = at;
	for (uint32_t i = 0; i < k->orcs; i++, at += 4)
		sk_put(k, at, k->orc[i] - at, 4);
	k->orc_states_at = at;
	for (uint32_t i = 0; i < k->orcs * 6; i++)
		k->b.image[at++] = (uint8_t)sk_random(s);
	k->table[1] = (struct riffle_table){.kind = RIFFLE_TABLE_ORC, .image_offset = k->table_at[1],
					    .second_offset = k->orc_states_at};
	sk_add_runs(k, &k->table[1], k->orc, 1, k->orcs);

	at = (at + 7) & ~7u;
	k->mcounts = sk_addresses(k->mcount, 3000, s);
	k->table_at[2] = at;
	for (uint32_t i = 0; i < k->mcounts; i++, at += 8)
		sk_put(k, at, sk_value(0, k->mcount[i], SK_ABS64, 0), 8);
	k->table[2] = (struct riffle_table){.kind = RIFFLE_TABLE_MCOUNT, .image_offset = k->table_at[2]};
	sk_add_runs(k, &k->table[2], k->mcount, 1, k->mcounts);
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
	uint32_t in_front = k->shape.huge_fixed_run ? 70000 : 300, in_text = 6000, behind = 500, at;
	uint32_t *address = malloc((in_front + in_text + behind) * sizeof *address);
	struct riffle_kallsyms *ks = &k->kallsyms;

	for (uint32_t i = 0; i < in_front; i++)
		address[k->symbols++] = i % SK_TEXT;
	qsort(address, k->symbols, sizeof *address, sk_compare32);
	for (uint32_t i = 0; i < in_text; i++) /* aliases too */
		address[k->symbols + i] = i % 5 ? sk_text_address(s) : address[k->symbols + i - 1 + !i];
	if (in_text)
		address[k->symbols] = SK_TEXT;
	qsort(address + k->symbols, in_text, sizeof *address, sk_compare32);
	k->symbols += in_text;
	for (uint32_t i = 0; i < behind; i++)
		address[k->symbols++] = SK_TEXT_END + i * 16;
	k->symbol = calloc(k->symbols, sizeof *k->symbol);
	k->symbol_run = calloc(k->symbols, sizeof *k->symbol_run);

	ks->symbols = k->symbols;
	ks->flags = (k->shape.self_relative ? RIFFLE_KALLSYMS_SELF_RELATIVE : 0) |
		    (k->shape.absolute_percpu ? RIFFLE_KALLSYMS_ABSOLUTE_PERCPU : 0);
	for (uint32_t i = 0; i < k->symbols; i++)
		sk_put(k, ks->offsets + 4 * i, sk_kallsyms_word(k, i, address[i]), 4);
	ks->markers = ks->offsets + 4 * k->symbols;
	ks->names = ks->markers + (k->symbols + 255) / 256 * 4;
	at = 0;
	for (uint32_t i = 0; i < k->symbols; i++) {
		struct sk_symbol *symbol = &k->symbol[i];
		uint16_t chunk = (uint16_t)sk_chunk_of(k, address[i]);
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
		if (k->symbol_runs && k->symbol_run[k->symbol_runs - 1].chunk == chunk &&
		    k->symbol_run[k->symbol_runs - 1].symbols < 65535)
			k->symbol_run[k->symbol_runs - 1].symbols++;
		else
			k->symbol_run[k->symbol_runs++] = (struct riffle_symbol_run){chunk, 1, at};
		at += symbol->bytes;
	}
	ks->names_bytes = at;
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
	for (uint32_t c = 0; c < k->chunks; c++) {
		struct riffle_chunk *chunk = &k->chunk[c];
		uint32_t first = next, end;

		while (first < k->refs && k->ref[first].field < chunk->image_offset)
			first++;
		for (end = first; end < k->refs && k->ref[end].field < chunk->image_offset + chunk->bytes; end++)
			;
		for (unsigned kind = SK_PC32; kind <= SK_INVERSE; kind++)
			for (uint32_t i = first; i < end; i++) {
				const struct sk_ref *r = &k->ref[i];
				uint32_t target = r->target == UINT32_MAX ? k->chunks : sk_chunk_of(k, r->target);

				if (r->kind != kind || (kind == SK_PC32 && target == c))
					continue;
				*(kind == SK_PC32 ? &chunk->pc32 : kind == SK_ABS32 ? &chunk->abs32
						      : kind == SK_ABS64 ? &chunk->abs64 : &chunk->inverse32) += 1;
				k->chunk_ref[k->chunk_refs++] = (struct riffle_chunk_ref){
					(uint16_t)(r->field - chunk->image_offset), (uint16_t)target};
			}
		next = end;
	}
}

static inline struct shuffled_kernel *sk_make(const struct sk_shape *shape)
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
	builder_extra(b, RIFFLE_SECTION_REGIONS, k->region, shape->regions, sizeof *k->region);
	builder_extra(b, RIFFLE_SECTION_CHUNKS, k->chunk, k->chunks, sizeof *k->chunk);
	builder_extra(b, RIFFLE_SECTION_CHUNK_REFS, k->chunk_ref, k->chunk_refs, sizeof *k->chunk_ref);
	builder_extra(b, RIFFLE_SECTION_FIXED32, k->fixed32, k->fixed32s, 4);
	builder_extra(b, RIFFLE_SECTION_FIXED32_TARGETS, k->fixed32_target, k->fixed32s, 2);
	builder_extra(b, RIFFLE_SECTION_FIXED64, k->fixed64, k->fixed64s, 4);
	builder_extra(b, RIFFLE_SECTION_FIXED64_TARGETS, k->fixed64_target, k->fixed64s, 2);
	builder_extra(b, RIFFLE_SECTION_TABLES, k->table, 3, sizeof *k->table);
	builder_extra(b, RIFFLE_SECTION_RUNS, k->run, k->runs, sizeof *k->run);
	builder_extra(b, RIFFLE_SECTION_EXTABLE_TARGETS, k->extable_target, 2 * k->exceptions, 2);
	builder_extra(b, RIFFLE_SECTION_KALLSYMS, &k->kallsyms, 1, sizeof k->kallsyms);
	builder_extra(b, RIFFLE_SECTION_KALLSYMS_RUNS, k->symbol_run, k->symbol_runs, sizeof *k->symbol_run);
	builder_seal(b);
	return k;
}

static inline void sk_free(struct shuffled_kernel *k)
{
	builder_end(&k->b);
	free(k->symbol);
	free(k->symbol_run);
	free(k);
}

#endif

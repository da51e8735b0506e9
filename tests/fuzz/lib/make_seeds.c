/* SPDX-License-Identifier: Apache-2.0 */
/*
 * make-prepared-seeds DIRECTORY: regenerates the seeds of fuzz-prepared, tests/fuzz/corpus/prepared: headers and plans.
 */
#include <stdio.h>

#include "tests/unit/lib/shuffled_kernel.h"

static void save(const char *directory, const char *name, const struct builder *b)
{
	char path[4096];
	FILE *f;

	snprintf(path, sizeof path, "%s/%s", directory, name);
	f = fopen(path, "wb");
	if (!f || fwrite(&b->header, sizeof b->header, 1, f) != 1 || fwrite(b->plan, b->plan_bytes, 1, f) != 1 ||
	    fclose(f)) {
		perror(path);
		exit(1);
	}
}

/* Blocks in a kernel, with every distance in its code that leads from one to another. */
static void add_blocks(struct shuffled_kernel *k, bool paired)
{
	struct riffle_block blocks[] = {
	    {.align = 2 << 20, .gaps = 1, .kind = RIFFLE_BLOCK_TEXT},
	    {.image_offset = 0x301000, .align = 16384, .gaps = 64, .kind = RIFFLE_BLOCK_RODATA},
	    {.image_offset = 0x3ff000, .align = 4096, .gaps = 256, .kind = RIFFLE_BLOCK_DATA},
	    {.image_offset = 0x7ff000, .align = 4096, .gaps = 3, .kind = RIFFLE_BLOCK_BSS},
	};
	uint32_t offsets = k->shape.self_relative     ? RIFFLE_CROSS_DISTANCE32
			   : k->shape.absolute_percpu ? RIFFLE_CROSS_COUNTDOWN32
						      : RIFFLE_CROSS_OFFSET32;
	struct riffle_cross_table tables[] = {
	    {k->table_at[0], k->exceptions, 12, RIFFLE_CROSS_DISTANCE32, 0, 0},
	    {k->table_at[1], k->orcs, 4, RIFFLE_CROSS_DISTANCE32, 0, 0},
	    {k->kallsyms.offsets, k->symbols, 4, offsets, 0, 0},
	    {0x700000, 4, 16, RIFFLE_CROSS_DISTANCE64, 0, 0},
	};
	static uint32_t cross[SK_REFS_MAX];
	static uint8_t target[SK_REFS_MAX];
	uint32_t count = 0;

	if (paired) {
		blocks[1].align = 4096;
		blocks[2].gaps = 0;
		blocks[3].gaps = 0;
		k->b.header.features |= RIFFLE_FEATURE_PAIRS | RIFFLE_FEATURE_BALANCED;
	}
	for (uint32_t i = 0; i < k->refs; i++) {
		uint32_t from = 3, to = 3;

		while (k->ref[i].field < blocks[from].image_offset)
			from--;
		while (k->ref[i].target < blocks[to].image_offset)
			to--;
		if (k->ref[i].kind == SK_PC32 && from != to) {
			target[count] = (uint8_t)to;
			cross[count++] = k->ref[i].field;
		}
	}
	k->b.header.features |= RIFFLE_FEATURE_SLIDES;
	builder_extra(&k->b, RIFFLE_SECTION_BLOCKS, blocks, 4, sizeof *blocks);
	builder_extra(&k->b, RIFFLE_SECTION_CROSS32, cross, count, sizeof *cross);
	builder_extra(&k->b, RIFFLE_SECTION_CROSS32_BLOCKS, target, count, 1);
	builder_extra(&k->b, RIFFLE_SECTION_CROSS_TABLES, tables, 4, sizeof *tables);
	builder_seal(&k->b);
}

int main(int argc, char **argv)
{
	static const struct sk_shape shapes[] = {
	    {.seed = 70, .regions = 1, .small = 1, .absolute_percpu = 1, .seqs = 1},
	    {.seed = 71, .regions = 2, .small = 1, .handlers = 1},
	    {.seed = 72, .regions = 2, .small = 1, .self_relative = 1, .seqs = 1},
	};
	static uint32_t relocs[] = {0x100, 0x1ffc, 0x2000};
	struct builder b;
	char name[32];

	if (argc != 2) {
		fprintf(stderr, "usage: make-prepared-seeds DIRECTORY\n");
		return 2;
	}
	builder_start(&b, 0x200000, 0x1000);
	builder_extent(&b, 0, 0x3000);
	b.reloc64 = memcpy(malloc(sizeof relocs), relocs, sizeof relocs);
	b.count64 = 3;
	builder_seal(&b);
	save(argv[1], "plain", &b);
	builder_end(&b);
	for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
		struct shuffled_kernel *k = sk_make(&shapes[i]);

		if (i == 1)
			sk_set_mode(k, SK_MODE, 0444);
		builder_seal(&k->b);
		snprintf(name, sizeof name, "shuffle-%zu", i);
		save(argv[1], name, &k->b);
		add_blocks(k, i == 1);
		snprintf(name, sizeof name, "slides-%zu", i);
		save(argv[1], name, &k->b);
		sk_free(k);
	}
	return 0;
}

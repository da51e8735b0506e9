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

		snprintf(name, sizeof name, "shuffle-%zu", i);
		save(argv[1], name, &k->b);
		sk_free(k);
	}
	return 0;
}

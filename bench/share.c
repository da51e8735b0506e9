/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How much of a kernel's memory many microVMs could share: 4 KiB pages that are equal at the same image offset in two
 * loads of different layouts, and in a load and the kernel as linked, for each mode. This bounds what page merging
 * could share; riffle itself reads into private memory and shares nothing. And whether another arrangement of a
 * prepared kernel could share more: how much of the code that moves in chunks has no field that KASLR changes, and
 * could be grouped.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <riffle/riffle.h>

#include "common/fail.h"
#include "host/huge.h"
#include "kernel/kernel.h"

#define PAGE 4096u
#define LAYOUTS 5

struct share {
	struct opened_kernel kernel;
	size_t bytes, workspace_bytes;
	uint16_t *order;
	void *workspace;
	uint8_t *linked, *first, *second;
};

static const struct {
	enum riffle_mode mode;
	unsigned options;
	const char *method;
} methods[] = {
    {RIFFLE_MODE_OFF, 0, "direct"},
    {RIFFLE_MODE_KASLR, 0, "direct-kaslr"},
    {RIFFLE_MODE_FGKASLR, 0, "direct-fgkaslr"},
    {RIFFLE_MODE_FGKASLR, RIFFLE_LOAD_LAZY_TABLES, "direct-fgkaslr-lazy"},
};

static int set_up(struct share *s, const char *name, struct riffle_error *error)
{
	const struct kernel_request request = {.kernel = name};
	int status = kernel_open(&s->kernel, &request, error);

	if (status)
		return status;
	s->bytes = s->kernel.plan.header->image_bytes;
	s->linked = map_huge(&s->bytes);
	s->first = map_huge(&s->bytes);
	s->second = map_huge(&s->bytes);
	s->workspace_bytes = riffle_load_workspace(&s->kernel.plan);
	s->workspace_bytes = (s->workspace_bytes + 64) & ~(size_t)63;
	s->workspace = aligned_alloc(64, s->workspace_bytes); /* as the library asks */
	s->order = calloc((size_t)s->kernel.plan.chunk_count + 1, sizeof *s->order);
	if (!s->linked || !s->first || !s->second || !s->workspace || !s->order)
		return riffle_fail_system(error, ENOMEM, "memory", "for the kernels cannot be had");
	return RIFFLE_OK;
}

static int load(struct share *s, uint8_t *memory, enum riffle_mode mode, unsigned options, struct riffle_error *error)
{
	const struct riffle_plan *plan = &s->kernel.plan;
	const struct riffle_header *h = plan->header;
	/* room for one physical place: it changes no byte of the kernel */
	struct riffle_ram ram = {.address = h->link_phys > RIFFLE_PHYSICAL_FLOOR ? h->link_phys : RIFFLE_PHYSICAL_FLOOR,
				 .bytes = s->bytes,
				 .host = memory};
	struct riffle_memory guest = {.ram = &ram, .ram_count = 1};
	struct riffle_layout layout = {.mode = mode,
				       .physical_base = ram.address,
				       .virtual_base = h->link_virt,
				       .order = s->order,
				       .order_count = plan->chunk_count};
	struct riffle_loaded loaded;
	int status = RIFFLE_OK;

	if (mode != RIFFLE_MODE_OFF)
		status = riffle_layout_draw(&layout, plan, &guest, mode, NULL, error);
	if (status)
		return status;
	return riffle_load_shuffled(&loaded, plan, &s->kernel.source, &layout, &guest, options | RIFFLE_LOAD_CLEAR,
				    NULL, s->workspace, s->workspace_bytes, error);
}

/* For a kernel loaded with plain KASLR, with every chunk in its place. */
static void count_unchanged_chunks(const struct share *s, const char *kernel, const char *method, unsigned run)
{
	const struct riffle_plan *plan = &s->kernel.plan;
	uint64_t all = 0, unchanged = 0;

	for (uint32_t i = 0; i < plan->chunk_count; i++) {
		uint32_t at = plan->chunks[i].image_offset, bytes = riffle_chunk_bytes(&plan->chunks[i]);

		all += bytes;
		if (!memcmp(s->first + at, s->linked + at, bytes))
			unchanged += bytes;
	}
	printf("%s,%s,chunks,all,KiB,%u,%.1f\n", kernel, method, run, (double)all / 1024);
	printf("%s,%s,chunks,equal-to-file,KiB,%u,%.1f\n", kernel, method, run, (double)unchanged / 1024);
}

static int compare_loads(struct share *s, const char *kernel, unsigned which, struct riffle_error *error)
{
	static const uint8_t zero[PAGE];

	for (unsigned run = 1; run <= LAYOUTS; run++) {
		unsigned pages = 0, other = 0, file = 0;
		int status = load(s, s->first, methods[which].mode, methods[which].options, error);

		if (!status)
			status = load(s, s->second, methods[which].mode, methods[which].options, error);
		if (status)
			return status;
		for (size_t at = 0; at + PAGE <= s->bytes; at += PAGE) {
			/* zero pages are shared anyway, and do not count */
			if (!memcmp(s->linked + at, zero, PAGE))
				continue;
			pages++;
			other += !memcmp(s->first + at, s->second + at, PAGE);
			file += !memcmp(s->first + at, s->linked + at, PAGE);
		}
		printf("%s,%s,pages,kernel,4KiB,%u,%u\n", kernel, methods[which].method, run, pages);
		printf("%s,%s,pages,equal-to-other-layout,4KiB,%u,%u\n", kernel, methods[which].method, run, other);
		printf("%s,%s,pages,equal-to-file,4KiB,%u,%u\n", kernel, methods[which].method, run, file);
		if (methods[which].mode == RIFFLE_MODE_KASLR)
			count_unchanged_chunks(s, kernel, methods[which].method, run);
	}
	return RIFFLE_OK;
}

int main(int argc, char **argv)
{
	struct riffle_error error = {0};
	struct share s = {0};
	int status;

	if (argc != 3) {
		fprintf(stderr, "usage: bench-share PREPARED-KERNEL NAME\n");
		return 2;
	}
	status = set_up(&s, argv[1], &error);
	if (!status)
		status = load(&s, s.linked, RIFFLE_MODE_OFF, 0, &error);
	if (!status)
		printf("kernel,method,condition,metric,unit,run,value\n");
	for (unsigned i = 0; !status && i < sizeof methods / sizeof *methods; i++)
		if (methods[i].mode != RIFFLE_MODE_FGKASLR || s.kernel.plan.chunk_count)
			status = compare_loads(&s, argv[2], i, &error);
	if (status) {
		char text[512];

		riffle_error_format(&error, text, sizeof text);
		fprintf(stderr, "bench-share: %s: %s\n", argv[1], text);
	}
	return status ? 1 : 0;
}

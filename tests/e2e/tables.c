/* SPDX-License-Identifier: Apache-2.0 */
/* Analyses a kernel once for each known table, with that one hidden; or with and without a debug vmlinux. */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "prepare/shuffle/tables.h"

static void complain(const char *what, const struct riffle_error *error)
{
	printf("%s refused %s: %s %" PRIx64 "\n", what, error->field, error->problem, error->found);
}

static bool same_refs(const struct shuffle *a, const struct shuffle *b)
{
	if (a->ref_count != b->ref_count)
		return false;
	for (uint32_t i = 0; i < a->ref_count; i++)
		if (a->ref[i].field != b->ref[i].field || a->ref[i].kind != b->ref[i].kind)
			return false;
	return true;
}

/* Hides each table in turn from the analysis. */
static int go_blind(const struct riffle_image *image, const struct shuffle *all)
{
	struct riffle_error error;
	struct shuffle *without;

	for (unsigned i = 0; i < table_count(); i++) {
		if (shuffle_analyse_without(&without, image, NULL, UINT64_C(1) << i, &error)) {
			complain(table_name(i), &error);
			continue;
		}
		printf("%s %s\n", table_name(i), same_refs(all, without) ? "same" : "changed");
		shuffle_free(without);
	}
	return 0;
}

/* The number of the chunk that a place is in; those that stay count as one. */
static uint32_t chunk_of(const struct shuffle *s, uint32_t offset)
{
	uint32_t low = 0, high = s->range_count;

	while (high - low > 1) {
		uint32_t middle = low + (high - low) / 2;

		if (s->range[middle].offset <= offset)
			low = middle;
		else
			high = middle;
	}
	if (!s->range_count || offset - s->range[low].offset >= s->range[low].bytes || s->range[low].pin)
		return UINT32_MAX;
	return s->range[low].offset;
}

static void compare(const struct shuffle *a, const struct shuffle *b)
{
	unsigned ranges = a->range_count != b->range_count, targets = 0;
	bool same = same_refs(a, b);

	for (uint32_t i = 0; !ranges && i < a->range_count; i++)
		ranges += a->range[i].offset != b->range[i].offset || a->range[i].pin != b->range[i].pin;
	for (uint32_t i = 0; same && i < a->ref_count; i++)
		targets += chunk_of(a, a->ref[i].target) != chunk_of(b, b->ref[i].target);
	printf("ranges %s\nrefs %s\ntargets %u\n", ranges ? "differ" : "same", same ? "same" : "differ", targets);
}

static void count(const char *what, const struct shuffle *s)
{
	const struct shuffle_census *c = &s->census;

	printf("%s chunks %u refs %u words %" PRIu64 " chance %" PRIu64 " checked %" PRIu64 " agree %" PRIu64 "\n",
	       what, s->chunk_count, s->ref_count, c->words_scanned, c->words_chance, c->rela_checked, c->rela_agree);
}

static int judge(const struct riffle_image *image, const struct shuffle *alone, const char *path)
{
	struct shuffle_debug *debug = NULL;
	struct shuffle *judged = NULL;
	struct riffle_error error;
	int fd = open(path, O_RDONLY | O_CLOEXEC), status;

	status = shuffle_debug_open(&debug, image, fd, &error);
	if (!status)
		status = shuffle_analyse(&judged, image, debug, &error);
	if (status) {
		complain("debug", &error);
	} else {
		count("judged", judged);
		compare(alone, judged);
	}
	shuffle_free(judged);
	shuffle_debug_close(debug);
	return status != 0;
}

static void tell(void *opaque, const char *table, uint32_t column, uint32_t across, const char *reason)
{
	(void)opaque;
	printf("%s %d: %" PRIu32 " across: %s\n", table, (int)column, across, *reason ? reason : "not noticed");
}

/* Hides each table that slides know, and each of its columns, from the slides' census. */
static int probe_slides(const struct riffle_image *image)
{
	struct shuffle *shuffle = NULL;
	struct riffle_error error;
	int status = shuffle_probe_slides(&shuffle, image, tell, NULL, &error);

	if (status)
		complain("slides", &error);
	else
		printf("slides %s, %" PRIu32 " fields, %" PRIu32 " columns, %" PRIu32 " leads\n",
		       shuffle->slides.block_count ? "possible" : shuffle->slides.none, shuffle->slides.cross_count,
		       shuffle->slides.table_count, shuffle->slides.leads);
	shuffle_free(shuffle);
	return status != 0;
}

int main(int argc, char **argv)
{
	struct riffle_image *image = NULL;
	struct shuffle *alone = NULL;
	struct riffle_error error;
	int fd, status;

	if (argc < 2 || argc > 3)
		return 2;
	fd = open(argv[argc - 1], O_RDONLY | O_CLOEXEC);
	status = riffle_image_open(&image, fd, -1, &error);
	if (!status && !strcmp(argv[1], "--slides")) {
		status = probe_slides(image);
		riffle_image_close(image);
		return status;
	}
	if (!status)
		status = shuffle_analyse(&alone, image, NULL, &error);
	if (status) {
		complain("alone", &error);
	} else {
		count("alone", alone);
		status = argc == 3 ? judge(image, alone, argv[2]) : go_blind(image, alone);
	}
	shuffle_free(alone);
	riffle_image_close(image);
	return status != 0;
}

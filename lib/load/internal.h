/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the files that load a kernel: one load in progress, and the areas that are not simply copied. */
#ifndef RIFFLE_LOAD_INTERNAL_H
#define RIFFLE_LOAD_INTERNAL_H

#include <riffle/load.h>

#include "common/bytes.h"
#include "common/fail.h"
#include "common/reserved.h"
#include "plan/areas.h"

struct load {
	const struct riffle_plan *plan;
	const struct riffle_source *payload;
	uint8_t *image; /* host address of image offset 0 */
	uint64_t span;  /* bytes from there to the end, gaps included */
	uint64_t delta;
	unsigned options;
	int failed;                          /* atomic: the first job that fails sets it and owns `error` */
	uint64_t load_ticks, relocate_ticks; /* atomic */
	struct riffle_error *error;
	uint32_t slide[RIFFLE_BLOCKS_MAX]; /* how far each block slides */
	uint32_t block_count;              /* 0: nothing slides, and slide[0] is 0 */
	/* of a shuffled load; otherwise nothing */
	struct plan_areas areas; /* skipped by the plain copy: other jobs write chunks and tables */
	const int32_t *shift;    /* how far each chunk moves; 0 at chunk_count */
	const uint16_t *order;
};

/* Makes the checks common to all loads and fills in *load. */
int riffle_load_begin(struct load *load, const struct riffle_plan *plan, const struct riffle_source *payload,
		      const struct riffle_layout *layout, const struct riffle_memory *memory, unsigned options,
		      struct riffle_error *error);
/* Changes the fields that start and end in bytes of one block, which are in their place as they are in the file. */
void riffle_load_patch(const struct load *load, uint64_t start, uint64_t stop);
/* Up to where the plain bytes at an image offset can be read and patched as one: their extent's, block's, or job's end.
 */
uint64_t riffle_load_plain_end(const struct load *load, uint64_t image_offset);
/* How many jobs the plain copy has, and one of them. */
unsigned riffle_load_blocks(const struct load *load);
void riffle_load_block_job(struct load *load, unsigned index);
/* Adds the virtual delta to the image's fields that lie wholly in [start, end), whose bytes these are. */
void riffle_load_relocate(const struct load *load, uint8_t *bytes, uint64_t start, uint64_t end);
/* After all jobs: does what no job could do alone, then returns the result. */
int riffle_load_end(struct riffle_loaded *loaded, struct load *load, const struct riffle_layout *layout);
/* Records a job's failure; the first one counts. */
void riffle_load_fail(struct load *load, int status, const struct riffle_error *error);

/* The kernel's bytes at an image offset. */
static inline int load_read(const struct load *load, uint64_t image_offset, void *buffer, size_t bytes,
			    struct riffle_error *error)
{
	return riffle_plan_read(load->plan, load->payload, image_offset, buffer, bytes, error);
}

#endif

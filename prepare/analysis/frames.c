/* SPDX-License-Identifier: Apache-2.0 */
/* Cuts a kernel into frames where a load's reads begin and end, so that few frames are decompressed twice. */
#include "frames.h"

#include <stdlib.h>

#include "common/fail.h"

#define BLOCK (UINT32_C(2) << 20) /* a job of the plain load: no frame crosses two */

/* Image offsets, unsorted until complete. */
struct cuts {
	uint32_t *at;
	size_t count, room;
	bool failed;
};

static void cut(struct cuts *cuts, uint64_t at)
{
	if (cuts->count == cuts->room) {
		size_t room = cuts->room ? 2 * cuts->room : 1024;
		uint32_t *more = reallocarray(cuts->at, room, sizeof *more);

		if (!more) {
			cuts->failed = true;
			return;
		}
		cuts->at = more;
		cuts->room = room;
	}
	/* an image is shorter than 1 GiB */
	cuts->at[cuts->count++] = (uint32_t)at;
}

/* Chunks are read in groups. */
static void cut_groups(struct cuts *cuts, const struct encoded *shuffle)
{
	const struct riffle_group *groups = shuffle->entries[RIFFLE_SECTION_GROUPS];
	const struct riffle_chunk *chunk = shuffle->entries[RIFFLE_SECTION_CHUNKS];

	for (uint32_t i = 0; i < shuffle->count[RIFFLE_SECTION_GROUPS]; i++) {
		cut(cuts, chunk->image_offset);
		chunk += groups[i].chunk_count;
	}
}

static int ascending(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

/*
 * Adds the frames of one extent, or only counts them if there is no array yet. *cut is the first cut that may matter:
 * extents come in order of offset.
 */
static void add_frames(struct stored_frames *frames, const struct riffle_extent *extent, const struct cuts *cuts,
		       size_t *cut)
{
	uint64_t at = extent->image_offset, end = at + extent->bytes;
	size_t next = *cut;

	while (at < end) {
		uint64_t stop = at + RIFFLE_FRAME_BYTES_MAX < end ? at + RIFFLE_FRAME_BYTES_MAX : end;

		while (next < cuts->count && cuts->at[next] <= at)
			next++;
		if (next < cuts->count && cuts->at[next] < stop)
			stop = cuts->at[next];
		if (frames->frame)
			frames->frame[frames->count] =
			    (struct riffle_frame){.image_offset = (uint32_t)at, .bytes = (uint32_t)(stop - at)};
		frames->count++;
		at = stop;
	}
	*cut = next;
}

static void add_all_frames(struct stored_frames *frames, const struct riffle_extent *extents, uint32_t extent_count,
			   const struct cuts *cuts)
{
	size_t cut = 0;

	frames->count = 0;
	for (uint32_t i = 0; i < extent_count; i++)
		add_frames(frames, &extents[i], cuts, &cut);
}

int frames_cut(struct stored_frames *frames, const struct riffle_extent *extents, uint32_t extent_count,
	       const struct plan_areas *areas, const struct encoded *shuffle, struct riffle_error *error)
{
	struct cuts cuts = {0};

	*frames = (struct stored_frames){0};
	for (unsigned i = 0; i < areas->count; i++) {
		cut(&cuts, areas->area[i].start);
		cut(&cuts, areas->area[i].end);
	}
	cut_groups(&cuts, shuffle);
	for (uint64_t at = BLOCK; at < RIFFLE_IMAGE_MAX; at += BLOCK)
		cut(&cuts, at);
	if (!cuts.failed) {
		qsort(cuts.at, cuts.count, sizeof *cuts.at, ascending);
		add_all_frames(frames, extents, extent_count, &cuts);
		frames->frame = calloc(frames->count + 1, sizeof *frames->frame);
	}
	if (!frames->frame) {
		free(cuts.at);
		return riffle_fail(error, RIFFLE_ERR_MEMORY, "frames", "no memory for them");
	}
	add_all_frames(frames, extents, extent_count, &cuts);
	free(cuts.at);
	return RIFFLE_OK;
}

void frames_free(struct stored_frames *frames)
{
	free(frames->frame);
	free(frames->bytes);
	*frames = (struct stored_frames){0};
}

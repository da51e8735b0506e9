/* SPDX-License-Identifier: Apache-2.0 */
/* Where the memory file of a stock's item has data. */
#include "monitor/snapshot/extents.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>

/* What a file that was copied or written to does not have any more. */
struct identity {
	uint64_t inode, modified_ns, blocks;
};

static bool identify(struct identity *identity, int fd)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return false;
	*identity =
	    (struct identity){.inode = st.st_ino,
			      .modified_ns = (uint64_t)st.st_mtim.tv_sec * 1000000000u + (uint64_t)st.st_mtim.tv_nsec,
			      .blocks = (uint64_t)st.st_blocks};
	return true;
}

/* Also where there is no hole, which takes one call instead of a search. */
static bool fill_holes(int fd, const struct guest_memory_extent *extents, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (fallocate(fd, FALLOC_FL_KEEP_SIZE, (off_t)extents[i].from,
			      (off_t)(extents[i].to - extents[i].from)) < 0)
			return false;
	return true;
}

static void put(struct state_writer *writer, const struct identity *identity, const struct guest_memory_extent *extents,
		size_t count)
{
	state_begin(writer, STATE_EXTENTS, 0, 1);
	state_put64(writer, identity->inode);
	state_put64(writer, identity->modified_ns);
	state_put64(writer, identity->blocks);
	state_put32(writer, (uint32_t)count);
	for (size_t i = 0; i < count; i++) {
		state_put64(writer, extents[i].from);
		state_put64(writer, extents[i].to);
	}
	state_end(writer);
}

void extents_save(int fd, uint64_t bytes, struct state_writer *writer)
{
	struct guest_memory_extent *extents = malloc(GUEST_MEMORY_EXTENTS_MAX * sizeof *extents);
	uint64_t gap = EXTENTS_HOLE_MAX;
	struct identity identity;
	size_t count = 0;

	while (extents && (count = guest_memory_find_extents(fd, bytes, gap, extents)) > GUEST_MEMORY_EXTENTS_MAX)
		gap *= 4;
	if (extents && fill_holes(fd, extents, count) && identify(&identity, fd))
		put(writer, &identity, extents, count);
	free(extents);
}

static uint64_t get_edge(struct state_reader *reader, const char *field, uint64_t least, uint64_t most)
{
	uint64_t edge = state_get64(reader, field);

	if (edge < least || edge > most)
		state_refuse(reader, field, "overlaps another, is empty, or lies outside the memory", edge);
	else if (edge % GUEST_PAGE)
		state_refuse(reader, field, "is not a multiple of 4096", edge);
	return edge;
}

int extents_load(struct guest_memory_extent extents[GUEST_MEMORY_EXTENTS_MAX], size_t *count, int fd, uint64_t bytes,
		 const struct state_file *file, struct riffle_error *error)
{
	struct identity saved, now;
	struct state_reader reader;
	uint64_t end = 0;
	size_t found;

	*count = 0;
	if (!state_section(file, STATE_EXTENTS, 0, &reader))
		return 0;
	saved.inode = state_get64(&reader, "inode");
	saved.modified_ns = state_get64(&reader, "modified");
	saved.blocks = state_get64(&reader, "blocks");
	found = state_get_limited(&reader, "extents", GUEST_MEMORY_EXTENTS_MAX);
	for (size_t i = 0; i < found && !reader.problem; i++) {
		extents[i].from = get_edge(&reader, "extent start", end, bytes);
		extents[i].to = end = get_edge(&reader, "extent end", extents[i].from + 1, bytes);
	}
	int status = state_close_section(&reader, error);

	if (!status && identify(&now, fd) && now.inode == saved.inode && now.modified_ns == saved.modified_ns &&
	    now.blocks == saved.blocks)
		*count = found;
	return status;
}

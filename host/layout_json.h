/* SPDX-License-Identifier: Apache-2.0 */
/* A layout as a JSON file: written for later replay and debugging, read back by run, symbolize and gdb-script. */
#ifndef RIFFLE_HOST_LAYOUT_JSON_H
#define RIFFLE_HOST_LAYOUT_JSON_H

#include <stdbool.h>
#include <stdint.h>

#include <riffle/layout.h>

#include "host/mode.h"

/*
 * {"riffle_layout": 1, "mode": "kaslr", "physical_base": "0x…", "virtual_base": "0x…", "link_physical": "0x…",
 *  "link_virtual": "0x…", "image_bytes": N,
 *  "kernel": {"version": "…", "build_id": "hex", "content_digest": "hex", "source_digest": "hex",
 *             "shuffle_checksum": "hex"},
 *  "chunks": [[link offset, bytes, how far it moved], …]}
 * "chunks" only with mode fgkaslr: decimal numbers, in link order. With a mode that ends in "+slide" also
 * "slides": [[link offset, how far it slid], …].
 */
struct layout_chunk {
	uint32_t offset, bytes; /* image offset as linked */
	int32_t shift;
};

struct layout_file {
	struct riffle_layout layout;
	uint64_t link_physical;
	uint64_t link_virtual;
	uint64_t image_bytes;
	char kernel_version[192];
	char build_id[65]; /* lower-case hex, empty if the kernel has none */
	char content_digest[65];
	char source_digest[65]; /* this and the next: empty in older files */
	char shuffle_checksum[17];
	struct layout_chunk *chunk; /* ascending, disjoint; together they permute their space; NULL without a shuffle */
	uint32_t *by_place;         /* their numbers, in the order of their run-time addresses */
	uint32_t chunk_count;
	uint32_t block[RIFFLE_BLOCKS_MAX]; /* where each block of layout.slide begins, as linked */
};

/* Fills in *file from a layout and the kernel it is for; release with layout_file_free(). Errors: MEMORY. */
int layout_file_describe(struct layout_file *file, const struct riffle_layout *layout, const struct riffle_plan *plan,
			 struct riffle_error *error);
void layout_file_free(struct layout_file *file);

/*
 * Whether the layout is for this kernel: the same prepared file, or one made from the same input with the same chunks,
 * possibly stored differently.
 */
bool layout_file_is_for(const struct layout_file *file, const struct riffle_header *header);
/* The same as an error, for a replay: FORMAT if it is not. */
int layout_file_check(const struct layout_file *file, const struct riffle_header *header, struct riffle_error *error);

/*
 * Converts the chunks of a file into layout.order, for a replay: `order` has room for plan->chunk_count numbers.
 * Errors: FORMAT if the chunks are not this plan's, or do not fill their regions.
 */
int layout_file_order(const struct layout_file *file, const struct riffle_plan *plan, uint16_t *order,
		      struct riffle_error *error);

/* Copies the slides of a file into a layout, for a replay. Errors: FORMAT if the blocks are not this plan's. */
int layout_file_slides(const struct layout_file *file, const struct riffle_plan *plan, struct riffle_layout *layout,
		       struct riffle_error *error);

/* Converts an address of the running kernel's image to a link address; false if it lies outside the image. */
bool layout_file_to_link(const struct layout_file *file, uint64_t address, uint64_t *link);
/* The inverse. */
bool layout_file_from_link(const struct layout_file *file, uint64_t link, uint64_t *address);

/* How far the block slid that an image offset lies in as linked; 0 without slides. */
uint32_t layout_file_slide(const struct layout_file *file, uint64_t offset);

/* Writes to a new file of mode 0600; refuses links and existing files; leaves nothing behind on failure. */
int layout_file_write(const char *path, const struct layout_file *file, struct riffle_error *error);

/*
 * Reads and checks a layout file: neither image wraps, and the chunks fill the space that they left. After success
 * release with layout_file_free().
 */
int layout_file_read(const char *path, struct layout_file *file, struct riffle_error *error);

#endif

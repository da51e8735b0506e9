/* SPDX-License-Identifier: Apache-2.0 */
/* An opened and checked prepared kernel, from which every boot starts. */
#ifndef RIFFLE_PLAN_H
#define RIFFLE_PLAN_H

#include <riffle/error.h>
#include <riffle/format.h>

#ifdef __cplusplus
extern "C" {
#endif

struct riffle_source;

/* A request to riffle_source.read_frame: `want` bytes of one compressed frame, from `skip` on. */
struct riffle_frame_read {
	uint64_t file_offset;           /* where the frame is stored, inside the file */
	uint32_t stored_bytes;          /* less than `bytes` */
	uint32_t bytes;                 /* its exact decompressed size, or the frame is bad; at most
					   RIFFLE_FRAME_BYTES_MAX */
	uint32_t skip, want;            /* nearly always 0 and `bytes`; skip + want <= bytes, want not 0 */
	enum riffle_compression method; /* RIFFLE_COMPRESSION_LZ4: one block; RIFFLE_COMPRESSION_ZSTD: one frame */
};

/*
 * Where the bytes of a prepared kernel come from. `read` fills `buffer` with exactly `bytes` bytes from `offset` of
 * the file and returns 0, or fills in *error and returns its status. It may be called from several threads at once if
 * riffle_load() is given workers. `opaque` is passed through.
 *
 * `read_frame` is for kernels that are stored compressed; without it (NULL) they are refused. It reads the frame's
 * stored bytes, by source->read or otherwise, decompresses them, and fills `buffer` with the `want` requested bytes,
 * under the same rules as `read`. The stored bytes are untrusted: a frame that does not decompress to exactly `bytes`
 * bytes is RIFFLE_ERR_FORMAT, and no byte outside `buffer` may be written. The buffer is usually the guest's memory,
 * which nothing else uses yet. The library neither decompresses nor has memory for stored bytes: the caller provides
 * that, and the decompressor's state for each thread, and finds it through `frame_opaque`.
 */
struct riffle_source {
	int (*read)(void *opaque, uint64_t offset, void *buffer, size_t bytes, struct riffle_error *error);
	void *opaque;
	uint64_t bytes; /* size of the whole file */
	int (*read_frame)(const struct riffle_source *source, const struct riffle_frame_read *frame, void *buffer,
			  struct riffle_error *error);
	void *frame_opaque;
	uint64_t reserved_zero[2];
};

/*
 * A checked plan; initialise it with RIFFLE_PLAN_INIT. Everything here is private memory that cannot change under the
 * reader, and every offset, count and relocation in it has been checked against the others. Once filled in it is
 * read-only and may be used by any number of threads. The pointers point into the header and plan bytes and are valid
 * as long as these.
 */
struct riffle_plan {
	size_t size; /* sizeof(struct riffle_plan) in the caller's headers, set by RIFFLE_PLAN_INIT */
	const struct riffle_header *header;
	const struct riffle_segment *segments;
	const struct riffle_extent *extents;
	const uint32_t *reloc64;
	const uint32_t *reloc32;
	const uint32_t *reloc32_inverse;
	uint32_t segment_count;
	uint32_t extent_count;
	uint32_t reloc64_count;
	uint32_t reloc32_count;
	uint32_t reloc32_inverse_count;
	/* with RIFFLE_FEATURE_COMPRESSED; otherwise NULL and 0 */
	const struct riffle_frame *frames;
	uint32_t frame_count;
	/* with RIFFLE_FEATURE_SHUFFLE; otherwise NULL and 0 */
	const struct riffle_region *regions;
	const struct riffle_chunk *chunks;
	const struct riffle_group *groups;
	const uint8_t *pc_steps;
	const uint16_t *pc_targets;
	const uint8_t *own_steps;
	const struct riffle_ref *abs32_refs;
	const struct riffle_ref *abs64_refs;
	const uint32_t *fixed32;
	const uint16_t *fixed32_targets;
	const uint32_t *fixed64;
	const uint16_t *fixed64_targets;
	const struct riffle_table *tables;
	const uint32_t *gaps;
	const uint16_t *site_targets;
	const uint16_t *extable_targets;
	const struct riffle_kallsyms *kallsyms;
	uint32_t region_count;
	uint32_t chunk_count; /* 0: this kernel cannot be shuffled, or the plan was opened without that part */
	uint32_t group_count;
	uint32_t pc_step_count;
	uint32_t pc_target_count;
	uint32_t own_step_count;
	uint32_t abs32_ref_count;
	uint32_t abs64_ref_count;
	uint32_t fixed32_count;
	uint32_t fixed64_count;
	uint32_t table_count;
	void *owned; /* what riffle_plan_close() frees; NULL after riffle_plan_check() */
	size_t owned_bytes;
	/*
	 * If riffle_plan_open() read a plan with chunks: memory in the same mapping, zero and aligned to 64, which the
	 * caller may use until riffle_plan_close() for the order and the workspace of a load; otherwise NULL and 0.
	 */
	void *spare;
	size_t spare_bytes;
	/* with RIFFLE_FEATURE_SLIDES; otherwise NULL and 0. A plan opened without the shuffle's part has none either */
	const struct riffle_block *blocks;
	const uint32_t *cross32;
	const uint8_t *cross32_blocks;
	const struct riffle_cross_table *cross_tables;
	uint32_t block_count; /* 0: this kernel's sections cannot slide */
	uint32_t cross32_count;
	uint32_t cross_table_count;
	uint32_t slide_max; /* the largest sum of all gaps, in bytes */
	uint64_t reserved_zero[24];
};
#ifdef __cplusplus
#define RIFFLE_PLAN_INIT                                                                                               \
	{                                                                                                              \
		sizeof(struct riffle_plan)                                                                             \
	}
#else
#define RIFFLE_PLAN_INIT                                                                                               \
	{                                                                                                              \
		.size = sizeof(struct riffle_plan)                                                                     \
	}
#endif

/*
 * Checks a header and its plan bytes and fills *plan with pointers into them. Nothing is trusted: the checksums are
 * checked, then every offset, count, order and bound. `header` is RIFFLE_HEADER_BYTES long and 8-byte aligned; `bytes`
 * is the decompressed plan, 8-byte aligned, header->plan_bytes long, or header->base_bytes if the plan will not be used
 * for a shuffle; `file_bytes` is the size of the file they came from. The caller keeps the memory, which must not
 * change while the plan is in use, nor be shared with anybody who could change it. Allocates nothing; also in the
 * freestanding build. Errors: FORMAT, UNSUPPORTED (version or feature bits), CHECKSUM.
 */
RIFFLE_PUBLIC RIFFLE_MUST_CHECK int riffle_plan_check(struct riffle_plan *plan, const void *header, const void *bytes,
						      size_t plan_bytes, uint64_t file_bytes,
						      struct riffle_error *error);

/*
 * Reads header and plan from `source` into private memory, once, and checks them. On success the caller owns *plan
 * and frees it with riffle_plan_close(). Errors: those of riffle_plan_check(), of source->read and source->read_frame,
 * UNSUPPORTED for a compressed kernel without read_frame, and MEMORY.
 */
RIFFLE_PUBLIC RIFFLE_MUST_CHECK int riffle_plan_open(struct riffle_plan *plan, const struct riffle_source *source,
						     struct riffle_error *error);

/*
 * The same without the shuffle's part, which is most of a plan: for modes up to RIFFLE_MODE_KASLR. The plan then has no
 * chunks; plan->header->features tells whether the file has them.
 */
RIFFLE_PUBLIC RIFFLE_MUST_CHECK int riffle_plan_open_base(struct riffle_plan *plan, const struct riffle_source *source,
							  struct riffle_error *error);

/*
 * Frees what riffle_plan_open() allocated; no call may be using the plan. The plan may then be opened again. Closing a
 * closed or zeroed plan is harmless.
 */
RIFFLE_PUBLIC void riffle_plan_close(struct riffle_plan *plan);

/*
 * Makes a source from an open descriptor of a regular file, which the caller keeps and must leave open. It is read by
 * pread(2), never mapped, so a truncated file causes RIFFLE_ERR_CHANGED and not SIGBUS. The file position is not used.
 * read_frame is NULL: set it afterwards.
 * Errors: IO, FORMAT (not a regular file).
 */
RIFFLE_PUBLIC RIFFLE_MUST_CHECK int riffle_source_from_fd(struct riffle_source *source, int fd,
							  struct riffle_error *error);

/*
 * Makes a source from bytes in memory (the whole file), which must outlive it. Cannot fail. It fills in `memory->base`
 * and `memory->bytes`; the caller owns the struct, which must also outlive the source.
 */
struct riffle_source_memory {
	const void *base;
	uint64_t bytes;
};
RIFFLE_PUBLIC void riffle_source_from_bytes(struct riffle_source *source, struct riffle_source_memory *memory,
					    const void *base, uint64_t bytes);

/*
 * Reads the kernel's own bytes as linked, however they are stored: `bytes` bytes from `image_offset`, which must lie in
 * one extent, into `buffer`. `source` is the one the plan was opened from. Allocates nothing; also in the freestanding
 * build. Errors: ARGUMENT (outside the image, or outside the extents of a compressed kernel), UNSUPPORTED (compressed,
 * and source->read_frame is NULL), those of source->read and source->read_frame.
 */
RIFFLE_PUBLIC RIFFLE_MUST_CHECK int riffle_plan_read(const struct riffle_plan *plan, const struct riffle_source *source,
						     uint64_t image_offset, void *buffer, size_t bytes,
						     struct riffle_error *error);

/* 1 if the first `bytes` bytes of a file (8 are enough) are those of a prepared kernel, otherwise 0. */
RIFFLE_PUBLIC int riffle_plan_is_prepared(const void *start, size_t bytes);

#ifdef __cplusplus
}
#endif
#endif

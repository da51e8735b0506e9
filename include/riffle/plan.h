/* SPDX-License-Identifier: Apache-2.0 */
/* A prepared kernel, opened and checked: what every boot starts from. */
#ifndef RIFFLE_PLAN_H
#define RIFFLE_PLAN_H

#include <riffle/error.h>
#include <riffle/format.h>

#ifdef __cplusplus
extern "C" {
#endif

struct riffle_source;

/* What is asked of riffle_source.read_frame: of one compressed frame the bytes from `skip` on. */
struct riffle_frame_read {
	uint64_t file_offset;           /* where the frame is stored; it is inside the file */
	uint32_t stored_bytes;          /* less than `bytes` */
	uint32_t bytes;                 /* what it decompresses to: exactly, or the frame is bad; at most
					   RIFFLE_FRAME_BYTES_MAX */
	uint32_t skip, want;            /* 0 and `bytes` nearly always; skip + want <= bytes, want not 0 */
	enum riffle_compression method; /* RIFFLE_COMPRESSION_LZ4: one block; RIFFLE_COMPRESSION_ZSTD: one frame */
};

/*
 * Where the bytes of a prepared kernel come from. `read` fills `buffer` with exactly `bytes` bytes from `offset` of
 * the file and returns 0, or fills *error and returns its status. It may be called from several threads at once when
 * riffle_load() is given workers. `opaque` is handed through.
 *
 * `read_frame` is for kernels that are stored compressed; without it (NULL) they are refused. It reads the frame's
 * stored bytes, by source->read or as it likes, decompresses them, and fills `buffer` with the `want` bytes that are
 * asked for, under the same rules as `read`. The stored bytes are anybody's: a frame that does not decompress, or not
 * to exactly `bytes` bytes, is RIFFLE_ERR_FORMAT, and not a byte outside `buffer` may be written. The buffer is mostly
 * the guest's memory, which nobody else uses yet. The library neither decompresses nor has memory to put stored bytes
 * into: that, and the decompressor's state for each thread, is the caller's, who finds it by `frame_opaque`.
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
 * A checked plan; start from RIFFLE_PLAN_INIT. Everything here is private memory that cannot change under the reader,
 * and every offset, count and relocation in it has been checked against the others. Once filled it is read-only and may
 * be used by any number of threads. The pointers lead into the header and plan bytes and live as long as they do.
 */
struct riffle_plan {
	size_t size; /* sizeof(struct riffle_plan) of the caller's header: start from RIFFLE_PLAN_INIT */
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
	void *owned; /* what riffle_plan_close() gives back; NULL after riffle_plan_check() */
	size_t owned_bytes;
	/*
	 * Of a plan with chunks that riffle_plan_open() read: memory in the same mapping, zero and aligned to 64, which
	 * the caller may use until riffle_plan_close() for the order and the workspace of a load; NULL and 0 otherwise.
	 */
	void *spare;
	size_t spare_bytes;
	uint64_t reserved_zero[30];
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
 * Checks a header and the plan bytes that follow it and fills *plan with pointers into them. Trusts nothing: the
 * checksums, then every offset, count, order and bound. `header` is RIFFLE_HEADER_BYTES, 8-byte aligned; `bytes` the
 * plan, decompressed, 8-byte aligned, header->plan_bytes long, or header->base_bytes for a plan that nothing will be
 * shuffled by; `file_bytes` the size of the file they came from. The memory stays the caller's, must not change while
 * the plan is in use, and must not be shared with anybody who could change it. Allocates nothing; also in the
 * freestanding build. Errors: FORMAT, UNSUPPORTED (version or feature bits), CHECKSUM.
 */
RIFFLE_PUBLIC RIFFLE_MUST_CHECK int riffle_plan_check(struct riffle_plan *plan, const void *header, const void *bytes,
						      size_t plan_bytes, uint64_t file_bytes,
						      struct riffle_error *error);

/*
 * Reads header and plan from `source` into private memory, once, and checks them. On success the caller owns *plan
 * and ends it with riffle_plan_close(). Errors: those of riffle_plan_check(), of source->read and source->read_frame,
 * UNSUPPORTED for a compressed kernel without that, and MEMORY.
 */
RIFFLE_PUBLIC RIFFLE_MUST_CHECK int riffle_plan_open(struct riffle_plan *plan, const struct riffle_source *source,
						     struct riffle_error *error);

/*
 * The same without the shuffle's part, which is most of a plan: for a guest that gets no more than RIFFLE_MODE_KASLR.
 * The plan has no chunks then; plan->header->features tells whether the file has.
 */
RIFFLE_PUBLIC RIFFLE_MUST_CHECK int riffle_plan_open_base(struct riffle_plan *plan, const struct riffle_source *source,
							  struct riffle_error *error);

/*
 * Gives back what riffle_plan_open() took, when no call uses the plan any more. The plan may then be opened again; a
 * closed or zeroed one may be closed again.
 */
RIFFLE_PUBLIC void riffle_plan_close(struct riffle_plan *plan);

/*
 * Makes a source of an open descriptor of a regular file, which stays the caller's and must stay open; it is read by
 * pread(2), never mapped, so a file cut short gives RIFFLE_ERR_CHANGED and not SIGBUS. The file position is not used.
 * read_frame is NULL: set it afterwards.
 * Errors: IO, FORMAT (not a regular file).
 */
RIFFLE_PUBLIC RIFFLE_MUST_CHECK int riffle_source_from_fd(struct riffle_source *source, int fd,
							  struct riffle_error *error);

/*
 * Makes a source of bytes in memory (the whole file), which must outlive it. Cannot fail. `memory->base` and
 * `memory->bytes` are filled here; the struct stays the caller's and must outlive the source too.
 */
struct riffle_source_memory {
	const void *base;
	uint64_t bytes;
};
RIFFLE_PUBLIC void riffle_source_from_bytes(struct riffle_source *source, struct riffle_source_memory *memory,
					    const void *base, uint64_t bytes);

/*
 * The kernel's own bytes as they are linked, however they are stored: `bytes` bytes from `image_offset`, which lie in
 * one extent, into `buffer`. `source` is the one the plan was opened from. Allocates nothing; also in the freestanding
 * build. Errors: ARGUMENT (outside the image, or the extents of a compressed kernel), UNSUPPORTED (compressed, and
 * source->read_frame is NULL), those of source->read and source->read_frame.
 */
RIFFLE_PUBLIC RIFFLE_MUST_CHECK int riffle_plan_read(const struct riffle_plan *plan, const struct riffle_source *source,
						     uint64_t image_offset, void *buffer, size_t bytes,
						     struct riffle_error *error);

/* 1 when the first `bytes` bytes of a file (8 are enough) are those of a prepared kernel, else 0. */
RIFFLE_PUBLIC int riffle_plan_is_prepared(const void *start, size_t bytes);

#ifdef __cplusplus
}
#endif
#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* The file format of a prepared kernel, version 2: the interface between libriffle-prepare and libriffle. */
#ifndef RIFFLE_FORMAT_H
#define RIFFLE_FORMAT_H

#include <stdint.h>

/*
 * A prepared kernel is one file, little-endian throughout:
 *
 *   0                header, RIFFLE_HEADER_BYTES, checksummed
 *   plan_offset      plan: the sections listed in the header's directory, in two parts, each with its own checksum
 *   payload_offset   the kernel's bytes as they lie in memory when nothing is randomised: the byte at image offset
 *                    X is at file offset payload_offset + X. payload_offset is a multiple of 2 MiB, so every byte's
 *                    file offset is congruent to its load address modulo 2 MiB and extents can be mapped. All-zero
 *                    pages are not written: they are holes in a sparse file, not covered by any extent except for a
 *                    few between non-zero ones.
 *
 * With RIFFLE_FEATURE_COMPRESSED plan and payload are stored differently. The plan is cut into pieces of
 * RIFFLE_FRAME_BYTES_MAX, the last one shorter. At plan_offset lies a uint32_t for each piece, its stored size,
 * followed by the stored pieces, plan_stored_bytes in all. The payload consists of consecutive frames up to the end of
 * the file, and payload_offset is a multiple of 4096. A piece or a frame is one LZ4 block or one Zstandard frame or, if
 * that would not be shorter, stored uncompressed: then its stored size equals its size.
 *
 * An *image offset* is the distance in bytes from the lowest p_paddr of the kernel's PT_LOADs (in practice from _text).
 * The image is shorter than 1 GiB, so image offsets fit 32 bits.
 *
 * A reader refuses a wrong magic, another version, an unknown feature bit, a wrong checksum, and any offset or count
 * that leads outside the file, the plan, or the image. Reserved bytes are zero.
 */
#define RIFFLE_MAGIC "RIFFLE\r\n" /* 8 bytes; the line ending detects text-mode transfers */
#define RIFFLE_FORMAT_VERSION 2u
#define RIFFLE_HEADER_BYTES 4096u
#define RIFFLE_PAYLOAD_ALIGN (2ul << 20)
#define RIFFLE_IMAGE_MAX (1ul << 30)
#define RIFFLE_PLAN_MAX (256ul << 20) /* a larger plan is refused before memory is allocated for it */

/* feature bits of riffle_header.features */
#define RIFFLE_FEATURE_SHUFFLE 1ul         /* the plan has the data needed to permute functions (FGKASLR) */
#define RIFFLE_FEATURE_COMPRESSED 2ul      /* the payload is stored as frames, compressed by riffle_header.storage */
#define RIFFLE_FEATURE_ENTRY_MOVES 4ul     /* with SHUFFLE: the entry lies in a chunk, and moves with it in a shuffle */
#define RIFFLE_FEATURE_SLIDES 8ul          /* with SHUFFLE: the plan has the data needed to slide blocks apart */
#define RIFFLE_FEATURE_PAIRS 16ul          /* with SLIDES: some blocks' gaps complement those of the blocks before */
#define RIFFLE_FEATURE_PAGED 32ul          /* with SHUFFLE: one chunk starts at a multiple of 4096 in each order */
#define RIFFLE_FEATURE_BALANCED 64ul       /* with SLIDES: the last block's gap makes the sum of all gaps the same */
#define RIFFLE_FEATURE_KALLSYMS_MODE 128ul /* with SHUFFLE: a shuffled load closes /proc/kallsyms to users */
#define RIFFLE_FEATURES_KNOWN                                                                                          \
	(RIFFLE_FEATURE_SHUFFLE | RIFFLE_FEATURE_COMPRESSED | RIFFLE_FEATURE_ENTRY_MOVES | RIFFLE_FEATURE_SLIDES |     \
	 RIFFLE_FEATURE_PAIRS | RIFFLE_FEATURE_PAGED | RIFFLE_FEATURE_BALANCED | RIFFLE_FEATURE_KALLSYMS_MODE)

/* riffle_header.flags */
#define RIFFLE_KERNEL_RELOCATABLE 1u  /* relocations are present: the virtual base may change */
#define RIFFLE_KERNEL_SETUP_HEADER 2u /* setup_header is the bzImage's own; otherwise it was synthesised */
#define RIFFLE_KERNEL_INVERSE 4u      /* the relocations came with a list of inverse-32 entries (zero-based percpu) */

/* where the kernel came from: riffle_header.source_kind */
enum riffle_source_kind {
	RIFFLE_SOURCE_BZIMAGE = 1,
	RIFFLE_SOURCE_ELF_RELA = 2,     /* vmlinux with .rela.* sections */
	RIFFLE_SOURCE_ELF_RELOCS = 3,   /* vmlinux and a separate vmlinux.relocs */
	RIFFLE_SOURCE_ELF_APPENDED = 4, /* vmlinux with the list appended, like a bzImage's payload */
	RIFFLE_SOURCE_ELF = 5,          /* vmlinux without relocations */
};

/* compression of a bzImage's payload: riffle_header.compression; LZ4 and ZSTD also in riffle_header.storage */
enum riffle_compression {
	RIFFLE_COMPRESSION_NONE = 0,
	RIFFLE_COMPRESSION_GZIP = 1,
	RIFFLE_COMPRESSION_BZIP2 = 2,
	RIFFLE_COMPRESSION_LZMA = 3,
	RIFFLE_COMPRESSION_XZ = 4,
	RIFFLE_COMPRESSION_LZO = 5,
	RIFFLE_COMPRESSION_LZ4 = 6,
	RIFFLE_COMPRESSION_ZSTD = 7,
};

/* the plan's sections; the directory is in the order of these numbers */
enum riffle_section_kind {
	RIFFLE_SECTION_SEGMENTS = 0, /* struct riffle_segment, ascending image_offset, disjoint */
	RIFFLE_SECTION_EXTENTS = 1,  /* struct riffle_extent, ascending image_offset, disjoint, page-aligned starts */
	RIFFLE_SECTION_RELOC64 = 2,  /* uint32_t image offsets, strictly ascending: u64 field += virtual delta */
	RIFFLE_SECTION_RELOC32 = 3,  /* the same: u32 field += delta */
	RIFFLE_SECTION_RELOC32_INVERSE = 4, /* the same: u32 field -= delta */
	RIFFLE_SECTION_FRAMES = 5, /* with RIFFLE_FEATURE_COMPRESSED struct riffle_frame, ascending; otherwise empty */
	/* the shuffle's part of the plan: with RIFFLE_FEATURE_SHUFFLE; otherwise empty */
	RIFFLE_SECTION_REGIONS = 6,          /* struct riffle_region, ascending, disjoint */
	RIFFLE_SECTION_CHUNKS = 7,           /* struct riffle_chunk, ascending; fewer than RIFFLE_CHUNKS_MAX */
	RIFFLE_SECTION_GROUPS = 8,           /* struct riffle_group, ascending, each chunk in one */
	RIFFLE_SECTION_PC_STEPS = 9,         /* uint8_t: s32 field += shift of target - shift of its own chunk */
	RIFFLE_SECTION_PC_TARGETS = 10,      /* uint16_t chunk numbers, one for each of these fields */
	RIFFLE_SECTION_OWN_STEPS = 11,       /* uint8_t: s32 field -= shift of its own chunk; what it refers to stays */
	RIFFLE_SECTION_ABS32_REFS = 12,      /* struct riffle_ref: u32 field += shift of target */
	RIFFLE_SECTION_ABS64_REFS = 13,      /* struct riffle_ref: u64 field += shift of target */
	RIFFLE_SECTION_FIXED32 = 14,         /* uint32_t image offsets, ascending: u32 field += shift of its target */
	RIFFLE_SECTION_FIXED32_TARGETS = 15, /* uint16_t chunk numbers, one for each of these */
	RIFFLE_SECTION_FIXED64 = 16,         /* the same for u64 fields */
	RIFFLE_SECTION_FIXED64_TARGETS = 17,
	RIFFLE_SECTION_TABLES = 18,       /* struct riffle_table */
	RIFFLE_SECTION_GAPS = 19,         /* uint32_t, table after table, then kallsyms' symbols, then bytes of names */
	RIFFLE_SECTION_SITE_TARGETS = 20, /* uint16_t chunk numbers, one for each entry of the tables of SITES */
	RIFFLE_SECTION_EXTABLE_TARGETS =
	    21,                       /* uint16_t[2] an entry of the exception table: chunks of fixup and handler */
	RIFFLE_SECTION_KALLSYMS = 22, /* struct riffle_kallsyms, one or none */
	/* with RIFFLE_FEATURE_SLIDES; otherwise empty */
	RIFFLE_SECTION_BLOCKS = 23,         /* struct riffle_block, ascending, 2 .. RIFFLE_BLOCKS_MAX */
	RIFFLE_SECTION_CROSS32 = 24,        /* uint32_t image offsets, ascending: s32 field += slide of target's block
					       - slide of its own */
	RIFFLE_SECTION_CROSS32_BLOCKS = 25, /* uint8_t block numbers, one for each of these */
	RIFFLE_SECTION_CROSS_TABLES = 26,   /* struct riffle_cross_table, at most RIFFLE_CROSS_TABLES_MAX */
	RIFFLE_SECTION_COUNT = 27,
	RIFFLE_SECTION_SLOTS = 32, /* slots in the directory; those from COUNT on are zero in version 2 */
};

struct riffle_section {
	uint64_t offset; /* from the start of the plan, multiple of 8 */
	uint64_t count;  /* entries */
};

/* one PT_LOAD of the kernel */
struct riffle_segment {
	uint64_t link_virt;    /* p_vaddr (0 for the percpu segment of kernels up to 6.14) */
	uint32_t image_offset; /* p_paddr - lowest p_paddr */
	uint32_t file_bytes;   /* p_filesz */
	uint32_t memory_bytes; /* p_memsz, at least file_bytes */
	uint32_t flags;        /* p_flags: PF_X 1, PF_W 2, PF_R 4 */
};

/* a run of bytes to copy; lies in one segment's file bytes and starts at a 4 KiB page or at the segment's start */
struct riffle_extent {
	uint32_t image_offset;
	uint32_t bytes;
	uint64_t file_offset; /* payload_offset + image_offset; 0 with RIFFLE_FEATURE_COMPRESSED */
};

/*
 * A part of an extent that is compressed separately. Each frame lies in one extent, and together the frames cover the
 * extents without gaps or overlaps; the stored frames do the same from payload_offset to the end of the file. The
 * preparer chooses where to cut: best where a load's reads begin and end, since reading part of a frame costs all of
 * it.
 */
#define RIFFLE_FRAME_BYTES_MAX (256u << 10)

struct riffle_frame {
	uint32_t image_offset;
	uint32_t bytes;         /* 1 .. RIFFLE_FRAME_BYTES_MAX */
	uint32_t stored_bytes;  /* 1 .. bytes */
	uint32_t stored_offset; /* from payload_offset */
};

/*
 * Shuffling. A region is a run of chunks without gaps. Its chunks are permuted within it; because every chunk starts on
 * a multiple of 16 and ends where the next one starts, any order fits. A chunk number for something that does not move
 * is the number of chunks (one past the last).
 *
 * With RIFFLE_FEATURE_PAGED one chunk, which starts at a multiple of 4096 as linked, does so in each order: the kernel
 * copies it, and maps the page of its address to the copy, as kexec does with relocate_kernel up to 6.13.
 *
 * The lines of /proc/kallsyms are in the order of the addresses, so whoever reads the file knows the order of the
 * chunks, even where all addresses are zeros; and the kernel lets everybody read it. With RIFFLE_FEATURE_KALLSYMS_MODE
 * the header tells where the instruction that creates the file has its mode: a load that permutes chunks writes
 * RIFFLE_KALLSYMS_MODE_CLOSED there in place of RIFFLE_KALLSYMS_MODE_OPEN, so that root alone can read it; it refuses a
 * kernel that has another value there. Other loads leave it. The field is a u32 outside all regions, tables, and fields
 * that a load changes.
 */
#define RIFFLE_PAGE_BYTES 4096u
#define RIFFLE_KALLSYMS_MODE_OPEN 0444u
#define RIFFLE_KALLSYMS_MODE_CLOSED 0400u
#define RIFFLE_CHUNKS_MAX 65535u
#define RIFFLE_CHUNK_BYTES_MAX 65536u
#define RIFFLE_CHUNK_ALIGN 16u

struct riffle_region {
	uint32_t image_offset; /* multiple of RIFFLE_CHUNK_ALIGN; inside one extent */
	uint32_t bytes;
	uint32_t first_chunk;
	uint32_t chunk_count;
};

/*
 * One chunk, and how much of each sorted table belongs to it: the entries of the exception, unwind and mcount tables
 * that point into it, the symbols in it, and the length of their names in kallsyms.
 */
struct riffle_chunk {
	uint32_t image_offset;
	uint16_t units; /* of RIFFLE_CHUNK_ALIGN bytes; not 0 */
	uint16_t orc;
	uint16_t mcount;
	uint16_t exceptions;
	uint16_t symbols;
	uint16_t name_bytes;
};

static inline uint32_t riffle_chunk_bytes(const struct riffle_chunk *chunk)
{
	return (uint32_t)chunk->units * RIFFLE_CHUNK_ALIGN;
}

/*
 * Adjacent chunks of one region that are read and fixed up together. A reference gives its field's offset in the group,
 * which starts with its first chunk. Each field lies in a single chunk. References only describe the effect of the
 * shuffle; that an absolute field also moves with the kernel is described only by the relocations, which apply to
 * chunks as to everything else. An inverse-32 field is listed in the own steps.
 *
 * PC-relative fields, which are many, are encoded as steps: each byte is the distance from the previous field, for the
 * first from the group's start. RIFFLE_STEP_FAR advances by that distance without naming a field.
 */
#define RIFFLE_GROUP_BYTES_MAX 65536u
#define RIFFLE_STEP_FAR 255u

struct riffle_group {
	uint32_t chunk_count; /* not 0; from the end of the previous group */
	uint32_t pc_steps;    /* counts of each, from the end of the previous group */
	uint32_t pc_targets;
	uint32_t own_steps;
	uint32_t abs32_refs;
	uint32_t abs64_refs;
};

struct riffle_ref {
	uint16_t field;  /* offset in the group */
	uint16_t target; /* chunk number */
};

/* A table that describes code: sorted for binary search, so its entries move with the code; or SITES, which stay. */
enum riffle_table_kind {
	RIFFLE_TABLE_EXTABLE = 1, /* 12 bytes: s32 insn, s32 fixup (both PC-relative), u32 data or s32 handler */
	RIFFLE_TABLE_ORC = 2,     /* s32 ip at image_offset, 6 bytes of state at second_offset */
	RIFFLE_TABLE_MCOUNT = 3,  /* u64 addresses; also in RELOC64 */
	RIFFLE_TABLE_SITES = 4,   /* s32, PC-relative, in any order: entries stay in place, and each has its chunk in
				     RIFFLE_SECTION_SITE_TARGETS */
};

/*
 * A sorted table has some entries that do not move, then those of the first region's chunks, again some that do not
 * move, those of the second region's chunks, and so on. Its gaps, one more than there are regions, give the numbers of
 * entries that do not move; each chunk gives the number of its own entries. Each kind except SITES occurs at most once.
 */
struct riffle_table {
	uint32_t kind;
	uint32_t image_offset;
	uint32_t second_offset; /* ORC's states, otherwise 0 */
	uint32_t entries;
	uint32_t first; /* its first gap in RIFFLE_SECTION_GAPS, or target in RIFFLE_SECTION_SITE_TARGETS */
	uint32_t reserved;
};

#define RIFFLE_KALLSYMS_SELF_RELATIVE 1u   /* offsets are distances from the entry itself */
#define RIFFLE_KALLSYMS_ABSOLUTE_PERCPU 2u /* negative offsets count down from base - 1, others are absolute */

struct riffle_kallsyms {
	uint32_t flags;
	uint32_t symbols;
	uint32_t offsets; /* image offset of s32[symbols] */
	uint32_t names, names_bytes;
	uint32_t markers;   /* u32[(symbols + 255) / 256] */
	uint32_t seqs;      /* u8[3][symbols], big-endian; 0: this kernel has none */
	uint32_t first_gap; /* of its symbols; the gaps of the name bytes follow */
};

/*
 * Slides. The image is cut into blocks, each of which ends where the next one starts. A load may leave a gap before
 * each block but the first, as if the kernel had been linked with it: `gap` × align, with `gap` below `gaps`. A block
 * *slides* by the sum of the gaps up to its own; as none of these is finer than its own, what it holds stays aligned.
 *
 * With RIFFLE_FEATURE_PAIRS two adjacent blocks may be a pair: the second has `gaps` 0, the same align as the first,
 * and as its gap whatever the first's lacks of its largest. The sum of both is then the same in each load, so a kernel
 * that keeps the memory of these gaps always keeps the same amount; and what follows may be aligned as that sum is.
 *
 * With RIFFLE_FEATURE_BALANCED the last block has `gaps` 0, and slides by what the largest gaps of the others come to:
 * its gap is what these lack of their largest. The kernel frees all of them at one time, and sizes limits that its
 * users can read by the memory that is free before: these tell nothing if the sum is the same in each load.
 *
 * An absolute field also changes by the slide of the block that its value leads to: as a link address, or as one minus
 * __START_KERNEL_map; a value less than 2 MiB past the image belongs to the last block. An inverse-32 field also
 * changes by minus the slide of its own block.
 */
#define RIFFLE_BLOCKS_MAX 8u
#define RIFFLE_SLIDE_MAX (64ul << 20) /* the sum of all blocks' largest gaps is at most this */
#define RIFFLE_CROSS_TABLES_MAX 128u

struct riffle_block {
	uint32_t image_offset; /* multiple of 4096; 0 for the first */
	uint32_t align;        /* of the gap before it: a power of two, 4096 .. 2 MiB, at most the previous block's, or
				  what a pair's sum is a multiple of */
	uint32_t gaps;         /* number of different gaps; 1 for the first; 0 if it complements others */
	uint32_t kind;         /* enum riffle_block_kind, for people */
};

enum riffle_block_kind {
	RIFFLE_BLOCK_TEXT = 1,
	RIFFLE_BLOCK_RODATA = 2,
	RIFFLE_BLOCK_DATA = 3, /* with the per-CPU template */
	RIFFLE_BLOCK_INIT = 4,
	RIFFLE_BLOCK_BSS = 5,
	RIFFLE_BLOCK_BRK = 6,
	RIFFLE_BLOCK_RODATA_END = 7, /* nothing but the end of read-only data, with the hole behind it */
};

/*
 * A column of a table of distances: the fields at image_offset, image_offset + stride, and so on. The block that a
 * field leads to is that of its value, which a shuffle does not change: all regions are in the first block.
 */
enum riffle_cross_kind {
	RIFFLE_CROSS_DISTANCE32 = 1, /* s32 from the field itself */
	RIFFLE_CROSS_DISTANCE64 = 2, /* s64 from the field itself */
	RIFFLE_CROSS_OFFSET32 = 3,   /* u32 from image offset `base`, which is in the first block */
	RIFFLE_CROSS_COUNTDOWN32 = 4 /* s32: if negative, `base` - 1 minus it is meant; otherwise nothing */
};

struct riffle_cross_table {
	uint32_t image_offset;
	uint32_t entries;
	uint32_t stride; /* 4 .. 4096 */
	uint32_t kind;   /* enum riffle_cross_kind */
	uint32_t base;   /* of OFFSET32 and COUNTDOWN32, otherwise 0 */
	uint32_t reserved;
};

/* page 0 of the file */
struct riffle_header {
	uint8_t magic[8];
	uint32_t version;
	uint32_t header_bytes; /* RIFFLE_HEADER_BYTES */
	uint64_t features;
	uint64_t header_checksum; /* XXH3 (64 bits, no seed) of the whole header with this field zero */
	uint64_t file_bytes;      /* size of the whole file */
	uint64_t plan_offset;     /* RIFFLE_HEADER_BYTES in version 2 */
	uint64_t plan_bytes;      /* decompressed */
	uint64_t plan_checksum;   /* XXH3 (64 bits, no seed) of the plan's first base_bytes bytes, decompressed */
	uint64_t payload_offset;  /* multiple of RIFFLE_PAYLOAD_ALIGN; of 4096 with RIFFLE_FEATURE_COMPRESSED */

	uint64_t link_phys;        /* lowest p_paddr: LOAD_PHYSICAL_ADDR, multiple of 2 MiB */
	uint64_t link_virt;        /* link address of image offset 0: __START_KERNEL_map + link_phys */
	uint64_t image_bytes;      /* from image offset 0 to the end of .bss and .brk (_end - _text) */
	uint64_t load_bytes;       /* sum of p_filesz over all PT_LOADs */
	uint64_t window_bytes;     /* KERNEL_IMAGE_SIZE: 1 GiB with relocations, otherwise 512 MiB */
	uint64_t entry_offset;     /* image offset of the 64-bit entry (e_entry) as linked */
	uint64_t kernel_alignment; /* CONFIG_PHYSICAL_ALIGN from the setup header; for an ELF the largest power of two
				      from 2 to 16 MiB that divides link_phys and that p_align allows */
	uint32_t flags;
	uint32_t source_kind;
	uint32_t compression;
	uint32_t init_size;        /* setup header's init_size, 0 if there was none */
	uint8_t setup_header[128]; /* zero page bytes 0x1f1 .. 0x270 from the bzImage; zero without one */
	char kernel_version[192];  /* "6.1.0-56-cloud-amd64 (…) #1 SMP …", NUL-terminated; may be empty */
	uint8_t build_id[32];
	uint32_t build_id_bytes;    /* 0 if the kernel has none */
	uint32_t storage;           /* RIFFLE_COMPRESSION_LZ4 or _ZSTD with RIFFLE_FEATURE_COMPRESSED, otherwise NONE */
	uint8_t source_digest[32];  /* SHA-256 of the input file(s) as read, main file first */
	uint8_t content_digest[32]; /* SHA-256 of the plan bytes, then of each extent's bytes in order; if compressed,
				       of both as stored */

	uint64_t base_bytes;       /* plan bytes of the sections that every boot needs; multiple of 8. The rest is the
				      shuffle's part, read and checked only for a shuffle */
	uint64_t shuffle_checksum; /* XXH3 (64 bits, no seed) of the shuffle's part */

	struct riffle_section section[RIFFLE_SECTION_SLOTS];
	char no_shuffle[256];       /* without RIFFLE_FEATURE_SHUFFLE: the reason; NUL-terminated, may be empty */
	uint64_t plan_stored_bytes; /* the plan's size in the file with RIFFLE_FEATURE_COMPRESSED, otherwise 0 */
	char no_slides[256];        /* without RIFFLE_FEATURE_SLIDES: the reason; NUL-terminated, may be empty */
	uint32_t paged_chunk;       /* with RIFFLE_FEATURE_PAGED the chunk that the kernel maps by page; otherwise 0 */
	uint32_t kallsyms_mode;     /* with RIFFLE_FEATURE_KALLSYMS_MODE the field's image offset; otherwise 0 */
	uint8_t reserved[RIFFLE_HEADER_BYTES - 0x658];
};

#if defined(__STDC_VERSION__) && __STDC_VERSION__ >= 201112L
_Static_assert(sizeof(struct riffle_header) == RIFFLE_HEADER_BYTES, "the header fills its page");
_Static_assert(sizeof(struct riffle_chunk) == 16 && sizeof(struct riffle_table) == 24, "no padding");
_Static_assert(sizeof(struct riffle_kallsyms) == 32 && sizeof(struct riffle_group) == 24, "no padding");
_Static_assert(sizeof(struct riffle_segment) == 24 && sizeof(struct riffle_extent) == 16, "no padding");
_Static_assert(sizeof(struct riffle_frame) == 16, "no padding");
_Static_assert(sizeof(struct riffle_block) == 16 && sizeof(struct riffle_cross_table) == 24, "no padding");
#endif

#endif

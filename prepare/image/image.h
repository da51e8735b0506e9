/* SPDX-License-Identifier: Apache-2.0 */
/* A kernel file of any format, read once into private memory and parsed: segments, entry, relocations. */
#ifndef RIFFLE_PREPARE_IMAGE_H
#define RIFFLE_PREPARE_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <riffle/error.h>
#include <riffle/format.h>

/* One PT_LOAD with memory; `bytes` holds file_bytes bytes of private memory. Ascending by phys, disjoint. */
struct image_segment {
	uint64_t virt; /* p_vaddr */
	uint64_t phys; /* p_paddr */
	uint64_t file_bytes;
	uint64_t memory_bytes;
	uint32_t flags; /* p_flags */
	uint8_t *bytes;
};

/* One section header, if the file has a readable section table (symbols and -dbg files; bzImage payloads too). */
struct image_section {
	const char *name;
	uint64_t address;
	uint64_t bytes;
	uint64_t flags; /* sh_flags */
	uint32_t type;  /* sh_type */
	uint64_t align; /* sh_addralign */
};

/*
 * A section of code that runs in place. A writable one counts as data: since 6.14 .data holds the code that kexec
 * copies elsewhere before running it, which cannot refer to anything outside itself.
 */
#define IMAGE_IS_CODE(sh_flags) (((sh_flags) & (SHF_ALLOC | SHF_EXECINSTR | SHF_WRITE)) == (SHF_ALLOC | SHF_EXECINSTR))

/* Image offsets (from the lowest p_paddr), strictly ascending. */
struct image_relocs {
	uint32_t *offset;
	uint32_t count;
};

struct riffle_image {
	enum riffle_source_kind kind;
	enum riffle_compression compression;

	struct image_segment *segment;
	unsigned segment_count;
	uint64_t link_phys;    /* lowest p_paddr */
	uint64_t link_virt;    /* its link address: __START_KERNEL_map + link_phys */
	uint64_t image_bytes;  /* to the end of the highest p_paddr + p_memsz */
	uint64_t entry_offset; /* image offset of the physical entry point */
	uint64_t kernel_alignment;

	bool relocatable;  /* relocations were found */
	bool inverse_list; /* in the format with three lists */
	struct image_relocs reloc64, reloc32, reloc32_inverse;

	struct image_section *section;
	unsigned section_count;

	bool has_setup_header;
	uint8_t setup_header[128]; /* zero page 0x1f1 … as in the file; zero without one */
	uint32_t init_size;
	char kernel_version[192];
	uint8_t build_id[32];
	uint32_t build_id_bytes;
	/*
	 * SHA-256 of what was read, first the kernel file, then the relocation file: all bytes in order for a bzImage
	 * (as sha256sum prints) and for a relocation file; for an ELF only the parts that are used, in the order read,
	 * because the debug information around them is ten times as large.
	 */
	uint8_t source_digest[32];
	uint64_t uncompressed_bytes; /* bzImage: length of the decompressed payload; otherwise 0 */
	/* bzImage: a decoder's input (without the appended size word) and output, for measurements; otherwise NULL */
	const uint8_t *payload;
	uint64_t payload_bytes;
	const uint8_t *uncompressed;

	void *owned; /* private to the component */
};

/*
 * Reads a kernel from an open descriptor (regular file, read by pread; never mapped) and, for the pair vmlinux +
 * vmlinux.relocs, a second one (otherwise -1). The format is identified by content. On success the caller releases
 * *image with riffle_image_close(). Every offset, length and count of the file is hostile until checked. A pair whose
 * first file is a bzImage or has a list appended is refused: it would have two lists.
 * Errors: ARGUMENT, FORMAT, UNSUPPORTED, CHANGED (the file was truncated or written to meanwhile), IO, MEMORY.
 */
int riffle_image_open(struct riffle_image **image, int kernel_fd, int relocs_fd, struct riffle_error *error);
/*
 * The same, but calls `unpacked` when a bzImage's payload has been unpacked and before any of the output is examined:
 * the time to drop the privileges that only running lzop needs. For other formats it is called as soon as the format is
 * known. Its error is returned.
 */
int riffle_image_open_confined(struct riffle_image **image, int kernel_fd, int relocs_fd,
			       int (*unpacked)(struct riffle_error *error), struct riffle_error *error);
void riffle_image_close(struct riffle_image *image);

/*
 * Unpacks a bzImage's payload again, for measurements; `output` has room for uncompressed_bytes + 1.
 * Errors: those of riffle_image_open(), and ARGUMENT for an image that is no bzImage.
 */
int riffle_image_unpack(const struct riffle_image *image, uint8_t *output, struct riffle_error *error);

/*
 * The compression of a bzImage's payload according to its header, or NONE for anything else; lzo requires running a
 * program.
 */
enum riffle_compression riffle_image_peek_compression(int kernel_fd);

/* image offset [offset, offset + bytes) lies in the file bytes of one segment */
bool image_in_file_bytes(const struct riffle_image *image, uint64_t offset, uint64_t bytes);

const char *riffle_compression_name(enum riffle_compression compression);
const char *riffle_source_kind_name(enum riffle_source_kind kind);

#endif

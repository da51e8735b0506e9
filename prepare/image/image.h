/* SPDX-License-Identifier: Apache-2.0 */
/* A kernel file, whatever its kind, read once into private memory and understood: segments, entry, relocations. */
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

/* One section header, when the file has a readable section table (symbols and -dbg files; bzImage payloads too). */
struct image_section {
	const char *name;
	uint64_t address;
	uint64_t bytes;
	uint64_t flags; /* sh_flags */
	uint32_t type;  /* sh_type */
};

/*
 * A section of instructions that run where they lie. One that can be written too is data: from 6.14 on .data holds the
 * code that kexec copies to another place before it runs there, which cannot refer to anything outside of itself.
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
	 * SHA-256 of what was read, the kernel file before the relocation file: of a bzImage and of a relocation file
	 * all bytes in order (what sha256sum prints for a bzImage), of an ELF only the parts that are used, each as it
	 * was read, since the debug information around them is ten times as large.
	 */
	uint8_t source_digest[32];
	uint64_t uncompressed_bytes; /* bzImage: length of the decompressed payload, else 0 */
	/* bzImage: what a decoder takes (no appended size word) and what it gives, for measurements; else NULL */
	const uint8_t *payload;
	uint64_t payload_bytes;
	const uint8_t *uncompressed;

	void *owned; /* private to the room */
};

/*
 * Reads a kernel from an open descriptor (regular file, read by pread; never mapped) and, for the pair vmlinux +
 * vmlinux.relocs, a second one (else -1). Kinds are told apart by content. On success *image is the caller's, to be
 * ended with riffle_image_close(). Every offset, length and count of the file is hostile until checked. A pair whose
 * first file is a bzImage or has a list appended is refused: it would have two lists.
 * Errors: ARGUMENT, FORMAT, UNSUPPORTED, CHANGED (the file became shorter or was written to meanwhile), IO, MEMORY.
 */
int riffle_image_open(struct riffle_image **image, int kernel_fd, int relocs_fd, struct riffle_error *error);
/*
 * The same; and a bzImage's payload has been unpacked when `unpacked` is called, but none of what came out been looked
 * at: the time to give up what only running lzop needs. Of other kinds of file it is called as soon as the kind is
 * known. Its error is the result.
 */
int riffle_image_open_confined(struct riffle_image **image, int kernel_fd, int relocs_fd,
			       int (*unpacked)(struct riffle_error *error), struct riffle_error *error);
void riffle_image_close(struct riffle_image *image);

/*
 * Unpacks a bzImage's payload once more, for measurements; `output` has room for uncompressed_bytes + 1.
 * Errors: those of riffle_image_open(), and ARGUMENT for an image that is no bzImage.
 */
int riffle_image_unpack(const struct riffle_image *image, uint8_t *output, struct riffle_error *error);

/* Compression of a bzImage's payload by a look at the file, or NONE for anything else; lzo needs a program run. */
enum riffle_compression riffle_image_peek_compression(int kernel_fd);

/* image offset [offset, offset + bytes) lies in the file bytes of one segment */
bool image_in_file_bytes(const struct riffle_image *image, uint64_t offset, uint64_t bytes);

const char *riffle_compression_name(enum riffle_compression compression);
const char *riffle_source_kind_name(enum riffle_source_kind kind);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the files of this component: input sources, memory owned by an image, and the readers' entry points. */
#ifndef RIFFLE_PREPARE_IMAGE_INTERNAL_H
#define RIFFLE_PREPARE_IMAGE_INTERNAL_H

#include <nettle/sha2.h>
#include <sys/stat.h>

#include "common/bytes.h"
#include "common/fail.h"
#include "common/kernel_map.h"
#include "prepare/image/image.h"
#include "prepare/image/uki.h"

#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)

/* the load address alignment that startup_64 requires (arch/x86/kernel/head64.c), and CONFIG_PHYSICAL_ALIGN's range */
#define MIN_KERNEL_ALIGN (2 * MIB)
#define MAX_KERNEL_ALIGN (16 * MIB)

/*
 * Bytes to parse: a file, read piece by piece into private memory, or bytes that are already in private memory.
 * Whatever is read from a file goes through `digest` in the order of reading.
 */
struct image_source {
	const char *name; /* field name of errors that concern it as a whole */
	int fd;           /* -1: memory */
	uint8_t *memory;
	uint64_t start; /* for a file within another file: where it starts */
	uint64_t bytes;
	struct sha256_ctx *digest;
	struct stat opened;
};

/* Errors: IO, FORMAT (no regular file, empty). */
int image_source_open(struct image_source *source, int fd, const char *name, struct sha256_ctx *digest,
		      struct riffle_error *error);
void image_source_from_memory(struct image_source *source, uint8_t *memory, uint64_t bytes);
/* Reads exactly [offset, offset + bytes), which must lie inside the source. Errors: IO, CHANGED. */
int image_source_read(const struct image_source *source, uint64_t offset, void *buffer, uint64_t bytes,
		      struct riffle_error *error);
/* Fails with CHANGED if the file's size or times differ from when it was opened. */
int image_source_unchanged(const struct image_source *source, struct riffle_error *error);

/* Memory that lives as long as the image; NULL and *error set if there is none. */
void *image_alloc(struct riffle_image *image, uint64_t bytes, struct riffle_error *error);
/* A range of the source as private memory of the image: a copy for a file, no copy for memory. */
int image_take(uint8_t **bytes, struct riffle_image *image, const struct image_source *source, uint64_t offset,
	       uint64_t count, struct riffle_error *error);

/* A section header with the fields that image_section omits. */
struct elf_section {
	uint32_t name, type;
	uint64_t flags, address, offset, bytes, align;
	uint32_t link, info;
};

struct elf {
	struct elf_section *section; /* belongs to the image */
	uint32_t section_count;
	uint64_t end; /* first byte of the source after everything that the ELF's headers refer to */
};

/* Reads headers, segments, sections and build id of a kernel ELF into `image`. */
int image_elf_read(struct riffle_image *image, struct elf *elf, const struct image_source *source,
		   struct riffle_error *error);

/*
 * Where in a tail the list begins whose end is the tail's end, found by its structure: ascending kernel addresses
 * after zero words. 0: at the tail's start, or nowhere.
 */
uint64_t image_relocs_find(const struct riffle_image *image, const uint8_t *tail, uint64_t bytes);

/* Parses a list in the format of arch/x86/tools/relocs; the caller keeps the words. */
int image_relocs_from_list(struct riffle_image *image, const uint8_t *list, uint64_t bytes, struct riffle_error *error);

/* Whether the relocations of code are present (a stripped vmlinux may retain those of small data sections). */
bool image_has_rela(const struct elf *elf);
int image_relocs_from_rela(struct riffle_image *image, const struct elf *elf, const struct image_source *source,
			   struct riffle_error *error);

/* The layout of a bzImage; every offset has been checked against the file's size. */
struct bzimage {
	uint64_t setup_bytes;    /* boot sector and setup code: the protected-mode part follows */
	uint64_t payload_offset; /* in the file */
	uint64_t payload_bytes;  /* from the setup header: includes the size word */
	uint32_t header_end;     /* first byte after the setup header */
	uint32_t init_size;
	uint32_t kernel_alignment;
	uint32_t version_offset; /* of the version string in the file, 0: none */
	enum riffle_compression compression;
};

#define BZIMAGE_HEAD_BYTES 0x280u /* enough for image_is_bzimage() and the setup header */
bool image_is_bzimage(const uint8_t *head, uint64_t bytes);
/* `source` is the whole file, in memory or not. */
int image_bzimage_parse(struct bzimage *bzimage, const struct image_source *source, struct riffle_error *error);
/*
 * Reads the whole file, unpacks its payload and fills in the bzImage members of `image`; *payload is the unpacked
 * payload.
 */
int image_bzimage_read(struct riffle_image *image, struct image_source *payload, const struct image_source *source,
		       struct riffle_error *error);

/*
 * Unpacks `input` (without an appended size word) into exactly output_bytes bytes. `output` has room for one more byte,
 * to detect a stream that is too long.
 */
int image_decompress(enum riffle_compression compression, const uint8_t *input, size_t input_bytes, uint8_t *output,
		     size_t output_bytes, struct riffle_error *error);
/* For image_decompress(), which checks what was produced: up to output_bytes + 1. */
int image_decompress_lzo(const uint8_t *input, size_t input_bytes, uint8_t *output, size_t output_bytes,
			 size_t *produced, struct riffle_error *error);

/*
 * Unpacks a file compressed as a whole by gzip, xz or zstd, which its first bytes show, into *content and sets
 * image->compression; NONE for any other file.
 */
enum riffle_compression image_compression_of_file(const uint8_t *head, uint64_t bytes);
int image_unpack_file(struct riffle_image *image, struct image_source *content, enum riffle_compression compression,
		      const struct image_source *source, struct riffle_error *error);

/* The error for a file that is no x86-64 kernel, saying what it is instead; `head` is its first `bytes` bytes. */
int image_not_a_kernel(const uint8_t *head, uint64_t bytes, const struct uki *uki, struct riffle_error *error);
/* What is wrong with an ELF's e_machine and e_type. */
const char *image_elf_machine(uint16_t machine);
const char *image_elf_type(uint16_t type);

/* Copies a version string into image->kernel_version, up to the first non-printable character. */
void image_set_version(struct riffle_image *image, const uint8_t *text, uint64_t bytes);
/* Looks for the kernel's "Linux version ..." banner in the segments. */
void image_find_version(struct riffle_image *image);

#endif

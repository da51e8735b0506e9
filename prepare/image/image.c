/* SPDX-License-Identifier: Apache-2.0 */
/* Tells kinds of kernel files apart by content and assembles the image from what the readers found. */
#include <elf.h>
#include <stdlib.h>

#include "prepare/image/internal.h"

const char *riffle_compression_name(enum riffle_compression compression)
{
	switch (compression) {
	case RIFFLE_COMPRESSION_NONE:
		return "none";
	case RIFFLE_COMPRESSION_GZIP:
		return "gzip";
	case RIFFLE_COMPRESSION_BZIP2:
		return "bzip2";
	case RIFFLE_COMPRESSION_LZMA:
		return "lzma";
	case RIFFLE_COMPRESSION_XZ:
		return "xz";
	case RIFFLE_COMPRESSION_LZO:
		return "lzo";
	case RIFFLE_COMPRESSION_LZ4:
		return "lz4";
	case RIFFLE_COMPRESSION_ZSTD:
		return "zstd";
	}
	return "unknown";
}

const char *riffle_source_kind_name(enum riffle_source_kind kind)
{
	switch (kind) {
	case RIFFLE_SOURCE_BZIMAGE:
		return "bzImage";
	case RIFFLE_SOURCE_ELF_RELA:
		return "ELF with .rela sections";
	case RIFFLE_SOURCE_ELF_RELOCS:
		return "ELF and relocation list";
	case RIFFLE_SOURCE_ELF_APPENDED:
		return "ELF with relocation list appended";
	case RIFFLE_SOURCE_ELF:
		return "ELF without relocations";
	}
	return "unknown";
}

/* The list of a separate file, read whole. */
static int relocs_from_file(struct riffle_image *image, int fd, struct sha256_ctx *digest, struct riffle_error *error)
{
	struct image_source source;
	uint8_t *list;
	int status;

	status = image_source_open(&source, fd, "relocation file", digest, error);
	if (status)
		return status;
	if (source.bytes > RIFFLE_PLAN_MAX)
		return riffle_fail_expected(error, RIFFLE_ERR_UNSUPPORTED, "relocation list", "is too long",
					    source.bytes, RIFFLE_PLAN_MAX);
	status = image_take(&list, image, &source, 0, source.bytes, error);
	if (!status)
		status = image_relocs_from_list(image, list, source.bytes, error);
	if (!status)
		status = image_source_unchanged(&source, error);
	return status;
}

/*
 * Whatever lies behind the end of the ELF proper is a relocation list: what the kernel's build appends before it
 * compresses. Zeros alone are padding.
 */
static int relocs_from_tail(struct riffle_image *image, const struct elf *elf, const struct image_source *source,
			    struct riffle_error *error)
{
	uint64_t bytes = source->bytes - elf->end, i;
	uint8_t *tail;
	int status;

	if (!bytes)
		return 0;
	if (bytes > RIFFLE_PLAN_MAX)
		return riffle_fail_expected(error, RIFFLE_ERR_UNSUPPORTED, "relocation list", "is too long", bytes,
					    RIFFLE_PLAN_MAX);
	status = image_take(&tail, image, source, elf->end, bytes, error);
	if (status)
		return status;
	for (i = 0; i < bytes && !tail[i]; i++)
		;
	return i < bytes ? image_relocs_from_list(image, tail, bytes, error) : 0;
}

typedef int confine(struct riffle_error *error);

static int read_bzimage(struct riffle_image *image, const struct image_source *source, confine *unpacked,
			struct riffle_error *error)
{
	struct image_source payload;
	uint64_t alignment;
	struct elf elf;
	int status;

	image->kind = RIFFLE_SOURCE_BZIMAGE;
	status = image_bzimage_read(image, &payload, source, error);
	if (!status && unpacked)
		status = unpacked(error);
	if (status)
		return status;
	alignment = image->kernel_alignment;
	status = image_elf_read(image, &elf, &payload, error);
	image->kernel_alignment = alignment;
	if (!status)
		status = relocs_from_tail(image, &elf, &payload, error);
	return status;
}

static int read_elf(struct riffle_image *image, const struct image_source *source, int relocs_fd,
		    struct sha256_ctx *digest, struct riffle_error *error)
{
	struct elf elf;
	int status;

	image->kind = RIFFLE_SOURCE_ELF;
	status = image_elf_read(image, &elf, source, error);
	if (status)
		return status;
	status = relocs_from_tail(image, &elf, source, error);
	if (status)
		return status;
	if (relocs_fd >= 0 && image->relocatable)
		return riffle_fail(error, RIFFLE_ERR_ARGUMENT, "relocation file",
				   "was given, but the kernel has a list appended");
	if (relocs_fd >= 0) {
		image->kind = RIFFLE_SOURCE_ELF_RELOCS;
		status = relocs_from_file(image, relocs_fd, digest, error);
	} else if (image->relocatable) {
		image->kind = RIFFLE_SOURCE_ELF_APPENDED;
	} else if (image_has_rela(&elf)) {
		image->kind = RIFFLE_SOURCE_ELF_RELA;
		status = image_relocs_from_rela(image, &elf, source, error);
	}
	return status;
}

static int read_kernel(struct riffle_image *image, int kernel_fd, int relocs_fd, confine *unpacked,
		       struct riffle_error *error)
{
	uint8_t head[BZIMAGE_HEAD_BYTES] = {0};
	struct image_source source, probe;
	struct sha256_ctx digest;
	int status;

	sha256_init(&digest);
	status = image_source_open(&source, kernel_fd, "kernel file", &digest, error);
	if (status)
		return status;
	probe = source;
	probe.digest = NULL;
	status = image_source_read(&probe, 0, head, source.bytes < sizeof head ? source.bytes : sizeof head, error);
	if (status)
		return status;
	/* nothing to unpack */
	const bool elf = !memcmp(head, ELFMAG, SELFMAG);

	if (elf && unpacked && (status = unpacked(error)))
		return status;
	if (elf)
		status = read_elf(image, &source, relocs_fd, &digest, error);
	else if (image_is_bzimage(head, source.bytes) && relocs_fd >= 0)
		status = riffle_fail(error, RIFFLE_ERR_ARGUMENT, "relocation file",
				     "was given, but a bzImage brings its own relocations");
	else if (image_is_bzimage(head, source.bytes))
		status = read_bzimage(image, &source, unpacked, error);
	else if (!memcmp(head, RIFFLE_MAGIC, sizeof RIFFLE_MAGIC - 1))
		status = riffle_fail(error, RIFFLE_ERR_ARGUMENT, "kernel file", "is a prepared kernel already");
	else
		status = riffle_fail(error, RIFFLE_ERR_FORMAT, "kernel file", "is neither a bzImage nor an ELF file");
	if (!status)
		status = image_source_unchanged(&source, error);
	if (status)
		return status;
	if (!image->kernel_version[0])
		image_find_version(image);
	sha256_digest(&digest, sizeof image->source_digest, image->source_digest);
	return 0;
}

int riffle_image_open(struct riffle_image **image, int kernel_fd, int relocs_fd, struct riffle_error *error)
{
	return riffle_image_open_confined(image, kernel_fd, relocs_fd, NULL, error);
}

int riffle_image_open_confined(struct riffle_image **image, int kernel_fd, int relocs_fd, confine *unpacked,
			       struct riffle_error *error)
{
	struct riffle_image *new = calloc(1, sizeof *new);
	int status;

	*image = NULL;
	if (!new)
		return riffle_fail(error, RIFFLE_ERR_MEMORY, "memory", "cannot be had");
	status = read_kernel(new, kernel_fd, relocs_fd, unpacked, error);
	if (status)
		riffle_image_close(new);
	else
		*image = new;
	return status;
}

enum riffle_compression riffle_image_peek_compression(int kernel_fd)
{
	uint8_t head[BZIMAGE_HEAD_BYTES];
	struct image_source source;
	struct bzimage bzimage;

	if (image_source_open(&source, kernel_fd, "kernel file", NULL, NULL) || source.bytes < sizeof head ||
	    image_source_read(&source, 0, head, sizeof head, NULL) || !image_is_bzimage(head, sizeof head) ||
	    image_bzimage_parse(&bzimage, &source, NULL))
		return RIFFLE_COMPRESSION_NONE;
	return bzimage.compression;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Identifies the format of a kernel file by content and assembles the image from the readers' results. */
#include <elf.h>
#include <stdlib.h>

#include "prepare/image/internal.h"

#define HEAD_BYTES BZIMAGE_HEAD_BYTES /* enough for every signature */

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

/* Reads the relocation list from a separate file. */
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
 * How much of a tail is the list: a zero word may end it, if the last list is empty, but more zeros, or a partial word,
 * are padding. 0: only zeros.
 */
static uint64_t without_padding(const uint8_t *tail, uint64_t bytes)
{
	uint64_t end = bytes;

	while (end && !tail[end - 1])
		end--;
	if (!end)
		return 0;
	end = (end + 3) & ~UINT64_C(3);
	/* a truncated last word cannot end a list */
	return end > bytes || bytes - end == 4 ? bytes : end;
}

static bool all_zero(const uint8_t *bytes, uint64_t count)
{
	for (uint64_t i = 0; i < count; i++)
		if (bytes[i])
			return false;
	return true;
}

/*
 * Everything after the end of the ELF proper is a relocation list, which the kernel build appends before compressing,
 * and possibly padding before and after it. Without section headers the end of the ELF is unknown: sections that are
 * not loaded come first.
 */
static int relocs_from_tail(struct riffle_image *image, const struct elf *elf, const struct image_source *source,
			    struct riffle_error *error)
{
	uint64_t bytes = source->bytes - elf->end, start, end;
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
	bytes = without_padding(tail, bytes);
	if (!bytes)
		return 0;
	/* the last byte of an address of the kernel is not zero; what comes before need not be whole words */
	for (end = bytes; !elf->section_count && !tail[end - 1];)
		end--;
	start = image_relocs_find(image, tail, end);
	if (elf->section_count && !all_zero(tail, start))
		start = 0;
	if (start)
		bytes = end;
	if (!elf->section_count && !start && bytes >= 4 && riffle_get32(tail))
		return riffle_fail(error, RIFFLE_ERR_FORMAT, "relocation list",
				   "is not what the file ends with, and there are no section headers to tell what else "
				   "follows the segments");
	return image_relocs_from_list(image, tail + start, bytes - start, error);
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

/* The context for reading a kernel file. */
struct reading {
	int relocs_fd;
	struct sha256_ctx *digest;
	confine *unpacked;
};

/* An ELF, as a file or unpacked, which requires running no program. */
static int read_elf_confined(struct riffle_image *image, const struct image_source *source, const struct reading *r,
			     struct riffle_error *error)
{
	int status = r->unpacked ? r->unpacked(error) : 0;

	return status ? status : read_elf(image, source, r->relocs_fd, r->digest, error);
}

static int read_head(uint8_t head[HEAD_BYTES], const struct image_source *source, struct riffle_error *error)
{
	struct image_source probe = *source;

	memset(head, 0, HEAD_BYTES);
	probe.digest = NULL;
	return image_source_read(&probe, 0, head, source->bytes < HEAD_BYTES ? source->bytes : HEAD_BYTES, error);
}

static uint64_t head_bytes(const struct image_source *source)
{
	return source->bytes < HEAD_BYTES ? source->bytes : HEAD_BYTES;
}

/* A file compressed as a whole: it must contain an ELF; anything else is named in the error. */
static int read_compressed(struct riffle_image *image, const struct image_source *source, const struct reading *r,
			   enum riffle_compression compression, struct riffle_error *error)
{
	struct image_source content;
	uint8_t head[HEAD_BYTES];
	int status = r->unpacked ? r->unpacked(error) : 0;

	if (!status)
		status = image_unpack_file(image, &content, compression, source, error);
	if (!status)
		status = read_head(head, &content, error);
	if (status)
		return status;
	if (!memcmp(head, ELFMAG, SELFMAG))
		return read_elf(image, &content, r->relocs_fd, r->digest, error);
	if (image_is_bzimage(head, content.bytes))
		return riffle_fail(error, RIFFLE_ERR_UNSUPPORTED, "kernel file",
				   "is a bzImage that was compressed once more: unpack it first");
	return image_not_a_kernel(head, head_bytes(&content), NULL, error);
}

/* The kernel within a unified kernel image is read in place, as if it were a file. */
static int find_in_uki(struct uki *uki, struct image_source *source, struct riffle_error *error)
{
	int status = uki_read(uki, source->fd, source->bytes, error);

	if (status || !uki_is(uki) || uki->machine != UKI_MACHINE_X86_64)
		return status;
	source->start = uki->kernel.offset;
	source->bytes = uki->kernel.bytes;
	return 0;
}

static int read_content(struct riffle_image *image, struct image_source *source, const struct reading *r,
			struct riffle_error *error)
{
	enum riffle_compression compression;
	uint8_t head[HEAD_BYTES];
	struct uki uki = {0};
	int status = read_head(head, source, error);

	if (!status && !image_is_bzimage(head, source->bytes))
		status = find_in_uki(&uki, source, error);
	if (!status && source->start)
		status = read_head(head, source, error);
	if (status)
		return status;
	compression = image_compression_of_file(head, source->bytes);
	if (!memcmp(head, ELFMAG, SELFMAG))
		return read_elf_confined(image, source, r, error);
	if (image_is_bzimage(head, source->bytes) && r->relocs_fd >= 0)
		return riffle_fail(error, RIFFLE_ERR_ARGUMENT, "relocation file",
				   "was given, but a bzImage brings its own relocations");
	if (image_is_bzimage(head, source->bytes))
		return read_bzimage(image, source, r->unpacked, error);
	if (compression != RIFFLE_COMPRESSION_NONE)
		return read_compressed(image, source, r, compression, error);
	if (!memcmp(head, RIFFLE_MAGIC, sizeof RIFFLE_MAGIC - 1))
		return riffle_fail(error, RIFFLE_ERR_ARGUMENT, "kernel file", "is a prepared kernel already");
	return image_not_a_kernel(head, head_bytes(source), &uki, error);
}

static int read_kernel(struct riffle_image *image, int kernel_fd, int relocs_fd, confine *unpacked,
		       struct riffle_error *error)
{
	struct sha256_ctx digest;
	const struct reading reading = {relocs_fd, &digest, unpacked};
	struct image_source source;
	int status;

	sha256_init(&digest);
	status = image_source_open(&source, kernel_fd, "kernel file", &digest, error);
	if (!status)
		status = read_content(image, &source, &reading, error);
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
		return riffle_fail(error, RIFFLE_ERR_MEMORY, "memory", "cannot be allocated");
	status = read_kernel(new, kernel_fd, relocs_fd, unpacked, error);
	if (status)
		riffle_image_close(new);
	else
		*image = new;
	return status;
}

enum riffle_compression riffle_image_peek_compression(int kernel_fd)
{
	struct image_source source;
	uint8_t head[HEAD_BYTES];
	struct bzimage bzimage;
	struct uki uki;

	if (image_source_open(&source, kernel_fd, "kernel file", NULL, NULL) || read_head(head, &source, NULL))
		return RIFFLE_COMPRESSION_NONE;
	if (!image_is_bzimage(head, source.bytes) &&
	    (find_in_uki(&uki, &source, NULL) || read_head(head, &source, NULL)))
		return RIFFLE_COMPRESSION_NONE;
	if (!image_is_bzimage(head, source.bytes) || image_bzimage_parse(&bzimage, &source, NULL))
		return RIFFLE_COMPRESSION_NONE;
	return bzimage.compression;
}

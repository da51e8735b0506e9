/* SPDX-License-Identifier: Apache-2.0 */
/* Reads a bzImage: checks the setup header's numbers against the file, and unpacks the payload. */
#include <elf.h>

#include "prepare/image/internal.h"

/* Documentation/arch/x86/boot.rst, "The Real-Mode Kernel Header" */
#define SETUP_SECTS 0x1f1u
#define SYSSIZE 0x1f4u
#define BOOT_FLAG 0x1feu
#define JUMP_LENGTH 0x201u
#define HEADER_MAGIC 0x202u
#define PROTOCOL_VERSION 0x206u
#define KERNEL_VERSION 0x20eu
#define LOADFLAGS 0x211u
#define KERNEL_ALIGNMENT 0x230u
#define XLOADFLAGS 0x236u
#define PAYLOAD_OFFSET 0x248u
#define PAYLOAD_LENGTH 0x24cu
#define INIT_SIZE 0x260u

#define PROTOCOL_WITH_XLOADFLAGS 0x20cu
#define LOADED_HIGH 1u
#define XLF_KERNEL_64 1u
#define SECTOR 512u
#define SETUP_SECTS_DEFAULT 4u

static enum riffle_compression compression_of(const uint8_t *p)
{
	static const struct {
		uint8_t magic[4];
		unsigned bytes;
		enum riffle_compression compression;
	} known[] = {
	    /* lib/decompress.c of the kernel */
	    {{0x1f, 0x8b}, 2, RIFFLE_COMPRESSION_GZIP},
	    {{0x1f, 0x9e}, 2, RIFFLE_COMPRESSION_GZIP},
	    {{'B', 'Z', 'h'}, 3, RIFFLE_COMPRESSION_BZIP2},
	    {{0x5d, 0x00, 0x00}, 3, RIFFLE_COMPRESSION_LZMA},
	    {{0xfd, '7', 'z', 'X'}, 4, RIFFLE_COMPRESSION_XZ},
	    {{0x89, 'L', 'Z', 'O'}, 4, RIFFLE_COMPRESSION_LZO},
	    {{0x02, 0x21, 0x4c, 0x18}, 4, RIFFLE_COMPRESSION_LZ4},
	    {{0x28, 0xb5, 0x2f, 0xfd}, 4, RIFFLE_COMPRESSION_ZSTD},
	};
	size_t i;

	for (i = 0; i < sizeof known / sizeof *known; i++)
		if (!memcmp(p, known[i].magic, known[i].bytes))
			return known[i].compression;
	return RIFFLE_COMPRESSION_NONE;
}

bool image_is_bzimage(const uint8_t *head, uint64_t bytes)
{
	return bytes >= HEADER_MAGIC + 4 && riffle_get16(head + BOOT_FLAG) == 0xaa55 &&
	       !memcmp(head + HEADER_MAGIC, "HdrS", 4);
}

/* Checks the kind of kernel that the header announces. */
static int check_kind(const uint8_t *head, struct riffle_error *error)
{
	if (riffle_get16(head + PROTOCOL_VERSION) < PROTOCOL_WITH_XLOADFLAGS)
		return riffle_fail_expected_as(error, RIFFLE_ERR_UNSUPPORTED, RIFFLE_SHOW_VERSION, "boot protocol",
					       "is too old", riffle_get16(head + PROTOCOL_VERSION),
					       PROTOCOL_WITH_XLOADFLAGS);
	if (!(head[LOADFLAGS] & LOADED_HIGH))
		return riffle_fail(error, RIFFLE_ERR_UNSUPPORTED, "loadflags", "are those of a zImage");
	if (!(riffle_get16(head + XLOADFLAGS) & XLF_KERNEL_64))
		return riffle_fail_found_as(error, RIFFLE_ERR_UNSUPPORTED, RIFFLE_SHOW_HEX, "xloadflags",
					    "are those of a kernel without a 64-bit entry, such as one for i386",
					    riffle_get16(head + XLOADFLAGS));
	return 0;
}

/* Checks the parts' bounds from the header. */
static int check_bounds(struct bzimage *b, const uint8_t *head, uint64_t file_bytes, struct riffle_error *error)
{
	uint64_t sectors = head[SETUP_SECTS] ? head[SETUP_SECTS] : SETUP_SECTS_DEFAULT;
	uint64_t system_bytes = (uint64_t)riffle_get32(head + SYSSIZE) * 16;
	uint32_t version = riffle_get16(head + KERNEL_VERSION);

	b->setup_bytes = (sectors + 1) * SECTOR;
	b->header_end = HEADER_MAGIC + head[JUMP_LENGTH];
	if (b->header_end < INIT_SIZE + 4)
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "setup header", "is too short", b->header_end,
					    INIT_SIZE + 4);
	if (b->setup_bytes > file_bytes)
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "setup_sects", "lead past the end of the file",
					    b->setup_bytes, file_bytes);
	/* it counts paragraphs: the last one may be incomplete */
	if (system_bytes > file_bytes - b->setup_bytes + 15)
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "syssize", "leads past the end of the file",
					    b->setup_bytes + system_bytes, file_bytes);
	b->payload_offset = b->setup_bytes + riffle_get32(head + PAYLOAD_OFFSET);
	b->payload_bytes = riffle_get32(head + PAYLOAD_LENGTH);
	if (b->payload_offset > file_bytes)
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "payload_offset",
					    "leads past the end of the file", b->payload_offset, file_bytes);
	if (b->payload_bytes > file_bytes - b->payload_offset)
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "payload_length",
					    "leads past the end of the file", b->payload_bytes,
					    file_bytes - b->payload_offset);
	if (b->payload_bytes < 16)
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "payload_length", "leaves no payload",
					    b->payload_bytes, 16);
	/* the pointer is relative to 0x200; 0 means no version string */
	if (version && version + 0x200 < b->setup_bytes)
		b->version_offset = version + 0x200;
	return 0;
}

int image_bzimage_parse(struct bzimage *b, const struct image_source *source, struct riffle_error *error)
{
	uint8_t head[BZIMAGE_HEAD_BYTES], magic[8];
	int status;

	memset(b, 0, sizeof *b);
	if (source->bytes < sizeof head)
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "setup header", "is cut off", source->bytes,
					    sizeof head);
	status = image_source_read(source, 0, head, sizeof head, error);
	if (!status)
		status = check_kind(head, error);
	if (!status)
		status = check_bounds(b, head, source->bytes, error);
	if (!status)
		status = image_source_read(source, b->payload_offset, magic, sizeof magic, error);
	if (status)
		return status;
	/* made by kernel/bootstrap_image.c; the code before the kernel in such files is not Linux's bootstrap */
	if (!memcmp(magic, RIFFLE_MAGIC, sizeof magic))
		return riffle_fail(error, RIFFLE_ERR_UNSUPPORTED, "payload",
				   "is a kernel prepared with --bootstrap, behind riffle's own loader: riffle run "
				   "--boot=bootstrap boots it, all else is done with the file it was made of");
	b->compression = compression_of(magic);
	b->init_size = riffle_get32(head + INIT_SIZE);
	b->kernel_alignment = riffle_get32(head + KERNEL_ALIGNMENT);
	if (b->kernel_alignment < MIN_KERNEL_ALIGN || b->kernel_alignment > MAX_KERNEL_ALIGN ||
	    b->kernel_alignment & (b->kernel_alignment - 1))
		return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "kernel_alignment",
					 "is not a power of two from 2 to 16 MiB", b->kernel_alignment);
	return 0;
}

/* Linux for x86 has no such payload, but patched bootstraps do, which copy instead of decompressing. */
static bool is_stored(const uint8_t *payload)
{
	return !memcmp(payload, ELFMAG, SELFMAG);
}

/* The last word of the payload gives its unpacked size: gzip's own, or one appended by the kernel build. */
static int unpacked_size(uint64_t *size, const struct bzimage *b, const uint8_t *payload, struct riffle_error *error)
{
	*size = riffle_get32(payload + b->payload_bytes - 4);
	if (*size == 0)
		return riffle_fail(error, RIFFLE_ERR_FORMAT, "payload size word", "is 0");
	if (*size > b->init_size)
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "payload size word",
					    "is larger than init_size, the memory the kernel asks for", *size,
					    b->init_size);
	if (*size > GIB)
		return riffle_fail_expected(error, RIFFLE_ERR_UNSUPPORTED, "payload size word", "is larger than 1 GiB",
					    *size, GIB);
	return 0;
}

static int unpack(struct riffle_image *image, const struct bzimage *b, uint8_t *file, struct image_source *payload,
		  struct riffle_error *error)
{
	const uint8_t *packed = file + b->payload_offset;
	uint64_t packed_bytes = b->payload_bytes, size;
	uint8_t *unpacked;
	int status;

	if (b->compression == RIFFLE_COMPRESSION_NONE && !is_stored(packed))
		return riffle_fail_found_as(error, RIFFLE_ERR_UNSUPPORTED, RIFFLE_SHOW_HEX, "payload",
					    "is compressed in a way unknown here", riffle_get32(packed));
	status = unpacked_size(&size, b, packed, error);
	if (status)
		return status;
	if (b->compression != RIFFLE_COMPRESSION_GZIP)
		packed_bytes -= 4;
	unpacked = image_alloc(image, size + 1, error);
	if (!unpacked)
		return RIFFLE_ERR_MEMORY;
	status = image_decompress(b->compression, packed, (size_t)packed_bytes, unpacked, (size_t)size, error);
	if (status)
		return status;
	image->payload = packed;
	image->payload_bytes = packed_bytes;
	image->uncompressed = unpacked;
	image->uncompressed_bytes = size;
	image_source_from_memory(payload, unpacked, size);
	return 0;
}

int image_bzimage_read(struct riffle_image *image, struct image_source *payload, const struct image_source *source,
		       struct riffle_error *error)
{
	struct image_source copy;
	struct bzimage b;
	uint8_t *file;
	int status;

	if (source->bytes > GIB)
		return riffle_fail_expected(error, RIFFLE_ERR_UNSUPPORTED, "bzImage", "is larger than 1 GiB",
					    source->bytes, GIB);
	status = image_take(&file, image, source, 0, source->bytes, error);
	if (status)
		return status;
	image_source_from_memory(&copy, file, source->bytes);
	status = image_bzimage_parse(&b, &copy, error);
	if (!status)
		status = unpack(image, &b, file, payload, error);
	if (status)
		return status;
	image->compression = b.compression;
	image->has_setup_header = true;
	/* setup code follows the header's end: boot.rst tells loaders to copy no more */
	memcpy(image->setup_header, file + SETUP_SECTS,
	       b.header_end - SETUP_SECTS < sizeof image->setup_header ? b.header_end - SETUP_SECTS
								       : sizeof image->setup_header);
	image->init_size = b.init_size;
	image->kernel_alignment = b.kernel_alignment;
	if (b.version_offset)
		image_set_version(image, file + b.version_offset, b.setup_bytes - b.version_offset);
	return 0;
}

int riffle_image_unpack(const struct riffle_image *image, uint8_t *output, struct riffle_error *error)
{
	if (!image->payload)
		return riffle_fail(error, RIFFLE_ERR_ARGUMENT, "image", "has no compressed payload");
	return image_decompress(image->compression, image->payload, (size_t)image->payload_bytes, output,
				(size_t)image->uncompressed_bytes, error);
}

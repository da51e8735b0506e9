/* SPDX-License-Identifier: Apache-2.0 */
/* Unpacks a vmlinux that was compressed as a file, by gzip, xz or zstd, whose size only the decoder knows. */
#include <lzma.h>
#include <stdlib.h>
#include <zlib.h>
#include <zstd.h>

#include "prepare/image/internal.h"

#define SCRATCH_BYTES (256u << 10)

enum riffle_compression image_compression_of_file(const uint8_t *head, uint64_t bytes)
{
	if (bytes < 18)
		return RIFFLE_COMPRESSION_NONE;
	if (!memcmp(head, "\x1f\x8b\x08", 3))
		return RIFFLE_COMPRESSION_GZIP;
	if (!memcmp(head,
		    "\xfd"
		    "7zXZ\0",
		    6))
		return RIFFLE_COMPRESSION_XZ;
	if (!memcmp(head, "\x28\xb5\x2f\xfd", 4))
		return RIFFLE_COMPRESSION_ZSTD;
	return RIFFLE_COMPRESSION_NONE;
}

static int broken(struct riffle_error *error)
{
	return riffle_fail(error, RIFFLE_ERR_FORMAT, "kernel file", "is not what its compression allows");
}

static int no_memory(struct riffle_error *error)
{
	return riffle_fail(error, RIFFLE_ERR_MEMORY, "kernel file", "cannot be unpacked for lack of memory");
}

static int measure_gzip(uint64_t *size, const uint8_t *input, size_t bytes, uint8_t *scratch,
			struct riffle_error *error)
{
	z_stream z = {.next_in = (z_const Bytef *)input, .avail_in = (uInt)bytes};
	int rc = inflateInit2(&z, MAX_WBITS + 16);

	if (rc != Z_OK)
		return no_memory(error);
	while (rc == Z_OK && z.total_out <= GIB) {
		z.next_out = scratch;
		z.avail_out = SCRATCH_BYTES;
		rc = inflate(&z, Z_NO_FLUSH);
	}
	*size = z.total_out;
	inflateEnd(&z);
	return rc == Z_OK || rc == Z_STREAM_END ? 0 : broken(error);
}

static int measure_xz(uint64_t *size, const uint8_t *input, size_t bytes, uint8_t *scratch, struct riffle_error *error)
{
	lzma_stream s = LZMA_STREAM_INIT;
	lzma_ret rc = lzma_stream_decoder(&s, 512 * MIB, 0);

	if (rc != LZMA_OK)
		return no_memory(error);
	s.next_in = input;
	s.avail_in = bytes;
	while (rc == LZMA_OK && s.total_out <= GIB) {
		s.next_out = scratch;
		s.avail_out = SCRATCH_BYTES;
		rc = lzma_code(&s, LZMA_FINISH);
	}
	*size = s.total_out;
	lzma_end(&s);
	if (rc == LZMA_MEM_ERROR || rc == LZMA_MEMLIMIT_ERROR)
		return no_memory(error);
	return rc == LZMA_OK || rc == LZMA_STREAM_END ? 0 : broken(error);
}

static int measure_zstd(uint64_t *size, const uint8_t *input, size_t bytes, uint8_t *scratch,
			struct riffle_error *error)
{
	ZSTD_DStream *stream = ZSTD_createDStream();
	ZSTD_inBuffer in = {input, bytes, 0};
	size_t left = 1;

	*size = 0;
	if (!stream)
		return no_memory(error);
	while (left && !ZSTD_isError(left) && *size <= GIB) {
		ZSTD_outBuffer out = {scratch, SCRATCH_BYTES, 0};
		size_t before = in.pos;

		left = ZSTD_decompressStream(stream, &out, &in);
		*size += out.pos;
		if (!out.pos && in.pos == before)
			break;
	}
	ZSTD_freeDStream(stream);
	return left && *size <= GIB ? broken(error) : 0;
}

static int measure(uint64_t *size, enum riffle_compression compression, const uint8_t *input, size_t bytes,
		   struct riffle_error *error)
{
	uint8_t *scratch = malloc(SCRATCH_BYTES);
	int status;

	if (!scratch)
		return no_memory(error);
	if (compression == RIFFLE_COMPRESSION_GZIP)
		status = measure_gzip(size, input, bytes, scratch, error);
	else if (compression == RIFFLE_COMPRESSION_XZ)
		status = measure_xz(size, input, bytes, scratch, error);
	else
		status = measure_zstd(size, input, bytes, scratch, error);
	free(scratch);
	if (!status && !*size)
		return riffle_fail(error, RIFFLE_ERR_FORMAT, "kernel file", "unpacks to nothing");
	if (!status && *size > GIB)
		return riffle_fail_expected(error, RIFFLE_ERR_UNSUPPORTED, "kernel file", "unpacks to more than 1 GiB",
					    *size, GIB);
	return status;
}

int image_unpack_file(struct riffle_image *image, struct image_source *content, enum riffle_compression compression,
		      const struct image_source *source, struct riffle_error *error)
{
	uint8_t *packed, *unpacked;
	uint64_t size = 0;
	int status;

	if (source->bytes > GIB)
		return riffle_fail_expected(error, RIFFLE_ERR_UNSUPPORTED, "kernel file", "is larger than 1 GiB",
					    source->bytes, GIB);
	status = image_take(&packed, image, source, 0, source->bytes, error);
	if (!status)
		status = measure(&size, compression, packed, (size_t)source->bytes, error);
	if (status)
		return status;
	unpacked = image_alloc(image, size + 1, error);
	if (!unpacked)
		return RIFFLE_ERR_MEMORY;
	status = image_decompress(compression, packed, (size_t)source->bytes, unpacked, (size_t)size, error);
	if (status)
		return status;
	image->compression = compression;
	image_source_from_memory(content, unpacked, size);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Unpacks a kernel's payload into exactly the size that its size word gives: neither more nor less is accepted. */
#include <bzlib.h>
#include <lz4.h>
#include <lzma.h>
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "prepare/image/internal.h"

/* the memory limit of a decoder: xz's largest preset needs 65 MiB, a kernel build since 6.15 needs 128 MiB */
#define LZMA_MEMORY_MAX (512 * MIB)

/* Documentation of lz4: the legacy frame, blocks of 8 MiB, each with its compressed length before it */
#define LZ4_LEGACY_MAGIC 0x184c2102u
#define LZ4_LEGACY_BLOCK (8u << 20)

static int broken(struct riffle_error *error)
{
	return riffle_fail(error, RIFFLE_ERR_FORMAT, "payload", "is not what its compression allows");
}

static int trailing(struct riffle_error *error, uint64_t bytes)
{
	return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "payload", "continues after the end of its compressed data",
				 bytes);
}

/* The common end of every decoder: `produced` counts up to output_bytes + 1. */
static int check_size(uint64_t produced, uint64_t output_bytes, struct riffle_error *error)
{
	if (produced > output_bytes)
		return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "payload size word",
					 "is smaller than what the payload unpacks to", output_bytes);
	if (produced < output_bytes)
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "payload size word",
					    "is larger than what the payload unpacks to", output_bytes, produced);
	return 0;
}

static int gunzip(const uint8_t *input, size_t input_bytes, uint8_t *output, size_t output_bytes,
		  struct riffle_error *error)
{
	z_stream z = {.next_in = (z_const Bytef *)input,
		      .avail_in = (uInt)input_bytes,
		      .next_out = output,
		      .avail_out = (uInt)output_bytes + 1};
	int rc, status;

	rc = inflateInit2(&z, MAX_WBITS + 16);
	if (rc == Z_MEM_ERROR)
		return riffle_fail(error, RIFFLE_ERR_MEMORY, "gzip", "has no memory to work in");
	if (rc != Z_OK)
		return broken(error);
	rc = inflate(&z, Z_FINISH);
	if (rc == Z_MEM_ERROR)
		status = riffle_fail(error, RIFFLE_ERR_MEMORY, "gzip", "has no memory to work in");
	else if (rc != Z_STREAM_END && z.total_out <= output_bytes)
		status = broken(error);
	else
		status = check_size(z.total_out, output_bytes, error);
	if (!status && z.avail_in)
		status = trailing(error, z.avail_in);
	inflateEnd(&z);
	return status;
}

static int bunzip2(const uint8_t *input, size_t input_bytes, uint8_t *output, size_t output_bytes,
		   struct riffle_error *error)
{
	bz_stream b = {.next_in = (char *)(uintptr_t)input,
		       .avail_in = (unsigned)input_bytes,
		       .next_out = (char *)output,
		       .avail_out = (unsigned)output_bytes + 1};
	uint64_t produced;
	int rc, status;

	if (BZ2_bzDecompressInit(&b, 0, 0) != BZ_OK)
		return riffle_fail(error, RIFFLE_ERR_MEMORY, "bzip2", "has no memory to work in");
	rc = BZ2_bzDecompress(&b);
	produced = output_bytes + 1 - b.avail_out;
	if (rc == BZ_MEM_ERROR)
		status = riffle_fail(error, RIFFLE_ERR_MEMORY, "bzip2", "has no memory to work in");
	else if (rc != BZ_STREAM_END && produced <= output_bytes)
		status = broken(error);
	else
		status = check_size(produced, output_bytes, error);
	if (!status && b.avail_in)
		status = trailing(error, b.avail_in);
	BZ2_bzDecompressEnd(&b);
	return status;
}

static int unlzma(bool xz, const uint8_t *input, size_t input_bytes, uint8_t *output, size_t output_bytes,
		  struct riffle_error *error)
{
	lzma_stream s = LZMA_STREAM_INIT;
	lzma_ret rc;
	int status;

	rc = xz ? lzma_stream_decoder(&s, LZMA_MEMORY_MAX, 0) : lzma_alone_decoder(&s, LZMA_MEMORY_MAX);
	if (rc != LZMA_OK)
		return riffle_fail(error, RIFFLE_ERR_MEMORY, "lzma", "has no memory to work in");
	s.next_in = input;
	s.avail_in = input_bytes;
	s.next_out = output;
	s.avail_out = output_bytes + 1;
	/* a truncated stream returns OK for the call that takes its last byte, and BUF_ERROR for the next */
	do
		rc = lzma_code(&s, LZMA_FINISH);
	while (rc == LZMA_OK && s.avail_out);
	if (rc == LZMA_MEM_ERROR)
		status = riffle_fail(error, RIFFLE_ERR_MEMORY, "lzma", "has no memory to work in");
	else if (rc == LZMA_MEMLIMIT_ERROR)
		status = riffle_fail_expected(error, RIFFLE_ERR_UNSUPPORTED, "lzma dictionary",
					      "needs more memory than is granted", lzma_memusage(&s), LZMA_MEMORY_MAX);
	else if (rc != LZMA_STREAM_END && s.total_out <= output_bytes)
		status = broken(error);
	else
		status = check_size(s.total_out, output_bytes, error);
	if (!status && s.avail_in)
		status = trailing(error, s.avail_in);
	lzma_end(&s);
	return status;
}

static int unlz4(const uint8_t *input, size_t input_bytes, uint8_t *output, size_t output_bytes,
		 struct riffle_error *error)
{
	size_t in = 0, out = 0;

	while (in < input_bytes) {
		size_t room = output_bytes + 1 - out;
		uint32_t block;
		int n;

		if (input_bytes - in < 4)
			return trailing(error, input_bytes - in);
		block = riffle_get32(input + in);
		in += 4;
		if (block == LZ4_LEGACY_MAGIC) /* a frame may follow a frame */
			continue;
		if (!block || block > (uint32_t)LZ4_compressBound(LZ4_LEGACY_BLOCK) || block > input_bytes - in)
			return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "lz4 block", "has an impossible length",
						    block, input_bytes - in);
		if (room > LZ4_LEGACY_BLOCK)
			room = LZ4_LEGACY_BLOCK;
		n = LZ4_decompress_safe((const char *)input + in, (char *)output + out, (int)block, (int)room);
		if (n < 0 &&
		    room < LZ4_LEGACY_BLOCK) /* too little room, or corrupt: the decoder does not distinguish these */
			return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "payload",
						 "is broken or unpacks to more than its size word says", output_bytes);
		if (n < 0)
			return broken(error);
		out += (size_t)n;
		in += block;
		if (out > output_bytes)
			break;
	}
	return check_size(out, output_bytes, error);
}

/* In one call: no window is allocated, and consecutive frames are treated as one. */
static int unzstd(const uint8_t *input, size_t input_bytes, uint8_t *output, size_t output_bytes,
		  struct riffle_error *error)
{
	size_t n = ZSTD_decompress(output, output_bytes + 1, input, input_bytes);

	if (!ZSTD_isError(n))
		return check_size(n, output_bytes, error);
	switch (ZSTD_getErrorCode(n)) {
	case ZSTD_error_dstSize_tooSmall:
		return check_size((uint64_t)output_bytes + 1, output_bytes, error);
	case ZSTD_error_memory_allocation:
		return riffle_fail(error, RIFFLE_ERR_MEMORY, "zstd", "has no memory to work in");
	default:
		return broken(error);
	}
}

static int copy(const uint8_t *input, size_t input_bytes, uint8_t *output, size_t output_bytes,
		struct riffle_error *error)
{
	int status = check_size(input_bytes, output_bytes, error);

	if (!status)
		memcpy(output, input, output_bytes);
	return status;
}

int image_decompress(enum riffle_compression compression, const uint8_t *input, size_t input_bytes, uint8_t *output,
		     size_t output_bytes, struct riffle_error *error)
{
	size_t produced;
	int status;

	/* the decoders use 32-bit counts, sometimes signed */
	if (input_bytes > GIB || output_bytes > GIB)
		return riffle_fail_expected(error, RIFFLE_ERR_UNSUPPORTED, "payload", "is too large",
					    input_bytes > output_bytes ? input_bytes : output_bytes, GIB);
	switch (compression) {
	case RIFFLE_COMPRESSION_GZIP:
		return gunzip(input, input_bytes, output, output_bytes, error);
	case RIFFLE_COMPRESSION_BZIP2:
		return bunzip2(input, input_bytes, output, output_bytes, error);
	case RIFFLE_COMPRESSION_LZMA:
		return unlzma(false, input, input_bytes, output, output_bytes, error);
	case RIFFLE_COMPRESSION_XZ:
		return unlzma(true, input, input_bytes, output, output_bytes, error);
	case RIFFLE_COMPRESSION_LZO:
		status = image_decompress_lzo(input, input_bytes, output, output_bytes, &produced, error);
		return status ? status : check_size(produced, output_bytes, error);
	case RIFFLE_COMPRESSION_LZ4:
		return unlz4(input, input_bytes, output, output_bytes, error);
	case RIFFLE_COMPRESSION_ZSTD:
		return unzstd(input, input_bytes, output, output_bytes, error);
	case RIFFLE_COMPRESSION_NONE:
		return copy(input, input_bytes, output, output_bytes, error);
	}
	return riffle_fail(error, RIFFLE_ERR_UNSUPPORTED, "payload", "is compressed in a way unknown here");
}

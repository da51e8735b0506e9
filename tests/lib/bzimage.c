/* SPDX-License-Identifier: Apache-2.0 */
/* bzImages around small kernels, compressed as the kernel's build does (scripts/Makefile.lib). */
#include <bzlib.h>
#include <lz4.h>
#include <lz4hc.h>
#include <lzma.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include "tests/lib/kernels.h"

static size_t pack_gzip(uint8_t *to, size_t room, const void *from, size_t bytes)
{
	z_stream z = {
	    .next_in = (z_const Bytef *)from, .avail_in = (uInt)bytes, .next_out = to, .avail_out = (uInt)room};

	if (deflateInit2(&z, 9, Z_DEFLATED, MAX_WBITS + 16, 8, Z_DEFAULT_STRATEGY) != Z_OK ||
	    deflate(&z, Z_FINISH) != Z_STREAM_END)
		abort();
	deflateEnd(&z);
	return z.total_out;
}

static size_t pack_bzip2(uint8_t *to, size_t room, const void *from, size_t bytes)
{
	unsigned n = (unsigned)room;

	if (BZ2_bzBuffToBuffCompress((char *)to, &n, (char *)(uintptr_t)from, (unsigned)bytes, 9, 0, 0) != BZ_OK)
		abort();
	return n;
}

static size_t pack_lzma(uint8_t *to, size_t room, const void *from, size_t bytes, bool xz)
{
	lzma_stream s = LZMA_STREAM_INIT;
	lzma_options_lzma options, second;
	lzma_filter filters[] = {{LZMA_FILTER_X86, NULL}, {LZMA_FILTER_LZMA2, &second}, {LZMA_VLI_UNKNOWN, NULL}};

	lzma_lzma_preset(&options, 6);
	lzma_lzma_preset(&second, 6);
	options.dict_size = second.dict_size = 1u << 20;
	if ((xz ? lzma_stream_encoder(&s, filters, LZMA_CHECK_CRC32) : lzma_alone_encoder(&s, &options)) != LZMA_OK)
		abort();
	s.next_in = from;
	s.avail_in = bytes;
	s.next_out = to;
	s.avail_out = room;
	if (lzma_code(&s, LZMA_FINISH) != LZMA_STREAM_END)
		abort();
	lzma_end(&s);
	return s.total_out;
}

/* the legacy frame: magic, then blocks of up to 8 MiB with their compressed length */
static size_t pack_lz4(uint8_t *to, size_t room, const uint8_t *from, size_t bytes)
{
	static const uint8_t magic[] = {0x02, 0x21, 0x4c, 0x18};
	size_t at = sizeof magic, done = 0;

	memcpy(to, magic, sizeof magic);
	while (done < bytes) {
		size_t part = bytes - done < (8u << 20) ? bytes - done : 8u << 20;
		int n =
		    LZ4_compress_HC((const char *)from + done, (char *)to + at + 4, (int)part, (int)(room - at - 4), 9);
		uint32_t length = (uint32_t)n;

		if (n <= 0)
			abort();
		memcpy(to + at, &length, 4);
		at += 4 + length;
		done += part;
	}
	return at;
}

static size_t pack_lzo(uint8_t *to, size_t room, const void *from, size_t bytes)
{
	char command[128];
	size_t n = 0;
	int in = test_file(from, bytes);
	FILE *out;

	lseek(in, 0, SEEK_SET);
	snprintf(command, sizeof command, "lzop -9 -c </proc/%d/fd/%d 2>/dev/null", (int)getpid(), in);
	out = popen(command, "r");
	if (out) {
		n = fread(to, 1, room, out);
		if (pclose(out) != 0)
			n = 0;
	}
	close(in);
	return n;
}

bool test_compress(struct test_bytes *packed, enum riffle_compression compression, const void *content,
		   size_t content_bytes)
{
	size_t room = 2 * content_bytes + 65536, n = 0;
	uint8_t *to = malloc(room);
	uint32_t word = (uint32_t)content_bytes;

	if (!to)
		abort();
	switch (compression) {
	case RIFFLE_COMPRESSION_GZIP:
		n = pack_gzip(to, room, content, content_bytes);
		break;
	case RIFFLE_COMPRESSION_BZIP2:
		n = pack_bzip2(to, room, content, content_bytes);
		break;
	case RIFFLE_COMPRESSION_LZMA:
	case RIFFLE_COMPRESSION_XZ:
		n = pack_lzma(to, room, content, content_bytes, compression == RIFFLE_COMPRESSION_XZ);
		break;
	case RIFFLE_COMPRESSION_LZO:
		n = pack_lzo(to, room, content, content_bytes);
		break;
	case RIFFLE_COMPRESSION_LZ4:
		n = pack_lz4(to, room, content, content_bytes);
		break;
	case RIFFLE_COMPRESSION_ZSTD:
		n = ZSTD_compress(to, room, content, content_bytes, 6);
		if (ZSTD_isError(n))
			abort();
		break;
	case RIFFLE_COMPRESSION_NONE:
		memcpy(to, content, content_bytes);
		n = content_bytes;
		break;
	}
	test_bytes_add(packed, to, n);
	free(to);
	/* gzip's own last word is the size; to the others the kernel's build appends it */
	if (n && compression != RIFFLE_COMPRESSION_GZIP)
		test_bytes_add(packed, &word, 4);
	return n != 0;
}

static void put16(uint8_t *at, uint32_t value)
{
	memcpy(at, &value, 2);
}

static void put32(uint8_t *at, uint32_t value)
{
	memcpy(at, &value, 4);
}

void test_bzimage_wrap(struct test_bytes *bzimage, const struct test_bzimage_spec *spec, const void *payload,
		       size_t payload_bytes, uint64_t unpacked_bytes)
{
	static const char version[] = TEST_KERNEL_VERSION;
	size_t system_bytes = (TEST_BZIMAGE_PAYLOAD - TEST_BZIMAGE_PM + payload_bytes + 64 + 15) / 16 * 16;
	uint8_t *h;

	test_bytes_zero(bzimage, TEST_BZIMAGE_PM);
	h = bzimage->at;
	h[0x1f1] = 4; /* setup_sects */
	put32(h + 0x1f4, (uint32_t)(system_bytes / 16));
	put16(h + 0x1fe, 0xaa55);
	h[0x200] = 0xeb;
	h[0x201] = 0x6a; /* the header ends at 0x26c */
	memcpy(h + 0x202, "HdrS", 4);
	put16(h + 0x206, 0x20f);
	put16(h + 0x20e, 0x400); /* version string at 0x600 */
	h[0x211] = 1;            /* LOADED_HIGH */
	put32(h + 0x214, 0x100000);
	put32(h + 0x22c, 0x7fffffff);
	put32(h + 0x230, spec->kernel_alignment ? spec->kernel_alignment : 2u << 20);
	h[0x234] = 1;
	h[0x235] = 21;
	put16(h + 0x236, 0x7f); /* XLF_KERNEL_64 and friends */
	put32(h + 0x238, 2047);
	put32(h + 0x248, TEST_BZIMAGE_PAYLOAD - TEST_BZIMAGE_PM);
	put32(h + 0x24c, (uint32_t)payload_bytes);
	put32(h + 0x258, 16u << 20);
	put32(h + 0x260, spec->init_size ? spec->init_size : (uint32_t)unpacked_bytes + (1u << 20));
	memset(h + 0x26c, 0xcc, 16); /* code of the setup behind the header */
	memcpy(h + 0x600, version, sizeof version);
	test_bytes_zero(bzimage, TEST_BZIMAGE_PAYLOAD - TEST_BZIMAGE_PM);
	test_bytes_add(bzimage, payload, payload_bytes);
	test_bytes_zero(bzimage, TEST_BZIMAGE_PM + system_bytes - bzimage->count);
}

bool test_bzimage_build(struct test_bytes *bzimage, const struct test_bzimage_spec *spec, const void *content,
			size_t content_bytes)
{
	struct test_bytes packed = {0};
	bool made = test_compress(&packed, spec->compression, content, content_bytes);

	if (made)
		test_bzimage_wrap(bzimage, spec, packed.at, packed.count, content_bytes);
	test_bytes_free(&packed);
	return made;
}

bool test_bzimage_of(struct test_bytes *bzimage, const struct test_bzimage_spec *spec, const struct test_kernel *kernel)
{
	struct test_bytes content = {0};
	bool made;

	test_bytes_add(&content, kernel->elf.at, kernel->elf.count);
	test_bytes_add(&content, kernel->list.at, kernel->list.count);
	made = test_bzimage_build(bzimage, spec, content.at, content.count);
	test_bytes_free(&content);
	return made;
}

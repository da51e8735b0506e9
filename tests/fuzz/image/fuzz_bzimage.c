/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzzes bzImages: the setup header and each decompressor that is a library. */
#include <string.h>
#include <unistd.h>

#include "prepare/image/image.h"
#include "tests/fuzz/image/fuzz_image.h"
#include "tests/lib/kernels.h"

/* a payload may unpack to 1 GiB, but zeroing that much would take all of the fuzzer's time */
#define UNPACKED_MAX (4u << 20)

static uint32_t word(const uint8_t *at)
{
	uint32_t w;

	memcpy(&w, at, sizeof w);
	return w;
}

static uint32_t unpacked_bytes(const uint8_t *data, size_t bytes)
{
	uint64_t end;

	if (bytes < 0x264)
		return 0;
	end = ((uint64_t)(data[0x1f1] ? data[0x1f1] : 4) + 1) * 512 + word(data + 0x248) + word(data + 0x24c);
	return end < 4 || end > bytes ? 0 : word(data + end - 4);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	int fd;

	if (unpacked_bytes(data, bytes) > UNPACKED_MAX)
		return 0;
	fd = test_file(data, bytes);
	if (riffle_image_peek_compression(fd) == RIFFLE_COMPRESSION_LZO)
		close(fd); /* running an external decompressor for each input would fuzz that program, slowly */
	else
		fuzz_open(fd, -1);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzzes whole ELF files: headers, segments, sections, an appended list. */
#include "tests/fuzz/image/fuzz_image.h"
#include "tests/lib/kernels.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	fuzz_open(test_file(data, bytes), -1);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzzes relocation lists, of either format, with a good kernel. */
#include <unistd.h>

#include "tests/fuzz/image/fuzz_image.h"
#include "tests/lib/kernels.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	static struct test_kernel kernel;

	if (!kernel.elf.count) {
		struct test_kernel_spec spec = test_kernel_spec();

		spec.segment_bytes = 512;
		test_kernel_build(&kernel, &spec);
	}
	fuzz_open(test_file_of(&kernel.elf), test_file(data, bytes));
	return 0;
}

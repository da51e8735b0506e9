/* SPDX-License-Identifier: Apache-2.0 */
/* What the image room's fuzz targets share: opening an input, and what must hold of whatever was accepted. */
#ifndef RIFFLE_TESTS_FUZZ_IMAGE_H
#define RIFFLE_TESTS_FUZZ_IMAGE_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

/* Opens a kernel (and a list when relocs_fd is not -1), checks the result and closes all of it. */
void fuzz_open(int kernel_fd, int relocs_fd);

#endif

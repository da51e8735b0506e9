/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the fuzz targets of prepare/image: opening an input, and checking the invariants of an accepted one. */
#ifndef RIFFLE_TESTS_FUZZ_IMAGE_H
#define RIFFLE_TESTS_FUZZ_IMAGE_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

/* Opens a kernel (and a relocation list unless relocs_fd is -1), checks the result and closes everything. */
void fuzz_open(int kernel_fd, int relocs_fd);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* Between the files that build test kernels: where things lie in a segment. */
#ifndef RIFFLE_TESTS_LIB_KERNEL_PARTS_H
#define RIFFLE_TESTS_LIB_KERNEL_PARTS_H

#include "tests/lib/kernels.h"

/* The banner and the build-id note open .data; fields stand behind them in every segment. */
#define TEST_NOTE_AT 80u
#define TEST_NOTE_BYTES 36u
#define TEST_FIELD_AT(i) (128u + 32u * (i) + ((i)&7u))
/* free of relocated fields: here stand those whose .rela entries must not count */
#define TEST_SPARE_AT(i) (144u + 32u * (i))

/* Lays kernel->elf out from everything else in it. */
void test_kernel_write_elf(struct test_kernel *kernel);

#endif

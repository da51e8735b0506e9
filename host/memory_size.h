/* SPDX-License-Identifier: Apache-2.0 */
/* Parses a guest's memory size from the command line. */
#ifndef RIFFLE_HOST_MEMORY_SIZE_H
#define RIFFLE_HOST_MEMORY_SIZE_H

#include <stdint.h>

/*
 * A number of MiB, or with K, M or G after it: a multiple of 2 MiB up to 511 GiB. Returns NULL, or a static string that
 * says what is wrong with `text`; *bytes is then undefined.
 */
const char *memory_size_parse(const char *text, uint64_t *bytes);

#endif

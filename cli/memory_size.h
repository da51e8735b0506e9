/* SPDX-License-Identifier: Apache-2.0 */
/* How much memory a guest gets, as the command line says it. */
#ifndef RIFFLE_CLI_MEMORY_SIZE_H
#define RIFFLE_CLI_MEMORY_SIZE_H

#include <stdint.h>

/*
 * A number of MiB, or with K, M or G behind it: a multiple of 2 MiB up to 511 GiB. Returns NULL, or what is wrong with
 * `text`, as a static string; *bytes is then of no use.
 */
const char *memory_size_parse(const char *text, uint64_t *bytes);

#endif

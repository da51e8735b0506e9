/* SPDX-License-Identifier: Apache-2.0 */
/* Any JSON text as a value, with numbers of any size. */
#ifndef RIFFLE_API_MMDS_JSON_IN_H
#define RIFFLE_API_MMDS_JSON_IN_H

#include <jansson.h>

/* A new reference; NULL: not JSON, or no memory. Integers beyond 64 bits become reals. */
json_t *json_in_parse(const char *text, size_t bytes);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* JSON values as text, byte for byte as Rust's serde_json prints them: compact, keys sorted, shortest numbers. */
#ifndef RIFFLE_API_MMDS_JSON_OUT_H
#define RIFFLE_API_MMDS_JSON_OUT_H

#include <jansson.h>

#include "api/mmds/text.h"

void json_out_add(struct text *text, const json_t *value);

/* The keys of an object in the order of their bytes, `*count` of them; the caller frees the array. NULL: no memory. */
const char **json_out_sorted_keys(const json_t *object, size_t *count);

#endif

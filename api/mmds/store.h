/* SPDX-License-Identifier: Apache-2.0 */
/* The metadata that the host stores for its guest: one JSON value of limited size. */
#ifndef RIFFLE_API_MMDS_STORE_H
#define RIFFLE_API_MMDS_STORE_H

#include <jansson.h>

#include "api/mmds/status.h"
#include "api/mmds/text.h"

struct mmds_store {
	json_t *value; /* NULL: nothing has been stored yet */
	size_t limit;  /* in bytes of compact JSON */
};

void mmds_store_clear(struct mmds_store *store);

/* Takes its own reference. */
enum mmds_status mmds_store_put(struct mmds_store *store, json_t *value);
/* JSON Merge Patch, RFC 7396. */
enum mmds_status mmds_store_patch(struct mmds_store *store, const json_t *patch);

/* As compact JSON; what is not set or null is an empty object. */
enum mmds_status mmds_store_text(const struct mmds_store *store, struct text *text);

/*
 * The value at a path, which is a JSON pointer (RFC 6901) but may end in a slash and have several where one would do;
 * as JSON, or in EC2's IMDS format: for an object its sorted keys, one per line, those of objects with a slash; for a
 * string the string.
 */
enum mmds_status mmds_store_get(const struct mmds_store *store, const char *path, size_t length, bool as_json,
				struct text *text);

#endif

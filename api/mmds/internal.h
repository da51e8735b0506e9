/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the files of the metadata service. */
#ifndef RIFFLE_API_MMDS_INTERNAL_H
#define RIFFLE_API_MMDS_INTERNAL_H

#include "api/mmds/mmds.h"
#include "api/mmds/store.h"
#include "api/mmds/token.h"

struct mmds_stack;

struct mmds {
	struct mmds_store store;
	struct mmds_tokens tokens;
	struct mmds_config config;
	struct mmds_counters counters;
	struct mmds_stack *stacks;
	void (*changed)(void *opaque, const struct mmds_counters *counters);
	void *opaque;
	uint64_t (*now)(void); /* nanoseconds; loop_now() except in tests */
};

/*
 * Appends the response to a request's head, which ends with an empty line; a body of *body_bytes, which the service
 * ignores, follows in the stream. text->failed: no memory.
 */
void mmds_answer(struct mmds *mmds, const char *head, size_t bytes, struct text *text, uint32_t *body_bytes);

#endif

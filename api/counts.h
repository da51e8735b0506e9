/* SPDX-License-Identifier: Apache-2.0 */
/* Requests as metrics count them: by method and endpoint, those that were not understood, and how long some took. */
#ifndef RIFFLE_API_COUNTS_H
#define RIFFLE_API_COUNTS_H

#include "api/action.h"

/* A request was parsed, with success or not. */
void counts_request(const struct http_request *request, bool understood);

/* A moment, for the next two; microseconds. */
uint64_t counts_clock_us(void);
/* An action was answered, to the API's thread; was carried out, by the VMM's. Failures are no latencies. */
void counts_answered(enum action_kind kind, bool snapshot_is_diff, uint64_t begun_us, const struct reply *reply);
void counts_carried_out(enum action_kind kind, bool snapshot_is_diff, uint64_t begun_us, const struct reply *reply);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* Request metrics: by method and endpoint, invalid requests, and latencies. */
#ifndef RIFFLE_API_COUNTS_H
#define RIFFLE_API_COUNTS_H

#include "api/action.h"

/* A request was parsed, with success or not. */
void counts_request(const struct http_request *request, bool understood);

/* The time for the next two, in microseconds. */
uint64_t counts_clock_us(void);
/*
 * An action was answered, in the API thread; or carried out, in the VMM thread. Failures are not counted as latencies.
 */
void counts_answered(enum action_kind kind, bool snapshot_is_diff, uint64_t begun_us, const struct reply *reply);
void counts_carried_out(enum action_kind kind, bool snapshot_is_diff, uint64_t begun_us, const struct reply *reply);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* Console output: a ring that vCPUs fill without ever waiting and one thread writes out in batches. */
#ifndef RIFFLE_MONITOR_OUTPUT_H
#define RIFFLE_MONITOR_OUTPUT_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include <riffle/error.h>

#define OUTPUT_BYTES 16384u     /* power of two */
#define OUTPUT_BURST 16u        /* what a UART's driver sends without asking in between */

struct output {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	pthread_t thread;
	bool started;
	bool finish;                    /* write what is there, then end */
	bool abandon;                   /* end now */
	bool gone;                      /* the reader went away: everything is dropped from here on */
	bool full_seen;                 /* somebody was told that there is no room */
	int fd;
	unsigned kick_signal;
	uint32_t head, count;           /* first byte to write, bytes to write */
	uint64_t written;               /* bytes that left the ring: the sign of progress */
	void (*room_again)(void *opaque); /* called by the thread, without the lock, when a full ring has room again */
	void *opaque;
	uint8_t ring[OUTPUT_BYTES];
};

void output_init(struct output *output, int fd, void (*room_again)(void *opaque), void *opaque);
void output_destroy(struct output *output);

/* True when a burst fits. After false the caller hears by room_again(). Without a descriptor always true. */
bool output_has_room(struct output *output);

/* Takes one byte; drops it when the ring is full, as a UART does with a byte written too early. Never waits. */
void output_put(struct output *output, uint8_t byte);

/*
 * Starts the thread. `kick_signal` must have a handler that does nothing and no SA_RESTART, and must not be blocked in
 * the thread: it is how a write that nobody reads is interrupted. Errors: IO.
 */
int output_start(struct output *output, int kick_signal, struct riffle_error *error);

/*
 * Ends the thread after it wrote the rest. Waits as long as the reader makes progress, and then `patience_ms` more;
 * `*give_up` (may be NULL), when it turns true, cuts the patience to a fifth of a second.
 */
void output_stop(struct output *output, unsigned patience_ms, const _Atomic bool *give_up);

#endif

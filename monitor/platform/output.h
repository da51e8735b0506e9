/* SPDX-License-Identifier: Apache-2.0 */
/* Console output: a ring that vCPUs fill without waiting and that one thread writes out in batches. */
#ifndef RIFFLE_MONITOR_OUTPUT_H
#define RIFFLE_MONITOR_OUTPUT_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include <riffle/error.h>

#define OUTPUT_STREAM_BYTES (16u << 10)
#define OUTPUT_BURST 16u /* what a UART driver sends without polling in between */

/* Who reads the output, which decides what a full ring means. */
enum output_reader {
	OUTPUT_NOBODY,  /* everything is dropped */
	OUTPUT_STREAM,  /* one permanent descriptor: the guest waits for a slow reader, as on a slow line */
	OUTPUT_READERS, /* one connection after another (output_connect()); between them output is kept, and when the
			   ring is full the oldest is dropped. During a connection it is a stream. */
	OUTPUT_DEVICE,  /* a pseudo-terminal, which does not show whether anybody reads, or anything else that may lose
			   output: non-blocking; kept and dropped as between readers */
};

struct output {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	pthread_t thread;
	enum output_reader reader;
	bool started;
	bool confined;  /* the thread confines itself */
	bool finish;    /* write what is left, then end */
	bool abandon;   /* end now */
	bool gone;      /* the reader went away: everything is dropped from now on */
	bool writing;   /* the thread is in write(), without the lock */
	bool full_seen; /* a caller was told that there is no room */
	bool gone_told;
	int fd;         /* -1: no reader now */
	int retired_fd; /* to be closed by the thread, which is writing to it */
	int broken_fd;  /* the thread no longer writes to it; closed by output_disconnect() */
	int failed;     /* errno of a write that a file or device refused, 0: none */
	/* called by the thread, without the lock, when a full ring has room again, and when the reader has left */
	void (*room_again)(void *opaque);
	void (*reader_left)(void *opaque); /* the same, when a connection turns out to be broken */
	void (*finished)(void *opaque);    /* the same, once, after output_finish(): everything is written or dropped */
	void *opaque;
	uint32_t head, count, size; /* first byte to write, bytes to write; size is a power of two */
	uint64_t written;           /* bytes that left the ring, to detect progress */
	uint8_t *ring;
	uint8_t stream[OUTPUT_STREAM_BYTES]; /* the ring of OUTPUT_STREAM; its pages are touched when they are used */
};

/* The caller owns `fd`; -1 for OUTPUT_NOBODY and OUTPUT_READERS. Errors: MEMORY. */
int output_init(struct output *output, enum output_reader reader, int fd, struct riffle_error *error);
void output_destroy(struct output *output);

/* True if a burst fits. After false, room_again() will be called. */
bool output_has_room(struct output *output);

/*
 * Accept bytes; what does not fit is dropped, like a byte written to a UART too early. Never wait. False: it did not
 * fit; where nobody will ever read, everything does.
 */
bool output_put(struct output *output, uint8_t byte);

void output_write(struct output *output, const uint8_t *bytes, uint32_t count);
/* How many bytes fit now. After 0, room_again() will be called. If nobody reads any more, a large number. */
uint32_t output_room(struct output *output);
bool output_is_gone(struct output *output);

/*
 * Starts the thread, which confines itself if `confined`. KICK_SIGNAL (signals_take()) interrupts a write that nobody
 * reads. Errors: IO.
 */
int output_start(struct output *output, bool confined, struct riffle_error *error);

/* OUTPUT_READERS: gives the thread a connection to write to, and removes it again, which closes it. */
void output_connect(struct output *output, int fd);
void output_disconnect(struct output *output);
/* Whether the connection turned out to be broken and has not been removed yet. */
bool output_is_broken(struct output *output);

/*
 * Makes the thread end once it has written the rest; it then calls finished(). That may never happen if nobody reads or
 * a reader stalls; output_progress() changes as long as bytes are accepted. Neither waits.
 */
void output_finish(struct output *output);
uint64_t output_progress(struct output *output);
/* Whether the remaining output has a reader; unknown for a pseudo-terminal. */
bool output_has_reader(struct output *output);

/* Ends the thread at once, dropping what is left, and joins it. */
void output_stop(struct output *output);

/*
 * After the run: copies at most the last `bytes` bytes that OUTPUT_READERS kept for a reader that never came to `to`.
 * Returns how many.
 */
uint32_t output_kept(const struct output *output, uint8_t *to, uint32_t bytes);

/* After output_stop(): errno of the write that a file or device refused; 0 for none, and for a reader that went away.
 */
int output_failed(const struct output *output);

#endif

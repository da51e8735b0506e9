/* SPDX-License-Identifier: Apache-2.0 */
/* Console output: a ring that vCPUs fill without ever waiting and one thread writes out in batches. */
#ifndef RIFFLE_MONITOR_OUTPUT_H
#define RIFFLE_MONITOR_OUTPUT_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include <riffle/error.h>

#define OUTPUT_BURST 16u /* what a UART's driver sends without asking in between */

/* Who reads the output, which decides what a full ring means. */
enum output_reader {
	OUTPUT_NOBODY,  /* everything is dropped */
	OUTPUT_STREAM,  /* one descriptor for good: the guest waits for a slow reader, as on a slow line */
	OUTPUT_READERS, /* a connection after another (output_connect()); between them output is kept, and when
			   the ring is full the oldest of it is dropped. While there is one it is a stream. */
	OUTPUT_DEVICE,  /* a pseudo-terminal, which does not show whether anybody reads, or whatever may lose
			   output: non-blocking; kept and dropped as between readers */
};

struct output {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	pthread_t thread;
	enum output_reader reader;
	bool started;
	bool confined;  /* the thread confines itself */
	bool finish;    /* write what is there, then end */
	bool abandon;   /* end now */
	bool gone;      /* the reader went away: everything is dropped from here on */
	bool writing;   /* the thread is in write(), without the lock */
	bool full_seen; /* somebody was told that there is no room */
	bool gone_told;
	int fd;         /* -1: no reader now */
	int retired_fd; /* to be closed by the thread, which is writing to it */
	int broken_fd;  /* the thread writes no more to it; closed by output_disconnect() */
	int failed;     /* errno of a write that a file or device refused, 0: none */
	/* called by the thread, without the lock, when a full ring has room again, and when the reader has gone */
	void (*room_again)(void *opaque);
	void (*reader_left)(void *opaque); /* the same, when a connection turns out to be broken */
	void (*finished)(void *opaque);    /* the same, once, after output_finish(): everything is written or dropped */
	void *opaque;
	uint32_t head, count, size; /* first byte to write, bytes to write; size is a power of two */
	uint64_t written;           /* bytes that left the ring: the sign of progress */
	uint8_t *ring;
};

/* `fd` is the caller's; -1 for OUTPUT_NOBODY and OUTPUT_READERS. Errors: MEMORY. */
int output_init(struct output *output, enum output_reader reader, int fd, struct riffle_error *error);
void output_destroy(struct output *output);

/* True when a burst fits. After false the caller hears by room_again(). */
bool output_has_room(struct output *output);

/* Take bytes; what does not fit is dropped, as a UART does with a byte written too early. Never wait. */
void output_put(struct output *output, uint8_t byte);

void output_write(struct output *output, const uint8_t *bytes, uint32_t count);
/* How many bytes fit now. After 0 the caller hears by room_again(). When nobody reads any more, as many as ever. */
uint32_t output_room(struct output *output);
bool output_is_gone(struct output *output);

/*
 * Starts the thread, which confines itself if `confined`. KICK_SIGNAL (signals_take()) interrupts a write that nobody
 * reads. Errors: IO.
 */
int output_start(struct output *output, bool confined, struct riffle_error *error);

/* OUTPUT_READERS: gives the thread a connection to write to, and takes it away; it is closed then. */
void output_connect(struct output *output, int fd);
void output_disconnect(struct output *output);
/* Whether the connection turned out to be broken and was not taken away yet. */
bool output_is_broken(struct output *output);

/*
 * Has the thread end once it wrote the rest; it calls finished() then. It may never come to that: where nobody reads
 * now, or a reader stalls, which output_progress() shows: it changes as long as bytes are taken. Neither waits.
 */
void output_finish(struct output *output);
uint64_t output_progress(struct output *output);
/* Whether what is left has a reader; a pseudo-terminal's is not known. */
bool output_has_reader(struct output *output);

/* Ends the thread at once, whatever is left, and joins it. */
void output_stop(struct output *output);

/*
 * After the run: what OUTPUT_READERS has kept for a reader that never came, its last `bytes` bytes at most, copied to
 * `to`. Returns how many.
 */
uint32_t output_kept(const struct output *output, uint8_t *to, uint32_t bytes);

/* After output_stop(): errno of the write that a file or device refused; 0 for none, and for a reader that went away.
 */
int output_failed(const struct output *output);

#endif

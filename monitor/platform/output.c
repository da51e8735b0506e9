/* SPDX-License-Identifier: Apache-2.0 */
/* Console output: a ring that vCPUs fill without ever waiting and one thread writes out in batches. */
#include "monitor/platform/output.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>
#include <unistd.h>

#include "common/fail.h"
#include "monitor/core/thread.h"

#define GATHER_NS 1000000       /* how long the first byte of a batch waits for others */
#define SHORT_PATIENCE_MS 200u
#define STEP_MS 10u

void output_init(struct output *output, int fd, void (*room_again)(void *opaque), void *opaque)
{
	pthread_mutex_init(&output->lock, NULL);
	pthread_cond_init(&output->changed, NULL);
	output->fd = fd;
	output->gone = fd < 0;
	output->room_again = room_again;
	output->opaque = opaque;
	output->started = output->finish = output->abandon = output->full_seen = false;
	output->head = output->count = 0;
	output->written = 0;
}

void output_destroy(struct output *output)
{
	pthread_cond_destroy(&output->changed);
	pthread_mutex_destroy(&output->lock);
}

bool output_has_room(struct output *output)
{
	pthread_mutex_lock(&output->lock);
	bool room = output->gone || OUTPUT_BYTES - output->count >= OUTPUT_BURST;
	if (!room)
		output->full_seen = true;
	pthread_mutex_unlock(&output->lock);
	return room;
}

void output_put(struct output *output, uint8_t byte)
{
	pthread_mutex_lock(&output->lock);
	if (!output->gone && output->count < OUTPUT_BYTES) {
		output->ring[(output->head + output->count++) % OUTPUT_BYTES] = byte;
		if (output->count == 1 || output->count == OUTPUT_BYTES / 2)
			pthread_cond_signal(&output->changed);
	}
	pthread_mutex_unlock(&output->lock);
}

/* The descriptor may have been made non-blocking by whoever shares it. */
static void wait_writable(int fd)
{
	struct pollfd poll_fd = {.fd = fd, .events = POLLOUT};
	poll(&poll_fd, 1, 1000);
}

/* Called with the lock, which it leaves while it writes: producers only touch what is free. */
static void write_some(struct output *output)
{
	uint32_t head = output->head, bytes = output->count;
	if (bytes > OUTPUT_BYTES - head)
		bytes = OUTPUT_BYTES - head;
	pthread_mutex_unlock(&output->lock);
	ssize_t done = write(output->fd, output->ring + head, bytes);
	bool gone = false;
	if (done < 0) {
		if (errno == EAGAIN)
			wait_writable(output->fd);
		else if (errno != EINTR)
			gone = true;
		done = 0;
	}
	pthread_mutex_lock(&output->lock);
	output->head = (head + (uint32_t)done) % OUTPUT_BYTES;
	output->count -= (uint32_t)done;
	output->written += (uint64_t)done;
	if (gone) {
		output->gone = true;
		output->count = 0;
	}
}

/* Lets a batch gather: a guest that polls sends byte by byte, and a system call costs more than a byte. */
static void gather(struct output *output)
{
	struct timespec until;
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += GATHER_NS;
	if (until.tv_nsec >= 1000000000) {
		until.tv_nsec -= 1000000000;
		until.tv_sec++;
	}
	while (!output->finish && !output->abandon && output->count < OUTPUT_BYTES / 2)
		if (pthread_cond_clockwait(&output->changed, &output->lock, CLOCK_MONOTONIC, &until) == ETIMEDOUT)
			break;
}

static void *output_thread(void *argument)
{
	struct output *output = argument;
	thread_begin("console-out");
	pthread_mutex_lock(&output->lock);
	for (;;) {
		while (!output->count && !output->finish && !output->abandon)
			pthread_cond_wait(&output->changed, &output->lock);
		if (output->abandon || !output->count)
			break;
		gather(output);
		write_some(output);
		if (output->full_seen && (output->gone || OUTPUT_BYTES - output->count >= OUTPUT_BYTES / 2)) {
			output->full_seen = false;
			pthread_mutex_unlock(&output->lock);
			output->room_again(output->opaque);
			pthread_mutex_lock(&output->lock);
		}
	}
	output->gone = true; /* nobody writes any more */
	pthread_mutex_unlock(&output->lock);
	return NULL;
}

int output_start(struct output *output, int kick_signal, struct riffle_error *error)
{
	if (output->fd < 0)
		return 0;
	output->kick_signal = (unsigned)kick_signal;
	int status = thread_start(&output->thread, output_thread, output, error);
	output->started = !status;
	return status;
}

static void pause_ms(unsigned ms)
{
	nanosleep(&(struct timespec){.tv_nsec = (long)ms * 1000000}, NULL);
}

/* The lock is held. Returns when the ring is empty, the reader gone, or the patience over. */
static void wait_drained(struct output *output, unsigned patience_ms, const _Atomic bool *give_up)
{
	uint64_t written = output->written;
	for (unsigned waited = 0, limit = patience_ms; output->count && !output->gone && waited < limit;) {
		pthread_mutex_unlock(&output->lock);
		pause_ms(waited < STEP_MS ? 1 : STEP_MS);
		pthread_mutex_lock(&output->lock);
		waited += waited < STEP_MS ? 1 : STEP_MS;
		if (output->written != written) {
			written = output->written;
			waited = 0;
		}
		if (give_up && *give_up && limit > SHORT_PATIENCE_MS)
			limit = SHORT_PATIENCE_MS;
	}
}

void output_stop(struct output *output, unsigned patience_ms, const _Atomic bool *give_up)
{
	if (!output->started)
		return;
	pthread_mutex_lock(&output->lock);
	output->finish = true;
	pthread_cond_signal(&output->changed);
	wait_drained(output, patience_ms, give_up);
	output->abandon = true;
	pthread_cond_signal(&output->changed);
	pthread_mutex_unlock(&output->lock);
	/* A kick that comes just before the write goes lost, hence more than one. */
	while (pthread_tryjoin_np(output->thread, NULL) == EBUSY) {
		pthread_kill(output->thread, (int)output->kick_signal);
		pause_ms(1);
	}
	output->started = false;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Console output: a ring that vCPUs fill without waiting and that one thread writes out in batches. */
#include "monitor/platform/output.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "common/fail.h"
#include "monitor/confine/confine.h"
#include "monitor/core/thread.h"

#define KEPT_BYTES (1u << 20)
#define GATHER_NS 1000000 /* how long the first byte of a batch waits for more */

int output_init(struct output *output, enum output_reader reader, int fd, struct riffle_error *error)
{
	memset(output, 0, offsetof(struct output, stream));
	output->reader = reader;
	output->fd = fd;
	output->retired_fd = output->broken_fd = -1;
	output->gone = reader == OUTPUT_NOBODY;
	pthread_mutex_init(&output->lock, NULL);
	pthread_cond_init(&output->changed, NULL);
	if (output->gone)
		return 0;
	if (reader == OUTPUT_STREAM) {
		output->size = sizeof output->stream;
		output->ring = output->stream;
		return 0;
	}
	output->size = KEPT_BYTES;
	/* untouched pages of a large ring cost nothing */
	void *ring = mmap(NULL, output->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (ring == MAP_FAILED)
		return riffle_fail(error, RIFFLE_ERR_MEMORY, "console output", "out of memory");
	output->ring = ring;
	return 0;
}

void output_destroy(struct output *output)
{
	if (output->reader == OUTPUT_READERS && output->fd >= 0)
		close(output->fd);
	if (output->broken_fd >= 0)
		close(output->broken_fd);
	if (output->ring && output->ring != output->stream)
		munmap(output->ring, output->size);
	output->ring = NULL;
	pthread_cond_destroy(&output->changed);
	pthread_mutex_destroy(&output->lock);
}

/* Whether new bytes replace the oldest; not while those are being written. */
static bool drops_oldest(const struct output *output)
{
	return !output->writing &&
	       (output->reader == OUTPUT_DEVICE || (output->reader == OUTPUT_READERS && output->fd < 0));
}

bool output_has_room(struct output *output)
{
	pthread_mutex_lock(&output->lock);
	bool room = output->gone || output->size - output->count >= OUTPUT_BURST || drops_oldest(output);

	if (!room)
		output->full_seen = true;
	pthread_mutex_unlock(&output->lock);
	return room;
}

bool output_put(struct output *output, uint8_t byte)
{
	bool lost = false;

	pthread_mutex_lock(&output->lock);
	if (!output->gone && output->count == output->size && drops_oldest(output)) {
		output->head = (output->head + 1) % output->size;
		output->count--;
	}
	if (!output->gone && output->count < output->size) {
		output->ring[(output->head + output->count++) % output->size] = byte;
		if (output->count == 1 || output->count == OUTPUT_STREAM_BYTES / 2)
			pthread_cond_signal(&output->changed);
	} else {
		lost = !output->gone;
	}
	pthread_mutex_unlock(&output->lock);
	return !lost;
}

void output_write(struct output *output, const uint8_t *bytes, uint32_t count)
{
	pthread_mutex_lock(&output->lock);
	uint32_t room = output->size - output->count;

	if (output->gone)
		count = 0;
	if (count > room)
		count = room;
	for (uint32_t i = 0; i < count; i++)
		output->ring[(output->head + output->count + i) % output->size] = bytes[i];
	output->count += count;
	if (count && (output->count == count || output->count >= OUTPUT_STREAM_BYTES / 2))
		pthread_cond_signal(&output->changed);
	pthread_mutex_unlock(&output->lock);
}

uint32_t output_room(struct output *output)
{
	pthread_mutex_lock(&output->lock);
	uint32_t room = output->gone ? OUTPUT_STREAM_BYTES : output->size - output->count;

	if (!room)
		output->full_seen = true;
	pthread_mutex_unlock(&output->lock);
	return room;
}

bool output_is_gone(struct output *output)
{
	pthread_mutex_lock(&output->lock);
	bool gone = output->gone;

	pthread_mutex_unlock(&output->lock);
	return gone;
}

uint32_t output_kept(const struct output *output, uint8_t *to, uint32_t bytes)
{
	uint32_t count = output->count < bytes ? output->count : bytes;

	for (uint32_t i = 0; i < count; i++)
		to[i] = output->ring[(output->head + output->count - count + i) % output->size];
	return count;
}

/* The descriptor may be non-blocking, set here or by another process that shares it. */
static void wait_writable(int fd)
{
	struct pollfd poll_fd = {.fd = fd, .events = POLLOUT};

	poll(&poll_fd, 1, 1000);
}

/* The lock is held. */
static void close_retired(struct output *output)
{
	if (output->retired_fd >= 0)
		close(output->retired_fd);
	output->retired_fd = -1;
}

/* The lock is held. `problem` is the errno of a write that will never succeed. Returns whether a reader left. */
static bool writing_failed(struct output *output, int fd, int problem)
{
	if (output->reader == OUTPUT_READERS) {
		bool left = output->fd == fd;

		if (left) {
			output->fd = -1;
			output->broken_fd = fd; /* still watched for input */
		}
		return left;
	}
	output->gone = true;
	output->count = 0;
	if (problem != EPIPE && problem != ECONNRESET)
		output->failed = problem;
	return false;
}

/* Called with the lock held, and releases it while writing: producers only touch free space. */
static void write_some(struct output *output)
{
	uint32_t head = output->head, bytes = output->count;
	int fd = output->fd, problem = 0;

	if (bytes > output->size - head)
		bytes = output->size - head;
	output->writing = true;
	pthread_mutex_unlock(&output->lock);
	ssize_t done = write(fd, output->ring + head, bytes);

	if (done < 0) {
		problem = errno;
		done = 0;
	}
	pthread_mutex_lock(&output->lock);
	output->writing = false;
	output->head = (head + (uint32_t)done) % output->size;
	output->count -= (uint32_t)done;
	output->written += (uint64_t)done;
	if (!output->count)
		output->head = 0; /* keeps a ring that is drained in time within its first pages */
	bool left = problem && problem != EAGAIN && problem != EINTR && writing_failed(output, fd, problem);

	close_retired(output);
	pthread_mutex_unlock(&output->lock);
	if (problem == EAGAIN)
		wait_writable(fd);
	if (left && output->reader_left)
		output->reader_left(output->opaque);
	pthread_mutex_lock(&output->lock);
}

/* Waits for more bytes: a polling guest sends single bytes, each of which would cost a system call. */
static void gather(struct output *output)
{
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += GATHER_NS;
	if (until.tv_nsec >= 1000000000) {
		until.tv_nsec -= 1000000000;
		until.tv_sec++;
	}
	while (!output->finish && !output->abandon && output->count < OUTPUT_STREAM_BYTES / 2)
		if (pthread_cond_clockwait(&output->changed, &output->lock, CLOCK_MONOTONIC, &until) == ETIMEDOUT)
			break;
}

/* The lock is held, and released for the callback. */
static void tell_of_room(struct output *output)
{
	bool left = output->gone && !output->gone_told;

	if (!left && (!output->full_seen || (!output->gone && output->size - output->count < output->size / 2)))
		return;
	output->full_seen = false;
	output->gone_told = output->gone;
	pthread_mutex_unlock(&output->lock);
	if (output->room_again)
		output->room_again(output->opaque);
	pthread_mutex_lock(&output->lock);
}

static void *output_thread(void *argument)
{
	struct output *output = argument;
	struct riffle_error error;

	thread_begin("console-out", 0);
	bool confined = !output->confined || confine_thread(CONFINE_WRITER, &error) == 0;

	pthread_mutex_lock(&output->lock);
	while (confined) {
		while ((!output->count || output->fd < 0) && !output->abandon && !(output->finish && !output->count))
			pthread_cond_wait(&output->changed, &output->lock);
		if (output->abandon || !output->count)
			break;
		gather(output);
		if (output->fd >= 0)
			write_some(output);
		tell_of_room(output);
	}
	output->gone = true; /* nothing is written any more */
	pthread_mutex_unlock(&output->lock);
	if (output->finished)
		output->finished(output->opaque);
	return NULL;
}

int output_start(struct output *output, bool confined, struct riffle_error *error)
{
	if (output->reader == OUTPUT_NOBODY)
		return 0;
	output->confined = confined;
	int status = thread_start(&output->thread, output_thread, output, error);

	output->started = !status;
	return status;
}

void output_connect(struct output *output, int fd)
{
	pthread_mutex_lock(&output->lock);
	output->fd = fd;
	pthread_cond_signal(&output->changed);
	pthread_mutex_unlock(&output->lock);
}

void output_disconnect(struct output *output)
{
	pthread_mutex_lock(&output->lock);
	int fd = output->fd >= 0 ? output->fd : output->broken_fd;

	output->fd = output->broken_fd = -1;
	if (fd >= 0 && output->writing) {
		output->retired_fd = fd;
		shutdown(fd, SHUT_RDWR); /* interrupts the thread's write */
	} else if (fd >= 0) {
		close(fd);
	}
	pthread_mutex_unlock(&output->lock);
}

bool output_is_broken(struct output *output)
{
	pthread_mutex_lock(&output->lock);
	bool broken = output->broken_fd >= 0;

	pthread_mutex_unlock(&output->lock);
	return broken;
}

static void pause_ms(unsigned ms)
{
	nanosleep(&(struct timespec){.tv_nsec = (long)ms * 1000000}, NULL);
}

void output_finish(struct output *output)
{
	pthread_mutex_lock(&output->lock);
	output->finish = true;
	pthread_cond_signal(&output->changed);
	pthread_mutex_unlock(&output->lock);
}

uint64_t output_progress(struct output *output)
{
	pthread_mutex_lock(&output->lock);
	uint64_t written = output->written;

	pthread_mutex_unlock(&output->lock);
	return written;
}

bool output_has_reader(struct output *output)
{
	pthread_mutex_lock(&output->lock);
	bool reader = output->fd >= 0 && output->reader != OUTPUT_DEVICE;

	pthread_mutex_unlock(&output->lock);
	return reader;
}

void output_stop(struct output *output)
{
	if (!output->started)
		return;
	pthread_mutex_lock(&output->lock);
	output->abandon = true;
	pthread_cond_signal(&output->changed);
	pthread_mutex_unlock(&output->lock);
	/* A kick just before the write is lost, so repeat it. */
	while (pthread_tryjoin_np(output->thread, NULL) == EBUSY) {
		pthread_kill(output->thread, KICK_SIGNAL);
		pause_ms(1);
	}
	output->started = false;
}

int output_failed(const struct output *output)
{
	return output->failed;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* A block engine of threads that call preadv() and pwritev(), for hosts that refuse io_uring. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "common/fail.h"
#include "monitor/confine/confine.h"
#include "monitor/core/thread.h"
#include "monitor/virtio/block_engine.h"

#define WORKERS 4u

struct workers_engine {
	struct block_engine base;
	pthread_t threads[WORKERS];
	unsigned count;
	pthread_mutex_t lock; /* of what follows */
	pthread_cond_t work, progress;
	struct block_io *first, **last; /* to do */
	struct block_io *finished;
	bool stop;
	unsigned ready; /* threads that are confined, or failed to be */
	int status;
	struct riffle_error error;
};

static struct workers_engine *self(struct block_engine *engine)
{
	return (struct workers_engine *)engine;
}

static void do_it(struct block_io *io, int fd)
{
	struct block_call call;

	do {
		block_io_call(io, &call);
	} while (!block_io_returned(io, block_call_make(&call, fd)));
}

static void finish(struct workers_engine *workers, struct block_io *io)
{
	uint64_t one = 1;

	io->next = workers->finished;
	workers->finished = io;
	pthread_cond_signal(&workers->progress);
	if (io->next)
		return; /* whoever finished that one has rung */
	ssize_t ignored = write(workers->base.event, &one, sizeof one);

	(void)ignored;
}

static void *worker(void *opaque)
{
	struct workers_engine *workers = opaque;

	struct riffle_error error;

	prctl(PR_SET_NAME, "disk", 0, 0, 0);
	int status = confine_thread(CONFINE_DISK, &error);

	pthread_mutex_lock(&workers->lock);
	if (status && !workers->status) {
		workers->status = status;
		workers->error = error;
	}
	workers->ready++;
	pthread_cond_signal(&workers->progress);
	if (status)
		workers->stop = true;
	while (!workers->stop) {
		struct block_io *io = workers->first;

		if (!io) {
			pthread_cond_wait(&workers->work, &workers->lock);
			continue;
		}
		workers->first = io->next;
		if (!workers->first)
			workers->last = &workers->first;
		pthread_mutex_unlock(&workers->lock);
		do_it(io, workers->base.fd);
		pthread_mutex_lock(&workers->lock);
		finish(workers, io);
	}
	pthread_mutex_unlock(&workers->lock);
	return NULL;
}

static void workers_submit(struct block_engine *engine, struct block_io *io)
{
	struct workers_engine *workers = self(engine);

	io->next = NULL;
	pthread_mutex_lock(&workers->lock);
	*workers->last = io;
	workers->last = &io->next;
	pthread_cond_signal(&workers->work);
	pthread_mutex_unlock(&workers->lock);
}

static void end_all(struct block_engine *engine, struct block_io *io)
{
	while (io) {
		struct block_io *next = io->next;

		engine->in_flight--;
		engine->done(engine->opaque, io);
		io = next;
	}
}

static struct block_io *take_finished(struct workers_engine *workers, bool wait)
{
	pthread_mutex_lock(&workers->lock);
	while (wait && !workers->finished)
		pthread_cond_wait(&workers->progress, &workers->lock);
	struct block_io *io = workers->finished;

	workers->finished = NULL;
	pthread_mutex_unlock(&workers->lock);
	return io;
}

static void workers_run(struct block_engine *engine)
{
	end_all(engine, take_finished(self(engine), false));
}

static void workers_wait(struct block_engine *engine)
{
	end_all(engine, take_finished(self(engine), true));
}

static void workers_close(struct block_engine *engine)
{
	struct workers_engine *workers = self(engine);

	pthread_mutex_lock(&workers->lock);
	workers->stop = true;
	pthread_cond_broadcast(&workers->work);
	pthread_mutex_unlock(&workers->lock);
	for (unsigned i = 0; i < workers->count; i++)
		pthread_join(workers->threads[i], NULL);
	if (engine->event >= 0)
		close(engine->event);
	pthread_mutex_destroy(&workers->lock);
	pthread_cond_destroy(&workers->work);
	pthread_cond_destroy(&workers->progress);
	free(workers);
}

static const struct block_engine_ops workers_ops = {
    .submit = workers_submit,
    .run = workers_run,
    .wait = workers_wait,
    .close = workers_close,
};

/* Signals are for others: these are started before the process decides who takes them. */
static int start_threads(struct workers_engine *workers, struct riffle_error *error)
{
	sigset_t mask;
	int status = 0;

	signals_but_faults(&mask);
	while (!status && workers->count < WORKERS) {
		status = thread_start_masked(&workers->threads[workers->count], &mask, worker, workers, error);
		workers->count += !status;
	}
	return status;
}

int block_engine_open_workers(struct block_engine **engine, struct riffle_error *error)
{
	struct workers_engine *workers = calloc(1, sizeof *workers);
	int status = 0;

	if (!workers)
		return riffle_fail(error, RIFFLE_ERR_MEMORY, "disk", "out of memory");
	workers->base = (struct block_engine){.ops = &workers_ops, .kind = BLOCK_ENGINE_WORKERS, .fd = -1};
	workers->last = &workers->first;
	pthread_mutex_init(&workers->lock, NULL);
	pthread_cond_init(&workers->work, NULL);
	pthread_cond_init(&workers->progress, NULL);
	workers->base.event = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (workers->base.event < 0)
		status = riffle_fail_system(error, errno, "eventfd", "failed");
	if (!status)
		status = start_threads(workers, error);
	pthread_mutex_lock(&workers->lock);
	while (workers->ready < workers->count)
		pthread_cond_wait(&workers->progress, &workers->lock);
	pthread_mutex_unlock(&workers->lock);
	if (!status && workers->status) {
		status = workers->status;
		*error = workers->error;
	}
	if (status) {
		workers_close(&workers->base);
		return status;
	}
	*engine = &workers->base;
	return 0;
}

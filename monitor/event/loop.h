/* SPDX-License-Identifier: Apache-2.0 */
/* The event loop: descriptors, timers and tasks, all served by one thread. */
#ifndef RIFFLE_MONITOR_EVENT_LOOP_H
#define RIFFLE_MONITOR_EVENT_LOOP_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>

#include <riffle/error.h>

#define LOOP_BATCH 16

/*
 * Sources, timers and tasks are embedded in their owner, which sets the callback and zeroes the rest, and must stay in
 * place while the loop uses them. All functions except loop_post() and loop_stop() may only be called in the loop's own
 * thread (or by the code that sets up the loop before that thread runs). Callbacks run in that thread and may call any
 * of them, even on their own source. Callbacks never block.
 */

/* A descriptor. Level-triggered: `ready` is called again as long as the condition holds. */
struct loop_source {
	void (*ready)(void *opaque, uint32_t events); /* EPOLLIN, EPOLLOUT; always EPOLLHUP and EPOLLERR */
	void *opaque;
	/* the loop's own: */
	int fd;
	uint32_t events;
	bool added, in_epoll;
	bool always; /* a regular file, which epoll refuses: always ready */
	struct loop_source *next_always;
};

struct loop_timer {
	void (*expired)(void *opaque);
	void *opaque;
	/* the loop's own: */
	uint64_t deadline_ns;
	bool armed;
	struct loop_timer *next;
};

struct loop_task {
	void (*run)(void *opaque);
	void *opaque;
	/* the loop's own: */
	bool posted;
	struct loop_task *next;
};

struct loop {
	int epoll_fd, wake_fd, timer_fd;
	struct loop_source wake, clock;
	struct loop_source *always; /* regular files */
	struct loop_timer *timers;  /* by deadline */
	uint64_t clock_set;         /* when the timer's descriptor expires, 0: not armed */
	pthread_mutex_t lock;       /* protects what follows */
	struct loop_task *first_task, **last_task;
	bool woken, stop;
	/* the result of one epoll_wait(), so that a source removed meanwhile is not called any more */
	struct epoll_event batch[LOOP_BATCH];
	int batch_count;
};

/* Errors: IO. loop_destroy() works on a loop that loop_init() failed to make, and leaves sources' descriptors open. */
int loop_init(struct loop *loop, struct riffle_error *error);
void loop_destroy(struct loop *loop);

/*
 * Watches `fd` for `events` (0: for nothing yet; then not even a hang-up is reported). A source is added once; its
 * owner keeps the descriptor and closes it after loop_remove(). Errors: IO.
 */
int loop_add(struct loop *loop, struct loop_source *source, int fd, uint32_t events, struct riffle_error *error);
void loop_watch(struct loop *loop, struct loop_source *source, uint32_t events);
void loop_remove(struct loop *loop, struct loop_source *source);

/* Arms a timer, which may be armed already, for a time of CLOCK_MONOTONIC. Each arming expires at most once. */
void loop_timer_set(struct loop *loop, struct loop_timer *timer, uint64_t deadline_ns);
void loop_timer_cancel(struct loop *loop, struct loop_timer *timer);
uint64_t loop_now(void);

/* Any thread: makes the loop run the task once, soon. Posting it again before it has run has no effect. Never waits. */
void loop_post(struct loop *loop, struct loop_task *task);

/* Runs until loop_stop(), which any thread may call, even before loop_run(). Tasks posted before the stop are run. */
void loop_run(struct loop *loop);
void loop_stop(struct loop *loop);

#endif

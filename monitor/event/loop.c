/* SPDX-License-Identifier: Apache-2.0 */
/* The event loop: descriptors, timers and tasks, all served by one thread. */
#include "monitor/event/loop.h"

#include <errno.h>
#include <stddef.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "common/fail.h"

static void drain(int fd)
{
	uint64_t count;
	ssize_t ignored = read(fd, &count, sizeof count);

	(void)ignored;
}

static void wake_ready(void *opaque, uint32_t events)
{
	(void)events;
	drain(((struct loop *)opaque)->wake_fd); /* each turn checks what it was for */
}

static void clock_ready(void *opaque, uint32_t events)
{
	struct loop *loop = opaque;

	(void)events;
	drain(loop->timer_fd);
	loop->clock_set = 0;
}

int loop_init(struct loop *loop, struct riffle_error *error)
{
	*loop = (struct loop){.epoll_fd = -1, .wake_fd = -1, .timer_fd = -1};
	loop->wake = (struct loop_source){.ready = wake_ready, .opaque = loop};
	loop->clock = (struct loop_source){.ready = clock_ready, .opaque = loop};
	loop->last_task = &loop->first_task;
	pthread_mutex_init(&loop->lock, NULL);
	loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (loop->epoll_fd < 0)
		return riffle_fail_system(error, errno, "epoll_create1", "failed");
	loop->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (loop->wake_fd < 0)
		return riffle_fail_system(error, errno, "eventfd", "failed");
	/* created now: a confined process can no longer create descriptors */
	loop->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	if (loop->timer_fd < 0)
		return riffle_fail_system(error, errno, "timerfd_create", "failed");
	int status = loop_add(loop, &loop->wake, loop->wake_fd, EPOLLIN, error);

	return status ? status : loop_add(loop, &loop->clock, loop->timer_fd, EPOLLIN, error);
}

void loop_destroy(struct loop *loop)
{
	int *const fds[] = {&loop->epoll_fd, &loop->wake_fd, &loop->timer_fd};

	for (size_t i = 0; i < sizeof fds / sizeof *fds; i++) {
		if (*fds[i] >= 0)
			close(*fds[i]);
		*fds[i] = -1;
	}
	pthread_mutex_destroy(&loop->lock);
}

/* A source with no events is removed from epoll, which would otherwise report its hang-up forever. */
static int tell_epoll(struct loop *loop, struct loop_source *source)
{
	struct epoll_event event = {.events = source->events, .data.ptr = source};
	int operation = source->events ? source->in_epoll ? EPOLL_CTL_MOD : EPOLL_CTL_ADD : EPOLL_CTL_DEL;

	if (operation == EPOLL_CTL_DEL && !source->in_epoll)
		return 0;
	if (epoll_ctl(loop->epoll_fd, operation, source->fd, &event) < 0)
		return -1;
	source->in_epoll = operation != EPOLL_CTL_DEL;
	return 0;
}

int loop_add(struct loop *loop, struct loop_source *source, int fd, uint32_t events, struct riffle_error *error)
{
	source->fd = fd;
	source->events = events ? events : EPOLLIN; /* find out now if epoll refuses the descriptor */
	source->in_epoll = source->always = false;
	if (tell_epoll(loop, source) < 0) {
		if (errno != EPERM)
			return riffle_fail_system(error, errno, "epoll_ctl", "failed");
		source->always = true;
		source->next_always = loop->always;
		loop->always = source;
	}
	source->added = true;
	loop_watch(loop, source, events);
	return 0;
}

void loop_watch(struct loop *loop, struct loop_source *source, uint32_t events)
{
	if (!source->added || source->events == events)
		return;
	source->events = events;
	if (!source->always)
		tell_epoll(loop, source); /* cannot fail: epoll accepted the descriptor before */
}

static void forget_always(struct loop *loop, const struct loop_source *source)
{
	for (struct loop_source **at = &loop->always; *at; at = &(*at)->next_always)
		if (*at == source) {
			*at = source->next_always;
			return;
		}
}

void loop_remove(struct loop *loop, struct loop_source *source)
{
	if (!source->added)
		return;
	loop_watch(loop, source, 0);
	if (source->always)
		forget_always(loop, source);
	source->added = false;
	for (int i = 0; i < loop->batch_count; i++)
		if (loop->batch[i].data.ptr == source)
			loop->batch[i].data.ptr = NULL;
}

uint64_t loop_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void loop_timer_cancel(struct loop *loop, struct loop_timer *timer)
{
	if (!timer->armed)
		return;
	timer->armed = false;
	for (struct loop_timer **at = &loop->timers; *at; at = &(*at)->next)
		if (*at == timer) {
			*at = timer->next;
			return;
		}
}

void loop_timer_set(struct loop *loop, struct loop_timer *timer, uint64_t deadline_ns)
{
	struct loop_timer **at = &loop->timers;

	loop_timer_cancel(loop, timer);
	timer->deadline_ns = deadline_ns;
	timer->armed = true;
	while (*at && (*at)->deadline_ns <= deadline_ns)
		at = &(*at)->next;
	timer->next = *at;
	*at = timer;
}

/*
 * Before each wait. A timer set too early is left alone: that costs one idle turn instead of a system call per change.
 */
static void set_clock(struct loop *loop)
{
	uint64_t due = loop->timers ? loop->timers->deadline_ns : 0;

	if (!due || (loop->clock_set && loop->clock_set <= due))
		return;
	struct itimerspec at = {
	    .it_value = {.tv_sec = (time_t)(due / 1000000000u), .tv_nsec = (long)(due % 1000000000u)}};

	timerfd_settime(loop->timer_fd, TFD_TIMER_ABSTIME, &at, NULL);
	loop->clock_set = due;
}

static void run_timers(struct loop *loop)
{
	if (!loop->timers)
		return;
	for (uint64_t now = loop_now(); loop->timers && loop->timers->deadline_ns <= now;) {
		struct loop_timer *timer = loop->timers;

		loop->timers = timer->next;
		timer->armed = false;
		timer->expired(timer->opaque);
	}
}

static void wake(struct loop *loop)
{
	uint64_t one = 1;
	ssize_t ignored = write(loop->wake_fd, &one, sizeof one);

	(void)ignored; /* a full counter also wakes the loop */
}

void loop_post(struct loop *loop, struct loop_task *task)
{
	bool must_wake = false;

	pthread_mutex_lock(&loop->lock);
	if (!task->posted) {
		task->posted = true;
		task->next = NULL;
		*loop->last_task = task;
		loop->last_task = &task->next;
		must_wake = !loop->woken;
		loop->woken = true;
	}
	pthread_mutex_unlock(&loop->lock);
	if (must_wake)
		wake(loop);
}

void loop_stop(struct loop *loop)
{
	pthread_mutex_lock(&loop->lock);
	loop->stop = true;
	pthread_mutex_unlock(&loop->lock);
	wake(loop);
}

static struct loop_task *take_task(struct loop *loop)
{
	pthread_mutex_lock(&loop->lock);
	struct loop_task *task = loop->first_task;

	if (task) {
		loop->first_task = task->next;
		if (!loop->first_task)
			loop->last_task = &loop->first_task;
		task->posted = false;
	} else {
		loop->woken = false;
	}
	pthread_mutex_unlock(&loop->lock);
	return task;
}

static bool stopped(struct loop *loop)
{
	pthread_mutex_lock(&loop->lock);
	bool stop = loop->stop;

	pthread_mutex_unlock(&loop->lock);
	return stop;
}

static bool any_always(const struct loop *loop)
{
	for (const struct loop_source *source = loop->always; source; source = source->next_always)
		if (source->events)
			return true;
	return false;
}

static void serve_always(struct loop *loop)
{
	for (struct loop_source *source = loop->always, *next; source; source = next) {
		next = source->next_always;
		if (source->events)
			source->ready(source->opaque, source->events);
	}
}

void loop_run(struct loop *loop)
{
	for (;;) {
		for (struct loop_task *task; (task = take_task(loop));)
			task->run(task->opaque);
		if (stopped(loop))
			return;
		set_clock(loop);
		int count = epoll_wait(loop->epoll_fd, loop->batch, LOOP_BATCH, any_always(loop) ? 0 : -1);

		loop->batch_count = count > 0 ? count : 0;
		for (int i = 0; i < loop->batch_count; i++) {
			struct loop_source *source = loop->batch[i].data.ptr;

			/* an earlier callback of this turn may have removed the source or its events */
			if (source && source->events)
				source->ready(source->opaque, loop->batch[i].events);
		}
		loop->batch_count = 0;
		serve_always(loop);
		run_timers(loop);
	}
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The event loop: descriptors of every kind, timers in order, tasks from other threads, removal during a turn. */
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>
#include <errno.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "monitor/event/descriptors.h"
#include "monitor/event/loop.h"

static struct loop loop;
static char order[64];
static unsigned noted;

static void note(char c)
{
	assert_true(noted < sizeof order - 1);
	order[noted++] = c;
	order[noted] = 0;
}

static int set_up(void **state)
{
	struct riffle_error error;

	(void)state;
	noted = 0;
	order[0] = 0;
	return loop_init(&loop, &error);
}

static int tear_down(void **state)
{
	(void)state;
	loop_destroy(&loop);
	return 0;
}

static void stop_by_timer(void *opaque)
{
	(void)opaque;
	note('.');
	loop_stop(&loop);
}

static void note_timer(void *opaque)
{
	note(*(const char *)opaque);
}

static void timers_expire_in_order(void **state)
{
	struct loop_timer a = {note_timer, (void *)(uintptr_t) "a"}, b = a, c = a, end = {stop_by_timer, NULL};
	uint64_t now = loop_now();

	(void)state;
	b.opaque = (void *)(uintptr_t) "b";
	c.opaque = (void *)(uintptr_t) "c";
	loop_timer_set(&loop, &end, now + 30000000);
	loop_timer_set(&loop, &a, now + 50000000);
	loop_timer_set(&loop, &b, now + 10000000);
	loop_timer_set(&loop, &c, now + 15000000);
	loop_timer_set(&loop, &a, now + 20000000); /* again: the last setting applies, once */
	loop_timer_cancel(&loop, &c);
	loop_timer_cancel(&loop, &c);
	loop_run(&loop);
	assert_string_equal(order, "ba.");
	assert_in_range(loop_now() - now, 30000000, UINT64_MAX);
}

static struct loop_timer again;

static void rearm(void *opaque)
{
	(void)opaque;
	note('r');
	if (noted < 5)
		loop_timer_set(&loop, &again, loop_now()); /* already due */
	else
		loop_stop(&loop);
}

static void timer_may_arm_itself(void **state)
{
	(void)state;
	again = (struct loop_timer){rearm, NULL};
	loop_timer_set(&loop, &again, 1); /* long ago */
	loop_run(&loop);
	assert_string_equal(order, "rrrrr");
}

struct reader {
	struct loop_source source;
	char name;
	struct reader *removes; /* another, when this one is called */
};

static void read_byte(void *opaque, uint32_t events)
{
	struct reader *reader = opaque;
	char c;

	(void)events;
	note(reader->name);
	if (read(reader->source.fd, &c, 1) <= 0 || c == '.')
		loop_stop(&loop);
	if (reader->removes)
		loop_remove(&loop, &reader->removes->source);
}

static void add(struct reader *reader, int fd, char name)
{
	struct riffle_error error;

	memset(reader, 0, sizeof *reader);
	reader->name = name;
	reader->source = (struct loop_source){.ready = read_byte, .opaque = reader};
	assert_int_equal(loop_add(&loop, &reader->source, fd, EPOLLIN, &error), 0);
}

/* The first one called removes the other, although both were ready in the same turn. */
static void removed_on_the_way_is_not_called(void **state)
{
	struct loop_timer end = {stop_by_timer, NULL};
	struct reader a, b;
	int x[2], y[2];

	(void)state;
	assert_int_equal(pipe2(x, O_CLOEXEC) | pipe2(y, O_CLOEXEC), 0);
	assert_int_equal(write(x[1], "1", 1) + write(y[1], "1", 1), 2);
	add(&a, x[0], 'a');
	add(&b, y[0], 'b');
	a.removes = &b;
	b.removes = &a;
	loop_timer_set(&loop, &end, loop_now() + 20000000);
	loop_run(&loop);
	assert_int_equal(noted, 2);
	assert_int_equal(order[1], '.');
	for (unsigned i = 0; i < 2; i++) {
		close(x[i]);
		close(y[i]);
	}
}

/* epoll refuses a regular file: it is still read to its end, but only while requested. */
static void regular_files_are_read(void **state)
{
	char name[] = "/tmp/riffle-loop-XXXXXX";
	int fd = mkstemp(name);
	struct reader file;

	(void)state;
	assert_true(fd >= 0);
	unlink(name);
	assert_int_equal(write(fd, "xy.", 3), 3);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	add(&file, fd, 'f');
	loop_run(&loop);
	assert_string_equal(order, "fff");
	loop_remove(&loop, &file.source);
	close(fd);
}

/* A hang-up of an unwatched descriptor must neither wake the loop nor call anything. */
static void unwatched_hang_up_is_silent(void **state)
{
	struct loop_timer end = {stop_by_timer, NULL};
	struct reader a;
	int pair[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	add(&a, pair[0], 'a');
	loop_watch(&loop, &a.source, 0);
	close(pair[1]);
	loop_timer_set(&loop, &end, loop_now() + 20000000);
	loop_run(&loop);
	assert_string_equal(order, ".");
	loop_remove(&loop, &a.source);
	close(pair[0]);
}

#define POSTS 20000u
static unsigned ran;
static struct loop_task count_task, stop_task;

static void count(void *opaque)
{
	(void)opaque;
	ran++;
}

static void stop_loop(void *opaque)
{
	(void)opaque;
	loop_stop(&loop);
}

static void *post_many(void *argument)
{
	for (unsigned i = 0; i < POSTS; i++)
		loop_post(&loop, &count_task);
	return argument;
}

/* Posted by several threads concurrently; a pending task is not queued twice, and none is lost. */
static void tasks_from_other_threads(void **state)
{
	pthread_t threads[4];

	(void)state;
	count_task = (struct loop_task){.run = count};
	stop_task = (struct loop_task){.run = stop_loop};
	ran = 0;
	loop_post(&loop, &count_task);
	loop_post(&loop, &count_task);
	loop_post(&loop, &stop_task);
	loop_run(&loop);
	assert_int_equal(ran, 1);
	loop_destroy(&loop);
	assert_int_equal(set_up(NULL), 0);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, post_many, NULL), 0);
	/* the loop runs beside them until all have posted */
	for (unsigned i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	loop_post(&loop, &stop_task);
	loop_run(&loop);
	assert_in_range(ran, 2, 4 * POSTS + 1);
}

static void *stop_soon(void *argument)
{
	usleep(20000);
	loop_stop(&loop);
	return argument;
}

static void stop_from_another_thread_wakes(void **state)
{
	pthread_t thread;

	(void)state;
	assert_int_equal(pthread_create(&thread, NULL, stop_soon, NULL), 0);
	loop_run(&loop);
	pthread_join(thread, NULL);
}

/* Descriptors arrive with the bytes that they were sent with, as many as there is room for, and closed on exec. */
static void descriptors_go_with_a_message(void **state)
{
	int pair[2], fds[DESCRIPTORS_MAX + 1], got[DESCRIPTORS_MAX + 1];
	unsigned count;
	char text[8];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	for (unsigned i = 0; i <= DESCRIPTORS_MAX; i++)
		assert_true((fds[i] = memfd_create("descriptor", 0)) >= 0);
	for (unsigned sent = 0; sent <= DESCRIPTORS_MAX; sent++) {
		for (unsigned most = 0; most <= DESCRIPTORS_MAX; most++) {
			unsigned expected = sent < most ? sent : most;

			memset(got, 0xff, sizeof got);
			assert_int_equal(descriptors_send(pair[0], "abc", 3, fds, sent, 0), 3);
			count = 99;
			assert_int_equal(descriptors_receive(pair[1], text, sizeof text, got, most, &count, 0), 3);
			assert_memory_equal(text, "abc", 3);
			assert_int_equal(count, expected);
			for (unsigned i = 0; i < count; i++) {
				struct stat here, there;

				assert_int_equal(fcntl(got[i], F_GETFD), FD_CLOEXEC);
				assert_int_equal(fstat(fds[i], &here) | fstat(got[i], &there), 0);
				assert_int_equal(here.st_ino, there.st_ino);
				close(got[i]);
			}
			assert_int_equal(got[count], -1);
		}
	}
	errno = 0;
	assert_int_equal(descriptors_send(pair[0], "abc", 3, fds, DESCRIPTORS_MAX + 1, 0), -1);
	assert_int_equal(errno, EINVAL);
	errno = 0;
	count = 99;
	assert_int_equal(descriptors_receive(pair[1], text, 8, got, DESCRIPTORS_MAX + 1, &count, MSG_DONTWAIT), -1);
	assert_int_equal(errno, EINVAL);
	assert_int_equal(count, 0);
	count = 99;
	assert_int_equal(descriptors_receive(pair[1], text, 8, got, 1, &count, MSG_DONTWAIT), -1);
	assert_int_equal(errno, EAGAIN);
	assert_int_equal(count, 0);
	close(pair[1]);
	assert_int_equal(descriptors_send(pair[0], "abc", 3, fds, 1, 0), -1); /* and no signal */
	assert_int_equal(errno, EPIPE);
	close(pair[0]);
	for (unsigned i = 0; i <= DESCRIPTORS_MAX; i++)
		close(fds[i]);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(descriptors_go_with_a_message),
	    T(timers_expire_in_order),
	    T(timer_may_arm_itself),
	    T(removed_on_the_way_is_not_called),
	    T(regular_files_are_read),
	    T(unwatched_hang_up_is_silent),
	    T(tasks_from_other_threads),
	    T(stop_from_another_thread_wakes),
	};

	return cmocka_run_group_tests_name("monitor loop", tests, NULL, NULL);
}

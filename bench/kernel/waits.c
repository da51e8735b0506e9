/* SPDX-License-Identifier: Apache-2.0 */
/* select, poll and epoll over descriptors that are all ready. */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/select.h>
#include <unistd.h>

#include "ops.h"

#define COUNT_MAX 1000

static int fds[COUNT_MAX], opened, epoll = -1;

static int start_fds(long count)
{
	if (count > COUNT_MAX)
		return -EINVAL;
	for (opened = 0; opened < count; opened++) {
		fds[opened] = eventfd(1, EFD_CLOEXEC);
		if (fds[opened] < 0)
			return -errno;
		if (fds[opened] >= FD_SETSIZE) {
			close(fds[opened]);
			return -EMFILE;
		}
	}
	return 0;
}

static int start_epoll(long count)
{
	int status = start_fds(count);

	if (status)
		return status;
	epoll = epoll_create1(EPOLL_CLOEXEC);
	if (epoll < 0)
		return -errno;
	for (int i = 0; i < opened; i++) {
		struct epoll_event event = {.events = EPOLLIN, .data.fd = fds[i]};

		if (epoll_ctl(epoll, EPOLL_CTL_ADD, fds[i], &event) < 0)
			return -errno;
	}
	return 0;
}

static void end_fds(long count)
{
	(void)count;
	while (opened)
		close(fds[--opened]);
	if (epoll >= 0)
		close(epoll);
	epoll = -1;
}

static int64_t run_select(long count, unsigned iterations)
{
	int64_t before = now_ns();

	for (unsigned i = 0; i < iterations; i++) {
		struct timeval none = {0};
		fd_set set;
		int last = 0;

		FD_ZERO(&set);
		for (int k = 0; k < opened; k++) {
			FD_SET(fds[k], &set);
			last = fds[k] > last ? fds[k] : last;
		}
		if (select(last + 1, &set, NULL, NULL, &none) != count)
			return errno ? -errno : -EIO;
	}
	return now_ns() - before;
}

static int64_t run_poll(long count, unsigned iterations)
{
	static struct pollfd polled[COUNT_MAX];
	int64_t before;

	for (int k = 0; k < opened; k++)
		polled[k] = (struct pollfd){.fd = fds[k], .events = POLLIN};
	before = now_ns();
	for (unsigned i = 0; i < iterations; i++)
		if (poll(polled, (nfds_t)count, 0) != count)
			return errno ? -errno : -EIO;
	return now_ns() - before;
}

static int64_t run_epoll(long count, unsigned iterations)
{
	static struct epoll_event events[COUNT_MAX];
	int64_t before = now_ns();

	for (unsigned i = 0; i < iterations; i++)
		if (epoll_wait(epoll, events, COUNT_MAX, 0) != count)
			return errno ? -errno : -EIO;
	return now_ns() - before;
}

const struct op wait_ops[] = {
    {"select", 10, 100, start_fds, run_select, end_fds},
    {"select-big", 1000, 5, start_fds, run_select, end_fds},
    {"poll", 10, 100, start_fds, run_poll, end_fds},
    {"poll-big", 1000, 5, start_fds, run_poll, end_fds},
    {"epoll", 10, 100, start_epoll, run_epoll, end_fds},
    {"epoll-big", 1000, 5, start_epoll, run_epoll, end_fds},
    {0},
};

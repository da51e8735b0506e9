/* SPDX-License-Identifier: Apache-2.0 */
/* Open descriptors that go from one process to another with a message over a unix socket. */
#ifndef RIFFLE_MONITOR_EVENT_DESCRIPTORS_H
#define RIFFLE_MONITOR_EVENT_DESCRIPTORS_H

#include <stddef.h>
#include <sys/types.h>

#define DESCRIPTORS_MAX 4u

/* sendmsg() with `count` descriptors, which stay open here; without SIGPIPE. */
ssize_t descriptors_send(int socket, const void *text, size_t bytes, const int *fds, unsigned count, int flags);

/*
 * recvmsg() with at most `max` descriptors, close-on-exec; the kernel closes those beyond. *count is how many came,
 * also when nothing else did.
 */
ssize_t descriptors_receive(int socket, void *text, size_t bytes, int *fds, unsigned max, unsigned *count, int flags);

#endif

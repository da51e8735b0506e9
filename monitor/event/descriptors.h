/* SPDX-License-Identifier: Apache-2.0 */
/* Passes open descriptors between processes, with a message over a unix socket (SCM_RIGHTS). */
#ifndef RIFFLE_MONITOR_EVENT_DESCRIPTORS_H
#define RIFFLE_MONITOR_EVENT_DESCRIPTORS_H

#include <stddef.h>
#include <sys/types.h>

#define DESCRIPTORS_MAX 4u

/* sendmsg() with `count` descriptors, which stay open here; without SIGPIPE. */
ssize_t descriptors_send(int socket, const void *text, size_t bytes, const int *fds, unsigned count, int flags);

/*
 * recvmsg() with at most `max` descriptors, close-on-exec; the kernel closes any beyond that. *count is set even if
 * there was no other data.
 */
ssize_t descriptors_receive(int socket, void *text, size_t bytes, int *fds, unsigned max, unsigned *count, int flags);

#endif

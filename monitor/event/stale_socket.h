/* SPDX-License-Identifier: Apache-2.0 */
/* Names of unix sockets that an earlier run left behind. */
#ifndef RIFFLE_MONITOR_EVENT_STALE_SOCKET_H
#define RIFFLE_MONITOR_EVENT_STALE_SOCKET_H

#include <sys/un.h>

/* Removes the name if it is a socket of this type (SOCK_STREAM or similar) on which nobody listens any more. */
void stale_socket_remove(const struct sockaddr_un *address, int type);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* A unix socket that listens at a path of the user's. */
#ifndef RIFFLE_MACHINE_UNIX_SOCKET_H
#define RIFFLE_MACHINE_UNIX_SOCKET_H

#include <riffle/error.h>

/*
 * Of a type such as SOCK_STREAM, for this user alone (mode 0600). What an earlier run left at the path, and nobody
 * listens on any more, gives way; the name stays when the run ends, as who is confined can remove no file. Returns 0
 * and *fd, non-blocking, or a status with an error about `field` and nothing left open. Errors: ARGUMENT (the path's
 * length), IO.
 */
int unix_socket_listen(int *fd, int type, const char *path, const char *field, int backlog, struct riffle_error *error);

#endif

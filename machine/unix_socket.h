/* SPDX-License-Identifier: Apache-2.0 */
/* A unix socket that listens at a path given by the user. */
#ifndef RIFFLE_MACHINE_UNIX_SOCKET_H
#define RIFFLE_MACHINE_UNIX_SOCKET_H

#include <riffle/error.h>

/*
 * `type` is SOCK_STREAM or similar; the socket is accessible only to this user (mode 0600). A socket at the path that
 * an earlier run left behind, and on which nobody listens any more, is replaced. The name remains when the run ends,
 * because a confined process cannot remove files. Returns 0 and *fd, non-blocking, or a status with an error about
 * `field` and nothing left open. Errors: ARGUMENT (the path's length), IO.
 */
int unix_socket_listen(int *fd, int type, const char *path, const char *field, int backlog, struct riffle_error *error);

/* For a connected client: checks that root or this user is listening. Errors: TRUST, IO. */
int unix_socket_trust_peer(int fd, const char *field, struct riffle_error *error);

#endif

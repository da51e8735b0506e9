/* SPDX-License-Identifier: Apache-2.0 */
/* The API server: a thread named fc_api with a unix socket, which parses requests and passes them on. */
#ifndef RIFFLE_API_SERVER_H
#define RIFFLE_API_SERVER_H

#include <riffle/error.h>

#include "api/channel.h"

#define SERVER_CONNECTIONS 10u
#define SERVER_BODY_BYTES 51200u

struct server;

/* Binds the socket, at a path where there is nothing. Errors: IO, with the field "socket"; MEMORY. */
int server_open(struct server **server, const char *path, uint64_t body_bytes, struct riffle_error *error);

/* Starts the thread, which lasts as long as the process and is confined. Errors: IO. */
int server_start(struct server *server, struct channel *channel, bool unconfined, struct riffle_error *error);

#endif

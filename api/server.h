/* SPDX-License-Identifier: Apache-2.0 */
/* The API server: a thread named fc_api behind a unix socket, which parses requests and passes them on. */
#ifndef RIFFLE_API_SERVER_H
#define RIFFLE_API_SERVER_H

#include <riffle/error.h>

#include "api/channel.h"

#define SERVER_CONNECTIONS 10u

/*
 * Starts the thread, which lasts as long as the process and is confined. `listener` is a socket that listens, without
 * waiting; bodies of more than `body_bytes` are refused. Errors: IO.
 */
int server_start(int listener, uint64_t body_bytes, struct channel *channel, bool unconfined,
		 struct riffle_error *error);

#endif

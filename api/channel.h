/* SPDX-License-Identifier: Apache-2.0 */
/* Requests from the thread that parses them to the one that carries them out, one at a time, each with its answer. */
#ifndef RIFFLE_API_CHANNEL_H
#define RIFFLE_API_CHANNEL_H

#include <pthread.h>

#include "api/action.h"
#include "machine/machine.h"
#include "monitor/event/loop.h"

struct channel {
	pthread_mutex_t lock;
	pthread_cond_t asked, answered;
	struct action *action; /* requested and not yet answered */
	struct reply *reply;
	bool sending;            /* answered, but not yet sent on the socket */
	struct machine *machine; /* whose event loop is notified of requests; NULL: channel_wait() is */
	struct loop_task task;   /* runs in that loop */
};

/* `task` carries out what channel_asked() gives, in the loop. */
void channel_init(struct channel *channel, void (*task)(void *opaque), void *opaque);

/* The asking side: returns when *reply is filled. */
void channel_ask(struct channel *channel, struct action *action, struct reply *reply);

/*
 * The other side: waits for a request; or has the machine's event loop notified of each from now on (NULL: no longer).
 */
struct action *channel_wait(struct channel *channel);
void channel_follow(struct channel *channel, struct machine *machine);
/* The request that waits for its answer, or NULL. */
struct action *channel_asked(struct channel *channel);
/*
 * The requesting side has sent the reply to the client; the other side waits for that, at most `ms` milliseconds, if
 * the process is about to end.
 */
void channel_sent(struct channel *channel);
void channel_wait_sent(struct channel *channel, unsigned ms);
/* Moves *reply to the requester. */
void channel_answer(struct channel *channel, struct reply *reply);

#endif

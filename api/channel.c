// SPDX-License-Identifier: Apache-2.0
/* Requests from the thread that parses them to the one that carries them out. */
#include "api/channel.h"

#include <string.h>
#include <time.h>

#include "machine/control.h"

void channel_init(struct channel *c, void (*task)(void *opaque), void *opaque)
{
	memset(c, 0, sizeof *c);
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->asked, NULL);
	pthread_cond_init(&c->answered, NULL);
	c->task = (struct loop_task){.run = task, .opaque = opaque};
}

void channel_ask(struct channel *c, struct action *action, struct reply *reply)
{
	pthread_mutex_lock(&c->lock);
	c->action = action;
	c->reply = reply;
	if (c->machine)
		machine_post(c->machine, &c->task);
	else
		pthread_cond_signal(&c->asked);
	while (c->action)
		pthread_cond_wait(&c->answered, &c->lock);
	pthread_mutex_unlock(&c->lock);
}

struct action *channel_wait(struct channel *c)
{
	struct action *action;

	pthread_mutex_lock(&c->lock);
	while (!c->action)
		pthread_cond_wait(&c->asked, &c->lock);
	action = c->action;
	pthread_mutex_unlock(&c->lock);
	return action;
}

void channel_follow(struct channel *c, struct machine *machine)
{
	pthread_mutex_lock(&c->lock);
	c->machine = machine;
	if (machine && c->action)
		machine_post(machine, &c->task);
	pthread_mutex_unlock(&c->lock);
}

struct action *channel_asked(struct channel *c)
{
	struct action *action;

	pthread_mutex_lock(&c->lock);
	action = c->action;
	pthread_mutex_unlock(&c->lock);
	return action;
}

void channel_answer(struct channel *c, struct reply *reply)
{
	pthread_mutex_lock(&c->lock);
	*c->reply = *reply;
	memset(reply, 0, sizeof *reply);
	c->action = NULL;
	c->sending = true;
	pthread_cond_signal(&c->answered);
	pthread_mutex_unlock(&c->lock);
}

void channel_sent(struct channel *c)
{
	pthread_mutex_lock(&c->lock);
	if (c->sending) {
		c->sending = false;
		pthread_cond_broadcast(&c->asked);
	}
	pthread_mutex_unlock(&c->lock);
}

void channel_wait_sent(struct channel *c, unsigned ms)
{
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += (long)(ms % 1000) * 1000000;
	until.tv_sec += ms / 1000 + until.tv_nsec / 1000000000;
	until.tv_nsec %= 1000000000;
	pthread_mutex_lock(&c->lock);
	while (c->sending && !pthread_cond_clockwait(&c->asked, &c->lock, CLOCK_MONOTONIC, &until))
		;
	pthread_mutex_unlock(&c->lock);
}

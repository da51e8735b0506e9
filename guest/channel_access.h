/* SPDX-License-Identifier: Apache-2.0 */
/* The guest's side of the command channel: by port instructions, or by /dev/port if the kernel does not permit those.
 */
#ifndef RIFFLE_GUEST_CHANNEL_ACCESS_H
#define RIFFLE_GUEST_CHANNEL_ACCESS_H

#include <stddef.h>
#include <stdint.h>

#include "guest/channel.h"

struct channel {
	int port_fd; /* /dev/port; -1: instructions */
};

/* 0, or a negative errno: the kernel permits no port access, or there is no channel (-ENODEV). */
int channel_open(struct channel *channel);

/* In a child: drops the access before another program is executed. */
void channel_drop(const struct channel *channel);

uint32_t channel_get(const struct channel *channel, unsigned reg);
void channel_put(const struct channel *channel, unsigned reg, uint32_t value);
/* Not more than IN_COUNT, or the register's room. */
void channel_read(const struct channel *channel, void *to, size_t bytes);
void channel_write(const struct channel *channel, unsigned reg, const void *from, size_t bytes);

#endif

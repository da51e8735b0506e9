/* SPDX-License-Identifier: Apache-2.0 */
/* Machines made of a stock's items. */
#ifndef RIFFLE_MACHINE_STOCK_START_H
#define RIFFLE_MACHINE_STOCK_START_H

#include "machine/snapshot.h"

#define STOCK_EMPTY (-1)
#define STOCK_BAD_MAX 8u

struct stock_start {
	const char *from;         /* DIR, or unix:PATH: the socket of its daemon */
	struct machine_load load; /* but for the paths and `consume` */
	/* An item was damaged, and the next one is tried; may be NULL */
	void (*thrown_away)(void *opaque, const char *blame, const struct riffle_error *error);
	void *opaque;
	unsigned bad; /* result: the number of damaged items */
};

/*
 * machine_build() for an item of the stock, which is removed from it even if this fails. But in a directory an item
 * stays if it does not match `load`, or this host's KVM cannot run it. STOCK_EMPTY: there is none, or STOCK_BAD_MAX
 * were damaged. Errors: those of machine_snapshot_load(), IO (no such stock, no daemon), TRUST.
 */
int stock_start(struct machine **machine, struct stock_start *start, const struct machine_observer *observer,
		struct phases *phases, const char **blame, struct riffle_error *error);

#endif

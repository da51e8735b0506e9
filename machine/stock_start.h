/* SPDX-License-Identifier: Apache-2.0 */
/* Machines made of a stock's items. */
#ifndef RIFFLE_MACHINE_STOCK_START_H
#define RIFFLE_MACHINE_STOCK_START_H

#include "machine/snapshot.h"

#define STOCK_EMPTY (-1)

struct stock_start {
	const char *from;         /* DIR, or unix:PATH: the socket of its daemon */
	struct machine_load load; /* but for the paths and `consume` */
	/* An item was damaged, and the next one is tried; may be NULL */
	void (*thrown_away)(void *opaque, const char *blame, const struct riffle_error *error);
	void *opaque;
};

/*
 * machine_build() for an item of the stock, which is gone from it whatever becomes of the machine. STOCK_EMPTY: there
 * is none. Errors: those of machine_snapshot_load(), IO (no such stock, no daemon).
 */
int stock_start(struct machine **machine, struct stock_start *start, const struct machine_observer *observer,
		struct phases *phases, const char **blame, struct riffle_error *error);

#endif

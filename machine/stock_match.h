/* SPDX-License-Identifier: Apache-2.0 */
/* Whether a stock's item is the machine that was configured. */
#ifndef RIFFLE_MACHINE_STOCK_MATCH_H
#define RIFFLE_MACHINE_STOCK_MATCH_H

#include "machine/config.h"

/* What the front end calls what may differ, for messages. */
struct stock_names {
	const char *vcpus, *smt, *memory, *cpu, *kernel, *initrd, *line, *boot, *mode, *disks, *nets, *pmems, *vsock,
	    *cid, *rng, *balloon;
};

/*
 * Compares everything that an item brings along, by its description. Errors: ARGUMENT, with the name of what differs;
 * FORMAT: the item does not tell what it was made of; IO: a file cannot be compared.
 */
int stock_match(const struct machine_config *item, const struct machine_config *configured,
		const struct stock_names *names, struct riffle_error *error);

/* Gives an item the devices that were configured: those of its kinds, in its order. */
void stock_take_devices(struct machine_config *item, const struct machine_config *configured);

#endif

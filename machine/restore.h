/* SPDX-License-Identifier: Apache-2.0 */
/* The steps of building a machine that restoring one from a snapshot shares. */
#ifndef RIFFLE_MACHINE_RESTORE_H
#define RIFFLE_MACHINE_RESTORE_H

#include "machine/internal.h"

/* build.c */
struct machine *machine_allocate(const struct machine_config *config, const struct machine_observer *observer,
				 struct phases *phases);
int machine_build_platform(struct machine *m, struct riffle_error *error);

/* snapshot_save.c */
void machine_prepare_saving(struct machine *m);
/* Arranges for config.save_at_mark, if set. */
void machine_save_at_mark(struct machine *m);

/* snapshot_socket.c: config.snapshot_socket, if there is one. */
int machine_snapshot_listen(struct machine *m, struct riffle_error *error);
int machine_snapshot_start(struct machine *m, struct riffle_error *error);
void machine_snapshot_close(struct machine *m);

#endif

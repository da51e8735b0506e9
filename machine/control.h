/* SPDX-License-Identifier: Apache-2.0 */
/* What can be done to a machine while it runs, its devices addressed by the ids that the user gave them. */
#ifndef RIFFLE_MACHINE_CONTROL_H
#define RIFFLE_MACHINE_CONTROL_H

#include "machine/machine.h"
#include "monitor/virtio/balloon.h"
#include "monitor/virtio/limiter.h"
#include "monitor/virtio/net.h"

/*
 * Has machine_run()'s event loop run the task once, soon; also before the loop runs. Any thread, from the end of
 * machine_build() to machine_destroy(). A task that was posted after the machine ended may never run.
 */
void machine_post(struct machine *machine, struct loop_task *task);
/* The loop itself, for timers and descriptors of the front end's own. */
struct loop *machine_loop(struct machine *machine);

/*
 * All that follows belongs to the event loop's thread, while the machine runs or is paused. The machine's config must
 * have `controlled` set, or the loop's system call filter does not allow what is needed.
 *
 * Common errors: ARGUMENT with the field "id" (no device of that kind has it) or "balloon" (there is none).
 */

/*
 * The disk is backed by this file from now on, as read-only as before; what is in flight is done first. The file that
 * it has already: its size is looked at again. The guest is told of the new capacity. `path` stays the caller's, and is
 * needed until the next one replaces it: snapshots name it. Errors: those of disk_image_open(); the disk keeps its old
 * file then.
 */
int machine_disk_set_file(struct machine *machine, const char *id, const char *path, struct riffle_error *error);

/* New limits; a bucket that *update does not have stays as it is. */
int machine_disk_set_limits(struct machine *machine, const char *id, const struct limiter_update *update,
			    struct riffle_error *error);
int machine_net_set_limits(struct machine *machine, const char *id, const struct limiter_update *rx,
			   const struct limiter_update *tx, struct riffle_error *error);
int machine_pmem_set_limits(struct machine *machine, const char *id, const struct limiter_update *update,
			    struct riffle_error *error);

/* Counters of a network device; NULL: no such id. */
const struct net_counters *machine_net_counters(const struct machine *machine, const char *id);

/* Errors: ARGUMENT (not a multiple of a page, more than the guest's memory). */
int machine_balloon_set_target(struct machine *machine, uint64_t bytes, struct riffle_error *error);
/* Errors: ARGUMENT (from or to 0 seconds). */
int machine_balloon_set_interval(struct machine *machine, uint16_t seconds, struct riffle_error *error);
int machine_balloon_state(struct machine *machine, struct balloon_state *state, struct riffle_error *error);
/* Errors: ARGUMENT (a balloon without hinting). */
int machine_balloon_hint_start(struct machine *machine, bool acknowledge, struct riffle_error *error);
int machine_balloon_hint_stop(struct machine *machine, struct riffle_error *error);

/* Types Ctrl-Alt-Del on the guest's keyboard. Errors: ARGUMENT (the guest did not read what was typed before). */
int machine_ctrl_alt_del(struct machine *machine, struct riffle_error *error);

/* The machine goes on from a snapshot: new generation id, and the guest is told. While no vCPU runs. Errors: RANDOM. */
int machine_renew_generation(struct machine *machine, struct riffle_error *error);

/* Written data of all disks reaches stable storage, as when a guest is saved. Errors: IO, with the first that failed.
 */
int machine_disks_sync(struct machine *machine, struct riffle_error *error);

/* Pause, resume and end, by machine_control() in machine.h, are for any thread, this one included. */

#endif

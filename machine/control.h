/* SPDX-License-Identifier: Apache-2.0 */
/* Controls a running machine. Devices are addressed by the ids that the user gave them. */
#ifndef RIFFLE_MACHINE_CONTROL_H
#define RIFFLE_MACHINE_CONTROL_H

#include "machine/machine.h"
#include "monitor/virtio/balloon.h"
#include "monitor/virtio/limiter.h"
#include "monitor/virtio/net.h"

/*
 * Makes machine_run()'s event loop run the task once, soon; may be called before the loop runs. Any thread, from the
 * end of machine_build() to machine_destroy(). A task posted after the machine ended may never run.
 */
void machine_post(struct machine *machine, struct loop_task *task);
/* The loop itself, for the front end's own timers and descriptors. */
struct loop *machine_loop(struct machine *machine);

/*
 * Everything below must be called in the event loop's thread, while the machine runs or is paused. The machine's config
 * must have `controlled` set; otherwise the loop's system call filter does not allow what is needed.
 *
 * Common errors: ARGUMENT with the field "id" (no device of that kind has it) or "balloon" (there is none).
 */

/*
 * Replaces the file that backs the disk, which stays read-only or writable as before; requests in flight complete
 * first. If it is the same file, its size is read again. The guest is notified of the new capacity. The caller owns
 * `path` and keeps it until the next one replaces it: snapshots record it. Errors: those of disk_image_open(); the disk
 * then keeps its old file.
 */
int machine_disk_set_file(struct machine *machine, const char *id, const char *path, struct riffle_error *error);

/* Sets new limits; buckets missing from *update are unchanged. */
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

/*
 * The machine continues from a snapshot: sets a new generation id and notifies the guest. No vCPU may be running.
 * Errors: RANDOM.
 */
int machine_renew_generation(struct machine *machine, struct riffle_error *error);

/* Flushes written data of all disks to stable storage, as when a guest is saved. Errors: IO, the first that failed.
 */
int machine_disks_sync(struct machine *machine, struct riffle_error *error);

/* Any thread, including this one, may pause, resume and end by machine_control() in machine.h. */

#endif

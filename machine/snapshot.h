/* SPDX-License-Identifier: Apache-2.0 */
/* Machines saved into files and made of them again. */
#ifndef RIFFLE_MACHINE_SNAPSHOT_H
#define RIFFLE_MACHINE_SNAPSHOT_H

#include <stdbool.h>

#include "machine/machine.h"

#define MACHINE_ID_BYTES 16u

/*
 * A snapshot is two files: guest memory, and the state of everything else, which riffle-snapshot(5) documents. What
 * stands for a whole snapshot is the state file; it is written last, when the memory has reached stable storage.
 */
struct machine_snapshot {
	int state_fd; /* empty, or to be overwritten */
	int memory_fd;
	bool changed; /* memory: only what changed since the last save, or since the machine was loaded */
	bool fresh;   /* the memory file is empty: zeros stay holes */
	/* the result */
	uint64_t memory_bytes; /* written */
	uint64_t paused_ns;    /* how long the guest stood still */
};

/*
 * Saves a machine whose config has `can_save`, in the event loop's thread. One that runs is paused for it and goes on
 * afterwards, whether it was saved or not. Errors: UNSUPPORTED (a machine that runs a command), IO.
 */
int machine_snapshot_write(struct machine *machine, struct machine_snapshot *snapshot, struct riffle_error *error);

/* Whether it can be saved at all. Errors: UNSUPPORTED. */
int machine_snapshot_may(const struct machine *machine, struct riffle_error *error);

/*
 * The same by paths, for a loop that may open files (config.controlled). The files are new ones, which replace those of
 * an earlier snapshot together when both are complete; a failure leaves the earlier ones. With `changed`:
 *  - where there is no memory file of the memory's size, the new one has what changed since the last save and holes;
 *  - where there is one, what changed is written into it in place. The state file of that name is gone from then on
 *    until the new one is there;
 *  - but if there is a state file too, of another save than the last, all of the memory is written into a new file.
 * Refused before anything is touched: a path that is there and no regular file, two names of one file, and to be
 * changed in place a file that somebody else owns or may write to. On failure *blame is the file that it is about.
 */
int machine_snapshot_create(struct machine *machine, const char *state_path, const char *memory_path, bool changed,
			    const char **blame, struct riffle_error *error);

struct machine_net_override {
	const char *id, *tap;
};

/* Pages of memory that a page fault handler provides; those of a file are the file's. */
enum machine_load_pages { MACHINE_PAGES_AS_SAVED, MACHINE_PAGES_SMALL, MACHINE_PAGES_HUGE, MACHINE_PAGES_2M };

/* How a machine is to be made of a snapshot. Paths may be fd:N. */
struct machine_load {
	const char *state_path;
	const char *memory_path; /* mapped, its pages read as they are needed; the file is not changed */
	const char *uffd_path;   /* instead: a unix socket whose listener provides the pages, as Firecracker's does */
	bool consume;            /* nobody else uses the memory file: the guest writes to it */
	bool share_layout;       /* although a guest with the same kernel layout was made of it before */
	bool clock_realtime;     /* kvm-clock goes on by the time that passed; otherwise it stood still */
	bool start_paused;       /* machine_run() starts with the guest paused, until MACHINE_RESUME */
	bool track_dirty;
	enum machine_load_pages pages;
	const struct machine_net_override *nets;
	size_t net_count;
	const char *vsock_path; /* NULL: the saved one */
	/* May refuse the description, and change in it what is the front end's own, before devices are made; may be NULL */
	int (*described)(void *opaque, struct machine_config *config, struct riffle_error *error);
	void *opaque;
	const struct machine_config *host; /* what the description does not hold: console, confinement, emulation,
					      can_save, controlled, vcpu_name, snapshot_socket */
};

/* What is known of a snapshot without loading it. */
struct machine_snapshot_info {
	char riffle_version[32];
	uint64_t created_ns; /* CLOCK_REALTIME */
	uint8_t layout_id[16];
	uint8_t layout_mode; /* enum riffle_mode; RIFFLE_MODE_OFF with a bootstrap too */
	uint32_t vcpus;
	uint64_t memory_bytes;
	uint64_t uses;
	bool has_save;                     /* states of earlier versions have none */
	uint8_t save_id[MACHINE_ID_BYTES]; /* drawn at random with each save */
};

/*
 * machine_build() for a snapshot: everything up to the first guest instruction, then machine_run(). The second guest of
 * one snapshot is refused (*error: TRUST, field "uses") unless share_layout. *info may be NULL.
 */
int machine_snapshot_load(struct machine **machine, const struct machine_load *load,
			  const struct machine_observer *observer, struct phases *phases,
			  struct machine_snapshot_info *info, const char **blame, struct riffle_error *error);

/* What it is made of: of a loaded machine, what its snapshot and the overrides say. */
const struct machine_config *machine_description(const struct machine *machine);

int machine_snapshot_look(const char *state_path, struct machine_snapshot_info *info, struct riffle_error *error);

#endif

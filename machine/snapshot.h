/* SPDX-License-Identifier: Apache-2.0 */
/* Saving machines into files and restoring them. */
#ifndef RIFFLE_MACHINE_SNAPSHOT_H
#define RIFFLE_MACHINE_SNAPSHOT_H

#include <stdbool.h>

#include "machine/machine.h"

#define MACHINE_ID_BYTES 16u

/*
 * A snapshot is two files: guest memory, and the state of everything else, which riffle-snapshot(5) documents. The
 * state file represents the whole snapshot; it is written last, when the memory has reached stable storage.
 */
struct machine_snapshot {
	int state_fd; /* empty, or overwritten */
	int memory_fd;
	bool changed;    /* memory: only what changed since the last save, or since the machine was loaded */
	bool fresh;      /* the memory file is empty: zeros stay holes */
	bool to_consume; /* for machine_load.consume: the state says where the memory file has data, and small holes are
			    filled */
	/* the result */
	uint64_t memory_bytes; /* written */
	bool untracked;        /* with `changed`: nothing told what did, and all of the memory was written */
	uint64_t paused_ns;    /* how long the guest was paused */
};

/*
 * Saves a machine whose config has `can_save`, in the event loop's thread. A running machine is paused meanwhile and
 * continues afterwards, whether saving succeeded or not. Errors: UNSUPPORTED (a machine that runs a command), IO.
 */
int machine_snapshot_write(struct machine *machine, struct machine_snapshot *snapshot, struct riffle_error *error);

/* Whether it can be saved at all. Errors: UNSUPPORTED. */
int machine_snapshot_may(const struct machine *machine, struct riffle_error *error);

/*
 * The same by paths, for a loop that may open files (config.controlled). It writes new files, which together replace
 * those of an earlier snapshot when both are complete; on failure the earlier ones remain. With `changed`:
 *  - if there is no memory file of the memory's size, the new one holds what changed since the last save, and holes;
 *  - if there is one, changes are written into it in place. The state file of that name is removed first, until the new
 * one is complete;
 *  - but if there is also a state file, of a save other than the last, all of the memory is written into a new file.
 * Refused before anything is touched: a path that exists but is not a regular file, two names of the same file, and
 * changing in place a file that somebody else owns or may write to. On failure *blame is the file concerned.
 * *untracked is as in struct machine_snapshot.
 */
int machine_snapshot_create(struct machine *machine, const char *state_path, const char *memory_path, bool changed,
			    bool *untracked, const char **blame, struct riffle_error *error);

struct machine_net_override {
	const char *id, *tap;
};

/* Pages of memory that a page fault handler provides; those of a file are the file's. */
enum machine_load_pages { MACHINE_PAGES_AS_SAVED, MACHINE_PAGES_SMALL, MACHINE_PAGES_HUGE, MACHINE_PAGES_2M };

/* How to restore a machine from a snapshot. Paths may be fd:N. */
struct machine_load {
	const char *state_path;
	const char *memory_path; /* mapped, its pages read on demand; the file is not changed */
	const char *uffd_path; /* instead: a unix socket whose listener provides the pages, by Firecracker's protocol */
	bool consume;          /* the memory file has no other user: the guest writes to it */
	bool share_layout;     /* even if a guest with the same kernel layout was restored from it before */
	bool clock_realtime;   /* advance kvm-clock by the time that passed; otherwise it continues where it stopped */
	bool has_kvm;          /* kvm_fd is open, and KVM was checked; the machine owns it from then on */
	int kvm_fd;
	bool start_paused; /* machine_run() starts with the guest paused, until MACHINE_RESUME */
	bool track_dirty;
	enum machine_load_pages pages;
	bool strict_pages; /* with a memory file: refuse pages of 2 MiB, which its pages cannot be; false: ignore */
	const struct machine_net_override *nets;
	size_t net_count;
	const char *vsock_path; /* NULL: the saved one */
	/* May refuse the description or change the front end's own part of it, before devices are made; may be NULL */
	int (*described)(void *opaque, struct machine_config *config, struct riffle_error *error);
	void *opaque;
	const struct machine_config *host; /* settings that are not in the description: console, confinement, emulation,
					      can_save, controlled, vcpu_name, snapshot_socket */
};

/* What is known of a snapshot without loading it. */
struct machine_snapshot_info {
	char riffle_version[32];
	uint64_t created_ns; /* CLOCK_REALTIME */
	uint8_t layout_id[16];
	uint8_t layout_mode; /* enum riffle_mode; RIFFLE_MODE_OFF with a bootstrap too */
	const char *mode;    /* "kaslr+slide" and so on; NULL: earlier versions' states do not tell */
	uint32_t vcpus;
	uint64_t memory_bytes;
	uint64_t uses;
	bool has_save;                     /* earlier versions' states have none */
	uint8_t save_id[MACHINE_ID_BYTES]; /* drawn at random with each save */
};

/*
 * machine_build() for a snapshot: everything up to the first guest instruction; machine_run() follows. A second guest
 * from one snapshot is refused (*error: TRUST, field "uses") unless share_layout. *info may be NULL.
 */
int machine_snapshot_load(struct machine **machine, const struct machine_load *load,
			  const struct machine_observer *observer, struct phases *phases,
			  struct machine_snapshot_info *info, const char **blame, struct riffle_error *error);

/*
 * Compares the description with load's overrides and by `described`, as machine_snapshot_load() would, and checks that
 * this host's KVM can run it, without opening a device or counting a use. `described` may change only the config. On
 * success *kvm_fd is for load->kvm_fd. Errors: ARGUMENT (they do not match), those of reading the state file and of
 * KVM; *blame is NULL for the latter.
 */
int machine_snapshot_compare(const struct machine_load *load, int *kvm_fd, const char **blame,
			     struct riffle_error *error);

/* What later saves keep for the front end (config.front_end), which stays the caller's. */
void machine_set_front_end(struct machine *machine, const char *text);

/* The machine's description; for a restored machine, from its snapshot and the overrides. */
const struct machine_config *machine_description(const struct machine *machine);

int machine_snapshot_look(const char *state_path, struct machine_snapshot_info *info, struct riffle_error *error);

#endif

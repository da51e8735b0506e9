/* SPDX-License-Identifier: Apache-2.0 */
/* Loads a planned kernel into guest memory at its layout, copying and relocating in one pass. */
#ifndef RIFFLE_LOAD_H
#define RIFFLE_LOAD_H

#include <riffle/layout.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Runs `job(argument, i)` once for each i in 0 .. jobs-1, on threads of the caller's choice, and returns when all have
 * returned, with their effects visible to the calling thread. The library starts no threads of its own. Jobs may run in
 * any order and concurrently; none waits for one that has not been started, but a job may spin until one that another
 * thread has started is done, so each job that was started must be able to proceed by itself.
 */
struct riffle_workers {
	void (*run)(void *opaque, void (*job)(void *argument, unsigned index), void *argument, unsigned jobs);
	void *opaque;
	uint64_t reserved_zero[2];
};

/* options of riffle_load() */
#define RIFFLE_LOAD_CLEAR 1u /* guest memory is not zero: clear the gaps between extents and .bss too */

/* What the monitor needs to know of a loaded kernel. */
struct riffle_loaded {
	uint64_t entry; /* guest-physical address of startup_64, to be entered in 64-bit mode, identity-mapped */
	uint64_t physical_base;
	uint64_t virtual_base;
	uint64_t end;            /* first guest-physical address after .bss and .brk */
	uint64_t bytes_copied;   /* bytes read from the source */
	uint64_t relocations;    /* fields changed */
	uint64_t load_ticks;     /* time-stamp counter ticks spent copying and relocating, summed over workers */
	uint64_t relocate_ticks; /* of these, relocating; both happen in one pass, so only the share is meaningful */
	uint8_t loadflags;       /* bits to set in boot_params.hdr.loadflags (zero page 0x211): KASLR_FLAG with
				    RIFFLE_MODE_KASLR, so that the kernel randomises its direct map, vmalloc, vmemmap and
				    module bases too (kaslr_enabled(), arch/x86/include/asm/setup.h); otherwise 0 */
	uint8_t reserved_zero_first[7];
	uint64_t workspace_used; /* how many bytes at the start of its workspace riffle_load_shuffled() used;
				    otherwise 0 */
	uint8_t reserved_zero[56];
};

/*
 * Loads the kernel. `payload` is the source the plan was opened from; `memory` must hold the whole image in one RAM
 * range with a host address. Unless RIFFLE_LOAD_CLEAR is given the memory must be zero (fresh from the kernel), and
 * pages that stay zero are never touched. Each extent is read piece by piece into guest memory and relocated while it
 * is in cache; for a compressed kernel a piece is a frame. `workers` may be NULL. On failure guest memory may hold part
 * of a kernel.
 * Errors: ARGUMENT, SPACE (the layout does not fit the memory), UNSUPPORTED (compressed, and payload->read_frame is
 * NULL), those of payload->read and payload->read_frame.
 */
RIFFLE_PUBLIC RIFFLE_MUST_CHECK int riffle_load(struct riffle_loaded *loaded, const struct riffle_plan *plan,
						const struct riffle_source *payload, const struct riffle_layout *layout,
						const struct riffle_memory *memory, unsigned options,
						const struct riffle_workers *workers, struct riffle_error *error);

/*
 * The same for RIFFLE_MODE_FGKASLR (and any other): `workspace` is riffle_load_workspace() bytes of scratch memory,
 * aligned to 64, with any contents. It holds the layout afterwards: riffle_wipe() the used part before anything else
 * uses it. It serves one load at a time. `options` may include RIFFLE_LOAD_LAZY_TABLES. Chunks are copied in source
 * order and their references fixed up on the way; every table that the kernel searches by binary search is written in
 * its new order. riffle_load() refuses RIFFLE_MODE_FGKASLR.
 *
 * The guest's /proc/kallsyms lists all functions in the order of their addresses, and Linux lets everybody read it.
 * With RIFFLE_FEATURE_KALLSYMS_MODE in plan->header->features a shuffled kernel creates it readable by root alone.
 * Without this bit, the guest's init must run chmod 400 /proc/kallsyms before anything untrusted runs. Errors: those of
 * riffle_load(), FORMAT.
 */
#define RIFFLE_LOAD_LAZY_TABLES 2u /* leave kallsyms and ORC as linked: incorrect, but some milliseconds cheaper */
RIFFLE_PUBLIC RIFFLE_MUST_CHECK int riffle_load_shuffled(struct riffle_loaded *loaded, const struct riffle_plan *plan,
							 const struct riffle_source *payload,
							 const struct riffle_layout *layout,
							 const struct riffle_memory *memory, unsigned options,
							 const struct riffle_workers *workers, void *workspace,
							 size_t workspace_bytes, struct riffle_error *error);
/* Bytes of workspace that riffle_load_shuffled() needs for this plan; 0 if it has no chunks. */
RIFFLE_PUBLIC size_t riffle_load_workspace(const struct riffle_plan *plan);

#ifdef __cplusplus
}
#endif
#endif

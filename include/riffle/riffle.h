/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All of libriffle: prepared kernel -> plan -> layout -> load -> boot.
 *
 * These rules hold for every function:
 *
 * ABI. A program built against these headers runs with every later libriffle.so.0. Functions, struct members, flags and
 * statuses may be added; none is removed, moved or redefined without a new soname. Structs that a caller allocates end
 * in `reserved_zero`, from which later versions take new members whose value 0 means the old behaviour. Set them to 0
 * (by an initialiser or memset()), or the library refuses the struct (RIFFLE_ERR_ARGUMENT). struct riffle_plan also
 * carries its size: initialise it with RIFFLE_PLAN_INIT. Unknown flags and options are refused. struct riffle_ram and
 * struct riffle_range, of which callers make arrays, do not change. Every symbol begins with riffle_, every macro with
 * RIFFLE_. The file format has its own version (riffle/format.h).
 *
 * Threads. There is no global state. Calls that share no object may run concurrently, and so may calls that only read
 * what they share: a plan, a source, the guest's RAM map. A layout, workspace or random state serves one call at a
 * time. Different guests can be loaded from one plan concurrently.
 *
 * Lifetime. Structs belong to the caller and may be moved (copied to another address) between calls, except for these,
 * which must stay in place while anything made from them is in use: struct riffle_source_memory (its source points to
 * it), struct riffle_seeded (its struct riffle_random does), and the header and plan bytes given to riffle_plan_check()
 * (the plan does). The library keeps no pointer to a source, layout or memory map after a call.
 *
 * Buffers. Structs that a function fills in need not be initialised, except where their comment names an initialiser or
 * members to set. A load's workspace, and the buffers passed to read, read_frame and fill, may be uninitialised: they
 * are written, not read.
 *
 * Callbacks must return: no longjmp(), exception or panic may leave them.
 *
 * Guest memory. Loads write only [physical_base, end) of the kernel. riffle_boot_write() and
 * riffle_boot_write_bzimage() write below 1 MiB, and the latter also where it puts the bzImage. A monitor that tracks
 * dirty pages must mark these ranges. A call reads from guest memory only what it has written itself.
 */
#ifndef RIFFLE_RIFFLE_H
#define RIFFLE_RIFFLE_H

#include <riffle/boot.h>
#include <riffle/error.h>
#include <riffle/format.h>
#include <riffle/layout.h>
#include <riffle/load.h>
#include <riffle/memory.h>
#include <riffle/plan.h>
#include <riffle/version.h>

#endif

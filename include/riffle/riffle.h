/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All of libriffle: prepared kernel -> plan -> layout -> load -> boot.
 *
 * What holds for every function:
 *
 * ABI. A program built against these headers runs with every later libriffle.so.0. Functions, struct members, flags and
 * statuses are added; none goes, moves or changes its meaning without a new soname. Structs that a caller makes end in
 * `reserved_zero`, out of which later versions take members whose 0 means what was done before; set them to 0 (an
 * initialiser or memset() does), or the library refuses the struct (RIFFLE_ERR_ARGUMENT). struct riffle_plan tells its
 * size besides: start from RIFFLE_PLAN_INIT. Flags and options that a version does not know are refused. struct
 * riffle_ram and struct riffle_range, of which callers make arrays, stay as they are. Every linkable name begins with
 * riffle_, every macro with RIFFLE_. The file format has a version of its own (riffle/format.h).
 *
 * Threads. There is no global state. Calls that share no object may run at once, and so may calls that only read what
 * they share: a plan, a source, the guest's RAM map. One layout, workspace or random state serves one call at a time.
 * Different guests can be loaded from one plan at once.
 *
 * Lifetime. Structs are the caller's, and may be moved (copied to another address) between calls, but for these, which
 * stay where they are as long as anything that was made from them is in use: struct riffle_source_memory (pointed to by
 * its source), struct riffle_seeded (by its struct riffle_random), and the header and plan bytes given to
 * riffle_plan_check() (by the plan). The library keeps no pointer to a source, layout or memory map after a call.
 *
 * Buffers. Structs that a function fills need not be initialised, except where their comment names an initialiser or
 * members to set. A load's workspace, and the buffers handed to read, read_frame and fill, may be uninitialised memory:
 * they are to be written, not read.
 *
 * Callbacks must return: no longjmp() and no exception or panic may leave them.
 *
 * Guest memory is written in two places: by loads in [physical_base, end) of the kernel, by riffle_boot_write() and
 * riffle_boot_write_bzimage() below 1 MiB and, the latter, where it puts the bzImage. A monitor that tracks dirty pages
 * marks these. Nothing is read from guest memory but what the same call has written.
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

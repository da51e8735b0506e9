/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All of libriffle: prepared kernel -> plan -> layout -> load -> boot.
 *
 * The ABI grows without a new soname. Structs that a caller makes end in `reserved_zero`, out of which later versions
 * take new members whose 0 means what was done before; set them to 0 (an initialiser or memset() does), or the library
 * refuses the struct (RIFFLE_ERR_ARGUMENT). struct riffle_plan tells its size besides: start from RIFFLE_PLAN_INIT.
 * Flags and options that a version does not know are refused too. struct riffle_ram and struct riffle_range, of which
 * callers make arrays, stay as they are.
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

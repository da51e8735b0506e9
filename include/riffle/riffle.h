/* SPDX-License-Identifier: Apache-2.0 */
/* All of libriffle: prepared kernel -> plan -> layout -> load -> boot. */
#ifndef RIFFLE_RIFFLE_H
#define RIFFLE_RIFFLE_H

#include <riffle/boot.h>
#include <riffle/error.h>
#include <riffle/format.h>
#include <riffle/layout.h>
#include <riffle/load.h>
#include <riffle/memory.h>
#include <riffle/plan.h>

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls that the linker's --wrap leads here are interrupted by a signal every other time, and otherwise take half of
 * what they are given: those of all threads but the first, which is the test itself.
 */
#ifndef RIFFLE_TESTS_INTERRUPTED_H
#define RIFFLE_TESTS_INTERRUPTED_H

#include <stdbool.h>

extern bool interrupt_all; /* those of the first thread, too */

#endif

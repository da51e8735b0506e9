/* SPDX-License-Identifier: Apache-2.0 */
/* How a fuzz target says that it took an input to the end: each of its seeds must get there (tests/fuzz/replay.c). */
#ifndef RIFFLE_TESTS_FUZZ_ACCEPTED_H
#define RIFFLE_TESTS_FUZZ_ACCEPTED_H

__attribute__((weak)) unsigned long fuzz_accepted;

#endif

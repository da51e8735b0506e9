/* SPDX-License-Identifier: Apache-2.0 */
/* Lets a fuzz target report that it fully accepted an input, as it must each of its seeds (tests/fuzz/replay.c). */
#ifndef RIFFLE_TESTS_FUZZ_ACCEPTED_H
#define RIFFLE_TESTS_FUZZ_ACCEPTED_H

__attribute__((weak)) unsigned long fuzz_accepted;

#endif

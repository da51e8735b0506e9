/* SPDX-License-Identifier: Apache-2.0 */
/* Lets a fuzz target report that it fully accepted an input, as it must each of its seeds (tests/fuzz/replay.c). */
#ifndef RIFFLE_TESTS_FUZZ_ACCEPTED_H
#define RIFFLE_TESTS_FUZZ_ACCEPTED_H

__attribute__((weak)) unsigned long fuzz_accepted;

/* Of a target's own functions that compare nothing of interest: coverage of them would take time and guide nowhere. */
#ifdef __clang__
#define FUZZ_UNTRACED __attribute__((no_sanitize("coverage")))
#else
#define FUZZ_UNTRACED
#endif

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define FUZZ_POISONS /* memory can be marked as out of bounds */
#endif
#endif

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The work on every byte of a plan at each boot: checksum and scans of long lists, with the widest vectors available.
 */
#ifndef RIFFLE_PLAN_SCAN_H
#define RIFFLE_PLAN_SCAN_H

#include <stddef.h>
#include <stdint.h>

/* riffle_checksum() */
uint64_t riffle_scan_checksum(const void *bytes, size_t count);
/* How many entries are not larger than the previous one. */
uint32_t riffle_scan_descents(const uint32_t *list, uint32_t count);
/* The largest entry, 0 of none. */
uint16_t riffle_scan_most(const uint16_t *list, uint32_t count);
/* How many steps are RIFFLE_STEP_FAR. */
uint32_t riffle_scan_far(const uint8_t *steps, uint32_t count);

/* The same for a processor with AVX2: only in hosted builds, and after checking for it. */
uint64_t riffle_scan_checksum_avx2(const void *bytes, size_t count);
uint32_t riffle_scan_descents_avx2(const uint32_t *list, uint32_t count);
uint16_t riffle_scan_most_avx2(const uint16_t *list, uint32_t count);
uint32_t riffle_scan_far_avx2(const uint8_t *steps, uint32_t count);

#endif

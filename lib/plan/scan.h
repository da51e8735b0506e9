/* SPDX-License-Identifier: Apache-2.0 */
/* What is done with every byte of a plan at each boot: checksum and scans of long lists, by the widest vectors there
 * are. */
#ifndef RIFFLE_PLAN_SCAN_H
#define RIFFLE_PLAN_SCAN_H

#include <stddef.h>
#include <stdint.h>

/* riffle_checksum() */
uint64_t riffle_scan_checksum(const void *bytes, size_t count);
/* How many entries are no larger than the one before. */
uint32_t riffle_scan_descents(const uint32_t *list, uint32_t count);
/* The largest entry, 0 of none. */
uint16_t riffle_scan_most(const uint16_t *list, uint32_t count);
/* How many steps are RIFFLE_STEP_FAR. */
uint32_t riffle_scan_far(const uint8_t *steps, uint32_t count);

/* The same for a processor that has AVX2: in hosted builds, and after asking for it only. */
uint64_t riffle_scan_checksum_avx2(const void *bytes, size_t count);
uint32_t riffle_scan_descents_avx2(const uint32_t *list, uint32_t count);
uint16_t riffle_scan_most_avx2(const uint16_t *list, uint32_t count);
uint32_t riffle_scan_far_avx2(const uint8_t *steps, uint32_t count);

#endif

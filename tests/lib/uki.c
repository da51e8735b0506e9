/* SPDX-License-Identifier: Apache-2.0 */
/* Builds unified kernel images: PE files with a section table and what it leads to. */
#include <string.h>

#include "common/bytes.h"
#include "tests/lib/kernels.h"

#define UKI_ALIGN 512u

void test_uki_of(struct test_bytes *file, uint16_t machine, const struct test_uki_part *part, unsigned parts)
{
	uint8_t head[0x400] = {'M', 'Z'};
	uint32_t at = sizeof head;

	riffle_put32(head + 0x3c, TEST_UKI_PE_AT);
	memcpy(head + TEST_UKI_PE_AT, "PE\0", 4);
	riffle_put16(head + TEST_UKI_PE_AT + 4, machine);
	riffle_put16(head + TEST_UKI_PE_AT + 6, (uint16_t)parts);
	riffle_put16(head + TEST_UKI_PE_AT + 20, 240);
	for (unsigned i = 0; i < parts; i++) {
		uint8_t *section = head + TEST_UKI_SECTIONS_AT + 40 * i;
		uint32_t padded = (uint32_t)(part[i].count + UKI_ALIGN - 1) / UKI_ALIGN * UKI_ALIGN;

		strncpy((char *)section, part[i].name, 8);
		riffle_put32(section + 8, (uint32_t)part[i].count);
		riffle_put32(section + 16, padded);
		riffle_put32(section + 20, at);
		at += padded;
	}
	test_bytes_add(file, head, sizeof head);
	for (unsigned i = 0; i < parts; i++) {
		test_bytes_add(file, part[i].bytes, part[i].count);
		test_bytes_zero(file, (UKI_ALIGN - part[i].count % UKI_ALIGN) % UKI_ALIGN);
	}
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzzes the search for kallsyms tables: well-formed ones of each format with some bytes changed, or raw input. */
#include <stdlib.h>

#include "prepare/symbols/symbols.h"
#include "tests/fuzz/accepted.h"
#include "tests/unit/symbols/kallsyms_builder.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct kallsyms_image image;

static void read_bytes(const uint8_t *bytes, size_t count)
{
	uint8_t *exact = malloc(count ? count : 1);
	struct symbol_place place;
	struct riffle_error error;
	struct symbols symbols;

	memcpy(exact, bytes, count);
	symbols_init(&symbols, LINK_VIRTUAL, LINK_VIRTUAL + count);
	if (!symbols_from_kallsyms(&symbols, exact, count, &error)) {
		fuzz_accepted++;
		for (size_t i = 0; i < count; i += 64)
			symbols_find(&place, &symbols, LINK_VIRTUAL + i);
	}
	symbols_free(&symbols);
	free(exact);
}

/* byte 0: the format, or none; byte 1: symbols; then changes of three bytes: where (two), what */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 2)
		return 0;
	if (data[0] % (KALLSYMS_FORMATS + 1) == KALLSYMS_FORMATS) {
		read_bytes(data + 1, size - 1);
		return 0;
	}
	kallsyms_put(&image, &kallsyms_formats[data[0] % (KALLSYMS_FORMATS + 1)], data[1] + 1u, 0);
	for (size_t at = 2; at + 3 <= size; at += 3)
		image.bytes[riffle_get16(data + at) % image.end] = data[at + 2];
	read_bytes(image.bytes, image.end);
	return 0;
}

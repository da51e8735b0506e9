/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inputs with one thing changed, thousands of them, each tried and its outcome recorded. A change is by a little, to a
 * number at some edge, or to what stands elsewhere in the same part.
 */
#ifndef RIFFLE_TESTS_VARY_H
#define RIFFLE_TESTS_VARY_H

#include <stdbool.h>
#include <stdint.h>

#include "common/bytes.h"
#include "tests/lib/kernels.h"
#include "tests/unit/recorded.h"

static inline uint32_t vary_place(uint64_t *state, uint32_t from, uint32_t to, uint32_t align)
{
	return from + (uint32_t)(test_random(state) % (to - from - align + 1)) / align * align;
}

static inline void vary(uint8_t *bytes, uint32_t from, uint32_t to, uint64_t *state)
{
	static const int32_t little[] = {-16, -12, -8, -4, -3, -2, -1, 1, 2, 3, 4, 8, 12, 16};
	/* edges of numbers, and opcodes that begin, end and fill code */
	static const uint8_t edge[] = {0x00, 0x01, 0x7f, 0x80, 0xff, 0x90, 0xcc, 0xc3,
				       0xe8, 0xe9, 0xeb, 0x0f, 0x48, 0xf4, 0x74, 0x66};
	const uint32_t byte = vary_place(state, from, to, 1), word = vary_place(state, from, to, 4);
	const uint32_t other = vary_place(state, from, to, 4);
	const uint64_t choice = test_random(state), way = choice >> 8;

	switch (choice % 8) {
	case 0:
	case 1:
	case 2:
		riffle_put32(bytes + word,
			     riffle_get32(bytes + word) + (uint32_t)little[way % (sizeof little / sizeof *little)]);
		break;
	case 3:
		bytes[byte] = edge[way % sizeof edge];
		break;
	case 4:
		riffle_put32(bytes + word, riffle_get32(bytes + other));
		break;
	case 5:
		riffle_put32(bytes + word, riffle_get32(bytes + word) ^ (uint32_t)1 << way % 32);
		break;
	case 6:
		bytes[byte] = (uint8_t)(bytes[byte] + (way % 2 ? 1 : -1));
		break;
	default:
		riffle_put32(bytes + word, (const uint32_t[]){0, UINT32_MAX, INT32_MAX, 1u << 31}[way % 4]);
		break;
	}
}

/* A part of an input, and what is recorded of it. */
struct varied {
	struct recording wanted;
	uint32_t from, to; /* `to` 0: the input's end */
	unsigned count;
};

/* Tries the input as it is, then varied; false when the outcomes are not the recorded ones. */
static inline bool vary_part(const struct varied *v, const struct test_bytes *input,
			     void try(struct recorded *r, const struct test_bytes *input))
{
	struct recorded r = recorded_begin(v->wanted.name);
	struct test_bytes copy = {0};
	uint64_t random = v->count;

	for (const char *p = v->wanted.name; *p; p++)
		random = random * 31 + (uint8_t)*p;
	test_bytes_add(&copy, input->at, input->count);
	for (unsigned n = 0; n < v->count; n++) {
		if (n)
			vary(copy.at, v->from, v->to ? v->to : (uint32_t)input->count, &random);
		record(&r, "%u:", n);
		try(&r, &copy);
		memcpy(copy.at, input->at, input->count);
	}
	test_bytes_free(&copy);
	return recorded_is(&r, &v->wanted);
}

#endif

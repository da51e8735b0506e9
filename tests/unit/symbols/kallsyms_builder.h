/* SPDX-License-Identifier: Apache-2.0 */
/* Builds kallsyms tables as kernels of different ages have them, in an image with other bytes around. */
#ifndef RIFFLE_TESTS_KALLSYMS_BUILDER_H
#define RIFFLE_TESTS_KALLSYMS_BUILDER_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "common/bytes.h"

#define LINK_VIRTUAL UINT64_C(0xffffffff81000000)
#define IMAGE_BYTES (1u << 20)
#define PERCPU_SYMBOLS 5u
#define LONG_NAME_EVERY 97u /* so many symbols apart have names of more than 127 codes */

/* what differs between kernel versions */
struct kallsyms_format {
	const char *name;
	bool offsets_first; /* up to 6.3 */
	bool seqs;          /* from 6.2 on, and in some stable ones before */
	bool long_names;    /* from 6.1 on: lengths of two bytes */
	enum { PERCPU_ZERO, PLAIN, SELF } addresses;
	unsigned align;
};

static const struct kallsyms_format kallsyms_formats[] = {
    {"5.10", true, false, false, PERCPU_ZERO, 8},
    {"5.10 without SMP", true, false, false, PLAIN, 8},
    {"6.1 stable", true, true, true, PERCPU_ZERO, 8},
    {"6.12", false, true, true, PERCPU_ZERO, 8},
    {"6.15", false, true, true, PLAIN, 8},
    {"7.2", false, true, true, SELF, 8},
    {"7.2 packed", false, true, true, SELF, 4},
};
#define KALLSYMS_FORMATS (sizeof kallsyms_formats / sizeof *kallsyms_formats)

struct kallsyms_image {
	uint8_t bytes[IMAGE_BYTES];
	uint32_t count;
	size_t start, end; /* of the tables */
	size_t num_syms, names, markers, markers_end, token_table, token_index, offsets;
	size_t seqs;   /* 0: none */
	bool has_room; /* a test's wish: `room` bytes from the end of the markers to the strings */
	uint32_t room;
};

/* symbol i: its type and name, its address */
static inline void kallsyms_name(char *name, const struct kallsyms_format *format, uint32_t i)
{
	static const char *const stems[] = {"sys_read", "__x64_sys_open", "vfs_", "tcp_v4_rcv", "_stext.cold", "zone"};
	size_t used = (size_t)sprintf(name, "%c%s%u", "TtDdrW"[i % 6], stems[i * 7 % 6], i);

	if (format->long_names && i % LONG_NAME_EVERY == LONG_NAME_EVERY - 1)
		for (; used < 300; used++)
			name[used] = (char)('A' + (i + used) % 26);
	name[used] = 0;
}

static inline bool kallsyms_is_percpu(const struct kallsyms_format *format, uint32_t i)
{
	return format->addresses == PERCPU_ZERO && i < PERCPU_SYMBOLS;
}

static inline uint64_t kallsyms_address(const struct kallsyms_format *format, uint32_t i)
{
	return kallsyms_is_percpu(format, i) ? i * 8 : LINK_VIRTUAL + i * 24 + i % 5;
}

/* codes: a character stands for itself, from 128 on for a longer string; the rest is not used */
static inline const char *kallsyms_token(unsigned code)
{
	static const char *const longer[] = {"sys_", "__x64_", "vfs", "tcp_v4", "_stext", "cold", "one", "sys_read"};
	static char single[2];

	if (code >= 128 && code < 128 + sizeof longer / sizeof *longer)
		return longer[code - 128];
	single[0] = code > ' ' && code < 0x7f ? (char)code : 0;
	return single;
}

static inline size_t kallsyms_encode(uint8_t *codes, const char *name)
{
	size_t count = 0;

	while (*name) {
		unsigned best = (unsigned char)*name;
		size_t best_bytes = 1;

		for (unsigned code = 128; code < 256; code++) {
			size_t bytes = strlen(kallsyms_token(code));

			if (bytes > best_bytes && !strncmp(name, kallsyms_token(code), bytes)) {
				best = code;
				best_bytes = bytes;
			}
		}
		codes[count++] = (uint8_t)best;
		name += best_bytes;
	}
	return count;
}

static inline size_t kallsyms_align(size_t at, unsigned align)
{
	return (at + align - 1) / align * align;
}

static inline size_t kallsyms_put_offsets(struct kallsyms_image *image, const struct kallsyms_format *format, size_t at)
{
	image->offsets = at = kallsyms_align(at, format->align);
	for (uint32_t i = 0; i < image->count; i++, at += 4) {
		uint64_t address = kallsyms_address(format, i);
		uint32_t value = (uint32_t)(address - LINK_VIRTUAL);

		if (format->addresses == PERCPU_ZERO)
			value =
			    kallsyms_is_percpu(format, i) ? (uint32_t)address : (uint32_t)(LINK_VIRTUAL - 1 - address);
		else if (format->addresses == SELF)
			value = (uint32_t)(address - (LINK_VIRTUAL + at));
		riffle_put32(image->bytes + at, value);
	}
	if (format->addresses == SELF)
		return at;
	at = kallsyms_align(at, 8);
	riffle_put64(image->bytes + at, LINK_VIRTUAL);
	return at + 8;
}

static inline size_t kallsyms_put_names(struct kallsyms_image *image, const struct kallsyms_format *format, size_t at)
{
	uint32_t markers[4096];
	uint8_t codes[512];
	char name[512];

	image->num_syms = at = kallsyms_align(at, format->align);
	riffle_put32(image->bytes + at, image->count);
	image->names = at = kallsyms_align(at + 4, format->align);
	for (uint32_t i = 0; i < image->count; i++) {
		size_t count;

		if (i % 256 == 0)
			markers[i / 256] = (uint32_t)(at - image->names);
		kallsyms_name(name, format, i);
		count = kallsyms_encode(codes, name);
		if (count > 127) {
			image->bytes[at++] = (uint8_t)(count | 0x80);
			image->bytes[at++] = (uint8_t)(count >> 7);
		} else {
			image->bytes[at++] = (uint8_t)count;
		}
		memcpy(image->bytes + at, codes, count);
		at += count;
	}
	image->markers = at = kallsyms_align(at, format->align);
	for (uint32_t i = 0; i < (image->count + 255) / 256; i++, at += 4)
		riffle_put32(image->bytes + at, markers[i]);
	image->markers_end = at;
	return at;
}

static inline size_t kallsyms_put_seqs(struct kallsyms_image *image, const struct kallsyms_format *format, size_t at)
{
	image->seqs = at = kallsyms_align(at, format->align);
	for (uint32_t i = 0; i < image->count; i++, at += 3) {
		image->bytes[at] = (uint8_t)(i >> 16);
		image->bytes[at + 1] = (uint8_t)(i >> 8);
		image->bytes[at + 2] = (uint8_t)i;
	}
	return at;
}

static inline size_t kallsyms_put_tokens(struct kallsyms_image *image, const struct kallsyms_format *format, size_t at)
{
	uint16_t index[256];

	image->token_table = at =
	    image->has_room ? image->markers_end + image->room : kallsyms_align(at, format->align);
	for (unsigned code = 0; code < 256; code++) {
		const char *token = kallsyms_token(code);

		index[code] = (uint16_t)(at - image->token_table);
		memcpy(image->bytes + at, token, strlen(token) + 1);
		at += strlen(token) + 1;
	}
	image->token_index = at = kallsyms_align(at, format->align);
	memcpy(image->bytes + at, index, sizeof index);
	return at + sizeof index;
}

/* Tables of `count` symbols at offset `start`; the image's other bytes stay as they are. */
static inline void kallsyms_put(struct kallsyms_image *image, const struct kallsyms_format *format, uint32_t count,
				size_t start)
{
	size_t at = kallsyms_align(start, 8);

	image->count = count;
	image->start = at;
	image->seqs = 0;
	memset(image->bytes + at, 0, count * 64 + 8192); /* padding between the tables is zero */
	if (format->offsets_first)
		at = kallsyms_put_offsets(image, format, at);
	at = kallsyms_put_names(image, format, at);
	if (format->offsets_first && format->seqs)
		at = kallsyms_put_seqs(image, format, at);
	at = kallsyms_put_tokens(image, format, at);
	if (!format->offsets_first) {
		at = kallsyms_put_offsets(image, format, at);
		at = kallsyms_put_seqs(image, format, at);
	}
	image->end = at;
}

/* The same with noise around. */
static inline void kallsyms_build(struct kallsyms_image *image, const struct kallsyms_format *format, uint32_t count,
				  size_t start)
{
	uint32_t noise = count * 2654435761u + 1;

	for (size_t i = 0; i < IMAGE_BYTES; i++) {
		noise = noise * 1664525 + 1013904223;
		image->bytes[i] = (uint8_t)(noise >> 24);
	}
	kallsyms_put(image, format, count, start);
}

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* The kallsyms tables of a kernel's image: where each of them lies, and every symbol with its type. */
#ifndef RIFFLE_PREPARE_KALLSYMS_H
#define RIFFLE_PREPARE_KALLSYMS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <riffle/error.h>

/* Offsets in the image's bytes. */
struct kallsyms_place {
	bool self_relative;   /* offsets are distances from the entry itself (7.2) */
	bool absolute_percpu; /* negative offsets count down from base - 1, others are absolute */
	uint32_t count;
	size_t num_syms; /* where the count is stored */
	size_t offsets;  /* s32[count] */
	size_t base;     /* where relative_base is stored; 0 if self_relative */
	uint64_t relative_base;
	size_t names, names_bytes;
	size_t markers;              /* u32[(count + 255) / 256] */
	size_t seqs;                 /* u8[3][count] of kallsyms_seqs_of_names (6.2 on, and backports); 0: none */
	size_t tokens, tokens_bytes; /* token_table up to the end of token_index */
};

/*
 * Finds the tables by their structure in an image that lies at link address `address`, and checks that
 * kallsyms_seqs_of_names numbers each symbol once. Errors: FORMAT (none found, or they contradict each other).
 */
int kallsyms_find(struct kallsyms_place *place, const uint8_t *image, size_t bytes, uint64_t address,
		  struct riffle_error *error);

/*
 * Receives a symbol. For a percpu symbol up to 6.14 `address` is an offset into a CPU's area; `name` is uncompressed.
 */
typedef void kallsyms_add(void *opaque, uint64_t address, char type, const char *name);

/*
 * Passes all symbols to `add` in table order: ascending by address, aliases as the kernel orders them. *names holds
 * their names; free it when these are no longer needed. Errors: FORMAT, MEMORY, before the first symbol is passed.
 */
int kallsyms_read(char **names, const struct kallsyms_place *place, const uint8_t *image, size_t bytes,
		  uint64_t address, kallsyms_add *add, void *opaque, struct riffle_error *error);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* The grammar of device options, VALUE,key=value,flag, with one error message that says what was expected. */
#ifndef RIFFLE_MACHINE_OPTION_GRAMMAR_H
#define RIFFLE_MACHINE_OPTION_GRAMMAR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * An option's value is a list of parts separated by commas; a comma within a part is written twice. The first part may
 * have no name (a file); every other part is `key=value` or the name of a flag. No key may occur twice, unless it is a
 * list.
 */
enum option_kind {
	OPTION_FLAG,   /* its name alone */
	OPTION_TEXT,   /* not empty */
	OPTION_NUMBER, /* decimal or 0x..., from min to max */
	OPTION_SIZE,   /* a number of bytes, which may have a unit: K, M, G, T (powers of 1024) */
	OPTION_CHOICE, /* one of `choices`, which end with NULL */
	OPTION_MAC,    /* six hexadecimal bytes with colons; the first must be even (no group address) */
};

#define OPTION_LIST_MAX 16u

struct option_key {
	const char *name;
	enum option_kind kind;
	const char *expected; /* for the error: "writeback, none or unsafe"; NULL: derived from kind and limits */
	uint64_t min, max;    /* NUMBER and SIZE; max 0: no limit */
	const char *const *choices;
	bool list; /* TEXT: may be given several times */
	bool required;
};

struct option_value {
	bool given;
	const char *text; /* TEXT, and the first part: in *storage */
	uint64_t number;  /* NUMBER, SIZE; CHOICE: which; MAC: bytes in network order in the low 48 bits */
	const char *list[OPTION_LIST_MAX];
	unsigned count;
};

struct option_grammar {
	const char *option; /* "--disk" */
	const char *first;  /* what the unnamed part is: "FILE"; NULL: there is none */
	const struct option_key *keys;
	size_t key_count;
};

/*
 * Parses `text`. values[i] belongs to keys[i], and values[key_count] to the first part. On success the texts point into
 * *storage, which the caller frees. False: `problem` is one line that names option, key and what was expected.
 */
bool option_grammar_parse(const struct option_grammar *grammar, const char *text, struct option_value *values,
			  char **storage, char *problem, size_t room);

/* "10M" and "0x10" as OPTION_SIZE and OPTION_NUMBER read them; false: not a number, or it does not fit 64 bits. */
bool option_grammar_size(const char *text, uint64_t *size);
bool option_grammar_number(const char *text, uint64_t *number);

#endif

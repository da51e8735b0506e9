/* SPDX-License-Identifier: Apache-2.0 */
/* Of which files a machine was made and how much of it was drawn at random: kept in its snapshots, without the layout.
 */
#ifndef RIFFLE_MACHINE_ORIGIN_H
#define RIFFLE_MACHINE_ORIGIN_H

#include <stdbool.h>
#include <stdint.h>

#include <riffle/error.h>

/* A file: which one it was, and what was in it. */
struct machine_file {
	bool given; /* there is one */
	bool made;  /* it was generated, and nothing else is known */
	uint64_t device, inode, bytes, seconds, nanoseconds, checksum;
};

struct machine_origin {
	const char *mode; /* a word of struct machine_randomisation; NULL: not known */
	double virtual_bits, physical_bits;
	unsigned chunks;
	bool identified; /* the rest is known */
	struct machine_file kernel, initrd;
	uint64_t cpu; /* checksum of the CPU's configuration */
};

struct machine_config;
/* Which files the machine's kernel and initrd are, and its CPU's configuration. Errors: IO; *blame is the file. */
int machine_origin_identify(struct machine_origin *origin, const struct machine_config *config, const char **blame,
			    struct riffle_error *error);

/*
 * Whether the file of that name (NULL: none) is the one that is known: the same file unchanged, or one with the same
 * contents, which is read only if need be.
 */
int machine_file_compare(bool *same, const struct machine_file *known, const char *name, struct riffle_error *error);
uint64_t machine_origin_cpu(const struct machine_config *config);

/* As one word for a description; false: the word is none. */
#define MACHINE_FILE_WORD 120
void machine_file_print(char word[MACHINE_FILE_WORD], const struct machine_file *file);
bool machine_file_parse(struct machine_file *file, const char *word);

/* "off" and so on as a constant, NULL: there is no such mode. */
const char *machine_origin_mode(const char *word);

#endif

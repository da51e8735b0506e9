/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the readers of a kernel's tables (table_lookup.c), and what table_sorted.c reads for tables.c. */
#ifndef RIFFLE_PREPARE_SHUFFLE_TABLES_H
#define RIFFLE_PREPARE_SHUFFLE_TABLES_H

#include "prepare/shuffle/internal.h"

/* A table's bounds, as image offsets. */
struct table_place {
	bool found;
	uint32_t offset, bytes;
};

/*
 * The section of that name, or the range between two symbols; each may be NULL. An empty table counts as not found.
 * Errors: UNSUPPORTED, if it lies outside the image's bytes or ends before it starts.
 */
int table_find(struct table_place *place, const struct work *work, const char *section, const char *start,
	       const char *stop, struct riffle_error *error);

/*
 * A section's extent as image offsets; it must lie in the image and not be made of code. `name` is for an error, which
 * outlives the image and with it the section's own.
 */
int table_place_section(struct table_place *place, const struct work *work, const struct image_section *section,
			const char *name, struct riffle_error *error);

/* The target of the 32-bit distance at `field`; false if it is outside the image. */
bool table_target(const struct work *work, uint32_t field, uint32_t *target);

/* Whether the offset lies in a section of code or, with `end`, directly after one. */
bool table_in_code(const struct work *work, uint32_t offset, bool end);
/* The same for work->copied. */
bool table_in_copied(const struct work *work, uint32_t offset, bool end);
/* In either: where tables that describe code may point. */
bool table_leads_to_code(const struct work *work, uint32_t offset, bool end);

/*
 * Whether an instruction starts there, or may start there in bytes that the disassembler does not understand (they are
 * pinned).
 */
bool table_is_instruction(const struct work *work, uint32_t offset);

/* UNSUPPORTED, with the table's name and the link address of what is wrong in it. */
int table_refuse(const struct work *work, const char *name, const char *problem, uint32_t offset,
		 struct riffle_error *error);

/* Marks bytes that the census need not test. Errors: UNSUPPORTED (implausibly many). */
int table_known(struct work *work, const char *name, uint32_t offset, uint32_t bytes, struct riffle_error *error);

/* table_sorted.c: tables that the kernel searches by binary search but does not sort itself, and kallsyms. */
#define TABLES_SORTED 2u /* that hold distances and that a test can ignore */
int table_read_sorted(struct work *work, uint64_t ignored, struct riffle_error *error);
const char *table_sorted_name(unsigned index);

/* The number of tables that tables_read() knows, and their names, in the order of work->tables_ignored; for tests. */
unsigned table_count(void);
const char *table_name(unsigned index);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* What the checks of a plan's parts share. */
#ifndef RIFFLE_PLAN_CHECK_H
#define RIFFLE_PLAN_CHECK_H

#include <stdbool.h>

#include <riffle/plan.h>

/* A section of the plan's second part, and where the plan refers to it. */
struct plan_place {
	enum riffle_section_kind kind;
	const char *name;
	size_t entry_bytes;
	const void **entries;
	uint32_t *count;
};

#define PLAN_PLACE(plan, kind, member, counter)                                                                        \
	{                                                                                                              \
		RIFFLE_SECTION_##kind, #member, sizeof *(plan)->member, (const void **)&(plan)->member, counter        \
	}

/* Sets entries and counts of sections that lie in the second part of the plan's bytes. Errors: FORMAT. */
int riffle_plan_take_sections(const struct riffle_plan *plan, const uint8_t *bytes, const struct plan_place *places,
			      size_t count, struct riffle_error *error);

/*
 * Strictly ascending image offsets of fields, each wholly inside one extent (and so inside its segment, and among the
 * loaded bytes). Errors: FORMAT.
 */
int riffle_plan_check_fields(const struct riffle_plan *plan, const uint32_t *list, uint32_t count, uint32_t field_bytes,
			     const char *name, struct riffle_error *error);

/* riffle_has_field() of all fields that KASLR or a shuffle changes: relocations, and fixed fields. */
bool riffle_plan_has_field(const struct riffle_plan *plan, uint32_t start, uint64_t end);

/* The plan's shuffle sections, after everything else has been checked. */
int riffle_plan_check_shuffle(struct riffle_plan *plan, const uint8_t *bytes, struct riffle_error *error);

/* The plan's slides, after its shuffle has been checked. */
int riffle_plan_check_slides(struct riffle_plan *plan, const uint8_t *bytes, struct riffle_error *error);

/* Where the mode of /proc/kallsyms is, after everything else has been checked. Errors: FORMAT. */
int riffle_plan_check_kallsyms_mode(const struct riffle_plan *plan, struct riffle_error *error);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* The kernel's tables of distances to code: found by section or boundary symbols, decoded whole, made references. */
#include "prepare/shuffle/tables.h"
#include "prepare/shuffle/slides.h"

#define STRIDES 3u
#define FIELDS 2u

/* What a table's 32-bit distance leads to. */
enum role {
	ROLE_NONE,
	ROLE_CODE,    /* an instruction */
	ROLE_ANY,     /* anything; when it is in code, an instruction */
	ROLE_NAME,    /* the text of a name */
	ROLE_EDGE,    /* code, or its end: a replacement may be empty */
	ROLE_OPERAND, /* an instruction's last operand: an instruction follows 1, 4 or 8 bytes on */
};

/* A hook for what an entry says beside its distances. */
typedef int entry_check(struct work *work, const char *name, uint32_t entry, uint32_t stride,
			struct riffle_error *error);

struct table_format {
	const char *section;      /* a name of its own; with * at its end, all that begin like this */
	const char *start, *stop; /* else what these symbols enclose */
	uint8_t stride[STRIDES];  /* bytes of an entry, by kernel version: the one with which all entries decode */
	struct {
		uint8_t at, role;
	} field[FIELDS];
	entry_check *check;
	bool zeros; /* its end is filled with zeros, to a page's end */
};

static entry_check check_alternative, check_jump_label, check_seal;

/*
 * Linux 5.10 to 7.3. Entries that are addresses (parainstructions, kprobe blacklist, tracepoints …) are among the
 * absolute relocations and need no reading here; ones whose distances never lead to code are left out.
 *
 * .altinstructions: arch/x86/include/asm/alternative.h, 13 bytes with padlen (to 5.12), 12, 14 with flags (from 6.3)
 * __bug_table: asm/bug.h with GENERIC_BUG_RELATIVE_POINTERS, 8 without file names, 12, 16 with formats (7.x)
 * __jump_table: linux/jump_label.h; static_call_sites: linux/static_call_types.h
 * .pci_fixup: linux/pci.h; __ksymtab: linux/export.h; initcalls: linux/init.h; runtime_*: asm/runtime-const.h
 */
static const struct table_format formats[] = {
    {".altinstructions",
     "__alt_instructions",
     "__alt_instructions_end",
     {12, 13, 14},
     {{0, ROLE_CODE}, {4, ROLE_EDGE}},
     check_alternative,
     false},
    {"__bug_table", "__start___bug_table", "__stop___bug_table", {8, 12, 16}, {{0, ROLE_CODE}}, NULL, false},
    {".smp_locks", "__smp_locks", "__smp_locks_end", {4}, {{0, ROLE_CODE}}, NULL, true},
    {".retpoline_sites", "__retpoline_sites", "__retpoline_sites_end", {4}, {{0, ROLE_CODE}}, NULL, false},
    {".return_sites", "__return_sites", "__return_sites_end", {4}, {{0, ROLE_CODE}}, NULL, false},
    {".call_sites", "__call_sites", "__call_sites_end", {4}, {{0, ROLE_CODE}}, NULL, false},
    {".ibt_endbr_seal", "__ibt_endbr_seal", "__ibt_endbr_seal_end", {4}, {{0, ROLE_CODE}}, check_seal, false},
    {".cfi_sites", "__cfi_sites", "__cfi_sites_end", {4}, {{0, ROLE_CODE}}, NULL, false},
    {"__kcfi_traps", "__start___kcfi_traps", "__stop___kcfi_traps", {4}, {{0, ROLE_CODE}}, NULL, false},
    {"__ksymtab", "__start___ksymtab", "__stop___ksymtab", {8, 12}, {{0, ROLE_ANY}, {4, ROLE_NAME}}, NULL, false},
    {"__ksymtab_gpl",
     "__start___ksymtab_gpl",
     "__stop___ksymtab_gpl",
     {8, 12},
     {{0, ROLE_ANY}, {4, ROLE_NAME}},
     NULL,
     false},
    {".pci_fixup", "__start_pci_fixups_early", "__end_pci_fixups_suspend_late", {16}, {{12, ROLE_CODE}}, NULL, false},
    {"__jump_table",
     "__start___jump_table",
     "__stop___jump_table",
     {16},
     {{0, ROLE_CODE}, {4, ROLE_CODE}},
     check_jump_label,
     false},
    {".static_call_sites", "__start_static_call_sites", "__stop_static_call_sites", {8}, {{0, ROLE_CODE}}, NULL, false},
    {".static_call_tramp_key",
     "__start_static_call_tramp_key",
     "__stop_static_call_tramp_key",
     {8},
     {{0, ROLE_CODE}},
     NULL,
     false},
    {NULL, "__initcall_start", "__initcall_end", {4}, {{0, ROLE_CODE}}, NULL, false},
    {NULL, "__con_initcall_start", "__con_initcall_end", {4}, {{0, ROLE_CODE}}, NULL, false},
    {"runtime_*", NULL, NULL, {4}, {{0, ROLE_OPERAND}}, NULL, false},
};
#define FORMATS (sizeof formats / sizeof *formats)

unsigned table_count(void)
{
	return FORMATS + TABLES_SORTED;
}

const char *table_name(unsigned index)
{
	if (index >= FORMATS)
		return table_sorted_name(index - FORMATS);
	return formats[index].section ? formats[index].section : formats[index].start;
}

/*
 * Sets work->copied: what kexec copies to where it runs, linked into .data from 6.14 on
 * (arch/x86/kernel/vmlinux.lds.S). It moves with no shuffle, and has no part in one.
 */
static int find_copied(struct work *work, struct riffle_error *error)
{
	struct table_place place;
	int status = table_find(&place, work, NULL, "__relocate_kernel_start", "__relocate_kernel_end", error);

	if (!status && place.found && !table_in_code(work, place.offset, false)) {
		work->copied = place.offset;
		work->copied_bytes = place.bytes;
	}
	return status;
}

/* An alternative replaces instrlen bytes: they must be of one piece. */
static int check_alternative(struct work *work, const char *name, uint32_t entry, uint32_t stride,
			     struct riffle_error *error)
{
	unsigned lengths = stride == 12 ? 10 : stride == 13 ? 10 : 12; /* behind cpuid, or cpuid and flags */
	uint32_t site, length = work->bytes[entry + lengths];

	table_target(work, entry, &site);
	if (!length || !table_leads_to_code(work, site + length - 1, false))
		return table_refuse(work, name, "replaces bytes that are no code", entry, error);
	if (work_in_text(work, site) && work_in_text(work, site + length - 1) &&
	    work_unit_at(work, site) != work_unit_at(work, site + length - 1))
		return work_add_tie(work, site, site + length - 1, error);
	return 0;
}

/* A label whose site has room for no more than a jump by 8 bits keeps its distance to the target. */
static int check_jump_label(struct work *work, const char *name, uint32_t entry, uint32_t stride,
			    struct riffle_error *error)
{
	static const uint8_t nop5[] = {0x0f, 0x1f, 0x44, 0, 0}, nop2[] = {0x66, 0x90};
	uint32_t site, target;
	const uint8_t *code;

	(void)stride;
	table_target(work, entry, &site);
	table_target(work, entry + 4, &target);
	if (!table_in_code(work, site + 4, false))
		return table_refuse(work, name, "has a site at the very end of the code", entry, error);
	code = work->bytes + site;
	if (code[0] == 0xeb || !memcmp(code, nop2, sizeof nop2))
		return work_in_text(work, site) ? work_add_tie(work, site, target, error) : 0;
	if (code[0] != 0xe9 && memcmp(code, nop5, sizeof nop5))
		return table_refuse(work, name, "has a site that is neither jump nor nop", entry, error);
	return 0;
}

/*
 * With FineIBT in the kernel the room before a function that is sealed is written to as well (poison_cfi() in
 * arch/x86/kernel/alternative.c): it stays with it.
 */
static int check_seal(struct work *work, const char *name, uint32_t entry, uint32_t stride, struct riffle_error *error)
{
	uint32_t site, room;

	(void)name;
	(void)stride;
	table_target(work, entry, &site);
	room = site - WORK_ROOM_BYTES;
	if (!work_section(work, ".cfi_sites") || !work_in_text(work, site) || !work_in_text(work, room) ||
	    work_unit_at(work, site) == work_unit_at(work, room))
		return 0;
	return work_add_tie(work, room, site, error);
}

/* The name of an exported symbol. */
static bool is_name(const struct work *work, uint32_t offset)
{
	const struct image_section *strings = work_section(work, "__ksymtab_strings");

	return work->bytes[offset] && (!strings || work->link_virt + offset - strings->address < strings->bytes);
}

/* What is wrong with a field, or NULL; `behind` is where instructions follow operands in this table, 0 as yet. */
static const char *judge_field(const struct work *work, unsigned role, uint32_t field, unsigned *behind)
{
	uint32_t target;
	bool inside = table_target(work, field, &target);

	if (role == ROLE_NONE || (role == ROLE_ANY && !(inside && table_in_code(work, target, false))))
		return NULL;
	if (role == ROLE_NAME)
		return inside && is_name(work, target) ? NULL : "has an entry without a name";
	if (role == ROLE_EDGE)
		return inside && table_leads_to_code(work, target, true) ? NULL : "leads to no code";
	if (role != ROLE_OPERAND)
		return inside && (table_is_instruction(work, target) || table_in_copied(work, target, false))
			   ? NULL
			   : "leads to no instruction";
	if (!inside || !table_in_code(work, target, false))
		return "leads to no code";
	for (unsigned width = 1; width <= 8; width = width == 1 ? 4 : width * 2) {
		if ((*behind && *behind != width) || !work_is_start(work, target + width))
			continue;
		*behind = width;
		return NULL;
	}
	return "leads to no operand of an instruction";
}

/* From where on there is nothing but zeros up to the table's end. */
static uint32_t zeros_from(const struct work *work, const struct table_place *place)
{
	uint32_t at = place->offset + place->bytes;

	while (at > place->offset && !work->bytes[at - 1])
		at--;
	return at;
}

/* All entries decode with this stride; else the first that does not is told. */
static bool decodes(const struct work *work, const struct table_format *f, const struct table_place *place,
		    uint32_t stride, uint32_t *where, const char **problem)
{
	uint32_t zeros = f->zeros ? zeros_from(work, place) : UINT32_MAX;
	unsigned behind = 0;

	for (uint32_t at = 0; at < place->bytes; at += stride)
		for (unsigned i = 0; i < FIELDS; i++) {
			*where = place->offset + at + f->field[i].at;
			*problem = judge_field(work, f->field[i].role, *where, &behind);
			if (*problem && *where < zeros)
				return false;
		}
	return true;
}

/* The one stride with which all of the table decodes. */
static int find_stride(uint32_t *stride, const struct work *work, const struct table_format *f, const char *name,
		       const struct table_place *place, struct riffle_error *error)
{
	const char *problem = "is not made of whole entries", *found;
	uint32_t furthest = 0, where;

	*stride = 0;
	for (unsigned i = 0; i < STRIDES && f->stride[i]; i++) {
		if (place->bytes % f->stride[i])
			continue;
		if (decodes(work, f, place, f->stride[i], &where, &found)) {
			if (*stride)
				return table_refuse(work, name, "can be read in two ways", place->offset, error);
			*stride = f->stride[i];
		} else if (where >= furthest) {
			furthest = where;
			problem = found;
		}
	}
	return *stride ? 0 : table_refuse(work, name, problem, furthest ? furthest : place->offset, error);
}

static int read_table(struct work *work, const struct table_format *f, const char *name,
		      const struct table_place *place, struct riffle_error *error)
{
	uint32_t stride, target;
	int status = table_known(work, name, place->offset, place->bytes, error);

	if (!status)
		status = find_stride(&stride, work, f, name, place, error);
	if (!status)
		slides_note_table(work, name, place->offset, place->bytes, stride);
	for (uint32_t at = 0; at < place->bytes && !status; at += stride) {
		uint32_t entry = place->offset + at;

		for (unsigned i = 0; i < FIELDS && !status; i++)
			if (f->field[i].role && table_target(work, entry + f->field[i].at, &target) &&
			    work_in_text(work, target))
				status = work_add_ref(work, entry + f->field[i].at, target, SHUFFLE_PC32,
						      SHUFFLE_BY_TABLE, error);
		if (!status && f->check)
			status = f->check(work, name, entry, stride, error);
	}
	return status;
}

/* Every section whose name begins like the format's. */
static int read_family(struct work *work, const struct table_format *f, struct riffle_error *error)
{
	size_t letters = strlen(f->section) - 1;
	int status = 0;

	for (unsigned i = 0; i < work->image->section_count && !status; i++) {
		const struct image_section *section = &work->image->section[i];
		struct table_place place;

		if (!section->address || strncmp(section->name, f->section, letters))
			continue;
		status = table_place_section(&place, work, section, f->section, error);
		if (!status && place.found)
			status = read_table(work, f, f->section, &place, error);
	}
	return status;
}

int tables_read(struct work *work, struct riffle_error *error)
{
	int status = find_copied(work, error);

	if (!status)
		status = table_read_sorted(work, work->tables_ignored >> FORMATS, error);
	for (unsigned i = 0; i < FORMATS && !status; i++) {
		const struct table_format *f = &formats[i];
		struct table_place place;

		if (work->tables_ignored >> i & 1)
			continue;
		if (f->section && f->section[strlen(f->section) - 1] == '*') {
			status = read_family(work, f, error);
			continue;
		}
		status = table_find(&place, work, f->section, f->start, f->stop, error);
		if (!status && place.found)
			status = read_table(work, f, table_name(i), &place, error);
	}
	return status;
}

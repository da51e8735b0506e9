/* SPDX-License-Identifier: Apache-2.0 */
/* Tables that the kernel searches by halving and that its build has sorted: they must be sorted again after a shuffle.
 */
#include "prepare/shuffle/tables.h"

#include "prepare/symbols/kallsyms.h"

#define EX_ENTRY 12u
#define ORC_ENTRY 6u
#define EX_TYPE_MAX 63u /* of the 22 that Linux 6.12 has (asm/extable_fixup_types.h) */

static int add_table(struct work *work, const char *name, const struct shuffle_table *table, uint32_t entry_bytes,
		     struct riffle_error *error)
{
	struct shuffle *result = work->result;
	unsigned at = result->table_count;

	if (at == sizeof result->table / sizeof *result->table)
		return table_refuse(work, name, "is one sorted table too many", table->offset, error);
	for (; at && result->table[at - 1].offset > table->offset; at--)
		result->table[at] = result->table[at - 1];
	result->table[at] = *table;
	result->table_count++;
	return table_known(work, name, table->offset, table->entries * entry_bytes, error);
}

/*
 * Up to 5.15 the third word of an exception table entry is the distance to a handler, since then a type, a register
 * and a number (asm/extable.h): all entries are the one or all are the other.
 */
static int judge_third_words(bool *pointers, const struct work *work, const struct table_place *place,
			     struct riffle_error *error)
{
	uint32_t handlers = 0, types = 0, entries = place->bytes / EX_ENTRY, target;

	for (uint32_t i = 0; i < entries; i++) {
		uint32_t third = place->offset + i * EX_ENTRY + 8;

		handlers += table_target(work, third, &target) && work_is_start(work, target);
		types += work->bytes[third] <= EX_TYPE_MAX && !(work->bytes[third + 1] & 0xc0);
	}
	*pointers = handlers == entries && types < entries;
	if (*pointers || types == entries)
		return 0;
	return table_refuse(work, "__ex_table", "has third words that are neither all handlers nor all types",
			    place->offset, error);
}

static int read_extable(struct work *work, struct riffle_error *error)
{
	struct shuffle_table table = {.kind = SHUFFLE_TABLE_EXTABLE};
	struct table_place place;
	uint32_t last = 0, target;
	int status;

	status = table_find(&place, work, "__ex_table", "__start___ex_table", "__stop___ex_table", error);
	if (status || !place.found)
		return status;
	if (place.bytes % EX_ENTRY)
		return table_refuse(work, "__ex_table", "is not made of whole entries", place.offset, error);
	for (uint32_t at = place.offset; at < place.offset + place.bytes; at += EX_ENTRY) {
		for (unsigned field = 0; field <= 4; field += 4)
			if (!table_target(work, at + field, &target) || !table_is_instruction(work, target))
				return table_refuse(work, "__ex_table", "leads to no instruction", at + field, error);
		table_target(work, at, &target);
		if (target < last)
			return table_refuse(work, "__ex_table", "is not sorted", at, error);
		last = target;
	}
	table.offset = place.offset;
	table.entries = place.bytes / EX_ENTRY;
	status = judge_third_words(&table.third_is_pointer, work, &place, error);
	return status ? status : add_table(work, "__ex_table", &table, EX_ENTRY, error);
}

static int read_orc(struct work *work, struct riffle_error *error)
{
	struct shuffle_table table = {.kind = SHUFFLE_TABLE_ORC};
	struct table_place ip, state;
	uint32_t last = 0, target;
	int status;

	status = table_find(&ip, work, ".orc_unwind_ip", "__start_orc_unwind_ip", "__stop_orc_unwind_ip", error);
	if (!status)
		status = table_find(&state, work, ".orc_unwind", "__start_orc_unwind", "__stop_orc_unwind", error);
	if (status || (!ip.found && !state.found))
		return status;
	if (!ip.found || !state.found || ip.bytes % 4 || state.bytes % ORC_ENTRY ||
	    ip.bytes / 4 != state.bytes / ORC_ENTRY)
		return table_refuse(work, ".orc_unwind", "has not one entry for each address", state.offset, error);
	for (uint32_t at = ip.offset; at < ip.offset + ip.bytes; at += 4) {
		/* the last of a section ends it; others may point into what an alternative replaces */
		if (!table_target(work, at, &target) || !table_leads_to_code(work, target, true))
			return table_refuse(work, ".orc_unwind_ip", "leads to no code", at, error);
		if (target < last)
			return table_refuse(work, ".orc_unwind_ip", "is not sorted", at, error);
		last = target;
	}
	table.offset = ip.offset;
	table.second = state.offset;
	table.entries = ip.bytes / 4;
	status = add_table(work, ".orc_unwind_ip", &table, 4, error);
	return status ? status : table_known(work, ".orc_unwind", state.offset, state.bytes, error);
}

/*
 * Addresses of the calls that ftrace patches, which absolute relocations cover. Kernels whose build does not sort it
 * (up to 5.16) sort it as they start: there it is no table of ours. Since 6.15 the build zeroes the entries of
 * functions that were overridden, and these come first.
 */
static int read_mcount(struct work *work, struct riffle_error *error)
{
	struct shuffle_table table = {.kind = SHUFFLE_TABLE_MCOUNT};
	struct table_place place;
	uint64_t last = 0;
	uint32_t target;
	int status;

	status = table_find(&place, work, "__mcount_loc", "__start_mcount_loc", "__stop_mcount_loc", error);
	if (status)
		return status;
	if (!place.found)
		return work_symbol_named(work, "__fentry__") && work_symbol_named(work, "ftrace_replace_code")
			   ? riffle_fail(error, RIFFLE_ERR_UNSUPPORTED, "__mcount_loc",
					 "is in this kernel, but no symbol says where: build it with "
					 "CONFIG_KALLSYMS_ALL, or give its debug vmlinux")
			   : 0;
	if (place.bytes % 8)
		return table_refuse(work, "__mcount_loc", "is not made of whole entries", place.offset, error);
	for (uint32_t at = place.offset; at < place.offset + place.bytes; at += 8) {
		uint64_t address = riffle_get64(work->bytes + at);

		if (!address && !last)
			continue;
		if (!work_offset(work, address, &target) || !table_is_instruction(work, target))
			return table_refuse(work, "__mcount_loc", "leads to no instruction", at, error);
		if (address < last)
			return 0;
		last = address;
	}
	table.offset = place.offset;
	table.entries = place.bytes / 8;
	return add_table(work, "__mcount_loc", &table, 8, error);
}

/* What the kernel's own symbol table is made of; where it lies has been found with the symbols. */
static int know_kallsyms(struct work *work, struct riffle_error *error)
{
	struct kallsyms_place p;
	int status;

	if (!work->result->kallsyms.present) {
		if (!work_symbol_named(work, "kallsyms_names"))
			return 0;
		/* it says why not */
		status = kallsyms_find(&p, work->bytes, work->image_bytes, work->link_virt, error);
		return status ? status : riffle_fail(error, RIFFLE_ERR_UNSUPPORTED, "kallsyms", "was not read");
	}
	status = kallsyms_find(&p, work->bytes, work->image_bytes, work->link_virt, error);
	if (!status)
		status = table_known(work, "kallsyms offsets", (uint32_t)p.offsets, p.count * 4, error);
	if (!status)
		status = table_known(work, "kallsyms names", (uint32_t)p.names, (uint32_t)p.names_bytes, error);
	if (!status)
		status = table_known(work, "kallsyms markers", (uint32_t)p.markers, (p.count + 255) / 256 * 4, error);
	if (!status && p.seqs)
		status = table_known(work, "kallsyms order by name", (uint32_t)p.seqs, p.count * 3, error);
	if (!status)
		status = table_known(work, "kallsyms tokens", (uint32_t)p.tokens, (uint32_t)p.tokens_bytes, error);
	return status;
}

static int (*const sorted[TABLES_SORTED])(struct work *, struct riffle_error *) = {read_extable, read_orc};

const char *table_sorted_name(unsigned index)
{
	static const char *const names[TABLES_SORTED] = {"__ex_table", ".orc_unwind_ip"};

	return names[index];
}

int table_read_sorted(struct work *work, uint64_t ignored, struct riffle_error *error)
{
	int status = 0;

	for (unsigned i = 0; i < TABLES_SORTED && !status; i++)
		if (!(ignored >> i & 1))
			status = sorted[i](work, error);
	if (!status)
		status = read_mcount(work, error);
	return status ? status : know_kallsyms(work, error);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Code that the kernel finds by its place and not by its name, and so must stay where it is, or at least together. */
#include "prepare/shuffle/internal.h"

#define PAGE 4096u

/*
 * Parts of .text that the linker script brackets with symbols, which the kernel compares addresses with
 * (vmlinux.lds.h, vmlinux.lds.S, 5.10 to 7.3). They move as blocks, with their symbols. Entry code stays: with
 * page-table isolation its 2 MiB are mapped in user space too, and nothing else may get there. So do thunks: processors
 * are safe from some attacks only as long as they lie in the right half of a cache line. Static calls' trampolines move
 * one by one, because nothing refers to where they begin and end.
 */
#define STATIC_CALLS "__static_call_text_start"

static const struct {
	const char *start, *end;
	bool stays;
} bracket[] = {
    {"__noinstr_text_start", "__noinstr_text_end", false},
    {"__sched_text_start", "__sched_text_end", false},
    {"__cpuidle_text_start", "__cpuidle_text_end", false},
    {"__lock_text_start", "__lock_text_end", false},
    {"__kprobes_text_start", "__kprobes_text_end", false},
    {"__entry_text_start", "__entry_text_end", true},
    {"__irqentry_text_start", "__irqentry_text_end", true},
    {"__softirqentry_text_start", "__softirqentry_text_end", false},
    {STATIC_CALLS, "__static_call_text_end", false},
    {"__indirect_thunk_start", "__indirect_thunk_end", true},
};

/* Names that begin thus are of thunks and trampolines: patched at boot, aligned on purpose, or overlapping. */
static const char *const pinned_prefix[] = {
    "__x86_indirect_", "__x86_return_",  "__x86_call_",      "srso_",          "retbleed_",
    "zen_untrain_",    "entry_untrain_", "its_return_thunk", "clear_bhb_loop",
};

/*
 * Never runs: the entry of PVH, 32-bit code at a physical address that a note tells (platform/pvh/head.S). A kernel
 * loaded by riffle is entered elsewhere. Its bytes do not all decode as 64-bit code, and need not.
 */
#define PVH_ENTRY "pvh_start_xen"

/* Written by page: a hypervisor's call page. */
static const char *const by_page[] = {"hypercall_page"};

/*
 * kexec maps the page of this address to the copy that it makes of what is there (init_transition_pgtable()): the code
 * must start at a page. From 6.14 on it lies in .data, and does not move.
 */
#define PAGED "relocate_kernel"

/* Copied elsewhere as one block, from the first symbol to the second, or for that many bytes. */
static const struct {
	const char *start, *end;
	uint32_t bytes;
} block[] = {
    {"ftrace_caller", "ftrace_caller_end", 0},
    {"ftrace_regs_caller", "ftrace_regs_caller_end", 0},
    {PAGED, NULL, 2048}, /* KEXEC_CONTROL_CODE_MAX_SIZE */
    {"relocate_range", NULL, 2048},
    {"__enc_copy", NULL, 256}, /* sme_encrypt_execute() copies it to a work area */
    /* relocate_restore_code() copies a page; gcc refers to its last words as if they were the routine's own */
    {"core_restore_code", NULL, 4096},
};

static bool begins_with(const char *name, const char *prefix)
{
	return !strncmp(name, prefix, strlen(prefix));
}

static bool begins_with_any(const char *name, const char *const *prefix, unsigned count)
{
	if (begins_with(name, "__pfx_") || begins_with(name, "__cfi_"))
		name += strlen("__pfx_");
	for (unsigned i = 0; i < count; i++)
		if (begins_with(name, prefix[i]))
			return true;
	return false;
}

static void pin(struct work *work, uint32_t unit, enum shuffle_pin why)
{
	if (work->unit[unit].pin == SHUFFLE_PIN_NONE)
		work->unit[unit].pin = (uint8_t)why;
}

/* Every unit that has bytes in [from, to). */
static void pin_between(struct work *work, uint32_t from, uint32_t to, enum shuffle_pin why)
{
	for (uint32_t i = work_unit_at(work, from); i < work->unit_count && work->unit[i].offset < to; i++)
		pin(work, i, why);
}

static const struct work_symbol *text_symbol(const struct work *work, const char *name)
{
	const struct work_symbol *symbol = work_symbol_named(work, name);

	return symbol && work_in_text(work, symbol->offset) ? symbol : NULL;
}

/*
 * Where a bracket's end is _etext, or an end that kallsyms leaves out: without KALLSYMS_ALL it has not what lies there
 * (symbol_valid() in scripts/kallsyms.c).
 */
static int find_bracket(const struct work *work, unsigned i, uint32_t *from, uint32_t *to, struct riffle_error *error)
{
	const struct work_symbol *start = work_symbol_named(work, bracket[i].start);
	const struct work_symbol *end = work_symbol_named(work, bracket[i].end);
	uint32_t text_end = work->text + work->text_bytes;

	*from = *to = 0;
	if (!start && !end)
		return 0;
	*to = end ? end->offset : text_end;
	if (!start || !work_in_text(work, start->offset) || *to < start->offset || *to > text_end)
		return riffle_fail_found(error, RIFFLE_ERR_UNSUPPORTED, bracket[i].start,
					 "and its end do not bracket a part of .text",
					 work->link_virt + (start ? start->offset : *to));
	*from = start->offset;
	return 0;
}

/* Every unit that has bytes in the bracket, and the one at its end, which is an address of its own. */
static void pin_bracket(struct work *work, uint32_t from, uint32_t to)
{
	pin_between(work, from, to, SHUFFLE_PIN_SECTION);
	if (work_in_text(work, to))
		pin(work, work_unit_at(work, to), SHUFFLE_PIN_SECTION);
}

/*
 * A bracket that moves is one chunk, and what begins at its end belongs to it, so that a reference to the end goes with
 * it whatever begins there. One that is too large for a chunk stays, and so does one at whose end something begins that
 * stays.
 */
static int tie_bracket(struct work *work, uint32_t from, uint32_t to, struct riffle_error *error)
{
	const struct work_unit *last = &work->unit[work_unit_at(work, work_in_text(work, to) ? to : to - 1)];

	if (last->pin != SHUFFLE_PIN_NONE || last->offset + last->bytes - from > SHUFFLE_CHUNK_MAX) {
		pin_bracket(work, from, to);
		return 0;
	}
	return last->offset > from ? work_add_tie(work, from, last->offset, error) : 0;
}

/* A name for the end of a bracket that comes before nothing but padding: control reaches it no more than the code
 * before. */
static void stop_at(struct work *work, uint32_t to)
{
	uint32_t i = work_in_text(work, to) ? work_unit_at(work, to) : 0;

	if (i && !work->unit[i].code_bytes && work->unit[i - 1].end != WORK_END_FALLS)
		work->unit[i].end = WORK_END_STOPS;
}

static int set_brackets(struct work *work, bool stay, struct riffle_error *error)
{
	for (unsigned i = 0; i < sizeof bracket / sizeof *bracket; i++) {
		uint32_t from, to;
		int status = find_bracket(work, i, &from, &to, error);

		if (status)
			return status;
		if (!to || bracket[i].stays != stay)
			continue;
		stop_at(work, to);
		if (stay)
			pin_bracket(work, from, to);
		else if (strcmp(bracket[i].start, STATIC_CALLS))
			status = tie_bracket(work, from, to, error);
		if (status)
			return status;
	}
	return 0;
}

/*
 * The kernel compares addresses with `_etext - 1`, the last byte of its text: a pointer that cannot be told from one to
 * what lies there. So that stays.
 */
static void pin_last(struct work *work)
{
	const struct work_symbol *end = work_symbol_named(work, "_etext");

	if (end && end->offset > work->text && work_in_text(work, end->offset - 1))
		pin(work, work_unit_at(work, end->offset - 1), SHUFFLE_PIN_SECTION);
}

static void pin_names(struct work *work)
{
	const struct work_symbol *pvh = text_symbol(work, PVH_ENTRY);
	uint32_t first = work_first_symbol(work, work->text);

	for (uint32_t i = first; i < work->symbol_count && work_in_text(work, work->symbol[i].offset); i++)
		if (begins_with_any(work->symbol[i].name, pinned_prefix, sizeof pinned_prefix / sizeof *pinned_prefix))
			pin(work, work_unit_at(work, work->symbol[i].offset), SHUFFLE_PIN_SECTION);
	for (unsigned i = 0; i < sizeof by_page / sizeof *by_page; i++) {
		const struct work_symbol *symbol = text_symbol(work, by_page[i]);

		if (symbol)
			pin_between(work, symbol->offset, symbol->offset + PAGE, SHUFFLE_PIN_PAGE);
	}
	pin_last(work);
	for (uint32_t i = 0; i < work->unit_count; i++)
		if (work->unit[i].hole)
			pin(work, i, SHUFFLE_PIN_SECTION);
		else if (work->unit[i].unexplained && !(pvh && work->unit[i].offset == pvh->offset))
			pin(work, i, SHUFFLE_PIN_UNEXPLAINED);
}

bool pins_static_calls(const struct work *work, uint32_t *from, uint32_t *to)
{
	const struct work_symbol *start = text_symbol(work, STATIC_CALLS);
	const struct work_symbol *end = work_symbol_named(work, "__static_call_text_end");

	if (!start)
		return false;
	*from = start->offset;
	*to = end ? end->offset : work->text + work->text_bytes;
	return *to > *from;
}

/* The last byte of a block; false when the kernel has no such block. */
static bool find_block(const struct work *work, unsigned i, uint32_t *first, uint32_t *last)
{
	const struct work_symbol *start = text_symbol(work, block[i].start);
	const struct work_symbol *end = block[i].end ? text_symbol(work, block[i].end) : NULL;

	if (!start)
		return false;
	*first = start->offset;
	*last = end ? end->offset : start->offset + block[i].bytes - 1;
	if (!work_in_text(work, *last) || *last < *first)
		*last = *first;
	return true;
}

bool pins_is_copied(const struct work *work, uint32_t offset)
{
	uint32_t first, last;

	for (unsigned i = 0; i < sizeof block / sizeof *block; i++)
		if (find_block(work, i, &first, &last) && offset >= first && offset <= last)
			return true;
	return false;
}

uint32_t pins_paged(const struct work *work)
{
	const struct work_symbol *symbol = text_symbol(work, PAGED);

	return symbol && symbol->offset % PAGE == 0 ? symbol->offset : UINT32_MAX;
}

/* A block stays one, and moves as one. */
static int tie_blocks(struct work *work, struct riffle_error *error)
{
	for (unsigned i = 0; i < sizeof block / sizeof *block; i++) {
		uint32_t first, last;
		int status;

		if (!find_block(work, i, &first, &last))
			continue;
		status = work_add_tie(work, first, last, error);
		if (status)
			return status;
	}
	return 0;
}

int pins_set(struct work *work, struct riffle_error *error)
{
	int status;

	/*
	 * The first bytes have the address of the image, _text. All other start-up code runs at its load address before
	 * there are the kernel's own page tables, but refers to itself, to other code and to data by distances: it
	 * moves, and the entry with it.
	 */
	pin(work, 0, SHUFFLE_PIN_HEAD);
	status = set_brackets(work, true, error);
	if (status)
		return status;
	pin_names(work);
	status = set_brackets(work, false, error);
	return status ? status : tie_blocks(work, error);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Code that the kernel finds by its place and not by its name, and so must stay where it is, or at least together. */
#include "prepare/shuffle/internal.h"

#define PAGE 4096u

/*
 * Parts of .text that the linker script brackets with symbols, which the kernel compares addresses with
 * (vmlinux.lds.h, vmlinux.lds.S, 5.10 to 7.3).
 */
static const struct {
	const char *start, *end;
} bracket[] = {
	{"__noinstr_text_start", "__noinstr_text_end"},
	{"__sched_text_start", "__sched_text_end"},
	{"__cpuidle_text_start", "__cpuidle_text_end"},
	{"__lock_text_start", "__lock_text_end"},
	{"__kprobes_text_start", "__kprobes_text_end"},
	{"__entry_text_start", "__entry_text_end"},
	{"__irqentry_text_start", "__irqentry_text_end"},
	{"__softirqentry_text_start", "__softirqentry_text_end"},
	{"__static_call_text_start", "__static_call_text_end"},
	{"__indirect_thunk_start", "__indirect_thunk_end"},
};

/* Names that begin thus are of thunks and trampolines: patched at boot, aligned on purpose, or overlapping. */
static const char *const pinned_prefix[] = {
	"__x86_indirect_", "__x86_return_", "__x86_call_",    "__SCT__",  "srso_",
	"retbleed_",       "zen_untrain_",  "entry_untrain_", "its_return_thunk", "clear_bhb_loop",
};

/* What runs at its load address before the kernel's own page tables (head_64.S, head64.c, mem_encrypt_identity.c …) */
static const char *const head_prefix[] = {
	"startup_64", "secondary_startup_64", "common_startup_64", "__startup_64", "verify_cpu", "sev_", "snp_", "sme_",
	"__sme_", "start_cpu0", "soft_restart_cpu", "vc_boot_ghcb", "do_vc_no_ghcb", "early_set_pages_state",
	"early_snp_", "pvh_start_xen", "early_setup_", "set_bringup_idt_handler", "__pi_",
};

/* Written, copied or mapped by page: a hypervisor's call page, and what wakes up from hibernation. */
static const char *const by_page[] = {"hypercall_page", "restore_image", "core_restore_code", "restore_registers"};

/* Copied elsewhere as one block, from the first symbol to the second, or for that many bytes. */
static const struct {
	const char *start, *end;
	uint32_t bytes;
} block[] = {
	{"ftrace_caller", "ftrace_caller_end", 0},
	{"ftrace_regs_caller", "ftrace_regs_caller_end", 0},
	{"relocate_kernel", NULL, 2048},        /* KEXEC_CONTROL_CODE_MAX_SIZE */
	{"relocate_range", NULL, 2048},
	{"__enc_copy", NULL, 256},              /* sme_encrypt_execute() copies it to a work area */
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
 * A bracket's end is pinned too, because it is an address of its own: when a function begins just there, a reference
 * to the end must not follow the function. An end that is missing is _etext: kallsyms without KALLSYMS_ALL leaves out what
 * lies there (symbol_valid() in scripts/kallsyms.c).
 */
static int pin_brackets(struct work *work, struct riffle_error *error)
{
	for (unsigned i = 0; i < sizeof bracket / sizeof *bracket; i++) {
		const struct work_symbol *start = work_symbol_named(work, bracket[i].start);
		const struct work_symbol *end = work_symbol_named(work, bracket[i].end);

		uint32_t to = end ? end->offset : work->text + work->text_bytes;

		if (!start && !end)
			continue;
		if (!start || !work_in_text(work, start->offset) || to < start->offset ||
		    to > work->text + work->text_bytes)
			return riffle_fail_found(error, RIFFLE_ERR_UNSUPPORTED, bracket[i].start,
						 "and its end do not bracket a part of .text",
						 work->link_virt + (start ? start->offset : to));
		pin_between(work, start->offset, to, SHUFFLE_PIN_SECTION);
		if (work_in_text(work, to))
			pin(work, work_unit_at(work, to), SHUFFLE_PIN_SECTION);
	}
	return 0;
}

/*
 * The head: start-up functions from the first byte of .text on with no more than a page of others between them, and then
 * to the end of the page. At least a page: gcc folds PFN_ALIGN(_text) to the address _text + 4095.
 */
static void pin_head(struct work *work)
{
	uint32_t end = work->text + 1, entry = (uint32_t)work->image->entry_offset;

	for (uint32_t i = work_first_symbol(work, work->text); i < work->symbol_count; i++) {
		const struct work_symbol *symbol = &work->symbol[i];
		const struct work_unit *unit;

		if (!work_in_text(work, symbol->offset) || symbol->offset > end + PAGE)
			break;
		unit = &work->unit[work_unit_at(work, symbol->offset)];
		if (begins_with_any(symbol->name, head_prefix, sizeof head_prefix / sizeof *head_prefix))
			end = unit->offset + unit->bytes;
	}
	end = work->text + (end - work->text + PAGE - 1) / PAGE * PAGE;
	pin_between(work, work->text, end, SHUFFLE_PIN_HEAD);
	if (work->image->entry_offset < work->image_bytes && work_in_text(work, entry))
		pin(work, work_unit_at(work, entry), SHUFFLE_PIN_HEAD);
}

static void pin_names(struct work *work)
{
	uint32_t first = work_first_symbol(work, work->text);

	for (uint32_t i = first; i < work->symbol_count && work_in_text(work, work->symbol[i].offset); i++)
		if (begins_with_any(work->symbol[i].name, pinned_prefix,
				    sizeof pinned_prefix / sizeof *pinned_prefix))
			pin(work, work_unit_at(work, work->symbol[i].offset), SHUFFLE_PIN_SECTION);
	for (unsigned i = 0; i < sizeof by_page / sizeof *by_page; i++) {
		const struct work_symbol *symbol = text_symbol(work, by_page[i]);

		if (symbol)
			pin_between(work, symbol->offset, symbol->offset + PAGE, SHUFFLE_PIN_PAGE);
	}
	for (uint32_t i = 0; i < work->unit_count; i++)
		if (work->unit[i].unexplained)
			pin(work, i, SHUFFLE_PIN_UNEXPLAINED);
}

/* A block stays one, and moves as one. */
static int tie_blocks(struct work *work, struct riffle_error *error)
{
	for (unsigned i = 0; i < sizeof block / sizeof *block; i++) {
		const struct work_symbol *start = text_symbol(work, block[i].start);
		const struct work_symbol *end = block[i].end ? text_symbol(work, block[i].end) : NULL;
		uint32_t last;
		int status;

		if (!start)
			continue;
		last = end ? end->offset : start->offset + block[i].bytes - 1;
		if (!work_in_text(work, last) || last < start->offset)
			last = start->offset;
		status = work_add_tie(work, start->offset, last, error);
		if (status)
			return status;
	}
	return 0;
}

int pins_set(struct work *work, struct riffle_error *error)
{
	int status;

	pin_head(work);
	status = pin_brackets(work, error);
	if (status)
		return status;
	pin_names(work);
	return tie_blocks(work, error);
}

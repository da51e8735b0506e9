/* SPDX-License-Identifier: Apache-2.0 */
/* The kernel opened, its randomisation chosen, and its layout drawn, replayed, announced and written. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include <riffle/riffle.h>

#include "common/fail.h"
#include "common/gaps_kept.h"
#include "host/huge.h"
#include "host/layout_json.h"
#include "machine/cmdline.h"
#include "machine/internal.h"

/* A host that cannot run guests says so before any work is done for one. */
static int preparing(void *opaque, bool begun, struct riffle_error *error)
{
	struct machine *m = opaque;
	int status = begun ? machine_ask_kvm(m, error) : 0;

	if (!status && m->observer.preparing)
		m->observer.preparing(m->observer.opaque, begun);
	return status;
}

static bool no_kaslr(const struct machine *m)
{
	return !m->config.layout.replay && cmdline_has_word(m->config.command_line, "nokaslr");
}

/* A unified kernel image's command line is for its own initrd: added where that is used and the user gives none. */
static int add_unified_command_line(struct machine *m, struct riffle_error *error)
{
	char text[UKI_COMMAND_LINE_MAX];
	int status;

	if (m->kernel.uki_fd < 0 || m->config.command_line_given || m->config.initrd || m->config.initrd_path)
		return 0;
	m->blame = m->config.kernel;
	status = uki_command_line(text, &m->kernel.uki, m->kernel.uki_fd, error);
	if (!status && *text)
		status = machine_config_command_line(&m->config, text, true, error);
	if (!status)
		m->blame = NULL;
	return status;
}

int machine_open_kernel(struct machine *m, struct riffle_error *error)
{
	static const char *const way_name[] = {[KERNEL_IS_PREPARED] = "open, prepared file",
					       [KERNEL_CACHE_HIT] = "open, cache hit",
					       [KERNEL_CACHE_MISS] = "open, prepare"};
	const struct machine_layout *l = &m->config.layout;
	/* most of a plan is for the shuffle alone; a layout that is replayed may be one */
	const bool shuffle =
	    l->replay || (!no_kaslr(m) && (l->automatic || l->slide || l->mode == RIFFLE_MODE_FGKASLR));
	const struct kernel_request request = {.kernel = m->config.kernel,
					       .relocs = m->config.relocs,
					       .cache_directory = m->config.cache_directory,
					       .base_alone = !shuffle,
					       .no_cache = m->config.no_cache,
					       .preparing = preparing,
					       .opaque = m};
	int status = kernel_open(&m->kernel, &request, error);

	if (status) {
		m->blame = m->kernel.blame;
		return status;
	}
	m->kernel_opened = true;
	if ((status = add_unified_command_line(m, error)))
		return status;
	if (m->kernel.notice[0])
		machine_notice(m, m->kernel.notice);
	phases_end(m->phases, way_name[m->kernel.way]);
	return 0;
}

/* What the guest's command line, the configuration and the kernel together make of the mode. */
int machine_choose_mode(struct machine *m, struct riffle_error *error)
{
	struct machine_layout *l = &m->config.layout;
	int status;

	if (no_kaslr(m)) {
		if (l->automatic || l->mode != RIFFLE_MODE_OFF)
			machine_notice(m, "nokaslr on the command line: the kernel is not randomised");
		l->mode = RIFFLE_MODE_OFF;
		l->slide = false;
	} else if (l->automatic) {
		if (!(m->kernel.plan.header->flags & RIFFLE_KERNEL_RELOCATABLE) && l->optional) {
			machine_notice(m, "there are no relocations in this kernel: it is booted where it was linked");
			l->mode = RIFFLE_MODE_OFF;
		} else if (!(m->kernel.plan.header->flags & RIFFLE_KERNEL_RELOCATABLE)) {
			m->blame = m->config.kernel;
			return riffle_fail(
			    error, RIFFLE_ERR_UNSUPPORTED, "relocations",
			    "there are none in this kernel, so KASLR is impossible; --randomize=physical "
			    "or --randomize=off boots it with less");
		} else {
			/* until the guest's memory is known, which may have no room for slides */
			l->mode = m->kernel.plan.chunk_count ? RIFFLE_MODE_FGKASLR : RIFFLE_MODE_KASLR;
		}
	}
	m->layout.slide_count = l->slide ? m->kernel.plan.block_count : 0;
	status = mode_check(m->words, l->mode, l->slide, &m->kernel.plan, error);
	if (status)
		m->blame = m->config.kernel;
	return status;
}

static double bits(uint64_t slots)
{
	return slots ? log2((double)slots) : 0;
}

/* What "auto" says of a command line for which it does without slides; NULL if it has no say. */
static const char *command_line_keeps_gaps(const struct machine *m)
{
	return riffle_gaps_are_kept(m->config.command_line, strlen(m->config.command_line))
		   ? "with rodata=off on the command line it would not free the gaps, and the size of its memory would "
		     "tell them"
		   : NULL;
}

/* Without a requested mode, a kernel gets the strongest that it allows, and the user the reason why it is not more. */
static void tell_why_not_more(const struct machine *m)
{
	char text[2][MODE_REASON_BYTES];
	unsigned count =
	    mode_reasons(text, m->layout.mode, m->layout.slide_count, &m->kernel.plan, command_line_keeps_gaps(m));

	for (unsigned i = 0; i < count; i++)
		machine_notice(m, text[i]);
}

/* What is unknown of each section's place to somebody who knows that of the one before. */
static void describe_slides(char *text, size_t bytes, const struct riffle_plan *plan)
{
	const char *before = ", slides of ";
	int n = 0;

	for (uint32_t i = 1; i < plan->block_count && (size_t)n < bytes; i++)
		if (plan->blocks[i].gaps > 1) {
			n += snprintf(text + n, bytes - (size_t)n, "%s%s %.1f bits", before,
				      block_name(plan->blocks[i].kind), bits(plan->blocks[i].gaps));
			before = ", ";
		}
}

/* Says how much is randomised, and never where. */
void machine_announce(struct machine *m)
{
	const struct machine_layout *l = &m->config.layout;
	const char *replay = l->replay     ? ", replayed from --layout: predictable"
			     : l->has_seed ? ", replayed from --seed: predictable"
					   : "";
	struct riffle_slots slots;
	struct riffle_error error;
	const char *open = mode_kallsyms_stays_open(&m->kernel.plan, m->layout.mode);
	char shuffled[64] = "", slides[320] = "", text[640];
	int status;

	if (m->layout.mode == RIFFLE_MODE_FGKASLR)
		snprintf(shuffled, sizeof shuffled, ", %u chunks of functions in any order%s",
			 m->kernel.plan.chunk_count, l->lazy_tables ? ", tables stale" : "");
	if (l->automatic && m->layout.mode >= RIFFLE_MODE_KASLR && !l->replay)
		tell_why_not_more(m);
	else if (m->layout.slide_count && !l->replay && command_line_keeps_gaps(m))
		machine_notice(m, "rodata=off on the command line: the kernel does not free the gaps between its "
				  "sections, and the size of its memory tells them");
	if (open)
		machine_notice(m, open);
	if (m->layout.slide_count) {
		describe_slides(slides, sizeof slides, &m->kernel.plan);
		status = riffle_layout_slots_slid(&slots, &m->kernel.plan, &m->memory, m->layout.mode, &error);
	} else {
		status = riffle_layout_slots(&slots, &m->kernel.plan, &m->memory, m->layout.mode, &error);
	}
	if (status)
		return;
	m->randomisation.mode = m->layout.mode == RIFFLE_MODE_OFF ? "off" : mode_name(&m->layout);
	m->randomisation.virtual_bits = bits(slots.virtual_);
	m->randomisation.physical_bits = bits(slots.physical);
	m->randomisation.chunks = m->layout.mode == RIFFLE_MODE_FGKASLR ? m->kernel.plan.chunk_count : 0;
	if (m->layout.mode == RIFFLE_MODE_OFF)
		snprintf(text, sizeof text, "randomize=off%s", replay);
	else
		snprintf(text, sizeof text,
			 "randomize=%s: virtual one of %llu slots (%.1f bits), physical one of %llu (%.1f bits)%s%s%s",
			 mode_name(&m->layout), (unsigned long long)slots.virtual_, bits(slots.virtual_),
			 (unsigned long long)slots.physical, bits(slots.physical), shuffled, slides, replay);
	if (m->observer.announce)
		m->observer.announce(m->observer.opaque, text);
}

/*
 * Memory for an order and for the work of a shuffled load: beside the plan, in the huge pages that this has already, or
 * of its own where that is not enough.
 */
static int take_shuffle_memory(struct machine *m, struct riffle_error *error)
{
	const struct riffle_plan *plan = &m->kernel.plan;
	size_t order_bytes = (plan->chunk_count * sizeof *m->order + 63) & ~(size_t)63;

	if (!plan->chunk_count)
		return 0;
	m->workspace_bytes = riffle_load_workspace(plan);
	m->shuffle_bytes = order_bytes + m->workspace_bytes;
	m->shuffle_mapped = plan->spare_bytes < m->shuffle_bytes;
	m->order = m->shuffle_mapped ? map_huge(&m->shuffle_bytes) : plan->spare;
	if (!m->order)
		return riffle_fail_full(error, RIFFLE_ERR_MEMORY, errno, "workspace", "cannot be allocated", 1,
					m->shuffle_bytes, 0, 0);
	m->workspace = (uint8_t *)m->order + order_bytes;
	m->layout.order = m->order;
	m->layout.order_count = plan->chunk_count;
	return 0;
}

/* Before the plan is closed, which the memory may be a part of. */
void machine_give_shuffle_memory(struct machine *m)
{
	if (m->order) {
		riffle_wipe(m->order, m->layout.order_count * sizeof *m->order);
		riffle_wipe(m->workspace, m->loaded.workspace_used);
		if (m->shuffle_mapped)
			munmap(m->order, m->shuffle_bytes);
	}
	m->order = NULL;
	m->workspace = NULL;
	m->layout.order = NULL;
}

static int take_layout(struct machine *m, const struct layout_file *file, struct riffle_error *error)
{
	const struct riffle_plan *plan = &m->kernel.plan;
	int status = layout_file_check(file, plan->header, error);

	if (status)
		return status;
	m->layout.mode = file->layout.mode;
	m->layout.physical_base = file->layout.physical_base;
	m->layout.virtual_base = file->layout.virtual_base;
	status = layout_file_slides(file, plan, &m->layout, error);
	if (status)
		return status;
	if (file->layout.mode != RIFFLE_MODE_FGKASLR)
		return 0;
	status = take_shuffle_memory(m, error);
	return status ? status : layout_file_order(file, plan, m->order, error);
}

static int replay_layout(struct machine *m, struct riffle_error *error)
{
	struct layout_file file;
	int status;

	m->blame = m->config.layout.replay;
	status = layout_file_read(m->config.layout.replay, &file, error);
	if (status)
		return status;
	status = take_layout(m, &file, error);
	layout_file_free(&file);
	if (!status)
		status = riffle_layout_check(&m->layout, &m->kernel.plan, &m->memory, error);
	if (!status)
		m->blame = NULL;
	return status;
}

/* What the boot tables and the initrd take, and what the command line takes from the kernel. */
static void describe_memory(struct machine *m)
{
	size_t count = riffle_boot_reserved(&m->description, m->reserved, RESERVED_MAX / 2);

	if (!m->config.layout.replay)
		count += cmdline_reserved(m->config.command_line, m->reserved + count, RESERVED_MAX - count);
	m->memory = (struct riffle_memory){.ram = m->description.ram,
					   .ram_count = m->description.ram_count,
					   .reserved = m->reserved,
					   .reserved_count = count};
}

int machine_choose_layout(struct machine *m, struct riffle_error *error)
{
	struct riffle_seeded seeded;
	struct riffle_random random;
	int status;

	describe_memory(m);
	if (m->config.layout.replay)
		return replay_layout(m, error);
	if (m->config.layout.automatic && m->config.layout.mode >= RIFFLE_MODE_KASLR) {
		mode_automatic(&m->config.layout.mode, &m->config.layout.slide, &m->kernel.plan, &m->memory,
			       m->description.initrd_bytes);
		if (command_line_keeps_gaps(m))
			m->config.layout.slide = false;
		m->layout.slide_count = m->config.layout.slide ? m->kernel.plan.block_count : 0;
	}
	if (m->config.layout.has_seed)
		riffle_random_from_seed(&random, &seeded, m->config.layout.seed);
	else
		entropy_source(&random, &m->entropy);
	if (m->config.layout.mode == RIFFLE_MODE_FGKASLR) {
		status = take_shuffle_memory(m, error);
		if (status)
			return status;
	}
	m->blame = m->config.kernel;
	status = riffle_layout_draw(&m->layout, &m->kernel.plan, &m->memory, m->config.layout.mode, &random, error);
	if (!status)
		m->blame = NULL;
	return status;
}

int machine_write_layout(struct machine *m, struct riffle_error *error)
{
	struct layout_file file;
	int status;

	if (!m->config.layout.out)
		return 0;
	m->blame = m->config.layout.out;
	status = layout_file_describe(&file, &m->layout, &m->kernel.plan, error);
	if (!status)
		status = layout_file_write(m->config.layout.out, &file, error);
	layout_file_free(&file);
	if (!status)
		m->blame = NULL;
	return status;
}

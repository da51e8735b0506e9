/* SPDX-License-Identifier: Apache-2.0 */
/* Names of modes and of what slides, for people. */
#include "host/mode.h"

#include <stdio.h>
#include <string.h>

#include <riffle/riffle.h>

#include "common/fail.h"
#include "common/slides_room.h"

static const char *const mode_names[] = {"off", "physical", "kaslr", "fgkaslr"};

const char *mode_name(const struct riffle_layout *layout)
{
	if (layout->slide_count)
		return layout->mode == RIFFLE_MODE_FGKASLR ? "fgkaslr+slide" : "kaslr+slide";
	return mode_names[layout->mode];
}

bool mode_parse(const char *name, enum riffle_mode *mode, bool *slide)
{
	for (unsigned i = 0; i < sizeof mode_names / sizeof *mode_names; i++) {
		size_t length = strlen(mode_names[i]);

		if (strncmp(name, mode_names[i], length) != 0)
			continue;
		*slide = i >= RIFFLE_MODE_KASLR && !strcmp(name + length, "+slide");
		if (name[length] && !*slide)
			continue;
		*mode = (enum riffle_mode)i;
		return true;
	}
	return false;
}

const char *mode_no_shuffle(const struct riffle_header *header)
{
	return header->no_shuffle[0] ? header->no_shuffle : "it was prepared without chunks";
}

const char *mode_no_slides(const struct riffle_header *header)
{
	if (header->no_slides[0])
		return header->no_slides;
	return header->no_shuffle[0] ? header->no_shuffle : "it was prepared without blocks";
}

int mode_check(char text[MODE_REASON_BYTES], enum riffle_mode mode, bool slide, const struct riffle_plan *plan,
	       struct riffle_error *error)
{
	const struct riffle_header *header = plan->header;
	bool relocatable = header->flags & RIFFLE_KERNEL_RELOCATABLE;

	if (mode == RIFFLE_MODE_FGKASLR && !plan->chunk_count) {
		snprintf(text, MODE_REASON_BYTES, "this kernel cannot be shuffled (%s); %s", mode_no_shuffle(header),
			 relocatable ? "--randomize=kaslr moves it as a whole"
				     : "without relocations --randomize=physical or off is all that it can have");
		return riffle_fail(error, RIFFLE_ERR_UNSUPPORTED, "--randomize=fgkaslr", text);
	}
	if (slide && !plan->block_count) {
		snprintf(text, MODE_REASON_BYTES, "the sections of this kernel cannot slide apart (%s)%s",
			 mode_no_slides(header), relocatable ? "; it can be randomised without +slide" : "");
		return riffle_fail(error, RIFFLE_ERR_UNSUPPORTED, "--randomize=...+slide", text);
	}
	return RIFFLE_OK;
}

void mode_automatic(enum riffle_mode *mode, bool *slide, const struct riffle_plan *plan,
		    const struct riffle_memory *memory, uint64_t initrd_bytes)
{
	struct riffle_slots slots;

	*mode = plan->chunk_count ? RIFFLE_MODE_FGKASLR : RIFFLE_MODE_KASLR;
	*slide = plan->block_count && riffle_slides_have_room(plan, memory, initrd_bytes) &&
		 !riffle_layout_slots_slid(&slots, plan, memory, *mode, NULL);
}

unsigned mode_reasons(char text[2][MODE_REASON_BYTES], enum riffle_mode mode, bool slide,
		      const struct riffle_plan *plan, const char *no_slides)
{
	const char *no_shuffle = plan->header->no_shuffle, *no_blocks = mode_no_slides(plan->header);
	bool unshuffled = mode == RIFFLE_MODE_KASLR && no_shuffle[0];
	unsigned count = 0;

	if (unshuffled && !plan->block_count && !strcmp(no_shuffle, no_blocks)) {
		snprintf(text[0], MODE_REASON_BYTES,
			 "this kernel is not shuffled, and its sections do not slide apart: %s", no_shuffle);
		return 1;
	}
	if (unshuffled)
		snprintf(text[count++], MODE_REASON_BYTES, "this kernel is not shuffled: %s", no_shuffle);
	if (slide)
		return count;
	if (!plan->block_count)
		snprintf(text[count++], MODE_REASON_BYTES, "this kernel's sections do not slide apart: %s", no_blocks);
	else if (no_slides)
		snprintf(text[count++], MODE_REASON_BYTES, "this kernel's sections do not slide apart: %s", no_slides);
	else
		snprintf(text[count++], MODE_REASON_BYTES,
			 "this kernel's sections do not slide apart: gaps of up to %llu MiB leave too little of the "
			 "guest's memory to start in",
			 ((unsigned long long)plan->slide_max + 1048575) >> 20);
	return count;
}

const char *mode_kallsyms_stays_open(const struct riffle_plan *plan, enum riffle_mode mode)
{
	if (mode != RIFFLE_MODE_FGKASLR || plan->header->features & RIFFLE_FEATURE_KALLSYMS_MODE)
		return NULL;
	return "where this kernel sets the mode of /proc/kallsyms is not known: let the guest's init run chmod 400 "
	       "/proc/kallsyms, or its users can read the order of functions there";
}

const char *mode_option(const char *value, bool *automatic, enum riffle_mode *mode, bool *slide)
{
	*automatic = !strcmp(value, "auto");
	*slide = false;
	return *automatic || mode_parse(value, mode, slide)
		   ? NULL
		   : "must be off, physical, kaslr, fgkaslr, either of these with +slide, or auto";
}

const char *block_name(uint32_t kind)
{
	static const char *const names[] = {[RIFFLE_BLOCK_TEXT] = "text",
					    [RIFFLE_BLOCK_RODATA] = "read-only data",
					    [RIFFLE_BLOCK_DATA] = "data",
					    [RIFFLE_BLOCK_INIT] = "init",
					    [RIFFLE_BLOCK_BSS] = "bss",
					    [RIFFLE_BLOCK_BRK] = "brk",
					    [RIFFLE_BLOCK_RODATA_END] = "end of read-only data"};

	return kind < sizeof names / sizeof *names && names[kind] ? names[kind] : "a section";
}

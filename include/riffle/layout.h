/* SPDX-License-Identifier: Apache-2.0 */
/* Where the kernel goes: a physical and a virtual slot, drawn uniformly and independently. */
#ifndef RIFFLE_LAYOUT_H
#define RIFFLE_LAYOUT_H

#include <riffle/memory.h>
#include <riffle/plan.h>

#ifdef __cplusplus
extern "C" {
#endif

/* How much is randomised; each mode includes those before it. */
enum riffle_mode {
	RIFFLE_MODE_OFF = 0,      /* at its link addresses */
	RIFFLE_MODE_PHYSICAL = 1, /* physical base only: needs no relocations */
	RIFFLE_MODE_KASLR = 2,    /* physical and virtual base */
	RIFFLE_MODE_FGKASLR = 3,  /* and the order of the kernel's functions: needs a plan with chunks */
};

/* Both bases are multiples of this: startup_64 requires no more, whatever CONFIG_PHYSICAL_ALIGN is. */
#define RIFFLE_SLOT_BYTES (2ul << 20)
/* The lowest physical slot, as in the kernel's bootstrap (LOAD_PHYSICAL_ADDR's default). */
#define RIFFLE_PHYSICAL_FLOOR (16ul << 20)

/*
 * A source of random bytes: fills `buffer` and returns 0, or returns non-zero if it cannot. Its output must be
 * unpredictable for the guest; the library mixes nothing in.
 */
struct riffle_random {
	int (*fill)(void *opaque, void *buffer, size_t bytes);
	void *opaque;
	uint64_t reserved_zero[2];
};

/*
 * A layout; initialise it with RIFFLE_LAYOUT_INIT. It is secret: call riffle_layout_wipe() once the kernel is loaded.
 */
struct riffle_layout {
	enum riffle_mode mode;
	uint64_t physical_base; /* guest-physical address of image offset 0 */
	uint64_t virtual_base;  /* its virtual address; link_virt if not randomised */
	/*
	 * RIFFLE_MODE_FGKASLR: order[i] is the chunk in position i; each region's chunks stay within the region's
	 * positions. The caller provides the array, of plan->chunk_count entries (order_count); NULL in other modes.
	 */
	uint16_t *order;
	uint32_t order_count;
	/*
	 * With slides, from RIFFLE_MODE_KASLR up: how far each of the plan's blocks moves in addition to the bases, 0
	 * for the first and never less than the one before. slide_count is plan->block_count; 0 for no slides.
	 */
	uint32_t slide_count;
	uint32_t slide[RIFFLE_BLOCKS_MAX];
	uint32_t reserved_zero[8];
};
#ifdef __cplusplus
#define RIFFLE_LAYOUT_INIT                                                                                             \
	{                                                                                                              \
	}
#else
#define RIFFLE_LAYOUT_INIT                                                                                             \
	{                                                                                                              \
		.mode = RIFFLE_MODE_OFF                                                                                \
	}
#endif

/* The numbers of equally likely slots that a layout is drawn from; the entropy in bits is their log2. */
struct riffle_slots {
	uint64_t physical;
	uint64_t virtual_; /* 1 if the virtual base is not randomised */
	/*
	 * With RIFFLE_MODE_FGKASLR there are also all orders of the chunks within their regions: the product of the
	 * factorials of the regions' chunk counts.
	 */
	uint64_t reserved_zero[4];
};

/*
 * Draws one layout. `random` NULL means getrandom(2), except in the freestanding build, where it is required.
 * The virtual slot is uniform over link_phys, link_phys + 2 MiB, … as long as the image with .bss and .brk ends inside
 * the kernel's window (arch/x86/boot/compressed/kaslr.c, find_random_virt_addr, with 2 MiB for CONFIG_PHYSICAL_ALIGN).
 * The physical slot is uniform over every multiple of 2 MiB from 16 MiB up, in every RAM range, at which the whole
 * image fits and overlaps no reserved range. With RIFFLE_MODE_OFF the kernel goes to link_phys, or is refused. For
 * RIFFLE_MODE_FGKASLR the caller sets layout->order and order_count first; each region's chunks are permuted uniformly
 * (Fisher-Yates, with numbers from ChaCha20 under a 32-byte key drawn from `random`), and the plan's paged chunk then
 * takes one of the places where it starts at a page, each as likely.
 * For slides the caller sets layout->slide_count to plan->block_count first: each block's gap is drawn uniformly and
 * independently of the others, except the second of a pair, which takes what the first lacks of its largest, and the
 * last of a plan with RIFFLE_FEATURE_BALANCED, which takes what all others lack; and slots are those that fit the image
 * with the largest gaps.
 * Errors: ARGUMENT, UNSUPPORTED (KASLR without relocations, FGKASLR without chunks), SPACE (no slot), RANDOM.
 */
RIFFLE_PUBLIC RIFFLE_MUST_CHECK int riffle_layout_draw(struct riffle_layout *layout, const struct riffle_plan *plan,
						       const struct riffle_memory *memory, enum riffle_mode mode,
						       const struct riffle_random *random, struct riffle_error *error);

/*
 * Checks that a layout from elsewhere (a replay) is one that riffle_layout_draw() could have drawn for this kernel and
 * this memory. Errors: ARGUMENT, UNSUPPORTED, SPACE, FORMAT (not an order of these chunks).
 */
RIFFLE_PUBLIC RIFFLE_MUST_CHECK int riffle_layout_check(const struct riffle_layout *layout,
							const struct riffle_plan *plan,
							const struct riffle_memory *memory, struct riffle_error *error);

/*
 * The part of that check that concerns only the order: each region's positions hold each of its chunks once, which
 * riffle_load_shuffled() checks too, and the plan's paged chunk starts at a page. Errors: FORMAT, with the position.
 */
RIFFLE_PUBLIC RIFFLE_MUST_CHECK int riffle_layout_check_order(const struct riffle_layout *layout,
							      const struct riffle_plan *plan,
							      struct riffle_error *error);

/*
 * The part of it that concerns only the slides: each gap is one that its block can have, and a pair's have their sum.
 * The loads make this check too.
 * Errors: ARGUMENT (slide_count), FORMAT, with the block.
 */
RIFFLE_PUBLIC RIFFLE_MUST_CHECK int riffle_layout_check_slides(const struct riffle_layout *layout,
							       const struct riffle_plan *plan,
							       struct riffle_error *error);

/*
 * Overwrites a layout's secrets (bases, mode, slides and the entries of the order) with writes that the compiler cannot
 * remove. `order`, `order_count` and `slide_count` are kept, so that another layout can be drawn into it.
 */
RIFFLE_PUBLIC void riffle_layout_wipe(struct riffle_layout *layout);

/* The same for other memory that held a layout: the workspace of a load, registers, a struct riffle_loaded. */
RIFFLE_PUBLIC void riffle_wipe(void *memory, size_t bytes);

/* Counts the slots that riffle_layout_draw() would draw from. Errors: the same, except RANDOM. */
RIFFLE_PUBLIC RIFFLE_MUST_CHECK int riffle_layout_slots(struct riffle_slots *slots, const struct riffle_plan *plan,
							const struct riffle_memory *memory, enum riffle_mode mode,
							struct riffle_error *error);

/* The same for a layout with slides: those are drawn from plan->blocks' numbers of gaps, and need room. */
RIFFLE_PUBLIC RIFFLE_MUST_CHECK int riffle_layout_slots_slid(struct riffle_slots *slots, const struct riffle_plan *plan,
							     const struct riffle_memory *memory, enum riffle_mode mode,
							     struct riffle_error *error);

/*
 * A reproducible source: ChaCha20's key stream under a 256-bit key (RFC 8439, nonce 0). For debugging; real boots use
 * the operating system's randomness. The caller owns the state; wipe it after use.
 */
struct riffle_seeded {
	uint8_t key[32];
	uint64_t block;
	uint8_t buffer[256];
	unsigned used;
};
RIFFLE_PUBLIC void riffle_random_from_seed(struct riffle_random *random, struct riffle_seeded *state,
					   const uint8_t seed[32]);

/*
 * A uniform number below `bound` (not 0), by rejection sampling. Returns 0 or RIFFLE_ERR_RANDOM. For other choices that
 * must be drawn from the same source.
 */
RIFFLE_PUBLIC RIFFLE_MUST_CHECK int riffle_random_below(uint64_t *number, uint64_t bound,
							const struct riffle_random *random, struct riffle_error *error);

#ifdef __cplusplus
}
#endif
#endif

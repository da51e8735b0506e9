/* SPDX-License-Identifier: Apache-2.0 */
/* Where the kernel goes: two slots drawn uniformly and independently, physical and virtual. */
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

/* Both bases are multiples of this: all that startup_64 demands, whatever CONFIG_PHYSICAL_ALIGN says. */
#define RIFFLE_SLOT_BYTES (2ul << 20)
/* No physical slot lies lower: the kernel's bootstrap has the same floor (LOAD_PHYSICAL_ADDR's default). */
#define RIFFLE_PHYSICAL_FLOOR (16ul << 20)

/*
 * A source of random bytes: fills `buffer` and returns 0, or returns non-zero when it cannot. What it gives must be
 * unpredictable for the guest; the library mixes nothing in.
 */
struct riffle_random {
	int (*fill)(void *opaque, void *buffer, size_t bytes);
	void *opaque;
	uint64_t reserved_zero[2];
};

/*
 * A layout; start from RIFFLE_LAYOUT_INIT. It is the guest's secret: riffle_layout_wipe() it when it has been loaded.
 */
struct riffle_layout {
	enum riffle_mode mode;
	uint64_t physical_base; /* guest-physical address of image offset 0 */
	uint64_t virtual_base;  /* its virtual address; link_virt when not randomised */
	/*
	 * RIFFLE_MODE_FGKASLR: order[i] is the chunk that comes i-th; each region's chunks stay within the region's
	 * places. The array is the caller's, plan->chunk_count long (order_count says how long); NULL in other modes.
	 */
	uint16_t *order;
	uint32_t order_count;
	uint32_t reserved_zero[1 + 16];
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

/* From how many equally likely places a layout is drawn; the entropy in bits is log2 of it. */
struct riffle_slots {
	uint64_t physical;
	uint64_t virtual_; /* 1 when the virtual base is not randomised */
	/* with RIFFLE_MODE_FGKASLR every order of the chunks within their regions besides: product of region chunk
	 * counts' factorials */
	uint64_t reserved_zero[4];
};

/*
 * Draws one layout. `random` NULL means getrandom(2) (not in the freestanding build, where it must be given).
 * The virtual slot is uniform over link_phys, link_phys + 2 MiB, … while the image with .bss and .brk ends inside
 * the kernel's window (arch/x86/boot/compressed/kaslr.c, find_random_virt_addr, with 2 MiB for CONFIG_PHYSICAL_ALIGN);
 * the physical one over every 2 MiB step from 16 MiB up in every stretch of RAM where the whole image fits and
 * touches no reserved range. With RIFFLE_MODE_OFF the kernel goes to link_phys, or is refused. With RIFFLE_MODE_FGKASLR
 * layout->order and order_count are the caller's to set before; each region's chunks are permuted uniformly
 * (Fisher-Yates, numbers from ChaCha20 under a key of 32 bytes drawn from `random`).
 * Errors: ARGUMENT, UNSUPPORTED (KASLR without relocations, FGKASLR without chunks), SPACE (nowhere to put it), RANDOM.
 */
RIFFLE_PUBLIC RIFFLE_MUST_CHECK int riffle_layout_draw(struct riffle_layout *layout, const struct riffle_plan *plan,
						       const struct riffle_memory *memory, enum riffle_mode mode,
						       const struct riffle_random *random, struct riffle_error *error);

/*
 * Checks that a layout that came from elsewhere (a replay) is one that riffle_layout_draw() could have drawn for this
 * kernel and this memory. Errors: ARGUMENT, UNSUPPORTED, SPACE, FORMAT (the order is none of these chunks).
 */
RIFFLE_PUBLIC RIFFLE_MUST_CHECK int riffle_layout_check(const struct riffle_layout *layout,
							const struct riffle_plan *plan,
							const struct riffle_memory *memory, struct riffle_error *error);

/*
 * The part of that check that is about the order alone: each region's places hold each of its chunks once.
 * riffle_load_shuffled() makes it too. Errors: FORMAT, with the place.
 */
RIFFLE_PUBLIC RIFFLE_MUST_CHECK int riffle_layout_check_order(const struct riffle_layout *layout,
							      const struct riffle_plan *plan,
							      struct riffle_error *error);

/*
 * Overwrites what a layout tells: bases, mode and the order's entries, by writes that no compiler leaves out. `order`
 * and `order_count` stay, so that another layout can be drawn into it.
 */
RIFFLE_PUBLIC void riffle_layout_wipe(struct riffle_layout *layout);

/* The same for other memory that a layout has been in: the workspace of a load, registers, a struct riffle_loaded. */
RIFFLE_PUBLIC void riffle_wipe(void *memory, size_t bytes);

/* Counts the slots that riffle_layout_draw() would draw from. Errors: as there, RANDOM excepted. */
RIFFLE_PUBLIC RIFFLE_MUST_CHECK int riffle_layout_slots(struct riffle_slots *slots, const struct riffle_plan *plan,
							const struct riffle_memory *memory, enum riffle_mode mode,
							struct riffle_error *error);

/*
 * A replayable source: ChaCha20's key stream under a 256-bit key (RFC 8439, nonce 0). For debugging; real boots take
 * the operating system's randomness. The state belongs to the caller; wipe it after use.
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
 * A uniform number below `bound` (not 0), by rejection. Returns 0, or RIFFLE_ERR_RANDOM. For other choices that must
 * be drawn from the same source.
 */
RIFFLE_PUBLIC RIFFLE_MUST_CHECK int riffle_random_below(uint64_t *number, uint64_t bound,
							const struct riffle_random *random, struct riffle_error *error);

#ifdef __cplusplus
}
#endif
#endif

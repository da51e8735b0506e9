/* SPDX-License-Identifier: Apache-2.0 */
/* Gathers the key of a layout inside the guest: the processor's generator first, everything else only on top of it. */
#include "stage/entropy.h"

#include "common/bytes.h"
#include "common/fail.h"
#include "layout/random.h"
#include "stage/cpu.h"
#include "stage/stage.h"

#define TRIES 1000u
#define WORDS 4u
#define TIMER_ROUNDS 64u

/*
 * The key becomes ChaCha20 of itself with the block mixed in: as unpredictable as the better of the two, and who
 * chooses a block without knowing the key cannot steer it.
 */
static void absorb(uint8_t key[32], const void *block, uint64_t bytes)
{
	uint8_t stream[RIFFLE_CHACHA20_BYTES];
	const uint8_t *from = block;

	while (bytes) {
		unsigned part = bytes < 32 ? (unsigned)bytes : 32;

		for (unsigned i = 0; i < part; i++)
			key[i] ^= from[i];
		riffle_chacha20(stream, key, 0);
		memcpy(key, stream, 32);
		from += part;
		bytes -= part;
	}
}

static bool draw(bool (*step)(uint64_t *), uint64_t *word)
{
	for (unsigned i = 0; i < TRIES; i++) {
		if (step(word))
			return true;
		__builtin_ia32_pause();
	}
	return false;
}

/* Some processors answer with the same word for ever and call it a success. */
static bool gather(uint8_t key[32], bool (*step)(uint64_t *))
{
	uint64_t words[WORDS];
	bool differ = false;

	for (unsigned i = 0; i < WORDS; i++) {
		if (!draw(step, &words[i]))
			return false;
		differ |= words[i] != words[0];
	}
	absorb(key, words, sizeof words);
	return differ;
}

static void absorb_timers(uint8_t key[32])
{
	for (unsigned i = 0; i < TIMER_ROUNDS; i++) {
		uint64_t block[2] = {__builtin_ia32_rdtsc(), 0};

		cpu_out(0x43, 0); /* latch counter 0 of the i8254, as arch/x86/lib/kaslr.c does */
		block[1] = cpu_in(0x40);
		block[1] |= (uint64_t)cpu_in(0x40) << 8;
		absorb(key, block, sizeof block);
	}
}

int stage_entropy(uint8_t key[32], const void *seed, uint64_t seed_bytes, const uint8_t *zero_page,
		  struct riffle_error *error)
{
	bool has_seed = false, has_rand, got = false;
	uint32_t a, b, c, leaves;
	uint64_t now;

	memset(key, 0, 32);
	cpu_cpuid(0, &leaves, &b, &c);
	cpu_cpuid(1, &a, &b, &c);
	has_rand = c >> 30 & 1;
	if (leaves >= 7) {
		cpu_cpuid(7, &a, &b, &c);
		has_seed = b >> 18 & 1;
	}
	if (has_seed)
		got |= gather(key, cpu_rdseed);
	if (has_rand)
		got |= gather(key, cpu_rdrand);
	if ((has_seed || has_rand) && !got)
		return riffle_fail(error, RIFFLE_ERR_RANDOM, "processor",
				   "has a random number generator that does not work");
	if (!got)
		absorb_timers(key);
	now = __builtin_ia32_rdtsc();
	absorb(key, &now, sizeof now);
	absorb(key, zero_page, STAGE_PAGE);
	absorb(key, seed, seed_bytes);
	return RIFFLE_OK;
}

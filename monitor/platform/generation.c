/* SPDX-License-Identifier: Apache-2.0 */
/* Tells a guest that it was restored: VM generation id and VMClock, in pages of the guest's own memory. */
#include "monitor/platform/generation.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include <riffle/boot.h>

#include "common/bytes.h"
#include "common/fail.h"

/* The VMClock page (Linux's uapi/linux/vmclock-abi.h, version 1): the non-zero fields. */
#define VMCLOCK_MAGIC 0x4b4c4356u /* "VCLK" */
#define VMCLOCK_VERSION 1u
#define VMCLOCK_COUNTER_INVALID 0xffu
#define VMCLOCK_FLAG_GENERATION (1u << 8)
#define VMCLOCK_FLAG_NOTIFICATION (1u << 9)
enum {
	AT_MAGIC = 0,
	AT_SIZE = 4,
	AT_VERSION = 8,
	AT_COUNTER_ID = 10,
	AT_SEQUENCE = 12, /* odd while the page changes */
	AT_DISRUPTION = 16,
	AT_FLAGS = 24,
	AT_GENERATION = 104,
};

static int set_id(const struct guest_memory *memory, const uint8_t id[RIFFLE_BOOT_VMGENID_BYTES],
		  struct riffle_error *error)
{
	if (!guest_memory_write(memory, GENERATION_VMGENID, id, RIFFLE_BOOT_VMGENID_BYTES))
		return riffle_fail(error, RIFFLE_ERR_ARGUMENT, "memory", "is too small for a generation id");
	return 0;
}

int generation_begin(const struct guest_memory *memory, const uint8_t id[RIFFLE_BOOT_VMGENID_BYTES],
		     struct riffle_error *error)
{
	uint8_t *clock = guest_memory_at(memory, GENERATION_VMCLOCK, RIFFLE_BOOT_VMCLOCK_BYTES);

	if (!clock)
		return riffle_fail(error, RIFFLE_ERR_ARGUMENT, "memory", "is too small for VMClock");
	riffle_put32(clock + AT_MAGIC, VMCLOCK_MAGIC);
	riffle_put32(clock + AT_SIZE, RIFFLE_BOOT_VMCLOCK_BYTES);
	riffle_put16(clock + AT_VERSION, VMCLOCK_VERSION);
	clock[AT_COUNTER_ID] = VMCLOCK_COUNTER_INVALID;
	riffle_put64(clock + AT_FLAGS, VMCLOCK_FLAG_GENERATION | VMCLOCK_FLAG_NOTIFICATION);
	return set_id(memory, id, error);
}

static void add_one(uint8_t *counter)
{
	riffle_put64(counter, riffle_get64(counter) + 1);
}

int generation_renew(const struct guest_memory *memory, struct riffle_error *error)
{
	uint8_t *clock = guest_memory_at(memory, GENERATION_VMCLOCK, RIFFLE_BOOT_VMCLOCK_BYTES);
	uint8_t id[RIFFLE_BOOT_VMGENID_BYTES];

	if (!clock)
		return riffle_fail(error, RIFFLE_ERR_ARGUMENT, "memory", "is too small for VMClock");
	if (getrandom(id, sizeof id, 0) != sizeof id)
		return riffle_fail_full(error, RIFFLE_ERR_RANDOM, errno, "getrandom", "failed", 0, 0, 0, 0);
	/* the guest is paused, perhaps while reading the page; a changed sequence makes it read again */
	riffle_put32(clock + AT_SEQUENCE, (riffle_get32(clock + AT_SEQUENCE) | 1) + 1);
	add_one(clock + AT_DISRUPTION);
	add_one(clock + AT_GENERATION);
	return set_id(memory, id, error);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzes the balloon: a hostile driver, and a host that changes its target. No page outside guest memory may be
 * discarded.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "harness.h"
#include "monitor/virtio/balloon.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct virtio_device *device;
static uint8_t *guard[2];

static void host(void *opaque, uint8_t what, const uint8_t *data, size_t bytes)
{
	struct balloon_state state;

	(void)opaque;
	switch (what % 5) {
	case 0:
		balloon_set_target(device, bytes ? (uint64_t)data[0] * BALLOON_PAGE : 0, NULL);
		break;
	case 1:
		balloon_hint_start(device, what & 0x10, NULL);
		break;
	case 2:
		balloon_hint_stop(device, NULL);
		break;
	case 3:
		balloon_set_stats_interval(device, what, NULL);
		break;
	default:
		balloon_state(device, &state);
	}
}

/* Guard pages on either side of guest memory, in place of other memory of the process. */
static void make_guards(struct harness *harness)
{
	uint8_t *ram = harness->memory.ram[0].host;

	guard[0] = mmap(ram - BALLOON_PAGE, BALLOON_PAGE, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	guard[1] = mmap(ram + harness->memory.ram[0].bytes, BALLOON_PAGE, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	if (guard[0] == MAP_FAILED || guard[1] == MAP_FAILED)
		abort();
	memset(guard[0], 1, BALLOON_PAGE);
	memset(guard[1], 1, BALLOON_PAGE);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct harness harness;

	if (!harness.memory.count) {
		harness_open(&harness);
		make_guards(&harness);
		harness.host = host;
	}
	const struct balloon_config config = {.memory_bytes = harness.memory.ram[0].bytes,
					      .stats_s = size && data[0] & 1,
					      .hinting = size && data[0] & 2,
					      .reporting = size && data[0] & 4};

	if (!size)
		return 0;
	if (balloon_new(&device, &config, NULL))
		abort();
	harness_attach(&harness, device);
	harness_run(&harness, data + 1, size - 1);
	harness_detach(&harness);
	if (guard[0][0] != 1 || guard[0][BALLOON_PAGE - 1] != 1 || guard[1][0] != 1)
		abort();
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The balloon: which guest pages are returned to the host, and the protocol between driver and host. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <linux/virtio_balloon.h>
#include <linux/virtio_config.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "driver.h"
#include "monitor/virtio/balloon.h"

#define PAGE BALLOON_PAGE
#define PAGES (DRIVER_MEMORY / PAGE)
#define STATS VIRTIO_FEATURE(VIRTIO_BALLOON_F_STATS_VQ)

struct fixture {
	struct driver driver;
	struct virtio_device *device;
};

static struct fixture *open_fixture(const struct balloon_config *more, uint64_t wanted)
{
	struct fixture *f = calloc(1, sizeof *f);
	struct balloon_config config = *more;

	assert_non_null(f);
	config.memory_bytes = DRIVER_MEMORY;
	driver_open(&f->driver);
	assert_int_equal(balloon_new(&f->device, &config, NULL), 0);
	driver_attach(&f->driver, f->device);
	driver_begin(&f->driver, wanted, 16);
	/* memory that is in use everywhere */
	for (uint64_t page = 512; page < PAGES; page++)
		memset(driver_at(&f->driver, page * PAGE), 1, PAGE);
	return f;
}

static void close_fixture(struct fixture *f)
{
	driver_close(&f->driver);
	free(f);
}

static bool resident(struct fixture *f, uint64_t page)
{
	unsigned char in_core;

	assert_int_equal(mincore(driver_at(&f->driver, page * PAGE), PAGE, &in_core), 0);
	return in_core & 1;
}

static unsigned count_resident(struct fixture *f, uint64_t from, uint64_t to)
{
	unsigned count = 0;

	for (uint64_t page = from; page < to; page++)
		count += resident(f, page);
	return count;
}

static void send_chain(struct fixture *f, unsigned queue, const struct driver_buffer *buffers, unsigned count)
{
	uint32_t id, written;
	uint16_t head = driver_add(&f->driver, queue, buffers, count, false);

	driver_kick(&f->driver, queue);
	assert_true(driver_used(&f->driver, queue, &id, &written));
	assert_int_equal(id, head);
}

static void send_pfns(struct fixture *f, unsigned queue, const uint32_t *pfn, uint32_t count)
{
	struct driver_buffer buffer = {driver_take(&f->driver, count * 4, 16), count * 4, false};

	memcpy(driver_at(&f->driver, buffer.address), pfn, count * 4);
	send_chain(f, queue, &buffer, 1);
}

static struct balloon_state state_of(struct fixture *f)
{
	struct balloon_state state;

	balloon_state(f->device, &state);
	return state;
}

static void test_inflate(void **state)
{
	struct fixture *f = open_fixture(&(struct balloon_config){0}, UINT64_MAX);
	/* upwards, downwards, alone, twice, and the last page */
	static const uint32_t pfn[] = {1000, 1001, 1002, 1100, 1099, 1098, 2000, 1500, 1500, PAGES - 1};

	(void)state;
	send_pfns(f, 0, pfn, 10);
	assert_int_equal(count_resident(f, 512, PAGES), PAGES - 512 - 9);
	for (unsigned i = 0; i < 10; i++)
		assert_false(resident(f, pfn[i]));
	assert_true(resident(f, 999) && resident(f, 1003) && resident(f, 1097) && resident(f, 1101));
	assert_int_equal(*(uint8_t *)driver_at(&f->driver, 1001 * PAGE), 0); /* reads zero when it is used again */
	send_pfns(f, 1, pfn, 10);                                            /* deflate: nothing to do */
	assert_int_equal(state_of(f).inflated_bytes, 10 * PAGE);
	assert_int_equal(balloon_counters(f->device)->inflates, 1);
	assert_int_equal(balloon_counters(f->device)->deflates, 1);
	close_fixture(f);
}

/* More than the 256 frames read at a time, in one run across that border. */
static void test_inflate_many(void **state)
{
	struct fixture *f = open_fixture(&(struct balloon_config){0}, UINT64_MAX);
	uint32_t pfn[700];

	(void)state;
	for (unsigned i = 0; i < 700; i++)
		pfn[i] = 3000 - i;
	send_pfns(f, 0, pfn, 700);
	assert_int_equal(count_resident(f, 512, PAGES), PAGES - 512 - 700);
	assert_true(resident(f, 2300) && resident(f, 3001));
	close_fixture(f);
}

/* Frames outside guest memory are skipped, also at the end of a valid run. */
static void test_inflate_outside(void **state)
{
	struct fixture *f = open_fixture(&(struct balloon_config){0}, UINT64_MAX);
	static const uint32_t pfn[] = {UINT32_MAX, PAGES - 2, PAGES - 1, PAGES, PAGES + 1, UINT32_MAX - 1, 1000};

	(void)state;
	send_pfns(f, 0, pfn, 7);
	assert_int_equal(count_resident(f, 512, PAGES), PAGES - 512 - 3);
	assert_int_equal(state_of(f).inflated_bytes, 3 * PAGE);
	close_fixture(f);
}

static void test_lies(void **state)
{
	(void)state;
	for (int i = 0; i < 4; i++) {
		struct fixture *f =
		    open_fixture(&(struct balloon_config){.reporting = true, .stats_s = 60}, UINT64_MAX);
		struct driver_buffer buffers[] = {{512 * PAGE, 16, false}, {513 * PAGE, PAGE, true}};

		switch (i) {
		case 0: /* a list of frames that is to be written */
			driver_add(&f->driver, 0, buffers + 1, 1, false);
			break;
		case 1: /* one that is far too long */
			buffers[0].bytes = 4097 * 4;
			driver_add(&f->driver, 0, buffers, 1, false);
			break;
		case 2: /* pages reported to be read */
			driver_add(&f->driver, 3, buffers, 1, false);
			break;
		default: /* statistics to be written */
			driver_add(&f->driver, 2, buffers + 1, 1, false);
		}
		driver_kick(&f->driver, i < 2 ? 0 : i == 2 ? 3 : 2);
		assert_true(driver_wait_status(&f->driver, VIRTIO_CONFIG_S_NEEDS_RESET));
		close_fixture(f);
	}
}

static void test_target(void **state)
{
	struct fixture *f = open_fixture(&(struct balloon_config){.target_bytes = 4 << 20}, UINT64_MAX);
	struct riffle_error error;
	uint32_t pages, actual = 77;

	(void)state;
	driver_config(&f->driver, 0, &pages, 4);
	assert_int_equal(pages, 1024);
	driver_interrupts(&f->driver);
	assert_int_equal(balloon_set_target(f->device, DRIVER_MEMORY, NULL), 0);
	driver_config(&f->driver, 0, &pages, 4);
	assert_int_equal(pages, PAGES);
	assert_int_equal(driver_read(&f->driver, 0x60), 2); /* the configuration changed */
	assert_int_equal(driver_interrupts(&f->driver), 1);
	assert_int_equal(balloon_set_target(f->device, DRIVER_MEMORY + PAGE, &error), RIFFLE_ERR_ARGUMENT);
	assert_int_equal(error.expected, DRIVER_MEMORY);
	assert_int_equal(balloon_set_target(f->device, PAGE + 1, &error), RIFFLE_ERR_ARGUMENT);
	bus_mmio(&f->driver.bus, DRIVER_ADDRESS + 0x104, 4, true, &actual);
	bus_mmio(&f->driver.bus, DRIVER_ADDRESS + 0x100, 4, true, &actual); /* not writable by the driver */
	assert_int_equal(state_of(f).actual_bytes, 77 * PAGE);
	assert_int_equal(state_of(f).target_bytes, DRIVER_MEMORY);
	driver_write(&f->driver, 0x70, 0);
	assert_int_equal(state_of(f).actual_bytes, 0);
	close_fixture(f);
}

static void put_stat(uint8_t *at, uint16_t tag, uint64_t value)
{
	memcpy(at, &tag, 2);
	memcpy(at + 2, &value, 8);
}

static void test_statistics(void **state)
{
	struct fixture *f = open_fixture(&(struct balloon_config){.stats_s = 1}, UINT64_MAX);
	struct driver_buffer buffer = {driver_take(&f->driver, 64, 16), 43, false};
	uint8_t *at = driver_at(&f->driver, buffer.address);
	uint32_t id, written;

	(void)state;
	put_stat(at, VIRTIO_BALLOON_S_MEMFREE, 0x123456789);
	put_stat(at + 10, 15, 5); /* the last that is known */
	put_stat(at + 20, 16, 6); /* one that is not */
	put_stat(at + 30, VIRTIO_BALLOON_S_SWAP_IN, UINT64_MAX);
	memset(at + 40, 0, 3); /* a part of one */
	driver_add(&f->driver, 2, &buffer, 1, false);
	driver_kick(&f->driver, 2);
	/* the buffer is returned when due, to be filled again */
	assert_true(driver_used(&f->driver, 2, &id, &written));
	struct balloon_stats stats = state_of(f).stats;

	assert_int_equal(stats.there, 1u << VIRTIO_BALLOON_S_MEMFREE | 1u << 15 | 1u << VIRTIO_BALLOON_S_SWAP_IN);
	assert_int_equal(stats.value[VIRTIO_BALLOON_S_MEMFREE], 0x123456789);
	assert_int_equal(stats.value[VIRTIO_BALLOON_S_SWAP_IN], UINT64_MAX);
	assert_int_equal(stats.value[15], 5);
	buffer.bytes = 10;
	put_stat(at, VIRTIO_BALLOON_S_MEMTOT, 9);
	driver_add(&f->driver, 2, &buffer, 1, false);
	driver_kick(&f->driver, 2);
	assert_int_equal(balloon_set_stats_interval(f->device, 0, NULL), RIFFLE_ERR_ARGUMENT);
	assert_int_equal(balloon_set_stats_interval(f->device, 2, NULL), 0);
	/* a pause in between loses nothing */
	virtio_pause(f->device);
	virtio_resume(f->device);
	assert_true(driver_used(&f->driver, 2, &id, &written));
	stats = state_of(f).stats;
	assert_int_equal(stats.there, 1u << VIRTIO_BALLOON_S_MEMTOT);
	assert_true(balloon_counters(f->device)->stats_updates >= 2);
	close_fixture(f);
}

/* Reported pages; parts of a page stay. */
static void test_reporting(void **state)
{
	/* without statistics and hinting the queue is the third */
	struct fixture *f = open_fixture(&(struct balloon_config){.reporting = true}, UINT64_MAX);
	struct driver_buffer buffers[] = {{600 * PAGE, 50 * PAGE, true},
					  {700 * PAGE + 1, 3 * PAGE, true},
					  {800 * PAGE, PAGE - 1, true},
					  {(PAGES - 4) * PAGE, 4 * PAGE, true}};

	(void)state;
	send_chain(f, 2, buffers, 4);
	assert_int_equal(count_resident(f, 600, 650), 0);
	assert_int_equal(count_resident(f, 700, 704), 2);
	assert_true(resident(f, 700) && resident(f, 703));
	assert_true(resident(f, 800));
	assert_int_equal(count_resident(f, 512, PAGES), PAGES - 512 - 50 - 2 - 4);
	assert_int_equal(state_of(f).reported_bytes, 56 * PAGE);
	assert_int_equal(balloon_counters(f->device)->reports, 1);
	assert_int_equal(balloon_counters(f->device)->reported_bytes, 56 * PAGE);
	close_fixture(f);
}

/* A driver that takes fewer features has fewer queues, without a gap. */
static void test_queue_numbers(void **state)
{
	const struct balloon_config all = {.stats_s = 60, .hinting = true, .reporting = true};
	struct fixture *f = open_fixture(&all, ~STATS & ~VIRTIO_FEATURE(VIRTIO_BALLOON_F_FREE_PAGE_HINT));
	struct driver_buffer buffer = {600 * PAGE, PAGE, true};

	(void)state;
	send_chain(f, 2, &buffer, 1);
	assert_false(resident(f, 600));
	close_fixture(f);
	f = open_fixture(&all, ~STATS);
	send_chain(f, 3, &buffer, 1);
	assert_false(resident(f, 600));
	close_fixture(f);
	f = open_fixture(&all, UINT64_MAX);
	send_chain(f, 4, &buffer, 1);
	assert_false(resident(f, 600));
	close_fixture(f);
}

static uint32_t hint_command(struct fixture *f)
{
	uint32_t command;

	driver_config(&f->driver, 8, &command, 4);
	return command;
}

static void send_command(struct fixture *f, uint32_t command)
{
	struct driver_buffer buffer = {driver_take(&f->driver, 4, 16), 4, false};

	memcpy(driver_at(&f->driver, buffer.address), &command, 4);
	send_chain(f, 2, &buffer, 1);
}

static void test_hinting(void **state)
{
	struct fixture *f = open_fixture(&(struct balloon_config){.hinting = true}, UINT64_MAX);
	struct driver_buffer buffer = {600 * PAGE, 8 * PAGE, true};

	(void)state;
	assert_int_equal(hint_command(f), 0);
	send_chain(f, 2, &buffer, 1); /* not asked for: the guest may use them */
	assert_int_equal(count_resident(f, 600, 608), 8);
	assert_int_equal(balloon_hint_start(f->device, true, NULL), 0);
	uint32_t command = hint_command(f);

	assert_true(command > VIRTIO_BALLOON_CMD_ID_DONE);
	send_command(f, command + 1); /* a stale list */
	send_chain(f, 2, &buffer, 1);
	assert_int_equal(count_resident(f, 600, 608), 8);
	send_command(f, command);
	send_chain(f, 2, &buffer, 1);
	assert_int_equal(count_resident(f, 600, 608), 0);
	assert_int_equal(state_of(f).hinted_bytes, 8 * PAGE);
	send_command(f, VIRTIO_BALLOON_CMD_ID_STOP);
	assert_int_equal(hint_command(f), VIRTIO_BALLOON_CMD_ID_DONE);
	assert_true(state_of(f).hint_guest_answered);
	/* without acknowledgement the guest waits for the stop */
	assert_int_equal(balloon_hint_start(f->device, false, NULL), 0);
	assert_int_equal(hint_command(f), command + 1);
	assert_false(state_of(f).hint_guest_answered);
	send_command(f, command + 1);
	send_command(f, VIRTIO_BALLOON_CMD_ID_STOP);
	assert_int_equal(hint_command(f), command + 1);
	assert_int_equal(balloon_hint_stop(f->device, NULL), 0);
	assert_int_equal(hint_command(f), VIRTIO_BALLOON_CMD_ID_DONE);
	close_fixture(f);
	f = open_fixture(&(struct balloon_config){0}, UINT64_MAX);
	assert_int_equal(balloon_hint_start(f->device, true, NULL), RIFFLE_ERR_ARGUMENT);
	close_fixture(f);
}

/* Each option is a feature; the configuration ends where the fields of features that are not offered begin. */
static void features_of_options(void **state)
{
	(void)state;
	for (unsigned bits = 0; bits < 16; bits++) {
		const struct balloon_config config = {.memory_bytes = 1 << 20,
						      .target_bytes = 1 << 20,
						      .stats_s = bits & 1 ? 7 : 0,
						      .deflate_on_oom = bits & 2,
						      .hinting = bits & 4,
						      .reporting = bits & 8};
		struct virtio_device *device;

		assert_int_equal(balloon_new(&device, &config, NULL), 0);
		assert_int_equal(device->features, (bits & 1 ? 1u << VIRTIO_BALLOON_F_STATS_VQ : 0) |
						       (bits & 2 ? 1u << VIRTIO_BALLOON_F_DEFLATE_ON_OOM : 0) |
						       (bits & 4 ? 1u << VIRTIO_BALLOON_F_FREE_PAGE_HINT : 0) |
						       (bits & 8 ? 1u << VIRTIO_BALLOON_F_REPORTING : 0));
		assert_int_equal(device->config_bytes, 12);
		assert_int_equal(device->config_writable_from, 4);
		assert_int_equal(device->config_writable, 4);
		assert_int_equal(balloon_hint_stop(device, NULL), bits & 4 ? 0 : RIFFLE_ERR_ARGUMENT);
		assert_int_equal(balloon_set_stats_interval(device, 9, NULL), bits & 1 ? 0 : RIFFLE_ERR_ARGUMENT);
		assert_int_equal(balloon_set_stats_interval(device, 0, NULL), bits & 1 ? RIFFLE_ERR_ARGUMENT : 0);
		virtio_device_destroy(device);
	}
}

/* The first frame of all has none before it, and a list may have 4096 frames. */
static void frames_at_both_ends(void **state)
{
	struct fixture *f = open_fixture(&(struct balloon_config){0}, UINT64_MAX);
	static const uint32_t wraps[] = {0, UINT32_MAX, 0};
	uint32_t pfn[4096];

	(void)state;
	*(uint8_t *)driver_at(&f->driver, 0) = 1;
	send_pfns(f, 0, wraps, 3);
	assert_false(resident(f, 0));
	assert_int_equal(state_of(f).inflated_bytes, 2 * PAGE);
	assert_int_equal(count_resident(f, 512, PAGES), PAGES - 512);
	for (unsigned i = 0; i < 4096; i++)
		pfn[i] = 1000 + i % 256;
	send_pfns(f, 0, pfn, 4096);
	assert_int_equal(count_resident(f, 512, PAGES), PAGES - 512 - 256);
	assert_int_equal(state_of(f).inflated_bytes, (2 + 4096) * PAGE);
	/* a part of a number at the end is none */
	struct driver_buffer odd = {driver_take(&f->driver, 8, 16), 7, false};

	memcpy(driver_at(&f->driver, odd.address), (uint32_t[]){2000, 2001}, 8);
	send_chain(f, 0, &odd, 1);
	assert_false(resident(f, 2000));
	assert_true(resident(f, 2001));
	close_fixture(f);
}

/* More chains than a turn takes: all are served. */
static void many_chains_at_once(void **state)
{
	struct fixture *f = open_fixture(&(struct balloon_config){0}, UINT64_MAX);
	struct driver_hold hold;
	uint32_t id, written;

	(void)state;
	driver_begin(&f->driver, UINT64_MAX, 64);
	for (unsigned chains = 15; chains <= 40; chains += chains < 17 ? 1 : 23) {
		driver_hold_loop(&f->driver, &hold);
		for (unsigned i = 0; i < chains; i++) {
			struct driver_buffer buffer = {driver_take(&f->driver, 4, 4), 4, false};

			*(uint32_t *)driver_at(&f->driver, buffer.address) = 3000 + i;
			driver_add(&f->driver, 0, &buffer, 1, false);
		}
		driver_kick(&f->driver, 0);
		driver_let_loop_go(&hold);
		for (unsigned i = 0; i < chains; i++)
			assert_true(driver_used(&f->driver, 0, &id, &written));
	}
	assert_int_equal(count_resident(f, 3000, 3041), 1);
	assert_int_equal(balloon_counters(f->device)->inflates, 15 + 16 + 17 + 40);
	close_fixture(f);
}

/* Lists and reports of which nothing is a whole page do nothing, and are counted as failed. */
static void nothing_given_back_is_counted(void **state)
{
	struct fixture *f = open_fixture(&(struct balloon_config){.hinting = true, .reporting = true}, UINT64_MAX);
	struct driver_buffer part = {600 * PAGE + 1, PAGE, true}, page = {600 * PAGE, PAGE, true};
	const struct balloon_counters *c = balloon_counters(f->device);

	(void)state;
	send_chain(f, 3, &part, 1);
	assert_int_equal(c->report_fails, 1);
	send_chain(f, 3, &page, 1);
	assert_int_equal(c->report_fails, 1);
	assert_int_equal(c->reports, 2);
	assert_int_equal(balloon_hint_start(f->device, true, NULL), 0);
	assert_int_equal(hint_command(f), VIRTIO_BALLOON_CMD_ID_DONE + 1);
	send_command(f, hint_command(f));
	assert_int_equal(c->hint_fails, 0);
	send_chain(f, 2, &part, 1);
	assert_int_equal(c->hint_fails, 1);
	assert_int_equal(c->hinted_bytes, 0);
	page.address += PAGE;
	send_chain(f, 2, &page, 1);
	assert_int_equal(c->hint_fails, 1);
	assert_int_equal(c->hinted_bytes, PAGE);
	assert_int_equal(c->hints, 3);
	close_fixture(f);
}

/* A stop with no list open changes nothing; a command needs four bytes. */
static void commands_out_of_place(void **state)
{
	struct fixture *f = open_fixture(&(struct balloon_config){.hinting = true}, UINT64_MAX);
	struct driver_buffer buffer = {driver_take(&f->driver, 4, 16), 3, false};
	uint32_t generation = driver_read(&f->driver, 0xfc);

	(void)state;
	send_command(f, VIRTIO_BALLOON_CMD_ID_STOP);
	assert_int_equal(hint_command(f), 0);
	assert_int_equal(balloon_hint_start(f->device, true, NULL), 0);
	assert_int_equal(balloon_hint_stop(f->device, NULL), 0);
	generation = driver_read(&f->driver, 0xfc);
	send_command(f, VIRTIO_BALLOON_CMD_ID_STOP);
	assert_int_equal(hint_command(f), VIRTIO_BALLOON_CMD_ID_DONE);
	assert_int_equal(driver_read(&f->driver, 0xfc), generation);
	/* pages after a done list are the guest's own again */
	send_command(f, VIRTIO_BALLOON_CMD_ID_DONE);
	struct driver_buffer pages = {600 * PAGE, PAGE, true};

	send_chain(f, 2, &pages, 1);
	assert_true(resident(f, 600));
	driver_add(&f->driver, 2, &buffer, 1, false);
	driver_kick(&f->driver, 2);
	assert_true(driver_wait_status(&f->driver, VIRTIO_CONFIG_S_NEEDS_RESET));
	close_fixture(f);
}

/* A second buffer of figures sends the older back; figures of nothing known are counted as failed. */
static void second_statistics(void **state)
{
	struct fixture *f = open_fixture(&(struct balloon_config){.stats_s = 3600}, UINT64_MAX);
	struct driver_buffer buffers[2];
	uint32_t id, written;

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		buffers[i] = (struct driver_buffer){driver_take(&f->driver, 1280, 16), i ? 1280 : 10, false};
		uint8_t *at = driver_at(&f->driver, buffers[i].address);

		for (unsigned j = 0; j < 128; j++)
			put_stat(at + 10 * j, 99, 1);
		/* the 64th is the last that is looked at */
		put_stat(at + 630, VIRTIO_BALLOON_S_MEMFREE, 63);
		put_stat(at + 640, VIRTIO_BALLOON_S_MEMTOT, 64);
	}
	uint16_t first = driver_add(&f->driver, 2, &buffers[0], 1, false);

	driver_add(&f->driver, 2, &buffers[1], 1, false);
	driver_kick(&f->driver, 2);
	assert_true(driver_used(&f->driver, 2, &id, &written));
	assert_int_equal(id, first);
	assert_int_equal(written, 0);
	for (unsigned i = 0; i < 10000 && !state_of(f).stats.there; i++)
		usleep(1000);
	assert_int_equal(state_of(f).stats.there, 1u << VIRTIO_BALLOON_S_MEMFREE);
	assert_int_equal(state_of(f).stats.value[VIRTIO_BALLOON_S_MEMFREE], 63);
	assert_int_equal(balloon_counters(f->device)->stats_fails, 1);
	assert_int_equal(balloon_counters(f->device)->stats_updates, 1);
	/* a reset forgets them */
	driver_begin(&f->driver, UINT64_MAX, 16);
	assert_int_equal(state_of(f).stats.there, 0);
	close_fixture(f);
}

/* The saved state is the configuration space, with the command that the host gave last. */
static void state_is_saved_and_restored(void **state)
{
	struct fixture *f = open_fixture(&(struct balloon_config){.hinting = true}, UINT64_MAX);
	uint8_t saved[64], small[64];
	struct riffle_error error;

	(void)state;
	assert_int_equal(balloon_hint_start(f->device, false, NULL), 0);
	size_t bytes = f->device->ops->save(f->device, saved, sizeof saved);

	assert_in_range(bytes, 12, sizeof saved);
	memset(small, 0xee, sizeof small);
	assert_int_equal(f->device->ops->save(f->device, small, bytes - 1), bytes);
	assert_int_equal(small[0], 0xee);
	assert_int_equal(f->device->ops->save(f->device, small, bytes), bytes);
	assert_memory_equal(small, saved, bytes);
	assert_int_equal(balloon_hint_stop(f->device, NULL), 0);
	assert_int_equal(f->device->ops->restore(f->device, saved, bytes - 1, &error), RIFFLE_ERR_FORMAT);
	assert_int_equal(state_of(f).hint_host_command, VIRTIO_BALLOON_CMD_ID_DONE);
	assert_int_equal(f->device->ops->restore(f->device, saved, bytes, &error), 0);
	assert_int_equal(state_of(f).hint_host_command, VIRTIO_BALLOON_CMD_ID_DONE + 1);
	close_fixture(f);
}

static void test_refused(void **state)
{
	struct balloon_config config = {.memory_bytes = 1 << 20, .target_bytes = (1 << 20) + PAGE};
	struct virtio_device *device;

	(void)state;
	assert_int_equal(balloon_new(&device, &config, NULL), RIFFLE_ERR_ARGUMENT);
	config.target_bytes = 1;
	assert_int_equal(balloon_new(&device, &config, NULL), RIFFLE_ERR_ARGUMENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_inflate),
	    cmocka_unit_test(test_inflate_many),
	    cmocka_unit_test(test_inflate_outside),
	    cmocka_unit_test(test_lies),
	    cmocka_unit_test(test_target),
	    cmocka_unit_test(test_statistics),
	    cmocka_unit_test(test_reporting),
	    cmocka_unit_test(test_queue_numbers),
	    cmocka_unit_test(test_hinting),
	    cmocka_unit_test(test_refused),
	    cmocka_unit_test(features_of_options),
	    cmocka_unit_test(frames_at_both_ends),
	    cmocka_unit_test(many_chains_at_once),
	    cmocka_unit_test(nothing_given_back_is_counted),
	    cmocka_unit_test(commands_out_of_place),
	    cmocka_unit_test(second_statistics),
	    cmocka_unit_test(state_is_saved_and_restored),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

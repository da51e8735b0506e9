/* SPDX-License-Identifier: Apache-2.0 */
/* The virtqueue: valid chains, batches and notifications, and every kind of invalid ring. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <linux/virtio_ring.h>
#include <string.h>

#include <cmocka.h>

#include "monitor/virtio/queue.h"

#define MEMORY (UINT64_C(4) << 20)
#define TABLE 0x1000u
#define AVAIL 0x2000u
#define USED 0x3000u
#define INDIRECT 0x4000u
#define DATA 0x10000u

struct fixture {
	struct guest_memory memory;
	struct virtq queue;
	struct virtq_chain chain;
	struct vring_desc *table, *indirect;
	struct vring_avail *avail;
	struct vring_used *used;
};

static void activate(struct fixture *f, uint16_t size, bool event_idx)
{
	const char *problem = NULL;

	f->queue = (struct virtq){.size = size, .size_max = 256, .descriptors = TABLE, .avail = AVAIL, .used = USED};
	assert_true(virtq_activate(&f->queue, &f->memory, event_idx, true, &problem));
}

static int set_up(void **state)
{
	static struct fixture f;

	memset(&f, 0, sizeof f);
	if (guest_memory_map(&f.memory, MEMORY, false, NULL))
		return 1;
	f.table = guest_memory_at(&f.memory, TABLE, 1);
	f.indirect = guest_memory_at(&f.memory, INDIRECT, 1);
	f.avail = guest_memory_at(&f.memory, AVAIL, 1);
	f.used = guest_memory_at(&f.memory, USED, 1);
	activate(&f, 4, false);
	*state = &f;
	return 0;
}

static int tear_down(void **state)
{
	guest_memory_unmap(&((struct fixture *)*state)->memory);
	return 0;
}

static void make(struct fixture *f, uint16_t head)
{
	f->avail->ring[f->avail->idx & (f->queue.size - 1)] = head;
	f->avail->idx++;
}

static struct vring_desc out(uint64_t address, uint32_t bytes, int next)
{
	return (struct vring_desc){.addr = address,
				   .len = bytes,
				   .flags = next < 0 ? 0 : VRING_DESC_F_NEXT,
				   .next = next < 0 ? 0xffff : (uint16_t)next};
}

static struct vring_desc in(uint64_t address, uint32_t bytes, int next)
{
	struct vring_desc d = out(address, bytes, next);

	d.flags |= VRING_DESC_F_WRITE;
	return d;
}

static void test_chain(void **state)
{
	struct fixture *f = *state;

	f->table[2] = out(DATA, 16, 0);
	f->table[0] = out(DATA + 0x100, 7, 3);
	f->table[3] = in(MEMORY - 5, 5, -1); /* up to the last byte */
	assert_int_equal(virtq_pop(&f->queue, &f->chain), 0);
	make(f, 2);
	assert_int_equal(virtq_pop(&f->queue, &f->chain), 1);
	assert_int_equal(f->chain.head, 2);
	assert_int_equal(f->chain.out_count, 2);
	assert_int_equal(f->chain.in_count, 1);
	assert_int_equal(f->chain.out_bytes, 23);
	assert_int_equal(f->chain.in_bytes, 5);
	assert_ptr_equal(f->chain.out[1].iov_base, guest_memory_at(&f->memory, DATA + 0x100, 7));
	assert_ptr_equal(f->chain.in[0].iov_base, guest_memory_at(&f->memory, MEMORY - 5, 5));
	assert_int_equal(virtq_outstanding(&f->queue), 1);
	assert_int_equal(virtq_pop(&f->queue, &f->chain), 0);
	virtq_push(&f->queue, 2, 5);
	assert_int_equal(f->used->idx, 0);
	assert_true(virtq_publish(&f->queue));
	assert_int_equal(f->used->idx, 1);
	assert_int_equal(f->used->ring[0].id, 2);
	assert_int_equal(f->used->ring[0].len, 5);
	assert_false(virtq_publish(&f->queue)); /* nothing new */
	assert_int_equal(virtq_outstanding(&f->queue), 0);
}

static void test_indirect(void **state)
{
	struct fixture *f = *state;

	/* a chain of the ring may end in a table, which may be longer than the ring */
	f->table[1] = out(DATA, 1, 0);
	f->table[0] = (struct vring_desc){.addr = INDIRECT, .len = 9 * 16, .flags = VRING_DESC_F_INDIRECT};
	for (int i = 0; i < 8; i++)
		f->indirect[i] = out(DATA + 16u * (unsigned)i, 2, i + 1);
	f->indirect[8] = in(DATA, 3, -1);
	make(f, 1);
	assert_int_equal(virtq_pop(&f->queue, &f->chain), 1);
	assert_int_equal(f->chain.out_count, 9);
	assert_int_equal(f->chain.out_bytes, 17);
	assert_int_equal(f->chain.in_count, 1);
}

static void test_longest_chain(void **state)
{
	struct fixture *f = *state;

	f->table[0] = (struct vring_desc){.addr = INDIRECT, .len = 257 * 16, .flags = VRING_DESC_F_INDIRECT};
	for (int i = 0; i < 255; i++)
		f->indirect[i] = out(DATA, 1, i + 1);
	f->indirect[255] = in(DATA, 1, -1);
	make(f, 0);
	assert_int_equal(virtq_pop(&f->queue, &f->chain), 1);
	assert_int_equal(f->chain.out_count + f->chain.in_count, 256);
	f->indirect[255] = in(DATA, 1, 256);
	f->indirect[256] = in(DATA, 1, -1);
	make(f, 0);
	assert_int_equal(virtq_pop(&f->queue, &f->chain), -1);
}

/* All four descriptors in one chain is the most that the ring holds. */
static void test_whole_ring(void **state)
{
	struct fixture *f = *state;

	for (int i = 0; i < 4; i++)
		f->table[i] = out(DATA, 1, i < 3 ? i + 1 : -1);
	make(f, 0);
	assert_int_equal(virtq_pop(&f->queue, &f->chain), 1);
	assert_int_equal(f->chain.out_count, 4);
}

struct lie {
	const char *name;
	void (*tell)(struct fixture *f);
};

static void lie_loop(struct fixture *f)
{
	f->table[0] = out(DATA, 1, 1);
	f->table[1] = out(DATA, 1, 0);
}

static void lie_self(struct fixture *f)
{
	f->table[0] = out(DATA, 1, 0);
}

static void lie_next(struct fixture *f)
{
	f->table[0] = out(DATA, 1, 4); /* one past the size */
	f->table[4] = out(DATA, 1, -1);
}

static void lie_head(struct fixture *f)
{
	f->avail->ring[0] = 4;
	f->table[4] = out(DATA, 1, -1);
}

static void lie_outside(struct fixture *f)
{
	f->table[0] = out(MEMORY, 1, -1);
}

static void lie_across_end(struct fixture *f)
{
	f->table[0] = out(MEMORY - 1, 2, -1);
}

static void lie_wraps(struct fixture *f)
{
	f->table[0] = in(UINT64_MAX - 3, 8, -1);
}

static void lie_length(struct fixture *f)
{
	f->table[0] = in(DATA, UINT32_MAX, -1);
}

static void lie_empty(struct fixture *f)
{
	f->table[0] = out(DATA, 0, -1);
}

static void lie_order(struct fixture *f)
{
	f->table[0] = in(DATA, 1, 1);
	f->table[1] = out(DATA, 1, -1);
}

static void lie_ahead(struct fixture *f)
{
	f->table[0] = out(DATA, 1, -1);
	f->avail->idx = 5; /* one more than the ring holds */
}

static void lie_back(struct fixture *f)
{
	f->table[0] = out(DATA, 1, -1);
	f->avail->idx = 0xffff;
}

static void tell_indirect(struct fixture *f, uint64_t address, uint32_t bytes, uint16_t flags)
{
	f->indirect[0] = out(DATA, 1, -1);
	f->table[0] =
	    (struct vring_desc){.addr = address, .len = bytes, .flags = VRING_DESC_F_INDIRECT | flags, .next = 1};
	f->table[1] = out(DATA, 1, -1);
}

static void lie_indirect_next(struct fixture *f)
{
	tell_indirect(f, INDIRECT, 16, VRING_DESC_F_NEXT);
}

static void lie_indirect_length(struct fixture *f)
{
	tell_indirect(f, INDIRECT, 17, 0);
}

static void lie_indirect_empty(struct fixture *f)
{
	tell_indirect(f, INDIRECT, 0, 0);
}

static void lie_indirect_outside(struct fixture *f)
{
	tell_indirect(f, MEMORY - 16, 32, 0);
}

static void lie_indirect_nested(struct fixture *f)
{
	tell_indirect(f, INDIRECT, 16, 0);
	f->indirect[0] = (struct vring_desc){.addr = INDIRECT + 32, .len = 16, .flags = VRING_DESC_F_INDIRECT};
	f->indirect[2] = out(DATA, 1, -1);
}

static void lie_indirect_loop(struct fixture *f)
{
	tell_indirect(f, INDIRECT, 32, 0);
	f->indirect[0] = out(DATA, 1, 1);
	f->indirect[1] = out(DATA, 1, 0);
}

static void lie_indirect_past_its_table(struct fixture *f)
{
	tell_indirect(f, INDIRECT, 16, 0);
	f->indirect[0] = out(DATA, 1, 1);
	f->indirect[1] = out(DATA, 1, -1);
}

static void lie_indirect_not_negotiated(struct fixture *f)
{
	tell_indirect(f, INDIRECT, 16, 0);
	f->queue.indirect = false;
}

static void lie_sum(struct fixture *f)
{
	/* 256 buffers of 16 MiB would be 4 GiB: here memory is smaller, so that single ones are refused first */
	f->table[0] = (struct vring_desc){.addr = INDIRECT, .len = 16 * 256, .flags = VRING_DESC_F_INDIRECT};
	for (int i = 0; i < 256; i++)
		f->indirect[i] = out(0, (uint32_t)MEMORY + 1, i < 255 ? i + 1 : -1);
}

static void test_lies(void **state)
{
	static const struct lie lies[] = {
	    {"loop", lie_loop},
	    {"a descriptor that names itself", lie_self},
	    {"next past the table", lie_next},
	    {"head past the table", lie_head},
	    {"outside memory", lie_outside},
	    {"across the end of memory", lie_across_end},
	    {"address that wraps", lie_wraps},
	    {"length past memory", lie_length},
	    {"empty buffer", lie_empty},
	    {"readable after writable", lie_order},
	    {"index ahead", lie_ahead},
	    {"index back", lie_back},
	    {"indirect with next", lie_indirect_next},
	    {"indirect of odd length", lie_indirect_length},
	    {"indirect, empty", lie_indirect_empty},
	    {"indirect outside memory", lie_indirect_outside},
	    {"indirect in indirect", lie_indirect_nested},
	    {"loop in an indirect table", lie_indirect_loop},
	    {"next past an indirect table", lie_indirect_past_its_table},
	    {"indirect without the feature", lie_indirect_not_negotiated},
	    {"large sum", lie_sum},
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
		memset(f->table, 0, 80);
		memset(f->avail, 0, 64);
		activate(f, 4, false);
		f->avail->idx = 1;
		lies[i].tell(f);
		if (virtq_pop(&f->queue, &f->chain) != -1)
			fail_msg("not noticed: %s", lies[i].name);
		/* the failure is permanent, even if the ring is valid again */
		f->table[0] = out(DATA, 1, -1);
		f->avail->idx = 1;
		f->avail->ring[0] = 0;
		assert_int_equal(virtq_pop(&f->queue, &f->chain), -1);
		assert_true(virtq_start_notify(&f->queue));
	}
}

/* The driver cannot have more chains outstanding than the ring has entries, whatever it claims. */
static void test_outstanding(void **state)
{
	struct fixture *f = *state;

	f->table[0] = out(DATA, 1, -1);
	for (int i = 0; i < 4; i++) {
		make(f, 0);
		assert_int_equal(virtq_pop(&f->queue, &f->chain), 1);
	}
	assert_int_equal(virtq_outstanding(&f->queue), 4);
	virtq_push(&f->queue, 0, 0);
	virtq_publish(&f->queue);
	make(f, 0);
	assert_int_equal(virtq_pop(&f->queue, &f->chain), 1);
	make(f, 0);
	assert_int_equal(virtq_pop(&f->queue, &f->chain), -1);
}

static void test_unpop(void **state)
{
	struct fixture *f = *state;

	f->table[0] = out(DATA, 1, -1);
	f->table[1] = out(DATA, 2, -1);
	make(f, 0);
	make(f, 1);
	assert_int_equal(virtq_pop(&f->queue, &f->chain), 1);
	virtq_unpop(&f->queue);
	assert_int_equal(virtq_pop(&f->queue, &f->chain), 1);
	assert_int_equal(f->chain.head, 0);
	assert_int_equal(virtq_pop(&f->queue, &f->chain), 1);
	assert_int_equal(f->chain.head, 1);
	virtq_push(&f->queue, 0, 1);
	virtq_push(&f->queue, 1, 1);
	virtq_unpush(&f->queue, 2);
	assert_int_equal(virtq_outstanding(&f->queue), 2);
	assert_false(virtq_publish(&f->queue));
}

static void test_flags(void **state)
{
	struct fixture *f = *state;

	f->table[0] = out(DATA, 1, -1);
	virtq_stop_notify(&f->queue);
	assert_int_equal(f->used->flags, VRING_USED_F_NO_NOTIFY);
	assert_false(virtq_start_notify(&f->queue));
	assert_int_equal(f->used->flags, 0);
	make(f, 0);
	assert_true(virtq_start_notify(&f->queue));
	assert_int_equal(virtq_pop(&f->queue, &f->chain), 1);
	virtq_push(&f->queue, 0, 0);
	f->avail->flags = VRING_AVAIL_F_NO_INTERRUPT;
	assert_false(virtq_publish(&f->queue));
	assert_int_equal(f->used->idx, 1);
}

/* With EVENT_IDX: an interrupt exactly when the batch passes used_event; indices wrap at 65536. */
static void test_event_idx(void **state)
{
	struct fixture *f = *state;
	uint16_t *used_event = &f->avail->ring[4];
	uint16_t *avail_event = (uint16_t *)&f->used->ring[4];

	f->table[0] = out(DATA, 1, -1);
	activate(f, 4, true);
	for (unsigned round = 0; round < 70000; round++) {
		make(f, 0);
		assert_int_equal(virtq_pop(&f->queue, &f->chain), 1);
		virtq_push(&f->queue, 0, 0);
		uint16_t before = (uint16_t)round, event = (uint16_t)(round % 3 == 0   ? before
								      : round % 3 == 1 ? before + 1u
										       : before - 1u);

		*used_event = event;
		assert_int_equal(virtq_publish(&f->queue), round % 3 == 0);
		assert_false(virtq_start_notify(&f->queue));
		assert_int_equal(*avail_event, (uint16_t)(round + 1));
	}
	/* a batch of three that passes the event in its middle */
	for (int i = 0; i < 3; i++) {
		make(f, 0);
		assert_int_equal(virtq_pop(&f->queue, &f->chain), 1);
		virtq_push(&f->queue, 0, 0);
	}
	*used_event = (uint16_t)(70000 + 1);
	assert_true(virtq_publish(&f->queue));
}

static void test_rings(void **state)
{
	static const struct {
		uint16_t size;
		uint64_t descriptors, avail, used;
		bool good, without_event;
	} rows[] = {
	    {4, TABLE, AVAIL, USED, true},
	    {256, TABLE, AVAIL, USED, true},
	    {1, TABLE, AVAIL, USED, true},
	    {0, TABLE, AVAIL, USED, false},
	    {3, TABLE, AVAIL, USED, false},
	    {512, TABLE, AVAIL, USED, false},
	    {4, TABLE + 8, AVAIL, USED, false},
	    {4, TABLE, AVAIL + 1, USED, false},
	    {4, TABLE, AVAIL, USED + 2, false},
	    {4, MEMORY, AVAIL, USED, false},
	    {4, MEMORY - 64, AVAIL, USED, true},
	    {4, MEMORY - 48, AVAIL, USED, false},
	    {4, TABLE, MEMORY - 14, USED, true},
	    {4, TABLE, MEMORY - 12, USED, false}, /* used_event is part of it */
	    {4, TABLE, AVAIL, MEMORY - 40, true},
	    {4, TABLE, AVAIL, MEMORY - 36, false},
	    {4, UINT64_MAX - 15, AVAIL, USED, false},
	    {4, TABLE, TABLE + 62, USED, false},
	    {4, TABLE, TABLE + 64, USED, true},
	    {4, TABLE, AVAIL, AVAIL + 12, false},
	    {4, TABLE, AVAIL, AVAIL + 16, true},
	    {4, TABLE, AVAIL, TABLE - 36, false},
	    {4, TABLE, TABLE - 14, USED, true},
	    {4, TABLE, TABLE - 12, USED, false},
	    {4, TABLE, MEMORY - 12, USED, true, true},
	    {4, TABLE, MEMORY - 10, USED, false, true},
	    {4, TABLE, AVAIL, MEMORY - 36, true, true},
	    {4, TABLE, AVAIL, MEMORY - 32, false, true},
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		const char *problem = NULL;
		struct virtq queue = {.size = rows[i].size,
				      .size_max = 256,
				      .descriptors = rows[i].descriptors,
				      .avail = rows[i].avail,
				      .used = rows[i].used};

		if (virtq_activate(&queue, &f->memory, !rows[i].without_event, true, &problem) != rows[i].good)
			fail_msg("row %zu: %s", i, problem ? problem : "accepted");
		assert_int_equal(problem == NULL, rows[i].good);
	}
}

/* The lengths of a chain are given to system calls and drivers as 32 bits. */
static void chain_is_shorter_than_4_gib(void **state)
{
	static const struct {
		uint32_t first, second;
		int got;
	} rows[] = {{1u << 31, (1u << 31) - 1, 1}, {1u << 31, 1u << 31, -1}};
	struct fixture *f = *state;

	guest_memory_unmap(&f->memory);
	assert_int_equal(guest_memory_map(&f->memory, UINT64_C(3) << 30, false, NULL), 0);
	f->table = guest_memory_at(&f->memory, TABLE, 1);
	f->avail = guest_memory_at(&f->memory, AVAIL, 1);
	for (size_t i = 0; i < 3 * sizeof rows / sizeof *rows; i++) {
		memset(f->avail, 0, 64);
		activate(f, 4, false);
		f->table[0] = i % 3 == 2 ? in(0, rows[i / 3].first, 1) : out(0, rows[i / 3].first, 1);
		f->table[1] = i % 3 == 0 ? out(0, rows[i / 3].second, -1) : in(0, rows[i / 3].second, -1);
		make(f, 0);
		assert_int_equal(virtq_pop(&f->queue, &f->chain), rows[i / 3].got);
	}
}

/* What a device may rely on before it takes a chain. */
static void waiting_and_ahead(void **state)
{
	struct fixture *f = *state;

	f->table[0] = out(DATA, 1, -1);
	for (unsigned round = 0; round < 65536 / 4 + 2; round++) {
		assert_int_equal(virtq_ahead(&f->queue), 0);
		assert_int_equal(virtq_waiting(&f->queue), 0);
		for (unsigned i = 0; i < 4; i++)
			make(f, 0);
		assert_int_equal(virtq_ahead(&f->queue), 4);
		assert_int_equal(virtq_waiting(&f->queue), 0); /* not looked yet */
		for (unsigned i = 0; i < 4; i++) {
			assert_int_equal(virtq_pop(&f->queue, &f->chain), 1);
			assert_int_equal(virtq_waiting(&f->queue), 3 - i);
			assert_int_equal(virtq_ahead(&f->queue), 3 - i);
			virtq_push(&f->queue, 0, 0);
		}
		virtq_publish(&f->queue);
	}
	/* what comes meanwhile is seen once those seen before were taken */
	make(f, 0);
	make(f, 0);
	assert_int_equal(virtq_pop(&f->queue, &f->chain), 1);
	make(f, 0);
	assert_int_equal(virtq_ahead(&f->queue), 2);
	assert_int_equal(virtq_pop(&f->queue, &f->chain), 1);
	assert_int_equal(virtq_waiting(&f->queue), 0);
	assert_int_equal(virtq_pop(&f->queue, &f->chain), 1);
	for (unsigned i = 0; i < 3; i++)
		virtq_push(&f->queue, 0, 0);
	virtq_publish(&f->queue);
	/* an index that cannot be means that nothing waits, before and after it has broken the queue */
	for (unsigned i = 0; i < 5; i++)
		make(f, 0);
	assert_true(virtq_start_notify(&f->queue));
	assert_int_equal(virtq_waiting(&f->queue), 0);
	assert_int_equal(virtq_pop(&f->queue, &f->chain), -1);
	assert_int_equal(virtq_waiting(&f->queue), 0);
	activate(f, 4, false);
	memset(f->avail, 0, 64);
	f->table[1] = out(MEMORY, 1, -1);
	make(f, 0);
	make(f, 1);
	make(f, 0);
	assert_int_equal(virtq_pop(&f->queue, &f->chain), 1);
	assert_int_equal(virtq_waiting(&f->queue), 2);
	assert_int_equal(virtq_pop(&f->queue, &f->chain), -1);
	assert_int_equal(virtq_waiting(&f->queue), 0);
}

static void next_is_long_by_its_table(void **state)
{
	struct fixture *f = *state;

	f->table[3] = (struct vring_desc){.addr = INDIRECT, .len = 5 * 16, .flags = VRING_DESC_F_INDIRECT};
	f->table[2] = out(DATA, 160, -1);
	f->table[4] = f->table[3]; /* past the table */
	memcpy(f->avail->ring, (uint16_t[]){2, 3, 4, 0}, 8);
	assert_false(virtq_next_is_long(&f->queue, 1));
	f->avail->idx = 1;
	assert_int_equal(virtq_pop(&f->queue, &f->chain), 1);
	assert_true(virtq_next_is_long(&f->queue, 4));
	assert_false(virtq_next_is_long(&f->queue, 5));
	f->avail->ring[1] = 4;
	assert_false(virtq_next_is_long(&f->queue, 4));
}

/* Every page of a buffer that the device may write, and no other, is in the next snapshot of changes. */
static void written_pages_are_marked(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(guest_memory_track(&f->memory, NULL), 0);
	f->table[0] = out(DATA, 4096, 1);
	f->table[1] = in(DATA + 3 * 4096 - 1, 2, -1);
	make(f, 0);
	assert_int_equal(virtq_pop(&f->queue, &f->chain), 1);
	assert_int_equal(f->memory.dirty[0], (uint64_t)0xc << (DATA / 4096));
}

static void copied_chain_stands_alone(void **state)
{
	static struct virtq_chain copied;
	struct fixture *f = *state;

	f->table[1] = out(DATA, 3, 2);
	f->table[2] = out(DATA + 3, 2, 3);
	f->table[3] = in(DATA + 8, 7, -1);
	make(f, 1);
	assert_int_equal(virtq_pop(&f->queue, &f->chain), 1);
	virtq_chain_copy(&copied, &f->chain);
	memset(&f->chain, 0xee, sizeof f->chain);
	assert_int_equal(copied.head, 1);
	assert_int_equal(copied.out_count, 2);
	assert_int_equal(copied.in_count, 1);
	assert_int_equal(copied.out_bytes, 5);
	assert_int_equal(copied.in_bytes, 7);
	assert_ptr_equal(copied.out[1].iov_base, guest_memory_at(&f->memory, DATA + 3, 1));
	assert_int_equal(copied.out[0].iov_len, 3);
	assert_int_equal(copied.in[0].iov_len, 7);
	assert_ptr_equal(copied.in, copied.buffers + 2);
}

/* Every piece of a buffer list: both copies and slices take exactly the bytes asked for. */
static void pieces_of_buffers(void **state)
{
	struct fixture *f = *state;
	uint8_t *guest = guest_memory_at(&f->memory, DATA, 64), data[16];

	for (uint8_t i = 0; i < 64; i++)
		guest[i] = i;
	f->table[0] = out(DATA, 3, 1);
	f->table[1] = out(DATA + 16, 1, 2);
	f->table[2] = out(DATA + 32, 4, -1);
	make(f, 0);
	assert_int_equal(virtq_pop(&f->queue, &f->chain), 1);
	static const uint8_t whole[8] = {0, 1, 2, 16, 32, 33, 34, 35};

	for (unsigned from = 0; from <= 9; from++) {
		for (unsigned bytes = 0; bytes <= 9; bytes++) {
			unsigned there = from >= 8 ? 0 : bytes < 8 - from ? bytes : 8 - from, at = 0;
			struct iovec slice[3];

			memset(data, 0xee, sizeof data);
			assert_int_equal(virtq_chain_read(&f->chain, from, data, bytes), there);
			assert_memory_equal(data, whole + (there ? from : 0), there);
			assert_int_equal(data[there], 0xee);
			unsigned count = virtq_slice(slice, f->chain.out, 3, from, bytes);

			for (unsigned i = 0; i < count; i++)
				for (size_t j = 0; j < slice[i].iov_len; j++)
					assert_int_equal(((uint8_t *)slice[i].iov_base)[j], whole[from + at++]);
			assert_int_equal(at, there);
		}
	}
}

static void test_copy(void **state)
{
	struct fixture *f = *state;
	uint8_t data[8] = {0}, *guest = guest_memory_at(&f->memory, DATA, 16);
	struct iovec slice[4];

	for (uint8_t i = 0; i < 16; i++)
		guest[i] = i;
	f->table[0] = out(DATA, 3, 1);
	f->table[1] = out(DATA + 3, 2, 2);
	f->table[2] = in(DATA + 8, 2, 3);
	f->table[3] = in(DATA + 10, 2, -1);
	make(f, 0);
	assert_int_equal(virtq_pop(&f->queue, &f->chain), 1);
	assert_int_equal(virtq_chain_read(&f->chain, 2, data, sizeof data), 3);
	assert_memory_equal(data, "\2\3\4", 3);
	assert_int_equal(virtq_chain_read(&f->chain, 5, data, 1), 0);
	assert_int_equal(virtq_chain_write(&f->chain, 1, "abcd", 4), 3);
	assert_memory_equal(guest + 8, "\10abc\14", 5);
	assert_int_equal(virtq_slice(slice, f->chain.out, 2, 1, 3), 2);
	assert_int_equal(slice[0].iov_len, 2);
	assert_int_equal(slice[1].iov_len, 1);
	assert_int_equal(virtq_slice(slice, f->chain.out, 2, 3, 2), 1);
	assert_ptr_equal(slice[0].iov_base, guest + 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(test_chain, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_indirect, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_longest_chain, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_whole_ring, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_lies, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_outstanding, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_unpop, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_flags, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_event_idx, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_rings, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(test_copy, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(chain_is_shorter_than_4_gib, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(waiting_and_ahead, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(next_is_long_by_its_table, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(written_pages_are_marked, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(copied_chain_stands_alone, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(pieces_of_buffers, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

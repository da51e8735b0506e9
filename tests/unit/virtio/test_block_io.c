/* SPDX-License-Identifier: Apache-2.0 */
/* An operation on a disk as a series of system calls, for every result that one of them can have. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "monitor/virtio/block_engine.h"

#define KEEP FALLOC_FL_KEEP_SIZE
#define ZERO (FALLOC_FL_ZERO_RANGE | KEEP)
#define PUNCH (FALLOC_FL_PUNCH_HOLE | KEEP)
#define AT 8192u

static void first_call_of_each_operation(void **state)
{
	static const struct {
		enum block_op op;
		int kind, flags;
	} rows[] = {
	    {BLOCK_READ, CALL_READ, 0},
	    {BLOCK_WRITE, CALL_WRITE, 0},
	    {BLOCK_WRITE_THROUGH, CALL_WRITE, RWF_DSYNC},
	    {BLOCK_FLUSH, CALL_SYNC, 0},
	    {BLOCK_DISCARD, CALL_ALLOCATE, PUNCH},
	    {BLOCK_ZERO, CALL_ALLOCATE, ZERO},
	    {BLOCK_ZERO_UNMAP, CALL_ALLOCATE, PUNCH},
	};
	uint8_t data[512];
	struct iovec buffers[2] = {{data, 100}, {data + 100, 412}};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct block_io io = {.op = rows[i].op, .offset = AT, .bytes = 512, .buffers = buffers, .count = 2};
		struct block_call call;

		block_io_call(&io, &call);
		assert_int_equal(call.kind, rows[i].kind);
		assert_int_equal(call.flags, rows[i].flags);
		if (call.kind != CALL_SYNC) {
			assert_int_equal(call.offset, AT);
			assert_int_equal(call.bytes, 512);
		}
		if (call.kind == CALL_READ || call.kind == CALL_WRITE) {
			assert_ptr_equal(call.buffers, buffers);
			assert_int_equal(call.count, 2);
		}
	}
}

static void results_of_single_calls(void **state)
{
	static const struct {
		enum block_op op;
		int64_t returned;
		int result; /* -1: goes on */
	} rows[] = {
	    {BLOCK_READ, 512, 0},
	    {BLOCK_READ, 513, 0},
	    {BLOCK_READ, 511, -1},
	    {BLOCK_READ, 1, -1},
	    {BLOCK_READ, 0, EIO}, /* the file ends */
	    {BLOCK_READ, -EINVAL, EINVAL},
	    {BLOCK_READ, -EOPNOTSUPP, EOPNOTSUPP},
	    {BLOCK_READ, -EINTR, -1},
	    {BLOCK_READ, -EAGAIN, -1},
	    {BLOCK_WRITE, 512, 0},
	    {BLOCK_WRITE, 0, EIO},
	    {BLOCK_WRITE, -ENOSPC, ENOSPC},
	    {BLOCK_WRITE_THROUGH, 512, 0},
	    {BLOCK_WRITE_THROUGH, 100, -1},
	    {BLOCK_WRITE_THROUGH, -EAGAIN, -1},
	    {BLOCK_WRITE_THROUGH, -ENODEV, ENODEV},
	    {BLOCK_FLUSH, 0, 0},
	    {BLOCK_FLUSH, -EIO, EIO},
	    {BLOCK_FLUSH, -EINTR, -1},
	    {BLOCK_FLUSH, -EINVAL, EINVAL},
	    {BLOCK_DISCARD, 0, 0},
	    {BLOCK_DISCARD, -EOPNOTSUPP, 0}, /* it is a hint */
	    {BLOCK_DISCARD, -EINVAL, 0},
	    {BLOCK_DISCARD, -ENOSYS, 0},
	    {BLOCK_DISCARD, -ENODEV, 0},
	    {BLOCK_DISCARD, -EIO, EIO},
	    {BLOCK_DISCARD, -EAGAIN, -1},
	    {BLOCK_ZERO, 0, 0},
	    {BLOCK_ZERO, -ENOSPC, ENOSPC},
	    {BLOCK_ZERO, -EOPNOTSUPP, -1},
	    {BLOCK_ZERO_UNMAP, 0, 0},
	    {BLOCK_ZERO_UNMAP, -EIO, EIO},
	    {BLOCK_ZERO_UNMAP, -ENODEV, -1},
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		uint8_t data[512];
		struct iovec buffer = {data, sizeof data};
		struct block_io io = {.op = rows[i].op, .bytes = 512, .buffers = &buffer, .count = 1, .result = 77};
		bool complete = block_io_returned(&io, rows[i].returned);

		if (complete != (rows[i].result >= 0) || (complete && io.result != rows[i].result))
			fail_msg("row %zu: complete %d, result %d", i, complete, io.result);
	}
}

/* An interrupted call is made again; one of data that is always interrupted fails in the end. */
static void interruptions_are_repeated(void **state)
{
	static const enum block_op ops[] = {BLOCK_READ, BLOCK_WRITE, BLOCK_WRITE_THROUGH};

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		uint8_t data[512];
		struct iovec buffer = {data, sizeof data};
		struct block_io io = {.op = ops[i], .bytes = 512, .buffers = &buffer, .count = 1};

		for (unsigned j = 0; j < 16; j++)
			assert_false(block_io_returned(&io, j % 2 ? -EINTR : -EAGAIN));
		assert_int_equal(buffer.iov_len, 512);
		assert_true(block_io_returned(&io, -EAGAIN));
		assert_int_equal(io.result, EIO);
	}
	for (enum block_op op = BLOCK_FLUSH; op <= BLOCK_ZERO_UNMAP; op++) {
		struct block_io io = {.op = op, .bytes = 512};
		struct block_call before, after;

		block_io_call(&io, &before);
		for (unsigned j = 0; j < 40; j++)
			assert_false(block_io_returned(&io, -EINTR));
		block_io_call(&io, &after);
		assert_int_equal(before.kind, after.kind);
		assert_int_equal(before.flags, after.flags);
		assert_true(block_io_returned(&io, 0));
		assert_int_equal(io.result, 0);
	}
}

/* After a short read the next call is for exactly the rest, wherever it stopped. */
static void short_results_go_on_where_they_stopped(void **state)
{
	static uint8_t data[512];

	(void)state;
	for (unsigned first = 1; first < 512; first++) {
		struct iovec buffers[3] = {{data, 100}, {data + 100, 12}, {data + 112, 400}};
		struct block_io io = {.op = BLOCK_READ, .offset = AT, .bytes = 512, .buffers = buffers, .count = 3};
		struct block_call call;
		uint8_t *next = data + first;

		assert_false(block_io_returned(&io, first));
		block_io_call(&io, &call);
		assert_int_equal(call.offset, AT + first);
		assert_int_equal(call.bytes, 512 - first);
		assert_int_equal(call.count, first < 100 ? 3 : first < 112 ? 2 : 1);
		for (unsigned i = 0; i < call.count; next += call.buffers[i++].iov_len)
			assert_ptr_equal(call.buffers[i].iov_base, next);
		assert_ptr_equal(next, data + 512);
		assert_true(block_io_returned(&io, 512 - first));
		assert_int_equal(io.result, 0);
		assert_int_equal(io.count, 0);
	}
}

/* Zeros where the file system knows neither way: the other way is tried, and then they are written, in pieces. */
static void zeros_are_written_if_nothing_else_works(void **state)
{
	static const int ways[2][2] = {{ZERO, PUNCH}, {PUNCH, ZERO}};

	(void)state;
	for (unsigned unmap = 0; unmap < 2; unmap++) {
		struct block_io io = {
		    .op = unmap ? BLOCK_ZERO_UNMAP : BLOCK_ZERO, .offset = AT, .bytes = 2 * 65536 + 512};
		struct block_call call;

		for (unsigned i = 0; i < 2; i++) {
			block_io_call(&io, &call);
			assert_int_equal(call.kind, CALL_ALLOCATE);
			assert_int_equal(call.flags, ways[unmap][i]);
			assert_int_equal(call.bytes, io.bytes);
			assert_false(block_io_returned(&io, -EOPNOTSUPP));
		}
		static const uint32_t given[] = {65536, 512, 65536, 1000}, offsets[] = {0, 65536, 66048, 131584},
				      pieces[] = {65536, 65536, 65536, 0};

		for (unsigned i = 0; i < 3; i++) {
			block_io_call(&io, &call);
			assert_int_equal(call.kind, CALL_WRITE);
			assert_int_equal(call.flags, 0);
			assert_int_equal(call.count, 1);
			assert_int_equal(call.offset, AT + offsets[i]);
			uint32_t left = 2 * 65536 + 512 - offsets[i];
			uint32_t piece = left < pieces[i] ? left : pieces[i];

			assert_int_equal(call.bytes, piece);
			assert_int_equal(call.buffers->iov_len, piece);
			for (size_t j = 0; j < piece; j++)
				if (((uint8_t *)call.buffers->iov_base)[j])
					fail_msg("byte %zu is no zero", j);
			assert_int_equal(block_io_returned(&io, given[i] < piece ? given[i] : piece), i == 2);
		}
		assert_int_equal(io.result, 0);
		/* and an error of such a write is one of the operation */
		io.progress = 0;
		assert_true(block_io_returned(&io, -EOPNOTSUPP));
		assert_int_equal(io.result, EOPNOTSUPP);
		assert_true(block_io_returned(&io, 0));
		assert_int_equal(io.result, EIO);
	}
}

/* Against a file: one buffer and several, each flag, and the errors that the host gives. */
static void calls_against_a_file(void **state)
{
	char path[] = "/var/tmp/riffle-block-io-XXXXXX", data[16] = "0123456789abcdef", back[16];
	int fd = mkstemp(path), read_only = open(path, O_RDONLY);
	struct iovec buffers[2] = {{data, 10}, {data + 10, 6}}, reads[2] = {{back, 3}, {back + 3, 13}};
	struct stat st;

	(void)state;
	unlink(path);
	for (unsigned count = 1; count <= 2; count++) {
		for (unsigned through = 0; through < 2; through++) {
			const uint64_t at = 1000 * count + 100 * through, bytes = count == 2 ? 16 : 10;
			struct block_call call = {.kind = CALL_WRITE,
						  .buffers = buffers,
						  .count = count,
						  .offset = at,
						  .bytes = bytes,
						  .flags = through ? RWF_DSYNC : 0};

			assert_int_equal(block_call_make(&call, fd), bytes);
			assert_int_equal(block_call_make(&call, read_only), -EBADF);
			memset(back, 0, sizeof back);
			call = (struct block_call){.kind = CALL_READ, .buffers = reads, .count = count, .offset = at};
			assert_int_equal(block_call_make(&call, fd), count == 2 ? bytes : 3);
			assert_memory_equal(back, data, count == 2 ? bytes : 3);
		}
	}
	struct block_call sync = {.kind = CALL_SYNC};

	assert_int_equal(block_call_make(&sync, fd), 0);
	assert_int_equal(block_call_make(&sync, -1), -EBADF);
	struct block_call room = {.kind = CALL_ALLOCATE, .offset = 4096, .bytes = 8192, .flags = 0};

	assert_int_equal(block_call_make(&room, fd), 0);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_size, 4096 + 8192);
	assert_int_equal(block_call_make(&room, read_only), -EBADF);
	close(fd);
	close(read_only);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(first_call_of_each_operation),
	    cmocka_unit_test(results_of_single_calls),
	    cmocka_unit_test(interruptions_are_repeated),
	    cmocka_unit_test(short_results_go_on_where_they_stopped),
	    cmocka_unit_test(zeros_are_written_if_nothing_else_works),
	    cmocka_unit_test(calls_against_a_file),
	};

	return cmocka_run_group_tests_name("block io", tests, NULL, NULL);
}

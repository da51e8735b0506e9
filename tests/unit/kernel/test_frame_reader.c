/* SPDX-License-Identifier: Apache-2.0 */
/* Frames of both methods, whole and in part, by many threads; and those that are not what the plan says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <lz4.h>
#include <zstd.h>

#include "kernel/frame_reader.h"

#define BYTES 20000u
#define AT 77u

static uint8_t data[BYTES], file[2][BYTES];
static uint32_t stored[2];
static const enum riffle_compression methods[2] = {RIFFLE_COMPRESSION_LZ4, RIFFLE_COMPRESSION_ZSTD};

struct reading {
	unsigned method, reads;
	bool fails;
};

static int read_stored(void *opaque, uint64_t offset, void *buffer, size_t bytes, struct riffle_error *error)
{
	struct reading *reading = opaque;

	__atomic_fetch_add(&reading->reads, 1, __ATOMIC_RELAXED);
	if (reading->fails) {
		*error = (struct riffle_error){.status = RIFFLE_ERR_IO, .field = "file", .problem = "is gone"};
		return RIFFLE_ERR_IO;
	}
	if (offset != AT || bytes > BYTES)
		abort();
	memcpy(buffer, file[reading->method], bytes);
	return 0;
}

static int set_up(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < BYTES; i++)
		data[i] = (uint8_t)(i / 7 % 251 + i / 1000);
	stored[0] = (uint32_t)LZ4_compress_default((const char *)data, (char *)file[0], BYTES, BYTES);
	stored[1] = (uint32_t)ZSTD_compress(file[1], BYTES, data, BYTES, 3);
	assert_in_range(stored[0], 1, BYTES - 1);
	assert_in_range(stored[1], 1, BYTES - 1);
	return 0;
}

static struct riffle_frame_read frame_of(unsigned method)
{
	return (struct riffle_frame_read){.file_offset = AT,
					  .stored_bytes = stored[method],
					  .bytes = BYTES,
					  .want = BYTES,
					  .method = methods[method]};
}

static void whole_frames_and_parts(void **state)
{
	static const struct {
		uint32_t skip, want;
	} parts[] = {{0, BYTES}, {0, 1}, {0, BYTES - 1}, {1, BYTES - 1}, {BYTES - 1, 1}, {1234, 5678}};
	static uint8_t out[BYTES + 1];

	(void)state;
	for (unsigned method = 0; method < 2; method++) {
		struct reading reading = {.method = method};
		struct riffle_source source = {.read = read_stored, .opaque = &reading, .bytes = 1 << 20};
		struct frame_reader *reader;
		uint64_t decompressed = 0;

		assert_int_equal(frame_reader_begin(&reader, &source, NULL), 0);
		assert_int_equal(frame_reader_decompressed(reader), 0);
		/* twice: what the first one allocated serves the second */
		for (unsigned i = 0; i < 2 * sizeof parts / sizeof *parts; i++) {
			struct riffle_frame_read frame = frame_of(method);

			frame.skip = parts[i / 2].skip;
			frame.want = parts[i / 2].want;
			memset(out, 0xee, sizeof out);
			assert_int_equal(source.read_frame(&source, &frame, out, NULL), 0);
			assert_memory_equal(out, data + frame.skip, frame.want);
			assert_int_equal(out[frame.want], 0xee);
			decompressed += BYTES;
			assert_int_equal(frame_reader_decompressed(reader), decompressed);
		}
		frame_reader_end(reader);
	}
	frame_reader_end(NULL);
	assert_int_equal(frame_reader_decompressed(NULL), 0);
}

/* Both methods in turn by one reader, and errors between them: each frame stands alone. */
static void frames_that_are_not_what_the_plan_says(void **state)
{
	static uint8_t out[2 * BYTES];
	struct riffle_error error;

	(void)state;
	for (unsigned method = 0; method < 2; method++) {
		struct reading reading = {.method = method};
		struct riffle_source source = {.read = read_stored, .opaque = &reading, .bytes = 1 << 20};
		struct frame_reader *reader;

		assert_int_equal(frame_reader_begin(&reader, &source, NULL), 0);
		for (unsigned kind = 0; kind < 6; kind++) {
			struct riffle_frame_read frame = frame_of(method);
			enum riffle_status expected = RIFFLE_ERR_FORMAT;
			const char *field = "frame";
			uint8_t first = file[method][0];

			switch (kind) {
			case 0: /* more bytes than it has */
				frame.bytes = frame.want = BYTES + 1;
				break;
			case 1: /* fewer */
				frame.bytes = frame.want = BYTES - 1;
				break;
			case 2: /* cut short */
				frame.stored_bytes--;
				break;
			case 3: /* no frame at all */
				memset(file[method], 0xff, 16);
				break;
			case 4:
				frame.method = RIFFLE_COMPRESSION_XZ;
				expected = RIFFLE_ERR_UNSUPPORTED;
				field = "storage";
				break;
			case 5:
				reading.fails = true;
				expected = RIFFLE_ERR_IO;
				field = "file";
				break;
			}
			memset(out, 0xee, sizeof out);
			assert_int_equal(source.read_frame(&source, &frame, out, &error), expected);
			assert_string_equal(error.field, field);
			assert_int_equal(out[frame.bytes], 0xee);
			if (kind == 0) {
				assert_int_equal(error.found, BYTES);
				assert_int_equal(error.expected, BYTES + 1);
			} else if (kind >= 1 && kind <= 3 && error.has_expected == 0) {
				assert_int_equal(error.found, AT);
			} else if (kind == 4) {
				assert_int_equal(error.found, RIFFLE_COMPRESSION_XZ);
			}
			reading.fails = false;
			if (first != file[method][0] || kind == 3)
				set_up(NULL);
			frame = frame_of(method);
			assert_int_equal(source.read_frame(&source, &frame, out, &error), 0);
			assert_memory_equal(out, data, BYTES);
		}
		frame_reader_end(reader);
	}
}

/* The linker's --wrap leads the reader's allocations here; the one after so many of them fails. */
static unsigned allocations, contexts, until_failure;

static bool fails(void)
{
	return until_failure && !--until_failure;
}

void *__real_malloc(size_t bytes);
void *__wrap_malloc(size_t bytes);
void *__wrap_malloc(size_t bytes)
{
	if (bytes == RIFFLE_FRAME_BYTES_MAX)
		__atomic_fetch_add(&allocations, 1, __ATOMIC_RELAXED);
	return bytes == RIFFLE_FRAME_BYTES_MAX && fails() ? NULL : __real_malloc(bytes);
}

ZSTD_DCtx *__real_ZSTD_createDCtx(void);
ZSTD_DCtx *__wrap_ZSTD_createDCtx(void);
ZSTD_DCtx *__wrap_ZSTD_createDCtx(void)
{
	__atomic_fetch_add(&contexts, 1, __ATOMIC_RELAXED);
	return fails() ? NULL : __real_ZSTD_createDCtx();
}

/* Memory is allocated when it is first needed, once, and nothing is read without. */
static void memory_of_a_reader(void **state)
{
	static uint8_t out[BYTES];

	(void)state;
	for (unsigned method = 0; method < 2; method++) {
		/* bytes as stored, with zstd a context; a frame in part takes its bytes in whole besides */
		for (unsigned part = 0; part < 2; part++) {
			const unsigned most = 1 + method + part;

			for (unsigned failing = 0; failing <= most; failing++) {
				struct reading reading = {.method = method};
				struct riffle_source source = {
				    .read = read_stored, .opaque = &reading, .bytes = 1 << 20};
				struct riffle_frame_read frame = frame_of(method);
				struct frame_reader *reader;
				struct riffle_error error;

				frame.want -= part;
				allocations = contexts = 0;
				assert_int_equal(frame_reader_begin(&reader, &source, NULL), 0);
				until_failure = failing;
				if (failing) {
					assert_int_equal(source.read_frame(&source, &frame, out, &error),
							 RIFFLE_ERR_MEMORY);
					assert_int_equal(reading.reads, 0);
				}
				for (unsigned i = 0; i < 3; i++)
					assert_int_equal(source.read_frame(&source, &frame, out, &error), 0);
				assert_memory_equal(out, data, frame.want);
				if (!failing) {
					assert_int_equal(allocations, 1 + part);
					assert_int_equal(contexts, method);
				}
				frame_reader_end(reader);
			}
		}
	}
}

struct worker {
	const struct riffle_source *source;
	unsigned wrong;
};

static void *read_many(void *opaque)
{
	struct worker *worker = opaque;
	uint8_t *out = malloc(BYTES);

	for (unsigned i = 0; out && i < 100; i++) {
		struct riffle_frame_read frame = frame_of(((struct reading *)worker->source->opaque)->method);

		if (i % 2) {
			frame.skip = i;
			frame.want = BYTES - 2 * i;
		}
		memset(out, 0, BYTES);
		worker->wrong += worker->source->read_frame(worker->source, &frame, out, NULL) != 0 ||
				 memcmp(out, data + frame.skip, frame.want) != 0;
	}
	worker->wrong += !out;
	free(out);
	return NULL;
}

/* Twice as many threads as there is room for at once. */
static void many_threads(void **state)
{
	(void)state;
	for (unsigned method = 0; method < 2; method++) {
		struct reading reading = {.method = method};
		struct riffle_source source = {.read = read_stored, .opaque = &reading, .bytes = 1 << 20};
		struct worker workers[16];
		struct frame_reader *reader;
		pthread_t threads[16];

		assert_int_equal(frame_reader_begin(&reader, &source, NULL), 0);
		for (unsigned i = 0; i < 16; i++) {
			workers[i] = (struct worker){.source = &source};
			assert_int_equal(pthread_create(&threads[i], NULL, read_many, &workers[i]), 0);
		}
		for (unsigned i = 0; i < 16; i++) {
			pthread_join(threads[i], NULL);
			assert_int_equal(workers[i].wrong, 0);
		}
		assert_int_equal(reading.reads, 1600);
		assert_int_equal(frame_reader_decompressed(reader), UINT64_C(1600) * BYTES);
		frame_reader_end(reader);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(whole_frames_and_parts),
	    cmocka_unit_test(frames_that_are_not_what_the_plan_says),
	    cmocka_unit_test(memory_of_a_reader),
	    cmocka_unit_test(many_threads),
	};

	return cmocka_run_group_tests_name("frame reader", tests, set_up, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* A compressed kernel loads exactly like the raw one, and every invalid frame is refused. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/mman.h>

#include <lz4hc.h>
#include <zstd.h>

#include <cmocka.h>

#include <riffle/load.h>

#include "kernel/frame_reader.h"
#include "shuffled_kernel.h"

#define MIB (UINT64_C(1) << 20)
#define RAM (32 * MIB)
#define THREADS 12u /* more than the reader has slots */

static const enum riffle_compression methods[] = {RIFFLE_COMPRESSION_LZ4, RIFFLE_COMPRESSION_ZSTD};

static size_t compress(enum riffle_compression method, const uint8_t *from, size_t bytes, uint8_t *to)
{
	size_t made;

	if (method == RIFFLE_COMPRESSION_LZ4) {
		int n = LZ4_compress_HC((const char *)from, (char *)to, (int)bytes, (int)bytes - 1, 3);

		return n > 0 ? (size_t)n : 0;
	}
	made = ZSTD_compress(to, bytes - 1, from, bytes, 3);
	return ZSTD_isError(made) ? 0 : made;
}

/* Cuts the extents at random, so that nearly every read needs parts of frames, and compresses them. */
static struct riffle_frame *store(struct builder *b, enum riffle_compression method, uint64_t seed)
{
	struct riffle_frame *frames = calloc(100000, sizeof *frames);
	uint32_t count = 0, raw = 0;

	b->stored = malloc(b->header.image_bytes);
	b->stored_bytes = 0;
	for (uint32_t i = 0; i < b->extents; i++) {
		uint32_t at = b->extent[i].image_offset, end = at + b->extent[i].bytes;

		while (at < end) {
			static const uint32_t most[] = {7, 4000, 65536, RIFFLE_FRAME_BYTES_MAX};
			uint64_t draw = sk_random(&seed) >> 11;
			uint32_t bytes = 1 + (uint32_t)((draw >> 8) % most[draw % 4]);
			size_t stored = 0;

			bytes = draw % 16 == 15 ? RIFFLE_FRAME_BYTES_MAX : bytes;
			bytes = bytes < end - at ? bytes : end - at;
			if (bytes > 1)
				stored = compress(method, b->image + at, bytes, b->stored + b->stored_bytes);
			if (!stored) {
				memcpy(b->stored + b->stored_bytes, b->image + at, bytes);
				stored = bytes;
				raw++;
			}
			frames[count++] = (struct riffle_frame){at, bytes, (uint32_t)stored, (uint32_t)b->stored_bytes};
			b->stored_bytes += stored;
			at += bytes;
		}
	}
	assert_true(raw && raw < count);
	b->header.features |= RIFFLE_FEATURE_COMPRESSED;
	b->header.storage = method;
	builder_extra(b, RIFFLE_SECTION_FRAMES, frames, count, sizeof *frames);
	builder_seal(b);
	return frames;
}

struct threads {
	void (*job)(void *, unsigned);
	void *argument;
	unsigned next, jobs;
};

static void *run_jobs(void *opaque)
{
	struct threads *t = opaque;
	unsigned i;

	while ((i = __atomic_fetch_add(&t->next, 1, __ATOMIC_RELAXED)) < t->jobs)
		t->job(t->argument, i);
	return NULL;
}

static void run_in_threads(void *opaque, void (*job)(void *, unsigned), void *argument, unsigned jobs)
{
	struct threads t = {job, argument, 0, jobs};
	pthread_t thread[THREADS];

	(void)opaque;
	for (unsigned i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, run_jobs, &t), 0);
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(thread[i], NULL);
}

struct how {
	enum riffle_mode mode;
	unsigned options;
	bool threads, no_reader;
};

/* Loads the whole kernel into guest memory at a layout that depends only on the mode; NULL with *status. */
static uint8_t *load(const struct builder *b, struct how how, int *status, struct riffle_error *error)
{
	struct riffle_ram ram = {0, RAM, mmap(NULL, RAM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)};
	struct riffle_memory memory = {&ram, 1, NULL, 0};
	struct riffle_workers workers = {run_in_threads, NULL};
	uint16_t order[SK_CHUNKS_MAX];
	struct riffle_layout layout = {.order = order, .order_count = SK_CHUNKS_MAX};
	struct frame_reader *reader;
	struct riffle_source_memory bytes;
	struct riffle_source source;
	struct riffle_seeded seeded;
	struct riffle_random random;
	struct riffle_loaded loaded;
	struct riffle_plan plan = RIFFLE_PLAN_INIT;
	uint8_t *file = builder_file(b);
	void *workspace;

	assert_ptr_not_equal(ram.host, MAP_FAILED);
	riffle_source_from_bytes(&source, &bytes, file, b->header.file_bytes);
	assert_int_equal(frame_reader_begin(&reader, &source, error), 0);
	if (how.no_reader)
		source.read_frame = NULL;
	*status = riffle_plan_check(&plan, &b->header, b->plan, b->plan_bytes, b->header.file_bytes, error);
	if (*status)
		fail_msg("%s: %s", error->field, error->problem);
	layout.order_count = plan.chunk_count;
	workspace = aligned_alloc(64, riffle_load_workspace(&plan) + 64);
	riffle_random_from_seed(&random, &seeded, (const uint8_t[32]){7});
	assert_int_equal(riffle_layout_draw(&layout, &plan, &memory, how.mode, &random, error), 0);
	*status = riffle_load_shuffled(&loaded, &plan, &source, &layout, &memory, how.options,
				       how.threads ? &workers : NULL, workspace, riffle_load_workspace(&plan), error);
	free(workspace);
	frame_reader_end(reader);
	free(file);
	if (!*status)
		return ram.host;
	munmap(ram.host, RAM);
	return NULL;
}

/* A shuffled kernel with compressible bytes: a load only adds to them, so any values will do. */
static struct shuffled_kernel *dense_kernel(unsigned shape)
{
	static const struct sk_shape shapes[] = {
	    {.seed = 11, .regions = 1, .absolute_percpu = 1, .seqs = 1},
	    {.seed = 33, .regions = 2, .self_relative = 1, .seqs = 1, .handlers = 1},
	};
	struct shuffled_kernel *k = sk_make(&shapes[shape]);

	for (uint32_t i = 0; i < SK_IMAGE; i++)
		k->b.image[i] &= i >> 16 & 1 ? 0xff : 0x11;
	return k;
}

static void same_bytes_in_every_mode(void **state)
{
	static const struct how hows[] = {
	    {.mode = RIFFLE_MODE_OFF},
	    {.mode = RIFFLE_MODE_KASLR},
	    {.mode = RIFFLE_MODE_KASLR, .options = RIFFLE_LOAD_CLEAR},
	    {.mode = RIFFLE_MODE_FGKASLR},
	    {.mode = RIFFLE_MODE_FGKASLR, .options = RIFFLE_LOAD_LAZY_TABLES},
	    {.mode = RIFFLE_MODE_KASLR, .threads = true},
	    {.mode = RIFFLE_MODE_FGKASLR, .threads = true},
	};

	(void)state;
	for (unsigned shape = 0; shape < 2; shape++)
		for (unsigned m = 0; m < 2; m++) {
			struct shuffled_kernel *raw = dense_kernel(shape), *stored = dense_kernel(shape);
			struct riffle_frame *frames = store(&stored->b, methods[m], 5 + shape);

			for (size_t i = 0; i < sizeof hows / sizeof *hows; i++) {
				struct riffle_error error;
				int status;
				uint8_t *a = load(&raw->b, hows[i], &status, &error), *b;

				assert_int_equal(status, 0);
				b = load(&stored->b, hows[i], &status, &error);
				if (status)
					fail_msg("%s: %s", error.field, error.problem);
				if (memcmp(a, b, RAM))
					fail_msg("kernel %u, method %u, load %zu differs", shape, m, i);
				munmap(a, RAM);
				munmap(b, RAM);
			}
			sk_free(raw);
			sk_free(stored);
			free(frames);
		}
}

static void any_part_can_be_read(void **state)
{
	struct shuffled_kernel *k = dense_kernel(0);
	struct riffle_frame *frames = store(&k->b, RIFFLE_COMPRESSION_ZSTD, 1);
	uint8_t *file = builder_file(&k->b), *part = malloc(300000);
	const struct riffle_extent *last = &k->b.extent[k->b.extents - 1];
	struct riffle_source_memory bytes;
	struct frame_reader *reader;
	struct riffle_source source;
	struct riffle_error error;
	struct riffle_plan plan = RIFFLE_PLAN_INIT;
	uint64_t seed = 3;

	(void)state;
	riffle_source_from_bytes(&source, &bytes, file, k->b.header.file_bytes);
	assert_int_equal(frame_reader_begin(&reader, &source, &error), 0);
	assert_int_equal(riffle_plan_open(&plan, &source, &error), 0);
	for (unsigned i = 0; i < 400; i++) {
		const struct riffle_extent *e = &k->b.extent[(sk_random(&seed) >> 11) % k->b.extents];
		uint32_t at = (uint32_t)((sk_random(&seed) >> 11) % e->bytes);
		uint32_t n = 1 + (uint32_t)((sk_random(&seed) >> 11) % 300000);

		n = n < e->bytes - at ? n : e->bytes - at;
		assert_int_equal(riffle_plan_read(&plan, &source, e->image_offset + at, part, n, &error), 0);
		assert_memory_equal(part, k->b.image + e->image_offset + at, n);
	}
	assert_int_equal(riffle_plan_read(&plan, &source, last->image_offset + last->bytes - 1, part, 2, &error),
			 RIFFLE_ERR_ARGUMENT);
	assert_int_equal(riffle_plan_read(&plan, &source, UINT64_MAX - 1, part, 2, &error), RIFFLE_ERR_ARGUMENT);
	riffle_plan_close(&plan);
	frame_reader_end(reader);
	sk_free(k);
	free(frames);
	free(file);
	free(part);
}

static void who_cannot_decompress_is_told(void **state)
{
	struct shuffled_kernel *k = dense_kernel(0);
	struct riffle_frame *frames = store(&k->b, RIFFLE_COMPRESSION_LZ4, 1);
	struct riffle_error error;
	int status;

	(void)state;
	for (enum riffle_mode mode = RIFFLE_MODE_OFF; mode <= RIFFLE_MODE_FGKASLR; mode++) {
		assert_null(load(&k->b, (struct how){.mode = mode, .no_reader = true}, &status, &error));
		assert_int_equal(status, RIFFLE_ERR_UNSUPPORTED);
		assert_string_equal(error.field, "storage");
	}
	sk_free(k);
	free(frames);
}

#define TWO (2 * 0x1000u)

/* Two extents of two pages each, a frame a page. */
static void small_kernel(struct builder *b, struct riffle_frame frame[4])
{
	builder_start(b, 1 << 20, 0);
	builder_extent(b, 0, TWO);
	builder_extent(b, 0x10000, TWO);
	b->stored = calloc(1, 0x8000);
	for (uint32_t i = 0; i < 4; i++)
		frame[i] = (struct riffle_frame){.image_offset = (i / 2 << 16) + i % 2 * 0x1000,
						 .bytes = 0x1000,
						 .stored_bytes = 100,
						 .stored_offset = 100 * i};
	b->stored_bytes = 400;
	b->header.features = RIFFLE_FEATURE_COMPRESSED;
	b->header.storage = RIFFLE_COMPRESSION_LZ4;
	builder_extra(b, RIFFLE_SECTION_FRAMES, frame, 4, sizeof *frame);
}

#define LIE(name, change)                                                                                              \
	static void name(struct builder *b, struct riffle_frame *f)                                                    \
	{                                                                                                              \
		(void)b;                                                                                               \
		(void)f;                                                                                               \
		change;                                                                                                \
	}
LIE(lie_overlap, f[1].image_offset -= 16)
LIE(lie_gap, f[1].image_offset += 16)
LIE(lie_short, f[1].bytes -= 16)
LIE(lie_order, struct riffle_frame x = f[0]; f[0] = f[1]; f[1] = x)
LIE(lie_across, f[1].bytes = 0x10000)
LIE(lie_empty, f[2].bytes = 0)
LIE(lie_huge, f[0].bytes = RIFFLE_FRAME_BYTES_MAX + 1; f[0].stored_bytes = 1)
LIE(lie_wrap, f[3].bytes = UINT32_MAX)
LIE(lie_nothing_stored, f[1].stored_bytes = 0)
LIE(lie_grown, f[1].stored_bytes = 0x1001)
LIE(lie_stored_overlap, f[2].stored_offset = 100)
LIE(lie_stored_gap, f[2].stored_offset = 201)
LIE(lie_stored_far, f[3].stored_offset = UINT32_MAX - 4)
LIE(lie_outside, b->stored_bytes = 399)
LIE(lie_tail, b->stored_bytes = 401)
LIE(lie_missing, b->extra[RIFFLE_SECTION_FRAMES].count = 3)
LIE(lie_none, b->extra[RIFFLE_SECTION_FRAMES].count = 0)
LIE(lie_more, b->extents = 1; b->stored_bytes = 200)
LIE(lie_method, b->header.storage = RIFFLE_COMPRESSION_XZ)
LIE(lie_method_far, b->header.storage = UINT32_MAX)
LIE(lie_no_method, b->header.storage = RIFFLE_COMPRESSION_NONE)
#undef LIE

static void every_lie_about_frames_is_refused(void **state)
{
	static const struct {
		const char *what;
		void (*tell)(struct builder *b, struct riffle_frame *f);
		int status;
		const char *message;
	} lies[] = {
	    {"overlap", lie_overlap, RIFFLE_ERR_FORMAT,
	     "frame image_offset: is not where the frame before or a gap between extents ends (found 4080, expected "
	     "4096)"},
	    {"gap", lie_gap, RIFFLE_ERR_FORMAT,
	     "frame image_offset: is not where the frame before or a gap between extents ends (found 4112, expected "
	     "4096)"},
	    {"short frame", lie_short, RIFFLE_ERR_FORMAT,
	     "frame image_offset: is not where the frame before or a gap between extents ends (found 0x10000, expected "
	     "8176)"},
	    {"order", lie_order, RIFFLE_ERR_FORMAT,
	     "frame image_offset: is not where the frame before or a gap between extents ends (found 4096, expected "
	     "0)"},
	    {"across extents", lie_across, RIFFLE_ERR_FORMAT,
	     "frame bytes: reach past the end of an extent (found 0x10000, expected 4096)"},
	    {"empty", lie_empty, RIFFLE_ERR_FORMAT, "frame bytes: is 0 or too large (found 0, expected 0x40000)"},
	    {"too large", lie_huge, RIFFLE_ERR_FORMAT,
	     "frame bytes: is 0 or too large (found 0x40001, expected 0x40000)"},
	    {"wraps", lie_wrap, RIFFLE_ERR_FORMAT,
	     "frame bytes: is 0 or too large (found 0xffffffff, expected 0x40000)"},
	    {"nothing stored", lie_nothing_stored, RIFFLE_ERR_FORMAT,
	     "frame stored_bytes: is 0 or more than it decompresses to (found 0, expected 4096)"},
	    {"grown", lie_grown, RIFFLE_ERR_FORMAT,
	     "frame stored_bytes: is 0 or more than it decompresses to (found 4097, expected 4096)"},
	    {"stored overlap", lie_stored_overlap, RIFFLE_ERR_FORMAT,
	     "frame stored_offset: is not where the one before ends (found 100, expected 200)"},
	    {"stored gap", lie_stored_gap, RIFFLE_ERR_FORMAT,
	     "frame stored_offset: is not where the one before ends (found 201, expected 200)"},
	    {"stored far away", lie_stored_far, RIFFLE_ERR_FORMAT,
	     "frame stored_offset: is not where the one before ends (found 0xfffffffb, expected 300)"},
	    {"outside the file", lie_outside, RIFFLE_ERR_FORMAT,
	     "frames: do not fill the file from payload_offset to its end (found 400, expected 399)"},
	    {"bytes behind", lie_tail, RIFFLE_ERR_FORMAT,
	     "frames: do not fill the file from payload_offset to its end (found 400, expected 401)"},
	    {"frame missing", lie_missing, RIFFLE_ERR_FORMAT,
	     "frames: end before the extents do (image offset) (found 0x11000)"},
	    {"no frames", lie_none, RIFFLE_ERR_FORMAT, "frames: end before the extents do (image offset) (found 0)"},
	    {"frames behind the extents", lie_more, RIFFLE_ERR_FORMAT,
	     "frames: continue after the last extent (found 2)"},
	    {"xz", lie_method, RIFFLE_ERR_UNSUPPORTED,
	     "storage: is not a compression that this library knows for frames (found 4)"},
	    {"unknown method", lie_method_far, RIFFLE_ERR_UNSUPPORTED,
	     "storage: is not a compression that this library knows for frames (found 0xffffffff)"},
	    {"no method", lie_no_method, RIFFLE_ERR_UNSUPPORTED,
	     "storage: is not a compression that this library knows for frames (found 0)"},
	};
	struct riffle_frame frame[4];
	struct riffle_error error = {0};
	struct riffle_plan plan = RIFFLE_PLAN_INIT;
	struct builder b;

	(void)state;
	for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
		int status;

		small_kernel(&b, frame);
		lies[i].tell(&b, frame);
		builder_seal(&b);
		status = riffle_plan_check(&plan, &b.header, b.plan, b.plan_bytes, b.header.file_bytes, &error);
		if (status != lies[i].status || strcmp(message_of(status, &error), lies[i].message))
			fail_msg("%s: status %d, %s", lies[i].what, status, message_of(status, &error));
		builder_end(&b);
	}
	/* the same without a lie, then frames that no feature bit announces, then extents with places in the file */
	small_kernel(&b, frame);
	builder_seal(&b);
	assert_int_equal(riffle_plan_check(&plan, &b.header, b.plan, b.plan_bytes, b.header.file_bytes, &error), 0);
	((struct riffle_extent *)(void *)((uint8_t *)b.plan + b.header.section[RIFFLE_SECTION_EXTENTS].offset))
	    ->file_offset = b.header.payload_offset;
	builder_sums(&b);
	assert_int_equal(riffle_plan_check(&plan, &b.header, b.plan, b.plan_bytes, b.header.file_bytes, &error),
			 RIFFLE_ERR_FORMAT);
	assert_string_equal(error.field, "extent file_offset");
	builder_end(&b);
	builder_start(&b, 1 << 20, 0);
	builder_extent(&b, 0, TWO);
	builder_extra(&b, RIFFLE_SECTION_FRAMES, frame, 2, sizeof *frame);
	builder_seal(&b);
	assert_int_equal(riffle_plan_check(&plan, &b.header, b.plan, b.plan_bytes, b.header.file_bytes, &error),
			 RIFFLE_ERR_FORMAT);
	assert_string_equal(error.field, "features");
	builder_end(&b);
}

/* One page of a kernel, stored as `stored`, loaded. */
static int load_frame(enum riffle_compression method, const uint8_t *stored, size_t stored_bytes,
		      struct riffle_error *error)
{
	struct riffle_frame frame = {0, 0x1000, (uint32_t)stored_bytes, 0};
	struct builder b;
	uint8_t *guest;
	int status;

	builder_start(&b, 1 << 20, 0);
	builder_extent(&b, 0, 0x1000);
	b.stored = malloc(stored_bytes);
	memcpy(b.stored, stored, stored_bytes);
	b.stored_bytes = stored_bytes;
	b.header.features = RIFFLE_FEATURE_COMPRESSED;
	b.header.storage = method;
	builder_extra(&b, RIFFLE_SECTION_FRAMES, &frame, 1, sizeof frame);
	builder_seal(&b);
	guest = load(&b, (struct how){.mode = RIFFLE_MODE_OFF}, &status, error);
	if (guest) {
		/* the kernel lies at its link address; around its one page nothing may have been written */
		for (uint64_t i = 15 * MIB; i < 17 * MIB; i++)
			if (guest[i] && (i < 16 * MIB || i >= 16 * MIB + 0x1000))
				fail_msg("a byte at %#llx was written", (unsigned long long)i);
		munmap(guest, RAM);
	}
	builder_end(&b);
	return status;
}

static void bad_frames_are_refused(void **state)
{
	uint8_t bytes[0x1100], stored[0x2000];
	struct riffle_error error;

	(void)state;
	for (size_t i = 0; i < sizeof bytes; i++)
		bytes[i] = (uint8_t)(i / 16);
	for (unsigned m = 0; m < 2; m++) {
		size_t n = compress(methods[m], bytes, 0x1000, stored), whole = n;

		assert_int_equal(load_frame(methods[m], stored, n, &error), 0);
		/* cut short, and with something behind */
		for (size_t cut = 1; cut < whole; cut += cut < 8 ? 1 : 17) {
			assert_int_equal(load_frame(methods[m], stored, cut, &error), RIFFLE_ERR_FORMAT);
			assert_string_equal(error.field, "frame");
		}
		stored[whole] = 0x55;
		assert_int_equal(load_frame(methods[m], stored, whole + 1, &error), RIFFLE_ERR_FORMAT);
		/* fewer bytes than the plan says, and more */
		n = compress(methods[m], bytes, 0xfff, stored);
		assert_int_equal(load_frame(methods[m], stored, n, &error), RIFFLE_ERR_FORMAT);
		assert_string_equal(error.field, "frame");
		n = compress(methods[m], bytes, 0x1001, stored);
		assert_int_equal(load_frame(methods[m], stored, n, &error), RIFFLE_ERR_FORMAT);
		n = compress(methods[m], bytes, sizeof bytes, stored);
		assert_int_equal(load_frame(methods[m], stored, n, &error), RIFFLE_ERR_FORMAT);
		/* the other method's */
		n = compress(methods[!m], bytes, 0x1000, stored);
		assert_int_equal(load_frame(methods[m], stored, n, &error), RIFFLE_ERR_FORMAT);
		/* any byte changed: refused or not, load() detects writes outside the frame */
		n = compress(methods[m], bytes, 0x1000, stored);
		for (size_t i = 0; i < n; i += 1 + n / 60) {
			stored[i] ^= 0x81;
			load_frame(methods[m], stored, n, &error);
			stored[i] ^= 0x81;
		}
	}
}

/* The plan in three pieces, one of them compressed; every invalid field is found when the plan is opened. */
static void lies_about_the_plans_pieces_are_refused(void **state)
{
	enum { NONE, ZERO, LARGE, PAST, SHORT, LONG, GARBAGE, LITTLE, FAR, METHOD, CASES };
	static const struct {
		int status;
		const char *field;
	} expected[CASES] = {
	    [ZERO] = {RIFFLE_ERR_FORMAT, "plan piece"},          [LARGE] = {RIFFLE_ERR_FORMAT, "plan piece"},
	    [PAST] = {RIFFLE_ERR_FORMAT, "plan piece"},          [SHORT] = {RIFFLE_ERR_FORMAT, "plan piece"},
	    [LONG] = {RIFFLE_ERR_FORMAT, "plan_stored_bytes"},   [GARBAGE] = {RIFFLE_ERR_FORMAT, "frame"},
	    [LITTLE] = {RIFFLE_ERR_FORMAT, "plan_stored_bytes"}, [FAR] = {RIFFLE_ERR_FORMAT, "plan_bytes"},
	    [METHOD] = {RIFFLE_ERR_UNSUPPORTED, "storage"},
	};
	struct riffle_frame frame[4];
	struct builder b;

	(void)state;
	small_kernel(&b, frame);
	b.header.storage = RIFFLE_COMPRESSION_ZSTD;
	b.count64 = 140000;
	b.reloc64 = calloc(b.count64, 4);
	builder_extent(&b, 0x20000, 0x90000); /* a third extent, of frames that are stored as they are */
	struct riffle_frame *frames = calloc(8, sizeof *frames);
	memcpy(frames, frame, sizeof frame);
	for (uint32_t i = 0, at = 0x20000, n; at < 0xb0000; i++, at += n) {
		n = 0xb0000 - at < RIFFLE_FRAME_BYTES_MAX ? 0xb0000 - at : RIFFLE_FRAME_BYTES_MAX;
		frames[4 + i] = (struct riffle_frame){at, n, n, (uint32_t)b.stored_bytes};
		b.stored_bytes += n;
		b.extra[RIFFLE_SECTION_FRAMES].count = 5 + i;
	}
	b.extra[RIFFLE_SECTION_FRAMES].entries = frames;
	free(b.stored);
	b.stored = calloc(1, b.stored_bytes);
	for (uint32_t i = 0; i < b.count64; i++)
		b.reloc64[i] = 0x20000 + 4 * i; /* inside it */
	builder_seal(&b);
	assert_int_equal(builder_pieces(&b), 3);
	for (unsigned i = NONE; i < CASES; i++) {
		struct builder lie = b;
		uint32_t stored[3] = {RIFFLE_FRAME_BYTES_MAX, RIFFLE_FRAME_BYTES_MAX,
				      (uint32_t)(b.plan_bytes - 2 * RIFFLE_FRAME_BYTES_MAX)};
		struct riffle_source_memory bytes;
		struct frame_reader *reader;
		struct riffle_source source;
		struct riffle_error error = {0};
		struct riffle_plan plan = RIFFLE_PLAN_INIT;
		uint8_t *file, *piece = malloc(RIFFLE_FRAME_BYTES_MAX);
		int status;

		/* compress the first piece in place; the rest moves up */
		uint32_t n =
		    (uint32_t)compress(RIFFLE_COMPRESSION_ZSTD, (uint8_t *)b.plan, RIFFLE_FRAME_BYTES_MAX, piece);
		uint32_t saved = RIFFLE_FRAME_BYTES_MAX - n;

		assert_true(n);
		stored[0] = n;
		lie.header.plan_stored_bytes -= saved;
		switch (i) {
		case ZERO:
			stored[1] = 0;
			break;
		case LARGE:
			stored[1]++;
			break;
		case PAST:
			stored[2]++;
			lie.header.plan_bytes += 8;
			break;
		case SHORT:
			lie.header.plan_stored_bytes--;
			break;
		case LONG:
			lie.header.plan_stored_bytes++;
			break;
		case GARBAGE:
			memset(piece, 0xff, n);
			break;
		case LITTLE:
			lie.header.plan_stored_bytes = 11;
			break;
		case FAR:
			lie.header.plan_stored_bytes = UINT64_MAX - 8;
			break;
		case METHOD:
			lie.header.storage = RIFFLE_COMPRESSION_GZIP;
			break;
		}
		lie.header.header_checksum = riffle_checksum_header(&lie.header);
		file = builder_file(&lie);
		memcpy(file + RIFFLE_HEADER_BYTES, stored, sizeof stored);
		memcpy(file + RIFFLE_HEADER_BYTES + sizeof stored, piece, n);
		memcpy(file + RIFFLE_HEADER_BYTES + sizeof stored + n, (uint8_t *)b.plan + RIFFLE_FRAME_BYTES_MAX,
		       b.plan_bytes - RIFFLE_FRAME_BYTES_MAX);
		riffle_source_from_bytes(&source, &bytes, file, b.header.file_bytes);
		assert_int_equal(frame_reader_begin(&reader, &source, &error), 0);
		status = riffle_plan_open(&plan, &source, &error);
		if (status != expected[i].status || (status && strcmp(error.field, expected[i].field)))
			fail_msg("case %u: status %d, %s: %s", i, status, error.field, error.problem);
		riffle_plan_close(&plan);
		source.read_frame = NULL;
		assert_int_not_equal(riffle_plan_open(&plan, &source, &error), 0);
		frame_reader_end(reader);
		free(piece);
		free(file);
	}
	free(frames);
	builder_end(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(same_bytes_in_every_mode),      cmocka_unit_test(any_part_can_be_read),
	    cmocka_unit_test(who_cannot_decompress_is_told), cmocka_unit_test(every_lie_about_frames_is_refused),
	    cmocka_unit_test(bad_frames_are_refused),        cmocka_unit_test(lies_about_the_plans_pieces_are_refused),
	};
	return cmocka_run_group_tests_name("frames", tests, NULL, NULL);
}

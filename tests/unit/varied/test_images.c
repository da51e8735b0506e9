/* SPDX-License-Identifier: Apache-2.0 */
/* Kernel files of each kind with one thing changed: what is refused, and what is read of the others, is as recorded. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "prepare/analysis/prepared.h"
#include "prepare/image/internal.h"
#include "prepare/shuffle/debug.h"
#include "tests/unit/varied/vary.h"

static struct riffle_error error;
static struct test_kernel kernel, stripped;
static int out;

static void record_relocs(struct recorded *r, const char *what, const struct image_relocs *list)
{
	record(r, "%u %s", list->count, what);
	record_bytes(r, list->offset, list->count * sizeof *list->offset);
}

static void record_image(struct recorded *r, const struct riffle_image *i)
{
	record(r, "%s %s %llx %llx+%llx entry %llx align %llx init_size %x '%s' %llu", riffle_source_kind_name(i->kind),
	       riffle_compression_name(i->compression), (unsigned long long)i->link_phys,
	       (unsigned long long)i->link_virt, (unsigned long long)i->image_bytes,
	       (unsigned long long)i->entry_offset, (unsigned long long)i->kernel_alignment, i->init_size,
	       i->kernel_version, (unsigned long long)i->uncompressed_bytes);
	record(r, "%d%d%d, %u of build id", i->relocatable, i->inverse_list, i->has_setup_header, i->build_id_bytes);
	record_bytes(r, i->build_id, i->build_id_bytes);
	record_bytes(r, i->setup_header, sizeof i->setup_header);
	record_bytes(r, i->source_digest, sizeof i->source_digest);
	for (unsigned n = 0; n < i->segment_count; n++) {
		const struct image_segment *s = &i->segment[n];

		record(r, "segment %llx %llx %llx+%llx %x", (unsigned long long)s->virt, (unsigned long long)s->phys,
		       (unsigned long long)s->file_bytes, (unsigned long long)s->memory_bytes, s->flags);
		record_bytes(r, s->bytes, s->file_bytes);
	}
	for (unsigned n = 0; n < i->section_count; n++) {
		const struct image_section *s = &i->section[n];

		record(r, "section %s %llx+%llx %llx %x %llx", s->name, (unsigned long long)s->address,
		       (unsigned long long)s->bytes, (unsigned long long)s->flags, s->type,
		       (unsigned long long)s->align);
	}
	record_relocs(r, "64", &i->reloc64);
	record_relocs(r, "32", &i->reloc32);
	record_relocs(r, "inverse", &i->reloc32_inverse);
}

static void record_prepared(struct recorded *r, const struct riffle_image *image, enum riffle_compression storage)
{
	struct riffle_header h;

	assert_int_equal(ftruncate(out, 0), 0);
	if (record_status(r, riffle_prepared_write(image, NULL, "it is small", storage, out, &error), &error))
		return;
	assert_int_equal(pread(out, &h, sizeof h, 0), sizeof h);
	/* how short a compressor makes it is its own affair */
	record(r, "%llx %u %llx %s", (unsigned long long)h.load_bytes,
	       (unsigned)h.section[RIFFLE_SECTION_EXTENTS].count, (unsigned long long)h.window_bytes, h.no_shuffle);
	if (!storage)
		record_bytes(r, &h, sizeof h);
}

static void record_opened(struct recorded *r, int fd, int relocs)
{
	struct riffle_image *image;

	if (!record_status(r, riffle_image_open(&image, fd, relocs, &error), &error)) {
		record_image(r, image);
		record_prepared(r, image, r->accepted % 16 ? RIFFLE_COMPRESSION_NONE : RIFFLE_COMPRESSION_LZ4);
		riffle_image_close(image);
	}
	close(fd);
	if (relocs >= 0)
		close(relocs);
}

static void try_whole(struct recorded *r, const struct test_bytes *input)
{
	record_opened(r, test_file_of(input), -1);
}

static void try_with_list(struct recorded *r, const struct test_bytes *input)
{
	record_opened(r, test_file_of(input), test_file_of(&kernel.list));
}

static void try_list(struct recorded *r, const struct test_bytes *input)
{
	record_opened(r, test_file_of(&stripped.elf), test_file_of(input));
}

/* As a debug vmlinux of the stripped kernel. */
static void try_debug(struct recorded *r, const struct test_bytes *input)
{
	int fd = test_file_of(&stripped.elf), list = test_file_of(&stripped.list), debug_fd = test_file_of(input);
	struct shuffle_debug *debug;
	struct riffle_image *image;

	assert_int_equal(riffle_image_open(&image, fd, list, &error), 0);
	if (!record_status(r, shuffle_debug_open(&debug, image, debug_fd, &error), &error)) {
		for (uint32_t i = 0; i < debug->symbol_count; i++)
			record(r, "symbol %llx+%llx '%s' %u %u %u %c", (unsigned long long)debug->symbol[i].address,
			       (unsigned long long)debug->symbol[i].bytes, debug->symbol[i].name, debug->symbol[i].type,
			       debug->symbol[i].bind, debug->symbol[i].section, debug->symbol[i].letter);
		for (uint32_t i = 0; i < debug->rela_count; i++)
			record(r, "rela %x %u %u %lld", debug->rela[i].field, debug->rela[i].symbol,
			       debug->rela[i].type, (long long)debug->rela[i].addend);
		shuffle_debug_close(debug);
	}
	riffle_image_close(image);
	close(fd);
	close(list);
	close(debug_fd);
}

/* Where things lie in a test kernel: headers, segments of 1 KiB, what follows them. */
enum { HEADERS = 64 + 56 * 5, SEGMENTS = (HEADERS + 15) / 16 * 16, DATA = SEGMENTS + 1024, REST = SEGMENTS + 4096 };

static void test_elf(void **state)
{
	static const struct {
		bool percpu_at_zero;
		void (*try)(struct recorded *r, const struct test_bytes *input);
		struct varied part;
	} cases[] = {
	    {false, try_with_list, {{"headers", UINT64_C(0x7d8575dae2e2d15f), 1147, 949}, 0, HEADERS, 1500}},
	    {false, try_with_list, {{"fields", UINT64_C(0x54e55059424b2e6d), 1167, 33}, SEGMENTS, REST, 600}},
	    {false, try_with_list, {{"banner, note", UINT64_C(0x338c5525545ae8fe), 600, 0}, DATA, DATA + 80 + 36, 300}},
	    {false, try_whole, {{"rela", UINT64_C(0xd67c90c7a0b5f139), 3388, 851}, REST, 0, 2500}},
	    {false, try_debug, {{"debug", UINT64_C(0x609c7e151af70963), 765, 235}, REST, 0, 1000}},
	    {false, try_list, {{"list", UINT64_C(0x502f26fa1300ceec), 284, 596}, 0, 0, 600}},
	    {true,
	     try_with_list,
	     {{"headers, percpu at 0", UINT64_C(0x785fde11a6155917), 1224, 912}, 0, HEADERS, 1500}},
	    {true,
	     try_with_list,
	     {{"fields, percpu at 0", UINT64_C(0x76c0dd2da5c48563), 1177, 23}, SEGMENTS, REST, 600}},
	    {true, try_whole, {{"rela, percpu at 0", UINT64_C(0xeb997feb0245cd9d), 3443, 835}, REST, 0, 2500}},
	    {true, try_debug, {{"debug, percpu at 0", UINT64_C(0x684f9f2d9fd4d864), 756, 244}, REST, 0, 1000}},
	    {true, try_list, {{"list, percpu at 0", UINT64_C(0x0599cb0046882e3b), 256, 595}, 0, 0, 600}},
	};
	bool good = true;

	(void)state;
	for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct test_kernel_spec spec = test_kernel_spec();

		spec.percpu_at_zero = cases[i].percpu_at_zero;
		test_kernel_build(&stripped, &spec);
		spec.rela = true;
		test_kernel_build(&kernel, &spec);
		good &=
		    vary_part(&cases[i].part, cases[i].try == try_list ? &stripped.list : &kernel.elf, cases[i].try);
		test_kernel_free(&kernel);
		test_kernel_free(&stripped);
	}
	assert_true(good);
}

/* A vmlinux with its list behind it. */
static void test_list_behind(void **state)
{
	struct varied part = {{"list behind", UINT64_C(0x5a8b4459f2187c4a), 420, 486}, 0, 0, 600};
	struct test_kernel_spec spec = test_kernel_spec();
	struct test_bytes file = {0};
	bool good;

	(void)state;
	test_kernel_build(&kernel, &spec);
	test_bytes_add(&file, kernel.elf.at, kernel.elf.count);
	test_bytes_add(&file, kernel.list.at, kernel.list.count);
	part.from = (uint32_t)kernel.elf.count - 64;
	good = vary_part(&part, &file, try_whole);
	test_bytes_free(&file);
	test_kernel_free(&kernel);
	assert_true(good);
}

/* All that may lie behind a vmlinux in a bzImage, of a few words: where its list begins. */
static void test_finding_lists(void **state)
{
	static const struct recording wanted = {"finding lists", UINT64_C(0x769232ef753224cd), 0, 0};
	static const uint32_t alphabet[] = {0, 0x81000010, 0x81000020, 0x81000030, 0x12345678};
	enum { LETTERS = sizeof alphabet / sizeof *alphabet, LONGEST = 7 };
	const struct riffle_image image = {.link_virt = UINT64_C(0xffffffff81000000), .image_bytes = 0x1000};
	struct recorded r = recorded_begin(wanted.name);
	uint8_t tail[4 * LONGEST];

	(void)state;
	for (unsigned words = 0, all = 1; words <= LONGEST; words++, all *= LETTERS)
		for (unsigned n = 0; n < all; n++) {
			uint8_t at;

			for (unsigned i = 0, rest = n; i < words; i++, rest /= LETTERS)
				riffle_put32(tail + 4 * i, alphabet[rest % LETTERS]);
			at = (uint8_t)image_relocs_find(&image, tail, 4 * words);
			record_bytes(&r, &at, 1);
		}
	assert_true(recorded_is(&r, &wanted));
}

/* A field may end where its segment's bytes do, and no further, whatever its list. */
static void test_last_fields(void **state)
{
	struct test_kernel_spec spec = test_kernel_spec();

	(void)state;
	test_kernel_build(&kernel, &spec);
	for (unsigned s = 0; s < TEST_SEGMENTS; s++)
		for (unsigned list = 0; list < 3; list++)
			for (uint32_t past = 0; past < 2; past++) {
				const uint32_t bytes = list ? 4 : 8;
				uint32_t offset = kernel.start[s] + spec.segment_bytes - bytes + past;
				const struct test_relocs one = {&offset, 1}, none = {0};
				struct test_bytes words = {0};
				struct riffle_image *image;
				int fd, list_fd;

				test_relocs_list(&words, kernel.link_virt, list ? &none : &one,
						 list == 1 ? &one : &none, list == 2 ? &one : &none);
				fd = test_file_of(&kernel.elf);
				list_fd = test_file_of(&words);
				assert_int_equal(riffle_image_open(&image, fd, list_fd, &error),
						 past ? RIFFLE_ERR_FORMAT : RIFFLE_OK);
				if (past)
					assert_int_equal(error.found, kernel.link_virt + offset);
				else
					riffle_image_close(image);
				test_bytes_free(&words);
				close(fd);
				close(list_fd);
			}
	test_kernel_free(&kernel);
}

static void test_bzimage(void **state)
{
	static const struct varied header = {
	    {"setup header", UINT64_C(0xa3b036e3f8cee848), 2356, 322}, 0x1f0, 0x268, 1500};
	struct test_bzimage_spec bz = {.compression = RIFFLE_COMPRESSION_LZ4};
	struct varied payload = {
	    {"payload", UINT64_C(0x3340d9b5357776e6), 42, 159}, TEST_BZIMAGE_PAYLOAD, TEST_BZIMAGE_PAYLOAD + 8, 180};
	struct test_kernel_spec spec = test_kernel_spec();
	struct test_bytes file = {0};
	bool good;

	(void)state;
	test_kernel_build(&kernel, &spec);
	assert_true(test_bzimage_of(&file, &bz, &kernel));
	good = vary_part(&header, &file, try_whole);
	good &= vary_part(&payload, &file, try_whole);
	test_bytes_free(&file);
	test_kernel_free(&kernel);
	assert_true(good);
}

static void test_uki(void **state)
{
	static const struct varied part = {
	    {"uki", UINT64_C(0xdcb640936942d48e), 2810, 95}, 0, TEST_UKI_SECTIONS_AT + 3 * 40, 1500};
	struct test_bzimage_spec bz = {.compression = RIFFLE_COMPRESSION_GZIP};
	struct test_kernel_spec spec = test_kernel_spec();
	struct test_bytes file = {0}, linux_file = {0};
	bool good;

	(void)state;
	test_kernel_build(&kernel, &spec);
	assert_true(test_bzimage_of(&linux_file, &bz, &kernel));
	test_uki_of(&file, 0x8664,
		    (struct test_uki_part[]){
			{".osrel", "ID=x", 4}, {".cmdline", "quiet", 5}, {".linux", linux_file.at, linux_file.count}},
		    3);
	good = vary_part(&part, &file, try_whole);
	test_bytes_free(&linux_file);
	test_bytes_free(&file);
	test_kernel_free(&kernel);
	assert_true(good);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_elf),           cmocka_unit_test(test_list_behind),
	    cmocka_unit_test(test_finding_lists), cmocka_unit_test(test_last_fields),
	    cmocka_unit_test(test_bzimage),       cmocka_unit_test(test_uki),
	};

	out = memfd_create("prepared", MFD_CLOEXEC);
	close(STDIN_FILENO); /* which each kernel's file is then */
	return cmocka_run_group_tests_name("varied-images", tests, NULL, NULL);
}

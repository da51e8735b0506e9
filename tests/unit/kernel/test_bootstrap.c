/* SPDX-License-Identifier: Apache-2.0 */
/* Kernels that randomise themselves, as loaders and the stage find them: headers, descriptor, package. */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include <riffle/load.h>

#include "common/bytes.h"
#include "kernel/boot_elf.h"
#include "kernel/bootstrap_image.h"
#include "prepare/analysis/prepared.h"
#include "stage/choose.h"
#include "stage/package.h"
#include "tests/lib/kernels.h"

struct packed {
	int prepared, out;
	uint8_t *kernel, *file; /* their bytes */
	size_t kernel_bytes, file_bytes;
	struct riffle_plan plan;
	struct bootstrap_request request;
};

static struct packed p;
static struct riffle_error error;

static uint8_t *contents(int fd, size_t *bytes)
{
	struct stat st;
	uint8_t *at;

	assert_int_equal(fstat(fd, &st), 0);
	*bytes = (size_t)st.st_size;
	at = malloc(*bytes + 1);
	assert_non_null(at);
	assert_int_equal(pread(fd, at, *bytes, 0), *bytes);
	return at;
}

static void prepare(const struct test_bytes *file, bool shuffle, enum riffle_compression storage)
{
	int fd = test_file_of(file);
	struct riffle_image *image;
	struct shuffle *found = NULL;
	struct riffle_source source;

	p = (struct packed){.prepared = memfd_create("prepared", MFD_CLOEXEC),
			    .out = memfd_create("out", MFD_CLOEXEC),
			    .plan = RIFFLE_PLAN_INIT};
	assert_int_equal(riffle_image_open(&image, fd, -1, &error), 0);
	if (shuffle)
		assert_int_equal(shuffle_analyse(&found, image, NULL, &error), 0);
	assert_int_equal(riffle_prepared_write(image, found, NULL, storage, p.prepared, &error), 0);
	shuffle_free(found);
	riffle_image_close(image);
	close(fd);
	p.kernel = contents(p.prepared, &p.kernel_bytes);
	if (storage)
		return;
	assert_int_equal(riffle_source_from_fd(&source, p.prepared, &error), 0);
	assert_int_equal(riffle_plan_open(&p.plan, &source, &error), 0);
}

static void done(void)
{
	riffle_plan_close(&p.plan);
	free(p.kernel);
	free(p.file);
	close(p.prepared);
	close(p.out);
}

static void prepare_sliding(void)
{
	struct test_bytes file = {0};

	test_sliding_kernel(&file);
	prepare(&file, true, RIFFLE_COMPRESSION_NONE);
	test_bytes_free(&file);
	assert_int_equal(p.plan.block_count, 6);
}

/* A kernel of several extents, with a version; or the smallest that is shuffled, with none. */
static void prepare_one(bool shuffled)
{
	struct test_kernel_spec spec = test_kernel_spec();
	struct test_bytes file = {0};
	struct test_kernel k;

	if (shuffled) {
		test_movable_kernel(&file);
	} else {
		spec.segment_bytes = 3 << 20; /* more than is copied at once */
		test_kernel_build(&k, &spec);
		test_bytes_add(&file, k.elf.at, k.elf.count);
		test_bytes_add(&file, k.list.at, k.list.count);
		test_kernel_free(&k);
	}
	prepare(&file, shuffled, RIFFLE_COMPRESSION_NONE);
	test_bytes_free(&file);
}

static int write_as(struct bootstrap_request request)
{
	request.out_fd = p.out;
	request.prepared_fd = p.prepared;
	p.request = request;
	return bootstrap_image_write(&p.request, &error);
}

static void pack_as(struct bootstrap_request request)
{
	free(p.file);
	assert_int_equal(ftruncate(p.out, 0), 0);
	assert_int_equal(write_as(request), 0);
	p.file = contents(p.out, &p.file_bytes);
}

static void pack(bool elf)
{
	pack_as((struct bootstrap_request){.elf = elf, .automatic = true});
}

/* The stage's descriptor, and that what it describes is there and leaves room for what the stage needs. */
static struct stage_descriptor check_stage(size_t start, bool elf)
{
	size_t order = p.plan.chunk_count * sizeof(uint16_t), head, at;
	struct stage_descriptor d;

	memcpy(&d, p.file + start + STAGE_DESCRIPTOR, sizeof d);
	assert_int_equal(d.package_offset % STAGE_PAGE, 0);
	assert_int_equal(d.work_offset % STAGE_PAGE, 0);
	assert_int_equal(d.work_bytes % STAGE_PAGE, 0);
	assert_int_equal(p.file_bytes, start + d.work_offset);
	/* the 64-bit entry's code is before the package, and so is the zero page, which only an ELF has */
	assert_true(d.package_offset > STAGE_ENTRY_64);
	assert_int_not_equal(p.file[start + STAGE_ENTRY_64], 0);
	assert_int_equal(d.zero_page_offset, elf ? d.package_offset - STAGE_PAGE : 0);

	/* header and plan as they are in the file, then the extents without what is between them */
	head = p.plan.header->payload_offset < p.plan.extents[0].file_offset ? p.plan.header->payload_offset
									     : p.plan.extents[0].file_offset;
	assert_true(sizeof *p.plan.header + p.plan.header->plan_bytes <= head);
	at = start + d.package_offset;
	assert_memory_equal(p.file + at, p.kernel, sizeof *p.plan.header + p.plan.header->plan_bytes);
	at += sizeof *p.plan.header + p.plan.header->plan_bytes;
	for (uint32_t i = 0; i < p.plan.extent_count; i++) {
		const struct riffle_extent *e = &p.plan.extents[i];

		assert_memory_equal(p.file + at, p.kernel + e->file_offset, e->bytes);
		at += e->bytes;
	}
	assert_int_equal(d.package_bytes, at - start - d.package_offset);
	assert_true(p.file_bytes - at < STAGE_PAGE);
	for (; at < p.file_bytes; at++)
		assert_int_equal(p.file[at], 0);

	assert_true(d.work_bytes >= STAGE_STACK_BYTES + order + riffle_load_workspace(&p.plan));
	assert_true(d.work_bytes < STAGE_STACK_BYTES + order + 64 + riffle_load_workspace(&p.plan) + STAGE_PAGE ||
		    d.work_bytes == STAGE_STACK_BYTES + STAGE_FIRST_TABLES_BYTES);
	if (elf)
		assert_true(d.work_bytes >= STAGE_STACK_BYTES + STAGE_FIRST_TABLES_BYTES);
	assert_int_equal(d.tables_offset, d.work_offset + d.work_bytes);
	assert_int_equal(d.window_bytes, d.tables_offset + STAGE_TABLES_BYTES);
	return d;
}

/* Documentation/arch/x86/boot.rst */
static void check_setup_header(const struct stage_descriptor *d)
{
	const uint8_t *h = p.file;

	assert_int_equal(h[0x1f1], 1); /* one sector of setup after the first */
	assert_int_equal(riffle_get32(h + 0x1f4) * 16u, p.file_bytes - 1024);
	assert_int_equal(riffle_get16(h + 0x1fe), 0xaa55);
	assert_int_equal(h[0x200], 0xeb); /* jmp to the end of the header */
	assert_int_equal(0x202 + h[0x201], 0x268);
	assert_memory_equal(h + 0x202, "HdrS", 4);
	assert_int_equal(riffle_get16(h + 0x206), 0x020d);
	if (p.plan.header->kernel_version[0])
		assert_string_equal((const char *)h + 0x200 + riffle_get16(h + 0x20e), p.plan.header->kernel_version);
	else
		assert_int_equal(riffle_get16(h + 0x20e), 0);
	assert_int_equal(h[0x211], 1);                       /* loaded high, and nothing else */
	assert_int_equal(riffle_get32(h + 0x214), 0x100000); /* code32_start */
	assert_int_equal(riffle_get32(h + 0x230), 4096);     /* kernel_alignment */
	assert_int_equal(h[0x234], 1);                       /* relocatable */
	assert_int_equal(h[0x235], 12);                      /* min_alignment: a page */
	assert_int_equal(riffle_get16(h + 0x236), 1);        /* a 64-bit entry at 0x200, no more */
	assert_int_equal(riffle_get32(h + 0x248), d->package_offset);
	assert_int_equal(riffle_get32(h + 0x24c), d->package_bytes);
	assert_int_equal(riffle_get64(h + 0x250), 0);               /* setup_data */
	assert_int_equal(riffle_get64(h + 0x258), 0x100000);        /* pref_address */
	assert_int_equal(riffle_get32(h + 0x260), d->window_bytes); /* init_size */
	assert_int_equal(riffle_get32(h + 0x264), 0);               /* no EFI handover */
	/* tests/e2e/test_stage.py runs the code that the jump leads to, which prints this text */
	assert_non_null(strstr((const char *)h + 0x40, "has no 16-bit entry"));
	for (unsigned at = 0; at < 0x1f1; at++)
		if (at < 0x40 || at > 0x40 + strlen((const char *)h + 0x40))
			assert_int_equal(h[at], 0);
	for (unsigned at = 0x280 + (unsigned)sizeof p.plan.header->kernel_version; at < 1024; at++)
		assert_int_equal(h[at], 0);
}

static void check_elf(const struct stage_descriptor *d)
{
	const Elf64_Ehdr *e = (const void *)p.file;
	const Elf64_Phdr *load = (const void *)(p.file + e->e_phoff), *note = load + 1;
	const uint8_t *n = p.file + note->p_offset, *zero_page = p.file + 8192 + d->zero_page_offset;

	assert_memory_equal(e->e_ident, "\177ELF\2\1\1\0\0\0\0\0\0\0\0\0", 16);
	assert_int_equal(e->e_type, ET_EXEC);
	assert_int_equal(e->e_machine, EM_X86_64);
	assert_int_equal(e->e_version, 1);
	assert_int_equal(e->e_entry, 0x100200);
	assert_int_equal(e->e_ehsize, 64);
	assert_int_equal(e->e_phentsize, 56);
	assert_int_equal(e->e_phnum, 2);
	assert_int_equal(e->e_shnum, 0);
	assert_int_equal(e->e_shentsize, 64);
	assert_int_equal(load->p_type, PT_LOAD);
	assert_int_equal(load->p_flags, PF_R | PF_W | PF_X);
	assert_int_equal(load->p_offset, 8192);
	assert_int_equal(load->p_paddr, 0x100000);
	assert_int_equal(load->p_vaddr, 0x100000);
	assert_int_equal(load->p_filesz, p.file_bytes - 8192);
	assert_int_equal(load->p_memsz, d->window_bytes);
	assert_int_equal(load->p_align, 4096);
	/* Xen's note of the PVH entry, in eight bytes */
	assert_int_equal(note->p_type, PT_NOTE);
	assert_int_equal(note->p_flags, PF_R);
	assert_int_equal(note->p_align, 4);
	assert_int_equal(note->p_filesz, 24);
	assert_int_equal(note->p_memsz, 24);
	assert_true(note->p_offset >= e->e_phoff + 2 * sizeof *load && note->p_offset + 24 <= 8192);
	assert_int_equal(riffle_get32(n), 4);
	assert_int_equal(riffle_get32(n + 4), 8);
	assert_int_equal(riffle_get32(n + 8), 18);
	assert_memory_equal(n + 12, "Xen", 4);
	assert_int_equal(riffle_get64(n + 16), 0x100100);
	for (size_t at = note->p_offset + 24; at < 8192; at++)
		assert_int_equal(p.file[at], 0);
	/* the zero page's header is the kernel's, of which nothing depends on a layout */
	for (unsigned at = 0; at < 4096; at++)
		if (at < 0x1f1 || at >= 0x271)
			assert_int_equal(zero_page[at], 0);
	assert_memory_equal(zero_page + 0x202, "HdrS", 4);
	assert_int_equal(zero_page[0x211], 1);
	assert_int_equal(riffle_get64(zero_page + 0x250), 0);
}

static void test_both_forms(void **state)
{
	struct stage_descriptor d;

	(void)state;
	for (unsigned shuffled = 0; shuffled < 2; shuffled++) {
		prepare_one(shuffled);
		assert_int_equal(p.plan.chunk_count > 0, shuffled);
		pack(false);
		d = check_stage(1024, false);
		check_setup_header(&d);
		pack(true);
		d = check_stage(8192, true);
		check_elf(&d);
		done();
	}
}

/* What --randomize says reaches the stage, unless this kernel does not allow it. */
static void test_modes(void **state)
{
	static const struct {
		enum riffle_mode mode;
		bool slide;
		uint64_t told;
	} modes[] = {{RIFFLE_MODE_KASLR, false, 2},
		     {RIFFLE_MODE_FGKASLR, false, 3},
		     {RIFFLE_MODE_KASLR, true, 0x102},
		     {RIFFLE_MODE_FGKASLR, true, 0x103}};

	(void)state;
	prepare_sliding();
	for (unsigned elf = 0; elf < 2; elf++) {
		pack(elf);
		assert_int_equal(check_stage(elf ? 8192 : 1024, elf).randomize, 0);
		assert_int_equal(p.request.reason_count, 0);
		for (unsigned i = 0; i < 4; i++) {
			pack_as((struct bootstrap_request){.elf = elf, .mode = modes[i].mode, .slide = modes[i].slide});
			assert_int_equal(check_stage(elf ? 8192 : 1024, elf).randomize, modes[i].told);
		}
	}
	done();
	/* nothing of it was looked for in this one */
	prepare_one(false);
	pack(false);
	assert_int_equal(p.request.reason_count, 1);
	assert_non_null(strstr(p.request.reasons[0], "sections do not slide apart"));
	pack_as((struct bootstrap_request){.mode = RIFFLE_MODE_KASLR});
	assert_int_equal(p.request.reason_count, 0);
	assert_int_equal(ftruncate(p.out, 0), 0);
	for (unsigned i = 1; i < 4; i++) {
		assert_int_equal(write_as((struct bootstrap_request){.mode = modes[i].mode, .slide = modes[i].slide}),
				 RIFFLE_ERR_UNSUPPORTED);
		assert_string_equal(error.field, i == 2 ? "--randomize=...+slide" : "--randomize=fgkaslr");
		assert_int_equal(lseek(p.out, 0, SEEK_END), 0);
	}
	done();
}

#define GUEST_BYTES ((size_t)96 << 20)

/* A guest's memory, full of what a boot loader may have left there. */
static struct riffle_memory dirty_memory(struct riffle_ram *ram)
{
	if (!ram->host)
		*ram = (struct riffle_ram){.bytes = GUEST_BYTES, .host = malloc(GUEST_BYTES)};
	assert_non_null(ram->host);
	memset(ram->host, 0xa5, GUEST_BYTES);
	return (struct riffle_memory){.ram = ram, .ram_count = 1};
}

struct placed {
	struct riffle_layout layout;
	struct riffle_loaded loaded;
	struct riffle_ram ram;
};

/* Draws by `key` in memory of which nothing is taken, and loads; from the packed file as the stage does, or not. */
static void place(struct placed *placed, bool packed, uint64_t randomize, const uint8_t key[32])
{
	/* one that takes nothing */
	const struct riffle_range stage = {0, 0};
	struct riffle_memory memory = dirty_memory(&placed->ram);
	struct riffle_plan plan = RIFFLE_PLAN_INIT;
	struct stage_package package;
	struct riffle_source source;
	struct riffle_random random;
	struct riffle_seeded seeded;
	uint16_t order[64];
	size_t workspace_bytes;
	void *workspace;
	bool crowded;

	assert_int_equal(riffle_source_from_fd(&source, p.prepared, &error), 0);
	if (packed) {
		struct stage_descriptor d = check_stage(8192, true);

		assert_int_equal(stage_package_open(&package, &plan, p.file + 8192 + d.package_offset, d.package_bytes,
						    stage_needs_all(d.randomize), &error),
				 0);
		source = stage_package_source(&package);
	} else {
		assert_int_equal(riffle_plan_open(&plan, &source, &error), 0);
	}
	assert_true(plan.chunk_count <= sizeof order / sizeof *order);
	workspace_bytes = (riffle_load_workspace(&plan) + 64) & ~(size_t)63;
	workspace = aligned_alloc(64, workspace_bytes);
	memory.reserved = &stage;
	memory.reserved_count = 1;
	placed->layout = (struct riffle_layout){.order = order, .order_count = plan.chunk_count};
	riffle_random_from_seed(&random, &seeded, key);
	if (packed) {
		assert_int_equal(stage_draw(&placed->layout, &crowded, randomize, &plan, &memory, 0, &random, &error),
				 0);
		assert_false(crowded);
	} else {
		placed->layout.slide_count = randomize == STAGE_AUTO || randomize & STAGE_SLIDE ? plan.block_count : 0;
		assert_int_equal(riffle_layout_draw(&placed->layout, &plan, &memory,
						    randomize == STAGE_AUTO ? RIFFLE_MODE_FGKASLR
									    : (enum riffle_mode)(randomize & 0xff),
						    &random, &error),
				 0);
	}
	assert_int_equal(riffle_load_shuffled(&placed->loaded, &plan, &source, &placed->layout, &memory,
					      RIFFLE_LOAD_CLEAR, NULL, workspace, workspace_bytes, &error),
			 0);
	free(workspace);
	if (!packed)
		riffle_plan_close(&plan);
}

/* With the same randomness the stage makes of the packed kernel what the library makes of the prepared one. */
static void test_stage_loads_what_the_library_does(void **state)
{
	static const uint64_t modes[] = {STAGE_AUTO, RIFFLE_MODE_KASLR, RIFFLE_MODE_FGKASLR,
					 RIFFLE_MODE_KASLR | STAGE_SLIDE, RIFFLE_MODE_FGKASLR | STAGE_SLIDE};
	static struct placed stage, library;
	uint32_t slid = 0;

	(void)state;
	prepare_sliding();
	for (unsigned i = 0; i < 5; i++)
		for (uint8_t seed = 1; seed < 3; seed++) {
			const uint8_t key[32] = {seed};

			pack_as((struct bootstrap_request){.elf = true,
							   .automatic = !modes[i],
							   .mode = (enum riffle_mode)(modes[i] & 0xff),
							   .slide = modes[i] & STAGE_SLIDE});
			place(&stage, true, modes[i], key);
			place(&library, false, modes[i], key);
			assert_int_equal(stage.layout.mode, library.layout.mode);
			assert_int_equal(stage.layout.slide_count, library.layout.slide_count);
			assert_memory_equal(stage.layout.slide, library.layout.slide, sizeof stage.layout.slide);
			assert_int_equal(stage.layout.slide_count, modes[i] && !(modes[i] & STAGE_SLIDE) ? 0 : 6);
			assert_int_equal(stage.loaded.entry, library.loaded.entry);
			assert_int_equal(stage.loaded.end, library.loaded.end);
			assert_memory_equal(stage.ram.host, library.ram.host, GUEST_BYTES);
			slid |= stage.layout.slide[5];
		}
	assert_int_not_equal(slid, 0);
	free(stage.ram.host);
	free(library.ram.host);
	done();
}

static void test_segments(void **state)
{
	static const struct boot_elf_segment segments[] = {
	    {8192, 100, 0x100000, 200}, {12288, 4096, 0x1000000, 4096}, {16384, 0, 0x2000000, 77}};
	uint8_t headers[BOOT_ELF_HEADERS_BYTES];
	const Elf64_Ehdr *e = (const void *)headers;
	const Elf64_Phdr *program = (const void *)(headers + 64);

	(void)state;
	boot_elf_headers(headers, segments, 3);
	assert_int_equal(e->e_phnum, 4);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(program[i].p_type, PT_LOAD);
		assert_int_equal(program[i].p_offset, segments[i].file_offset);
		assert_int_equal(program[i].p_filesz, segments[i].file_bytes);
		assert_int_equal(program[i].p_paddr, segments[i].address);
		assert_int_equal(program[i].p_memsz, segments[i].memory_bytes);
	}
	assert_int_equal(program[3].p_type, PT_NOTE);
	assert_int_equal(program[3].p_offset, 64 + 4 * 56);
	assert_memory_equal(headers + program[3].p_offset + 12, "Xen", 4);
}

static void refuse(const char *field)
{
	for (unsigned elf = 0; elf < 2; elf++) {
		assert_int_equal(write_as((struct bootstrap_request){.elf = elf, .automatic = true}),
				 RIFFLE_ERR_UNSUPPORTED);
		assert_string_equal(error.field, field);
	}
}

static void test_refused(void **state)
{
	struct test_kernel_spec spec = test_kernel_spec();
	struct test_bytes file = {0};
	struct test_kernel k;

	(void)state;
	test_movable_kernel(&file);
	prepare(&file, true, RIFFLE_COMPRESSION_LZ4);
	refuse("storage");
	done();
	test_bytes_free(&file);
	/* the list of relocations is not appended, and nothing tells where they are */
	spec.rela = false;
	test_kernel_build(&k, &spec);
	prepare(&k.elf, false, RIFFLE_COMPRESSION_NONE);
	refuse("relocations");
	done();
	test_kernel_free(&k);
	/* no prepared kernel at all */
	p = (struct packed){.prepared = test_file("nothing", 7), .out = memfd_create("out", MFD_CLOEXEC)};
	assert_int_not_equal(write_as((struct bootstrap_request){.elf = true, .automatic = true}), 0);
	done();
}

static void test_output_that_cannot_be_written(void **state)
{
	(void)state;
	prepare_one(true);
	close(p.out);
	p.out = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	for (unsigned elf = 0; elf < 2; elf++) {
		assert_int_equal(write_as((struct bootstrap_request){.elf = elf, .automatic = true}), RIFFLE_ERR_IO);
		assert_string_equal(error.field, "output");
	}
	done();
}

/* The linker's --wrap leads the program's calls here: the one after so many fails, or does half of its work. */
static struct {
	unsigned calls, failing; /* from 1; 0: none */
	int problem;             /* 0: half of it */
} writes;

ssize_t __wrap_pwrite64(int fd, const void *from, size_t bytes, off_t at);
ssize_t __wrap_pwrite64(int fd, const void *from, size_t bytes, off_t at)
{
	if (++writes.calls == writes.failing) {
		if (writes.problem)
			return errno = writes.problem, -1;
		bytes = (bytes + 1) / 2;
	}
	return syscall(SYS_pwrite64, fd, from, bytes, at);
}

int __wrap_ftruncate64(int fd, off_t bytes);
int __wrap_ftruncate64(int fd, off_t bytes)
{
	if (writes.failing && writes.problem && ++writes.calls == writes.failing)
		return errno = writes.problem, -1;
	return (int)syscall(SYS_ftruncate, fd, bytes);
}

static struct test_bytes all_of(int fd)
{
	struct test_bytes all = {0};
	uint8_t part[4096];
	ssize_t n;

	while ((n = pread(fd, part, sizeof part, (off_t)all.count)) > 0)
		test_bytes_add(&all, part, (size_t)n);
	return all;
}

/* A write that fails ends it, one that is interrupted or cut short is continued. */
static void test_writes_that_fail(void **state)
{
	(void)state;
	prepare_one(true);
	for (unsigned elf = 0; elf < 2; elf++) {
		struct test_bytes good, other;
		unsigned most;

		memset(&writes, 0, sizeof writes);
		assert_int_equal(ftruncate(p.out, 0), 0);
		assert_int_equal(write_as((struct bootstrap_request){.elf = elf, .automatic = true}), 0);
		most = writes.calls;
		assert_true(most >= 5);
		good = all_of(p.out);
		for (unsigned i = 1; i <= most; i++) {
			static const int problems[] = {ENOSPC, EINTR, 0};

			for (unsigned kind = 0; kind < 3; kind++) {
				memset(&writes, 0, sizeof writes);
				assert_int_equal(ftruncate(p.out, 0), 0);
				writes.failing = i;
				writes.problem = problems[kind];
				int status = write_as((struct bootstrap_request){.elf = elf, .automatic = true});

				if (!kind) {
					assert_int_equal(status, RIFFLE_ERR_IO);
					assert_string_equal(error.field, "output");
					assert_int_equal(error.sys_errno, ENOSPC);
					assert_int_equal(writes.calls, i);
					continue;
				}
				assert_int_equal(status, 0);
				other = all_of(p.out);
				assert_int_equal(other.count, good.count);
				assert_memory_equal(other.at, good.at, good.count);
				test_bytes_free(&other);
			}
		}
		/* the last step gives the file its length */
		memset(&writes, 0, sizeof writes);
		writes.failing = most + 1;
		writes.problem = EFBIG;
		assert_int_equal(write_as((struct bootstrap_request){.elf = elf, .automatic = true}), RIFFLE_ERR_IO);
		assert_int_equal(error.sys_errno, EFBIG);
		test_bytes_free(&good);
	}
	memset(&writes, 0, sizeof writes);
	done();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_both_forms),
	    cmocka_unit_test(test_modes),
	    cmocka_unit_test(test_stage_loads_what_the_library_does),
	    cmocka_unit_test(test_segments),
	    cmocka_unit_test(test_refused),
	    cmocka_unit_test(test_output_that_cannot_be_written),
	    cmocka_unit_test(test_writes_that_fail),
	};

	return cmocka_run_group_tests_name("bootstrap", tests, NULL, NULL);
}

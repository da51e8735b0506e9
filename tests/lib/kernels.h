/* SPDX-License-Identifier: Apache-2.0 */
/* Small kernels for tests: an ELF laid out as vmlinux is, its relocation list, and bzImages around them. */
#ifndef RIFFLE_TESTS_LIB_KERNELS_H
#define RIFFLE_TESTS_LIB_KERNELS_H

#include <elf.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <riffle/format.h>

/* Bytes that grow at their end; memory that runs out aborts, as tests may. Zeroed is empty. */
struct test_bytes {
	uint8_t *at;
	size_t count, room;
};
void test_bytes_add(struct test_bytes *bytes, const void *more, size_t count);
void test_bytes_zero(struct test_bytes *bytes, size_t count);
void test_bytes_word(struct test_bytes *bytes, uint32_t word);
void test_bytes_free(struct test_bytes *bytes);

/* An unnamed file that holds these bytes, open for reading and writing; close() ends it. */
int test_file(const void *bytes, size_t count);
int test_file_of(const struct test_bytes *bytes);

/* Repeatable pseudo-random numbers (splitmix64). */
uint64_t test_random(uint64_t *state);

/* What the kernel is to be like. Take test_kernel_spec() and change what matters to the test. */
struct test_kernel_spec {
	uint64_t link_phys;     /* 16 MiB; multiple of 2 MiB */
	uint64_t entry_offset;  /* image offset of the entry */
	uint32_t segment_bytes; /* file bytes of each segment, at least 192; they lie at multiples of a page */
	uint32_t bss_bytes;     /* memory behind the last segment's file bytes */
	uint32_t relocs;        /* at most this many fields in each segment */
	bool percpu_at_zero;    /* as up to 6.14: its own segment at p_vaddr 0, inverse relocations */
	bool rela;              /* keep .rela sections, symbols, debug sections; else as objcopy -S leaves it */
	bool sections;          /* keep the section table */
	uint64_t seed;          /* of the contents */
};
struct test_kernel_spec test_kernel_spec(void);

struct test_relocs {
	uint32_t *offset; /* image offsets, ascending */
	uint32_t count;
};

/* Segments in the order of their addresses. */
enum { TEST_TEXT, TEST_DATA, TEST_PERCPU, TEST_INIT, TEST_SEGMENTS };

/*
 * The kernel: every relocated field holds what it would in a real one (a link address of the image, or the distance
 * to a percpu offset), the bytes around them are random and not zero.
 */
struct test_kernel {
	struct test_kernel_spec spec;
	uint64_t link_virt;
	uint64_t image_bytes;
	uint32_t start[TEST_SEGMENTS]; /* image offsets */
	uint8_t *bytes[TEST_SEGMENTS]; /* segment_bytes each */
	struct test_relocs reloc64, reloc32, reloc32_inverse;
	struct test_bytes elf;
	struct test_bytes list; /* as arch/x86/tools/relocs writes it: 3 lists with percpu_at_zero, else 2 */
};
#define TEST_KERNEL_VERSION "6.1.0-riffle (test@example.org) #1 SMP"
#define TEST_KERNEL_BUILD_ID "riffle build id 0123" /* 20 bytes */
void test_kernel_build(struct test_kernel *kernel, const struct test_kernel_spec *spec);
void test_kernel_free(struct test_kernel *kernel);

/* An ELF with its relocation list behind it, whose functions can be shuffled by what it has in it: that many chunks. */
#define TEST_MOVABLE_FUNCTIONS 48u
void test_movable_kernel(struct test_bytes *file);
/* The same, and its sections can slide apart: six blocks. */
void test_sliding_kernel(struct test_bytes *file);
/*
 * A name for a function in place of its own, so many bytes into it; or for a place in the image, which a symbol that
 * the kernel has anyway moves to.
 */
struct test_name {
	unsigned function;
	uint32_t into;
	const char *name;
};
#define TEST_NO_FUNCTION UINT32_MAX
#define TEST_NOWHERE UINT32_MAX
/* The same, with the tables that the kernel patches itself by. */
void test_full_kernel(struct test_bytes *file, const struct test_name *name, unsigned names);

/* Lists in the build tool's form; `inverse` NULL makes two lists. */
void test_relocs_list(struct test_bytes *list, uint64_t link_virt, const struct test_relocs *reloc64,
		      const struct test_relocs *inverse, const struct test_relocs *reloc32);

/* Headers inside a test kernel's ELF, to be changed at will. A name that is not there aborts. */
Elf64_Ehdr *test_elf_header(struct test_bytes *elf);
Elf64_Phdr *test_elf_segment(struct test_bytes *elf, unsigned index);
Elf64_Shdr *test_elf_section(struct test_bytes *elf, const char *name);
/* The note's program header follows those of the segments. */
#define TEST_NOTE_SEGMENT TEST_SEGMENTS

/* What the bzImage is to be like; zero takes the usual. */
struct test_bzimage_spec {
	enum riffle_compression compression;
	uint32_t init_size;        /* 0: as much as the payload unpacks to, and 1 MiB */
	uint32_t kernel_alignment; /* 0: 2 MiB */
};
/* Where the payload lies in a bzImage made here. */
#define TEST_BZIMAGE_PM 2560u /* setup_sects 4 */
#define TEST_BZIMAGE_PAYLOAD (TEST_BZIMAGE_PM + 64u)

/* Wraps `content` (the ELF, then the list). false when the compressor is not to be had (lzop). */
bool test_bzimage_build(struct test_bytes *bzimage, const struct test_bzimage_spec *spec, const void *content,
			size_t content_bytes);
/* The kernel's ELF and list as a bzImage. */
bool test_bzimage_of(struct test_bytes *bzimage, const struct test_bzimage_spec *spec,
		     const struct test_kernel *kernel);
/* The same around a payload that is compressed already (or is no such thing), size word included. */
void test_bzimage_wrap(struct test_bytes *bzimage, const struct test_bzimage_spec *spec, const void *payload,
		       size_t payload_bytes, uint64_t unpacked_bytes);
bool test_compress(struct test_bytes *packed, enum riffle_compression compression, const void *content,
		   size_t content_bytes);

/* A section of a unified kernel image. */
struct test_uki_part {
	const char *name;
	const void *bytes;
	size_t count;
};
#define TEST_UKI_PE_AT 0x80u
#define TEST_UKI_SECTIONS_AT (TEST_UKI_PE_AT + 24 + 240)

/* As ukify makes them: a section's bytes in the file are padded to 512. */
void test_uki_of(struct test_bytes *file, uint16_t machine, const struct test_uki_part *part, unsigned parts);

#endif

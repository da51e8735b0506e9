/* SPDX-License-Identifier: Apache-2.0 */
/* A guest's memory as a core file: segments, holes, notes, and the page tables of the kernel's addresses. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/procfs.h>
#include <sys/stat.h>
#include <unistd.h>

#include <elf.h>

#include <cmocka.h>

#include "machine/core_file.h"
#include "machine/core_mappings.h"

#define PAGE UINT64_C(4096)
#define PAGES 64u
#define HIGH (UINT64_C(4) << 30)

static uint8_t *low, *high;

static void set(uint64_t at, uint64_t value)
{
	memcpy(low + at, &value, sizeof value);
}

static struct kvm_sregs long_mode(uint64_t cr3)
{
	return (struct kvm_sregs){.cr0 = UINT64_C(1) << 31, .efer = UINT64_C(1) << 10, .cr3 = cr3};
}

static struct guest_memory memory_of(void)
{
	return (struct guest_memory){.count = 2,
				     .ram = {{.address = 0, .bytes = PAGES * PAGE, .host = low},
					     {.address = HIGH, .bytes = PAGES * PAGE, .host = high}}};
}

static int set_up(void **state)
{
	(void)state;
	low = calloc(PAGES, PAGE);
	high = calloc(PAGES, PAGE);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	free(low);
	free(high);
	return 0;
}

/* Two pages that follow each other in both address spaces are one range; a third that does not is another. */
static void make_tables(uint64_t root)
{
	set(root + 511 * 8, (root + PAGE) | 0x63);
	set(root + PAGE + 510 * 8, (root + 2 * PAGE) | 0x63);
	set(root + 2 * PAGE, (root + 3 * PAGE) | 0x63);
	set(root + 3 * PAGE, UINT64_C(0x8000000000000000) | 10 * PAGE | 0x63);
	set(root + 3 * PAGE + 8, 11 * PAGE | 0x63);
	set(root + 3 * PAGE + 16, (HIGH + 5 * PAGE) | 0x63);
	set(root + 3 * PAGE + 24, 12 * PAGE);             /* not present */
	set(root + 3 * PAGE + 32, (PAGES * PAGE) | 0x63); /* no memory */
}

static void mappings(void **state)
{
	const struct guest_memory memory = memory_of();
	struct kvm_sregs sregs = long_mode(2 * PAGE);
	struct core_mapping found[4];

	(void)state;
	make_tables(2 * PAGE);
	assert_int_equal(core_mappings_find(&memory, &sregs, found, 4), 2);
	assert_true(found[0].address == UINT64_C(0xffffffff80000000) && found[0].physical == 10 * PAGE &&
		    found[0].bytes == 2 * PAGE);
	assert_true(found[1].address == UINT64_C(0xffffffff80002000) && found[1].physical == HIGH + 5 * PAGE &&
		    found[1].bytes == PAGE);
	assert_int_equal(core_mappings_find(&memory, &sregs, found, 1), 1);
	/* the user-mode tables are in the next page, and map none of it */
	sregs.cr3 = 3 * PAGE;
	assert_int_equal(core_mappings_find(&memory, &sregs, found, 4), 2);
	sregs.efer = 0;
	assert_int_equal(core_mappings_find(&memory, &sregs, found, 4), 0);
}

/* A table with only references to itself describes 2^36 pages: the walk must still end. */
static void tables_in_a_circle(void **state)
{
	const struct guest_memory memory = memory_of();
	struct kvm_sregs sregs = long_mode(2 * PAGE);
	struct core_mapping found[64];

	(void)state;
	for (unsigned i = 0; i < 512; i++)
		set(2 * PAGE + 8 * i, 2 * PAGE | 0x63);
	assert_true(core_mappings_find(&memory, &sregs, found, 64) <= 64);
	/* and at the end of memory: a truncated table is ignored */
	sregs.cr3 = PAGES * PAGE;
	assert_int_equal(core_mappings_find(&memory, &sregs, found, 64), 0);
}

static void put_vmcoreinfo(uint8_t *at, const char *text, uint32_t bytes)
{
	const Elf64_Nhdr header = {.n_namesz = 11, .n_descsz = bytes};

	memcpy(at, &header, sizeof header);
	memcpy(at + sizeof header, "VMCOREINFO", 11);
	memcpy(at + sizeof header + 12, text, strlen(text));
}

static uint8_t *write_core(const struct core_source *source, struct core_result *result, size_t *bytes)
{
	struct riffle_error error;
	struct stat st;
	int fd = memfd_create("core", MFD_CLOEXEC);

	assert_int_equal(core_file_write(fd, source, result, &error), 0);
	assert_int_equal(fstat(fd, &st), 0);
	*bytes = (size_t)st.st_size;
	assert_true((uint64_t)st.st_blocks * 512 < 20 * PAGE); /* zeros are holes */
	uint8_t *core = mmap(NULL, *bytes, PROT_READ, MAP_PRIVATE, fd, 0);

	close(fd);
	assert_ptr_not_equal(core, MAP_FAILED);
	return core;
}

static void whole_file(void **state)
{
	struct core_vcpu vcpus[2] = {
	    {.sregs = {.cs = {.selector = 0x10}}, .regs = {.rip = 0x1234, .rsp = 0x5678, .r15 = 15}},
	    {.sregs = long_mode(2 * PAGE), .regs = {.rip = 0x9abc}}};
	const struct core_source source = {.memory = memory_of(), .vcpus = vcpus, .vcpu_count = 2};
	struct core_result result;
	size_t bytes;

	(void)state;
	make_tables(2 * PAGE);
	memcpy(low + 10 * PAGE + 100, "kernel", 6);
	memcpy(high + 5 * PAGE, "high", 4);
	high[PAGES * PAGE - 1] = 0x77;
	put_vmcoreinfo(low + 20 * PAGE + 1, "OSRELEASE=misaligned\n", 21);
	put_vmcoreinfo(low + 21 * PAGE, "NOT=it\n", 7);
	put_vmcoreinfo(low + 22 * PAGE + 8, "OSRELEASE=6.1\nX=1\n", 18);
	uint8_t *core = write_core(&source, &result, &bytes);
	const Elf64_Ehdr *header = (const void *)core;
	const Elf64_Phdr *segment = (const void *)(core + header->e_phoff);

	assert_true(result.vmcoreinfo);
	assert_int_equal(result.mappings, 2);
	assert_int_equal(header->e_phnum, 1 + 2 + 2);
	assert_int_equal(segment[0].p_type, PT_NOTE);
	assert_true(segment[2].p_paddr == HIGH && segment[2].p_filesz == PAGES * PAGE);
	assert_int_equal(segment[2].p_offset + segment[2].p_filesz, bytes);
	assert_int_equal(core[bytes - 1], 0x77);
	assert_memory_equal(core + segment[1].p_offset, low, PAGES * PAGE);
	assert_memory_equal(core + segment[3].p_offset + 100, "kernel", 6);
	assert_true(segment[3].p_vaddr == UINT64_C(0xffffffff80000000));
	assert_memory_equal(core + segment[4].p_offset, "high", 4);
	/* the notes: two vCPUs, then the kernel's */
	const uint8_t *note = core + segment[0].p_offset;
	struct elf_prstatus status;
	Elf64_Nhdr note_header;

	memcpy(&note_header, note, sizeof note_header);
	memcpy(&status, note + sizeof note_header + 8, sizeof status); /* aligned to 4 bytes only */
	const unsigned long long *registers = (const void *)&status.pr_reg;

	assert_int_equal(note_header.n_type, NT_PRSTATUS);
	assert_int_equal(registers[0], 15);
	assert_int_equal(registers[16], 0x1234);
	assert_int_equal(registers[17], 0x10);
	assert_int_equal(registers[19], 0x5678);
	note += 2 * (sizeof(Elf64_Nhdr) + 8 + sizeof status);
	assert_string_equal((const char *)note + sizeof(Elf64_Nhdr), "VMCOREINFO");
	assert_memory_equal(note + sizeof(Elf64_Nhdr) + 12, "OSRELEASE=6.1\nX=1\n", 18);
	munmap(core, bytes);
}

/* A note longer than memory is ignored; the file ends where memory does although that is zero. */
static void without_vmcoreinfo(void **state)
{
	struct core_vcpu vcpu = {0};
	const struct core_source source = {.memory = memory_of(), .vcpus = &vcpu, .vcpu_count = 1};
	struct core_result result;
	size_t bytes;

	(void)state;
	put_vmcoreinfo(low + (PAGES - 1) * PAGE, "OSRELEASE=6.1\n", PAGE - 23);
	uint8_t *core = write_core(&source, &result, &bytes);
	const Elf64_Phdr *segment = (const void *)(core + sizeof(Elf64_Ehdr));

	assert_false(result.vmcoreinfo);
	assert_int_equal(result.mappings, 0);
	assert_int_equal(segment[2].p_offset + segment[2].p_filesz, bytes);
	munmap(core, bytes);
	/* one byte less fits */
	put_vmcoreinfo(low + (PAGES - 1) * PAGE, "OSRELEASE=6.1\n", PAGE - 24);
	core = write_core(&source, &result, &bytes);
	assert_true(result.vmcoreinfo);
	munmap(core, bytes);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(mappings, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(tables_in_a_circle, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(whole_file, set_up, tear_down),
	    cmocka_unit_test_setup_teardown(without_vmcoreinfo, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

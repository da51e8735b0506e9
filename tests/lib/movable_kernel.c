/* SPDX-License-Identifier: Apache-2.0 */
/* Builds the smallest kernel that can be shuffled from its file alone: functions that call each other, tables,
 * kallsyms. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/bytes.h"
#include "tests/lib/kernels.h"

#define LINK_PHYS UINT64_C(0x1000000)
#define LINK (UINT64_C(0xffffffff80000000) + LINK_PHYS)
#define HEAD 0x1000u
#define FUNCTIONS TEST_MOVABLE_FUNCTIONS
#define DATA_SYMBOLS 24u
#define SYMBOLS (1 + FUNCTIONS + DATA_SYMBOLS)
#define IMAGE 0x5000u
#define FILE_START 0x1000u

enum { NONE, TEXT, EX_TABLE, ORC_IP, ORC, LOCKS, DATA, NAMES, SECTIONS };

struct movable {
	uint8_t image[IMAGE];
	Elf64_Shdr section[SECTIONS];
	uint32_t at; /* where the next table goes */
	uint32_t function[FUNCTIONS + 1];
	uint32_t reloc64[FUNCTIONS];
};

static void put_distance(struct movable *m, uint32_t field, uint32_t target)
{
	riffle_put32(m->image + field, target - field);
}

static void make_text(struct movable *m)
{
	uint32_t at = HEAD;

	memset(m->image, 0xcc, HEAD);
	m->image[0] = 0xf4; /* hlt, and again */
	m->image[1] = 0xeb;
	m->image[2] = 0xfd;
	for (uint32_t i = 0; i < FUNCTIONS; i++) {
		m->function[i] = at;
		at += 32 + i % 3 * 16;
	}
	m->function[FUNCTIONS] = at;
	for (uint32_t i = 0; i < FUNCTIONS; i++) {
		uint8_t *code = m->image + m->function[i];

		memset(code, 0xcc, m->function[i + 1] - m->function[i]);
		code[0] = 0xf0; /* lock decl (%rdi) */
		memcpy(code + 1, "\xff\x0f", 2);
		code[3] = 0xe8; /* call */
		riffle_put32(code + 4, m->function[(i * 7 + 3) % FUNCTIONS] - (m->function[i] + 8));
		memcpy(code + 8, "\x48\xc7\xc0", 3); /* mov $number, %rax */
		riffle_put32(code + 11, i);
		code[15] = 0xc3;
	}
	m->at = (at + 15) & ~15u;
}

static void add_section(struct movable *m, unsigned index, uint32_t start, uint32_t bytes, uint64_t flags)
{
	m->section[index] = (Elf64_Shdr){.sh_type = SHT_PROGBITS,
					 .sh_flags = SHF_ALLOC | flags,
					 .sh_addr = LINK + start,
					 .sh_offset = FILE_START + start,
					 .sh_size = bytes,
					 .sh_addralign = 1};
}

static void make_tables(struct movable *m)
{
	uint32_t at = m->at, state;

	add_section(m, TEXT, 0, m->function[FUNCTIONS], SHF_EXECINSTR);
	add_section(m, EX_TABLE, at, FUNCTIONS / 2 * 12, 0);
	for (uint32_t i = 0; i < FUNCTIONS / 2; i++, at += 12) {
		put_distance(m, at, m->function[2 * i] + 3);
		put_distance(m, at + 4, m->function[FUNCTIONS - 1 - i] + 15);
		riffle_put32(m->image + at + 8, 1);
	}
	state = at + (FUNCTIONS + 1) * 4;
	add_section(m, ORC_IP, at, (FUNCTIONS + 1) * 4, 0);
	add_section(m, ORC, state, (FUNCTIONS + 1) * 6, 0);
	for (uint32_t i = 0; i <= FUNCTIONS; i++) {
		put_distance(m, at + 4 * i, m->function[i]);
		memset(m->image + state + 6 * i, (int)i, 6);
	}
	at = (state + (FUNCTIONS + 1) * 6 + 7) & ~7u;
	add_section(m, LOCKS, at, FUNCTIONS * 4, 0);
	for (uint32_t i = 0; i < FUNCTIONS; i++, at += 4)
		put_distance(m, at, m->function[i]);
	at = (at + 7) & ~7u;
	add_section(m, DATA, at, FUNCTIONS * 8, SHF_WRITE);
	for (uint32_t i = 0; i < FUNCTIONS; i++, at += 8) {
		m->reloc64[i] = at;
		riffle_put64(m->image + at, LINK + m->function[(i * 5) % FUNCTIONS]);
	}
	m->at = at;
}

static uint32_t symbol_offset(const struct movable *m, uint32_t i)
{
	if (!i)
		return 0;
	return i <= FUNCTIONS ? m->function[i - 1] : m->reloc64[0] + 8 * (i - 1 - FUNCTIONS);
}

/* As 7.2 has it; each code stands for the letter that it is. */
static void make_kallsyms(struct movable *m)
{
	uint32_t names = m->at + 4, at = names, markers, index, used = 0;

	riffle_put32(m->image + m->at, SYMBOLS);
	for (uint32_t i = 0; i < SYMBOLS; i++) {
		char name[16];
		int bytes = i ? snprintf(name, sizeof name, i <= FUNCTIONS ? "tfunction%02u" : "dobject%02u", i)
			      : snprintf(name, sizeof name, "T_text");

		m->image[at++] = (uint8_t)bytes;
		memcpy(m->image + at, name, (size_t)bytes);
		at += (uint32_t)bytes;
	}
	markers = (at + 3) & ~3u; /* one, and it is 0 */
	at = markers + 4;
	index = (at + 256 + ('~' - '!' + 1) + 3) & ~3u;
	for (unsigned code = 0; code < 256; code++) {
		riffle_put16(m->image + index + 2 * code, (uint16_t)used);
		if (code >= '!' && code <= '~')
			m->image[at + used++] = (uint8_t)code;
		used++;
	}
	at = index + 512;
	for (uint32_t i = 0; i < SYMBOLS; i++, at += 4)
		put_distance(m, at, symbol_offset(m, i));
	for (uint32_t i = 0; i < SYMBOLS; i++, at += 3)
		m->image[at + 2] = (uint8_t)(SYMBOLS - 1 - i);
	if (at > IMAGE)
		abort();
}

void test_movable_kernel(struct test_bytes *file)
{
	static const char names[] = "\0.text\0__ex_table\0.orc_unwind_ip\0.orc_unwind\0.smp_locks\0.data\0.shstrtab";
	const Elf64_Phdr segment = {PT_LOAD, PF_R | PF_W | PF_X, FILE_START, LINK, LINK_PHYS,
				    IMAGE,   2 * IMAGE,          0x200000};
	Elf64_Ehdr header = {.e_ident = ELFMAG,
			     .e_type = ET_EXEC,
			     .e_machine = EM_X86_64,
			     .e_version = EV_CURRENT,
			     .e_entry = LINK_PHYS,
			     .e_phoff = sizeof header,
			     .e_ehsize = sizeof header,
			     .e_phentsize = sizeof segment,
			     .e_phnum = 1,
			     .e_shentsize = sizeof(Elf64_Shdr),
			     .e_shnum = SECTIONS,
			     .e_shstrndx = NAMES,
			     .e_shoff = FILE_START + IMAGE};
	struct movable *m = calloc(1, sizeof *m);

	if (!m)
		abort();
	header.e_ident[EI_CLASS] = ELFCLASS64;
	header.e_ident[EI_DATA] = ELFDATA2LSB;
	header.e_ident[EI_VERSION] = EV_CURRENT;
	make_text(m);
	make_tables(m);
	make_kallsyms(m);
	m->section[NAMES] = (Elf64_Shdr){
	    .sh_type = SHT_STRTAB, .sh_offset = header.e_shoff + sizeof m->section, .sh_size = sizeof names};
	for (unsigned i = 1, at = 1; i < SECTIONS; i++, at += (unsigned)strlen(names + at) + 1)
		m->section[i].sh_name = at;
	test_bytes_add(file, &header, sizeof header);
	test_bytes_add(file, &segment, sizeof segment);
	test_bytes_zero(file, FILE_START - file->count);
	test_bytes_add(file, m->image, IMAGE);
	test_bytes_add(file, m->section, sizeof m->section);
	test_bytes_add(file, names, sizeof names);
	/* the relocation list: 64-bit fields, then no others */
	test_bytes_word(file, 0);
	for (unsigned i = 0; i < FUNCTIONS; i++)
		test_bytes_word(file, (uint32_t)LINK + m->reloc64[i]);
	test_bytes_word(file, 0);
	free(m);
}

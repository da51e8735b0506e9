/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Builds the smallest kernel that can be shuffled from its file alone: functions that call each other, tables,
 * kallsyms. One whose sections can slide apart as well: on pages of their own, with fields that lead from one to
 * another. And one that also has the tables of a kernel's own patching, with code for each of their entries.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/bytes.h"
#include "tests/lib/kernels.h"

#define LINK_PHYS UINT64_C(0x1000000)
#define LINK (UINT64_C(0xffffffff80000000) + LINK_PHYS)
#define HEAD 0x1000u
#define FULL_TEXT_AT 0x140u
#define FUNCTIONS TEST_MOVABLE_FUNCTIONS
#define DATA_SYMBOLS 24u
#define SYMBOLS_MAX 128u
#define IMAGE 0x5000u
#define FILE_START 0x1000u

/* where the blocks of a sliding kernel begin */
enum {
	RODATA_AT = 0x2000,
	DATA_AT = 0x5000,
	INIT_AT = 0x6000,
	INIT_TEXT_AT = 0x7000,
	BSS_AT = 0x8000,
	BRK_AT = 0xa000,
	SLIDING_END = 0xc000
};
#define INIT_FUNCTIONS 4u
/* behind them one that creates /proc/kallsyms by a function of .text; the file's name is behind the objects */
#define CREATOR 5u
#define NAME_AT (DATA_AT + 8 * FUNCTIONS)
#define TRACEPOINTS 3u
#define MCOUNTS (FUNCTIONS / 3)

/* what a function of the full kernel has, by its place in the function; 32 bytes in all */
enum { IN_LABEL = 15, IN_BUG = 20, IN_CALL = 22, IN_RETURN = 27 };

enum { NONE, TEXT, EX_TABLE, ORC_IP, ORC, LOCKS, DATA, NAMES, SECTIONS };
/* in a sliding kernel, after those */
enum { RODATA = SECTIONS, KSYMTAB, STRINGS, INIT_TEXT, BSS, BRK, SLIDING_SECTIONS };
/* in a full one, after those */
enum {
	ALTERNATIVES = SLIDING_SECTIONS,
	REPLACEMENTS,
	BUGS,
	LABELS,
	CALLS,
	FIXUPS,
	RETPOLINES,
	RETURNS,
	MCOUNT,
	CONSTANTS,
	SEALS,
	CFI_SITES,
	FULL_SECTIONS
};

static const char section_names[] =
    "\0.text\0__ex_table\0.orc_unwind_ip\0.orc_unwind\0.smp_locks\0.data\0.shstrtab\0.rodata\0__ksymtab\0"
    "__ksymtab_strings\0.init.text\0.bss\0.brk\0"
    ".altinstructions\0.altinstr_replacement\0__bug_table\0__jump_table\0.static_call_sites\0.pci_fixup\0"
    ".retpoline_sites\0.return_sites\0__mcount_loc\0runtime_ptr_USER_PTR_MAX\0.ibt_endbr_seal\0.cfi_sites";

struct movable {
	bool slides, full;
	const struct test_name *name; /* of functions, in place of their own */
	unsigned names;
	uint8_t image[BSS_AT];
	Elf64_Shdr section[FULL_SECTIONS];
	uint32_t at; /* where the next table goes */
	uint32_t function[FUNCTIONS + 1], init_function[INIT_FUNCTIONS];
	uint32_t reloc64[FUNCTIONS], reloc32[INIT_FUNCTIONS], mcount, initcalls, tracepoints;
	struct {
		char name[40]; /* the type first */
		uint32_t offset;
	} symbol[SYMBOLS_MAX]; /* ascending */
	uint32_t symbols;
};

static void put_distance(struct movable *m, uint32_t field, uint32_t target)
{
	riffle_put32(m->image + field, target - field);
}

/* A label, a bug, a call and the jump to the return thunk. */
static void make_patched(struct movable *m, uint32_t i)
{
	uint8_t *code = m->image + m->function[i];

	memcpy(code + IN_LABEL, "\x0f\x1f\x44\x00\x00", 5);
	memcpy(code + IN_BUG, "\x0f\x0b", 2);
	code[IN_CALL] = 0xe8;
	put_distance(m, m->function[i] + IN_CALL + 1, m->function[(i * 11 + 5) % FUNCTIONS] - 4);
	code[IN_RETURN] = 0xe9;
	put_distance(m, m->function[i] + IN_RETURN + 1, m->function[FUNCTIONS - 1] - 4);
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
		if (m->slides) { /* or mov object(%rip), %rax */
			memcpy(code + 8, "\x48\x8b\x05", 3);
			riffle_put32(code + 11, DATA_AT + 8 * i - (m->function[i] + 15));
		}
		code[15] = 0xc3;
		if (m->full)
			make_patched(m, i);
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

/* Begins a table of `entries` in the full kernel; returns where. */
static uint32_t begin_table(struct movable *m, unsigned section, uint32_t entries, uint32_t bytes, uint64_t flags)
{
	uint32_t at = (m->at + 7) & ~7u;

	add_section(m, section, at, entries * bytes, flags);
	m->at = at + entries * bytes;
	return at;
}

/* In front of all sorted tables, though it is read after them. */
static void make_mcount(struct movable *m)
{
	uint32_t at = m->mcount = begin_table(m, MCOUNT, MCOUNTS, 8, 0);

	for (uint32_t i = 0; i < MCOUNTS; i++, at += 8)
		riffle_put64(m->image + at, LINK + m->function[3 * i + 2] + IN_LABEL);
}

static void make_rodata(struct movable *m)
{
	uint32_t at, state;

	if (m->full)
		make_mcount(m);
	at = m->at;
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
	m->at = (state + (FUNCTIONS + 1) * 6 + 7) & ~7u;
}

static void make_data(struct movable *m)
{
	uint32_t at = m->at;

	add_section(m, LOCKS, at, FUNCTIONS * 4, 0);
	for (uint32_t i = 0; i < FUNCTIONS; i++, at += 4)
		put_distance(m, at, m->function[i]);
	at = (at + 7) & ~7u;
	if (m->slides)
		at = DATA_AT;
	add_section(m, DATA, at, FUNCTIONS * 8 + (m->slides ? 16 : 0), SHF_WRITE);
	for (uint32_t i = 0; i < FUNCTIONS; i++, at += 8) {
		m->reloc64[i] = at;
		riffle_put64(m->image + at, LINK + m->function[(i * 5) % FUNCTIONS]);
	}
	if (!m->slides)
		m->at = at;
	if (m->slides) /* of its own block, of the one before, and of what has no bytes in the file */
		for (uint32_t i = 0; i < 3; i++)
			riffle_put64(m->image + m->reloc64[7 * i],
				     LINK + (uint32_t[]){DATA_AT + 8, RODATA_AT, BSS_AT}[i]);
}

/* Exported: each function's address, its name, and no name space. */
static void make_ksymtab(struct movable *m)
{
	uint32_t names = m->at + FUNCTIONS * 12, at = names;

	add_section(m, KSYMTAB, m->at, FUNCTIONS * 12, 0);
	for (uint32_t i = 0; i < FUNCTIONS; i++) {
		put_distance(m, m->at + 12 * i, i % 4 ? m->function[i] : DATA_AT + 8 * i);
		put_distance(m, m->at + 12 * i + 4, at);
		put_distance(m, m->at + 12 * i + 8, names - 1);
		at += (uint32_t)sprintf((char *)m->image + at, "name_%02u", i) + 1;
	}
	m->image[at++] = 0;
	add_section(m, STRINGS, names, at - names, 0);
	m->at = (at + 7) & ~7u;
}

static void make_kallsyms_init(struct movable *m, uint32_t at)
{
	uint8_t *code = m->image + at;

	memset(code, 0xcc, 32);
	memcpy(code, "\xbe\x24\x01\x00\x00\x48\x8d\x3d", 8); /* mov $0444, %esi; lea name(%rip), %rdi */
	riffle_put32(code + 8, NAME_AT - (at + 12));
	code[12] = 0xe8; /* call */
	riffle_put32(code + 13, m->function[CREATOR] - (at + 17));
	code[17] = 0xc3;
	memcpy(m->image + NAME_AT, "kallsyms", 9);
}

/* Functions that run once, and use text, read-only data and data. */
static void make_init(struct movable *m)
{
	uint32_t at = INIT_TEXT_AT;

	add_section(m, INIT_TEXT, at, (INIT_FUNCTIONS + 1) * 32, SHF_EXECINSTR);
	for (uint32_t i = 0; i < INIT_FUNCTIONS; i++, at += 32) {
		uint8_t *code = m->image + at;

		m->init_function[i] = at;
		memset(code, 0xcc, 32);
		code[0] = 0xe8; /* call */
		riffle_put32(code + 1, m->function[11 * i] - (at + 5));
		memcpy(code + 5, "\x48\x8d\x3d", 3); /* lea object(%rip), %rdi */
		riffle_put32(code + 8, DATA_AT + 16 * i - (at + 12));
		memcpy(code + 12, "\x48\x8d\x35", 3); /* lea something(%rip), %rsi */
		riffle_put32(code + 15, (i % 2 ? BSS_AT + 64 : RODATA_AT) - (at + 19));
		code[19] = 0xc3;
		if (!m->full)
			continue;
		memcpy(code + 19, "\x48\xc7\xc7", 3); /* mov $function, %rdi */
		m->reloc32[i] = at + 22;
		riffle_put32(code + 22, (uint32_t)LINK + m->function[9 * i + 2]);
		code[26] = 0xc3;
	}
	make_kallsyms_init(m, at);
	m->section[BSS] = (Elf64_Shdr){.sh_type = SHT_NOBITS,
				       .sh_flags = SHF_ALLOC | SHF_WRITE,
				       .sh_addr = LINK + BSS_AT,
				       .sh_size = BRK_AT - BSS_AT,
				       .sh_addralign = 4096};
	m->section[BRK] = m->section[BSS];
	m->section[BRK].sh_addr = LINK + BRK_AT;
	m->section[BRK].sh_size = SLIDING_END - BRK_AT;
}

/* The first three bytes of some functions, the last instruction of others; by code that is as long or longer. */
static void make_alternatives(struct movable *m)
{
	const uint32_t count = FUNCTIONS / 3, code = begin_table(m, REPLACEMENTS, count, 7, SHF_EXECINSTR);
	uint32_t at = begin_table(m, ALTERNATIVES, count, 14, 0);

	for (uint32_t i = 0; i < count; i++, at += 14) {
		bool last = i % 2;

		memcpy(m->image + code + 7 * i, last ? "\x66\x90\xe9" : "\xff\x0f\x90\x90\x90\x90\x90", last ? 3 : 7);
		if (last)
			put_distance(m, code + 7 * i + 3, m->function[i + 9] - 4);
		put_distance(m, at, m->function[3 * i + 1] + (last ? IN_RETURN : 0));
		put_distance(m, at + 4, code + 7 * i);
		riffle_put32(m->image + at + 8, 7 * 32 + i);
		m->image[at + 12] = last ? 5 : 3;
		m->image[at + 13] = last ? 7 : 3;
	}
}

static void make_sites(struct movable *m)
{
	uint32_t at = begin_table(m, BUGS, FUNCTIONS / 2, 12, SHF_WRITE);

	for (uint32_t i = 0; i < FUNCTIONS / 2; i++, at += 12) {
		put_distance(m, at, m->function[2 * i] + IN_BUG);
		put_distance(m, at + 4, (uint32_t)(m->section[STRINGS].sh_addr - LINK) + 8 * i);
		riffle_put32(m->image + at + 8, 100 + i);
	}
	at = begin_table(m, LABELS, FUNCTIONS / 3, 16, SHF_WRITE);
	for (uint32_t i = 0; i < FUNCTIONS / 3; i++, at += 16) {
		put_distance(m, at, m->function[3 * i] + IN_LABEL);
		put_distance(m, at + 4, m->function[3 * i] + IN_CALL);
		riffle_put64(m->image + at + 8, (uint64_t)DATA_AT + 8 * i - (at + 8));
	}
	at = begin_table(m, CALLS, FUNCTIONS / 4, 8, SHF_WRITE);
	for (uint32_t i = 0; i < FUNCTIONS / 4; i++, at += 8) {
		put_distance(m, at, m->function[4 * i + 1] + IN_CALL);
		put_distance(m, at + 4, DATA_AT + 16 * i);
	}
	at = begin_table(m, FIXUPS, 5, 16, 0);
	for (uint32_t i = 0; i < 5; i++, at += 16) {
		riffle_put32(m->image + at, 0x8086 + i);
		put_distance(m, at + 12, m->function[7 * i]);
	}
	at = begin_table(m, RETPOLINES, FUNCTIONS / 4, 4, 0);
	for (uint32_t i = 0; i < FUNCTIONS / 4; i++, at += 4)
		put_distance(m, at, m->function[4 * i] + IN_CALL);
	at = begin_table(m, RETURNS, FUNCTIONS, 4, 0);
	for (uint32_t i = 0; i < FUNCTIONS; i++, at += 4)
		put_distance(m, at, m->function[i] + IN_RETURN);
	at = begin_table(m, CONSTANTS, 6, 4, 0);
	for (uint32_t i = 0; i < 6; i++, at += 4)
		put_distance(m, at, m->function[5 * i] + IN_CALL + 1);
	at = begin_table(m, SEALS, 3, 4, 0);
	for (uint32_t i = 0; i < 3; i++, at += 4) /* an instruction inside a function, and two that begin one */
		put_distance(m, at, m->function[20 + 3 * i] + (i ? 0 : IN_LABEL));
	at = begin_table(m, CFI_SITES, 2, 4, 0);
	for (uint32_t i = 0; i < 2; i++, at += 4)
		put_distance(m, at, m->function[8 + i]);
	m->initcalls = m->at = (m->at + 7) & ~7u;
	for (uint32_t i = 0; i < INIT_FUNCTIONS; i++, m->at += 4)
		put_distance(m, m->at, m->init_function[i]);
	m->tracepoints = m->at;
	for (uint32_t i = 0; i < TRACEPOINTS; i++, m->at += 4)
		put_distance(m, m->at, BSS_AT + 16 * i);
	if (m->at > INIT_TEXT_AT)
		abort();
}

/* What the kernel patches itself by, in the part of .init that is data. */
static void make_patching(struct movable *m)
{
	uint32_t before = m->at;

	m->at = INIT_AT;
	make_alternatives(m);
	make_sites(m);
	m->at = before;
}

static void insert_symbol(struct movable *m, uint32_t offset, const char *name)
{
	uint32_t at = m->symbols++;

	if (at == SYMBOLS_MAX)
		abort();
	for (; at && m->symbol[at - 1].offset > offset; at--)
		m->symbol[at] = m->symbol[at - 1];
	m->symbol[at].offset = offset;
	snprintf(m->symbol[at].name, sizeof m->symbol->name, "%s", name);
}

/* Unless the test has another place for it. */
static void add_symbol(struct movable *m, uint32_t offset, const char *name)
{
	for (unsigned i = 0; i < m->names; i++)
		if (m->name[i].function == TEST_NO_FUNCTION && !strcmp(m->name[i].name, name + 1))
			return;
	insert_symbol(m, offset, name);
}

static void add_numbered(struct movable *m, uint32_t offset, const char *name, uint32_t number)
{
	char whole[24];

	snprintf(whole, sizeof whole, "%s%02u", name, number);
	add_symbol(m, offset, whole);
}

static void insert_named(struct movable *m, uint32_t offset, char type, const char *name)
{
	char whole[sizeof m->symbol->name];

	snprintf(whole, sizeof whole, "%c%s", type, name);
	insert_symbol(m, offset, whole);
}

static void name_function(struct movable *m, uint32_t i)
{
	bool named = false;

	for (unsigned k = 0; k < m->names; k++)
		if (m->name[k].function == i) {
			insert_named(m, m->function[i] + m->name[k].into, 't', m->name[k].name);
			named = true;
		}
	if (!named)
		add_numbered(m, m->function[i], "tfunction", i + 1);
}

static void name_places(struct movable *m)
{
	for (unsigned i = 0; i < m->names; i++)
		if (m->name[i].function == TEST_NO_FUNCTION && m->name[i].into != TEST_NOWHERE)
			insert_named(m, m->name[i].into, 'D', m->name[i].name);
}

static void name_symbols(struct movable *m)
{
	add_symbol(m, 0, "T_text");
	for (uint32_t i = 0; i < FUNCTIONS; i++)
		if (m->slides && i == CREATOR)
			add_symbol(m, m->function[i], "Tproc_create");
		else
			name_function(m, i);
	if (m->slides) {
		add_symbol(m, m->function[FUNCTIONS], "T_etext");
		add_symbol(m, RODATA_AT, "R__start_rodata");
		add_symbol(m, DATA_AT, "D_sdata");
	}
	for (uint32_t i = 0; i < DATA_SYMBOLS; i++)
		add_numbered(m, m->reloc64[2 * i], "dobject", i);
	if (!m->slides)
		return;
	add_symbol(m, INIT_AT, "D__init_begin");
	if (m->full) {
		add_symbol(m, m->initcalls, "D__initcall_start");
		add_symbol(m, m->initcalls + 4 * INIT_FUNCTIONS, "D__initcall_end");
		add_symbol(m, m->tracepoints, "D__start___tracepoints_ptrs");
		add_symbol(m, m->tracepoints + 4 * TRACEPOINTS, "D__stop___tracepoints_ptrs");
	}
	add_symbol(m, INIT_TEXT_AT, "T_sinittext");
	for (uint32_t i = 0; i < INIT_FUNCTIONS; i++)
		add_numbered(m, m->init_function[i], "tinit", i);
	add_symbol(m, INIT_TEXT_AT + INIT_FUNCTIONS * 32, "tkallsyms_init");
	add_symbol(m, BSS_AT, "B__init_end");
	add_symbol(m, BSS_AT, "B__bss_start");
	add_symbol(m, BSS_AT + 64, "bcleared");
	add_symbol(m, BRK_AT, "B__brk_base");
}

/* As 7.2 has it; each code stands for the letter that it is. */
static void make_kallsyms(struct movable *m)
{
	uint32_t start = m->at, names = start + 4, at = names, markers, index, used = 0;

	riffle_put32(m->image + start, m->symbols);
	for (uint32_t i = 0; i < m->symbols; i++) {
		uint32_t bytes = (uint32_t)strlen(m->symbol[i].name);

		m->image[at++] = (uint8_t)bytes;
		memcpy(m->image + at, m->symbol[i].name, bytes);
		at += bytes;
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
	for (uint32_t i = 0; i < m->symbols; i++, at += 4)
		put_distance(m, at, m->symbol[i].offset);
	for (uint32_t i = 0; i < m->symbols; i++, at += 3)
		m->image[at + 2] = (uint8_t)(m->symbols - 1 - i);
	if (at > (m->slides ? DATA_AT : IMAGE))
		abort();
	if (m->slides)
		add_section(m, RODATA, start, at - start, 0);
}

static void make_all(struct movable *m)
{
	uint32_t start;

	make_text(m);
	/* no kernel's starts elsewhere, but offsets in the image and in the text are not the same */
	start = m->full ? FULL_TEXT_AT : 0;
	add_section(m, TEXT, start, m->function[FUNCTIONS] - start, SHF_EXECINSTR);
	if (m->slides)
		m->at = RODATA_AT;
	make_rodata(m);
	if (m->slides) {
		make_ksymtab(m);
		make_init(m);
	}
	make_data(m);
	if (m->slides)
		m->at += FUNCTIONS * 4; /* the locks */
	if (m->full)
		make_patching(m);
	name_symbols(m);
	name_places(m);
	make_kallsyms(m);
}

static void write_file(struct test_bytes *file, bool slides, bool full, const struct test_name *name, unsigned names)
{
	const uint32_t bytes = slides ? BSS_AT : IMAGE;
	const unsigned sections = full ? FULL_SECTIONS : slides ? SLIDING_SECTIONS : SECTIONS;
	const Elf64_Phdr segment = {
	    PT_LOAD, PF_R | PF_W | PF_X, FILE_START, LINK, LINK_PHYS, bytes, slides ? SLIDING_END : 2 * IMAGE,
	    0x200000};
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
			     .e_shnum = (uint16_t)sections,
			     .e_shstrndx = NAMES,
			     .e_shoff = FILE_START + bytes};
	struct movable *m = calloc(1, sizeof *m);

	if (!m)
		abort();
	header.e_ident[EI_CLASS] = ELFCLASS64;
	header.e_ident[EI_DATA] = ELFDATA2LSB;
	header.e_ident[EI_VERSION] = EV_CURRENT;
	m->slides = slides;
	m->full = full;
	m->name = name;
	m->names = names;
	make_all(m);
	m->section[NAMES] = (Elf64_Shdr){.sh_type = SHT_STRTAB,
					 .sh_offset = header.e_shoff + sections * sizeof *m->section,
					 .sh_size = sizeof section_names};
	for (unsigned i = 1, at = 1; i < sections; i++, at += (unsigned)strlen(section_names + at) + 1)
		m->section[i].sh_name = at;
	test_bytes_add(file, &header, sizeof header);
	test_bytes_add(file, &segment, sizeof segment);
	test_bytes_zero(file, FILE_START - file->count);
	test_bytes_add(file, m->image, bytes);
	test_bytes_add(file, m->section, sections * sizeof *m->section);
	test_bytes_add(file, section_names, sizeof section_names);
	/* the relocation list: 64-bit fields, then those of 32 bits */
	test_bytes_word(file, 0);
	for (unsigned i = 0; i < MCOUNTS && full; i++)
		test_bytes_word(file, (uint32_t)LINK + m->mcount + 8 * i);
	for (unsigned i = 0; i < FUNCTIONS; i++)
		test_bytes_word(file, (uint32_t)LINK + m->reloc64[i]);
	test_bytes_word(file, 0);
	for (unsigned i = 0; i < INIT_FUNCTIONS && full; i++)
		test_bytes_word(file, (uint32_t)LINK + m->reloc32[i]);
	free(m);
}

void test_movable_kernel(struct test_bytes *file)
{
	write_file(file, false, false, NULL, 0);
}

void test_sliding_kernel(struct test_bytes *file)
{
	write_file(file, true, false, NULL, 0);
}

void test_full_kernel(struct test_bytes *file, const struct test_name *name, unsigned names)
{
	write_file(file, true, true, name, names);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The symbol table, System.map and ELF as its sources, and logs mapped back to link addresses. */
#include <elf.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/bytes.h"
#include "prepare/symbols/annotate.h"

#define LINK UINT64_C(0xffffffff81000000)
#define BYTES UINT64_C(0x200000)

static struct riffle_error error;

/* What happens to the chosen read of a file: a shorter one, a file that ends there, or an error. */
enum mishap { NOTHING, SHORT_READ, END_OF_FILE, INTERRUPTED, FAILS };

static enum mishap mishap;
static unsigned mishap_after;

ssize_t __real_pread64(int fd, void *buffer, size_t bytes, off_t offset);
ssize_t __wrap_pread64(int fd, void *buffer, size_t bytes, off_t offset);

ssize_t __wrap_pread64(int fd, void *buffer, size_t bytes, off_t offset)
{
	enum mishap now = NOTHING;

	if (mishap != NOTHING && mishap_after-- == 0) {
		now = mishap;
		mishap = NOTHING;
	}
	if (now == SHORT_READ)
		bytes = 1;
	if (now == END_OF_FILE)
		return 0;
	if (now == INTERRUPTED || now == FAILS) {
		errno = now == FAILS ? EIO : EINTR;
		return -1;
	}
	return __real_pread64(fd, buffer, bytes, offset);
}

static void expect_place(const struct symbols *symbols, uint64_t address, const char *name, uint64_t offset,
			 uint64_t bytes)
{
	struct symbol_place place;

	assert_true(symbols_find(&place, symbols, address));
	assert_string_equal(place.name, name);
	assert_int_equal(place.offset, offset);
	assert_int_equal(place.bytes, bytes);
}

/* --- System.map --- */

static int read_map(struct symbols *symbols, const char *text)
{
	char *exact = malloc(strlen(text) + 1);
	int status;

	assert_non_null(exact);
	memcpy(exact, text, strlen(text));
	symbols_init(symbols, LINK, LINK + BYTES);
	status = symbols_from_system_map(symbols, exact, strlen(text), &error);
	free(exact);
	return status;
}

static const char map[] = "0000000000000000 A __per_cpu_start\n"
			  "0000000000015000 D current_task\n"
			  "ffffffff81000040 t local\n"
			  "ffffffff81000000 T __underscored\n"
			  "ffffffff81000000 T startup_64\n"
			  "ffffffff81000000 t _alias\n"
			  "ffffffff81000100 W weak\n"
			  "ffffffff81000100 T strong\n"
			  "ffffffff81000200 t mod_fn\t[mod]\n"
			  "ffffffffc0000000 t far_away\n";

static void test_system_map(void **state)
{
	struct symbols symbols;
	struct symbol_place place;

	(void)state;
	assert_int_equal(read_map(&symbols, map), RIFFLE_OK);
	assert_int_equal(symbols.count, 4);
	expect_place(&symbols, LINK, "startup_64", 0, 0x40);
	expect_place(&symbols, LINK + 0x3f, "startup_64", 0x3f, 0x40);
	expect_place(&symbols, LINK + 0x40, "local", 0, 0xc0);
	expect_place(&symbols, LINK + 0x100, "strong", 0, 0x100);
	expect_place(&symbols, LINK + BYTES - 1, "mod_fn", BYTES - 0x201, BYTES - 0x200);
	assert_false(symbols_find(&place, &symbols, LINK - 1));
	assert_false(symbols_find(&place, &symbols, LINK + BYTES));
	assert_false(symbols_find(&place, &symbols, 0));
	symbols_free(&symbols);

	/* an address below the first symbol has no name */
	assert_int_equal(read_map(&symbols, "ffffffff81000040 t only\n\n"), RIFFLE_OK);
	assert_false(symbols_find(&place, &symbols, LINK + 0x3f));
	symbols_free(&symbols);
}

static void test_system_map_refused(void **state)
{
	static const char *const broken[] = {
	    "ffffffff81000000 T a\nELF\n",
	    "ffffffff81000000 T a\nffffffff81000000 T \n",
	    "ffffffff81000000 T a\nffffffff81000000T b\n",
	    "ffffffff81000000 T a\nffffffff81000000 TT b\n",
	    "ffffffff81000000 T a\n81 T b\n",
	    "ffffffff81000000 T a\nffffffff81000000 T a\x1b[31m\n",
	    "ffffffff81000000 T a\nffffffff81000000 T",
	    "ffffffff81000000 T a\nffffffff81000000",
	    "ffffffff81000000 T a\nffffffff8100000000 T b",
	};
	struct symbols symbols;

	(void)state;
	for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
		assert_int_equal(read_map(&symbols, broken[i]), RIFFLE_ERR_FORMAT);
		assert_string_equal(error.field, "System.map");
		assert_int_equal(error.found, 2);
		symbols_free(&symbols);
	}
	/* Debian's stand-in, and an empty file */
	assert_int_equal(read_map(&symbols, "ffffffffffffffff B The_real_System.map_is_elsewhere\n"),
			 RIFFLE_ERR_FORMAT);
	assert_string_equal(error.field, "symbols");
	symbols_free(&symbols);
	assert_int_equal(read_map(&symbols, ""), RIFFLE_ERR_FORMAT);
	symbols_free(&symbols);
}

/* What an address, a type and a name may be made of: a line that is just a System.map's, and one that is just not. */
static void test_system_map_lines(void **state)
{
	static const struct {
		const char *line;
		const char *name; /* NULL: refused */
		uint64_t address;
	} rows[] = {
	    {"01234567 T a", "a", 0x01234567},
	    {"89abcdef T a", "a", 0x89abcdef},
	    {"89ABCDEF T a", "a", 0x89abcdef},
	    {"0123456 T a", NULL, 0},
	    {"0123456789abcdef T a", "a", UINT64_C(0x0123456789abcdef)},
	    {"00123456789abcdef T a", NULL, 0},
	    {"0123456/ T a", NULL, 0},
	    {"0123456: T a", NULL, 0},
	    {"0123456@ T a", NULL, 0},
	    {"0123456G T a", NULL, 0},
	    {"0123456` T a", NULL, 0},
	    {"0123456g T a", NULL, 0},
	    {"01234567-T a", NULL, 0},
	    {"01234567 T-a", NULL, 0},
	    {"01234567 T ", NULL, 0},
	    {"01234567 T", NULL, 0},
	    {"01234567 ", NULL, 0},
	    {"01234567", NULL, 0},
	    {"01234567 T a b", NULL, 0},
	    {"01234567 T a\x1f", NULL, 0},
	    {"01234567 T a\x7f", NULL, 0},
	    {"01234567 T !~", "!~", 0x01234567},
	    {"01234567 T a\x80\xff", "a??", 0x01234567},
	    {"01234567 T name\t[mod]", "name", 0x01234567},
	    {"01234567 T \t[mod]", NULL, 0},
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		/* with a line feed, without, after empty lines */
		for (unsigned kind = 0; kind < 3; kind++) {
			struct symbols symbols;
			char text[64], *exact;
			size_t bytes = (size_t)snprintf(text, sizeof text, "%s%s%s", kind == 2 ? "\n\n" : "",
							rows[i].line, kind ? "\n" : "");
			int status;

			exact = malloc(bytes);
			memcpy(exact, text, bytes);
			symbols_init(&symbols, 0, UINT64_MAX);
			status = symbols_from_system_map(&symbols, exact, bytes, &error);
			free(exact);
			if (!rows[i].name) {
				assert_int_equal(status, RIFFLE_ERR_FORMAT);
				assert_string_equal(error.field, "System.map");
				assert_int_equal(error.found, kind == 2 ? 3 : 1);
			} else {
				assert_int_equal(status, RIFFLE_OK);
				assert_int_equal(symbols.count, 1);
				expect_place(&symbols, rows[i].address, rows[i].name, 0, UINT64_MAX - rows[i].address);
			}
			symbols_free(&symbols);
		}
}

/* Of several symbols at an address the better one is shown, in whatever order they come; of equals the first. */
static void test_aliases(void **state)
{
	static const struct {
		const char *better, *worse;
		bool equal;
	} rows[] = {
	    {"T b", "t a", false},     {"A b", "w a", false},  {"V b", "W a", false},    {"A b", "a a", false},
	    {"T ___b", "t a", false},  {"T b", "T _a", false}, {"T _b", "T __a", false}, {"t b_", "t _a", false},
	    {"T b_____", "T a", true}, {"A b", "V a", true},   {"t b", "W a", true},     {"@ b", "w a", true},
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		for (unsigned second = 0; second < 2; second++) {
			struct symbols symbols;
			char text[128];
			const char *wanted = rows[i].equal && second ? rows[i].worse : rows[i].better;

			snprintf(text, sizeof text, "ffffffff81000000 %s\nffffffff81000000 %s\n",
				 second ? rows[i].worse : rows[i].better, second ? rows[i].better : rows[i].worse);
			assert_int_equal(read_map(&symbols, text), RIFFLE_OK);
			assert_int_equal(symbols.count, 1);
			expect_place(&symbols, LINK, wanted + 2, 0, BYTES);
			symbols_free(&symbols);
		}
}

/* Symbols up to the ends of the range; more of them, and longer names, than there was room for at first. */
static void test_tables_grow(void **state)
{
	struct symbols symbols;
	char *name = malloc(20000);

	(void)state;
	memset(name, 'n', 20000);
	symbols_init(&symbols, LINK, LINK + BYTES);
	assert_int_equal(symbols_add(&symbols, LINK - 1, 0, "below", 5, &error), RIFFLE_OK);
	assert_int_equal(symbols_add(&symbols, LINK + BYTES, 0, "above", 5, &error), RIFFLE_OK);
	assert_int_equal(symbols_add(&symbols, LINK, 0, "", 0, &error), RIFFLE_OK);
	assert_int_equal(symbols.count, 0);
	assert_int_equal(symbols_finish(&symbols, &error), RIFFLE_ERR_FORMAT);
	assert_int_equal(error.found, LINK);
	assert_int_equal(symbols_add(&symbols, LINK + BYTES - 1, 300, "last", 4, &error), RIFFLE_OK);
	assert_int_equal(symbols_add(&symbols, LINK + BYTES - 1, 255, "later", 5, &error), RIFFLE_OK);
	assert_int_equal(symbols_add(&symbols, LINK + 1, 0, name, 20000, &error), RIFFLE_OK);
	for (unsigned i = 0; i < 10000; i++) {
		char text[16];
		int bytes = snprintf(text, sizeof text, "s%u", i);

		assert_int_equal(symbols_add(&symbols, LINK + 20000 - 2 * i, 0, text, (size_t)bytes, &error),
				 RIFFLE_OK);
	}
	assert_int_equal(symbols_finish(&symbols, &error), RIFFLE_OK);
	assert_int_equal(symbols.count, 10002);
	for (unsigned i = 0; i < 10000; i++) {
		char text[16];

		snprintf(text, sizeof text, "s%u", i);
		expect_place(&symbols, LINK + 20000 - 2 * i, text, 0, i == 9999 ? 2 : i ? 2 : BYTES - 20001);
	}
	expect_place(&symbols, LINK + BYTES - 1, "last", 0, 1);
	assert_int_equal(strlen(symbols.names + symbols.symbol[0].name), 20000);
	assert_int_equal(symbols.symbol[0].address, LINK + 1);
	symbols_free(&symbols);
	free(name);
}

/* --- ELF --- */

struct elf {
	Elf64_Ehdr header;
	Elf64_Phdr load[2];
	Elf64_Shdr section[6];
	Elf64_Sym symbol[8];
	char names[64];
	char section_names[64];
	struct {
		Elf64_Nhdr header;
		char name[4];
		uint8_t id[20];
	} note;
};

enum { S_NULL, S_NOTES, S_PERCPU, S_SYMTAB, S_STRTAB, S_SHSTRTAB };

static Elf64_Sym make_symbol(uint32_t name, unsigned bind, unsigned type, uint16_t section, uint64_t value)
{
	return (Elf64_Sym){
	    .st_name = name, .st_info = ELF64_ST_INFO(bind, type), .st_shndx = section, .st_value = value};
}

static void make_elf(struct elf *elf)
{
	/* offsets in names: main 1, alias 6, obj 12, label 16, .L1 22, abs 26, undef 30 */
	static const char names[] = "\0main\0alias\0obj\0label\0.L1\0abs\0undef";
	/* .notes 1, .data..percpu 8, .symtab 22, .strtab 30, .shstrtab 38 */
	static const char section_names[] = "\0.notes\0.data..percpu\0.symtab\0.strtab\0.shstrtab";

	memset(elf, 0, sizeof *elf);
	memcpy(elf->header.e_ident, ELFMAG "\2\1\1", 7);
	elf->header.e_type = ET_EXEC;
	elf->header.e_machine = EM_X86_64;
	elf->header.e_phoff = offsetof(struct elf, load);
	elf->header.e_phentsize = sizeof(Elf64_Phdr);
	elf->header.e_phnum = 2;
	elf->header.e_shoff = offsetof(struct elf, section);
	elf->header.e_shentsize = sizeof(Elf64_Shdr);
	elf->header.e_shnum = 6;
	elf->header.e_shstrndx = S_SHSTRTAB;
	elf->load[0] = (Elf64_Phdr){.p_type = PT_LOAD, .p_paddr = 0x1200000};
	elf->load[1] = (Elf64_Phdr){.p_type = PT_LOAD, .p_paddr = 0x1000000};
	memcpy(elf->names, names, sizeof names);
	memcpy(elf->section_names, section_names, sizeof section_names);
	elf->section[S_NOTES] =
	    (Elf64_Shdr){1, SHT_NOTE, SHF_ALLOC, LINK, offsetof(struct elf, note), sizeof elf->note};
	elf->section[S_PERCPU] = (Elf64_Shdr){8, SHT_PROGBITS, SHF_ALLOC | SHF_WRITE, 0, 0, 0x100};
	elf->section[S_SYMTAB] =
	    (Elf64_Shdr){22, SHT_SYMTAB, 0, 0, offsetof(struct elf, symbol), sizeof elf->symbol, S_STRTAB};
	elf->section[S_STRTAB] = (Elf64_Shdr){30, SHT_STRTAB, 0, 0, offsetof(struct elf, names), sizeof elf->names};
	elf->section[S_SHSTRTAB] =
	    (Elf64_Shdr){38, SHT_STRTAB, 0, 0, offsetof(struct elf, section_names), sizeof elf->section_names};
	elf->symbol[1] = make_symbol(6, STB_LOCAL, STT_FUNC, 1, LINK + 0x10);
	elf->symbol[2] = make_symbol(1, STB_GLOBAL, STT_FUNC, 1, LINK + 0x10);
	elf->symbol[3] = make_symbol(12, STB_LOCAL, STT_OBJECT, 1, LINK + 0x20);
	elf->symbol[4] = make_symbol(16, STB_GLOBAL, STT_NOTYPE, 1, LINK + 0x20);
	elf->symbol[5] = make_symbol(22, STB_LOCAL, STT_NOTYPE, 1, LINK + 0x30);
	elf->symbol[6] = make_symbol(26, STB_GLOBAL, STT_FUNC, SHN_ABS, LINK + 0x40);
	elf->symbol[7] = make_symbol(30, STB_GLOBAL, STT_FUNC, SHN_UNDEF, LINK + 0x50);
	elf->note.header = (Elf64_Nhdr){4, 20, NT_GNU_BUILD_ID};
	memcpy(elf->note.name, "GNU", 4);
	for (unsigned i = 0; i < 20; i++)
		elf->note.id[i] = (uint8_t)(i + 1);
}

static int read_elf(struct symbols *symbols, struct symbols_elf *about, const struct elf *elf, size_t bytes)
{
	int fd = memfd_create("vmlinux", MFD_CLOEXEC), status;

	assert_true(fd >= 0);
	assert_int_equal(write(fd, elf, bytes), bytes);
	symbols_init(symbols, LINK, LINK + BYTES);
	status = symbols_from_elf(symbols, about, fd, &error);
	close(fd);
	return status;
}

static void test_elf(void **state)
{
	struct symbols_elf about;
	struct symbols symbols;
	struct elf elf;

	(void)state;
	make_elf(&elf);
	assert_int_equal(read_elf(&symbols, &about, &elf, sizeof elf), RIFFLE_OK);
	assert_int_equal(symbols.count, 2);
	expect_place(&symbols, LINK + 0x1f, "main", 0xf, 0x10);
	expect_place(&symbols, LINK + 0x60, "obj", 0x40, BYTES - 0x20);
	assert_int_equal(about.build_id_bytes, 20);
	assert_memory_equal(about.build_id, elf.note.id, 20);
	assert_int_equal(about.link_physical, 0x1000000);
	assert_true(about.percpu_at_zero);
	symbols_free(&symbols);

	/* 6.15 and later: percpu like the rest */
	elf.section[S_PERCPU].sh_addr = LINK + 0x1000;
	elf.load[0].p_paddr = 0x800000;
	/* and numbers of sections that do not fit their fields */
	elf.header.e_shnum = 0;
	elf.section[0].sh_size = 6;
	elf.header.e_shstrndx = SHN_XINDEX;
	elf.section[0].sh_link = S_SHSTRTAB;
	assert_int_equal(read_elf(&symbols, &about, &elf, sizeof elf), RIFFLE_OK);
	assert_false(about.percpu_at_zero);
	assert_int_equal(about.link_physical, 0x800000);
	assert_int_equal(symbols.count, 2);
	symbols_free(&symbols);
}

static void test_elf_refused(void **state)
{
	struct symbols_elf about;
	struct symbols symbols;
	struct elf elf;
	char line[256];

	(void)state;
#define REFUSE(change, wanted_status, wanted_line)                                                                     \
	do {                                                                                                           \
		make_elf(&elf);                                                                                        \
		change;                                                                                                \
		assert_int_equal(read_elf(&symbols, &about, &elf, sizeof elf), wanted_status);                         \
		riffle_error_format(&error, line, sizeof line);                                                        \
		assert_string_equal(line, wanted_line);                                                                \
		symbols_free(&symbols);                                                                                \
	} while (0)
	REFUSE(elf.header.e_ident[0] = 0, RIFFLE_ERR_FORMAT, "e_ident: is not an ELF file's");
	REFUSE(elf.header.e_machine = EM_AARCH64, RIFFLE_ERR_UNSUPPORTED,
	       "e_machine: is not x86-64 (found 183, expected 62)");
	REFUSE(elf.header.e_ident[EI_CLASS] = ELFCLASS32, RIFFLE_ERR_UNSUPPORTED,
	       "e_ident: is not that of a 64-bit little-endian file");
	REFUSE(elf.header.e_shoff = 0, RIFFLE_ERR_FORMAT, "e_shoff: the file has no sections, so no symbols");
	REFUSE(elf.header.e_shoff = UINT64_MAX - 8, RIFFLE_ERR_FORMAT,
	       "section headers: reaches past the end of the file (found 0xfffffffffffffff7, expected 920)");
	REFUSE(elf.header.e_shentsize = 1, RIFFLE_ERR_FORMAT, "e_shentsize: is wrong (found 1, expected 64)");
	REFUSE(elf.header.e_shnum = 0xfff0, RIFFLE_ERR_FORMAT,
	       "section headers: reaches past the end of the file (found 176, expected 920)");
	REFUSE((elf.header.e_shnum = 0, elf.section[0].sh_size = UINT64_MAX), RIFFLE_ERR_FORMAT,
	       "e_shnum: does not fit e_shstrndx, or is implausible (found 0xffffffffffffffff, expected 0x100000)");
	REFUSE(elf.header.e_shstrndx = 6, RIFFLE_ERR_FORMAT,
	       "e_shnum: does not fit e_shstrndx, or is implausible (found 6, expected 0x100000)");
	REFUSE(elf.header.e_phentsize = 1, RIFFLE_ERR_FORMAT, "e_phentsize: is wrong (found 1, expected 56)");
	REFUSE(elf.header.e_phoff = UINT64_MAX - 8, RIFFLE_ERR_FORMAT,
	       "program headers: reaches past the end of the file (found 0xfffffffffffffff7, expected 920)");
	REFUSE(elf.header.e_phnum = 0, RIFFLE_ERR_FORMAT, "program headers: have nothing to load: no kernel");
	REFUSE(elf.section[S_SYMTAB].sh_type = SHT_NULL, RIFFLE_ERR_FORMAT,
	       "symbol table: is not there: the file was stripped");
	REFUSE(elf.section[S_SYMTAB].sh_link = 77, RIFFLE_ERR_FORMAT,
	       "symbol table: its sh_link names no section (found 77, expected 6)");
	REFUSE(elf.section[S_SYMTAB].sh_size = UINT64_MAX, RIFFLE_ERR_FORMAT,
	       "symbol table: is absurdly large (found 0xffffffffffffffff, expected 0x40000000)");
	REFUSE(elf.section[S_SYMTAB].sh_offset = sizeof elf - 4, RIFFLE_ERR_FORMAT,
	       "symbol table: reaches past the end of the file (found 916, expected 920)");
	REFUSE(elf.section[S_STRTAB].sh_offset = UINT64_MAX, RIFFLE_ERR_FORMAT,
	       "symbol names: reaches past the end of the file (found 0xffffffffffffffff, expected 920)");
	REFUSE(elf.section[S_STRTAB].sh_size = 0, RIFFLE_ERR_FORMAT,
	       "symbols: none lies in the kernel, which starts here (found 0xffffffff81000000)");
	REFUSE(elf.section[S_NOTES].sh_offset = UINT64_MAX, RIFFLE_ERR_FORMAT,
	       "notes: reaches past the end of the file (found 0xffffffffffffffff, expected 920)");
	REFUSE(elf.section[S_SHSTRTAB].sh_size = UINT64_MAX, RIFFLE_ERR_FORMAT,
	       "section names: is absurdly large (found 0xffffffffffffffff, expected 0x40000000)");
	REFUSE(elf.header.e_ident[EI_DATA] = ELFDATA2MSB, RIFFLE_ERR_UNSUPPORTED,
	       "e_ident: is not that of a 64-bit little-endian file");
	REFUSE(elf.load[0].p_type = elf.load[1].p_type = PT_NOTE, RIFFLE_ERR_FORMAT,
	       "program headers: have nothing to load: no kernel");
	REFUSE(elf.section[S_SYMTAB].sh_link = 6, RIFFLE_ERR_FORMAT,
	       "symbol table: its sh_link names no section (found 6, expected 6)");
	REFUSE(elf.section[S_SYMTAB].sh_size = sizeof elf - offsetof(struct elf, symbol) + 1, RIFFLE_ERR_FORMAT,
	       "symbol table: reaches past the end of the file (found 560, expected 920)");
	REFUSE((elf.header.e_shnum = 0, elf.section[0].sh_size = (1 << 20) + 1), RIFFLE_ERR_FORMAT,
	       "e_shnum: does not fit e_shstrndx, or is implausible (found 0x100001, expected 0x100000)");
	REFUSE((elf.header.e_shnum = 0, elf.section[0].sh_size = 1 << 20), RIFFLE_ERR_FORMAT,
	       "section headers: reaches past the end of the file (found 176, expected 920)");
#undef REFUSE
	/* no terminator at the end of the names; a note that is longer than its section: not errors, and not read past
	 */
	make_elf(&elf);
	elf.section[S_STRTAB].sh_size = 3;
	elf.section[S_SHSTRTAB].sh_size = 9;
	elf.note.header.n_descsz = UINT32_MAX;
	assert_int_equal(read_elf(&symbols, &about, &elf, sizeof elf), RIFFLE_OK);
	expect_place(&symbols, LINK + 0x10, "ma", 0, BYTES - 0x10);
	assert_int_equal(about.build_id_bytes, 0);
	symbols_free(&symbols);
	make_elf(&elf);
	for (size_t bytes = 0; bytes < offsetof(struct elf, note) + sizeof elf.note; bytes += 7) {
		assert_int_equal(read_elf(&symbols, &about, &elf, bytes), RIFFLE_ERR_FORMAT);
		symbols_free(&symbols);
	}
}

/* A file that ends while its symbols are read, or cannot be read: told by what was read, and nothing is kept. */
static void test_elf_reads(void **state)
{
	static const char *const reads[] = {
	    "ELF header",      "section headers", "section headers", "section names", "program headers",
	    "program headers", "notes",           "symbol table",    "symbol names",
	};
	static const struct {
		enum mishap what;
		int status;
		const char *problem;
	} rows[] = {
	    {SHORT_READ, RIFFLE_OK, NULL},
	    {INTERRUPTED, RIFFLE_OK, NULL},
	    {END_OF_FILE, RIFFLE_ERR_CHANGED, "the file became shorter while it was read"},
	    {FAILS, RIFFLE_ERR_IO, "cannot be read: Input/output error"},
	};
	const unsigned count = sizeof reads / sizeof *reads;
	struct symbols_elf about;
	struct symbols symbols;
	struct elf elf;

	(void)state;
	make_elf(&elf);
	for (size_t r = 0; r < sizeof rows / sizeof *rows; r++)
		for (unsigned i = 0; i <= count; i++) {
			char line[256], wanted[256];
			int status;

			mishap = rows[r].what;
			mishap_after = i;
			status = read_elf(&symbols, &about, &elf, sizeof elf);
			assert_int_equal(mishap, i < count ? NOTHING : rows[r].what); /* there are no more reads */
			mishap = NOTHING;
			assert_int_equal(status, i < count ? rows[r].status : RIFFLE_OK);
			if (status) {
				snprintf(wanted, sizeof wanted, "%s: %s", reads[i], rows[r].problem);
				riffle_error_format(&error, line, sizeof line);
				assert_string_equal(line, wanted);
				assert_int_equal(symbols.count, 0);
			} else {
				assert_int_equal(symbols.count, 2);
				assert_memory_equal(about.build_id, elf.note.id, 20);
			}
			symbols_free(&symbols);
		}
}

/* Which symbols an ELF gives, and which of two at one place. */
static void test_elf_symbols(void **state)
{
	static const struct {
		const char *name[2];
		unsigned bind[2], type[2];
		const char *shown; /* NULL: neither */
	} rows[] = {
	    {{"a", "b"}, {STB_GLOBAL, STB_LOCAL}, {STT_FUNC, STT_FUNC}, "a"},
	    {{"a", "b"}, {STB_LOCAL, STB_GLOBAL}, {STT_FUNC, STT_FUNC}, "b"},
	    {{"a", "b"}, {STB_WEAK, STB_GLOBAL}, {STT_FUNC, STT_OBJECT}, "b"},
	    {{"a", "b"}, {STB_LOCAL, STB_LOCAL}, {STT_OBJECT, STT_FUNC}, "a"},
	    {{"a", "b"}, {STB_GLOBAL, STB_LOCAL}, {STT_NOTYPE, STT_FUNC}, "b"},
	    {{"__a", "_b"}, {STB_LOCAL, STB_LOCAL}, {STT_FUNC, STT_FUNC}, "_b"},
	    {{"_a", "b"}, {STB_GLOBAL, STB_LOCAL}, {STT_FUNC, STT_FUNC}, "_a"},
	    {{"_________________________________________a", "b"},
	     {STB_GLOBAL, STB_LOCAL},
	     {STT_FUNC, STT_FUNC},
	     "_________________________________________a"},
	    {{"$d", "b"}, {STB_GLOBAL, STB_LOCAL}, {STT_FUNC, STT_NOTYPE}, "b"},
	    {{".L", "b"}, {STB_GLOBAL, STB_LOCAL}, {STT_FUNC, STT_NOTYPE}, "b"},
	    {{".l", "b"}, {STB_GLOBAL, STB_LOCAL}, {STT_FUNC, STT_FUNC}, ".l"},
	    {{"a", "b"}, {STB_GLOBAL, STB_LOCAL}, {STT_SECTION, STT_FUNC}, "b"},
	    {{"a", "b"}, {STB_GLOBAL, STB_LOCAL}, {STT_FILE, STT_TLS}, NULL},
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct symbols_elf about;
		struct symbols symbols;
		struct elf elf;
		int status;

		make_elf(&elf);
		memset(elf.symbol, 0, sizeof elf.symbol);
		memset(elf.names, 0, sizeof elf.names);
		strcpy(elf.names + 1, rows[i].name[0]);
		strcpy(elf.names + 60, rows[i].name[1]);
		elf.symbol[1] = make_symbol(1, rows[i].bind[0], rows[i].type[0], 1, LINK);
		elf.symbol[7] = make_symbol(60, rows[i].bind[1], rows[i].type[1], 1, LINK);
		elf.symbol[3] = make_symbol(64, STB_GLOBAL, STT_FUNC, 1, LINK + 8); /* a name past the end of all */
		status = read_elf(&symbols, &about, &elf, sizeof elf);
		assert_int_equal(status, rows[i].shown ? RIFFLE_OK : RIFFLE_ERR_FORMAT);
		if (rows[i].shown) {
			assert_int_equal(symbols.count, 1);
			expect_place(&symbols, LINK + 1, rows[i].shown, 1, BYTES);
		}
		symbols_free(&symbols);
	}
}

/* The build id among other notes, whose names and values are padded to four bytes. */
static void test_build_ids(void **state)
{
	static const struct {
		uint32_t before_name, before_value; /* of a note in front; 0 and 0: none */
		uint32_t type, name_bytes, value_bytes;
		const char *name;
		int32_t cut; /* bytes of the section that are missing */
		unsigned bytes;
	} rows[] = {
	    {0, 0, NT_GNU_BUILD_ID, 4, 20, "GNU", 0, 20}, {4, 4, NT_GNU_BUILD_ID, 4, 20, "GNU", 0, 20},
	    {5, 4, NT_GNU_BUILD_ID, 4, 20, "GNU", 0, 20}, {6, 7, NT_GNU_BUILD_ID, 4, 20, "GNU", 0, 20},
	    {1, 1, NT_GNU_BUILD_ID, 4, 1, "GNU", 0, 1},   {0, 9, NT_GNU_BUILD_ID, 4, 32, "GNU", 0, 32},
	    {0, 0, NT_GNU_BUILD_ID, 4, 33, "GNU", 0, 0},  {0, 0, NT_GNU_BUILD_ID, 4, 0, "GNU", 0, 0},
	    {0, 0, NT_GNU_BUILD_ID, 4, 20, "GNV", 0, 0},  {0, 0, NT_GNU_BUILD_ID, 5, 20, "GNU", 0, 0},
	    {0, 0, NT_GNU_BUILD_ID, 3, 20, "GNU", 0, 0},  {0, 0, NT_GNU_ABI_TAG, 4, 20, "GNU", 0, 0},
	    {4, 4, NT_GNU_BUILD_ID, 4, 20, "GNU", 1, 0},
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct symbols_elf about;
		struct symbols symbols;
		struct {
			struct elf elf;
			uint8_t notes[256];
		} file = {0};
		uint8_t *to = file.notes;

		make_elf(&file.elf);
		if (rows[i].before_name || rows[i].before_value) {
			memcpy(to, &(Elf64_Nhdr){rows[i].before_name, rows[i].before_value, NT_GNU_BUILD_ID}, 12);
			memset(to + 12, 0xee, 32);
			to += 12 + (rows[i].before_name + 3) / 4 * 4 + (rows[i].before_value + 3) / 4 * 4;
		}
		memcpy(to, &(Elf64_Nhdr){rows[i].name_bytes, rows[i].value_bytes, rows[i].type}, 12);
		memset(to + 12, 0, 8);
		memcpy(to + 12, rows[i].name, 4);
		to += 12 + (rows[i].name_bytes + 3) / 4 * 4;
		for (uint32_t k = 0; k < rows[i].value_bytes; k++)
			*to++ = (uint8_t)(k + 1);
		file.elf.section[S_NOTES].sh_offset = sizeof file.elf;
		file.elf.section[S_NOTES].sh_size = (uint64_t)(to - file.notes - rows[i].cut);
		{
			int fd = memfd_create("vmlinux", MFD_CLOEXEC);

			assert_int_equal(write(fd, &file, sizeof file), sizeof file);
			symbols_init(&symbols, LINK, LINK + BYTES);
			assert_int_equal(symbols_from_elf(&symbols, &about, fd, &error), RIFFLE_OK);
			close(fd);
		}
		if (about.build_id_bytes != rows[i].bytes)
			fail_msg("row %zu: %u bytes", i, about.build_id_bytes);
		for (unsigned k = 0; k < rows[i].bytes; k++)
			assert_int_equal(about.build_id[k], k + 1);
		symbols_free(&symbols);
	}
}

/* --- logs --- */

struct written {
	char text[4096];
	size_t used;
};

static int keep(void *opaque, const char *text, size_t bytes)
{
	struct written *w = opaque;

	assert_true(bytes < sizeof w->text - w->used);
	memcpy(w->text + w->used, text, bytes);
	w->used += bytes;
	w->text[w->used] = 0;
	return 0;
}

#define RUNNING UINT64_C(0xffffffff9a000000)

static const char input[] =
    "[    1.2] RIP: 0010:0xffffffff9a000041\n"
    " [<ffffffff9a000000>] ? FFFFFFFF9A000100/ffffffff9a200000 ffffffff99ffffff\n"
    "RAX: ffffffff9a0000 ffffffff9a00000000 xffffffff9a000000 ffffffff9a000000_ 0x1a 0x\n"
    "ffffffff9a1fffff,ffff888000000000;Kernel Offset: 0x19000000 from 0xffffffff81000000 ffffffff9a000040";
static const char output[] =
    "[    1.2] RIP: 0010:0xffffffff81000041 [local+0x1/0xc0]\n"
    " [<ffffffff81000000 [startup_64+0x0/0x40]>] ? ffffffff81000100 [strong+0x0/0x100]/ffffffff9a200000 "
    "ffffffff99ffffff\n"
    "RAX: ffffffff9a0000 ffffffff9a00000000 xffffffff9a000000 ffffffff9a000000_ 0x1a 0x\n"
    "ffffffff811fefff [mod_fn+0x1fedff/0x1ffe00],ffff888000000000;Kernel Offset: 0x19000000 from "
    "0xffffffff81000000 ffffffff81000040 [local+0x0/0xc0]";

/* The whole image moved by one distance, except its last two pages, which are swapped. */
static const uint64_t moved = RUNNING;

static bool to_link(const void *base, uint64_t address, uint64_t *link)
{
	uint64_t offset = address - *(const uint64_t *)base;

	if (offset >= BYTES)
		return false;
	*link = LINK + (offset < BYTES - 0x2000 ? offset : offset ^ 0x1000);
	return true;
}

static struct annotator make_annotator(const struct symbols *symbols, struct written *written)
{
	*written = (struct written){.used = 0};
	return (struct annotator){
	    .to_link = to_link, .map = &moved, .symbols = symbols, .write = keep, .opaque = written};
}

static void test_annotate(void **state)
{
	struct written written;
	struct annotator annotator;
	struct symbols symbols;

	(void)state;
	assert_int_equal(read_map(&symbols, map), RIFFLE_OK);
	/* the same whatever the pieces it comes in */
	for (size_t piece = 1; piece < sizeof input; piece++) {
		annotator = make_annotator(&symbols, &written);
		for (size_t at = 0; at < sizeof input - 1; at += piece) {
			size_t bytes = sizeof input - 1 - at < piece ? sizeof input - 1 - at : piece;

			assert_int_equal(annotate(&annotator, input + at, bytes), 0);
		}
		assert_int_equal(annotate_end(&annotator), 0);
		assert_string_equal(written.text, output);
	}

	/* bytes of any kind pass through */
	annotator = make_annotator(&symbols, &written);
	assert_int_equal(annotate(&annotator, "\0\377\n\0", 4), 0);
	assert_int_equal(annotate_end(&annotator), 0);
	assert_int_equal(written.used, 4);
	assert_memory_equal(written.text, "\0\377\n\0", 4);

	/* colours beside an address, and sequences that are none of a colour or do not end; in pieces of any size */
	static const char coloured[] = "\033[31mffffffff9a000000\033[0m \033[1;38;5;9mffffffff9a000000\033(B"
				       "\033[12\nffffffff9a000000\033Mffffffff9a000000 2ffffffff9a000000\033";

	for (size_t piece = 1; piece < sizeof coloured; piece++) {
		annotator = make_annotator(NULL, &written);
		for (size_t at = 0; at < sizeof coloured - 1; at += piece)
			assert_int_equal(annotate(&annotator, coloured + at,
						  sizeof coloured - 1 - at < piece ? sizeof coloured - 1 - at : piece),
					 0);
		assert_int_equal(annotate_end(&annotator), 0);
		assert_string_equal(written.text,
				    "\033[31mffffffff81000000\033[0m \033[1;38;5;9mffffffff81000000\033(B"
				    "\033[12\nffffffff81000000\033Mffffffff81000000 2ffffffff9a000000\033");
	}

	/* behind 0x an address has as many digits as it needs, one at least */
	annotator = make_annotator(NULL, &written);
	annotator.map = &(const uint64_t){1};
	assert_int_equal(annotate(&annotator, "0x5 0x 5 0X1000 0x0000000000000001 00000000000000001 ", 53), 0);
	assert_string_equal(written.text,
			    "0xffffffff81000004 0x 5 0Xffffffff81000fff 0xffffffff81000000 00000000000000001 ");

	/* no symbols, and no name at an address: the address alone */
	annotator = make_annotator(NULL, &written);
	assert_int_equal(annotate(&annotator, "ffffffff9a000000 ", 17), 0);
	assert_string_equal(written.text, "ffffffff81000000 ");
	symbols_free(&symbols);
}

static int refuse(void *opaque, const char *text, size_t bytes)
{
	(void)opaque;
	(void)text;
	(void)bytes;
	return 7;
}

static void test_annotate_write_fails(void **state)
{
	struct written written;
	struct annotator annotator = make_annotator(NULL, &written);

	(void)state;
	annotator.write = refuse;
	assert_int_equal(annotate(&annotator, "ffffffff9a000000", 16), 0); /* waits for its end */
	assert_int_equal(annotate_end(&annotator), 7);
	assert_int_equal(annotate(&annotator, " ", 1), 7);
	assert_int_equal(annotate(&annotator, "0123456789012345678901234567890", 31), 7);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_system_map),
	    cmocka_unit_test(test_system_map_refused),
	    cmocka_unit_test(test_elf),
	    cmocka_unit_test(test_elf_refused),
	    cmocka_unit_test(test_elf_reads),
	    cmocka_unit_test(test_annotate),
	    cmocka_unit_test(test_annotate_write_fails),
	    cmocka_unit_test(test_system_map_lines),
	    cmocka_unit_test(test_aliases),
	    cmocka_unit_test(test_tables_grow),
	    cmocka_unit_test(test_elf_symbols),
	    cmocka_unit_test(test_build_ids),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* What is packed with a program: interpreters and libraries, found as the dynamic loader finds them, nothing executed.
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "initramfs/libraries.h"
#include "initramfs/program.h"

struct fixture {
	char path[64];
	struct initramfs *archive;
	struct riffle_error error;
};

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof *f);

	strcpy(f->path, "/tmp/riffle-program-XXXXXX");
	assert_non_null(mkdtemp(f->path));
	assert_int_equal(initramfs_new(&f->archive, &f->error), 0);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;
	char command[128];

	snprintf(command, sizeof command, "rm -rf %s", f->path);
	assert_int_equal(system(command), 0);
	initramfs_free(f->archive);
	free(f);
	return 0;
}

static const char *in(const struct fixture *f, const char *name)
{
	static char path[4][PATH_MAX];
	static unsigned next;
	char *to = path[next++ % 4];

	snprintf(to, sizeof *path, "%s/%s", f->path, name);
	return to;
}

static void put(const struct fixture *f, const char *name, const void *data, size_t bytes)
{
	int fd = open(in(f, name), O_WRONLY | O_CREAT | O_TRUNC, 0755);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, data, bytes), bytes);
	close(fd);
}

static void put_text(const struct fixture *f, const char *name, const char *text)
{
	put(f, name, text, strlen(text));
}

static void make_directory(const struct fixture *f, const char *name)
{
	assert_int_equal(mkdir(in(f, name), 0755), 0);
}

/* ---- ELF files as small as they can be ---- */

enum { STRINGS = 1024, ELF_BYTES = 2048 };

struct elf {
	Elf64_Ehdr header;
	Elf64_Phdr segment[3];
	Elf64_Dyn dynamic[16];
	unsigned entries, string_bytes;
	uint8_t bytes[ELF_BYTES];
};

static uint64_t add_string(struct elf *e, const char *text)
{
	unsigned at = e->string_bytes;

	strcpy((char *)e->bytes + STRINGS + at, text);
	e->string_bytes += (unsigned)strlen(text) + 1;
	return at;
}

static void add_entry(struct elf *e, int64_t tag, uint64_t value)
{
	e->dynamic[e->entries].d_tag = tag;
	e->dynamic[e->entries++].d_un.d_val = value;
}

/* `lists` are pairs of a tag and a string, ended by a tag of 0; DT_STRTAB and DT_STRSZ are added automatically. */
static void make_elf(struct elf *e, const char *interpreter, ...)
{
	va_list more;
	int tag;

	memset(e, 0, sizeof *e);
	e->string_bytes = 1;
	e->header = (Elf64_Ehdr){.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
				 .e_type = ET_DYN,
				 .e_machine = EM_X86_64,
				 .e_version = EV_CURRENT,
				 .e_phoff = sizeof e->header,
				 .e_phentsize = sizeof *e->segment,
				 .e_phnum = 3};
	/* addresses are offsets and something, so that mixing them up shows */
	e->segment[0] = (Elf64_Phdr){.p_type = PT_LOAD, .p_offset = 0, .p_vaddr = 0x400000, .p_filesz = ELF_BYTES};
	va_start(more, interpreter);
	while ((tag = va_arg(more, int)))
		add_entry(e, tag,
			  tag == DT_FLAGS_1 ? va_arg(more, unsigned) : add_string(e, va_arg(more, const char *)));
	va_end(more);
	add_entry(e, DT_STRTAB, 0x400000 + STRINGS);
	e->segment[1] = (Elf64_Phdr){.p_type = PT_DYNAMIC, .p_offset = 512, .p_vaddr = 0x400200};
	e->segment[2].p_type = PT_NULL;
	if (interpreter) {
		uint64_t at = add_string(e, interpreter);

		e->segment[2] =
		    (Elf64_Phdr){.p_type = PT_INTERP, .p_offset = STRINGS + at, .p_filesz = strlen(interpreter) + 1};
	}
	add_entry(e, DT_STRSZ, e->string_bytes);
	add_entry(e, DT_NULL, 0);
	e->segment[1].p_filesz = e->entries * sizeof *e->dynamic;
}

static void put_elf(const struct fixture *f, const char *name, struct elf *e)
{
	memcpy(e->bytes, &e->header, sizeof e->header);
	memcpy(e->bytes + sizeof e->header, e->segment, sizeof e->segment);
	memcpy(e->bytes + 512, e->dynamic, sizeof e->dynamic);
	put(f, name, e->bytes, sizeof e->bytes);
}

#define PUT_ELF(f, name, ...)                                                                                          \
	do {                                                                                                           \
		struct elf made;                                                                                       \
		make_elf(&made, __VA_ARGS__, 0);                                                                       \
		put_elf(f, name, &made);                                                                               \
	} while (0)

static int read_needs(const struct fixture *f, const char *name, struct elf_needs *needs, struct riffle_error *error)
{
	int fd = open(in(f, name), O_RDONLY);
	int status = elf_read_needs(needs, fd, error);

	close(fd);
	return status;
}

static void test_elf(void **state)
{
	struct fixture *f = *state;
	struct elf_needs needs;

	PUT_ELF(f, "elf", "/lib/ld.so", DT_NEEDED, "libb.so", DT_RUNPATH, "/run:$ORIGIN", DT_NEEDED, "liba.so",
		DT_RPATH, "/r", DT_FLAGS_1, (unsigned)DF_1_NODEFLIB);
	assert_int_equal(read_needs(f, "elf", &needs, &f->error), 0);
	assert_string_equal(needs.interpreter, "/lib/ld.so");
	assert_int_equal(needs.count, 2);
	assert_string_equal(needs.needed[0], "libb.so");
	assert_string_equal(needs.needed[1], "liba.so");
	assert_string_equal(needs.runpath, "/run:$ORIGIN");
	assert_string_equal(needs.rpath, "/r");
	assert_true(needs.no_default);
	elf_free_needs(&needs);
}

static void test_elf_hostile(void **state)
{
	struct fixture *f = *state;
	struct elf good, e;
	struct elf_needs needs;
	int status;

	make_elf(&good, "/lib/ld.so", DT_NEEDED, "liba.so", DT_RUNPATH, "/r", 0);
#define BROKEN(change, expected)                                                                                       \
	do {                                                                                                           \
		e = good;                                                                                              \
		change;                                                                                                \
		put_elf(f, "elf", &e);                                                                                 \
		assert_int_equal(read_needs(f, "elf", &needs, &f->error), expected);                                   \
	} while (0)
	BROKEN(e.header.e_ident[EI_CLASS] = ELFCLASS32, RIFFLE_ERR_UNSUPPORTED);
	BROKEN(e.header.e_machine = EM_AARCH64, RIFFLE_ERR_UNSUPPORTED);
	BROKEN(e.header.e_phoff = ELF_BYTES - 100, RIFFLE_ERR_FORMAT);
	BROKEN(e.header.e_phoff = UINT64_MAX - 8, RIFFLE_ERR_FORMAT);
	BROKEN(e.header.e_phentsize = 55, RIFFLE_ERR_FORMAT);
	BROKEN(e.header.e_phnum = 0xffff, RIFFLE_ERR_FORMAT);
	BROKEN(e.segment[1].p_offset = UINT64_MAX, RIFFLE_ERR_FORMAT);
	BROKEN(e.segment[1].p_filesz = UINT64_MAX, RIFFLE_ERR_FORMAT);
	BROKEN(e.segment[1].p_filesz = ELF_BYTES, RIFFLE_ERR_FORMAT);
	BROKEN(e.segment[2].p_offset = UINT64_MAX, RIFFLE_ERR_FORMAT);
	BROKEN(e.segment[2].p_filesz = 3, RIFFLE_ERR_FORMAT);
	BROKEN(e.segment[2].p_filesz = 0, RIFFLE_ERR_FORMAT);
	BROKEN(e.segment[0].p_vaddr = 0x500000, RIFFLE_ERR_FORMAT);
	BROKEN(e.segment[0].p_offset = UINT64_MAX, RIFFLE_ERR_FORMAT);
	BROKEN(e.dynamic[0].d_un.d_val = e.string_bytes, RIFFLE_ERR_FORMAT);
	BROKEN(e.dynamic[0].d_un.d_val = UINT64_MAX, RIFFLE_ERR_FORMAT);
	BROKEN(e.dynamic[2].d_un.d_val = 0x400000 + ELF_BYTES, RIFFLE_ERR_FORMAT);
	BROKEN(e.dynamic[3].d_un.d_val = ELF_BYTES - STRINGS + 1, RIFFLE_ERR_FORMAT);
	BROKEN(e.dynamic[3].d_un.d_val = 5, RIFFLE_ERR_FORMAT);
#undef BROKEN
	/* any length of the file */
	put_elf(f, "elf", &good);
	for (unsigned bytes = 0; bytes < ELF_BYTES; bytes += 7) {
		assert_int_equal(truncate(in(f, "elf"), ELF_BYTES), 0);
		put_elf(f, "elf", &good);
		assert_int_equal(truncate(in(f, "elf"), bytes), 0);
		status = read_needs(f, "elf", &needs, &f->error);
		if (!status)
			elf_free_needs(&needs);
		assert_int_equal(status != 0, bytes < STRINGS + good.string_bytes);
	}
}

/* ---- where libraries are looked for ---- */

struct finds {
	char path[4][PATH_MAX];
	unsigned count;
};

static void find_this(void *opaque, const char *path)
{
	struct finds *finds = opaque;

	assert_true(finds->count < 4);
	strcpy(finds->path[finds->count++], path);
}

static void put_cache(uint8_t *cache, size_t *bytes, const char *const entries[][2], unsigned count, bool old)
{
	uint32_t head = 0, at;
	uint8_t *c = cache;

	memset(cache, 0, 4096);
	if (old) {
		memcpy(cache, "ld.so-1.7.0", 11);
		cache[12] = 1;
		head = 32;
	}
	c = cache + head;
	memcpy(c, "glibc-ld.so.cache1.1", 20);
	memcpy(c + 20, &count, 4);
	at = 48 + 24 * count;
	for (unsigned i = 0; i < count; i++) {
		uint32_t flags = entries[i][0][0] == '!' ? 3 : 0x0303;
		const char *key = entries[i][0] + (entries[i][0][0] == '!');

		memcpy(c + 48 + 24 * i, &flags, 4);
		memcpy(c + 48 + 24 * i + 4, &at, 4);
		strcpy((char *)c + at, key);
		at += (uint32_t)strlen(key) + 1;
		memcpy(c + 48 + 24 * i + 8, &at, 4);
		strcpy((char *)c + at, entries[i][1]);
		at += (uint32_t)strlen(entries[i][1]) + 1;
	}
	*bytes = head + at;
}

static void test_search_order(void **state)
{
	struct fixture *f = *state;
	const char *const places[] = {"rpath", "above", "runpath", "cached", "cached2", "default", NULL};
	struct library_user above = {.path = in(f, "above/program")}, user = {.loader = &above};
	char origin[PATH_MAX], directories[PATH_MAX];
	uint8_t *cache = malloc(4096);
	struct library_places where = {.cache = cache, .directories = directories};
	struct finds finds = {.count = 0};

	for (size_t i = 0; places[i]; i++) {
		char name[64];

		make_directory(f, places[i]);
		snprintf(name, sizeof name, "%s/libx.so", places[i]);
		PUT_ELF(f, name, NULL, DT_RPATH, "");
	}
	snprintf(origin, sizeof origin, "%s", in(f, "rpath/libuser.so"));
	snprintf(directories, sizeof directories, "/nonexistent:%s", in(f, "default"));
	const char *const entries[][2] = {{"libx.so", "/nonexistent/libx.so"},
					  {"!libx.so", in(f, "default/libx.so")},
					  {"libx.so", strdup(in(f, "cached/libx.so"))},
					  {"libxx.so", in(f, "default/libx.so")},
					  {"libx.so", strdup(in(f, "cached2/libx.so"))}};

	put_cache(cache, &where.cache_bytes, entries, 5, false);
	above.path = strdup(in(f, "above/program"));
	above.needs.rpath = strdup("::$ORIGIN");
	user.path = origin;
	user.needs.rpath = strdup("/nowhere:${ORIGIN}");
	user.needs.runpath = NULL;

#define EXPECT(directory)                                                                                              \
	do {                                                                                                           \
		char expected[64];                                                                                     \
		finds.count = 0;                                                                                       \
		assert_true(library_find(&where, &user, "libx.so", find_this, &finds));                                \
		snprintf(expected, sizeof expected, "%s/libx.so", directory);                                          \
		assert_string_equal(finds.path[0], in(f, expected));                                                   \
	} while (0)
	EXPECT("rpath");
	assert_int_equal(finds.count, 1);
	assert_int_equal(unlink(in(f, "rpath/libx.so")), 0);
	EXPECT("above");
	/* a RUNPATH overrides all RPATHs */
	user.needs.runpath = strdup(in(f, "runpath"));
	EXPECT("runpath");
	PUT_ELF(f, "rpath/libx.so", NULL, DT_RPATH, "");
	EXPECT("runpath");
	/* files that are not ELF files for this processor are skipped */
	put_text(f, "runpath/libx.so", "/* GNU ld script */");
	EXPECT("cached");
	assert_int_equal(finds.count, 2);
	assert_string_equal(finds.path[1], in(f, "cached2/libx.so"));
	put_cache(cache, &where.cache_bytes, entries, 5, true);
	EXPECT("cached");
	/* the cache is not trusted: every truncation, and counts that are too large */
	for (size_t bytes = 0; bytes < where.cache_bytes; bytes++) {
		uint8_t *part = malloc(bytes + 1);
		const struct library_places shorter = {
		    .cache = memcpy(part, cache, bytes), .cache_bytes = bytes, .directories = directories};

		finds.count = 0;
		assert_true(library_find(&shorter, &user, "libx.so", find_this, &finds));
		free(part);
	}
	memset(cache + 32 + 20, 0xff, 4);
	EXPECT("default");
	user.needs.no_default = true;
	finds.count = 0;
	assert_false(library_find(&where, &user, "libx.so", find_this, &finds));
	/* a name with a slash is a path */
	assert_true(library_find(&where, &user, entries[2][1], find_this, &finds));
	assert_false(library_find(&where, &user, "rpath/libx.so", find_this, &finds));
#undef EXPECT
	elf_free_needs(&user.needs);
	elf_free_needs(&above.needs);
	free((void *)above.path);
	free((void *)entries[2][1]);
	free((void *)entries[4][1]);
	free(cache);
}

static void test_libraries_of_libraries(void **state)
{
	struct fixture *f = *state;

	make_directory(f, "lib");
	make_directory(f, "bin");
	PUT_ELF(f, "lib/ld.so", NULL, DT_RPATH, "");
	PUT_ELF(f, "lib/liba.so.1.5", NULL, DT_NEEDED, "libb.so", DT_NEEDED, "libc-of-test.so");
	PUT_ELF(f, "lib/libb.so", NULL, DT_NEEDED, "liba.so.1");
	PUT_ELF(f, "lib/libc-of-test.so", NULL, DT_RPATH, "");
	assert_int_equal(symlink("liba.so.1.5", in(f, "lib/liba.so.1")), 0);
	/* the program's RPATH also applies to its libraries */
	PUT_ELF(f, "bin/program", in(f, "lib/ld.so"), DT_NEEDED, "liba.so.1", DT_RPATH, "$ORIGIN/../lib");
	assert_int_equal(program_add(f->archive, in(f, "bin/program"), NULL, &f->error), 0);
	for (const char *const *name =
		 (const char *const[]){"bin/program", "lib/ld.so", "lib/liba.so.1.5", "lib/liba.so.1", "lib/libb.so",
				       "lib/libc-of-test.so", NULL};
	     *name; name++)
		assert_true(initramfs_has(f->archive, in(f, *name)));
	assert_null(initramfs_blame(f->archive));
	/* a RUNPATH does not */
	PUT_ELF(f, "bin/program", in(f, "lib/ld.so"), DT_NEEDED, "liba.so.1", DT_RUNPATH, "$ORIGIN/../lib");
	assert_int_equal(program_add(f->archive, in(f, "bin/program"), NULL, &f->error), RIFFLE_ERR_UNSUPPORTED);
	assert_string_equal(initramfs_blame(f->archive), "libb.so");
}

static void test_missing_interpreter(void **state)
{
	struct fixture *f = *state;

	PUT_ELF(f, "program", "/nonexistent/ld.so", DT_RPATH, "");
	assert_int_equal(program_add(f->archive, in(f, "program"), NULL, &f->error), RIFFLE_ERR_IO);
	assert_int_equal(f->error.sys_errno, ENOENT);
	assert_string_equal(initramfs_blame(f->archive), "/nonexistent");
}

/* ---- scripts ---- */

static void test_scripts(void **state)
{
	struct fixture *f = *state;
	char text[256];

	make_directory(f, "bin");
	PUT_ELF(f, "bin/interpreter", NULL, DT_RPATH, "");
	PUT_ELF(f, "bin/env", NULL, DT_RPATH, "");
	snprintf(text, sizeof text, "#! %s -x\nmore\n", in(f, "bin/interpreter"));
	put_text(f, "script", text);
	assert_int_equal(program_add(f->archive, in(f, "script"), NULL, &f->error), 0);
	assert_true(initramfs_has(f->archive, in(f, "bin/interpreter")));
	/* a script of a script, by env, which finds it in PATH */
	snprintf(text, sizeof text, "#!%s\n", in(f, "script"));
	put_text(f, "bin/second", text);
	snprintf(text, sizeof text, "#!%s -S A=b second -y", in(f, "bin/env"));
	put_text(f, "third", text);
	assert_int_equal(program_add(f->archive, in(f, "third"), in(f, "bin"), &f->error), 0);
	assert_true(initramfs_has(f->archive, in(f, "bin/env")));
	assert_true(initramfs_has(f->archive, in(f, "bin/second")));
	assert_int_equal(program_add(f->archive, in(f, "third"), "/nonexistent", &f->error), RIFFLE_ERR_IO);
	assert_string_equal(initramfs_blame(f->archive), in(f, "third"));
	/* itself */
	snprintf(text, sizeof text, "#!%s\n", in(f, "loop"));
	put_text(f, "loop", text);
	assert_int_equal(program_add(f->archive, in(f, "loop"), NULL, &f->error), RIFFLE_ERR_UNSUPPORTED);
	put_text(f, "relative", "#!sh\n");
	assert_int_equal(program_add(f->archive, in(f, "relative"), NULL, &f->error), RIFFLE_ERR_UNSUPPORTED);
	put_text(f, "empty", "#!");
	assert_int_equal(program_add(f->archive, in(f, "empty"), NULL, &f->error), RIFFLE_ERR_UNSUPPORTED);
	put_text(f, "text", "echo\n");
	assert_int_equal(program_add(f->archive, in(f, "text"), NULL, &f->error), RIFFLE_ERR_UNSUPPORTED);
	assert_string_equal(initramfs_blame(f->archive), in(f, "text"));
}

static void test_find(void **state)
{
	struct fixture *f = *state;
	char path[PATH_MAX], search[PATH_MAX], here[PATH_MAX];

	make_directory(f, "a");
	make_directory(f, "b");
	make_directory(f, "a/prog");
	put_text(f, "b/prog", "");
	put_text(f, "a/data", "");
	assert_int_equal(chmod(in(f, "a/data"), 0644), 0);
	snprintf(search, sizeof search, "/nonexistent:%s:%s", in(f, "a"), in(f, "b"));
	assert_int_equal(program_find("prog", search, path, sizeof path), 0);
	assert_string_equal(path, in(f, "b/prog"));
	assert_int_equal(program_find("data", search, path, sizeof path), EACCES);
	assert_int_equal(program_find("none", search, path, sizeof path), ENOENT);
	assert_int_equal(program_find("", search, path, sizeof path), ENOENT);
	assert_int_equal(program_find("prog", NULL, path, sizeof path), ENOENT);
	assert_int_equal(program_find(in(f, "a/prog"), search, path, sizeof path), EACCES);
	assert_non_null(getcwd(here, sizeof here));
	assert_int_equal(chdir(in(f, "b")), 0);
	assert_int_equal(program_find("./prog", search, path, sizeof path), 0);
	assert_string_equal(path, in(f, "b/./prog"));
	assert_int_equal(program_find("prog", "/nonexistent:", path, sizeof path), 0);
	assert_string_equal(path, in(f, "b/prog"));
	assert_int_equal(program_find("prog", search, path, 10), ENOENT);
	assert_int_equal(chdir(here), 0);
}

/* Everything that ldd lists for this system's programs. */
static void test_same_as_ldd(void **state)
{
	struct fixture *f = *state;

	for (const char *const *name = (const char *const[]){"sh", "uname", "python3", "ls", NULL}; *name; name++) {
		char path[PATH_MAX], command[PATH_MAX + 64], line[PATH_MAX], library[PATH_MAX];
		unsigned libraries = 0;
		FILE *ldd;

		if (program_find(*name, "/usr/bin:/bin", path, sizeof path))
			continue;
		assert_int_equal(program_add(f->archive, path, "/usr/bin:/bin", &f->error), 0);
		assert_true(initramfs_has(f->archive, path));
		snprintf(command, sizeof command, "ldd %s 2>/dev/null", path);
		ldd = popen(command, "r");
		while (fgets(line, sizeof line, ldd)) {
			const char *at = strchr(line, '/');

			if (!at || sscanf(at, "%4095s", library) != 1)
				continue;
			libraries++;
			/* through links of directories: looked at with them resolved */
			char *real = realpath(library, NULL);

			if (!initramfs_has(f->archive, real))
				fail_msg("%s needs %s", path, library);
			free(real);
		}
		pclose(ldd);
		print_message("%s: %u libraries\n", path, libraries);
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(test_##name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {TEST(elf),
					   TEST(elf_hostile),
					   TEST(search_order),
					   TEST(libraries_of_libraries),
					   TEST(missing_interpreter),
					   TEST(scripts),
					   TEST(find),
					   TEST(same_as_ldd)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

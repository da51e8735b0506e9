/* SPDX-License-Identifier: Apache-2.0 */
/* riffle gdb-script: commands and symbols that tell a debugger where a randomised guest's kernel lies. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/commands.h"
#include "cli/commands/running_symbols.h"
#include "cli/commands/symbol_source.h"
#include "common/fail.h"
#include "common/write_all.h"
#include "host/input.h"
#include "host/shown.h"
#include "host/suggest.h"
#include "kernel/sandbox.h"

static const char help[] =
    "Usage: riffle gdb-script --layout FILE --vmlinux FILE [--symbols OUT] [--system-map OUT]\n"
    "       riffle gdb-script --layout FILE --kernel FILE --symbols OUT [--system-map OUT]\n"
    "\n"
    "Prints gdb commands that load the symbols of a randomised guest's kernel at its addresses, and\n"
    "unwind its stack by the kernel's own tables:\n"
    "  riffle run --gdb unix:gdb.sock --layout-out layout.json vmlinuz &\n"
    "  riffle gdb-script -l layout.json -k vmlinuz -s guest.elf >guest.gdb\n"
    "  gdb -x guest.gdb -ex 'target remote gdb.sock'\n"
    "\n"
    "  -l, --layout FILE      the layout the guest runs with (riffle run --layout-out)\n"
    "  -v, --vmlinux FILE     its kernel's vmlinux, with symbols (Debian: the -dbg package)\n"
    "  -k, --kernel FILE      or the kernel itself, whose own kallsyms are used: no types, no lines\n"
    "  -s, --symbols OUT      write the symbols at their addresses in the guest to a small ELF,\n"
    "                         which the commands then load instead of the vmlinux\n"
    "  -m, --system-map OUT   write them as a System.map, for crash and perf\n"
    "  -h, --help             this text\n"
    "\n"
    "If functions were permuted (fgkaslr), no single offset fits a vmlinux: use --symbols, or\n"
    "--system-map alone, which prints no commands. Of sections that slid (kaslr+slide) the commands\n"
    "give each its own address. Both files are created with mode 0600, and as secret as the layout.\n"
    "\n"
    "Exit code: 0 success, 1 error, 2 wrong usage.\n";

static const char unwinder[] = {
#include "cli/unwinder_bytes.h"
};

/* What goes out is made in memory by a child process that can do little else, and gets its name when it is whole. */
struct product {
	const char *path; /* NULL: not asked for; of the commands, standard output */
	int fd;
};

struct gdb_script {
	struct layout_file layout;
	struct symbol_source source;
	char load[2 * PATH_MAX + 3];  /* what add-symbol-file loads, quoted */
	char types[2 * PATH_MAX + 3]; /* the vmlinux, when that is another file */
	struct product script, symbols, map;
};

static int usage_error(const char *what)
{
	fprintf(stderr, "riffle gdb-script: %s; riffle gdb-script --help shows more\n", what);
	return EXIT_USAGE;
}

/*
 * gdb takes its arguments apart as a shell does, so the path goes in double quotes. A line feed would end the command
 * and start another one: such a path is refused.
 */
static int quote(char *quoted, size_t room, const char *path, struct riffle_error *error)
{
	size_t used = 0;

	if (strpbrk(path, "\n\r"))
		return riffle_fail(error, RIFFLE_ERR_ARGUMENT, "path", "has a line feed in it");
	quoted[used++] = '"';
	for (const char *c = path; *c; c++) {
		if (used + 4 > room)
			return riffle_fail(error, RIFFLE_ERR_ARGUMENT, "path", "is too long");
		if (*c == '"' || *c == '\\')
			quoted[used++] = '\\';
		quoted[used++] = *c;
	}
	quoted[used++] = '"';
	quoted[used] = 0;
	return RIFFLE_OK;
}

/* An absolute path, of a file that may be yet to come: the script is run from anywhere. */
static int quote_path(char *quoted, size_t room, const char *name, bool exists, struct riffle_error *error)
{
	char start[PATH_MAX], path[2 * PATH_MAX];
	const char *last = "";

	if (strlen(name) >= sizeof start)
		return riffle_fail_system(error, ENAMETOOLONG, "path", "cannot be used");
	strcpy(start, name);
	if (!exists) {
		char *slash = strrchr(start, '/');

		last = slash ? name + (slash - start) : name;
		strcpy(slash ? slash : start, slash == start ? "/" : slash ? "" : ".");
	}
	if (!realpath(start, path))
		return riffle_fail_system(error, errno, "path", "cannot be found");
	if (!exists && *last != '/')
		strcat(path, "/");
	strcat(path, last);
	return quote(quoted, room, path, error);
}

static void print_comment(FILE *to, const char *label, const char *text)
{
	fprintf(to, "# %s", label);
	for (; *text; text++)
		putc(*text >= ' ' && *text < 0x7f ? *text : '?', to);
	putc('\n', to);
}

/* The image with the gaps between its blocks. */
static uint64_t span_of(const struct layout_file *layout)
{
	return layout->image_bytes + layout_file_slide(layout, layout->image_bytes);
}

static void print_head(FILE *to, const struct layout_file *layout)
{
	uint64_t virtual_base = layout->layout.virtual_base;

	fputs("# Where this guest's kernel lies, for gdb. Made by riffle gdb-script.\n", to);
	if (layout->kernel_version[0])
		print_comment(to, "Kernel: ", layout->kernel_version);
	if (layout->build_id[0])
		print_comment(to, "Build id: ", layout->build_id);
	fprintf(to, "# Image: 0x%016" PRIx64 " to 0x%016" PRIx64 ", linked to 0x%016" PRIx64 "\n", virtual_base,
		virtual_base + span_of(layout), layout->link_virtual);
	fprintf(to, "# Physical: 0x%" PRIx64 ", linked to 0x%" PRIx64 "\n", layout->layout.physical_base,
		layout->link_physical);
	if (layout->chunk_count)
		fprintf(to, "# Functions in another order than linked: %" PRIu32 " chunks\n", layout->chunk_count);
	for (uint32_t i = 1; i < layout->layout.slide_count; i++)
		fprintf(to, "# Slid from 0x%016" PRIx64 " on, as linked: by 0x%" PRIx32 "\n",
			layout->link_virtual + layout->block[i], layout->layout.slide[i]);
	fputs("#\n"
	      "# These symbols serve\n"
	      "#  - a guest of riffle run --gdb unix:PATH: target remote PATH\n"
	      "#  - without a target: info symbol 0xffffffff..., list *0xffffffff..., disassemble FUNCTION\n"
	      "#  - in the guest, as root: core-file /proc/kcore\n"
	      "# The kernel's own gdb scripts (lx-dmesg, lx-ps, lx-symbols) come with a kernel build: `source\n"
	      "# vmlinux-gdb.py` after this file. lx-symbols loads vmlinux anew where it was linked to: run this\n"
	      "# file again after it.\n\n",
	      to);
}

/*
 * Each section of a vmlinux at its own address, which is the guest's already; .text elsewhere, if `text` is not 0. All
 * are listed: gdb (13) leaves those that an -s names at their link addresses when there is an -o for the others. A
 * per-CPU section that counts from 0 comes first: gdb takes 0 for no address, and moves such a section like the one
 * before it.
 */
static void print_sections(FILE *to, const char *path, const struct elf_file *file, uint64_t text)
{
	fprintf(to, "add-symbol-file %s", path);
	for (int pass = 0; pass < 2; pass++)
		for (uint64_t i = 0; i < file->section_count; i++) {
			const Elf64_Shdr *s = &file->section[i];
			const char *name = elf_file_section_name(file, s);

			if (s->sh_flags & SHF_ALLOC && (s->sh_addr != 0) == pass)
				fprintf(to, " -s %s 0x%" PRIx64, name,
					text && !strcmp(name, ".text") ? text : s->sh_addr);
		}
	fputc('\n', to);
}

/* What a name of a section may have that is to be part of a command; gdb takes it apart as a shell does. */
static int check_section_names(const struct elf_file *file, struct riffle_error *error)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-+";

	for (uint64_t i = 0; i < file->section_count; i++) {
		const char *name = elf_file_section_name(file, &file->section[i]);

		if (file->section[i].sh_flags & SHF_ALLOC && (!*name || name[strspn(name, letters)]))
			return riffle_fail_found(error, RIFFLE_ERR_UNSUPPORTED, "sh_name",
						 "is not a name that gdb can be told (section)", i);
	}
	return RIFFLE_OK;
}

/*
 * The vmlinux's debug information serves for types and for data, whose sections moved as wholes. Its functions did not:
 * its .text goes where no kernel is, so that none of its lines is taken for an address of the guest.
 */
static void print_types(FILE *to, const struct gdb_script *g, const struct elf_file *file)
{
	fputs("define riffle-types\n  ", to);
	print_sections(to, g->types, file, g->layout.chunk_count ? UINT64_C(0x100000000000) : 0);
	fputs("end\n"
	      "document riffle-types\n"
	      "riffle-types: load types, variables and lines from the vmlinux. From then on a function's name\n"
	      "means its lines, whose addresses are not the guest's; info symbol still tells what an address is\n"
	      "end\n\n",
	      to);
}

static void print_script(FILE *to, const struct gdb_script *g, const struct elf_file *file, bool percpu_at_zero)
{
	const struct layout_file *layout = &g->layout;
	uint64_t virtual_base = layout->layout.virtual_base, delta = virtual_base - layout->link_virtual;

	print_head(to, layout);
	fputs("set architecture i386:x86-64\n", to);
	fprintf(to, "set $riffle_virtual_base = 0x%016" PRIx64 "\n", virtual_base);
	fprintf(to, "set $riffle_virtual_delta = 0x%" PRIx64 "\n", delta);
	fprintf(to, "set $riffle_physical_base = 0x%" PRIx64 "\n", layout->layout.physical_base);
	fprintf(to, "set $riffle_image_bytes = 0x%" PRIx64 "\n\n", span_of(layout));
	if (g->symbols.path) {
		fprintf(to, "add-symbol-file %s -o 0x0\n\n", g->load);
		if (g->source.kind == SYMBOLS_VMLINUX)
			print_types(to, g, file);
	} else if (layout->layout.slide_count) {
		print_sections(to, g->load, file, 0);
		fputc('\n', to);
	} else {
		/* an address of the percpu section that counts from 0 is an offset, which no layout moves */
		fprintf(to, "add-symbol-file %s -o 0x%" PRIx64 "%s\n\n", g->load, delta,
			percpu_at_zero ? " -s .data..percpu 0x0" : "");
	}
	fputs("define riffle-physical\n"
	      "  printf \"0x%lx\\n\", (unsigned long)($arg0) - $riffle_virtual_base + $riffle_physical_base\n"
	      "end\n"
	      "document riffle-physical\n"
	      "riffle-physical ADDRESS: the guest-physical address of a virtual address in the kernel's image\n"
	      "end\n"
	      "\n"
	      "python\n",
	      to);
	fwrite(unwinder, 1, sizeof unwinder, to);
	fputs("end\n", to);
}

/* --- what the child does, which reads a file that anybody may have made --- */

static int read_vmlinux(struct running_symbols *running, const struct gdb_script *g, struct symbols_elf *elf,
			struct riffle_error *error)
{
	int status = symbols_from_elf(NULL, elf, g->source.fd, error);

	if (!status)
		status = symbol_source_check_elf(elf, &g->layout, error);
	/* also where only the vmlinux's path is printed: that it has no symbols is found out before gdb does */
	return status ? status : running_symbols_read(running, g->source.fd, &g->layout, error);
}

static int read_kernel(struct running_symbols *running, const struct gdb_script *g, struct riffle_error *error)
{
	uint8_t *image;
	int status = symbol_source_map_kernel(&image, &g->source.kernel, &g->layout, error);

	if (status)
		return status;
	status = running_symbols_from_kallsyms(running, image, g->layout.image_bytes, &g->layout, error);
	munmap(image, g->layout.image_bytes);
	return status;
}

static int make_products(const struct gdb_script *g, FILE *script, struct riffle_error *error)
{
	struct running_symbols running;
	struct symbols_elf elf = {0};
	int status = sandbox_confine(error);

	if (!status)
		status = g->source.kind == SYMBOLS_KERNEL ? read_kernel(&running, g, error)
							  : read_vmlinux(&running, g, &elf, error);
	if (status)
		return status;
	if (!running.count)
		status = riffle_fail(error, RIFFLE_ERR_FORMAT, "symbol table", "has no symbols");
	if (!status && g->symbols.path)
		status = running_symbols_write_elf(&running, g->symbols.fd, error);
	if (!status && g->map.path)
		status = running_symbols_write_map(&running, g->map.fd, error);
	if (!status && script && (g->layout.layout.slide_count || g->symbols.path))
		status = check_section_names(&running.file, error);
	if (!status && script) {
		print_script(script, g, &running.file, elf.percpu_at_zero);
		if (fflush(script) || ferror(script))
			status = riffle_fail_system(error, errno, "output", "cannot be written");
	}
	running_symbols_free(&running);
	return status;
}

static int run_child(const struct gdb_script *g, const char *vmlinux)
{
	FILE *script = g->script.fd >= 0 ? fdopen(dup(g->script.fd), "w") : NULL;
	struct riffle_error error;
	int ended = 0;
	pid_t child;

	if (g->script.fd >= 0 && !script)
		child = -1;
	else
		child = fork();
	if (!child) {
		if (!make_products(g, script, &error))
			_exit(EXIT_SUCCESS);
		report_error(vmlinux, &error);
		_exit(EXIT_FAILURE);
	}
	while (child > 0 && waitpid(child, &ended, 0) < 0 && errno == EINTR)
		;
	if (script)
		fclose(script);
	if (child > 0 && WIFEXITED(ended))
		return WEXITSTATUS(ended);
	if (child < 0)
		riffle_fail_system(&error, errno, "reading it", "cannot be left to a child process");
	else
		riffle_fail_found(&error, RIFFLE_ERR_IO, "reading it", "was ended by a signal",
				  (uint64_t)WTERMSIG(ended));
	report_error(vmlinux, &error);
	return EXIT_FAILURE;
}

/* --- what the parent does --- */

static int copy(int from, int to)
{
	char bytes[65536];
	off_t at = 0;
	ssize_t n;

	while ((n = pread(from, bytes, sizeof bytes, at)) > 0) {
		if (!riffle_write_all(to, bytes, (uint64_t)n))
			return -1;
		at += n;
	}
	return n < 0 ? -1 : 0;
}

/* Like the layout, which it tells as much as: a new file for this user alone, never through a link. */
static int publish(const struct product *product)
{
	struct riffle_error error;
	int fd = open(product->path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);

	if (fd < 0) {
		riffle_fail_system(&error, errno, "output", "cannot be created");
	} else if (copy(product->fd, fd) || close(fd)) {
		riffle_fail_system(&error, errno, "output", "cannot be written");
		unlink(product->path);
	} else {
		return EXIT_SUCCESS;
	}
	report_error(product->path, &error);
	return EXIT_FAILURE;
}

static void withdraw(const struct product *product)
{
	if (product->path)
		unlink(product->path);
}

static int publish_all(const struct gdb_script *g)
{
	struct riffle_error error;

	if (g->symbols.path && publish(&g->symbols))
		return EXIT_FAILURE;
	if (g->map.path && publish(&g->map)) {
		withdraw(&g->symbols);
		return EXIT_FAILURE;
	}
	/* last: who reads the script finds the files that it names */
	if (g->script.fd >= 0 && copy(g->script.fd, STDOUT_FILENO)) {
		riffle_fail_system(&error, errno, "output", "cannot be written");
		report_error("standard output", &error);
		withdraw(&g->symbols);
		withdraw(&g->map);
		return EXIT_FAILURE;
	}
	return EXIT_SUCCESS;
}

static int make_memory(struct product *product, struct riffle_error *error)
{
	product->fd = memfd_create("riffle-gdb-script", MFD_CLOEXEC);
	return product->fd < 0 ? riffle_fail_system(error, errno, "memory", "cannot be allocated") : RIFFLE_OK;
}

/* *blame is the path that an error is about. */
static int name_files(struct gdb_script *g, const char *vmlinux, const char **blame, struct riffle_error *error)
{
	const char *load = g->symbols.path ? g->symbols.path : vmlinux;
	int status;

	*blame = load;
	status = quote_path(g->load, sizeof g->load, load, load == vmlinux, error);
	if (status)
		return status;
	*blame = vmlinux;
	if (g->source.kind == SYMBOLS_KERNEL)
		return 0;
	return quote_path(g->types, sizeof g->types, vmlinux, true, error);
}

static int gdb_script(struct gdb_script *g, const char *layout_name, const char *vmlinux)
{
	struct riffle_error error;
	const char *blame = vmlinux;
	int status, code = EXIT_FAILURE;

	if (layout_file_read(layout_name, &g->layout, &error)) {
		report_error(layout_name, &error);
		return EXIT_FAILURE;
	}
	status = symbol_source_open(&g->source, &error);
	if (status) {
		report_error(vmlinux, &error);
		layout_file_free(&g->layout);
		return EXIT_FAILURE;
	}
	if (!status && g->layout.chunk_count && !g->symbols.path && !g->map.path)
		status = riffle_fail(
		    &error, RIFFLE_ERR_ARGUMENT, "--symbols",
		    "is needed: this guest's functions were permuted, and no offset of the vmlinux fits them");
	if (!status && g->source.kind == SYMBOLS_KERNEL && !g->symbols.path && !g->map.path)
		status = riffle_fail(&error, RIFFLE_ERR_ARGUMENT, "--symbols",
				     "is needed: gdb cannot read a kernel's own symbols");
	if (!status && ((!g->layout.chunk_count && g->source.kind == SYMBOLS_VMLINUX) || g->symbols.path)) {
		status = name_files(g, vmlinux, &blame, &error);
		if (!status)
			status = make_memory(&g->script, &error);
	}
	if (!status && g->symbols.path)
		status = make_memory(&g->symbols, &error);
	if (!status && g->map.path)
		status = make_memory(&g->map, &error);
	if (status)
		report_error(blame, &error);
	else
		code = run_child(g, vmlinux);
	if (!status && !code)
		code = publish_all(g);
	for (const int *fd = (int[]){g->script.fd, g->symbols.fd, g->map.fd, -2}; *fd != -2; fd++)
		if (*fd >= 0)
			close(*fd);
	symbol_source_close(&g->source);
	layout_file_free(&g->layout);
	return code;
}

int command_gdb_script(int argc, char **argv)
{
	static const struct option long_options[] = {
	    {"layout", required_argument, NULL, 'l'},
	    {"vmlinux", required_argument, NULL, 'v'},
	    {"symbols", required_argument, NULL, 's'},
	    {"system-map", required_argument, NULL, 'm'},
	    {"kernel", required_argument, NULL, 'k'},
	    {"help", no_argument, NULL, 'h'},
	    {0},
	};
	struct gdb_script script = {.script.fd = -1, .symbols.fd = -1, .map.fd = -1};
	const char *layout = NULL, *vmlinux = NULL;
	int option;

	opterr = 0;
	while ((option = getopt_long(argc, argv, "l:v:k:s:m:h", long_options, NULL)) != -1) {
		switch (option) {
		case 'l':
			layout = optarg;
			break;
		case 'v':
		case 'k':
			if (vmlinux)
				return usage_error("takes one of --vmlinux and --kernel, once");
			vmlinux = optarg;
			script.source.kind = option == 'v' ? SYMBOLS_VMLINUX : SYMBOLS_KERNEL;
			script.source.name = optarg;
			break;
		case 's':
			script.symbols.path = optarg;
			break;
		case 'm':
			script.map.path = optarg;
			break;
		case 'h':
			fputs(help, stdout);
			return EXIT_SUCCESS;
		default:
			say_no_option("gdb-script", argv[optind - 1], long_options);
			return EXIT_USAGE;
		}
	}
	if (optind != argc)
		return usage_error("takes nothing but options");
	if (!layout)
		return usage_error("no layout given (--layout FILE)");
	if (!vmlinux)
		return usage_error("no symbols given (--vmlinux FILE or --kernel FILE)");
	return gdb_script(&script, layout, vmlinux);
}

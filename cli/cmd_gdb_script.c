/* SPDX-License-Identifier: Apache-2.0 */
/* riffle gdb-script: commands that tell gdb where a randomised guest's kernel lies. */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/commands.h"
#include "cli/input.h"
#include "cli/symbol_source.h"
#include "common/fail.h"

static const char help[] = "Usage: riffle gdb-script --layout FILE --vmlinux FILE\n"
			   "\n"
			   "Prints gdb commands that load the symbols of a randomised guest's kernel where it lies:\n"
			   "  riffle gdb-script --layout layout.json --vmlinux vmlinux >guest.gdb; gdb -x guest.gdb\n"
			   "\n"
			   "  -l, --layout FILE   the layout the guest runs with (riffle run --layout-out)\n"
			   "  -v, --vmlinux FILE  its kernel's vmlinux, with symbols (Debian: the -dbg package)\n"
			   "  -h, --help          this text\n"
			   "\n"
			   "Exit code: 0 done, 1 an error, 2 wrong usage.\n";

static int usage_error(const char *what)
{
	fprintf(stderr, "riffle gdb-script: %s; riffle gdb-script --help tells more\n", what);
	return EXIT_USAGE;
}

/*
 * gdb takes its arguments apart as a shell does, so the path goes in double quotes. A line feed would end the command
 * and start another one: such a path is refused.
 */
static int quote_path(char *quoted, size_t room, const char *name, struct riffle_error *error)
{
	char path[PATH_MAX];
	size_t used = 0;

	if (!realpath(name, path))
		return riffle_fail_system(error, errno, "vmlinux", "has no path");
	if (strpbrk(path, "\n\r"))
		return riffle_fail(error, RIFFLE_ERR_ARGUMENT, "vmlinux", "its path has a line feed in it");
	quoted[used++] = '"';
	for (const char *c = path; *c; c++) {
		if (used + 4 > room)
			return riffle_fail(error, RIFFLE_ERR_ARGUMENT, "vmlinux", "its path is too long");
		if (*c == '"' || *c == '\\')
			quoted[used++] = '\\';
		quoted[used++] = *c;
	}
	quoted[used++] = '"';
	quoted[used] = 0;
	return RIFFLE_OK;
}

static void print_comment(const char *label, const char *text)
{
	printf("# %s", label);
	for (; *text; text++)
		putchar(*text >= ' ' && *text < 0x7f ? *text : '?');
	putchar('\n');
}

static void print_script(const struct layout_file *layout, const struct symbols_elf *elf, const char *vmlinux)
{
	uint64_t virtual_base = layout->layout.virtual_base, physical_base = layout->layout.physical_base;
	uint64_t delta = virtual_base - layout->link_virtual;

	puts("# Where this guest's kernel lies, for gdb. Made by riffle gdb-script.");
	if (layout->kernel_version[0])
		print_comment("Kernel: ", layout->kernel_version);
	if (layout->build_id[0])
		print_comment("Build id: ", layout->build_id);
	printf("# Image: 0x%016" PRIx64 " to 0x%016" PRIx64 ", linked to 0x%016" PRIx64 "\n", virtual_base,
	       virtual_base + layout->image_bytes, layout->link_virtual);
	printf("# Physical: 0x%" PRIx64 ", linked to 0x%" PRIx64 "\n", physical_base, layout->link_physical);
	puts("#\n"
	     "# riffle has no debug stub yet. These symbols serve\n"
	     "#  - without a target: info symbol 0xffffffff..., list *0xffffffff..., disassemble FUNCTION\n"
	     "#  - in the guest, as root: core-file /proc/kcore\n"
	     "#  - with a memory dump or a monitor that has a stub and replays this layout: target remote :1234\n"
	     "# The kernel's own gdb scripts (lx-dmesg, lx-ps, lx-symbols) come with a kernel build: `source\n"
	     "# vmlinux-gdb.py` after this file. lx-symbols loads vmlinux anew where it was linked to: run this\n"
	     "# file again after it.\n");
	puts("set architecture i386:x86-64");
	printf("set $riffle_virtual_base = 0x%016" PRIx64 "\n", virtual_base);
	printf("set $riffle_virtual_delta = 0x%" PRIx64 "\n", delta);
	printf("set $riffle_physical_base = 0x%" PRIx64 "\n", physical_base);
	printf("set $riffle_image_bytes = 0x%" PRIx64 "\n\n", layout->image_bytes);
	/* an address of the percpu section that counts from 0 is an offset, which no layout moves */
	printf("add-symbol-file %s -o 0x%" PRIx64 "%s\n\n", vmlinux, delta,
	       elf->percpu_at_zero ? " -s .data..percpu 0x0" : "");
	puts("define riffle-physical\n"
	     "  printf \"0x%lx\\n\", (unsigned long)($arg0) - $riffle_virtual_base + $riffle_physical_base\n"
	     "end\n"
	     "document riffle-physical\n"
	     "riffle-physical ADDRESS: the guest-physical address of a virtual address in the kernel's image\n"
	     "end");
}

static int gdb_script(const char *layout_name, const char *vmlinux)
{
	char quoted[2 * PATH_MAX + 3];
	struct layout_file layout;
	struct riffle_error error;
	struct symbols_elf elf;
	struct symbols symbols;
	struct stat st;
	int fd, status;

	if (layout_file_read(layout_name, &layout, &error)) {
		report_error(layout_name, &error);
		return EXIT_FAILURE;
	}
	if (layout.image_bytes > RIFFLE_IMAGE_MAX) {
		riffle_fail_expected(&error, RIFFLE_ERR_FORMAT, "image_bytes", "is more than a kernel has",
				     layout.image_bytes, RIFFLE_IMAGE_MAX);
		report_error(layout_name, &error);
		return EXIT_FAILURE;
	}
	status = input_open(&fd, &st, vmlinux, &error);
	if (!status) {
		/* reading its symbols now finds out that there are none before gdb does */
		symbols_init(&symbols, layout.link_virtual, layout.link_virtual + layout.image_bytes);
		status = symbols_from_elf(&symbols, &elf, fd, &error);
		symbols_free(&symbols);
		close(fd);
	}
	if (!status)
		status = symbol_source_check_elf(&elf, &layout, &error);
	if (!status)
		status = quote_path(quoted, sizeof quoted, vmlinux, &error);
	if (status) {
		report_error(vmlinux, &error);
		return EXIT_FAILURE;
	}
	print_script(&layout, &elf, quoted);
	if (fflush(stdout) || ferror(stdout)) {
		riffle_fail_system(&error, errno, "output", "cannot be written");
		report_error("standard output", &error);
		return EXIT_FAILURE;
	}
	return EXIT_SUCCESS;
}

int command_gdb_script(int argc, char **argv)
{
	static const struct option long_options[] = {
	    {"layout", required_argument, NULL, 'l'},
	    {"vmlinux", required_argument, NULL, 'v'},
	    {"help", no_argument, NULL, 'h'},
	    {0},
	};
	const char *layout = NULL, *vmlinux = NULL;
	int option;

	opterr = 0;
	while ((option = getopt_long(argc, argv, "l:v:h", long_options, NULL)) != -1) {
		switch (option) {
		case 'l':
			layout = optarg;
			break;
		case 'v':
			vmlinux = optarg;
			break;
		case 'h':
			fputs(help, stdout);
			return EXIT_SUCCESS;
		default:
			fprintf(stderr,
				"riffle gdb-script: '%s' is no option or lacks its argument; riffle gdb-script --help "
				"tells more\n",
				argv[optind - 1]);
			return EXIT_USAGE;
		}
	}
	if (optind != argc)
		return usage_error("takes nothing but options");
	if (!layout)
		return usage_error("no layout given (--layout FILE)");
	if (!vmlinux)
		return usage_error("no vmlinux given (--vmlinux FILE)");
	return gdb_script(layout, vmlinux);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* riffle symbolize: a console log or single addresses of a randomised guest, in terms of the kernel as it was linked.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/commands.h"
#include "cli/commands/symbol_source.h"
#include "common/fail.h"
#include "common/write_all.h"
#include "host/input.h"
#include "host/shown.h"
#include "host/suggest.h"
#include "kernel/sandbox.h"
#include "prepare/symbols/annotate.h"

static const char help[] =
    "Usage: riffle symbolize --layout FILE [SYMBOLS] [LOG]\n"
    "       riffle symbolize --layout FILE [SYMBOLS] --address A…\n"
    "\n"
    "Reads a guest's console log, or an oops, from LOG or standard input, and writes it with every\n"
    "address of the guest's kernel turned into its link-time address and symbol:\n"
    "  ffffffff9a2b4c10  becomes  ffffffff812b4c10 [vfs_read+0x10/0x340]\n"
    "\n"
    "  -l, --layout FILE      the layout the guest ran with (riffle run --layout-out)\n"
    "  -a, --address          take addresses from the command line instead of a log\n"
    "  -h, --help             this text\n"
    "\n"
    "SYMBOLS is one of these; without it addresses get no names:\n"
    "  -m, --system-map FILE  the System.map of the kernel's build\n"
    "  -v, --vmlinux FILE     its vmlinux, not stripped (Debian: the -dbg package)\n"
    "  -k, --kernel FILE      the kernel itself: bzImage, vmlinux or prepared kernel; its own\n"
    "                         kallsyms are used\n"
    "\n"
    "Exit code: 0 success, 1 error or an address outside the kernel, 2 wrong usage.\n";

struct symbolize_options {
	const char *layout;
	struct symbol_source source;
	bool addresses;
	char **argument;
	int argument_count;
};

static int usage_error(const char *what)
{
	fprintf(stderr, "riffle symbolize: %s; riffle symbolize --help shows more\n", what);
	return EXIT_USAGE;
}

/* What goes to standard output, in pieces worth a system call. */
struct out {
	char bytes[65536];
	size_t used;
};

static int out_flush(struct out *out)
{
	if (!riffle_write_all(STDOUT_FILENO, out->bytes, out->used))
		return -1;
	out->used = 0;
	return 0;
}

static int out_write(void *opaque, const char *text, size_t bytes)
{
	struct out *out = opaque;

	while (bytes) {
		size_t room = sizeof out->bytes - out->used, n = bytes < room ? bytes : room;

		memcpy(out->bytes + out->used, text, n);
		out->used += n;
		text += n;
		bytes -= n;
		if (out->used == sizeof out->bytes && out_flush(out))
			return -1;
	}
	return 0;
}

static int report_system(const char *file, const char *field, const char *problem)
{
	struct riffle_error error;

	riffle_fail_system(&error, errno, field, problem);
	report_error(file, &error);
	return EXIT_FAILURE;
}

/* Written out after each piece that was read, so that a log can be followed while it grows. */
static int symbolize_log(struct annotator *annotator, int log, const char *name)
{
	struct out *out = annotator->opaque;
	char text[65536];
	ssize_t n;

	for (;;) {
		n = read(log, text, sizeof text);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		if (annotate(annotator, text, (size_t)n) || out_flush(out))
			return report_system("standard output", "output", "cannot be written");
	}
	if (n < 0)
		return report_system(name, "log", "cannot be read");
	if (annotate_end(annotator) || out_flush(out))
		return report_system("standard output", "output", "cannot be written");
	return EXIT_SUCCESS;
}

static int symbolize_addresses(const struct annotator *annotator, char **argument, int count)
{
	struct out *out = annotator->opaque;
	char text[ANNOTATE_ADDRESS_MAX];
	int code = EXIT_SUCCESS;

	for (int i = 0; i < count; i++) {
		uint64_t address;
		char *end;

		errno = 0;
		address = strtoull(argument[i], &end, 16);
		if (errno || *end || end == argument[i] || strchr(argument[i], '-')) {
			fprintf(stderr, "riffle symbolize: '%s' is no hexadecimal address\n", SHOWN(argument[i]));
			return EXIT_USAGE;
		}
		if (!annotate_address(text, annotator, address)) {
			snprintf(text, sizeof text, "%016" PRIx64 " [not in the kernel's image]", address);
			code = EXIT_FAILURE;
		}
		if (out_write(out, text, strlen(text)) || out_write(out, "\n", 1))
			return report_system("standard output", "output", "cannot be written");
	}
	return out_flush(out) ? report_system("standard output", "output", "cannot be written") : code;
}

/* Everything is open: what follows looks at bytes that anybody may have made, and can do little but read and write. */
static int confine(void)
{
	struct riffle_error error;
	int status = sandbox_confine(&error);

	if (status)
		report_error("sandbox", &error);
	return status;
}

/* Through the chunk that an address lies in, where functions were permuted. */
static bool to_link(const void *map, uint64_t address, uint64_t *link)
{
	return layout_file_to_link(map, address, link);
}

static int symbolize(struct symbolize_options *options, const struct layout_file *layout, int log, const char *log_name)
{
	struct annotator annotator = {
	    .to_link = to_link,
	    .map = layout,
	    .write = out_write,
	};
	struct riffle_error error;
	struct symbols symbols;
	int code;

	if (confine())
		return EXIT_FAILURE;
	symbols_init(&symbols, layout->link_virtual, layout->link_virtual + layout->image_bytes);
	if (options->source.kind != SYMBOLS_NONE) {
		if (symbol_source_read(&symbols, &options->source, layout, &error)) {
			report_error(options->source.name, &error);
			symbols_free(&symbols);
			return EXIT_FAILURE;
		}
		annotator.symbols = &symbols;
	}
	annotator.opaque = calloc(1, sizeof(struct out));
	if (!annotator.opaque)
		code = report_system("standard output", "output", "has no buffer");
	else if (options->addresses)
		code = symbolize_addresses(&annotator, options->argument, options->argument_count);
	else
		code = symbolize_log(&annotator, log, log_name);
	free(annotator.opaque);
	symbols_free(&symbols);
	return code;
}

static int open_all(struct symbolize_options *options)
{
	const char *log_name = "standard input";
	struct layout_file layout;
	struct riffle_error error;
	int log = STDIN_FILENO, code;

	if (layout_file_read(options->layout, &layout, &error)) {
		report_error(options->layout, &error);
		return EXIT_FAILURE;
	}
	if (symbol_source_open(&options->source, &error)) {
		report_error(options->source.name, &error);
		layout_file_free(&layout);
		return EXIT_FAILURE;
	}
	if (!options->addresses && options->argument_count && strcmp(options->argument[0], "-")) {
		log_name = options->argument[0];
		log = open(log_name, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	}
	if (log < 0)
		code = report_system(log_name, "log", "cannot be opened");
	else
		code = symbolize(options, &layout, log, log_name);
	if (log > STDIN_FILENO)
		close(log);
	symbol_source_close(&options->source);
	layout_file_free(&layout);
	return code;
}

static bool take_source(struct symbol_source *source, enum symbol_source_kind kind, const char *name)
{
	if (source->kind != SYMBOLS_NONE)
		return false;
	source->kind = kind;
	source->name = name;
	return true;
}

int command_symbolize(int argc, char **argv)
{
	static const struct option long_options[] = {
	    {"layout", required_argument, NULL, 'l'},
	    {"system-map", required_argument, NULL, 'm'},
	    {"vmlinux", required_argument, NULL, 'v'},
	    {"kernel", required_argument, NULL, 'k'},
	    {"address", no_argument, NULL, 'a'},
	    {"help", no_argument, NULL, 'h'},
	    {0},
	};
	struct symbolize_options options = {0};
	bool single = true;
	int option;

	opterr = 0;
	while ((option = getopt_long(argc, argv, "l:m:v:k:ah", long_options, NULL)) != -1) {
		switch (option) {
		case 'l':
			options.layout = optarg;
			break;
		case 'm':
			single &= take_source(&options.source, SYMBOLS_SYSTEM_MAP, optarg);
			break;
		case 'v':
			single &= take_source(&options.source, SYMBOLS_VMLINUX, optarg);
			break;
		case 'k':
			single &= take_source(&options.source, SYMBOLS_KERNEL, optarg);
			break;
		case 'a':
			options.addresses = true;
			break;
		case 'h':
			fputs(help, stdout);
			return EXIT_SUCCESS;
		default:
			say_no_option("symbolize", argv[optind - 1], long_options);
			return EXIT_USAGE;
		}
	}
	options.argument = argv + optind;
	options.argument_count = argc - optind;
	if (!options.layout)
		return usage_error("no layout given (--layout FILE)");
	if (!single)
		return usage_error("symbols come from one place: --system-map, --vmlinux or --kernel");
	if (options.addresses && !options.argument_count)
		return usage_error("no address given");
	if (!options.addresses && options.argument_count > 1)
		return usage_error("more than one log given");
	return open_all(&options);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* riffle prepare: a kernel goes in, a prepared kernel comes out; or a prepared kernel is checked to the last byte. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cli/commands.h"
#include "common/fail.h"
#include "host/input.h"
#include "host/mode.h"
#include "host/output.h"
#include "host/shown.h"
#include "host/suggest.h"
#include "kernel/bootstrap_image.h"
#include "kernel/frame_reader.h"
#include "kernel/sandbox.h"
#include "kernel/spawn.h"
#include "prepare/analysis/prepared.h"
#include "prepare/image/image.h"

static const char help[] =
    "Usage: riffle prepare KERNEL [--relocs FILE] [--debug-vmlinux FILE] [--compress METHOD]\n"
    "                      [--bootstrap [--elf] [--randomize MODE]] [--force] -o FILE\n"
    "       riffle prepare --check FILE\n"
    "\n"
    "Prepares KERNEL once, ahead of its boots: unpacks it, checks its relocations, determines which\n"
    "of its functions can be shuffled and which parts are not zero, and writes a prepared kernel\n"
    "that boots directly.\n"
    "KERNEL is a bzImage or a vmlinux of any kind; fd:N names an open descriptor.\n"
    "\n"
    "  -o, --output FILE   the prepared kernel; it appears whole or not at all\n"
    "  -r, --relocs FILE   vmlinux.relocs that belongs to a stripped vmlinux\n"
    "  -d, --debug-vmlinux FILE\n"
    "                      vmlinux with symbols from the same build: its functions and references are\n"
    "                      added to those found in the kernel, and checked against them\n"
    "  -b, --bootstrap     write a kernel that randomises itself: a loader stage that draws the layout in\n"
    "                      the guest, followed by the prepared kernel, for riffle run --boot=bootstrap\n"
    "                      and any other loader of the 64-bit boot protocol\n"
    "  -e, --elf           with --bootstrap, write it as an ELF with a 64-bit and a PVH entry: for\n"
    "                      Firecracker, Cloud Hypervisor, qemu -kernel and other monitors\n"
    "      --randomize MODE\n"
    "                      with --bootstrap, what the stage randomises: kaslr, fgkaslr, kaslr+slide,\n"
    "                      fgkaslr+slide, or auto: the most that kernel and guest allow [auto]\n"
    "  -z, --compress METHOD\n"
    "                      how the prepared kernel is stored: lz4, zstd, or none, which boots fastest\n"
    "                      unless reading the file is slow [none]\n"
    "  -f, --force         replace FILE if it exists\n"
    "      --check         compare a prepared kernel's contents with the digest stored in it\n"
    "  -h, --help          this text\n"
    "\n"
    "The kernel is read by a child process that has no privileges and may do little but compute.\n"
    "\n"
    "Exit code: 0 success, 1 error, 2 wrong usage.\n";

struct prepare_options {
	const char *kernel, *relocs, *debug, *output;
	enum riffle_compression storage;
	bool force, check, compress, bootstrap, elf;
	bool randomize, automatic, slide; /* what --randomize says, if it is there */
	enum riffle_mode mode;
};

static int usage_error(const char *what)
{
	fprintf(stderr, "riffle prepare: %s; riffle prepare --help shows more\n", what);
	return EXIT_USAGE;
}

/* A line on a terminal only, wiped when the work is done: what takes long is unpacking. */
static void progress(const char *what)
{
	if (!isatty(STDERR_FILENO))
		return;
	if (what)
		fprintf(stderr, "riffle: preparing %s …", SHOWN(what));
	else
		fputs("\r\033[K", stderr);
}

/* Which of the files a worker's error is about. */
static const char *blame(const struct prepare_options *options, const struct riffle_error *error)
{
	if (!strcmp(error->field, "output"))
		return options->output;
	return spawn_blame(error, options->kernel, options->relocs, options->debug);
}

/* The prepared kernel is made in memory: what is wanted of it is packed behind the stage. */
static int bootstrap_to(struct bootstrap_request *request, struct spawn_files *files, struct spawn_words *words,
			struct riffle_error *error)
{
	struct stat st;
	int status;

	/* a kernel that is prepared already only needs the stage in front of it; its bytes are trusted as run does it
	 */
	if (input_is_prepared(files->kernel)) {
		if (fstat(files->kernel, &st) < 0)
			return riffle_fail_system(error, errno, "file", "cannot be examined");
		status = input_trust(files->kernel, &st, error);
		request->prepared_fd = files->kernel;
		return status ? status : bootstrap_image_write(request, error);
	}
	files->out = memfd_create("prepared kernel", MFD_CLOEXEC);
	if (files->out < 0)
		return riffle_fail_system(error, errno, "memfd_create", "failed");
	status = spawn_worker(words, files, error);
	request->prepared_fd = files->out;
	if (!status)
		status = bootstrap_image_write(request, error);
	close(files->out);
	return status;
}

/* Whether the output would take the place of one of the files that it is made from. */
static bool is_own_input(const char *output, const struct spawn_files *files)
{
	const int inputs[] = {files->kernel, files->relocs, files->debug};
	struct stat out, in;

	if (stat(output, &out) < 0)
		return false;
	for (size_t i = 0; i < sizeof inputs / sizeof *inputs; i++)
		if (inputs[i] >= 0 && !fstat(inputs[i], &in) && in.st_dev == out.st_dev && in.st_ino == out.st_ino)
			return true;
	return false;
}

static int prepare_to(const struct prepare_options *options, struct spawn_files *files)
{
	struct bootstrap_request request = {
	    .elf = options->elf, .automatic = options->automatic, .mode = options->mode, .slide = options->slide};
	struct riffle_error error;
	struct spawn_words words;
	struct output output;
	int status;

	if (is_own_input(options->output, files)) {
		fprintf(stderr, "riffle: %s: output: is a file that it would be made from\n", SHOWN(options->output));
		return EXIT_FAILURE;
	}
	if (output_file_create(&output, options->output, options->force, &error)) {
		report_error(options->output, &error);
		return EXIT_FAILURE;
	}
	progress(options->kernel);
	if (options->bootstrap) {
		request.out_fd = output.fd;
		status = bootstrap_to(&request, files, &words, &error);
	} else {
		files->out = output.fd;
		status = spawn_worker(&words, files, &error);
	}
	progress(NULL);
	if (status) {
		output_file_abandon(&output);
		report_error(blame(options, &error), &error);
		return EXIT_FAILURE;
	}
	if (output_file_finish(&output, &error)) {
		report_error(options->output, &error);
		return EXIT_FAILURE;
	}
	for (unsigned i = 0; i < request.reason_count; i++)
		fprintf(stderr, "riffle: notice: %s\n", SHOWN(request.reasons[i]));
	if (request.open_kallsyms)
		fprintf(stderr, "riffle: notice: %s\n", request.open_kallsyms);
	return EXIT_SUCCESS;
}

/* A file that the command line may name or not; reports what is wrong with it. */
static int open_file(int *fd, const char *name)
{
	struct riffle_error error;
	struct stat st;

	*fd = -1;
	if (!name || !input_open(fd, &st, name, &error))
		return 0;
	report_error(name, &error);
	return EXIT_FAILURE;
}

static int prepare(const struct prepare_options *options)
{
	struct spawn_files files = {-1, -1, -1, -1, options->storage};
	int code = open_file(&files.kernel, options->kernel);

	if (!code)
		code = open_file(&files.relocs, options->relocs);
	if (!code)
		code = open_file(&files.debug, options->debug);
	if (!code)
		code = prepare_to(options, &files);
	if (files.kernel >= 0)
		close(files.kernel);
	if (files.relocs >= 0)
		close(files.relocs);
	if (files.debug >= 0)
		close(files.debug);
	return code;
}

static bool parse_storage(const char *word, enum riffle_compression *storage)
{
	static const enum riffle_compression known[] = {RIFFLE_COMPRESSION_NONE, RIFFLE_COMPRESSION_LZ4,
							RIFFLE_COMPRESSION_ZSTD};

	for (size_t i = 0; i < sizeof known / sizeof *known; i++)
		if (!strcmp(word, riffle_compression_name(known[i]))) {
			*storage = known[i];
			return true;
		}
	return false;
}

/* The value of --randomize; says what is wrong with it. */
static int parse_randomize(struct prepare_options *options, const char *value)
{
	options->randomize = true;
	if (!mode_option(value, &options->automatic, &options->mode, &options->slide) &&
	    (options->automatic || options->mode >= RIFFLE_MODE_KASLR))
		return 0;
	fprintf(stderr,
		"riffle prepare: --randomize: must be kaslr, fgkaslr, either of these with +slide, or auto (found "
		"'%s')\n",
		SHOWN(value));
	return EXIT_USAGE;
}

static int check(const char *name)
{
	struct frame_reader *frames = NULL;
	struct riffle_source source;
	struct riffle_error error;
	struct stat st;
	int fd, status;

	status = input_open(&fd, &st, name, &error);
	if (!status)
		status = sandbox_confine(&error);
	if (!status)
		status = riffle_source_from_fd(&source, fd, &error);
	if (!status)
		status = frame_reader_begin(&frames, &source, &error);
	if (!status)
		status = riffle_prepared_check_digest(fd, &source, &error);
	frame_reader_end(frames);
	if (status) {
		report_error(name, &error);
		return EXIT_FAILURE;
	}
	printf("%s: whole\n", SHOWN(name));
	return EXIT_SUCCESS;
}

int command_prepare(int argc, char **argv)
{
	static const struct option long_options[] = {
	    {"output", required_argument, NULL, 'o'},
	    {"relocs", required_argument, NULL, 'r'},
	    {"debug-vmlinux", required_argument, NULL, 'd'},
	    {"compress", required_argument, NULL, 'z'},
	    {"bootstrap", no_argument, NULL, 'b'},
	    {"elf", no_argument, NULL, 'e'},
	    {"randomize", required_argument, NULL, 'R'},
	    {"force", no_argument, NULL, 'f'},
	    {"check", no_argument, NULL, 'c'},
	    {"help", no_argument, NULL, 'h'},
	    {0},
	};
	struct prepare_options options = {.automatic = true};
	int option;

	opterr = 0;
	while ((option = getopt_long(argc, argv, "o:r:d:z:befh", long_options, NULL)) != -1) {
		switch (option) {
		case 'o':
			options.output = optarg;
			break;
		case 'r':
			options.relocs = optarg;
			break;
		case 'd':
			options.debug = optarg;
			break;
		case 'b':
			options.bootstrap = true;
			break;
		case 'e':
			options.elf = true;
			break;
		case 'R':
			if (parse_randomize(&options, optarg))
				return EXIT_USAGE;
			break;
		case 'z':
			if (!parse_storage(optarg, &options.storage)) {
				fprintf(stderr, "riffle prepare: --compress: is none of lz4, zstd, none (found '%s')\n",
					SHOWN(optarg));
				return EXIT_USAGE;
			}
			options.compress = true;
			break;
		case 'f':
			options.force = true;
			break;
		case 'c':
			options.check = true;
			break;
		case 'h':
			fputs(help, stdout);
			return EXIT_SUCCESS;
		default:
			say_no_option("prepare", argv[optind - 1], long_options);
			return EXIT_USAGE;
		}
	}
	if (argc - optind != 1)
		return usage_error(argc == optind ? "no kernel given" : "more than one kernel given");
	options.kernel = argv[optind];
	if (options.check && (options.output || options.relocs || options.debug || options.bootstrap || options.elf ||
			      options.randomize || options.force || options.compress))
		return usage_error("--check cannot be combined with other options");
	if (options.elf && !options.bootstrap)
		return usage_error("--elf requires --bootstrap");
	if (options.randomize && !options.bootstrap)
		return usage_error("--randomize requires --bootstrap");
	if (options.bootstrap && options.storage != RIFFLE_COMPRESSION_NONE)
		return usage_error("--bootstrap stores its kernel uncompressed: --compress cannot be combined with it");
	if (!options.check && !options.output)
		return usage_error("no output given (-o FILE)");
	return options.check ? check(options.kernel) : prepare(&options);
}

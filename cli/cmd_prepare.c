/* SPDX-License-Identifier: Apache-2.0 */
/* riffle prepare: a kernel goes in, a prepared kernel comes out; or a prepared kernel is checked to the last byte. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/commands.h"
#include "cli/input.h"
#include "cli/output.h"
#include "cli/sandbox.h"
#include "cli/spawn.h"
#include "common/fail.h"
#include "prepare/analysis/prepared.h"

static const char help[] =
	"Usage: riffle prepare KERNEL [--relocs FILE] [--force] -o FILE\n"
	"       riffle prepare --check FILE\n"
	"\n"
	"Does once what need not be done at each boot: unpacks KERNEL, checks its relocations, finds\n"
	"the parts that are not zero, and writes a prepared kernel that later boots use as it is.\n"
	"KERNEL is a bzImage or a vmlinux of any kind; fd:N names an open descriptor.\n"
	"\n"
	"  -o, --output FILE   the prepared kernel; it appears whole or not at all\n"
	"  -r, --relocs FILE   vmlinux.relocs that belongs to a stripped vmlinux\n"
	"  -f, --force         replace FILE if it is there\n"
	"      --check         compare a prepared kernel's contents with the digest stored in it\n"
	"  -h, --help          this text\n"
	"\n"
	"The kernel is read by a child process that has no privileges and may do little but compute.\n"
	"\n"
	"Exit code: 0 done, 1 an error, 2 wrong usage.\n";

struct prepare_options {
	const char *kernel, *relocs, *output;
	bool force, check;
};

static int usage_error(const char *what)
{
	fprintf(stderr, "riffle prepare: %s; riffle prepare --help tells more\n", what);
	return EXIT_USAGE;
}

/* A line on a terminal only, wiped when the work is done: what takes long is unpacking. */
static void progress(const char *what)
{
	if (!isatty(STDERR_FILENO))
		return;
	if (what)
		fprintf(stderr, "riffle: preparing %s …", what);
	else
		fputs("\r\033[K", stderr);
}

static int prepare_to(const struct prepare_options *options, int kernel_fd, int relocs_fd)
{
	struct riffle_error error;
	struct spawn_words words;
	struct output output;
	int status;

	if (output_create(&output, options->output, options->force, &error)) {
		report_error(options->output, &error);
		return EXIT_FAILURE;
	}
	progress(options->kernel);
	status = spawn_worker(&words, kernel_fd, relocs_fd, output.fd, &error);
	progress(NULL);
	if (status) {
		output_abandon(&output);
		report_error(strcmp(error.field, "output") ? options->kernel : options->output, &error);
		return EXIT_FAILURE;
	}
	if (output_finish(&output, &error)) {
		report_error(options->output, &error);
		return EXIT_FAILURE;
	}
	return EXIT_SUCCESS;
}

static int prepare(const struct prepare_options *options)
{
	struct riffle_error error;
	int kernel_fd, relocs_fd = -1, code;
	struct stat st;

	if (input_open(&kernel_fd, &st, options->kernel, &error)) {
		report_error(options->kernel, &error);
		return EXIT_FAILURE;
	}
	if (options->relocs && input_open(&relocs_fd, &st, options->relocs, &error)) {
		report_error(options->relocs, &error);
		close(kernel_fd);
		return EXIT_FAILURE;
	}
	code = prepare_to(options, kernel_fd, relocs_fd);
	close(kernel_fd);
	if (relocs_fd >= 0)
		close(relocs_fd);
	return code;
}

static int check(const char *name)
{
	struct riffle_error error;
	struct stat st;
	int fd, status;

	status = input_open(&fd, &st, name, &error);
	if (!status)
		status = sandbox_drop(&error);
	if (!status)
		status = sandbox_filter(SANDBOX_PLAIN, &error);
	if (!status)
		status = riffle_prepared_check_digest(fd, &error);
	if (status) {
		report_error(name, &error);
		return EXIT_FAILURE;
	}
	printf("%s: whole\n", name);
	return fflush(stdout) ? EXIT_FAILURE : EXIT_SUCCESS;
}

int command_prepare(int argc, char **argv)
{
	static const struct option long_options[] = {
		{"output", required_argument, NULL, 'o'}, {"relocs", required_argument, NULL, 'r'},
		{"force", no_argument, NULL, 'f'},        {"check", no_argument, NULL, 'c'},
		{"help", no_argument, NULL, 'h'},         {0},
	};
	struct prepare_options options = {0};
	int option;

	opterr = 0;
	while ((option = getopt_long(argc, argv, "o:r:fh", long_options, NULL)) != -1) {
		switch (option) {
		case 'o':
			options.output = optarg;
			break;
		case 'r':
			options.relocs = optarg;
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
			fprintf(stderr,
				"riffle prepare: '%s' is no option or lacks its argument; riffle prepare --help tells "
				"more\n",
				argv[optind - 1]);
			return EXIT_USAGE;
		}
	}
	if (argc - optind != 1)
		return usage_error(argc == optind ? "no kernel given" : "more than one kernel given");
	options.kernel = argv[optind];
	if (options.check && (options.output || options.relocs || options.force))
		return usage_error("--check goes with no other option");
	if (!options.check && !options.output)
		return usage_error("no output given (-o FILE)");
	return options.check ? check(options.kernel) : prepare(&options);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* riffle dump: a running guest's memory as an ELF core file. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/commands.h"
#include "common/fail.h"
#include "host/input.h"
#include "host/shown.h"
#include "host/suggest.h"
#include "machine/snapshot_socket.h"

static const char help[] =
    "Usage: riffle dump --socket PATH --output CORE\n"
    "\n"
    "Writes the memory and registers of the guest of a `riffle run --snapshot-socket PATH` into CORE,\n"
    "a new ELF core file for gdb, crash and drgn. The guest is paused meanwhile.\n"
    "\n"
    "  -s, --socket PATH   the guest's snapshot socket\n"
    "  -o, --output CORE   the file, new and of mode 0600: it holds all of the guest's memory\n"
    "  -h, --help          this text\n"
    "\n"
    "Exit code: 0 success, 1 error, 2 wrong usage.\n";

static int usage(const char *problem, const char *found)
{
	fprintf(stderr, "riffle dump: %s (found '%s'); riffle dump --help shows more\n", problem, SHOWN(found));
	return EXIT_USAGE;
}

static int talk(const char *path, int file, char words[SNAPSHOT_MESSAGE_MAX], struct riffle_error *error)
{
	char served[SNAPSHOT_MESSAGE_MAX];
	int fd, status = snapshot_connect(&fd, path, served, error);

	if (status)
		return status;
	status = snapshot_ask(fd, SNAPSHOT_DUMP, &file, 1, words, error);
	close(fd);
	return status;
}

static int dump(const char *path, const char *output)
{
	char words[SNAPSHOT_MESSAGE_MAX];
	struct riffle_error error;
	unsigned vmcoreinfo = 0, mappings = 0, slid = 0;
	int file = open(output, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);

	if (file < 0) {
		riffle_fail_system(&error, errno, "output", "cannot be created");
		report_error(output, &error);
		return EXIT_FAILURE;
	}
	int status = talk(path, file, words, &error);
	bool dumped = !status && sscanf(words, "dumped %u %u %u", &vmcoreinfo, &mappings, &slid) >= 2;

	close(file);
	if (dumped) {
		if (!vmcoreinfo)
			fprintf(stderr, "riffle: notice: the guest's kernel has no VMCOREINFO (yet): crash and drgn "
					"cannot tell its place\n");
		if (slid)
			fprintf(stderr,
				"riffle: notice: the sections of the guest's kernel slid apart: crash and drgn find "
				"no data, gdb does (riffle-dump(1))\n");
		return EXIT_SUCCESS;
	}
	unlink(output);
	if (status)
		report_error(path, &error);
	else
		fprintf(stderr, "riffle: %s: the guest was not dumped: %s\n", SHOWN(path), SHOWN(words));
	return EXIT_FAILURE;
}

int command_dump(int argc, char **argv)
{
	static const struct option options[] = {{"socket", required_argument, NULL, 's'},
						{"output", required_argument, NULL, 'o'},
						{"help", no_argument, NULL, 'h'},
						{NULL, 0, NULL, 0}};
	const char *path = NULL, *output = NULL;
	int option;

	opterr = 0;
	while ((option = getopt_long(argc, argv, "s:o:h", options, NULL)) != -1) {
		switch (option) {
		case 's':
			path = optarg;
			break;
		case 'o':
			output = optarg;
			break;
		case 'h':
			fputs(help, stdout);
			return EXIT_SUCCESS;
		default:
			say_no_option("dump", argv[optind - 1], options);
			return EXIT_USAGE;
		}
	}
	if (optind != argc)
		return usage("takes nothing but options", argv[optind]);
	if (!path || !output)
		return usage(path ? "--output is missing" : "--socket is missing", "");
	return dump(path, output);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* riffle-prepare: the commands that need decompressors, a disassembler or the host's names, and the worker they are
 * done by. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/commands.h"
#include "cli/version.h"
#include "host/input.h"
#include "host/shown.h"
#include "kernel/spawn.h"
#include "kernel/worker.h"

static const struct {
	const char *name;
	int (*run)(int argc, char **argv);
	const char *summary;
} commands[] = {
    {"prepare", command_prepare, "prepare a kernel once, ahead of its boots"},
    {"initramfs", command_initramfs, "pack a directory as an initramfs"},
    {"inspect", command_inspect, "describe a kernel file and the entropy it gets"},
    {"symbolize", command_symbolize, "translate a guest's addresses back into symbols"},
    {"gdb-script", command_gdb_script, "print the commands a debugger needs for a layout"},
    {"verify", command_verify, "check a loaded kernel by independent means"},
    {"doctor", command_doctor, "report what this host offers, with advice"},
    {"bench", command_bench, "measure loading and relocating on this machine"},
};

static void usage(FILE *to)
{
	fputs("Usage: riffle-prepare COMMAND [OPTIONS]\n\nThe part of riffle that understands kernel files.\n\n", to);
	for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
		fprintf(to, "  %-12s %s\n", commands[i].name, commands[i].summary);
	fputs("\nriffle-prepare COMMAND --help shows more; riffle-prepare --version prints the version.\n", to);
}

int main(int argc, char **argv)
{
	open_standard_descriptors();
	if (argc < 2) {
		usage(stderr);
		return EXIT_USAGE;
	}
	if (!strcmp(argv[1], WORKER_OPTION))
		return worker_main(argc - 1, argv + 1);
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help")) {
		usage(stdout);
		return with_output(EXIT_SUCCESS);
	}
	if (!strcmp(argv[1], "--version") || !strcmp(argv[1], "-V") || !strcmp(argv[1], "version")) {
		print_version("riffle-prepare");
		return with_output(EXIT_SUCCESS);
	}
	for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
		if (!strcmp(argv[1], commands[i].name))
			return with_output(commands[i].run(argc - 1, argv + 1));
	fprintf(stderr, "riffle: '%s' is no command; riffle-prepare --help lists them\n", SHOWN(argv[1]));
	return EXIT_USAGE;
}

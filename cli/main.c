/* SPDX-License-Identifier: Apache-2.0 */
/* riffle: the first word of the command line, and where it leads. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/commands.h"
#include "cli/version.h"
#include "host/input.h"
#include "host/shown.h"
#include "kernel/spawn.h"

static const struct {
	const char *name;
	int (*run)(int argc, char **argv); /* NULL: the work of riffle-prepare, which links whatever starts slowly */
	const char *summary;
} commands[] = {
    {"run", command_run, "boot a kernel with a randomised layout in a microVM"},
    {"snapshot", command_snapshot, "save a running guest into a directory"},
    {"resume", command_resume, "resume a saved guest, once"},
    {"dump", command_dump, "write a running guest's memory as a core file"},
    {"stock", command_stock, "keep microVMs ready, each for one start"},
    {"doctor", NULL, "report what this host offers, with advice"},
    {"prepare", NULL, "prepare a kernel once, ahead of its boots"},
    {"config", command_config, "check the configuration file of a microVM"},
    {"emit", command_emit, "write a randomised kernel as an ELF file, for another monitor"},
    {"initramfs", NULL, "pack a directory as an initramfs"},
    {"inspect", NULL, "describe a kernel file and the entropy it gets"},
    {"symbolize", NULL, "translate a guest's addresses back into symbols"},
    {"gdb-script", NULL, "print the commands a debugger needs for a layout"},
    {"verify", NULL, "check a loaded kernel by independent means"},
    {"bench", NULL, "measure loading and relocating on this machine"},
};

static void usage(FILE *to)
{
	fputs("Usage: riffle COMMAND [OPTIONS]\n\nA KVM microVM monitor that randomises the guest's kernel.\n\n", to);
	for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
		fprintf(to, "  %-12s %s\n", commands[i].name, commands[i].summary);
	fputs("\nriffle COMMAND --help shows more; riffle --version prints the version.\n", to);
}

int main(int argc, char **argv)
{
	open_standard_descriptors();
	if (argc < 2) {
		usage(stderr);
		return EXIT_USAGE;
	}
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help")) {
		usage(stdout);
		return with_output(EXIT_SUCCESS);
	}
	if (!strcmp(argv[1], "--version") || !strcmp(argv[1], "-V") || !strcmp(argv[1], "version")) {
		print_version("riffle");
		return with_output(EXIT_SUCCESS);
	}
	for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
		char program[4096];

		if (strcmp(argv[1], commands[i].name))
			continue;
		if (commands[i].run)
			return with_output(commands[i].run(argc - 1, argv + 1));
		if (!find_prepare_program(program, sizeof program)) {
			fputs("riffle: riffle-prepare: not found beside riffle or where it was installed\n", stderr);
			return EXIT_FAILURE;
		}
		argv[0] = program;
		execv(program, argv);
		fprintf(stderr, "riffle: %s: %s\n", SHOWN(program), strerror(errno));
		return EXIT_FAILURE;
	}
	fprintf(stderr, "riffle: '%s' is no command; riffle --help lists them\n", SHOWN(argv[1]));
	return EXIT_USAGE;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* riffle config --check: names the faults of a configuration file. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/config_check.h"
#include "cli/commands.h"
#include "cli/commands/run_config.h"
#include "host/input.h"
#include "host/shown.h"
#include "host/suggest.h"

#define FAULTS_PRINTED 1000u

static const char help[] =
    "Usage: riffle config --check FILE\n"
    "\n"
    "Names each fault of a microVM's configuration file, as riffle run --config and\n"
    "riffle-vmm --config-file take it, with its line and key.\n"
    "\n"
    "Options:\n"
    "      --check              check the file\n"
    "  -h, --help               this text\n"
    "\n"
    "Exit code: 0 there is no fault, 1 there are faults or the file cannot be read, 2 wrong usage.\n";

struct kept_fault {
	unsigned line, number;
	char *key, *problem;
};

/* The first of them, to be printed in the order of their lines. */
struct kept {
	struct kept_fault faults[FAULTS_PRINTED];
	unsigned count; /* of all */
};

static void keep_fault(void *opaque, unsigned line, const char *key, const char *problem)
{
	struct kept *kept = opaque;

	if (kept->count < FAULTS_PRINTED)
		kept->faults[kept->count] = (struct kept_fault){line, kept->count, strdup(key), strdup(problem)};
	kept->count++;
}

static int by_line(const void *a, const void *b)
{
	const struct kept_fault *one = a, *other = b;

	return one->line != other->line ? (one->line < other->line ? -1 : 1) : (int)one->number - (int)other->number;
}

static void print_fault(const char *file, const struct kept_fault *fault)
{
	const char *key = fault->key ? fault->key : "", *problem = fault->problem ? fault->problem : "";

	fprintf(stderr, "riffle: %s:%u: %s%s%s\n", SHOWN(file), fault->line, SHOWN(key), *key ? ": " : "",
		SHOWN(problem));
}

static int check(const char *path)
{
	size_t bytes;
	char *text = run_config_read(path, &bytes);
	struct kept *kept = calloc(1, sizeof *kept);
	unsigned count, printed;

	if (!text || !kept) {
		free(text);
		free(kept);
		return EXIT_FAILURE;
	}
	config_check(text, bytes, keep_fault, kept);
	free(text);
	count = kept->count;
	printed = count < FAULTS_PRINTED ? count : FAULTS_PRINTED;
	qsort(kept->faults, printed, sizeof *kept->faults, by_line);
	for (unsigned i = 0; i < printed; i++) {
		print_fault(path, &kept->faults[i]);
		free(kept->faults[i].key);
		free(kept->faults[i].problem);
	}
	free(kept);
	if (count > printed)
		fprintf(stderr, "riffle: %s: %u more faults\n", SHOWN(path), count - printed);
	return count ? EXIT_FAILURE : EXIT_SUCCESS;
}

int command_config(int argc, char **argv)
{
	static const struct option options[] = {
	    {"check", no_argument, NULL, 'c'}, {"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}};
	bool checks = false;
	int option;

	opterr = 0;
	while ((option = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		switch (option) {
		case 'c':
			checks = true;
			break;
		case 'h':
			fputs(help, stdout);
			return EXIT_SUCCESS;
		default:
			say_no_option("config", argv[optind - 1], options);
			return EXIT_USAGE;
		}
	}
	if (!checks || optind + 1 != argc) {
		fprintf(stderr, "riffle config: %s; riffle config --help shows more\n",
			!checks ? "--check is missing" : "FILE: exactly one is wanted");
		return EXIT_USAGE;
	}
	return check(argv[optind]);
}

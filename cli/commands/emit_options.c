/* SPDX-License-Identifier: Apache-2.0 */
/* Parses the command line of `riffle emit`; what follows --exec is the monitor's. */
#include "cli/commands/emit_options.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "host/memory_size.h"
#include "host/mode.h"
#include "host/suggest.h"

#define RESERVE_TOP (UINT64_C(64) << 20)

static const char help[] =
    "Usage: riffle emit KERNEL -o FILE -m SIZE [OPTIONS]\n"
    "       riffle emit KERNEL -m SIZE [OPTIONS] --exec MONITOR [ARGUMENT...] @ [ARGUMENT...]\n"
    "\n"
    "Draws a layout for one guest and writes KERNEL as an ELF with it applied: relocated, its\n"
    "functions shuffled, for a monitor that boots a vmlinux by its 64-bit or PVH entry. Anyone who can\n"
    "read the file knows the layout: use it for one guest, and emit a new one for the next.\n"
    "KERNEL is a bzImage, a vmlinux, or the output of `riffle prepare`; fd:N names an open descriptor.\n"
    "\n"
    "  -o, --output FILE        the ELF: a new file of mode 0600, or fd:N, an empty one open for\n"
    "                           reading and writing\n"
    "  -x, --exec MONITOR ...   keep the ELF in memory instead, and run MONITOR with its name in place\n"
    "                           of each argument @, or of the @ in an argument that ends with =@\n"
    "  -m, --memory SIZE        the guest's memory, K, M or G after the number\n"
    "  -t, --reserve-top SIZE   keep this much free at the end of it, or of its first 2G, for the initrd\n"
    "                           that the monitor puts there [64M, a quarter of smaller memories]\n"
    "  -r, --randomize MODE     off, physical, kaslr, fgkaslr (the order of functions too);\n"
    "                           kaslr+slide, fgkaslr+slide: read-only data, data and bss slide apart;\n"
    "                           or auto: the best that kernel and memory allow, never below kaslr [auto]\n"
    "      --relocs FILE        vmlinux.relocs that belongs to a stripped vmlinux\n"
    "      --layout-out FILE    write the layout to FILE (new, mode 0600)\n"
    "      --cache DIR          keep prepared kernels there [$XDG_CACHE_HOME/riffle]\n"
    "      --no-cache           prepare again, cache nothing\n"
    "  -h, --help               this text\n"
    "\n"
    "Exit code: 0 success, 1 error, 2 wrong usage; with --exec the monitor's, 126 it cannot be run,\n"
    "127 it was not found.\n";

static enum emit_parsed wrong(const char *option, const char *problem, const char *found)
{
	fprintf(stderr, "riffle emit: %s: %s", option, problem);
	if (found)
		fprintf(stderr, " (found '%s')", found);
	fputs("; riffle emit --help shows more\n", stderr);
	return EMIT_WRONG;
}

int emit_place_of_kernel(const char *argument)
{
	size_t length = strlen(argument);

	if (!length || argument[length - 1] != '@' || (length > 1 && argument[length - 2] != '='))
		return -1;
	return (int)(length - 1);
}

/* The index of --exec, from which on nothing is ours; argc without one. */
static int find_monitor(int argc, char **argv)
{
	int i = 1;

	while (i < argc && strcmp(argv[i], "--exec") && strcmp(argv[i], "-x"))
		i++;
	return i;
}

static enum emit_parsed check_monitor(const struct emit_options *o)
{
	if (!*o->monitor)
		return wrong("--exec", "no monitor given", NULL);
	for (char *const *argument = o->monitor + 1; *argument; argument++)
		if (emit_place_of_kernel(*argument) >= 0)
			return EMIT_GO;
	return wrong("--exec", "no @ among the monitor's arguments says where the kernel's name goes", NULL);
}

static enum emit_parsed check(struct emit_options *o, bool memory, bool reserve)
{
	uint64_t top = o->memory_bytes < EMIT_TOP_MAX ? o->memory_bytes : EMIT_TOP_MAX;

	if (!memory)
		return wrong("--memory",
			     "no size given (-m SIZE): a layout is drawn for the memory that the guest gets", NULL);
	if (o->output && o->monitor)
		return wrong("--exec", "keeps the kernel in memory; --output cannot be combined with it", o->output);
	if (!o->output && !o->monitor)
		return wrong("--output", "no file given (-o FILE), and no --exec", NULL);
	if (!reserve)
		o->reserve_top = top / 4 < RESERVE_TOP ? top / 4 : RESERVE_TOP;
	return o->monitor ? check_monitor(o) : EMIT_GO;
}

enum emit_parsed emit_options_parse(struct emit_options *o, int argc, char **argv)
{
	enum { RELOCS = 256, LAYOUT_OUT, CACHE, NO_CACHE };
	static const struct option options[] = {
	    {"output", required_argument, NULL, 'o'},
	    {"memory", required_argument, NULL, 'm'},
	    {"reserve-top", required_argument, NULL, 't'},
	    {"randomize", required_argument, NULL, 'r'},
	    {"relocs", required_argument, NULL, RELOCS},
	    {"layout-out", required_argument, NULL, LAYOUT_OUT},
	    {"cache", required_argument, NULL, CACHE},
	    {"no-cache", no_argument, NULL, NO_CACHE},
	    {"help", no_argument, NULL, 'h'},
	    {NULL, 0, NULL, 0},
	};
	bool memory = false, reserve = false;
	const char *problem;
	int option, own = find_monitor(argc, argv);

	memset(o, 0, sizeof *o);
	o->randomize_auto = true;
	if (own < argc)
		o->monitor = argv + own + 1;
	optind = 0; /* also resets what getopt_long keeps to itself */
	opterr = 0;
	while ((option = getopt_long(own, argv, "o:m:t:r:h", options, NULL)) != -1) {
		switch (option) {
		case 'o':
			o->output = optarg;
			break;
		case 'm':
			problem = memory_size_parse(optarg, &o->memory_bytes);
			if (problem)
				return wrong("--memory", problem, optarg);
			memory = true;
			break;
		case 't':
			problem = strcmp(optarg, "0") ? memory_size_parse(optarg, &o->reserve_top) : NULL;
			if (problem)
				return wrong("--reserve-top", problem, optarg);
			reserve = true;
			break;
		case 'r':
			problem = mode_option(optarg, &o->randomize_auto, &o->randomize, &o->slide);
			if (problem)
				return wrong("--randomize", problem, optarg);
			break;
		case RELOCS:
			o->relocs = optarg;
			break;
		case LAYOUT_OUT:
			o->layout_out = optarg;
			break;
		case CACHE:
			if (!*optarg)
				return wrong("--cache", "must name a directory", optarg);
			o->cache_directory = optarg;
			break;
		case NO_CACHE:
			o->no_cache = true;
			break;
		case 'h':
			fputs(help, stdout);
			return EMIT_HELPED;
		default:
			say_no_option("emit", argv[optind - 1], options);
			return EMIT_WRONG;
		}
	}
	if (optind == own)
		return wrong("KERNEL", "is missing", NULL);
	if (optind + 1 < own)
		return wrong("KERNEL", "is one file only", argv[optind + 1]);
	o->kernel = argv[optind];
	return check(o, memory, reserve);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Parses the command line of `riffle run`. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/memory_size.h"
#include "cli/run_options.h"

static const char help[] =
	"Usage: riffle run [OPTIONS] KERNEL\n"
	"\n"
	"Boots KERNEL in a microVM, its layout randomised, console on the terminal. KERNEL is a\n"
	"bzImage, a vmlinux, or what `riffle prepare` wrote; fd:N names an open descriptor.\n"
	"\n"
	"Guest:\n"
	"  -m, --memory SIZE        guest memory, K, M or G behind the number [256M]\n"
	"  -c, --cpus N             virtual CPUs, 1 to 32 [1]\n"
	"  -i, --initrd FILE        initial RAM disk\n"
	"  -k, --cmdline TEXT       kernel command line, instead of the default\n"
	"  -a, --append TEXT        the same, behind the default\n"
	"      --relocs FILE        vmlinux.relocs that belongs to a stripped vmlinux\n"
	"      --boot MODE          direct: enter the kernel itself [default]\n"
	"                           bootstrap: enter the bzImage, which unpacks and randomises itself\n"
	"\n"
	"Layout:\n"
	"  -r, --randomize MODE     off, physical, kaslr, fgkaslr (the order of functions too), or auto:\n"
	"                           the best the kernel allows, never below kaslr [auto]\n"
	"      --tables MODE        full, or lazy: with fgkaslr, leave kallsyms and ORC stale [full]\n"
	"      --seed HEX           replay the layout this seed gives (at most 64 digits): debugging only\n"
	"      --layout FILE        replay the layout in FILE: debugging only\n"
	"      --layout-out FILE    write the layout to FILE (new, mode 0600)\n"
	"\n"
	"Host:\n"
	"      --cache DIR          keep prepared kernels there [$XDG_CACHE_HOME/riffle]\n"
	"      --no-cache           prepare anew, keep nothing\n"
	"      --no-huge-pages      do not ask for huge pages for guest memory\n"
	"      --accept-emulation   run even where /dev/kvm only emulates: tiny guests, measurements\n"
	"      --boot-timer         print how long each phase of the start took\n"
	"      --start-time NS      CLOCK_MONOTONIC when riffle was started, for --boot-timer\n"
	"  -h, --help               this text\n"
	"\n"
	"Default command line:\n"
	"  " DEFAULT_COMMAND_LINE "\n"
	"\n"
	"On a terminal, Ctrl-A x ends the guest and Ctrl-A Ctrl-A sends a Ctrl-A.\n"
	"\n"
	"Exit code: 0 the guest powered off, 3 it reset, 4 it died of a triple fault, 5 ended from the\n"
	"console, 128+N riffle was ended by signal N, 1 an error, 2 wrong usage.\n";

static enum run_parsed wrong(const char *option, const char *problem, const char *found)
{
	fprintf(stderr, "riffle run: %s: %s (found '%s'); riffle run --help tells more\n", option, problem, found);
	return RUN_WRONG;
}

/* Hex digits, most significant first; fewer than 64 fill the end, so that "1" is a seed too. */
static bool parse_seed(const char *text, uint8_t seed[32])
{
	size_t digits = strlen(text);

	memset(seed, 0, 32);
	if (!digits || digits > 64)
		return false;
	for (size_t i = 0; i < digits; i++) {
		const char *all = "0123456789abcdef", *digit = strchr(all, text[i] | 0x20);
		size_t place = 64 - digits + i;

		if (!digit || !*digit || (text[i] >= 'A' && text[i] <= 'Z' && digit - all < 10))
			return false;
		seed[place / 2] |= (uint8_t)((digit - all) << (place % 2 ? 0 : 4));
	}
	return true;
}

static bool parse_mode(const char *text, struct run_options *o)
{
	static const char *const names[] = {"off", "physical", "kaslr", "fgkaslr"};

	o->randomize_auto = !strcmp(text, "auto");
	if (o->randomize_auto)
		return true;
	for (unsigned i = 0; i < 4; i++)
		if (!strcmp(text, names[i])) {
			o->randomize = (enum riffle_mode)i;
			return true;
		}
	return false;
}

/* `word` among the command line's words, as the kernel's own bootstrap looks for it */
static bool has_word(const char *line, const char *word)
{
	size_t length = strlen(word);

	for (const char *at = line; (at = strstr(at, word)); at += length)
		if ((at == line || at[-1] == ' ') && (!at[length] || at[length] == ' '))
			return true;
	return false;
}

static bool set_command_line(struct run_options *o, const char *whole, const char *append)
{
	const char *start = whole ? whole : DEFAULT_COMMAND_LINE;
	int length = snprintf(o->command_line, sizeof o->command_line, "%s%s%s", start, append ? " " : "",
			      append ? append : "");

	return length >= 0 && (size_t)length < sizeof o->command_line;
}

enum run_parsed run_options_parse(struct run_options *o, int argc, char **argv)
{
	enum { RELOCS = 256, BOOT, TABLES, SEED, LAYOUT, LAYOUT_OUT, CACHE, NO_CACHE, NO_HUGE, ACCEPT, TIMER, START };
	static const struct option options[] = {
		{"memory", required_argument, NULL, 'm'},       {"cpus", required_argument, NULL, 'c'},
		{"initrd", required_argument, NULL, 'i'},       {"cmdline", required_argument, NULL, 'k'},
		{"append", required_argument, NULL, 'a'},       {"relocs", required_argument, NULL, RELOCS},
		{"boot", required_argument, NULL, BOOT},        {"randomize", required_argument, NULL, 'r'},
		{"tables", required_argument, NULL, TABLES},    {"seed", required_argument, NULL, SEED},
		{"layout", required_argument, NULL, LAYOUT},
		{"layout-out", required_argument, NULL, LAYOUT_OUT}, {"cache", required_argument, NULL, CACHE},
		{"no-cache", no_argument, NULL, NO_CACHE},      {"no-huge-pages", no_argument, NULL, NO_HUGE},
		{"accept-emulation", no_argument, NULL, ACCEPT}, {"boot-timer", no_argument, NULL, TIMER},
		{"start-time", required_argument, NULL, START},
		{"help", no_argument, NULL, 'h'},               {NULL, 0, NULL, 0},
	};
	const char *whole = NULL, *append = NULL, *problem;
	bool randomize_given = false;
	unsigned long number;
	char *end;
	int option;

	memset(o, 0, sizeof *o);
	o->memory_bytes = UINT64_C(256) << 20;
	o->cpus = 1;
	o->randomize_auto = true;
	o->huge_pages = true;
	optind = 0; /* also resets what getopt_long keeps to itself */
	opterr = 0;
	while ((option = getopt_long(argc, argv, "m:c:i:k:a:r:h", options, NULL)) != -1) {
		switch (option) {
		case 'm':
			problem = memory_size_parse(optarg, &o->memory_bytes);
			if (problem)
				return wrong("--memory", problem, optarg);
			break;
		case 'c':
			number = strtoul(optarg, &end, 10);
			if (*end || end == optarg || number < 1 || number > 32)
				return wrong("--cpus", "must be 1 to 32", optarg);
			o->cpus = (unsigned)number;
			break;
		case 'i':
			o->initrd = optarg;
			break;
		case 'k':
			whole = optarg;
			break;
		case 'a':
			append = optarg;
			break;
		case 'r':
			randomize_given = true;
			if (!parse_mode(optarg, o))
				return wrong("--randomize", "must be off, physical, kaslr, fgkaslr or auto", optarg);
			break;
		case RELOCS:
			o->relocs = optarg;
			break;
		case BOOT:
			if (!strcmp(optarg, "bootstrap"))
				o->boot = BOOT_BOOTSTRAP;
			else if (strcmp(optarg, "direct"))
				return wrong("--boot", "must be direct or bootstrap", optarg);
			break;
		case TABLES:
			o->lazy_tables = !strcmp(optarg, "lazy");
			if (!o->lazy_tables && strcmp(optarg, "full"))
				return wrong("--tables", "must be full or lazy", optarg);
			break;
		case SEED:
			if (!parse_seed(optarg, o->seed))
				return wrong("--seed", "must be 1 to 64 hexadecimal digits", optarg);
			o->has_seed = true;
			break;
		case LAYOUT:
			o->layout = optarg;
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
		case NO_HUGE:
			o->huge_pages = false;
			break;
		case ACCEPT:
			o->accept_emulation = true;
			break;
		case TIMER:
			o->boot_timer = true;
			break;
		case START:
			errno = 0;
			o->start_time = strtoull(optarg, &end, 10);
			if (errno || *end || end == optarg || *optarg == '-')
				return wrong("--start-time", "is no number of nanoseconds", optarg);
			break;
		case 'h':
			fputs(help, stdout);
			return RUN_HELPED;
		default:
			fprintf(stderr,
				"riffle run: '%s' is no option or lacks its argument; riffle run --help tells more\n",
				argv[optind - 1]);
			return RUN_WRONG;
		}
	}
	if (optind == argc)
		return wrong("KERNEL", "is missing", "");
	if (optind + 1 < argc)
		return wrong("KERNEL", "is one file only", argv[optind + 1]);
	o->kernel = argv[optind];
	if (!set_command_line(o, whole, append))
		return wrong("--cmdline", "is longer than 4095 bytes", append ? append : whole);
	if (o->layout && (o->has_seed || randomize_given))
		return wrong("--layout", "replays a whole layout; --seed and --randomize do not go with it", o->layout);
	if (o->boot == BOOT_BOOTSTRAP && (o->layout || o->has_seed || o->layout_out || o->relocs || o->lazy_tables))
		return wrong("--boot=bootstrap",
			     "the guest randomises itself; no layout, seed, tables or relocs goes with it", "bootstrap");
	if (o->boot == BOOT_BOOTSTRAP && !o->randomize_auto && o->randomize != RIFFLE_MODE_OFF)
		return wrong("--boot=bootstrap", "the guest chooses how it randomises itself; --randomize=off or auto goes with it",
			     "bootstrap");
	o->nokaslr = has_word(o->command_line, "nokaslr") && !o->layout;
	return RUN_GO;
}

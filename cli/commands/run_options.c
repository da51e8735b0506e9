/* SPDX-License-Identifier: Apache-2.0 */
/* Parses the command line of `riffle run`. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/commands/device_options.h"
#include "cli/commands/run_config.h"
#include "cli/commands/run_options.h"
#include "host/memory_size.h"
#include "host/mode.h"
#include "host/shown.h"
#include "host/suggest.h"
#include "initramfs/command.h"

static const char help[] =
    "Usage: riffle run [OPTIONS] KERNEL [-- COMMAND [ARGUMENT...]]\n"
    "       riffle run --config FILE [OPTIONS]\n"
    "\n"
    "Boots KERNEL with a randomised layout in a microVM, its console on the terminal. KERNEL is\n"
    "a bzImage, a vmlinux, or the output of `riffle prepare`; fd:N names an open descriptor.\n"
    "\n"
    "Guest:\n"
    "  -m, --memory SIZE        guest memory, K, M or G after the number [256M]\n"
    "  -c, --cpus N             virtual CPUs, 1 to 32 [1]\n"
    "  -i, --initrd FILE        initial RAM disk, or a directory to pack as one\n"
    "  -k, --cmdline TEXT       kernel command line, instead of the default\n"
    "  -a, --append TEXT        add to the command line; several add up\n"
    "      --relocs FILE        vmlinux.relocs that belongs to a stripped vmlinux\n"
    "      --boot MODE          direct: enter the kernel itself [default]\n"
    "                           bootstrap: enter the bzImage, which unpacks and randomises itself\n"
    "\n"
    "Command (after --): runs as the guest's only program, on riffle's stdin, stdout and stderr:\n"
    "      --root DIR           the guest's root directory, packed as an initramfs; without it the\n"
    "                           guest has COMMAND as installed here, and the libraries it needs\n"
    "      --env NAME[=VALUE]   set in its environment; without a value, copied from here\n"
    "      --workdir DIR        its working directory [/]\n"
    "      --status-out FILE    write how the run ended to FILE, as JSON\n"
    "Devices (values: riffle-run(1)):\n"
    "      --disk FILE[,ro][,root][,cache=writeback|none|unsafe][,serial=TEXT][,...]\n"
    "                           a raw image or block device; several make several disks\n"
    "      --rng                an entropy device; --rng=bps=64K limits it\n"
    "      --net tap=NAME|fd=N[,mac=MAC][,mtu=N][,...]\n"
    "                           a network on a tap of the host\n"
    "      --net user[,forward=tcp:8080:80][,...]\n"
    "                           a network without privileges, through passt\n"
    "      --vsock cid=N,path=FILE\n"
    "                           AF_VSOCK in the guest, unix sockets FILE and FILE_PORT on the host\n"
    "      --balloon SIZE[,deflate-on-oom][,stats=SECONDS][,reporting][,hinting]\n"
    "                           takes SIZE of memory from the guest; reporting: its free memory\n"
    "                           goes back to the host\n"
    "\n"
    "Layout:\n"
    "  -r, --randomize MODE     off, physical, kaslr, fgkaslr (the order of functions too);\n"
    "                           kaslr+slide, fgkaslr+slide: read-only data, data and bss slide apart;\n"
    "                           or auto: the best that kernel and memory allow, never below kaslr [auto]\n"
    "      --tables MODE        full, or lazy: with fgkaslr, leave kallsyms and ORC stale [full]\n"
    "      --seed HEX           derive the layout from this seed (at most 64 digits): debugging only\n"
    "      --layout FILE        replay the layout in FILE: debugging only\n"
    "      --layout-out FILE    write the layout to FILE (new, mode 0600)\n"
    "\n"
    "Host:\n"
    "      --config FILE        take the machine and its kernel from this JSON file:\n"
    "                           riffle-config(1); options override it or add to it\n"
    "      --console WHERE      stdio, file:FILE (output alone), unix:PATH (a socket: one reader after\n"
    "                           another), pty, or none [stdio]\n"
    "      --snapshot-socket PATH\n"
    "                           a socket through which `riffle snapshot` saves this guest\n"
    "      --track-dirty        track which memory changes: cheaper snapshots of changes\n"
    "      --from-stock DIR     start an item of the stock that `riffle stock` keeps in DIR (or\n"
    "                           unix:PATH, its socket); if empty, load KERNEL as usual, if given\n"
    "      --save-to DIR        save the guest into DIR, and exit\n"
    "      --save-at WHEN       start: before its first instruction [default]; mark: when it\n"
    "                           writes 123 to the boot timer\n"
    "      --cache DIR          keep prepared kernels there [$XDG_CACHE_HOME/riffle]\n"
    "      --no-cache           prepare again, cache nothing\n"
    "      --no-huge-pages      do not ask for huge pages for guest memory\n"
    "      --accept-emulation   run even where /dev/kvm only emulates: tiny guests, measurements\n"
    "      --gdb unix:PATH|tcp:PORT\n"
    "                           wait for a debugger there, which controls the whole guest\n"
    "      --dump-out FILE      for the console's Ctrl-A d: memory and registers, as an ELF core file\n"
    "      --boot-timer         print how long each phase of the start took\n"
    "      --start-time NS      CLOCK_MONOTONIC when riffle was started, for --boot-timer\n"
    "  -h, --help               this text\n"
    "\n"
    "Default command line:\n"
    "  " MACHINE_COMMAND_LINE "\n"
    "\n"
    "On a terminal, Ctrl-A x ends the guest, Ctrl-A d dumps its memory (--dump-out), and\n"
    "Ctrl-A Ctrl-A sends a Ctrl-A.\n"
    "\n"
    "Exit code: 0 the guest powered off, 3 it reset, 4 it died of a triple fault, 5 ended from the\n"
    "console, 6 it halted for good, 7 its kernel panicked, 128+N riffle was ended by signal N, 1 an\n"
    "error, 2 wrong usage.\n"
    "With a command: its own, 128+N when signal N ended it; 127 it was not found, 126 it could not\n"
    "be run, 125 riffle failed, 124 the guest ended before the command did, 123 its kernel panicked.\n";

static enum run_parsed wrong(const char *option, const char *problem, const char *found)
{
	fprintf(stderr, "riffle run: %s: %s (found '%s'); riffle run --help shows more\n", SHOWN(option),
		SHOWN(problem), SHOWN(found));
	return RUN_WRONG;
}

static enum run_parsed wrong_device(const char *problem)
{
	fprintf(stderr, "riffle run: %s; riffle run --help shows more\n", SHOWN(problem));
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

/* The path after `prefix`, or NULL when that is not how `text` begins. */
static const char *after(const char *text, const char *prefix)
{
	size_t length = strlen(prefix);

	return strncmp(text, prefix, length) ? NULL : text + length;
}

/* Returns what is wrong, or NULL. */
const char *run_options_console(const char *text, struct machine_config *m)
{
	m->console.path = NULL;
	if (!strcmp(text, "stdio"))
		m->console.kind = MACHINE_CONSOLE_STDIO;
	else if (!strcmp(text, "pty"))
		m->console.kind = MACHINE_CONSOLE_PTY;
	else if (!strcmp(text, "none"))
		m->console.kind = MACHINE_CONSOLE_NONE;
	else if ((m->console.path = after(text, "file:")))
		m->console.kind = MACHINE_CONSOLE_FILE;
	else if ((m->console.path = after(text, "unix:")))
		m->console.kind = MACHINE_CONSOLE_UNIX;
	else
		return "must be stdio, file:FILE, unix:PATH, pty or none";
	return m->console.path && !*m->console.path ? "must name a path" : NULL;
}

/* Returns what is wrong, or NULL. */
static const char *parse_gdb(const char *text, struct machine_gdb *gdb)
{
	const char *path = after(text, "unix:"), *port = after(text, "tcp:");
	unsigned long number;
	char *end;

	*gdb = (struct machine_gdb){.path = path};
	if (path)
		return *path ? NULL : "must name a path";
	if (!port)
		return "must be unix:PATH or tcp:PORT";
	number = strtoul(port, &end, 10);
	if (*end || end == port || *port == '-' || number < 1 || number > 65535)
		return "must be a port from 1 to 65535";
	gdb->port = (uint16_t)number;
	return NULL;
}

/* The text is not repeated: it may be thousands of bytes. */
static bool set_command_line(struct machine_config *m, const char *text, bool append)
{
	struct riffle_error error;

	if (machine_config_command_line(m, text, append, &error) == 0)
		return true;
	fprintf(stderr,
		"riffle run: %s: the command line is too long (found %llu bytes, expected at most %llu); "
		"riffle run --help shows more\n",
		append ? "--append" : "--cmdline", (unsigned long long)error.found, (unsigned long long)error.expected);
	return false;
}

/* What the command adds to the description. Its words come before those of --append, which may say otherwise. */
static bool describe_command(struct run_options *o, bool console_given)
{
	struct machine_config *m = &o->machine;

	m->command = true;
	if (!console_given)
		m->console.kind = MACHINE_CONSOLE_KEPT;
	return set_command_line(m, "quiet " INITRAMFS_RDINIT, true);
}

/* Options that are for a command, without one; and the other way round. */
static enum run_parsed check_command(const struct run_options *o)
{
	if (o->command && (o->machine.initrd_path || o->initrd_directory))
		return wrong("--initrd",
			     "cannot be combined with a command, which has a root directory (--root) or none",
			     o->initrd_directory ? o->initrd_directory : o->machine.initrd_path);
	if (o->command)
		return RUN_GO;
	if (o->root)
		return wrong("--root", "needs a command after --; -i packs a directory without one", o->root);
	if (o->workdir)
		return wrong("--workdir", "needs a command after --", o->workdir);
	if (o->environment_count)
		return wrong("--env", "needs a command after --", o->environment[0]);
	return RUN_GO;
}

/* A file is the initial RAM disk, a directory is made into one. */
static void set_initrd(struct run_options *o, const char *name)
{
	struct stat st;
	bool directory = stat(name, &st) == 0 && S_ISDIR(st.st_mode);

	o->machine.initrd_path = directory ? NULL : name;
	o->initrd_directory = directory ? name : NULL;
}

/* Cuts what follows the first `--` off; returns how many arguments are left. */
static int split_command(struct run_options *o, int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		if (!strcmp(argv[i], "--")) {
			o->command = argv + i + 1;
			o->command_count = (size_t)(argc - i - 1);
			return i;
		}
	return argc;
}

/* Combinations that no single option shows; the description's own check says the rest. */
static enum run_parsed check(const struct run_options *o, bool randomize_given)
{
	const struct machine_config *m = &o->machine;
	struct riffle_error error;
	char text[200];

	if (m->layout.replay && (m->layout.has_seed || randomize_given))
		return wrong("--layout", "replays a whole layout; --seed and --randomize do not go with it",
			     m->layout.replay);
	if (machine_config_check(m, &error) == 0)
		return RUN_GO;
	if (!strcmp(error.field, "boot"))
		return wrong("--boot=bootstrap", error.problem + strlen("with bootstrap "), "bootstrap");
	riffle_error_format(&error, text, sizeof text);
	fprintf(stderr, "riffle run: %s; riffle run --help shows more\n", text);
	return RUN_WRONG;
}

/* Options that say what an item of a stock is, which has been decided. */
struct of_item {
	int option;
	const char *name;
	bool always; /* nothing of the item can be compared with it */
};

/*
 * With a kernel they describe the machine that an item must be, and that is loaded if there is none; without one there
 * is nothing that they could be for.
 */
static enum run_parsed check_stock(const struct run_options *o, const struct of_item *given)
{
	if (!o->from_stock)
		return RUN_GO;
	if (o->command)
		return wrong("--from-stock", "cannot be combined with a command, which no item has", o->from_stock);
	if (o->initrd_directory)
		return wrong("--initrd", "a directory cannot be compared with what an item of --from-stock has",
			     o->initrd_directory);
	if (given && given->always)
		return wrong(given->name,
			     "says nothing of an item that is ready, and cannot be combined with --from-stock",
			     o->from_stock);
	if (given && !o->machine.kernel)
		return wrong(given->name, "is decided by the item of --from-stock; with KERNEL it is compared",
			     o->from_stock);
	return RUN_GO;
}

/* The device of which there is one: an option's stands instead of the configuration file's, and a second one is an
 * error. */
static void once(void *device, size_t bytes, unsigned *replaced, unsigned bit)
{
	if (!(*replaced & bit))
		memset(device, 0, bytes);
	*replaced |= bit;
}

/* The file of --config, or NULL. */
static const char *find_config(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		const char *value = after(argv[i], "--config=");

		if (value)
			return value;
		if (!strcmp(argv[i], "--config") && i + 1 < argc)
			return argv[i + 1];
	}
	return NULL;
}

static enum run_parsed parse(struct run_options *o, int argc, char **argv, bool apply_config)
{
	enum {
		RELOCS = 256,
		CONFIG,
		BOOT,
		TABLES,
		SEED,
		LAYOUT,
		LAYOUT_OUT,
		CONSOLE,
		CACHE,
		NO_CACHE,
		NO_HUGE,
		ACCEPT,
		TIMER,
		START,
		ROOT,
		ENV,
		WORKDIR,
		STATUS_OUT,
		DISK,
		RNG,
		NET,
		VSOCK,
		BALLOON,
		GDB,
		DUMP_OUT,
		SNAPSHOT_SOCKET,
		SAVE_TO,
		SAVE_AT,
		FROM_STOCK,
		TRACK_DIRTY
	};
	static const struct option options[] = {
	    {"memory", required_argument, NULL, 'm'},
	    {"cpus", required_argument, NULL, 'c'},
	    {"initrd", required_argument, NULL, 'i'},
	    {"cmdline", required_argument, NULL, 'k'},
	    {"append", required_argument, NULL, 'a'},
	    {"relocs", required_argument, NULL, RELOCS},
	    {"boot", required_argument, NULL, BOOT},
	    {"randomize", required_argument, NULL, 'r'},
	    {"tables", required_argument, NULL, TABLES},
	    {"seed", required_argument, NULL, SEED},
	    {"layout", required_argument, NULL, LAYOUT},
	    {"layout-out", required_argument, NULL, LAYOUT_OUT},
	    {"console", required_argument, NULL, CONSOLE},
	    {"cache", required_argument, NULL, CACHE},
	    {"no-cache", no_argument, NULL, NO_CACHE},
	    {"no-huge-pages", no_argument, NULL, NO_HUGE},
	    {"accept-emulation", no_argument, NULL, ACCEPT},
	    {"boot-timer", no_argument, NULL, TIMER},
	    {"start-time", required_argument, NULL, START},
	    {"root", required_argument, NULL, ROOT},
	    {"config", required_argument, NULL, CONFIG},
	    {"env", required_argument, NULL, ENV},
	    {"workdir", required_argument, NULL, WORKDIR},
	    {"status-out", required_argument, NULL, STATUS_OUT},
	    {"disk", required_argument, NULL, DISK},
	    {"rng", optional_argument, NULL, RNG},
	    {"net", required_argument, NULL, NET},
	    {"vsock", required_argument, NULL, VSOCK},
	    {"balloon", required_argument, NULL, BALLOON},
	    {"gdb", required_argument, NULL, GDB},
	    {"dump-out", required_argument, NULL, DUMP_OUT},
	    {"snapshot-socket", required_argument, NULL, SNAPSHOT_SOCKET},
	    {"save-to", required_argument, NULL, SAVE_TO},
	    {"save-at", required_argument, NULL, SAVE_AT},
	    {"from-stock", required_argument, NULL, FROM_STOCK},
	    {"track-dirty", no_argument, NULL, TRACK_DIRTY},
	    {"help", no_argument, NULL, 'h'},
	    {NULL, 0, NULL, 0},
	};
	static const struct of_item of_items[] = {
	    {SEED, "--seed", true},        {LAYOUT, "--layout", true},  {LAYOUT_OUT, "--layout-out", true},
	    {TABLES, "--tables", true},    {GDB, "--gdb", true},        {'m', "--memory", false},
	    {'c', "--cpus", false},        {'i', "--initrd", false},    {'k', "--cmdline", false},
	    {'a', "--append", false},      {RELOCS, "--relocs", false}, {BOOT, "--boot", false},
	    {'r', "--randomize", false},   {DISK, "--disk", false},     {RNG, "--rng", false},
	    {BALLOON, "--balloon", false},
	};
	const struct of_item *of_item = NULL; /* the first that was given, one of `always` before others */
	struct machine_config *m = &o->machine;
	unsigned replaced = 0; /* devices of the configuration file */
	const char *appended[64], *problem;
	char words[400];
	unsigned appends = 0;
	bool randomize_given = false, console_given = false;
	unsigned long number;
	char *end;
	int option;

	memset(o, 0, sizeof *o);
	machine_config_init(m);
	argc = split_command(o, argc, argv);
	/* before all options, which change what it says */
	const char *config = find_config(argc, argv);

	o->config = config;
	if (config && apply_config && !run_config_apply(m, config))
		return RUN_WRONG;
	optind = 0; /* also resets what getopt_long keeps to itself */
	opterr = 0;
	while ((option = getopt_long(argc, argv, "m:c:i:k:a:r:h", options, NULL)) != -1) {
		for (size_t i = 0; i < sizeof of_items / sizeof *of_items; i++)
			if (of_items[i].option == option && (!of_item || of_items[i].always))
				of_item = &of_items[i];
		switch (option) {
		case 'm':
			problem = memory_size_parse(optarg, &m->memory_bytes);
			if (problem)
				return wrong("--memory", problem, optarg);
			break;
		case 'c':
			number = strtoul(optarg, &end, 10);
			if (*end || end == optarg || *optarg == '-' || number < 1 || number > 32)
				return wrong("--cpus", "must be 1 to 32", optarg);
			m->vcpus = (unsigned)number;
			break;
		case 'i':
			set_initrd(o, optarg);
			break;
		case 'k':
			if (!set_command_line(m, optarg, false))
				return RUN_WRONG;
			break;
		case 'a':
			if (appends == sizeof appended / sizeof *appended)
				return wrong("--append", "is given more than 64 times", optarg);
			appended[appends++] = optarg;
			break;
		case 'r':
			randomize_given = true;
			problem = mode_option(optarg, &m->layout.automatic, &m->layout.mode, &m->layout.slide);
			if (problem)
				return wrong("--randomize", problem, optarg);
			break;
		case RELOCS:
			m->relocs = optarg;
			break;
		case BOOT:
			if (!strcmp(optarg, "bootstrap"))
				m->boot = MACHINE_BOOT_BOOTSTRAP;
			else if (strcmp(optarg, "direct"))
				return wrong("--boot", "must be direct or bootstrap", optarg);
			break;
		case TABLES:
			m->layout.lazy_tables = !strcmp(optarg, "lazy");
			if (!m->layout.lazy_tables && strcmp(optarg, "full"))
				return wrong("--tables", "must be full or lazy", optarg);
			break;
		case SEED:
			if (!parse_seed(optarg, m->layout.seed))
				return wrong("--seed", "must be 1 to 64 hexadecimal digits", optarg);
			m->layout.has_seed = true;
			break;
		case LAYOUT:
			m->layout.replay = optarg;
			break;
		case LAYOUT_OUT:
			m->layout.out = optarg;
			break;
		case CONSOLE:
			problem = run_options_console(optarg, m);
			if (problem)
				return wrong("--console", problem, optarg);
			console_given = true;
			break;
		case CACHE:
			if (!*optarg)
				return wrong("--cache", "must name a directory", optarg);
			m->cache_directory = optarg;
			break;
		case NO_CACHE:
			m->no_cache = true;
			break;
		case NO_HUGE:
			m->huge_pages = false;
			break;
		case ACCEPT:
			m->accept_emulation = true;
			break;
		case TIMER:
			m->boot_timer = true;
			break;
		case DISK:
			if (!device_options_disk(&m->devices, optarg, words, sizeof words))
				return wrong_device(words);
			break;
		case RNG:
			once(&m->devices.rng, sizeof m->devices.rng, &replaced, 1);
			if (!device_options_rng(&m->devices, optarg, words, sizeof words))
				return wrong_device(words);
			break;
		case NET:
			if (!device_options_net(&m->devices, optarg, words, sizeof words))
				return wrong_device(words);
			break;
		case VSOCK:
			once(&m->devices.vsock, sizeof m->devices.vsock, &replaced, 2);
			if (!device_options_vsock(&m->devices, optarg, words, sizeof words))
				return wrong_device(words);
			break;
		case BALLOON:
			once(&m->devices.balloon, sizeof m->devices.balloon, &replaced, 4);
			if (!device_options_balloon(&m->devices, optarg, words, sizeof words))
				return wrong_device(words);
			break;
		case DUMP_OUT:
			if (!*optarg)
				return wrong("--dump-out", "must name a file", optarg);
			m->dump_path = optarg;
			m->can_save = true;
			break;
		case GDB:
			problem = parse_gdb(optarg, &m->gdb);
			if (problem)
				return wrong("--gdb", problem, optarg);
			break;
		case SNAPSHOT_SOCKET:
			if (!*optarg)
				return wrong("--snapshot-socket", "must name a path", optarg);
			m->snapshot_socket = optarg;
			m->can_save = true;
			break;
		case SAVE_TO:
			o->save_to = optarg;
			m->can_save = true;
			break;
		case SAVE_AT:
			m->save_at_mark = !strcmp(optarg, "mark");
			if (!m->save_at_mark && strcmp(optarg, "start") != 0)
				return wrong("--save-at", "must be start or mark", optarg);
			break;
		case FROM_STOCK:
			o->from_stock = optarg;
			break;
		case TRACK_DIRTY:
			m->track_dirty = true;
			break;
		case START:
			errno = 0;
			o->start_time = strtoull(optarg, &end, 10);
			if (errno || *end || end == optarg || *optarg == '-')
				return wrong("--start-time", "is not a number of nanoseconds", optarg);
			break;
		case ROOT:
			o->root = optarg;
			break;
		case ENV:
			if (o->environment_count == RUN_ENVIRONMENT_MAX)
				return wrong("--env", "is given more than 256 times", optarg);
			if (!*optarg || *optarg == '=')
				return wrong("--env", "must name a variable", optarg);
			o->environment[o->environment_count++] = optarg;
			break;
		case WORKDIR:
			if (*optarg != '/')
				return wrong("--workdir", "must be an absolute path", optarg);
			o->workdir = optarg;
			break;
		case STATUS_OUT:
			o->status_out = optarg;
			break;
		case CONFIG:
			if (!config || strcmp(optarg, config))
				return wrong("--config", "is given more than once, or not written out", optarg);
			break;
		case 'h':
			fputs(help, stdout);
			return RUN_HELPED;
		default:
			/* of letters that share a word, the one that is wrong */
			say_no_option("run",
				      strncmp(argv[optind - 1], "--", 2) && optopt > 0 && optopt < 256
					  ? ((char[]){'-', (char)optopt, 0})
					  : argv[optind - 1],
				      options);
			return RUN_WRONG;
		}
	}
	if (config && (optind < argc || o->command))
		return wrong(optind < argc ? "KERNEL" : "COMMAND", "cannot be combined with --config",
			     optind < argc ? argv[optind] : "--");
	if (m->save_at_mark && !o->save_to)
		return wrong("--save-at", "needs --save-to", "");
	m->identify = o->save_to;
	/* items for it are made by --save-to of the same file, and not of items */
	if (config && !o->from_stock && !o->save_to)
		o->from_stock = run_config_stock();
	if (!config && optind == argc && o->from_stock && !o->command)
		return check_stock(o, of_item); /* nothing to fall back on */
	if (!config && optind == argc)
		return wrong("KERNEL", "is missing", "");
	if (optind + 1 < argc)
		return wrong("KERNEL", "is one file only", argv[optind + 1]);
	if (o->command && !o->command_count)
		return wrong("COMMAND", "is missing after --", "");
	if (!config)
		m->kernel = argv[optind];
	if (o->command && !describe_command(o, console_given))
		return RUN_WRONG;
	for (unsigned i = 0; i < appends; i++)
		if (!set_command_line(m, appended[i], true))
			return RUN_WRONG;
	if (config && !apply_config)
		return RUN_GO; /* the file may provide what is missing */
	return check_command(o) == RUN_GO && check_stock(o, of_item) == RUN_GO ? check(o, randomize_given) : RUN_WRONG;
}

enum run_parsed run_options_parse(struct run_options *o, int argc, char **argv)
{
	return parse(o, argc, argv, true);
}

enum run_parsed run_options_parse_words(struct run_options *o, int argc, char **argv)
{
	return parse(o, argc, argv, false);
}

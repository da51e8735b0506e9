/* SPDX-License-Identifier: Apache-2.0 */
/* riffle-vmm's command line, which is Firecracker's. */
#include "api/arguments.h"

#include <stdio.h>
#include <string.h>

#include "api/firecracker.h"

#define OFFSET(member) offsetof(struct arguments, member)

static const struct option {
	const char *name;
	bool has_value;
	size_t offset; /* of a const char *, or of a bool */
	const char *help, *initial;
} options[] = {
    {"api-sock", true, OFFSET(api_sock), "Unix socket at which the API is served.", FIRECRACKER_DEFAULT_SOCKET},
    {"id", true, OFFSET(id), "Name of the microVM: letters, digits and '-', at most 64.", FIRECRACKER_DEFAULT_ID},
    {"config-file", true, OFFSET(config_file), "JSON file that describes a microVM, which is started at once.", NULL},
    {"no-api", false, OFFSET(no_api), "Serve no API; with --config-file.", NULL},
    {"metadata", true, OFFSET(metadata), "JSON file for the metadata service (MMDS).", NULL},
    {"boot-timer", false, OFFSET(boot_timer), "Log when the guest's init writes to the boot timer.", NULL},
    {"log-path", true, OFFSET(log_path), "File or FIFO for the log, instead of standard output.", NULL},
    {"level", true, OFFSET(level), "Off, Error, Warn, Info, Debug or Trace.", "Info"},
    {"module", true, OFFSET(module), "Log only what comes from modules whose names begin so.", NULL},
    {"show-level", false, OFFSET(show_level), "Show the level in each line of the log.", NULL},
    {"show-log-origin", false, OFFSET(show_log_origin), "Show source file and line in each line of the log.", NULL},
    {"metrics-path", true, OFFSET(metrics_path), "File or FIFO for metrics.", NULL},
    {"http-api-max-payload-size", true, OFFSET(payload_size), "Largest body of a request to the API, in bytes.",
     "51200"},
    {"mmds-size-limit", true, OFFSET(mmds_size), "Largest metadata store, in bytes; as the largest body if not given.",
     NULL},
    {"seccomp-filter", true, OFFSET(seccomp_filter), "Refused: riffle's own system call filters are built in.", NULL},
    {"no-seccomp", false, OFFSET(no_seccomp), "Run without system call filters. Not recommended.", NULL},
    {"enable-pci", false, OFFSET(enable_pci), "Refused: there is no PCI; devices are virtio-mmio.", NULL},
    {"start-time-us", true, OFFSET(start_time_us), "When the process was started, by its jailer's monotonic clock.",
     NULL},
    {"start-time-cpu-us", true, OFFSET(start_time_cpu_us), "The same in processor time of the process.", NULL},
    {"parent-cpu-time-us", true, OFFSET(parent_cpu_time_us), "Processor time that its parents used.", NULL},
    {"snapshot-version", false, OFFSET(snapshot_version), "Print the version of snapshots.", NULL},
    {"describe-snapshot", true, OFFSET(describe_snapshot), "Print the version of this snapshot's state file.", NULL},
    {"accept-emulation", false, OFFSET(accept_emulation), "Run on a /dev/kvm that only emulates. Not Firecracker's.",
     NULL},
    {"one-time-snapshots", false, OFFSET(one_time_snapshots),
     "Refuse to load a snapshot twice: its guests would share a kernel layout. Not Firecracker's.", NULL},
    {"version", false, OFFSET(version), "Print the version.", NULL},
    {"help", false, OFFSET(help), "Print this.", NULL},
};

#define OPTIONS (sizeof options / sizeof *options)

static const struct option *find(const char *name)
{
	for (size_t i = 0; i < OPTIONS; i++)
		if (!strcmp(options[i].name, name))
			return &options[i];
	return NULL;
}

/* Says what is wrong, with the name of who it is; control characters cannot come through. */
static bool wrong(char *problem, size_t room, const char *before, const char *name, const char *after)
{
	size_t at;

	snprintf(problem, room, "%s'%s'%s", before, name, after);
	for (at = 0; problem[at]; at++)
		if ((unsigned char)problem[at] < ' ' || problem[at] == 0x7f)
			problem[at] = '?';
	return false;
}

/* Arguments after a lone "--" are nobody's. */
static int count_ours(int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		if (!strcmp(argv[i], "--"))
			return i;
	return argc;
}

static bool is_given(int argc, char **argv, const char *word)
{
	for (int i = 1; i < argc; i++)
		if (!strcmp(argv[i], word))
			return true;
	return false;
}

static bool take(struct arguments *a, int argc, char **argv, int *at, bool *given, char *problem, size_t room)
{
	const char *word = argv[*at], *name = strncmp(word, "--", 2) ? NULL : word + 2;
	const struct option *option = name ? find(name) : NULL;
	char *member;

	if (!option)
		return wrong(problem, room, "Found argument ", name ? name : word,
			     " which wasn't expected, or isn't valid in this context.");
	if (given[option - options])
		return wrong(problem, room, "The argument ", name, " was provided more than once.");
	given[option - options] = true;
	member = (char *)a + option->offset;
	if (!option->has_value) {
		*(bool *)(void *)member = true;
		return true;
	}
	if (*at + 1 == argc || !strncmp(argv[*at + 1], "--", 2))
		return wrong(problem, room, "The argument ", name, " requires a value, but none was supplied.");
	*(const char **)(void *)member = argv[++*at];
	return true;
}

bool arguments_parse(struct arguments *a, int argc, char **argv, char *problem, size_t room)
{
	bool given[OPTIONS] = {false};

	*a = (struct arguments){.help = false};
	argc = count_ours(argc, argv);
	a->help = is_given(argc, argv, "--help") || is_given(argc, argv, "-h");
	a->version = is_given(argc, argv, "--version");
	if (a->help || a->version)
		return true;
	for (int i = 1; i < argc; i++)
		if (!take(a, argc, argv, &i, given, problem, room))
			return false;
	if (a->no_api && !a->config_file)
		return wrong(problem, room, "Argument ", "config-file", " required, but not found.");
	if (a->no_seccomp && a->seccomp_filter)
		return wrong(problem, room, "Argument ", "no-seccomp",
			     " cannot be used together with argument 'seccomp-filter'.");
	return true;
}

bool arguments_number(const char *text, uint64_t max, uint64_t *number)
{
	uint64_t value = 0;

	if (!text || !*text)
		return false;
	for (; *text; text++) {
		unsigned digit = (unsigned)(*text - '0');

		if (digit > 9 || digit > max || value > (max - digit) / 10)
			return false;
		value = value * 10 + digit;
	}
	*number = value;
	return true;
}

bool arguments_id_is_valid(const char *id)
{
	size_t length = strlen(id);

	return length >= 1 && length <= 64 &&
	       strspn(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-") == length;
}

void arguments_print_help(void)
{
	puts("optional arguments:");
	for (size_t i = 0; i < OPTIONS; i++) {
		char words[64];

		snprintf(words, sizeof words, "--%s%s%s%s", options[i].name, options[i].has_value ? " <" : "",
			 options[i].has_value ? options[i].name : "", options[i].has_value ? ">" : "");
		printf("  %s\n      %s%s%s%s\n", words, options[i].help, options[i].initial ? " Default: " : "",
		       options[i].initial ? options[i].initial : "", options[i].initial ? "." : "");
	}
}

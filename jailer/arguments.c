/* SPDX-License-Identifier: Apache-2.0 */
/* The jailer's command line: parsed, checked, and its paths made canonical, before anything is changed. */
#include "jailer/arguments.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define DEFAULT_BASE "/srv/jailer"
#define DEFAULT_OPEN_FILES 2048
#define ID_MAX 64

enum option_id {
	OPTION_ID,
	OPTION_EXEC_FILE,
	OPTION_UID,
	OPTION_GID,
	OPTION_BASE,
	OPTION_NETNS,
	OPTION_DAEMONIZE,
	OPTION_NEW_PID_NS,
	OPTION_CGROUP,
	OPTION_RESOURCE_LIMIT,
	OPTION_CGROUP_VERSION,
	OPTION_PARENT_CGROUP,
	OPTION_VERSION,
	OPTION_HELP,
	OPTIONS
};

static const struct option {
	const char *name;
	bool takes_value, repeats, required;
	const char *value, *help;
} options[OPTIONS] = {
    [OPTION_ID] = {"--id", true, false, true, "ID", "name of the jail: 1 to 64 letters, digits and hyphens"},
    [OPTION_EXEC_FILE] = {"--exec-file", true, false, true, "FILE",
			  "program to run in the jail: it is copied there, without the libraries that it may need"},
    [OPTION_UID] = {"--uid", true, false, true, "UID", "user to run it as"},
    [OPTION_GID] = {"--gid", true, false, true, "GID", "group to run it as"},
    [OPTION_BASE] = {"--chroot-base-dir", true, false, false, "DIR", "where the jails are (default " DEFAULT_BASE ")"},
    [OPTION_NETNS] = {"--netns", true, false, false, "FILE", "network namespace to join"},
    [OPTION_DAEMONIZE] = {"--daemonize", false, false, false, NULL,
			  "run in the background, in its own session, with stdin, stdout and stderr on /dev/null"},
    [OPTION_NEW_PID_NS] = {"--new-pid-ns", false, false, false, NULL, "run it in a new PID namespace"},
    [OPTION_CGROUP] = {"--cgroup", true, true, false, "FILE=VALUE",
		       "write VALUE to FILE of the jail's cgroup, such as cpu.shares=10; may be repeated"},
    [OPTION_RESOURCE_LIMIT] =
	{"--resource-limit", true, true, false, "NAME=VALUE",
	 "limit fsize (bytes of a file) or no-file (descriptors, 2048 by default); may be repeated"},
    [OPTION_CGROUP_VERSION] = {"--cgroup-version", true, false, false, "1|2",
			       "hierarchy that --cgroup means (default 1)"},
    [OPTION_PARENT_CGROUP] = {"--parent-cgroup", true, false, false, "PATH",
			      "cgroup in which the jail's is made (default: the name of the program)"},
    [OPTION_VERSION] = {"--version", false, false, false, NULL, "print the version"},
    [OPTION_HELP] = {"--help", false, false, false, NULL, "print this (-h)"},
};

/* The options as given, not yet checked. */
struct given {
	const char *value[OPTIONS]; /* for an option without a value, its own name; NULL: not given */
	const char *limits[LIST_MAX];
	size_t limit_count;
};

void arguments_help(void)
{
	puts("usage: riffle-jailer --id ID --exec-file FILE --uid UID --gid GID [OPTION...] [-- ARGUMENT...]\n\n"
	     "Runs a monitor, such as riffle-vmm, without privileges in a root directory that\n"
	     "holds nothing but it and the devices it needs: DIR/NAME/ID/root. Takes the\n"
	     "arguments of Firecracker's jailer. ARGUMENTs are passed on to the monitor.\n");
	for (size_t i = 0; i < OPTIONS; i++) {
		const struct option *option = &options[i];
		char left[64];

		snprintf(left, sizeof left, "%s%s%s", option->name, option->value ? " " : "",
			 option->value ? option->value : "");
		printf("  %-28s %s%s\n", left, option->help, option->required ? " (required)" : "");
	}
}

static int add(const char **list, size_t *count, const char *option, const char *value, struct failure *failure)
{
	if (*count >= LIST_MAX)
		return fail(failure, "Failed to parse arguments: The argument '%s' was provided more than %d times.",
			    option + 2, LIST_MAX);
	list[(*count)++] = value;
	return 0;
}

/* One option and its value, if it takes one, at argv[*at]. */
static int take(struct arguments *arguments, struct given *given, int argc, char *const *argv, int *at,
		struct failure *failure)
{
	const char *word = argv[*at], *value = word;
	size_t i = 0;

	while (i < OPTIONS && strcmp(options[i].name, word))
		i++;
	if (i == OPTIONS)
		return fail(failure,
			    "Failed to parse arguments: Found argument '%s' which wasn't expected, or isn't valid in "
			    "this context.",
			    !strncmp(word, "--", 2) ? word + 2 : word);
	if (options[i].takes_value) {
		/* an option in place of the value: the value was forgotten */
		if (*at + 1 >= argc || !strncmp(argv[*at + 1], "--", 2))
			return fail(failure,
				    "Failed to parse arguments: The argument '%s' requires a value, but none was "
				    "supplied.",
				    word + 2);
		value = argv[++*at];
	}
	if (i == OPTION_CGROUP)
		return add(arguments->cgroups, &arguments->cgroup_count, word, value, failure);
	if (i == OPTION_RESOURCE_LIMIT)
		return add(given->limits, &given->limit_count, word, value, failure);
	if (given->value[i])
		return fail(failure, "Failed to parse arguments: The argument '%s' was provided more than once.",
			    word + 2);
	given->value[i] = value;
	return 0;
}

static int parse_id(const char *id, struct failure *failure)
{
	size_t length = strlen(id);

	if (length < 1 || length > ID_MAX)
		return fail(failure, "Invalid instance ID: Invalid len (%zu);  the length must be between 1 and %d",
			    length, ID_MAX);
	for (size_t i = 0; i < length; i++)
		if (!isalnum((unsigned char)id[i]) && id[i] != '-')
			return fail(failure, "Invalid instance ID: Invalid char (%c) at position %zu", id[i], i);
	return 0;
}

static bool parse_number(const char *text, uint64_t limit, uint64_t *number)
{
	char *end;

	if (!isdigit((unsigned char)*text))
		return false;
	errno = 0;
	*number = strtoull(text, &end, 10);
	return !errno && !*end && *number <= limit;
}

static int parse_limit(struct arguments *arguments, const char *text, struct failure *failure)
{
	const char *value = strchr(text, '=');
	size_t length;
	uint64_t number;

	if (!value)
		return fail(failure, "Invalid format for resources limits: %s", text);
	length = (size_t)(value++ - text);
	/* for the kernel, the highest value means no limit */
	if (!parse_number(value, UINT64_MAX, &number))
		return fail(failure, "Invalid limit value for resource: %s: invalid digit found in string", value);
	if (length == strlen("fsize") && !memcmp(text, "fsize", length))
		arguments->file_size = number;
	else if (length == strlen("no-file") && !memcmp(text, "no-file", length))
		arguments->open_files = number;
	else
		return fail(failure, "Invalid resource argument: %.*s", (int)length, text);
	return 0;
}

bool path_stays_below(const char *path)
{
	for (;;) {
		size_t length = strcspn(path, "/");

		if (!length || (length <= 2 && !memcmp(path, "..", length)))
			return false;
		if (!path[length])
			return true;
		path += length + 1;
	}
}

/* Checks FILE=VALUE; the file's meaning is checked once the hierarchies are known. */
static int check_cgroup(const char *text, struct failure *failure)
{
	const char *value = strchr(text, '=');
	char file[NAME_MAX + 1];

	if (!value || !value[1] || strchr(value + 1, '='))
		return fail(failure, "Invalid format for cgroups: %s", text);
	if ((size_t)(value - text) >= sizeof file)
		return fail(failure, "Cgroup invalid file: %s", text);
	memcpy(file, text, (size_t)(value - text));
	file[value - text] = 0;
	/* a single path component, CONTROLLER.PROPERTY */
	if (!path_stays_below(file) || strchr(file, '/') || !strchr(file, '.') || file[0] == '.')
		return fail(failure, "Cgroup invalid file: %s", text);
	return 0;
}

static int check_required(const struct given *given, struct failure *failure)
{
	for (size_t i = 0; i < OPTIONS; i++)
		if (options[i].required && !given->value[i])
			return fail(failure, "Failed to parse arguments: Argument '%s' required, but not found.",
				    options[i].name + 2);
	return 0;
}

/* Checks numbers and names; arguments_resolve() examines the files. */
static int check_values(struct arguments *arguments, const struct given *given, struct failure *failure)
{
	uint64_t number;

	if (parse_id(arguments->id, failure))
		return -1;
	/* the highest value is not an id: chown takes it as "unchanged" */
	if (!parse_number(given->value[OPTION_UID], UINT32_MAX - 1, &number))
		return fail(failure, "Invalid uid: %s", given->value[OPTION_UID]);
	arguments->uid = (uid_t)number;
	if (!parse_number(given->value[OPTION_GID], UINT32_MAX - 1, &number))
		return fail(failure, "Invalid gid: %s", given->value[OPTION_GID]);
	arguments->gid = (gid_t)number;
	if (arguments->parent_cgroup && !path_stays_below(arguments->parent_cgroup))
		return fail(failure,
			    "Parent cgroup path is invalid. Path should not be absolute or contain '..' or '.'");
	arguments->cgroup_version = 1;
	if (given->value[OPTION_CGROUP_VERSION]) {
		if (!parse_number(given->value[OPTION_CGROUP_VERSION], 2, &number) || !number)
			return fail(failure, "%s is an invalid cgroup version specifier",
				    given->value[OPTION_CGROUP_VERSION]);
		arguments->cgroup_version = (unsigned)number;
	}
	for (size_t i = 0; i < arguments->cgroup_count; i++)
		if (check_cgroup(arguments->cgroups[i], failure))
			return -1;
	for (size_t i = 0; i < given->limit_count; i++)
		if (parse_limit(arguments, given->limits[i], failure))
			return -1;
	return 0;
}

int arguments_parse(struct arguments *arguments, int argc, char *const *argv, struct failure *failure)
{
	struct given given = {0};
	int last = argc;

	*arguments = (struct arguments){.file_size = UINT64_MAX, .open_files = DEFAULT_OPEN_FILES};
	arguments->extra = argv + argc;
	for (int i = 1; i < argc; i++)
		if (!strcmp(argv[i], "--")) {
			arguments->extra = argv + i + 1;
			last = i;
			break;
		}
	/* --help and --version take precedence over everything else */
	for (int i = 1; i < last; i++) {
		arguments->help = arguments->help || !strcmp(argv[i], "--help") || !strcmp(argv[i], "-h");
		arguments->version = arguments->version || !strcmp(argv[i], "--version");
	}
	if (arguments->help || arguments->version)
		return 0;
	for (int i = 1; i < last; i++)
		if (take(arguments, &given, last, argv, &i, failure))
			return -1;
	if (check_required(&given, failure))
		return -1;
	arguments->id = given.value[OPTION_ID];
	arguments->exec_file = given.value[OPTION_EXEC_FILE];
	arguments->base = given.value[OPTION_BASE] ? given.value[OPTION_BASE] : DEFAULT_BASE;
	arguments->netns = given.value[OPTION_NETNS];
	arguments->daemonize = given.value[OPTION_DAEMONIZE] != NULL;
	arguments->new_pid_ns = given.value[OPTION_NEW_PID_NS] != NULL;
	arguments->parent_cgroup = given.value[OPTION_PARENT_CGROUP];
	return check_values(arguments, &given, failure);
}

static int canonical(const char *path, char resolved[PATH_MAX], struct stat *st, struct failure *failure)
{
	if (!realpath(path, resolved) || stat(resolved, st) < 0)
		return fail_system(failure, errno, "Failed to canonicalize path %s", path);
	return 0;
}

int arguments_resolve(struct arguments *arguments, struct failure *failure)
{
	struct stat st;

	if (canonical(arguments->exec_file, arguments->exec_path, &st, failure))
		return -1;
	if (!S_ISREG(st.st_mode))
		return fail(failure, "%s is not a file", arguments->exec_path);
	arguments->exec_name = strrchr(arguments->exec_path, '/') + 1;
	if (canonical(arguments->base, arguments->base_path, &st, failure))
		return -1;
	if (!S_ISDIR(st.st_mode))
		return fail(failure, "%s is not a directory", arguments->base_path);
	if (!arguments->parent_cgroup)
		arguments->parent_cgroup = arguments->exec_name;
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The initramfs that `riffle run` makes: of a directory, or of a command and what it needs. */
#include "cli/commands/run_initramfs.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/commands.h"
#include "common/fail.h"
#include "host/input.h"
#include "initramfs/command.h"
#include "initramfs/program.h"

#define MIB (UINT64_C(1) << 20)
/* What a kernel needs beside archive and files: Debian's 6.1 boots with 72 MiB (cloud) and 96 MiB (generic). */
#define KERNEL_BYTES (96 * MIB)

#define DEFAULT_PATH "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#define HOSTNAME "riffle"

/* The file that an error is about: as it is called on this side. */
static void name_blame(struct run_initramfs *r, const char *directory)
{
	const char *blame = initramfs_blame(r->archive);

	if (!directory)
		snprintf(r->blame, sizeof r->blame, "%s", blame ? blame : "");
	else
		snprintf(r->blame, sizeof r->blame, "%s%s%s", directory, blame ? "/" : "", blame ? blame : "");
}

static int add_directory(struct run_initramfs *r, const char *name, struct riffle_error *error)
{
	struct initramfs_directory directory = {.fd = open(name, O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
	int status;

	if (directory.fd < 0)
		return riffle_fail_system(error, errno, "open", "failed");
	status = initramfs_add_directory(r->archive, &directory, error);
	close(directory.fd);
	return status;
}

/* The names that stand in front of a `=`, or alone, are the same. */
static bool same_name(const char *a, const char *b)
{
	size_t n = strcspn(a, "=");

	return n == strcspn(b, "=") && !memcmp(a, b, n);
}

/* Later ones take the place of earlier ones of the same name. */
static size_t set_variable(const char **environment, size_t count, const char *variable)
{
	for (size_t i = 0; i < count; i++)
		if (same_name(environment[i], variable)) {
			environment[i] = variable;
			return count;
		}
	environment[count] = variable;
	return count + 1;
}

/* A variable as it is here; NULL when there is none, or the name has its value. */
static const char *here(const char *name)
{
	size_t length = strlen(name);

	for (char **e = environ; *e; e++)
		if (!strncmp(*e, name, length) && (*e)[length] == '=')
			return *e;
	return NULL;
}

static size_t make_environment(const char **environment, const struct run_options *o, unsigned terminal)
{
	size_t count = 0;

	count = set_variable(environment, count, DEFAULT_PATH);
	count = set_variable(environment, count, "HOME=/");
	if (terminal && here("TERM"))
		count = set_variable(environment, count, here("TERM"));
	for (size_t i = 0; i < o->environment_count; i++) {
		const char *variable = o->environment[i];

		if (!strchr(variable, '='))
			variable = here(variable);
		if (variable)
			count = set_variable(environment, count, variable);
	}
	return count;
}

static unsigned terminals(void)
{
	return (isatty(STDIN_FILENO) ? CONFIG_TERMINAL_IN : 0) | (isatty(STDOUT_FILENO) ? CONFIG_TERMINAL_OUT : 0) |
	       (isatty(STDERR_FILENO) ? CONFIG_TERMINAL_ERR : 0);
}

/* Without a root directory: the command's own file, as it is found here. */
static int add_program(struct run_initramfs *r, const struct run_options *o, char *path, size_t room, int *exit_code,
		       struct riffle_error *error)
{
	const struct initramfs_entry directory = {.path = o->workdir ? o->workdir : "/", .mode = 0040755};
	int number = program_find(o->command[0], getenv("PATH"), path, room), status;

	if (number) {
		*exit_code = number == ENOENT ? COMMAND_EXIT_NOT_FOUND : COMMAND_EXIT_CANNOT_RUN;
		snprintf(r->blame, sizeof r->blame, "%s", o->command[0]);
		return riffle_fail_system(
		    error, number, "command",
		    number == ENOENT ? "is not found on this machine; --root DIR gives the guest files of its own"
				     : "cannot be executed");
	}
	status = program_add(r->archive, path, getenv("PATH"), error);
	if (!status && o->workdir && strspn(o->workdir, "/") != strlen(o->workdir) &&
	    !initramfs_has(r->archive, o->workdir))
		status = initramfs_add(r->archive, &directory, error);
	if (status)
		name_blame(r, NULL);
	return status;
}

static int add_command(struct run_initramfs *r, const struct run_options *o, int *exit_code, struct riffle_error *error)
{
	const char *environment[RUN_ENVIRONMENT_MAX + 3];
	char path[PATH_MAX] = "";
	struct initramfs_command command = {.argv = (const char *const *)o->command,
					    .argc = o->command_count,
					    .environment = environment,
					    .workdir = o->workdir,
					    .hostname = HOSTNAME,
					    .terminal = terminals()};
	int status = 0;

	if (!o->root) {
		status = add_program(r, o, path, sizeof path, exit_code, error);
		command.program = path;
	}
	command.environment_count = make_environment(environment, o, command.terminal);
	return status ? status : initramfs_add_command(r->archive, &command, error);
}

/*
 * The archive and what is unpacked from it are in memory at the same time, and the root's tmpfs takes half of the
 * memory at most.
 */
static bool check_memory(const struct run_initramfs *r, const struct run_options *o, const char *name)
{
	uint64_t unpacked = initramfs_unpacked_bytes(r->archive), need = r->initrd.bytes + unpacked + KERNEL_BYTES;

	if (need < 2 * unpacked + KERNEL_BYTES)
		need = 2 * unpacked + KERNEL_BYTES;
	need = (need + 8 * MIB - 1) & ~(8 * MIB - 1);
	if (need <= o->machine.memory_bytes || r->initrd.bytes + unpacked <= 32 * MIB)
		return true;
	fprintf(stderr,
		"riffle: %s: memory: is too little to unpack it (found %lluM, expected at least %lluM): -m %lluM\n",
		name, (unsigned long long)(o->machine.memory_bytes / MIB), (unsigned long long)(need / MIB),
		(unsigned long long)(need / MIB));
	return false;
}

static int fill(void *opaque, void *memory, uint64_t bytes, struct riffle_error *error)
{
	struct run_initramfs *r = opaque;
	char directory[sizeof r->blame];
	int status;

	(void)bytes; /* what the layout said */
	snprintf(directory, sizeof directory, "%s", r->blame);
	status = initramfs_write(r->archive, memory, error);
	if (status)
		name_blame(r, directory[0] ? directory : NULL);
	return status;
}

static int collect(struct run_initramfs *r, const struct run_options *o, const char *directory, int *exit_code,
		   struct riffle_error *error)
{
	int status = initramfs_new(&r->archive, error);

	if (status)
		return status;
	if (directory && (status = add_directory(r, directory, error))) {
		name_blame(r, directory);
		return status;
	}
	if (o->command && (status = add_command(r, o, exit_code, error)))
		return status;
	return initramfs_layout(r->archive, &r->initrd.bytes, error);
}

bool run_initramfs_make(struct run_initramfs *r, struct run_options *o, int *exit_code)
{
	const char *directory = o->command ? o->root : o->initrd_directory;
	struct riffle_error error;

	memset(r, 0, sizeof *r);
	if (!o->command && !directory)
		return true;
	if (collect(r, o, directory, exit_code, &error)) {
		report_error(r->blame[0] ? r->blame : directory, &error);
		return false;
	}
	if (!check_memory(r, o, directory ? directory : o->command[0]))
		return false;
	/* what an error on the way into the guest is about begins with the directory */
	snprintf(r->blame, sizeof r->blame, "%s", directory ? directory : "");
	r->initrd.fill = fill;
	r->initrd.opaque = r;
	o->machine.initrd = &r->initrd;
	return true;
}

void run_initramfs_free(struct run_initramfs *r)
{
	initramfs_free(r->archive);
	r->archive = NULL;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Adds to an initramfs what a guest that runs one command needs: riffle's init, its configuration, two device nodes. */
#include "initramfs/command.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/fail.h"

static const uint8_t init_bytes[] = {
#include "guest/init_bytes.h"
};

/* `key=value` and a NUL; NULL values are left out. Errors stick to the stream. */
static void put(FILE *to, const char *key, const char *value)
{
	if (value) {
		fprintf(to, "%s=%s", key, value);
		fputc('\0', to);
	}
}

static int make_config(char **text, size_t *bytes, const struct initramfs_command *command, struct riffle_error *error)
{
	char terminal[2] = {(char)('0' + (command->terminal & 7)), '\0'};
	FILE *to = open_memstream(text, bytes);
	bool failed = !to;

	if (to) {
		fwrite(CONFIG_FORMAT, 1, sizeof CONFIG_FORMAT, to);
		for (size_t i = 0; i < command->argc; i++)
			put(to, "arg", command->argv[i]);
		for (size_t i = 0; i < command->environment_count; i++)
			put(to, "env", command->environment[i]);
		put(to, "program", command->program);
		put(to, "workdir", command->workdir);
		put(to, "hostname", command->hostname);
		put(to, "terminal", terminal);
		failed = ferror(to);
		failed |= fclose(to) != 0;
	}
	if (!failed)
		return RIFFLE_OK;
	if (to)
		free(*text);
	return riffle_fail(error, RIFFLE_ERR_MEMORY, "command", "out of memory");
}

int initramfs_add_command(struct initramfs *archive, const struct initramfs_command *command,
			  struct riffle_error *error)
{
	char *text = NULL;
	size_t bytes = 0;
	int status = make_config(&text, &bytes, command, error);
	const struct initramfs_entry entries[] = {
	    {.path = "/dev", .mode = S_IFDIR | 0755},
	    {.path = "/dev/console", .mode = S_IFCHR | 0600, .major = 5, .minor = 1},
	    {.path = "/dev/null", .mode = S_IFCHR | 0666, .major = 1, .minor = 3},
	    {.path = "/.riffle", .mode = S_IFDIR | 0700},
	    {.path = CONFIG_INIT_PATH, .mode = S_IFREG | 0700, .data = init_bytes, .bytes = sizeof init_bytes},
	    {.path = CONFIG_PATH, .mode = S_IFREG | 0600, .data = text, .bytes = bytes},
	};

	for (size_t i = 0; i < sizeof entries / sizeof *entries && !status; i++)
		status = initramfs_add(archive, &entries[i], error);
	free(text);
	return status;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* A program of the host with everything needed to start it: interpreter, shared libraries, the links on the way. */
#include "initramfs/program.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fail.h"
#include "initramfs/libraries.h"
#include "initramfs/tree.h"

#define SCRIPT_LINE 256u /* how much of a script the kernel examines (BINPRM_BUF_SIZE) */
#define SCRIPTS_MAX 5u   /* nesting of script interpreters, as in the kernel */

static bool is_executable(const char *path, int *number)
{
	struct stat st;

	if (stat(path, &st) || (S_ISREG(st.st_mode) && access(path, X_OK)))
		*number = errno;
	else if (!S_ISREG(st.st_mode))
		*number = EACCES;
	else
		return true;
	return false;
}

/* Prefixes a relative path with the current directory. */
static int make_absolute(const char *directory, size_t bytes, const char *name, char *path, size_t room)
{
	char here[PATH_MAX] = "";
	int length;

	if ((bytes ? directory[0] : name[0]) != '/' && !getcwd(here, sizeof here))
		return errno;
	length = snprintf(path, room, "%s%s%.*s%s%s", here, here[0] ? "/" : "", (int)bytes, directory, bytes ? "/" : "",
			  name);
	return length < 0 || (size_t)length >= room ? ENAMETOOLONG : 0;
}

int program_find(const char *name, const char *search, char *path, size_t room)
{
	int number = 0, result = ENOENT;

	if (!*name)
		return ENOENT;
	if (strchr(name, '/')) {
		result = make_absolute("", 0, name, path, room);
		return result || is_executable(path, &number) ? result : number;
	}
	for (const char *at = search; at;) {
		size_t bytes = strcspn(at, ":");
		/* an empty entry means the current directory */
		int error = bytes ? make_absolute(at, bytes, name, path, room) : make_absolute("", 0, name, path, room);

		if (!error && is_executable(path, &number))
			return 0;
		if (!error && number == EACCES)
			result = EACCES;
		at = at[bytes] ? at + bytes + 1 : NULL;
	}
	return result;
}

/* Cuts the next word from *line; NULL if there is none. */
static char *next_word(char **line)
{
	char *word = *line + strspn(*line, " \t");

	if (!*word)
		return NULL;
	*line = word + strcspn(word, " \t");
	if (**line)
		*(*line)++ = '\0';
	return word;
}

/* The program that env would run. */
static int find_of_env(char *arguments, const char *search, char *path, size_t room)
{
	char *word;

	while ((word = next_word(&arguments)))
		if (*word != '-' && !strchr(word, '='))
			return program_find(word, search, path, room);
	return 0;
}

static int add(struct initramfs *archive, const char *path, const char *search, unsigned depth,
	       struct riffle_error *error);

static int add_script(struct initramfs *archive, const char *script, char *line, const char *search, unsigned depth,
		      struct riffle_error *error)
{
	char *interpreter, *name, path[PATH_MAX] = "";
	int number, status;

	line[strcspn(line, "\r\n")] = '\0';
	interpreter = next_word(&line);
	if (!interpreter || interpreter[0] != '/' || depth == SCRIPTS_MAX) {
		blame_name(archive, script);
		return riffle_fail(error, RIFFLE_ERR_UNSUPPORTED, "#!",
				   depth == SCRIPTS_MAX ? "begins too long a chain of script interpreters"
							: "names no interpreter by an absolute path");
	}
	name = strrchr(interpreter, '/') + 1;
	status = add(archive, interpreter, search, depth + 1, error);
	if (status || strcmp(name, "env"))
		return status;
	number = find_of_env(line, search, path, sizeof path);
	if (number) {
		blame_name(archive, script);
		return riffle_fail_system(error, number, "#!", "names an interpreter that env cannot find");
	}
	return path[0] ? add(archive, path, search, depth + 1, error) : RIFFLE_OK;
}

static int add(struct initramfs *archive, const char *path, const char *search, unsigned depth,
	       struct riffle_error *error)
{
	char start[SCRIPT_LINE + 1];
	ssize_t bytes;
	int fd, status = initramfs_add_host_file(archive, path, error);

	if (status)
		return status;
	blame_name(archive, path);
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return riffle_fail_system(error, errno, "open", "failed");
	bytes = pread(fd, start, SCRIPT_LINE, 0);
	close(fd);
	if (bytes < 0)
		return riffle_fail_system(error, errno, "read", "failed");
	start[bytes] = '\0';
	if (elf_is(start, (size_t)bytes))
		return libraries_add(archive, path, error);
	if (bytes < 2 || start[0] != '#' || start[1] != '!')
		return riffle_fail(error, RIFFLE_ERR_UNSUPPORTED, "program", "is neither an ELF file nor a script");
	status = add_script(archive, path, start + 2, search, depth, error);
	if (!status)
		archive->blame[0] = '\0';
	return status;
}

int program_add(struct initramfs *archive, const char *path, const char *search, struct riffle_error *error)
{
	return add(archive, path, search, 0, error);
}

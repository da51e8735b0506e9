/* SPDX-License-Identifier: Apache-2.0 */
/* riffle initramfs: a directory goes in, the initramfs that `riffle run -i DIRECTORY` would load comes out as a file.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/commands.h"
#include "common/fail.h"
#include "common/write_all.h"
#include "host/input.h"
#include "host/output.h"
#include "host/suggest.h"
#include "initramfs/initramfs.h"

static const char help[] =
    "Usage: riffle initramfs DIRECTORY [--reproducible] [--force] -o FILE\n"
    "\n"
    "Packs DIRECTORY as an initramfs, an uncompressed newc archive, as `riffle run -i DIRECTORY`\n"
    "does on the fly: owners, modes, links, devices and times are kept, symbolic links not\n"
    "followed. Extended attributes are lost. No privileges are needed.\n"
    "\n"
    "  -o, --output FILE   the archive; it appears complete or not at all\n"
    "      --reproducible  give everything to root and set all times to 0: equal files give\n"
    "                      equal bytes\n"
    "  -f, --force         replace FILE if it exists\n"
    "  -h, --help          this text\n"
    "\n"
    "Exit code: 0 success, 1 error, 2 wrong usage.\n";

struct initramfs_options {
	const char *directory, *output;
	bool reproducible, force;
};

static int usage_error(const char *what)
{
	fprintf(stderr, "riffle initramfs: %s; riffle initramfs --help shows more\n", what);
	return EXIT_USAGE;
}

static void leave_out(struct initramfs_directory *directory, const struct stat *st)
{
	directory->skip[directory->skip_count].device = st->st_dev;
	directory->skip[directory->skip_count++].inode = st->st_ino;
}

/* The archive may lie in the directory: neither the new one nor the one that it replaces is part of it. */
static int collect(struct initramfs *archive, const struct initramfs_options *o, int output_fd,
		   struct riffle_error *error)
{
	struct initramfs_directory directory = {.fd = open(o->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC),
						.root_owns = o->reproducible,
						.no_times = o->reproducible};
	struct stat st;
	int status;

	if (directory.fd < 0)
		return riffle_fail_system(error, errno, "open", "failed");
	if (fstat(output_fd, &st) == 0)
		leave_out(&directory, &st);
	if (lstat(o->output, &st) == 0)
		leave_out(&directory, &st);
	status = initramfs_add_directory(archive, &directory, error);
	close(directory.fd);
	return status;
}

static int write_all(int fd, const uint8_t *bytes, uint64_t count, struct riffle_error *error)
{
	if (!riffle_write_all(fd, bytes, count))
		return riffle_fail_system(error, errno, "write", "failed");
	return RIFFLE_OK;
}

static int pack(struct initramfs *archive, const struct initramfs_options *o, int output_fd, const char **blame,
		struct riffle_error *error)
{
	uint64_t bytes;
	void *memory;
	int status;

	*blame = NULL;
	if ((status = collect(archive, o, output_fd, error)) || (status = initramfs_layout(archive, &bytes, error)))
		return status;
	memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (memory == MAP_FAILED)
		return riffle_fail_found(error, RIFFLE_ERR_MEMORY, "archive", "does not fit into memory", bytes);
	status = initramfs_write(archive, memory, error);
	if (!status) {
		*blame = o->output;
		status = write_all(output_fd, memory, bytes, error);
	}
	munmap(memory, bytes);
	return status;
}

static void report(const struct initramfs *archive, const struct initramfs_options *o, const char *blame,
		   const struct riffle_error *error)
{
	const char *file = archive ? initramfs_blame(archive) : NULL;
	char path[8192];

	snprintf(path, sizeof path, "%s%s%s", o->directory, file ? "/" : "", file ? file : "");
	report_error(blame ? blame : path, error);
}

static int make(const struct initramfs_options *o)
{
	struct initramfs *archive = NULL;
	struct riffle_error error;
	struct output output;
	const char *blame = NULL;
	int status;

	if (output_file_create(&output, o->output, o->force, &error)) {
		report_error(o->output, &error);
		return EXIT_FAILURE;
	}
	status = initramfs_new(&archive, &error);
	if (!status)
		status = pack(archive, o, output.fd, &blame, &error);
	if (status) {
		output_file_abandon(&output);
		report(archive, o, blame, &error);
	} else if ((status = output_file_finish(&output, &error))) {
		report_error(o->output, &error);
	}
	initramfs_free(archive);
	return status ? EXIT_FAILURE : EXIT_SUCCESS;
}

int command_initramfs(int argc, char **argv)
{
	enum { REPRODUCIBLE = 256 };
	static const struct option options[] = {
	    {"output", required_argument, NULL, 'o'},
	    {"reproducible", no_argument, NULL, REPRODUCIBLE},
	    {"force", no_argument, NULL, 'f'},
	    {"help", no_argument, NULL, 'h'},
	    {NULL, 0, NULL, 0},
	};
	struct initramfs_options o = {.directory = NULL};
	int option;

	opterr = 0;
	while ((option = getopt_long(argc, argv, "o:fh", options, NULL)) != -1) {
		switch (option) {
		case 'o':
			o.output = optarg;
			break;
		case 'f':
			o.force = true;
			break;
		case REPRODUCIBLE:
			o.reproducible = true;
			break;
		case 'h':
			fputs(help, stdout);
			return EXIT_SUCCESS;
		default:
			say_no_option("initramfs", argv[optind - 1], options);
			return EXIT_USAGE;
		}
	}
	if (optind + 1 != argc)
		return usage_error(optind == argc ? "DIRECTORY is missing" : "one DIRECTORY only");
	o.directory = argv[optind];
	if (!o.output)
		return usage_error("-o FILE is missing");
	return make(&o);
}

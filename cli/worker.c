/* SPDX-License-Identifier: Apache-2.0 */
/* Reads a kernel and writes a prepared one, in a process that can do little else. */
#include "cli/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <riffle/plan.h>

#include "cli/commands.h"
#include "cli/sandbox.h"
#include "cli/spawn.h"
#include "common/fail.h"
#include "prepare/analysis/prepared.h"
#include "prepare/image/image.h"
#include "prepare/shuffle/shuffle.h"

struct descriptors {
	int kernel, relocs, out, errors;
};

static int parse_fd(const char *text, int *fd)
{
	char *end;
	long number = strtol(text, &end, 10);

	if (end == text || *end || number < -1 || number > 1024)
		return -1;
	*fd = (int)number;
	/* no program that is run from here on may have it */
	return *fd >= 0 ? fcntl(*fd, F_SETFD, FD_CLOEXEC) : 0;
}

/* Opens what was written as a monitor will: a file that it would refuse is never handed out. */
static int check_result(int fd, struct riffle_error *error)
{
	struct riffle_source source;
	struct riffle_plan plan = {0};
	int status;

	status = riffle_source_from_fd(&source, fd, error);
	if (!status)
		status = riffle_plan_open(&plan, &source, error);
	riffle_plan_close(&plan);
	return status;
}

/* A kernel that cannot be shuffled is a kernel all the same: NULL, and the reason in words. */
static struct shuffle *analyse(const struct riffle_image *image, char *why, size_t bytes)
{
	struct riffle_error error = {0};
	struct shuffle *shuffle = NULL;

	*why = 0;
	if (!image->relocatable)
		snprintf(why, bytes, "it has no relocations");
	else if (shuffle_analyse(&shuffle, image, NULL, &error)) {
		shuffle = NULL;
		riffle_error_format(&error, why, bytes);
	}
	return shuffle;
}

static int work(const struct descriptors *fds, struct riffle_error *error)
{
	struct riffle_image *image;
	struct shuffle *shuffle;
	enum riffle_compression compression;
	char why[256];
	int status;

	status = sandbox_drop(error);
	if (status)
		return status;
	/* a worker does not outlive who waits for it; asked for here because changing ids takes it back */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	compression = riffle_image_peek_compression(fds->kernel);
	status = sandbox_filter(compression == RIFFLE_COMPRESSION_LZO ? SANDBOX_RUNS_LZOP : SANDBOX_PLAIN, error);
	if (!status)
		status = riffle_image_open(&image, fds->kernel, fds->relocs, error);
	if (status)
		return status;
	shuffle = analyse(image, why, sizeof why);
	status = riffle_prepared_write(image, shuffle, why, fds->out, error);
	if (!status)
		status = check_result(fds->out, error);
	shuffle_free(shuffle);
	riffle_image_close(image);
	return status;
}

int worker_main(int argc, char **argv)
{
	struct descriptors fds;
	struct riffle_error error = {0};
	char line[512];

	if (argc != 5 || parse_fd(argv[1], &fds.kernel) < 0 || parse_fd(argv[2], &fds.relocs) < 0 ||
	    parse_fd(argv[3], &fds.out) < 0 || parse_fd(argv[4], &fds.errors) < 0)
		return EXIT_USAGE;
	if (!work(&fds, &error))
		return EXIT_SUCCESS;
	spawn_format_error(&error, line, sizeof line);
	/* the reader tells a line cut short from a whole one by its line feed */
	if (write(fds.errors, line, strlen(line)) < 0)
		return EXIT_FAILURE;
	return EXIT_FAILURE;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Reads a kernel and writes a prepared one, in a process that can do little else. */
#include "kernel/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "host/input.h"
#include "kernel/analysed.h"
#include "kernel/sandbox.h"
#include "kernel/spawn.h"

struct descriptors {
	int kernel, relocs, debug, out, errors;
};

static int parse_fd(const char *text, int *fd)
{
	char *end;
	long number = strtol(text, &end, 10);

	if (end == text || *end || number < -1 || number != (int)number)
		return -1;
	*fd = (int)number;
	/* no program that is run from here on may have it */
	return *fd >= 0 ? fcntl(*fd, F_SETFD, FD_CLOEXEC) : 0;
}

static int parse_storage(const char *text, enum riffle_compression *storage)
{
	for (*storage = RIFFLE_COMPRESSION_NONE; *storage <= RIFFLE_COMPRESSION_ZSTD; (*storage)++) {
		char number[12];

		snprintf(number, sizeof number, "%d", (int)*storage);
		if (!strcmp(text, number))
			return 0;
	}
	return -1;
}

static int work(struct analysed *kernel, const struct descriptors *fds, enum riffle_compression storage,
		const char *no_shuffle, struct riffle_error *error)
{
	int status = sandbox_drop(SANDBOX_SECONDS, error);

	if (status)
		return status;
	/* a worker does not outlive who waits for it; asked for here because changing ids takes it back */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	status = analysed_open(kernel, fds->kernel, fds->relocs, fds->debug, no_shuffle, error);
	if (status)
		return status;
	status = analysed_write(kernel, storage, fds->out, error);
	analysed_close(kernel);
	return status;
}

int worker_main(int argc, char **argv)
{
	struct descriptors fds;
	enum riffle_compression storage;
	struct analysed kernel;
	struct riffle_error error = {0};
	char line[512];

	if (argc < 7 || argc > 8 || parse_fd(argv[1], &fds.kernel) < 0 || parse_fd(argv[2], &fds.relocs) < 0 ||
	    parse_fd(argv[3], &fds.debug) < 0 || parse_fd(argv[4], &fds.out) < 0 ||
	    parse_fd(argv[5], &fds.errors) < 0 || parse_storage(argv[6], &storage) < 0)
		return EXIT_USAGE;
	if (!work(&kernel, &fds, storage, argc == 8 ? argv[7] : NULL, &error))
		return EXIT_SUCCESS;
	spawn_format_error(&error, line, sizeof line);
	/* the reader tells a line cut short from a whole one by its line feed */
	if (write(fds.errors, line, strlen(line)) < 0)
		return EXIT_FAILURE;
	return EXIT_FAILURE;
}

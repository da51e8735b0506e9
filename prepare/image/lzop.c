/* SPDX-License-Identifier: Apache-2.0 */
/* Unpacks an lzo payload through the lzop program, run as a child: the library behind it is GPL. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/write_all.h"
#include "prepare/image/internal.h"

/* no step of an honest lzop takes a tenth of this */
#define LZOP_PATIENCE_MS 30000

/* The child reads from a file without a name: no pipe to feed while another one is drained, and no SIGPIPE. */
static int payload_file(int *fd, const uint8_t *input, size_t input_bytes, struct riffle_error *error)
{
	*fd = memfd_create("riffle-lzo", MFD_CLOEXEC);
	if (*fd < 0)
		return riffle_fail_system(error, errno, "lzop", "cannot be given its input");
	if (!riffle_write_at(*fd, input, input_bytes, 0)) {
		int e = errno;

		close(*fd);
		return riffle_fail_system(error, e, "lzop", "cannot be given its input");
	}
	return 0;
}

/* Starts lzop (from our PATH) between two descriptors, without our environment: $LZOP would change its options. */
static int start(pid_t *child, int in, int out)
{
	char name[] = "lzop", unpack[] = "-d", to_stdout[] = "-c";
	char *const argv[] = {name, unpack, to_stdout, NULL};
	char path[] = "PATH=/usr/local/bin:/usr/bin:/bin";
	char *const environment[] = {path, NULL};
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	sigset_t none, usual;
	int rc;

	sigemptyset(&none);
	sigemptyset(&usual);
	sigaddset(&usual, SIGPIPE);
	rc = posix_spawn_file_actions_init(&actions);
	if (rc)
		return rc;
	rc = posix_spawnattr_init(&attributes);
	if (rc) {
		posix_spawn_file_actions_destroy(&actions);
		return rc;
	}
	if (!(rc = posix_spawn_file_actions_adddup2(&actions, in, 0)) &&
	    !(rc = posix_spawn_file_actions_adddup2(&actions, out, 1)) &&
	    !(rc = posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0)) &&
	    !(rc = posix_spawnattr_setsigmask(&attributes, &none)) &&
	    !(rc = posix_spawnattr_setsigdefault(&attributes, &usual)) &&
	    !(rc = posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF)))
		rc = posix_spawnp(child, argv[0], &actions, &attributes, argv, environment);
	posix_spawnattr_destroy(&attributes);
	posix_spawn_file_actions_destroy(&actions);
	return rc;
}

/* Reads until the end, one byte more than expected, or the end of patience. */
static int drain(int fd, uint8_t *output, size_t capacity, size_t *produced, struct riffle_error *error)
{
	*produced = 0;
	while (*produced < capacity) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		int ready = poll(&p, 1, LZOP_PATIENCE_MS);
		ssize_t n;

		if (ready < 0 && errno == EINTR)
			continue;
		if (ready < 0)
			return riffle_fail_system(error, errno, "lzop", "cannot be waited for");
		if (ready == 0)
			return riffle_fail_system(error, ETIMEDOUT, "lzop", "does not go on");
		n = read(fd, output + *produced, capacity - *produced);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return riffle_fail_system(error, errno, "lzop", "cannot be read from");
		if (n == 0)
			break;
		*produced += (size_t)n;
	}
	return 0;
}

static int reap(pid_t child)
{
	int status;

	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			return -1;
	return status;
}

int image_decompress_lzo(const uint8_t *input, size_t input_bytes, uint8_t *output, size_t output_bytes,
			 size_t *produced, struct riffle_error *error)
{
	int in, pipe_fd[2], rc, status, ended;
	pid_t child;

	*produced = 0;
	status = payload_file(&in, input, input_bytes, error);
	if (status)
		return status;
	if (pipe2(pipe_fd, O_CLOEXEC) != 0) {
		status = riffle_fail_system(error, errno, "lzop", "cannot be given a pipe");
		close(in);
		return status;
	}
	rc = start(&child, in, pipe_fd[1]);
	close(in);
	close(pipe_fd[1]);
	if (rc) {
		close(pipe_fd[0]);
		return riffle_fail_system(error, rc, "lzop",
					  "unpacks lzo kernels and could not be started; is it installed?");
	}
	status = drain(pipe_fd[0], output, output_bytes + 1, produced, error);
	close(pipe_fd[0]);
	if (status || *produced > output_bytes)
		kill(child, SIGKILL);
	ended = reap(child);
	if (status)
		return status;
	if (*produced <= output_bytes && (!WIFEXITED(ended) || WEXITSTATUS(ended) != 0))
		return riffle_fail(error, RIFFLE_ERR_FORMAT, "payload", "is refused by lzop");
	return 0;
}

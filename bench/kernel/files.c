/* SPDX-License-Identifier: Apache-2.0 */
/* read and write of a file in memory, send and recv over a local stream socket. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ops.h"

#define PAGE 4096
#define TEXT_BYTES (1000 * PAGE)

static int file = -1, pair[2] = {-1, -1};
static char *text;

static int start_file(long pages)
{
	text = malloc(TEXT_BYTES);
	if (!text)
		return -ENOMEM;
	memset(text, 'a', TEXT_BYTES);
	file = memfd_create("bench", MFD_CLOEXEC);
	if (file < 0 || pwrite(file, text, (size_t)pages * PAGE, 0) != pages * PAGE)
		return -errno;
	return 0;
}

static int start_pair(long bytes)
{
	int room = 4 * 96000;

	(void)bytes;
	text = malloc(TEXT_BYTES);
	if (!text)
		return -ENOMEM;
	memset(text, 'a', TEXT_BYTES);
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0)
		return -errno;
	setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
	return 0;
}

static void end_all(long size)
{
	int *fd[] = {&file, &pair[0], &pair[1]};

	(void)size;
	for (unsigned i = 0; i < 3; i++) {
		if (*fd[i] >= 0)
			close(*fd[i]);
		*fd[i] = -1;
	}
	free(text);
	text = NULL;
}

static int64_t run_read(long pages, unsigned iterations)
{
	int64_t before = now_ns();

	for (unsigned i = 0; i < iterations; i++)
		if (pread(file, text, (size_t)pages * PAGE, 0) != pages * PAGE)
			return errno ? -errno : -EIO;
	return now_ns() - before;
}

static int64_t run_write(long pages, unsigned iterations)
{
	int64_t before = now_ns();

	for (unsigned i = 0; i < iterations; i++)
		if (pwrite(file, text, (size_t)pages * PAGE, 0) != pages * PAGE)
			return errno ? -errno : -EIO;
	return now_ns() - before;
}

/* Each message is sent and received again, without waiting; one half is timed. */
static int64_t message(long bytes, unsigned iterations, int receive)
{
	int64_t took = 0;

	for (unsigned i = 0; i < iterations; i++) {
		int64_t start = now_ns(), sent;

		if (send(pair[0], text, (size_t)bytes, MSG_DONTWAIT) != bytes)
			return errno ? -errno : -EIO;
		sent = now_ns();
		if (recv(pair[1], text, (size_t)bytes, MSG_DONTWAIT | MSG_WAITALL) != bytes)
			return errno ? -errno : -EIO;
		took += receive ? now_ns() - sent : sent - start;
	}
	return took;
}

static int64_t run_send(long bytes, unsigned iterations)
{
	return message(bytes, iterations, 0);
}

static int64_t run_recv(long bytes, unsigned iterations)
{
	return message(bytes, iterations, 1);
}

const struct op file_ops[] = {
    {"read-small", 1, 100, start_file, run_read, end_all},
    {"read-mid", 10, 100, start_file, run_read, end_all},
    {"read-big", 1000, 1, start_file, run_read, end_all},
    {"write-small", 1, 100, start_file, run_write, end_all},
    {"write-mid", 10, 100, start_file, run_write, end_all},
    {"write-big", 1000, 1, start_file, run_write, end_all},
    {"send", 1, 200, start_pair, run_send, end_all},
    {"send-big", 96000, 10, start_pair, run_send, end_all},
    {"recv", 1, 200, start_pair, run_recv, end_all},
    {"recv-big", 96000, 10, start_pair, run_recv, end_all},
    {0},
};

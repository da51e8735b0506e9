/* SPDX-License-Identifier: Apache-2.0 */
/* Names of unix sockets that an earlier run left behind. */
#include "monitor/event/stale_socket.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

void stale_socket_remove(const struct sockaddr_un *address, int type)
{
	struct stat file;

	if (lstat(address->sun_path, &file) < 0 || !S_ISSOCK(file.st_mode))
		return;
	/* non-blocking: a listener with a full backlog must not hold this up */
	int fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return;
	if (connect(fd, (const struct sockaddr *)address, sizeof *address) < 0 && errno == ECONNREFUSED)
		unlink(address->sun_path);
	close(fd);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* A unix socket that listens at a path of the user's. */
#include "machine/unix_socket.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/fail.h"
#include "monitor/event/stale_socket.h"

static int listen_at(int fd, int type, const struct sockaddr_un *address, const char *field, int backlog,
		     struct riffle_error *error)
{
	stale_socket_remove(address, type);
	mode_t mask = umask(0177);
	int bound = bind(fd, (const struct sockaddr *)address, sizeof *address), problem = errno;

	umask(mask);
	if (bound < 0)
		return riffle_fail_system(error, problem, field, "cannot be bound");
	if (listen(fd, backlog) < 0)
		return riffle_fail_system(error, errno, field, "cannot be listened on");
	return 0;
}

int unix_socket_listen(int *fd, int type, const char *path, const char *field, int backlog, struct riffle_error *error)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int status;

	*fd = -1;
	if (strlen(path) >= sizeof address.sun_path)
		return riffle_fail_expected(error, RIFFLE_ERR_ARGUMENT, field, "is too long for a socket's path",
					    strlen(path), sizeof address.sun_path - 1);
	strcpy(address.sun_path, path);
	*fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (*fd < 0)
		return riffle_fail_system(error, errno, field, "socket failed");
	status = listen_at(*fd, type, &address, field, backlog, error);
	if (status) {
		close(*fd);
		*fd = -1;
	}
	return status;
}

int unix_socket_trust_peer(int fd, const char *field, struct riffle_error *error)
{
	struct ucred peer;
	socklen_t bytes = sizeof peer;

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &bytes) < 0)
		return riffle_fail_system(error, errno, field, "does not tell who listens");
	if (peer.uid == 0 || peer.uid == geteuid())
		return 0;
	return riffle_fail_expected(error, RIFFLE_ERR_TRUST, field, "is served neither by root nor by this user",
				    peer.uid, geteuid());
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Passes open descriptors between processes, with a message over a unix socket (SCM_RIGHTS). */
#include "monitor/event/descriptors.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

/* Aligned for struct cmsghdr. */
union control {
	struct cmsghdr header;
	char bytes[CMSG_SPACE(DESCRIPTORS_MAX * sizeof(int))];
};

ssize_t descriptors_send(int socket, const void *text, size_t bytes, const int *fds, unsigned count, int flags)
{
	struct iovec part = {.iov_base = (void *)text, .iov_len = bytes};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
	union control control = {0};

	if (count > DESCRIPTORS_MAX)
		return errno = EINVAL, -1;
	if (count) {
		message.msg_control = &control;
		message.msg_controllen = CMSG_SPACE(count * sizeof *fds);
		struct cmsghdr *header = CMSG_FIRSTHDR(&message);

		header->cmsg_level = SOL_SOCKET;
		header->cmsg_type = SCM_RIGHTS;
		header->cmsg_len = CMSG_LEN(count * sizeof *fds);
		memcpy(CMSG_DATA(header), fds, count * sizeof *fds);
	}
	return sendmsg(socket, &message, flags | MSG_NOSIGNAL);
}

ssize_t descriptors_receive(int socket, void *text, size_t bytes, int *fds, unsigned max, unsigned *count, int flags)
{
	struct iovec part = {.iov_base = text, .iov_len = bytes};
	union control control;
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control};

	*count = 0;
	if (max > DESCRIPTORS_MAX)
		return errno = EINVAL, -1;
	/* not CMSG_SPACE, whose padding may hold another descriptor */
	message.msg_controllen = CMSG_LEN(max * sizeof *fds);
	ssize_t got = recvmsg(socket, &message, flags | MSG_CMSG_CLOEXEC);

	if (got < 0)
		return got;
	for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); header; header = CMSG_NXTHDR(&message, header)) {
		if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS)
			continue;
		*count = (unsigned)((header->cmsg_len - CMSG_LEN(0)) / sizeof *fds);
		memcpy(fds, CMSG_DATA(header), *count * sizeof *fds);
	}
	return got;
}

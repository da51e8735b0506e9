/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/interrupted.h"

#include <errno.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

bool interrupt_all;

static bool concerns_us(void)
{
	return interrupt_all || syscall(SYS_gettid) != getpid();
}

static bool is_interrupted(void)
{
	static atomic_uint calls;

	if (!concerns_us() || atomic_fetch_add(&calls, 1) % 2)
		return false;
	errno = EINTR;
	return true;
}

static size_t part_of(size_t bytes)
{
	return concerns_us() ? (bytes + 1) / 2 : bytes;
}

#define WRAPPED(name, parameters, call)                                                                                \
	ssize_t __wrap_##name parameters;                                                                              \
	ssize_t __wrap_##name parameters                                                                               \
	{                                                                                                              \
		if (is_interrupted())                                                                                  \
			return -1;                                                                                     \
		return syscall call;                                                                                   \
	}

WRAPPED(pwrite64, (int fd, const void *from, size_t bytes, off_t at), (SYS_pwrite64, fd, from, part_of(bytes), at))
WRAPPED(pread64, (int fd, void *to, size_t bytes, off_t at), (SYS_pread64, fd, to, part_of(bytes), at))
WRAPPED(readv, (int fd, const struct iovec *parts, int count), (SYS_readv, fd, parts, count))
WRAPPED(sendmsg, (int fd, const struct msghdr *message, int flags), (SYS_sendmsg, fd, message, flags))
WRAPPED(send, (int fd, const void *from, size_t bytes, int flags),
	(SYS_sendto, fd, from, part_of(bytes), flags, NULL, 0))
WRAPPED(recv, (int fd, void *to, size_t bytes, int flags), (SYS_recvfrom, fd, to, bytes, flags, NULL, NULL))

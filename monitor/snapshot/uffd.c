/* SPDX-License-Identifier: Apache-2.0 */
/* Guest memory whose pages another process provides, by Firecracker's protocol over a unix socket. */
#include "monitor/snapshot/uffd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "common/fail.h"
#include "monitor/event/descriptors.h"

/* Faults that KVM takes for the guest must be handled too, for which the call needs a privilege and the device none. */
static int open_uffd(void)
{
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);

#ifdef USERFAULTFD_IOC_NEW
	if (fd < 0) {
		int device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);

		if (device < 0)
			return -1;
		fd = ioctl(device, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
		close(device);
	}
#endif
	return fd;
}

static int set_up(int fd, const struct guest_memory *memory, struct riffle_error *error)
{
	struct uffdio_api api = {.api = UFFD_API, .features = UFFD_FEATURE_EVENT_REMOVE};

	if (ioctl(fd, UFFDIO_API, &api) < 0)
		return riffle_fail_system(error, errno, "UFFDIO_API", "failed");
	for (size_t i = 0; i < memory->count; i++) {
		struct uffdio_register range = {
		    .range = {.start = (uintptr_t)memory->ram[i].host, .len = memory->ram[i].bytes},
		    .mode = UFFDIO_REGISTER_MODE_MISSING};

		if (ioctl(fd, UFFDIO_REGISTER, &range) < 0)
			return riffle_fail_system(error, errno, "UFFDIO_REGISTER", "failed");
	}
	return 0;
}

static int describe(const struct guest_memory *memory, char *text, size_t room)
{
	const unsigned page = memory->hugetlb ? (unsigned)GUEST_MEMORY_STEP : GUEST_PAGE;
	size_t at = 1;
	uint64_t offset = 0;

	text[0] = '[';
	for (size_t i = 0; i < memory->count; i++) {
		const struct riffle_ram *ram = &memory->ram[i];

		at += (size_t)snprintf(text + at, room - at,
				       "%s{\"base_host_virt_addr\":%llu,\"size\":%llu,\"offset\":%llu,"
				       "\"page_size\":%u,\"page_size_kib\":%u}",
				       i ? "," : "", (unsigned long long)(uintptr_t)ram->host,
				       (unsigned long long)ram->bytes, (unsigned long long)offset, page, page);
		offset += ram->bytes;
	}
	return (int)(at + (size_t)snprintf(text + at, room - at, "]"));
}

static int hand_over(const struct uffd *uffd, const struct guest_memory *memory, struct riffle_error *error)
{
	char text[512];
	int bytes = describe(memory, text, sizeof text);

	if (descriptors_send(uffd->socket, text, (size_t)bytes, &uffd->fd, 1, 0) != bytes)
		return riffle_fail_system(error, errno, "page fault handler", "cannot be told of the memory");
	return 0;
}

/* Who waits for a page gets a zero one. */
static void give_up(struct uffd *uffd)
{
	for (size_t i = 0; i < uffd->memory->count; i++) {
		struct uffdio_range range = {.start = (uintptr_t)uffd->memory->ram[i].host,
					     .len = uffd->memory->ram[i].bytes};

		ioctl(uffd->fd, UFFDIO_UNREGISTER, &range);
	}
}

static void *watch(void *opaque)
{
	struct uffd *uffd = opaque;
	int status = 0;

	pthread_mutex_lock(&uffd->lock);
	while (!uffd->done && !status)
		status = pthread_cond_timedwait(&uffd->loaded, &uffd->lock, &uffd->until);
	uffd->gave_up = !uffd->done;
	pthread_mutex_unlock(&uffd->lock);
	if (uffd->gave_up)
		give_up(uffd);
	return NULL;
}

int uffd_watch_begin(struct uffd *uffd, const struct guest_memory *memory, unsigned patience_s,
		     struct riffle_error *error)
{
	pthread_condattr_t monotonic;
	int problem;

	if (uffd->fd < 0)
		return 0;
	uffd->memory = memory;
	uffd->done = uffd->gave_up = false;
	clock_gettime(CLOCK_MONOTONIC, &uffd->until);
	uffd->until.tv_sec += patience_s;
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_mutex_init(&uffd->lock, NULL);
	pthread_cond_init(&uffd->loaded, &monotonic);
	pthread_condattr_destroy(&monotonic);
	problem = pthread_create(&uffd->watch, NULL, watch, uffd);
	uffd->watched = !problem;
	return problem ? riffle_fail_system(error, problem, "thread", "cannot be started") : 0;
}

int uffd_watch_end(struct uffd *uffd, struct riffle_error *error)
{
	if (!uffd->watched)
		return 0;
	pthread_mutex_lock(&uffd->lock);
	uffd->done = true;
	pthread_cond_signal(&uffd->loaded);
	pthread_mutex_unlock(&uffd->lock);
	pthread_join(uffd->watch, NULL);
	pthread_cond_destroy(&uffd->loaded);
	pthread_mutex_destroy(&uffd->lock);
	uffd->watched = false;
	return uffd->gave_up ? riffle_fail(error, RIFFLE_ERR_IO, "page fault handler",
					   "does not provide the pages that loading needs")
			     : 0;
}

int uffd_serve(struct uffd *uffd, const struct guest_memory *memory, const char *path, struct riffle_error *error)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	const struct timeval limit = {.tv_sec = UFFD_PATIENCE_S};
	int status;

	if (strlen(path) >= sizeof address.sun_path)
		return riffle_fail_expected(error, RIFFLE_ERR_ARGUMENT, "page fault handler", "its path is too long",
					    strlen(path), sizeof address.sun_path - 1);
	strcpy(address.sun_path, path);
	uffd->fd = open_uffd();
	if (uffd->fd < 0)
		return riffle_fail_full(error, RIFFLE_ERR_UNSUPPORTED, errno, "userfaultfd",
					"is unavailable: it requires CAP_SYS_PTRACE, access to /dev/userfaultfd, or "
					"vm.unprivileged_userfaultfd=1",
					0, 0, 0, 0);
	if ((status = set_up(uffd->fd, memory, error)))
		return status;
	uffd->socket = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (uffd->socket < 0)
		return riffle_fail_system(error, errno, "socket", "failed");
	/* a handler that does not accept fills its queue */
	if (setsockopt(uffd->socket, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) < 0)
		return riffle_fail_system(error, errno, "socket", "failed");
	if (connect(uffd->socket, (const struct sockaddr *)&address, sizeof address) < 0)
		return riffle_fail_system(error, errno, "page fault handler", "cannot be connected to");
	return hand_over(uffd, memory, error);
}

void uffd_close(struct uffd *uffd)
{
	if (uffd->fd >= 0)
		close(uffd->fd);
	if (uffd->socket >= 0)
		close(uffd->socket);
	uffd->fd = uffd->socket = -1;
}

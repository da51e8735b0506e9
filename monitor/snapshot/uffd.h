/* SPDX-License-Identifier: Apache-2.0 */
/* Guest memory whose pages another process provides, by Firecracker's protocol over a unix socket. */
#ifndef RIFFLE_MONITOR_SNAPSHOT_UFFD_H
#define RIFFLE_MONITOR_SNAPSHOT_UFFD_H

#include "monitor/core/memory.h"

struct uffd {
	int fd;     /* userfaultfd; stays open as long as the guest has memory */
	int socket; /* to the handler, which sees its end */
};

/*
 * Registers all of the memory, which nobody has touched, and sends the handler one message: a JSON array of
 * {base_host_virt_addr, size, offset, page_size, page_size_kib}, and the userfaultfd. `uffd` is {-1, -1} before.
 * Errors: IO, UNSUPPORTED (no userfaultfd that the kernel's faults reach), ARGUMENT (path).
 */
int uffd_serve(struct uffd *uffd, const struct guest_memory *memory, const char *path, struct riffle_error *error);
void uffd_close(struct uffd *uffd);

#endif

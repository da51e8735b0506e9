/* SPDX-License-Identifier: Apache-2.0 */
/* Guest memory whose pages another process provides, by Firecracker's protocol over a unix socket. */
#ifndef RIFFLE_MONITOR_SNAPSHOT_UFFD_H
#define RIFFLE_MONITOR_SNAPSHOT_UFFD_H

#include <pthread.h>
#include <stdbool.h>
#include <time.h>

#include "monitor/core/memory.h"

struct uffd {
	int fd;     /* userfaultfd; stays open as long as the guest has memory */
	int socket; /* to the handler, which notices when it closes */
	/* while the machine is loaded */
	const struct guest_memory *memory;
	pthread_t watch;
	pthread_mutex_t lock;
	pthread_cond_t loaded;
	struct timespec until;
	bool watched, done, gave_up;
};

/*
 * Registers all of the memory, which must be untouched, and sends the handler one message: a JSON array of
 * {base_host_virt_addr, size, offset, page_size, page_size_kib}, and the userfaultfd. `uffd` is {-1, -1} before.
 * Errors: IO, UNSUPPORTED (no userfaultfd that handles kernel faults), ARGUMENT (path).
 */
int uffd_serve(struct uffd *uffd, const struct guest_memory *memory, const char *path, struct riffle_error *error);

/*
 * Between the two, a thread that must not hang may use the memory: if the handler takes too long, its pages become
 * zeros, and uffd_watch_end() fails. For a load, whose machine is then not run. Does nothing without a handler. Errors:
 * IO.
 */
#define UFFD_PATIENCE_S 10u
int uffd_watch_begin(struct uffd *uffd, const struct guest_memory *memory, unsigned patience_s,
		     struct riffle_error *error);
int uffd_watch_end(struct uffd *uffd, struct riffle_error *error);

void uffd_close(struct uffd *uffd);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* Interrupts into the guest by irqfd or ioctl, and notifications out of it by ioeventfd. */
#ifndef RIFFLE_MONITOR_IRQ_H
#define RIFFLE_MONITOR_IRQ_H

#include <stdbool.h>
#include <stdint.h>

#include <riffle/error.h>

/* One interrupt line of the guest, edge-triggered: a write to `fd` is an edge. fd -1: not connected. */
struct irq {
	int fd;
	uint32_t gsi;
	bool direct; /* edges are made by ioctls on vm_fd */
	int vm_fd;
};

/*
 * Creates the eventfd. The interrupt can be raised at once; the edge is kept until irq_connect() connects it to the
 * VM's interrupt controllers. Errors: IO.
 */
int irq_open(struct irq *irq, uint32_t gsi, struct riffle_error *error);
int irq_connect(const struct irq *irq, int vm_fd, struct riffle_error *error);
/*
 * The same for a line that only one thread raises at a time: that thread makes each edge itself. An irqfd leaves that
 * to a worker of the host's kernel, which costs two context switches. Errors: IO.
 */
int irq_connect_direct(struct irq *irq, int vm_fd, struct riffle_error *error);
void irq_close(struct irq *irq);

/* Any thread, unless it is connected directly; never waits. Does nothing on a line that is not open. */
void irq_raise(const struct irq *irq);

/*
 * A write of `bytes` bytes (1, 2, 4, 8) holding `value` to MMIO `address` increments the eventfd `fd`, without an exit
 * to user space. Errors: IO.
 */
int ioeventfd_connect(int vm_fd, uint64_t address, unsigned bytes, uint64_t value, int fd, struct riffle_error *error);
void ioeventfd_disconnect(int vm_fd, uint64_t address, unsigned bytes, uint64_t value, int fd);

#endif

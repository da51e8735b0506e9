/* SPDX-License-Identifier: Apache-2.0 */
/* Interrupts into the guest by irqfd or ioctl, and notifications out of it by ioeventfd. */
#include "monitor/bus/irq.h"

#include <errno.h>
#include <linux/kvm.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "common/fail.h"

int irq_open(struct irq *irq, uint32_t gsi, struct riffle_error *error)
{
	*irq = (struct irq){.fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC), .gsi = gsi};
	return irq->fd < 0 ? riffle_fail_system(error, errno, "eventfd", "failed") : 0;
}

int irq_connect(const struct irq *irq, int vm_fd, struct riffle_error *error)
{
	struct kvm_irqfd irqfd = {.fd = (uint32_t)irq->fd, .gsi = irq->gsi};

	if (ioctl(vm_fd, KVM_IRQFD, &irqfd) < 0)
		return riffle_fail_system(error, errno, "KVM_IRQFD", "failed");
	return 0;
}

static int set_line(int vm_fd, uint32_t gsi, uint32_t level)
{
	struct kvm_irq_level line = {.irq = gsi, .level = level};

	return ioctl(vm_fd, KVM_IRQ_LINE, &line);
}

int irq_connect_direct(struct irq *irq, int vm_fd, struct riffle_error *error)
{
	uint64_t edges;

	/* probe the ioctl here, where an error can be reported */
	if (set_line(vm_fd, irq->gsi, 0) < 0)
		return riffle_fail_system(error, errno, "KVM_IRQ_LINE", "failed");
	irq->direct = true;
	irq->vm_fd = vm_fd;
	if (read(irq->fd, &edges, sizeof edges) == sizeof edges)
		irq_raise(irq);
	return 0;
}

void irq_close(struct irq *irq)
{
	if (irq->fd >= 0)
		close(irq->fd); /* which also removes it from the VM */
	irq->fd = -1;
}

void irq_raise(const struct irq *irq)
{
	uint64_t one = 1;

	if (irq->fd < 0)
		return;
	if (irq->direct) {
		set_line(irq->vm_fd, irq->gsi, 1);
		set_line(irq->vm_fd, irq->gsi, 0);
		return;
	}
	ssize_t ignored = write(irq->fd, &one, sizeof one); /* a full counter means an interrupt is already pending */

	(void)ignored;
}

static int ioeventfd(int vm_fd, uint64_t address, unsigned bytes, uint64_t value, int fd, uint32_t flags)
{
	struct kvm_ioeventfd ioeventfd = {
	    .datamatch = value,
	    .addr = address,
	    .len = bytes,
	    .fd = fd,
	    .flags = KVM_IOEVENTFD_FLAG_DATAMATCH | flags,
	};

	return ioctl(vm_fd, KVM_IOEVENTFD, &ioeventfd);
}

int ioeventfd_connect(int vm_fd, uint64_t address, unsigned bytes, uint64_t value, int fd, struct riffle_error *error)
{
	if (ioeventfd(vm_fd, address, bytes, value, fd, 0) < 0)
		return riffle_fail_system(error, errno, "KVM_IOEVENTFD", "failed");
	return 0;
}

void ioeventfd_disconnect(int vm_fd, uint64_t address, unsigned bytes, uint64_t value, int fd)
{
	ioeventfd(vm_fd, address, bytes, value, fd, KVM_IOEVENTFD_FLAG_DEASSIGN);
}

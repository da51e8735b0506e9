/* SPDX-License-Identifier: Apache-2.0 */
/* Interrupts and notifications by the calls that KVM gets for them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cmocka.h>

#include "monitor/bus/irq.h"
#include "monitor/virtio/mmio.h"

#define VM 1000

static struct {
	struct kvm_irqfd irqfd;
	struct kvm_ioeventfd ioeventfd, bell[8];
	struct kvm_irq_level lines[8];
	unsigned irqfds, ioeventfds, line_calls;
	unsigned long failing;
} kvm;

/* In place of the C library's. */
int ioctl(int fd, unsigned long request, ...)
{
	va_list list;

	va_start(list, request);
	void *data = va_arg(list, void *);

	va_end(list);
	assert_int_equal(fd, VM);
	if (request == kvm.failing) {
		errno = ENOTTY;
		return -1;
	}
	switch (request) {
	case KVM_IRQFD:
		kvm.irqfd = *(struct kvm_irqfd *)data;
		kvm.irqfds++;
		return 0;
	case KVM_IOEVENTFD:
		kvm.ioeventfd = *(struct kvm_ioeventfd *)data;
		kvm.bell[kvm.ioeventfds % 8] = kvm.ioeventfd;
		kvm.ioeventfds++;
		return 0;
	case KVM_IRQ_LINE:
		assert_true(kvm.line_calls < 8);
		kvm.lines[kvm.line_calls++] = *(struct kvm_irq_level *)data;
		return 0;
	}
	fail_msg("request 0x%lx", request);
	return -1;
}

static int set_up(void **state)
{
	(void)state;
	memset(&kvm, 0, sizeof kvm);
	return 0;
}

static void interrupts_by_a_descriptor(void **state)
{
	struct riffle_error error;
	struct irq irq;
	uint64_t count;

	(void)state;
	assert_int_equal(irq_open(&irq, 7, NULL), 0);
	assert_true(fcntl(irq.fd, F_GETFD) & FD_CLOEXEC);
	assert_true(fcntl(irq.fd, F_GETFL) & O_NONBLOCK);
	assert_int_equal(read(irq.fd, &count, sizeof count), -1); /* none yet */
	assert_int_equal(irq_connect(&irq, VM, NULL), 0);
	assert_int_equal(kvm.irqfds, 1);
	assert_int_equal(kvm.irqfd.fd, irq.fd);
	assert_int_equal(kvm.irqfd.gsi, 7);
	assert_int_equal(kvm.irqfd.flags, 0);
	irq_raise(&irq);
	irq_raise(&irq);
	assert_int_equal(read(irq.fd, &count, sizeof count), sizeof count);
	assert_int_equal(count, 2);
	assert_int_equal(kvm.line_calls, 0);
	kvm.failing = KVM_IRQFD;
	assert_int_not_equal(irq_connect(&irq, VM, &error), 0);
	assert_string_equal(error.field, "KVM_IRQFD");
	assert_int_equal(error.sys_errno, ENOTTY);
	int fd = irq.fd;

	irq_close(&irq);
	assert_int_equal(irq.fd, -1);
	assert_int_equal(fcntl(fd, F_GETFD), -1);
	irq_close(&irq);
	irq_raise(&irq); /* and nothing happens */
}

/* An edge each: the line up, and down again; one that was raised before is not lost. */
static void interrupts_by_calls(void **state)
{
	struct riffle_error error;

	(void)state;
	for (unsigned before = 0; before < 3; before++) {
		struct irq irq;

		set_up(NULL);
		assert_int_equal(irq_open(&irq, 9, NULL), 0);
		for (unsigned i = 0; i < before; i++)
			irq_raise(&irq);
		kvm.failing = KVM_IRQ_LINE;
		assert_int_not_equal(irq_connect_direct(&irq, VM, &error), 0);
		assert_string_equal(error.field, "KVM_IRQ_LINE");
		assert_false(irq.direct);
		kvm.failing = 0;
		assert_int_equal(irq_connect_direct(&irq, VM, NULL), 0);
		assert_true(irq.direct);
		assert_int_equal(kvm.line_calls, before ? 3 : 1);
		assert_int_equal(kvm.lines[0].level, 0);
		unsigned at = kvm.line_calls;

		irq_raise(&irq);
		assert_int_equal(kvm.line_calls, at + 2);
		for (unsigned i = 1; i < kvm.line_calls; i++)
			assert_int_equal(kvm.lines[i].level, i % 2);
		for (unsigned i = 0; i < kvm.line_calls; i++)
			assert_int_equal(kvm.lines[i].irq, 9);
		irq_close(&irq);
		irq_raise(&irq);
		assert_int_equal(kvm.line_calls, at + 2);
	}
}

/* A doorbell is a value at an address, of a width. */
static void notifications_by_value(void **state)
{
	struct riffle_error error;

	(void)state;
	assert_int_equal(ioeventfd_connect(VM, 0xc0001050, 4, 3, 55, NULL), 0);
	assert_int_equal(kvm.ioeventfd.addr, 0xc0001050);
	assert_int_equal(kvm.ioeventfd.len, 4);
	assert_int_equal(kvm.ioeventfd.datamatch, 3);
	assert_int_equal(kvm.ioeventfd.fd, 55);
	assert_int_equal(kvm.ioeventfd.flags, KVM_IOEVENTFD_FLAG_DATAMATCH);
	ioeventfd_disconnect(VM, 0xc0001050, 4, 3, 55);
	assert_int_equal(kvm.ioeventfds, 2);
	assert_int_equal(kvm.ioeventfd.flags, KVM_IOEVENTFD_FLAG_DATAMATCH | KVM_IOEVENTFD_FLAG_DEASSIGN);
	assert_int_equal(kvm.ioeventfd.datamatch, 3);
	kvm.failing = KVM_IOEVENTFD;
	assert_int_not_equal(ioeventfd_connect(VM, 0xc0001050, 4, 3, 55, &error), 0);
	assert_string_equal(error.field, "KVM_IOEVENTFD");
}

/* A doorbell for each queue, but for those that the vCPU's thread serves itself; and whichever call fails. */
static void doorbells_of_queues(void **state)
{
	static const struct virtio_ops ops = {.id = 4, .queue_count = 3};
	struct riffle_error error;

	(void)state;
	for (unsigned direct = 0; direct < 8; direct++) {
		struct virtio_device device = {0};
		struct virtio_mmio mmio = {.device = &device, .address = 0xd0001000};
		unsigned expected = 0;

		set_up(NULL);
		virtio_device_init(&device, &ops, "test");
		device.direct = direct;
		assert_int_equal(irq_open(&device.irq, 5, NULL), 0);
		for (unsigned i = 0; i < 3; i++)
			device.doorbells[i] = (int)(100 + i);
		assert_int_equal(virtio_mmio_connect(&mmio, VM, &error), 0);
		for (unsigned i = 0; i < 3; i++) {
			if (direct >> i & 1)
				continue;
			assert_true(expected < kvm.ioeventfds);
			assert_int_equal(kvm.bell[expected].addr, 0xd0001050);
			assert_int_equal(kvm.bell[expected].len, 4);
			assert_int_equal(kvm.bell[expected].datamatch, i);
			assert_int_equal(kvm.bell[expected].fd, 100 + i);
			expected++;
		}
		assert_int_equal(kvm.ioeventfds, expected);
		kvm.failing = KVM_IOEVENTFD;
		assert_int_equal(virtio_mmio_connect(&mmio, VM, &error) != 0, direct != 7);
		irq_close(&device.irq);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup(interrupts_by_a_descriptor, set_up),
	    cmocka_unit_test_setup(interrupts_by_calls, set_up),
	    cmocka_unit_test_setup(notifications_by_value, set_up),
	    cmocka_unit_test_setup(doorbells_of_queues, set_up),
	};

	return cmocka_run_group_tests_name("monitor irq", tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Each component's state, saved and restored into another of its kind, is the same when it is saved again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/bytes.h"
#include "monitor/core/internal.h"
#include "monitor/core/kvm.h"
#include "monitor/snapshot/components.h"
#include "monitor/virtio/limiter.h"
#include "monitor/virtio/rng.h"

static unsigned raised[16];

static void set_irq(void *opaque, unsigned irq, bool level)
{
	(void)opaque;
	raised[irq] += level;
}

static void ignore(void *opaque)
{
	(void)opaque;
}

static const struct platform platform = {.set_irq = set_irq, .input_wanted = ignore};

static struct state_file finish(struct state_writer *writer)
{
	struct state_file file;

	assert_int_equal(state_finish(writer, NULL), 0);
	assert_int_equal(state_open(&file, writer->data, writer->bytes, NULL), 0);
	return file;
}

#define ROUND_TRIP(kind, from, to)                                                                                     \
	do {                                                                                                           \
		struct state_writer first = {0}, second = {0};                                                         \
		kind##_save(from, &first);                                                                             \
		struct state_file file = finish(&first);                                                               \
		assert_int_equal(kind##_restore(to, &file, NULL), 0);                                                  \
		kind##_save(to, &second);                                                                              \
		finish(&second);                                                                                       \
		assert_int_equal(first.bytes, second.bytes);                                                           \
		assert_memory_equal(first.data, second.data, first.bytes);                                             \
		state_writer_free(&first);                                                                             \
		state_writer_free(&second);                                                                            \
	} while (0)

static void test_serial(void **unused)
{
	struct output output = {0};
	struct serial a, b;
	struct bus bus;

	(void)unused;
	bus_init(&bus);
	assert_int_equal(serial_attach(&a, &bus, &platform, &output, NULL), 0);
	b = a;
	a.interrupt_enable = 0xf;
	a.modem_control = 0x0b;
	a.fifo = a.polled = a.irq = a.input_refused = a.transmitter_empty_pending = a.overrun = true;
	a.status_polls = 5;
	a.divisor_high = 3;
	a.scratch = 0x5a;
	a.received.head = 14; /* wraps around */
	a.received.count = 4;
	memcpy(a.received.bytes + 14, "he", 2);
	memcpy(a.received.bytes, "ll", 2);
	raised[IRQ_COM1] = 0;
	ROUND_TRIP(serial, &a, &b);
	assert_int_equal(raised[IRQ_COM1], 1);
	assert_int_equal(b.received.count, 4);
	assert_memory_equal(b.received.bytes + b.received.head, "hell", 4);
	bus_destroy(&bus);
}

/* Bits that no register has are dropped, whatever a state says. */
static void test_hostile_serial(void **unused)
{
	struct output output = {0};
	struct state_writer writer = {0};
	struct serial from, to;
	struct bus bus;

	(void)unused;
	bus_init(&bus);
	assert_int_equal(serial_attach(&from, &bus, &platform, &output, NULL), 0);
	to = from;
	from.interrupt_enable = from.modem_control = 0xff;
	serial_save(&from, &writer);
	struct state_file file = finish(&writer);

	assert_int_equal(serial_restore(&to, &file, NULL), 0);
	assert_int_equal(to.interrupt_enable, 0x0f);
	assert_int_equal(to.modem_control, 0x1f);
	state_writer_free(&writer);
	bus_destroy(&bus);
}

static void test_small_devices(void **unused)
{
	struct i8042 i8042 = {.platform = &platform,
			      .control = 0x65,
			      .command = 0xd1,
			      .queue_head = 15,
			      .queue_count = 2,
			      .queue = {[15] = 1, [0] = 2},
			      .last = 9,
			      .irq = true};
	struct i8042 i8042_to = {.platform = &platform};
	struct cmos cmos = {.index = 127, .bytes = {[0] = 1, [127] = 2}}, cmos_to = {0};
	struct power power = {.pm = {1, 2, 3, 4, 5, 6}, .reset_control = 8}, power_to = {0};

	(void)unused;
	raised[IRQ_KEYBOARD] = 0;
	ROUND_TRIP(i8042, &i8042, &i8042_to);
	assert_int_equal(raised[IRQ_KEYBOARD], 1);
	ROUND_TRIP(cmos, &cmos, &cmos_to);
	ROUND_TRIP(power, &power, &power_to);
	assert_memory_equal(power.pm, power_to.pm, sizeof power.pm);
}

/* A hostile index would be used on the next access to the clock. */
static void test_hostile_cmos(void **unused)
{
	const struct cmos cmos = {.index = 128};
	struct cmos to = {.index = 3};
	struct state_writer writer = {0};

	(void)unused;
	cmos_save(&cmos, &writer);
	struct state_file file = finish(&writer);

	assert_int_equal(cmos_restore(&to, &file, NULL), RIFFLE_ERR_FORMAT);
	assert_int_equal(to.index, 3);
	state_writer_free(&writer);
}

static void test_limiter(void **unused)
{
	const struct limiter_config config = {.bytes = {1000, 100, 50}, .ops = {10, 1000, 0}};
	struct limiter_state state;
	struct limiter a, b;
	struct loop loop;

	(void)unused;
	assert_int_equal(loop_init(&loop, NULL), 0);
	limiter_init(&a, &config, &loop, ignore, NULL);
	limiter_init(&b, &config, &loop, ignore, NULL);
	assert_true(limiter_take(&a, 3, 1500));
	limiter_save(&a, &state);
	assert_int_equal(state.debt[0], 450);
	limiter_restore(&b, &state);
	assert_int_equal(b.bytes.debt, 450);
	assert_int_equal(b.bytes.tokens, 0);
	assert_int_equal(b.bytes.burst, 0);
	assert_int_equal(b.ops.tokens, 7);
	/* more than there may be */
	state = (struct limiter_state){.burst = {51, 1}, .tokens = {1001, 11}, .debt = {1, 1}};
	limiter_configure(&b, &config);
	limiter_restore(&b, &state);
	assert_int_equal(b.bytes.burst, 50);
	assert_int_equal(b.bytes.tokens, 1000);
	assert_int_equal(b.bytes.debt, 0);
	assert_int_equal(b.ops.tokens, 10);
	assert_int_equal(b.ops.burst, 0);
	limiter_stop(&a);
	limiter_stop(&b);
	loop_destroy(&loop);
}

/* ---- a virtio device: an entropy device stands for all ---- */

#define MEMORY (4u << 20)

struct machine_of_one {
	struct loop loop;
	struct bus bus;
	struct guest_memory memory;
	struct virtio_mmio mmio;
	struct rng *rng;
};

static void make(struct machine_of_one *m)
{
	const struct limiter_config limits = {.bytes = {1000, 1000, 0}};

	memset(m, 0, sizeof *m);
	assert_int_equal(loop_init(&m->loop, NULL), 0);
	bus_init(&m->bus);
	assert_int_equal(guest_memory_map(&m->memory, MEMORY, false, NULL), 0);
	assert_int_equal(rng_new(&m->rng, &limits, &m->loop, NULL), 0);
	assert_int_equal(virtio_mmio_attach(&m->mmio, rng_device(m->rng), VIRTIO_MMIO_BASE, 5, &m->bus, &m->loop,
					    &m->memory, -1, NULL),
			 0);
}

static void take_away(struct machine_of_one *m)
{
	virtio_mmio_detach(&m->mmio);
	bus_destroy(&m->bus);
	loop_destroy(&m->loop);
	guest_memory_unmap(&m->memory);
}

static void write32(struct machine_of_one *m, unsigned offset, uint32_t value)
{
	bus_mmio(&m->bus, VIRTIO_MMIO_BASE + offset, 4, true, &value);
}

static uint32_t read32(struct machine_of_one *m, unsigned offset)
{
	uint32_t value;

	bus_mmio(&m->bus, VIRTIO_MMIO_BASE + offset, 4, false, &value);
	return value;
}

static void start_driver(struct machine_of_one *m)
{
	for (uint32_t status = 1; status != 0xb; status = status << 1 | 1) {
		write32(m, 0x70, status == 7 ? 3 : status);
		if (status == 3)
			break;
	}
	write32(m, 0x24, 1);
	write32(m, 0x20, 1); /* VERSION_1 */
	write32(m, 0x70, 0xb);
	write32(m, 0x30, 0);
	write32(m, 0x38, 8);
	write32(m, 0x80, 0x10000);
	write32(m, 0x90, 0x11000);
	write32(m, 0xa0, 0x12000);
	write32(m, 0x44, 1);
	write32(m, 0x70, 0xf);
}

static void test_virtio(void **unused)
{
	static struct machine_of_one a, b;
	struct state_writer first = {0}, second = {0};

	(void)unused;
	make(&a);
	make(&b);
	start_driver(&a);
	assert_int_equal(read32(&a, 0x70), 0xf);
	struct virtio_device *device = rng_device(a.rng);

	device->queues[0].next_avail = 0xfffe;
	device->queues[0].next_used = device->queues[0].published_used = 0xfffe;
	atomic_store(device->interrupt_status, 1);
	virtio_pause(device);
	assert_int_equal(virtio_save(&a.mmio, 3, &first, NULL), 0);
	struct state_file file = finish(&first);

	assert_int_equal(virtio_restore(&b.mmio, 3, &file, NULL), 0);
	assert_int_equal(read32(&b, 0x70), 0xf);
	assert_int_equal(read32(&b, 0x60), 1);
	assert_false(virtio_running(rng_device(b.rng)));
	assert_int_equal(virtio_save(&b.mmio, 3, &second, NULL), 0);
	finish(&second);
	assert_int_equal(first.bytes, second.bytes);
	assert_memory_equal(first.data, second.data, first.bytes);
	virtio_resume(rng_device(b.rng));
	assert_true(virtio_running(rng_device(b.rng)));
	assert_int_equal(rng_device(b.rng)->queues[0].seen_avail, 0xfffe);
	state_writer_free(&first);
	state_writer_free(&second);
	take_away(&a);
	take_away(&b);
}

/* Rings outside memory, a size that is none, features that are not offered: refused, nothing used. */
static void test_hostile_virtio(void **unused)
{
	static struct machine_of_one a, b;
	struct virtq good;

	(void)unused;
	make(&a);
	start_driver(&a);
	struct virtio_device *device = rng_device(a.rng);

	virtio_pause(device);
	good = device->queues[0];
	for (unsigned what = 0; what < 7; what++) {
		struct state_writer writer = {0};

		make(&b);
		device->queues[0] = good;
		device->features = 0;
		a.mmio.driver_features = UINT64_C(1) << 32;
		switch (what) {
		case 0:
			device->queues[0].descriptors = MEMORY - 8 * 16 + 16;
			break;
		case 1:
			device->queues[0].used = 0x10000; /* upon the descriptors */
			break;
		case 2:
			device->queues[0].size = 7;
			break;
		case 3:
			device->queues[0].size = 512;
			break;
		case 4:
			a.mmio.driver_features |= 1u << 20;
			break;
		case 5:
			device->queues[0].avail = UINT64_MAX - 1;
			break;
		default:
			break;
		}
		assert_int_equal(virtio_save(&a.mmio, 0, &writer, NULL), 0);
		struct state_file file = finish(&writer);

		assert_int_equal(!virtio_restore(&b.mmio, 0, &file, NULL), what == 6);
		state_writer_free(&writer);
		take_away(&b);
	}
	device->queues[0] = good;
	take_away(&a);
}

/* ---- vCPUs and chips, where there is a /dev/kvm of any kind ---- */

static struct vm *make_vm(unsigned vcpus)
{
	const struct vm_config config = {.vcpus = vcpus, .memory_bytes = MEMORY, .can_save = true};
	const struct vm_handlers handlers = {0};
	int fd = kvm_open(NULL);
	struct vm *vm;

	if (fd < 0)
		skip();
	assert_int_equal(vm_new(&vm, &config, &handlers, NULL), 0);
	assert_int_equal(vm_open(vm, fd, NULL), 0);
	assert_int_equal(vm_prepare_vcpus(vm, NULL), 0);
	return vm;
}

static void test_vcpus(void **unused)
{
	struct vm *a = make_vm(3), *b = make_vm(3), *c = make_vm(2);
	struct state_writer first = {0};
	struct riffle_error error = {0};
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	struct kvm_debugregs debug = {.db = {0x1234}, .dr6 = 0xffff0ff0, .dr7 = 0x400};
	struct kvm_lapic_state lapic;

	(void)unused;
	for (unsigned i = 0; i < 3; i++) {
		memset(&regs, 0, sizeof regs);
		regs.rip = 0x1000 + i;
		regs.r15 = 0x5500 + i;
		regs.rflags = 0x202;
		assert_int_equal(ioctl(a->vcpus[i].fd, KVM_SET_REGS, &regs), 0);
		ioctl(a->vcpus[i].fd, KVM_GET_SREGS, &sregs);
		sregs.cr2 = 0x7700 + i;
		assert_int_equal(ioctl(a->vcpus[i].fd, KVM_SET_SREGS, &sregs), 0);
		assert_int_equal(ioctl(a->vcpus[i].fd, KVM_SET_DEBUGREGS, &debug), 0);
		ioctl(a->vcpus[i].fd, KVM_GET_LAPIC, &lapic);
		riffle_put32(lapic.regs + 0x80, 0x20 + 0x10 * i); /* task priority */
		assert_int_equal(ioctl(a->vcpus[i].fd, KVM_SET_LAPIC, &lapic), 0);
	}
	assert_int_equal(vcpus_save(a, &first, NULL), 0);
	assert_int_equal(chips_save(a, &first, NULL), 0);
	struct state_file file = finish(&first);

	assert_int_equal(state_count(&file, STATE_VCPU), 3);
	if (vcpus_restore(b, &file, &error)) {
		char text[300];

		riffle_error_format(&error, text, sizeof text);
		fail_msg("%s: %llx", text, (unsigned long long)error.found);
	}
	assert_int_equal(chips_restore(b, &file, false, NULL), 0);
	for (unsigned i = 0; i < 3; i++) {
		ioctl(b->vcpus[i].fd, KVM_GET_REGS, &regs);
		assert_int_equal(regs.rip, 0x1000 + i);
		assert_int_equal(regs.r15, 0x5500 + i);
		ioctl(b->vcpus[i].fd, KVM_GET_SREGS, &sregs);
		assert_int_equal(sregs.cr2, 0x7700 + i);
		memset(&debug, 0, sizeof debug);
		ioctl(b->vcpus[i].fd, KVM_GET_DEBUGREGS, &debug);
		assert_int_equal(debug.db[0], 0x1234);
		ioctl(b->vcpus[i].fd, KVM_GET_LAPIC, &lapic);
		assert_int_equal(riffle_get32(lapic.regs + 0x80), 0x20 + 0x10 * i);
	}
	/* another number of them */
	assert_int_equal(vcpus_restore(c, &file, &error), RIFFLE_ERR_FORMAT);
	state_writer_free(&first);
	vm_destroy(a);
	vm_destroy(b);
	vm_destroy(c);
}

struct one_msr {
	uint32_t nmsrs, padding;
	struct kvm_msr_entry entry;
};

/* How memory is cached: the default, eight variable ranges, eleven fixed ones; KVM's own list leaves these out. */
static void test_mtrrs(void **unused)
{
	static const uint32_t fixed[] = {0x250, 0x258, 0x259, 0x268, 0x269, 0x26a, 0x26b, 0x26c, 0x26d, 0x26e, 0x26f};
	struct vm *a = make_vm(1), *b = make_vm(1);
	struct one_msr msr[28] = {0};
	struct state_writer writer = {0};
	unsigned count = 0;

	(void)unused;
	msr[count++].entry = (struct kvm_msr_entry){.index = 0x2ff, .data = 0xc06};
	for (uint32_t i = 0; i < 8; i++) {
		msr[count++].entry = (struct kvm_msr_entry){.index = 0x200 + 2 * i, .data = (i + 1) << 21 | 6};
		msr[count++].entry = (struct kvm_msr_entry){.index = 0x201 + 2 * i, .data = (i + 1) << 22 | 0x800};
	}
	for (unsigned i = 0; i < 11; i++)
		msr[count++].entry =
		    (struct kvm_msr_entry){.index = fixed[i], .data = UINT64_C(0x0606060606060600) | (i % 2 ? 5 : 4)};
	assert_int_equal(count, 28);
	for (unsigned i = 0; i < count; i++) {
		msr[i].nmsrs = 1;
		if (ioctl(a->vcpus[0].fd, KVM_SET_MSRS, &msr[i]) != 1)
			fail_msg("MSR %x", msr[i].entry.index);
	}
	assert_int_equal(vcpus_save(a, &writer, NULL), 0);
	assert_int_equal(chips_save(a, &writer, NULL), 0);
	struct state_file file = finish(&writer);

	assert_int_equal(vcpus_restore(b, &file, NULL), 0);
	for (unsigned i = 0; i < count; i++) {
		struct one_msr got = {.nmsrs = 1, .entry.index = msr[i].entry.index};

		assert_int_equal(ioctl(b->vcpus[0].fd, KVM_GET_MSRS, &got), 1);
		if (got.entry.data != msr[i].entry.data)
			fail_msg("MSR %x is %llx", got.entry.index, (unsigned long long)got.entry.data);
	}
	state_writer_free(&writer);
	vm_destroy(a);
	vm_destroy(b);
}

/* A guest that was told of a processor feature that this host lacks. */
static void test_host_without_a_feature(void **unused)
{
	struct vm *a = make_vm(1), *b = make_vm(1);
	struct state_writer writer = {0};
	struct riffle_error error = {0};

	(void)unused;
	assert_int_equal(vcpus_save(a, &writer, NULL), 0);
	assert_int_equal(chips_save(a, &writer, NULL), 0);
	struct state_file file = finish(&writer);

	for (uint32_t i = 0; i < b->cpuid.nent; i++)
		if (b->cpuid.entries[i].function == 1)
			b->cpuid.entries[i].edx &= ~(1u << 25); /* SSE */
	assert_int_equal(vcpus_restore(b, &file, &error), RIFFLE_ERR_UNSUPPORTED);
	assert_string_equal(error.field, "cpuid 1.edx");
	assert_int_equal(error.found, 1u << 25);
	state_writer_free(&writer);
	vm_destroy(a);
	vm_destroy(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_hostile_serial), cmocka_unit_test(test_mtrrs),
	    cmocka_unit_test(test_serial),         cmocka_unit_test(test_small_devices),
	    cmocka_unit_test(test_hostile_cmos),   cmocka_unit_test(test_limiter),
	    cmocka_unit_test(test_virtio),         cmocka_unit_test(test_hostile_virtio),
	    cmocka_unit_test(test_vcpus),          cmocka_unit_test(test_host_without_a_feature),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

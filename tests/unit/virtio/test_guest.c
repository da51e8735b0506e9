/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Virtio devices of a tiny guest on any /dev/kvm: doorbells and interrupts through KVM, and every thread confined as in
 * a real run.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <linux/virtio_blk.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_ring.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "../monitor/guest.h"
#include "../monitor/guest_code.h"

#define WRITES 0x7000u /* pairs of address and value that the guest writes; ends with address 0 */
#define RINGS 0x20000u
#define AVAIL (RINGS + 0x400)
#define USED (RINGS + 0x800)
#define HEADER 0x21000u
#define STATUS 0x21100u
#define DATA 0x22000u
#define MARK 0x12345678u
#define IOAPIC 0xfec00000u
#define LAPIC 0xfee00000u
#define VECTOR 0x41u

/*
 * Makes the writes, then waits for an interrupt. Its handler acknowledges what the device raised it for, and notes the
 * first word of the data, or all ones if InterruptStatus did not say "ring" or the used index is not 1: a second
 * interrupt, for which there is some time before the end, overwrites the note so. GSI 5 is a pin of the 8259 as well as
 * of the IOAPIC, and LINT0 is open: like any system that uses the IOAPIC, the guest masks the 8259s first.
 */
GUEST_ASM(driver, "lidt 0x5ff0\n"
		  "mov $0xff, %al\n"
		  "out %al, $0x21\n"
		  "out %al, $0xa1\n"
		  "mov $0x7000, %esi\n"
		  "1: mov (%rsi), %ebx\n"
		  "test %ebx, %ebx\n"
		  "jz 2f\n"
		  "mov 4(%rsi), %eax\n"
		  "mov %eax, (%rbx)\n"
		  "add $8, %rsi\n"
		  "jmp 1b\n"
		  "2: cli\n"
		  "cmpl $0, 0x5000\n"
		  "jne 3f\n"
		  "sti\n"
		  "hlt\n"
		  "jmp 2b\n"
		  "3: sti\n"
		  "mov $20000, %ecx\n"
		  "6: dec %ecx\n"
		  "jnz 6b\n"
		  "cli\n" POWER_OFF ".balign 256\n"
		  "mov $0xc0001060, %ebx\n"
		  "mov (%rbx), %eax\n"
		  "mov %eax, 4(%rbx)\n"
		  "cmp $1, %eax\n"
		  "jne 4f\n"
		  "cmpw $1, 0x20802\n"
		  "jne 4f\n"
		  "mov 0x22000, %eax\n"
		  "jmp 5f\n"
		  "4: mov $-1, %eax\n"
		  "5: mov %eax, 0x5000\n"
		  "mov $0xfee000b0, %ebx\n"
		  "movl $0, (%rbx)\n"
		  "iretq\n")

#define HANDLER 256u

static uint32_t *add_write(uint32_t *at, uint64_t address, uint32_t value)
{
	at[0] = (uint32_t)address;
	at[1] = value;
	return at + 2;
}

static void add_begin(uint32_t **at)
{
	static const struct {
		uint32_t offset, value;
	} device[] = {
	    {VIRTIO_MMIO_STATUS, 1},
	    {VIRTIO_MMIO_STATUS, 3},
	    {VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1},
	    {VIRTIO_MMIO_DRIVER_FEATURES, 1},
	    {VIRTIO_MMIO_STATUS, 11},
	    {VIRTIO_MMIO_QUEUE_SEL, 0},
	    {VIRTIO_MMIO_QUEUE_NUM, 16},
	    {VIRTIO_MMIO_QUEUE_DESC_LOW, RINGS},
	    {VIRTIO_MMIO_QUEUE_AVAIL_LOW, AVAIL},
	    {VIRTIO_MMIO_QUEUE_USED_LOW, USED},
	    {VIRTIO_MMIO_QUEUE_READY, 1},
	    {VIRTIO_MMIO_STATUS, 15},
	    {VIRTIO_MMIO_QUEUE_NOTIFY, 0},
	};

	/* the local APIC on, and pin 5 of the IOAPIC, edge-triggered, to it */
	*at = add_write(*at, LAPIC + 0xf0, 0x1ff);
	*at = add_write(*at, IOAPIC, 0x10 + 2 * 5 + 1);
	*at = add_write(*at, IOAPIC + 0x10, 0);
	*at = add_write(*at, IOAPIC, 0x10 + 2 * 5);
	*at = add_write(*at, IOAPIC + 0x10, VECTOR);
	for (size_t i = 0; i < sizeof device / sizeof *device; i++)
		*at = add_write(*at, 0xc0001000 + device[i].offset, device[i].value);
	*at = add_write(*at, 0, 0);
}

static void prepare(struct machine *machine, bool disk)
{
	uint8_t *ram = guest_memory_at(vm_memory(machine_vm(machine)), 0, 4 << 20);
	struct vring_desc *table = (struct vring_desc *)(void *)(ram + RINGS);
	struct vring_avail *avail = (struct vring_avail *)(void *)(ram + AVAIL);
	uint32_t *writes = (uint32_t *)(void *)(ram + WRITES);
	const struct virtio_blk_outhdr header = {.type = VIRTIO_BLK_T_IN, .sector = 3};

	add_begin(&writes);
	memcpy(ram + HEADER, &header, sizeof header);
	table[0] = (struct vring_desc){HEADER, sizeof header, VRING_DESC_F_NEXT, 1};
	table[1] = (struct vring_desc){DATA, 512, VRING_DESC_F_WRITE | (disk ? VRING_DESC_F_NEXT : 0), 2};
	table[2] = (struct vring_desc){STATUS, 1, VRING_DESC_F_WRITE, 0};
	avail->ring[0] = disk ? 0 : 1;
	avail->idx = 1;
}

static void prepare_disk(struct machine *machine)
{
	prepare(machine, true);
}

static void prepare_rng(struct machine *machine)
{
	prepare(machine, false);
}

static const struct guest_result *run(const struct machine_devices_config *devices, bool disk)
{
	const struct guest_result *result =
	    guest_expect(&(struct guest){GUEST(driver), .handler_offset = HANDLER, .devices = devices,
					 .beside = disk ? prepare_disk : prepare_rng},
			 "");

	assert_int_equal(result->end, VM_END_POWEROFF);
	return result;
}

static void test_rng(void **state)
{
	const struct machine_devices_config devices = {.rng = {.wanted = true}};

	(void)state;
	uint32_t first = run(&devices, false)->note, second = run(&devices, false)->note;

	assert_int_not_equal(first, UINT32_MAX);
	assert_int_not_equal(first, second); /* once in 2^32 runs it is */
}

static void test_disk(void **state)
{
	static const enum block_engine_kind kinds[] = {BLOCK_ENGINE_AUTO, BLOCK_ENGINE_INLINE, BLOCK_ENGINE_WORKERS};
	char path[] = "/var/tmp/riffle-guest-XXXXXX";
	uint32_t sectors[8 * 128] = {[3 * 128] = MARK};
	int fd = mkstemp(path);

	(void)state;
	assert_int_equal(write(fd, sectors, sizeof sectors), sizeof sectors);
	close(fd);
	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
		const struct machine_devices_config devices = {.disks = {{.path = path, .io = kinds[i]}},
							       .disk_count = 1};

		assert_int_equal(run(&devices, true)->note, MARK);
	}
	unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_rng), cmocka_unit_test(test_disk)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A whole virtual machine monitor in one file that boots a randomised kernel using only libriffle's public headers.
 *
 *     riffle prepare /boot/vmlinuz-... -o kernel.riffle
 *     cc -o tiny-monitor tiny-monitor.c $(pkg-config --cflags --libs riffle)
 *     ./tiny-monitor kernel.riffle
 *
 * One vCPU, 256 MiB, a serial port that only prints, and a reset line: enough for a kernel to run until it finds that
 * it has no root file system. The part headed "libriffle" can be used in another monitor unchanged.
 */
#define _GNU_SOURCE 1
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

#include <riffle/riffle.h>

#define MEMORY_BYTES (UINT64_C(256) << 20)
/* reboot=k: without EFI and BIOS, the guest ends by the keyboard controller's reset line */
#define COMMAND_LINE "console=ttyS0 reboot=k panic=-1 pci=off"
#define COUNT(array) (sizeof(array) / sizeof *(array))

/* ---- libriffle: from a prepared kernel to guest memory and registers ---- */

static void check(int status, const char *file, const struct riffle_error *error)
{
	char text[256];

	if (!status)
		return;
	riffle_error_format(error, text, sizeof text);
	errx(EXIT_FAILURE, "%s: %s", file, text);
}

/*
 * Everything the library does for a boot. `machine` describes the guest; its RAM is mapped and zero. The ranges
 * reserved for boot data are queried first, so that no layout can collide with them.
 */
static void load_kernel(const char *file, const struct riffle_machine *machine, struct riffle_boot_registers *registers)
{
	struct riffle_range reserved[4];
	struct riffle_memory memory = {.ram = machine->ram, .ram_count = machine->ram_count, .reserved = reserved};
	struct riffle_error error;
	struct riffle_source source;
	struct riffle_plan plan = RIFFLE_PLAN_INIT;
	struct riffle_layout layout = RIFFLE_LAYOUT_INIT;
	struct riffle_slots slots;
	struct riffle_loaded loaded;
	int fd = open(file, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		err(EXIT_FAILURE, "%s", file);
	check(riffle_source_from_fd(&source, fd, &error), file, &error);
	check(riffle_plan_open(&plan, &source, &error), file, &error);

	memory.reserved_count = riffle_boot_reserved(machine, reserved, COUNT(reserved));
	check(riffle_layout_slots(&slots, &plan, &memory, RIFFLE_MODE_KASLR, &error), file, &error);
	check(riffle_layout_draw(&layout, &plan, &memory, RIFFLE_MODE_KASLR, NULL, &error), file, &error);
	check(riffle_load(&loaded, &plan, &source, &layout, &memory, 0, NULL, &error), file, &error);
	check(riffle_boot_write(registers, machine, &plan, &loaded, &error), file, &error);

	/* log how many places there are, never which one was chosen */
	fprintf(stderr, "tiny-monitor: %.60s: one of %llu virtual and %llu physical places\n",
		plan.header->kernel_version, (unsigned long long)slots.virtual_, (unsigned long long)slots.physical);
	explicit_bzero(&layout, sizeof layout);
	riffle_plan_close(&plan);
	close(fd);
}

/* ---- KVM: one VM, one vCPU ---- */

struct vm {
	int kvm, fd, vcpu;
	uint8_t *memory;
	struct kvm_run *run;
};

static int kvm(int fd, unsigned long request, void *argument, const char *name)
{
	int result = ioctl(fd, request, argument);

	if (result < 0)
		err(EXIT_FAILURE, "%s", name);
	return result;
}
#define KVM(fd, request, argument) kvm(fd, request, (void *)(uintptr_t)(argument), #request)

static void create_vm(struct vm *vm)
{
	struct kvm_userspace_memory_region region = {.memory_size = MEMORY_BYTES};
	struct kvm_pit_config pit = {.flags = KVM_PIT_SPEAKER_DUMMY}; /* answers port 0x61 as well */

	vm->kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (vm->kvm < 0)
		err(EXIT_FAILURE, "/dev/kvm");
	vm->fd = KVM(vm->kvm, KVM_CREATE_VM, 0);
	KVM(vm->fd, KVM_SET_TSS_ADDR, 0xfffbd000);

	vm->memory = mmap(NULL, MEMORY_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (vm->memory == MAP_FAILED)
		err(EXIT_FAILURE, "guest memory");
	madvise(vm->memory, MEMORY_BYTES, MADV_HUGEPAGE);
	region.userspace_addr = (uintptr_t)vm->memory;
	KVM(vm->fd, KVM_SET_USER_MEMORY_REGION, &region);

	KVM(vm->fd, KVM_CREATE_IRQCHIP, 0);
	KVM(vm->fd, KVM_CREATE_PIT2, &pit);
}

/* The guest sees the CPU that KVM supports, with the hypervisor bit and APIC id 0. */
static void set_cpuid(struct vm *vm)
{
	enum { ENTRIES = 256 };
	struct kvm_cpuid2 *cpuid = calloc(1, sizeof *cpuid + ENTRIES * sizeof cpuid->entries[0]);

	if (!cpuid)
		err(EXIT_FAILURE, "CPUID");
	cpuid->nent = ENTRIES;
	KVM(vm->kvm, KVM_GET_SUPPORTED_CPUID, cpuid);
	for (uint32_t i = 0; i < cpuid->nent; i++)
		if (cpuid->entries[i].function == 1) {
			cpuid->entries[i].ebx &= 0x0000ffff;
			cpuid->entries[i].ecx |= 1u << 31 | 1u << 24; /* hypervisor; APIC timer by TSC deadline */
		} else if (cpuid->entries[i].function == 0xb) {
			cpuid->entries[i].edx = 0;
		}
	KVM(vm->vcpu, KVM_SET_CPUID2, cpuid);
	free(cpuid);
}

static struct kvm_segment flat(uint16_t selector, int code)
{
	return (struct kvm_segment){
	    .limit = 0xffffffff,
	    .selector = selector,
	    .type = code ? 11 : 3,
	    .present = 1,
	    .s = 1,
	    .g = 1,
	    .l = (uint8_t)code,
	    .db = !code,
	};
}

/* Translates the result of riffle_boot_write() for KVM. */
static void set_registers(struct vm *vm, const struct riffle_boot_registers *r)
{
	struct kvm_regs regs = {.rip = r->rip, .rsi = r->rsi, .rsp = r->rsp, .rflags = r->rflags};
	struct kvm_sregs sregs;

	KVM(vm->vcpu, KVM_GET_SREGS, &sregs);
	sregs.cs = flat(r->cs, 1);
	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = flat(r->ds, 0);
	sregs.gdt = (struct kvm_dtable){.base = r->gdt_address, .limit = (uint16_t)(r->gdt_bytes - 1)};
	sregs.cr0 = r->cr0;
	sregs.cr3 = r->cr3;
	sregs.cr4 = r->cr4;
	sregs.efer = r->efer;
	KVM(vm->vcpu, KVM_SET_SREGS, &sregs);
	KVM(vm->vcpu, KVM_SET_REGS, &regs);
}

static void create_vcpu(struct vm *vm)
{
	int bytes = KVM(vm->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);

	vm->vcpu = KVM(vm->fd, KVM_CREATE_VCPU, 0);
	vm->run = mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_SHARED, vm->vcpu, 0);
	if (vm->run == MAP_FAILED)
		err(EXIT_FAILURE, "struct kvm_run");
	set_cpuid(vm);
}

/* ---- devices: a serial port that prints, and a reset line ---- */

enum { COM1 = 0x3f8, COM1_LINE_STATUS = COM1 + 5, TRANSMITTER_EMPTY = 0x60, RESET_PORT = 0x64, RESET_VALUE = 0xfe };

static uint8_t port_read(uint16_t port)
{
	switch (port) {
	case COM1_LINE_STATUS:
		return TRANSMITTER_EMPTY;
	case RESET_PORT:
		return 0; /* ready for a command */
	case COM1 + 1:    /* no interrupts, */
	case COM1 + 2:
	case COM1 + 3:
	case COM1 + 4:
	case COM1 + 6: /* no modem */
		return 0;
	default:
		return 0xff; /* no device */
	}
}

/* Returns 0 when the guest asked for a reset. */
static int port_write(uint16_t port, uint8_t value)
{
	if (port == COM1)
		putchar(value);
	return !(port == RESET_PORT && value == RESET_VALUE);
}

static int handle_io(struct kvm_run *run)
{
	uint8_t *data = (uint8_t *)run + run->io.data_offset;

	for (uint32_t i = 0; i < run->io.count; i++, data += run->io.size) {
		if (run->io.direction == KVM_EXIT_IO_IN) {
			memset(data, 0xff, run->io.size);
			data[0] = port_read(run->io.port);
		} else if (!port_write(run->io.port, data[0])) {
			return 0;
		}
	}
	return 1;
}

static void run_guest(struct vm *vm)
{
	struct kvm_run *run = vm->run;

	for (;;) {
		if (ioctl(vm->vcpu, KVM_RUN, 0) < 0) {
			if (errno == EINTR)
				continue;
			err(EXIT_FAILURE, "KVM_RUN");
		}
		switch (run->exit_reason) {
		case KVM_EXIT_IO:
			if (!handle_io(run))
				return;
			break;
		case KVM_EXIT_MMIO: /* no such device */
			if (!run->mmio.is_write)
				memset(run->mmio.data, 0xff, sizeof run->mmio.data);
			break;
		default:
			errx(EXIT_FAILURE, "the guest died (KVM exit %u)", run->exit_reason);
		}
	}
}

int main(int argc, char **argv)
{
	struct riffle_boot_registers registers;
	struct riffle_ram ram = {.address = 0, .bytes = MEMORY_BYTES};
	uint8_t seed[32];
	struct riffle_machine machine = {
	    .ram = &ram,
	    .ram_count = 1,
	    .vcpus = 1,
	    .command_line = argc > 2 ? argv[2] : COMMAND_LINE,
	    .rng_seed = seed,
	    .rng_seed_bytes = sizeof seed,
	    .reset_port = RESET_PORT,
	    .reset_value = RESET_VALUE,
	};
	struct vm vm;

	if (argc < 2 || argc > 3)
		errx(2, "usage: tiny-monitor PREPARED-KERNEL [COMMAND-LINE]");
	if (getrandom(seed, sizeof seed, 0) != sizeof seed)
		err(EXIT_FAILURE, "getrandom");
	setlinebuf(stdout);
	create_vm(&vm);
	ram.host = vm.memory;
	load_kernel(argv[1], &machine, &registers);
	create_vcpu(&vm);
	set_registers(&vm, &registers);
	run_guest(&vm);
	return EXIT_SUCCESS;
}

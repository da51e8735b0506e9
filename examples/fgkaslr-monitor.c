/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A virtual machine monitor that boots a kernel with its functions shuffled (FGKASLR) and its sections slid apart, and
 * the rest of what tiny-monitor.c leaves out: an initrd, RAM in two ranges, loading with threads, a choice of tables,
 * wiping the layout, and a serial port that user space can print to.
 *
 *     riffle prepare /boot/vmlinuz-... -o kernel.riffle
 *     cc -o fgkaslr-monitor fgkaslr-monitor.c $(pkg-config --cflags --libs riffle) -pthread
 *     ./fgkaslr-monitor kernel.riffle initrd.img "console=ttyS0 reboot=k panic=-1"
 *
 * Without arguments after the kernel it boots until the kernel finds that it has no root file system.
 */
#define _GNU_SOURCE 1
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <riffle/riffle.h>

#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)
#define COMMAND_LINE "console=ttyS0 reboot=k panic=-1 pci=off"
#define COUNT(array) (sizeof(array) / sizeof *(array))

/* Ends the program if a library call failed. */
static void check(int status, const char *what, const struct riffle_error *error)
{
	char text[256];

	if (!status)
		return;
	riffle_error_format(error, text, sizeof text);
	errx(EXIT_FAILURE, "%s: %s", what, text);
}

/* ---- libriffle: threads for a load ---- */

struct crew {
	void (*job)(void *argument, unsigned index);
	void *argument;
	unsigned jobs;
	atomic_uint next;
};

static void *work(void *opaque)
{
	struct crew *crew = opaque;
	unsigned index;

	while ((index = atomic_fetch_add(&crew->next, 1)) < crew->jobs)
		crew->job(crew->argument, index);
	return NULL;
}

/* struct riffle_workers.run: returns when every job has been done, here and on other threads, if there are any. */
static void run_jobs(void *opaque, void (*job)(void *argument, unsigned index), void *argument, unsigned jobs)
{
	struct crew crew = {.job = job, .argument = argument, .jobs = jobs};
	pthread_t thread[3];
	unsigned threads = 0;

	(void)opaque;
	while (threads < COUNT(thread) && !pthread_create(&thread[threads], NULL, work, &crew))
		threads++;
	work(&crew);
	while (threads)
		pthread_join(thread[--threads], NULL);
}

/* ---- libriffle: from a prepared kernel to a shuffled one in guest memory ---- */

/* The plan: read and checked once, good for any number of boots. */
struct kernel {
	const char *file;
	int fd;
	struct riffle_source source;
	struct riffle_plan plan;
};

static void open_kernel(struct kernel *kernel, const char *file)
{
	struct riffle_error error;

	*kernel = (struct kernel){.file = file, .plan = RIFFLE_PLAN_INIT};
	kernel->fd = open(file, O_RDONLY | O_CLOEXEC);
	if (kernel->fd < 0)
		err(EXIT_FAILURE, "%s", file);
	check(riffle_source_from_fd(&kernel->source, kernel->fd, &error), file, &error);
	check(riffle_plan_open(&kernel->plan, &kernel->source, &error), file, &error);
	if (!kernel->plan.chunk_count)
		errx(EXIT_FAILURE, "%s: cannot be shuffled: %.200s", file, kernel->plan.header->no_shuffle);
	if (!(kernel->plan.header->features & RIFFLE_FEATURE_KALLSYMS_MODE))
		warnx("%s: users of the guest can read the order of functions, unless its init closes /proc/kallsyms",
		      file);
}

/*
 * One boot: draws a layout, loads the kernel accordingly, and writes the boot data. Everything that reveals the layout
 * is wiped, except the registers, which the caller needs.
 */
static void boot_kernel(const struct kernel *kernel, const struct riffle_machine *machine,
			struct riffle_boot_registers *registers)
{
	const struct riffle_plan *plan = &kernel->plan;
	const struct riffle_workers workers = {.run = run_jobs};
	struct riffle_layout layout = RIFFLE_LAYOUT_INIT;
	struct riffle_range reserved[4];
	struct riffle_memory memory = {.ram = machine->ram, .ram_count = machine->ram_count, .reserved = reserved};
	size_t workspace_bytes = riffle_load_workspace(plan);
	void *workspace = aligned_alloc(64, workspace_bytes); /* the size is a multiple of 64 */
	struct riffle_loaded loaded;
	struct riffle_error error;

	layout.order = calloc(plan->chunk_count, sizeof *layout.order);
	layout.order_count = plan->chunk_count;
	layout.slide_count = plan->block_count; /* 0, without slides, if this kernel's sections cannot slide */
	if (!layout.order || !workspace)
		err(EXIT_FAILURE, "memory");

	memory.reserved_count = riffle_boot_reserved(machine, reserved, COUNT(reserved));
	if (memory.reserved_count > COUNT(reserved))
		errx(EXIT_FAILURE, "the library reserves more ranges than there is room for");
	check(riffle_layout_draw(&layout, plan, &memory, RIFFLE_MODE_FGKASLR, NULL, &error), kernel->file, &error);
	check(riffle_load_shuffled(&loaded, plan, &kernel->source, &layout, &memory, 0, &workers, workspace,
				   workspace_bytes, &error),
	      kernel->file, &error);
	check(riffle_boot_write(registers, machine, plan, &loaded, &error), kernel->file, &error);

	riffle_layout_wipe(&layout);
	riffle_wipe(workspace, workspace_bytes);
	riffle_wipe(&loaded, sizeof loaded);
	free(layout.order);
	free(workspace);
	fprintf(stderr, "fgkaslr-monitor: %.60s: %u chunks in an order of their own, %u blocks slid apart\n",
		plan->header->kernel_version, plan->chunk_count, plan->block_count);
}

/* Reads an initrd to the place that the library chooses, which depends only on sizes. */
static void load_initrd(struct riffle_machine *machine, const struct kernel *kernel, const char *file)
{
	const struct riffle_ram *ram = machine->ram;
	struct riffle_error error;
	struct stat st;
	int fd = open(file, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || fstat(fd, &st))
		err(EXIT_FAILURE, "%s", file);
	machine->initrd_bytes = (uint64_t)st.st_size;
	check(riffle_boot_place_initrd(&machine->initrd_address, machine, &kernel->plan, machine->initrd_bytes, &error),
	      file, &error);
	/* below 4 GiB, which is the first range here */
	for (uint64_t done = 0; done < machine->initrd_bytes;) {
		ssize_t got =
		    read(fd, (char *)ram->host + machine->initrd_address + done, machine->initrd_bytes - done);

		if (got <= 0)
			err(EXIT_FAILURE, "%s", file);
		done += (uint64_t)got;
	}
	close(fd);
}

/* ---- KVM: one VM, one vCPU ---- */

struct vm {
	int kvm, fd, vcpu;
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

/* Maps and registers each range of guest RAM. */
static void map_memory(const struct vm *vm, struct riffle_ram *ram, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		struct kvm_userspace_memory_region region = {
		    .slot = i, .guest_phys_addr = ram[i].address, .memory_size = ram[i].bytes};

		ram[i].host = mmap(NULL, ram[i].bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (ram[i].host == MAP_FAILED)
			err(EXIT_FAILURE, "guest memory");
		madvise(ram[i].host, ram[i].bytes, MADV_HUGEPAGE);
		madvise(ram[i].host, ram[i].bytes, MADV_DONTDUMP);
		region.userspace_addr = (uintptr_t)ram[i].host;
		KVM(vm->fd, KVM_SET_USER_MEMORY_REGION, &region);
	}
}

static void create_vm(struct vm *vm)
{
	struct kvm_pit_config pit = {.flags = KVM_PIT_SPEAKER_DUMMY}; /* answers port 0x61 as well */

	vm->kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (vm->kvm < 0)
		err(EXIT_FAILURE, "/dev/kvm");
	vm->fd = KVM(vm->kvm, KVM_CREATE_VM, 0);
	KVM(vm->fd, KVM_SET_TSS_ADDR, 0xfffbd000);
	KVM(vm->fd, KVM_CREATE_IRQCHIP, 0);
	KVM(vm->fd, KVM_CREATE_PIT2, &pit);
}

/* The guest sees the CPU that KVM supports, with the hypervisor bit and APIC id 0. */
static void set_cpuid(const struct vm *vm)
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

static void create_vcpu(struct vm *vm)
{
	int bytes = KVM(vm->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);

	vm->vcpu = KVM(vm->fd, KVM_CREATE_VCPU, 0);
	vm->run = mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_SHARED, vm->vcpu, 0);
	if (vm->run == MAP_FAILED)
		err(EXIT_FAILURE, "struct kvm_run");
	set_cpuid(vm);
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
static void set_registers(const struct vm *vm, const struct riffle_boot_registers *r)
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

/* ---- devices: a serial port that prints, and a reset line ---- */

enum { COM1 = 0x3f8, COM1_IRQ = 4, RESET_PORT = 0x64, RESET_VALUE = 0xfe };
enum { DATA, INTERRUPT_ENABLE, INTERRUPT_ID, LINE_CONTROL, MODEM_CONTROL, LINE_STATUS, MODEM_STATUS, SCRATCH };
enum { TRANSMITTER_EMPTY = 0x60, SENT = 2, NO_INTERRUPT = 1, DIVISOR_LATCH = 0x80, LOOPBACK = 0x10 };

/* As much of a 16450 as Linux needs to recognise one: it transmits at once and never receives. */
struct uart {
	int vm;
	uint8_t enabled, line_control, modem_control, scratch;
	uint8_t sent; /* since the guest last read the interrupt for it */
};

/* Raises an edge while an interrupt is pending. */
static void interrupt(const struct uart *uart)
{
	struct kvm_irq_level level = {.irq = COM1_IRQ, .level = 1};

	if (!uart->sent || !(uart->enabled & SENT))
		return;
	KVM(uart->vm, KVM_IRQ_LINE, &level);
	level.level = 0;
	KVM(uart->vm, KVM_IRQ_LINE, &level);
}

static uint8_t uart_read(struct uart *uart, unsigned reg)
{
	uint8_t m = uart->modem_control;

	switch (reg) {
	case INTERRUPT_ENABLE:
		return uart->line_control & DIVISOR_LATCH ? 0 : uart->enabled;
	case INTERRUPT_ID:
		if (!uart->sent || !(uart->enabled & SENT))
			return NO_INTERRUPT;
		uart->sent = 0;
		return SENT;
	case LINE_CONTROL:
		return uart->line_control;
	case MODEM_CONTROL:
		return m;
	case LINE_STATUS:
		return TRANSMITTER_EMPTY;
	case MODEM_STATUS: /* loopback: RTS, DTR, OUT1, OUT2 read as CTS, DSR, RI, DCD; otherwise the line is ready */
		return m & LOOPBACK ? (uint8_t)((m & 2) << 3 | (m & 1) << 5 | (m & 4) << 4 | (m & 8) << 4) : 0xb0;
	case SCRATCH:
		return uart->scratch;
	default:
		return 0;
	}
}

static void uart_write(struct uart *uart, unsigned reg, uint8_t value)
{
	int latch = uart->line_control & DIVISOR_LATCH;

	switch (reg) {
	case DATA:
		if (latch)
			return;
		if (!(uart->modem_control & LOOPBACK))
			putchar(value);
		break;
	case INTERRUPT_ENABLE:
		if (latch)
			return;
		uart->enabled = value & 0xf;
		break;
	case LINE_CONTROL:
		uart->line_control = value;
		return;
	case MODEM_CONTROL:
		uart->modem_control = value & 0x1f;
		return;
	case SCRATCH:
		uart->scratch = value;
		return;
	default:
		return;
	}
	uart->sent = 1;
	interrupt(uart);
}

/* Returns 0 when the guest asked for a reset. */
static int handle_io(struct kvm_run *run, struct uart *uart)
{
	uint8_t *data = (uint8_t *)run + run->io.data_offset;
	unsigned reg = run->io.port - COM1;

	for (uint32_t i = 0; i < run->io.count; i++, data += run->io.size) {
		if (run->io.direction == KVM_EXIT_IO_IN) {
			memset(data, 0xff, run->io.size); /* no device, in particular no keyboard controller */
			if (reg <= SCRATCH)
				data[0] = uart_read(uart, reg);
		} else if (reg <= SCRATCH) {
			uart_write(uart, reg, data[0]);
		} else if (run->io.port == RESET_PORT && data[0] == RESET_VALUE) {
			return 0;
		}
	}
	return 1;
}

static void run_guest(const struct vm *vm)
{
	struct uart uart = {.vm = vm->fd};
	struct kvm_run *run = vm->run;

	for (;;) {
		if (ioctl(vm->vcpu, KVM_RUN, 0) < 0) {
			if (errno == EINTR)
				continue;
			err(EXIT_FAILURE, "KVM_RUN");
		}
		switch (run->exit_reason) {
		case KVM_EXIT_IO:
			if (!handle_io(run, &uart))
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
	struct riffle_ram ram[] = {{.address = 0, .bytes = 192 * MIB}, {.address = 4 * GIB, .bytes = 128 * MIB}};
	struct riffle_machine machine = {
	    .ram = ram,
	    .ram_count = COUNT(ram),
	    .vcpus = 1,
	    .command_line = argc > 3 ? argv[3] : COMMAND_LINE,
	    /* no ACPI: an MP table is enough for one vCPU and an IOAPIC */
	    .tables = RIFFLE_TABLES_E820 | RIFFLE_TABLES_MP | RIFFLE_TABLES_ENTRY,
	};
	struct riffle_boot_registers registers;
	struct kernel kernel;
	struct vm vm;

	if (argc < 2 || argc > 4)
		errx(2, "usage: fgkaslr-monitor PREPARED-KERNEL [INITRD [COMMAND-LINE]]");
	/* keeps the layout out of core files and from other processes of this user */
	if (prctl(PR_SET_DUMPABLE, 0))
		err(EXIT_FAILURE, "PR_SET_DUMPABLE");
	setlinebuf(stdout);
	open_kernel(&kernel, argv[1]);
	create_vm(&vm);
	map_memory(&vm, ram, COUNT(ram));
	if (argc > 2)
		load_initrd(&machine, &kernel, argv[2]);
	boot_kernel(&kernel, &machine, &registers);
	riffle_plan_close(&kernel.plan);
	close(kernel.fd);
	create_vcpu(&vm);
	set_registers(&vm, &registers);
	riffle_wipe(&registers, sizeof registers);
	run_guest(&vm);
	return EXIT_SUCCESS;
}

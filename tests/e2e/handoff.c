/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Enters an ELF kernel as other monitors do, under KVM: by PVH with what Firecracker and Cloud Hypervisor put at their
 * addresses, or by the 64-bit entry with Firecracker's zero page and its page tables of 1 GiB. One vCPU, a serial port
 * that prints, and a reset line.
 */
#include <elf.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <riffle/riffle.h>

#include "common/bytes.h"

static const char usage[] =
    "usage: handoff --entry pvh|linux64 --rsdp absent|found|given --memory MIB --initrd FILE\n"
    "               --cmdline TEXT ELF\n"
    "\n"
    "  --rsdp  none in memory; where the kernel scans for it; at 0xa0000, which only the hand-over tells\n"
    "\n"
    "Exit code: 0 the guest reset itself, 4 it died, 1 an error.\n";

enum { EXIT_DIED = 4 };

#define MIB (UINT64_C(1) << 20)
#define START_INFO 0x6000u
#define MODULES 0x6040u
#define MEMORY_MAP 0x7000u
#define ZERO_PAGE RIFFLE_BOOT_ZERO_PAGE
#define PDPT 0xa000u /* RIFFLE_BOOT_PML4's */
#define RSDP RIFFLE_BOOT_ACPI
#define RSDP_BYTES 36u
#define RSDP_ELSEWHERE 0xa0000u
#define E820_ENTRIES 0x1e8u
#define E820_TABLE 0x2d0u

struct handoff {
	const char *file, *initrd, *command_line, *rsdp;
	bool pvh;
	uint64_t memory_bytes;
	uint8_t *memory;
	uint64_t entry, entry_pvh;
	int kvm, vm, vcpu;
	struct kvm_run *run;
	uint8_t uart_ier; /* its interrupt enable register */
};

static int kvm(int fd, unsigned long request, const void *argument, const char *name)
{
	int result = ioctl(fd, request, argument);

	if (result < 0)
		err(EXIT_FAILURE, "%s", name);
	return result;
}
#define KVM(fd, request, argument) kvm(fd, request, (const void *)(uintptr_t)(argument), #request)

static void read_exactly(int fd, uint64_t offset, void *to, uint64_t bytes, const char *file)
{
	uint8_t *at = to;

	while (bytes) {
		ssize_t got = pread(fd, at, bytes, (off_t)offset);

		if (got <= 0)
			errx(EXIT_FAILURE, "%s: cannot be read", file);
		at += got;
		offset += (uint64_t)got;
		bytes -= (uint64_t)got;
	}
}

/* As linux-loader does: physical addresses, PVH where there is its note; what p_memsz adds is fresh memory. */
static void load_elf(struct handoff *h)
{
	int fd = open(h->file, O_RDONLY | O_CLOEXEC);
	Elf64_Ehdr elf;

	if (fd < 0)
		err(EXIT_FAILURE, "%s", h->file);
	read_exactly(fd, 0, &elf, sizeof elf, h->file);
	h->entry = elf.e_entry;
	for (unsigned i = 0; i < elf.e_phnum; i++) {
		Elf64_Phdr p;
		uint8_t note[24];

		read_exactly(fd, elf.e_phoff + i * sizeof p, &p, sizeof p, h->file);
		if (p.p_type == PT_NOTE && p.p_filesz == sizeof note) {
			read_exactly(fd, p.p_offset, note, sizeof note, h->file);
			if (riffle_get32(note + 8) == 18 && !memcmp(note + 12, "Xen", 4))
				h->entry_pvh = riffle_get32(note + 16);
		}
		if (p.p_type != PT_LOAD)
			continue;
		if (p.p_memsz < p.p_filesz || !riffle_inside(p.p_paddr, p.p_memsz, h->memory_bytes))
			errx(EXIT_FAILURE, "%s: a segment lies outside RAM", h->file);
		read_exactly(fd, p.p_offset, h->memory + p.p_paddr, p.p_filesz, h->file);
	}
	close(fd);
}

/* ACPI tables, command line, memory map and zero page: libriffle's own, for a kernel of which it knows nothing. */
static void write_tables(struct handoff *h, struct riffle_boot_registers *registers, struct riffle_machine *machine)
{
	const struct riffle_loaded loaded = {.entry = MIB, .physical_base = MIB, .end = 2 * MIB};
	struct riffle_error error;
	char text[200];
	struct stat st;
	int fd = open(h->initrd, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || fstat(fd, &st) < 0)
		err(EXIT_FAILURE, "%s", h->initrd);
	machine->initrd_bytes = (uint64_t)st.st_size;
	if (riffle_boot_place_initrd(&machine->initrd_address, machine, NULL, machine->initrd_bytes, &error) ||
	    riffle_boot_write(registers, machine, NULL, &loaded, &error)) {
		riffle_error_format(&error, text, sizeof text);
		errx(EXIT_FAILURE, "%s", text);
	}
	read_exactly(fd, 0, h->memory + machine->initrd_address, machine->initrd_bytes, h->initrd);
	close(fd);
}

/* Where the RSDP goes; what is to be told of it. */
static uint64_t place_rsdp(struct handoff *h)
{
	if (!strcmp(h->rsdp, "found"))
		return 0;
	if (!strcmp(h->rsdp, "given"))
		memcpy(h->memory + RSDP_ELSEWHERE, h->memory + RSDP, RSDP_BYTES);
	memset(h->memory + RSDP, 0, RSDP_BYTES);
	return strcmp(h->rsdp, "given") ? 0 : RSDP_ELSEWHERE;
}

static void write_start_info(struct handoff *h, const struct riffle_machine *machine, uint64_t rsdp)
{
	uint8_t *info = h->memory + START_INFO, *map = h->memory + MEMORY_MAP, zero_page[4096];

	memcpy(zero_page, h->memory + ZERO_PAGE, sizeof zero_page);
	memset(info, 0, 0x1000);
	memset(map, 0, 0x1000);
	riffle_put32(info, 0x336ec578);
	riffle_put32(info + 4, 1);
	riffle_put32(info + 12, 1);
	riffle_put64(info + 16, MODULES);
	riffle_put64(info + 24, RIFFLE_BOOT_CMDLINE);
	riffle_put64(info + 32, rsdp);
	riffle_put64(info + 40, MEMORY_MAP);
	riffle_put64(h->memory + MODULES, machine->initrd_address);
	riffle_put64(h->memory + MODULES + 8, machine->initrd_bytes);
	/* what these monitors tell: RAM alone */
	for (unsigned i = 0, count = 0; i < zero_page[E820_ENTRIES]; i++)
		if (riffle_get32(zero_page + E820_TABLE + i * 20 + 16) == 1) {
			memcpy(map + (size_t)count * 24, zero_page + E820_TABLE + i * 20, 20);
			riffle_put32(info + 48, ++count);
		}
}

static void write_zero_page(struct handoff *h, uint64_t rsdp)
{
	riffle_put64(h->memory + ZERO_PAGE + 0x70, rsdp);
	h->memory[ZERO_PAGE + 0x211] = 0;
	memset(h->memory + PDPT + 8, 0, 4096 - 8); /* 1 GiB */
}

static struct kvm_segment flat(uint16_t selector, bool code, bool wide)
{
	return (struct kvm_segment){.limit = 0xffffffff,
				    .selector = selector,
				    .type = code ? 11 : 3,
				    .present = 1,
				    .s = 1,
				    .g = 1,
				    .l = code && wide,
				    .db = !(code && wide)};
}

static void set_registers(struct handoff *h, const struct riffle_boot_registers *r)
{
	struct kvm_regs regs = {.rip = h->entry, .rsi = ZERO_PAGE, .rsp = r->rsp, .rflags = 2};
	struct kvm_sregs sregs;

	KVM(h->vcpu, KVM_GET_SREGS, &sregs);
	sregs.cs = flat(r->cs, true, !h->pvh);
	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = flat(r->ds, false, false);
	if (h->pvh) {
		/* what else PVH leaves open is made useless */
		regs = (struct kvm_regs){.rip = h->entry_pvh, .rbx = START_INFO, .rsp = 0xfffffffc, .rflags = 2};
		sregs.cr0 = 0x11;
		sregs.cr4 = 0;
		sregs.efer = 0;
	} else {
		sregs.gdt = (struct kvm_dtable){.base = r->gdt_address, .limit = (uint16_t)(r->gdt_bytes - 1)};
		sregs.cr0 = r->cr0;
		sregs.cr3 = r->cr3;
		sregs.cr4 = r->cr4;
		sregs.efer = r->efer;
	}
	KVM(h->vcpu, KVM_SET_SREGS, &sregs);
	KVM(h->vcpu, KVM_SET_REGS, &regs);
}

static void create_vm(struct handoff *h)
{
	struct kvm_userspace_memory_region region = {.memory_size = h->memory_bytes};
	struct kvm_pit_config pit = {.flags = KVM_PIT_SPEAKER_DUMMY};

	h->kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (h->kvm < 0)
		err(EXIT_FAILURE, "/dev/kvm");
	h->vm = KVM(h->kvm, KVM_CREATE_VM, 0);
	KVM(h->vm, KVM_SET_TSS_ADDR, 0xfffbd000);
	h->memory =
	    mmap(NULL, h->memory_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (h->memory == MAP_FAILED)
		err(EXIT_FAILURE, "guest memory");
	region.userspace_addr = (uintptr_t)h->memory;
	KVM(h->vm, KVM_SET_USER_MEMORY_REGION, &region);
	KVM(h->vm, KVM_CREATE_IRQCHIP, 0);
	KVM(h->vm, KVM_CREATE_PIT2, &pit);
}

static void create_vcpu(struct handoff *h)
{
	enum { ENTRIES = 256 };
	struct kvm_cpuid2 *cpuid = calloc(1, sizeof *cpuid + ENTRIES * sizeof cpuid->entries[0]);
	int bytes = KVM(h->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);

	h->vcpu = KVM(h->vm, KVM_CREATE_VCPU, 0);
	h->run = mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_SHARED, h->vcpu, 0);
	if (h->run == MAP_FAILED || !cpuid)
		err(EXIT_FAILURE, "vCPU");
	cpuid->nent = ENTRIES;
	KVM(h->kvm, KVM_GET_SUPPORTED_CPUID, cpuid);
	for (uint32_t i = 0; i < cpuid->nent; i++)
		if (cpuid->entries[i].function == 1) {
			cpuid->entries[i].ebx &= 0x0000ffff;
			cpuid->entries[i].ecx |= 1u << 31 | 1u << 24;
		} else if (cpuid->entries[i].function == 0xb) {
			cpuid->entries[i].edx = 0;
		}
	KVM(h->vcpu, KVM_SET_CPUID2, cpuid);
	free(cpuid);
}

/* ---- devices */

enum { COM1 = 0x3f8, COM1_IRQ = 4, IER = COM1 + 1, IIR = COM1 + 2, LSR = COM1 + 5, THRI = 2 };

static uint8_t port_read(const struct handoff *h, uint16_t port)
{
	switch (port) {
	case IER:
		return h->uart_ier;
	case IIR:
		return h->uart_ier & THRI ? THRI : 1;
	case LSR:
		return 0x60; /* the transmitter is empty */
	case COM1 + 3:
	case COM1 + 4:
	case COM1 + 6:
	case 0x64:
		return 0;
	default:
		return 0xff;
	}
}

/* Raises the interrupt for an empty transmitter, which is always empty. */
static void uart_interrupt(const struct handoff *h)
{
	struct kvm_irq_level level = {.irq = COM1_IRQ, .level = 1};

	if (!(h->uart_ier & THRI))
		return;
	KVM(h->vm, KVM_IRQ_LINE, &level);
	level.level = 0;
	KVM(h->vm, KVM_IRQ_LINE, &level);
}

/* true when the guest asked for a reset */
static bool port_write(struct handoff *h, uint16_t port, uint8_t value)
{
	if (port == COM1)
		putchar(value);
	if (port == IER)
		h->uart_ier = value & 0xf;
	if (port == COM1 || port == IER)
		uart_interrupt(h);
	return port == 0x64 && value == 0xfe;
}

static bool handle_io(struct handoff *h)
{
	struct kvm_run *run = h->run;
	uint8_t *data = (uint8_t *)run + run->io.data_offset;

	for (uint32_t i = 0; i < run->io.count; i++, data += run->io.size) {
		if (run->io.direction == KVM_EXIT_IO_IN) {
			memset(data, 0xff, run->io.size);
			data[0] = port_read(h, run->io.port);
		} else if (port_write(h, run->io.port, data[0])) {
			return true;
		}
	}
	return false;
}

static int run_guest(struct handoff *h)
{
	struct kvm_run *run = h->run;

	for (;;) {
		if (ioctl(h->vcpu, KVM_RUN, 0) < 0) {
			if (errno == EINTR)
				continue;
			err(EXIT_FAILURE, "KVM_RUN");
		}
		if (run->exit_reason == KVM_EXIT_IO) {
			if (handle_io(h))
				return EXIT_SUCCESS;
		} else if (run->exit_reason == KVM_EXIT_MMIO) {
			if (!run->mmio.is_write)
				memset(run->mmio.data, 0xff, sizeof run->mmio.data);
		} else {
			warnx("the guest died (KVM exit %u)", run->exit_reason);
			return EXIT_DIED;
		}
	}
}

static bool parse(struct handoff *h, int argc, char **argv)
{
	for (int i = 1; i + 1 < argc; i += 2) {
		const char *value = argv[i + 1];

		if (!strcmp(argv[i], "--entry"))
			h->pvh = !strcmp(value, "pvh");
		else if (!strcmp(argv[i], "--rsdp"))
			h->rsdp = value;
		else if (!strcmp(argv[i], "--memory"))
			h->memory_bytes = strtoull(value, NULL, 10) * MIB;
		else if (!strcmp(argv[i], "--initrd"))
			h->initrd = value;
		else if (!strcmp(argv[i], "--cmdline"))
			h->command_line = value;
		else
			return false;
	}
	if (argc > 1)
		h->file = argv[argc - 1];
	return argc % 2 == 0 && h->rsdp && h->memory_bytes && h->initrd && h->command_line;
}

int main(int argc, char **argv)
{
	struct handoff h = {0};
	struct riffle_boot_registers registers;
	struct riffle_ram ram = {0};
	struct riffle_machine machine = {
	    .ram = &ram, .ram_count = 1, .vcpus = 1, .reset_port = 0x64, .reset_value = 0xfe};
	uint64_t rsdp;

	if (!parse(&h, argc, argv)) {
		fputs(usage, stderr);
		return 2;
	}
	create_vm(&h);
	ram = (struct riffle_ram){.bytes = h.memory_bytes, .host = h.memory};
	machine.command_line = h.command_line;
	load_elf(&h);
	write_tables(&h, &registers, &machine);
	rsdp = place_rsdp(&h);
	if (h.pvh)
		write_start_info(&h, &machine, rsdp);
	else
		write_zero_page(&h, rsdp);
	create_vcpu(&h);
	set_registers(&h, &registers);
	setvbuf(stdout, NULL, _IOFBF, 1 << 16);
	return run_guest(&h);
}

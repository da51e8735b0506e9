/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lets a bzImage unpack and randomise itself, stops it at its last jump, and compares the result byte by byte with
 * riffle_load(). The same for a kernel behind the loader stage, with riffle_load_shuffled().
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/kvm.h>
#include <stdarg.h>
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
#include "stage/stage.h"

static const char usage[] =
    "usage: oracle [--memory MIB] [--initrd-bytes N] [--spoil byte|relocation] BZIMAGE PREPARED\n"
    "       oracle --stage yes [--memory MIB] [--initrd-bytes N] [--spoil byte] SELF PREPARED\n"
    "\n"
    "Prints the layout that the bzImage chose as a layout file for riffle run --layout.\n"
    "  --stage         SELF was made of PREPARED by riffle prepare --bootstrap; prints mode, bases and slides\n"
    "  --initrd-bytes  keep this much free where riffle run would put an initrd\n"
    "  --spoil         change riffle's copy in one random place before it is compared\n"
    "\n"
    "Exit code: 0 the same to the byte, 3 not, 1 an error.\n";

enum { EXIT_DIFFERENT = 3, LAST_JUMP_PORT = 0xf4, MARK_JUMP = 5, COM1 = 0x3f8 };

#define MIB (UINT64_C(1) << 20)

struct oracle {
	uint64_t memory_bytes, initrd_bytes;
	const char *spoil;
	bool stage;
	uint64_t image;   /* where the stage was loaded */
	uint8_t *bzimage; /* a copy, with its last jump overwritten */
	size_t bzimage_bytes;
	struct riffle_source source; /* the same kernel, prepared */
	struct riffle_plan plan;
	uint8_t *guest, *loaded; /* guest memory: the bootstrap's, and what riffle_load() makes */
	struct riffle_layout layout;
	struct riffle_error error;
};

__attribute__((format(printf, 1, 2))) static _Noreturn void die(const char *format, ...)
{
	va_list arguments;

	fputs("oracle: ", stderr);
	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	fputc('\n', stderr);
	exit(EXIT_FAILURE);
}

static _Noreturn void die_of(const char *what, const struct riffle_error *error)
{
	char line[300];

	riffle_error_format(error, line, sizeof line);
	die("%s: %s", what, line);
}

static uint8_t *take_memory(uint64_t bytes)
{
	void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (memory == MAP_FAILED)
		die("no memory for a guest: %s", strerror(errno));
	madvise(memory, bytes, MADV_HUGEPAGE);
	return memory;
}

static uint64_t random_below(uint64_t bound)
{
	uint64_t number;

	if (riffle_random_below(&number, bound, NULL, NULL))
		die("no randomness");
	return number;
}

/* ---- the bootstrap's last jump */

static void read_bzimage(struct oracle *o, const char *path)
{
	struct stat st;
	int fd = open(path, O_RDONLY);
	size_t got = 0;

	if (fd < 0 || fstat(fd, &st) < 0)
		die("%s: %s", path, strerror(errno));
	o->bzimage_bytes = (size_t)st.st_size;
	o->bzimage = malloc(o->bzimage_bytes + 1);
	while (o->bzimage && got < o->bzimage_bytes) {
		ssize_t n = read(fd, o->bzimage + got, o->bzimage_bytes - got);

		if (n <= 0)
			die("%s: cannot be read", path);
		got += (size_t)n;
	}
	close(fd);
	if (!o->bzimage || o->bzimage_bytes < 0x270 || memcmp(o->bzimage + 0x202, "HdrS", 4))
		die("%s: is no bzImage", path);
}

/*
 * startup_64's end hands the boot parameters over and jumps to the kernel it has unpacked: `mov %r15, %rsi; jmp *%rax`,
 * up to 5.x `pop %rsi; jmp *%rax` (arch/x86/boot/compressed/head_64.S, Lrelocated). The jump becomes `out %al, $0xf4`,
 * of the same two bytes. The search excludes the compressed payload, in which any bytes may occur by chance.
 */
static void overwrite_last_jump(struct oracle *o)
{
	static const uint8_t moved[] = {0x4c, 0x89, 0xfe, 0xff, 0xe0}, popped[] = {0x5e, 0xff, 0xe0};
	size_t code = ((size_t)(o->bzimage[0x1f1] ? o->bzimage[0x1f1] : 4) + 1) * 512;
	size_t payload = code + riffle_get32(o->bzimage + 0x248);
	size_t payload_end = payload + riffle_get32(o->bzimage + 0x24c);
	uint8_t *found = NULL;
	unsigned count = 0;

	for (size_t i = code; i + sizeof moved <= o->bzimage_bytes; i++) {
		bool is_moved = !memcmp(o->bzimage + i, moved, sizeof moved);

		if (i + sizeof moved > payload && i < payload_end) {
			i = payload_end - 1;
			continue;
		}
		if (is_moved || !memcmp(o->bzimage + i, popped, sizeof popped)) {
			found = o->bzimage + i + (is_moved ? sizeof moved : sizeof popped) - 2;
			count++;
		}
	}
	if (count != 1)
		die("the bootstrap's last jump (mov %%r15,%%rsi; jmp *%%rax) is there %u times, not once", count);
	found[0] = 0xe6;
	found[1] = LAST_JUMP_PORT;
}

/* ---- a guest of one vCPU */

static int kvm_call(int fd, unsigned long request, void *argument, const char *name)
{
	int result = ioctl(fd, request, argument);

	if (result < 0)
		die("%s: %s", name, strerror(errno));
	return result;
}
#define KVM(fd, request, argument) kvm_call(fd, request, (void *)(argument), #request)

static void set_cpuid(int kvm, int vcpu)
{
	struct kvm_cpuid2 *cpuid = calloc(1, sizeof *cpuid + 256 * sizeof *cpuid->entries);

	if (!cpuid)
		die("no memory");
	cpuid->nent = 256;
	KVM(kvm, KVM_GET_SUPPORTED_CPUID, cpuid);
	KVM(vcpu, KVM_SET_CPUID2, cpuid);
	free(cpuid);
}

static void set_registers(int vcpu, const struct riffle_boot_registers *r)
{
	struct kvm_segment code = {
	    .limit = UINT32_MAX, .selector = r->cs, .type = 11, .present = 1, .s = 1, .l = 1, .g = 1};
	struct kvm_segment data = {
	    .limit = UINT32_MAX, .selector = r->ds, .type = 3, .present = 1, .s = 1, .db = 1, .g = 1};
	struct kvm_regs regs = {.rip = r->rip, .rsi = r->rsi, .rsp = r->rsp, .rflags = r->rflags};
	struct kvm_sregs sregs;

	KVM(vcpu, KVM_GET_SREGS, &sregs);
	sregs.cs = code;
	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = data;
	sregs.gdt.base = r->gdt_address;
	sregs.gdt.limit = (uint16_t)(r->gdt_bytes - 1);
	sregs.cr0 = r->cr0;
	sregs.cr3 = r->cr3;
	sregs.cr4 = r->cr4;
	sregs.efer = r->efer;
	KVM(vcpu, KVM_SET_SREGS, &sregs);
	KVM(vcpu, KVM_SET_REGS, &regs);
}

/* What came to an OUT: true at the last jump. What the stage has to say goes to standard error. */
static bool is_last_jump(const struct oracle *o, const struct kvm_run *run)
{
	uint8_t value = *((const uint8_t *)run + run->io.data_offset);

	if (run->io.port == COM1)
		fputc(value, stderr);
	return run->io.port == LAST_JUMP_PORT && (!o->stage || value == MARK_JUMP);
}

/*
 * Runs until the last jump: the physical entry point of the unpacked kernel, or of no meaning with a stage. All other
 * devices are missing.
 */
static uint64_t run_to_last_jump(const struct oracle *o, int vcpu, struct kvm_run *run)
{
	struct kvm_regs regs;

	for (;;) {
		if (ioctl(vcpu, KVM_RUN, 0) < 0) {
			if (errno == EINTR)
				continue;
			die("KVM_RUN: %s", strerror(errno));
		}
		switch (run->exit_reason) {
		case KVM_EXIT_IO:
			if (run->io.direction == KVM_EXIT_IO_OUT && is_last_jump(o, run)) {
				KVM(vcpu, KVM_GET_REGS, &regs);
				return regs.rax;
			}
			if (run->io.direction == KVM_EXIT_IO_IN)
				memset((uint8_t *)run + run->io.data_offset, 0xff,
				       (size_t)run->io.size * run->io.count);
			break;
		case KVM_EXIT_MMIO:
			memset(run->mmio.data, 0xff, sizeof run->mmio.data);
			break;
		default:
			die("the bootstrap ended by KVM's exit %u", run->exit_reason);
		}
	}
}

static uint64_t boot(struct oracle *o)
{
	/* the stage then marks its last step */
	static const char marks[] = "riffle.marks";
	struct riffle_ram ram = {0, o->memory_bytes, o->guest};
	struct riffle_machine machine = {.ram = &ram,
					 .ram_count = 1,
					 .vcpus = 1,
					 .command_line = o->stage ? marks : NULL,
					 .initrd_bytes = o->initrd_bytes};
	struct kvm_userspace_memory_region region = {.memory_size = o->memory_bytes,
						     .userspace_addr = (uintptr_t)o->guest};
	struct kvm_pit_config pit = {.flags = KVM_PIT_SPEAKER_DUMMY};
	struct riffle_boot_registers registers;
	struct kvm_run *run;
	int kvm = open("/dev/kvm", O_RDWR), vm, vcpu;

	if (kvm < 0)
		die("/dev/kvm: %s", strerror(errno));
	vm = KVM(kvm, KVM_CREATE_VM, 0);
	KVM(vm, KVM_SET_TSS_ADDR, 0xfffbd000);
	KVM(vm, KVM_SET_USER_MEMORY_REGION, &region);
	KVM(vm, KVM_CREATE_IRQCHIP, 0);
	KVM(vm, KVM_CREATE_PIT2, &pit);
	vcpu = KVM(vm, KVM_CREATE_VCPU, 0);
	run = mmap(NULL, (size_t)KVM(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
	if (run == MAP_FAILED)
		die("struct kvm_run: %s", strerror(errno));
	set_cpuid(kvm, vcpu);
	if (riffle_boot_place_initrd(&machine.initrd_address, &machine, &o->plan, o->initrd_bytes, &o->error) ||
	    riffle_boot_write_bzimage(&registers, &machine, o->bzimage, o->bzimage_bytes, &o->error))
		die_of("bzImage", &o->error);
	set_registers(vcpu, &registers);
	o->image = registers.rip - STAGE_ENTRY_64;
	return run_to_last_jump(o, vcpu, run);
}

/* ---- what the stage made of it */

/* The layout, as it lies on the stage's stack: with the address of the order, which the descriptor tells. */
static void find_stage_layout(struct oracle *o)
{
	struct stage_descriptor d;
	uint64_t stack, order;
	unsigned found = 0;

	memcpy(&d, o->guest + o->image + STAGE_DESCRIPTOR, sizeof d);
	if (d.window_bytes > o->memory_bytes - o->image || d.work_offset > d.window_bytes - STAGE_STACK_BYTES)
		die("the stage's descriptor is not where it should be");
	stack = o->image + d.work_offset;
	order = stack + STAGE_STACK_BYTES;
	for (uint64_t at = stack; at + sizeof o->layout <= order; at += 8) {
		struct riffle_layout layout;

		memcpy(&layout, o->guest + at, sizeof layout);
		if ((uintptr_t)layout.order != order || layout.mode < RIFFLE_MODE_KASLR ||
		    layout.mode > RIFFLE_MODE_FGKASLR || layout.physical_base % RIFFLE_SLOT_BYTES ||
		    layout.physical_base > o->memory_bytes)
			continue;
		o->layout = layout;
		found++;
	}
	if (found != 1)
		die("the stage's layout is on its stack %u times, not once", found);
	o->layout.order = (uint16_t *)(void *)(o->guest + order);
	/* for KASLR the stage does not read the part of the plan that has the chunks */
	if (o->layout.mode == RIFFLE_MODE_FGKASLR && o->layout.order_count != o->plan.chunk_count)
		die("the stage's layout has an order of %u chunks, not %u", o->layout.order_count, o->plan.chunk_count);
}

/* The load by the library, which must be the same from the kernel's first byte to its last, gaps included. */
static bool compare_stage(struct oracle *o)
{
	struct riffle_ram ram = {0, o->memory_bytes, o->loaded};
	struct riffle_memory memory = {.ram = &ram, .ram_count = 1};
	size_t workspace_bytes = riffle_load_workspace(&o->plan);
	void *workspace = take_memory(workspace_bytes + 1);
	uint64_t different = 0, base = o->layout.physical_base;
	struct riffle_loaded loaded;

	if (riffle_layout_check(&o->layout, &o->plan, &memory, &o->error))
		die_of("the stage's layout", &o->error);
	if (riffle_load_shuffled(&loaded, &o->plan, &o->source, &o->layout, &memory, 0, NULL, workspace,
				 workspace_bytes, &o->error))
		die_of("prepared kernel", &o->error);
	if (o->spoil) {
		uint64_t at = base + random_below(loaded.end - base);

		o->loaded[at] ^= 0x40;
		fprintf(stderr, "oracle: spoiled address %#" PRIx64 "\n", at);
	}
	for (uint64_t at = base; at < loaded.end; at++)
		if (o->guest[at] != o->loaded[at] && different++ < 4)
			fprintf(stderr, "oracle: address %#" PRIx64 ": the stage left %02x, riffle %02x\n", at,
				o->guest[at], o->loaded[at]);
	fprintf(stderr, "oracle: %" PRIu64 " bytes compared, %" PRIu64 " differ\n", loaded.end - base, different);
	printf("{\"mode\": \"%s\", \"physical_base\": \"%#" PRIx64 "\", \"virtual_base\": \"%#" PRIx64
	       "\", \"slides\": [",
	       o->layout.mode == RIFFLE_MODE_FGKASLR ? "fgkaslr" : "kaslr", base, o->layout.virtual_base);
	for (uint32_t i = 0; i < o->layout.slide_count; i++)
		printf("%s%" PRIu32, i ? ", " : "", o->layout.slide[i]);
	puts("]}");
	return !different;
}

/* ---- what the bootstrap made of it */

/* The field as the file has it. */
static uint64_t linked64(struct oracle *o, uint32_t offset)
{
	uint8_t bytes[8];

	if (o->source.read(o->source.opaque, o->plan.header->payload_offset + offset, bytes, sizeof bytes, &o->error))
		die_of("prepared kernel", &o->error);
	return riffle_get64(bytes);
}

/* Derives the layout from RAX and the first relocated field; all others are compared later. */
static void derive_layout(struct oracle *o, uint64_t entry)
{
	const struct riffle_header *header = o->plan.header;
	uint32_t field;
	uint64_t delta;

	if (!o->plan.reloc64_count)
		die("a kernel without relocations tells nothing");
	if (entry < header->entry_offset || entry - header->entry_offset > o->memory_bytes - header->image_bytes)
		die("the bootstrap jumps to %#" PRIx64 ", where no kernel can be", entry);
	o->layout.mode = RIFFLE_MODE_KASLR;
	o->layout.physical_base = entry - header->entry_offset;
	field = o->plan.reloc64[0];
	delta = riffle_get64(o->guest + o->layout.physical_base + field) - linked64(o, field);
	o->layout.virtual_base = header->link_virt + delta;
}

static void load(struct oracle *o)
{
	struct riffle_ram ram = {0, o->memory_bytes, o->loaded};
	struct riffle_memory memory = {.ram = &ram, .ram_count = 1};
	struct riffle_loaded loaded;
	uint64_t all = (uint64_t)o->plan.reloc64_count + o->plan.reloc32_count + o->plan.reloc32_inverse_count;

	if (riffle_layout_check(&o->layout, &o->plan, &memory, &o->error))
		die_of("the bootstrap's layout", &o->error);
	if (riffle_load(&loaded, &o->plan, &o->source, &o->layout, &memory, 0, NULL, &o->error))
		die_of("prepared kernel", &o->error);
	/* one slot in some hundreds is where the kernel was linked: nothing to relocate */
	if (o->layout.virtual_base == o->plan.header->link_virt)
		all = 0;
	if (loaded.relocations != all)
		die("riffle_load() did %" PRIu64 " relocations of %" PRIu64, loaded.relocations, all);
}

/* Corrupts riffle's copy, in a byte from the file. */
static void spoil(struct oracle *o)
{
	const struct riffle_segment *segment = &o->plan.segments[random_below(o->plan.segment_count)];
	uint8_t *image = o->loaded + o->layout.physical_base;
	uint32_t at;

	if (!strcmp(o->spoil, "byte")) {
		at = segment->image_offset + (uint32_t)random_below(segment->file_bytes);
		image[at] ^= (uint8_t)(1u << random_below(8));
	} else {
		at = o->plan.reloc32[random_below(o->plan.reloc32_count)];
		riffle_put32(image + at,
			     riffle_get32(image + at) - (uint32_t)(o->layout.virtual_base - o->plan.header->link_virt));
	}
	fprintf(stderr, "oracle: spoiled %s at image offset %#" PRIx32 "\n", o->spoil, at);
}

/* Every byte from the file must be equal, and riffle must have written nothing else. */
static bool compare(const struct oracle *o)
{
	const uint8_t *theirs = o->guest + o->layout.physical_base, *ours = o->loaded + o->layout.physical_base;
	uint64_t different = 0, compared = 0, rest = 0;

	for (uint32_t s = 0; s < o->plan.segment_count; s++) {
		const struct riffle_segment *segment = &o->plan.segments[s];

		compared += segment->file_bytes;
		for (uint32_t i = 0; i < segment->file_bytes; i++) {
			uint32_t at = segment->image_offset + i;

			if (theirs[at] == ours[at])
				continue;
			if (different++ < 4)
				fprintf(stderr,
					"oracle: image offset %#" PRIx32 ": the bootstrap left %02x, riffle %02x\n", at,
					theirs[at], ours[at]);
		}
		memset(o->loaded + o->layout.physical_base + segment->image_offset, 0, segment->file_bytes);
	}
	for (uint64_t i = 0; i < o->memory_bytes; i += 8)
		rest += riffle_get64(o->loaded + i) != 0;
	fprintf(stderr,
		"oracle: %" PRIu64 " bytes compared, %" PRIu64 " differ, %" PRIu64 " words written beside them\n",
		compared, different, rest);
	return !different && !rest;
}

static void print_layout(const struct oracle *o)
{
	const struct riffle_header *header = o->plan.header;

	printf(
	    "{\"riffle_layout\": 1, \"mode\": \"kaslr\", \"physical_base\": \"%#" PRIx64
	    "\", \"virtual_base\": \"%#" PRIx64 "\", \"link_physical\": \"%#" PRIx64 "\", \"link_virtual\": \"%#" PRIx64
	    "\", \"image_bytes\": %" PRIu64 ", \"kernel\": {\"content_digest\": \"",
	    o->layout.physical_base, o->layout.virtual_base, header->link_phys, header->link_virt, header->image_bytes);
	for (size_t i = 0; i < sizeof header->content_digest; i++)
		printf("%02x", header->content_digest[i]);
	puts("\"}}");
}

static uint64_t parse_number(const char *text)
{
	char *end;
	uint64_t number = strtoull(text, &end, 0);

	if (end == text || *end)
		die("\"%s\" is no number", text);
	return number;
}

int main(int argc, char **argv)
{
	struct oracle o = {.memory_bytes = 256 * MIB, .plan = RIFFLE_PLAN_INIT};
	int fd, i = 1;

	for (; i + 1 < argc && !strncmp(argv[i], "--", 2); i += 2) {
		if (!strcmp(argv[i], "--memory"))
			o.memory_bytes = parse_number(argv[i + 1]) * MIB;
		else if (!strcmp(argv[i], "--initrd-bytes"))
			o.initrd_bytes = parse_number(argv[i + 1]);
		else if (!strcmp(argv[i], "--stage") && !strcmp(argv[i + 1], "yes"))
			o.stage = true;
		else if (!strcmp(argv[i], "--spoil") &&
			 (!strcmp(argv[i + 1], "byte") || !strcmp(argv[i + 1], "relocation")))
			o.spoil = argv[i + 1];
		else
			break;
	}
	if (argc - i != 2) {
		fputs(usage, stderr);
		return EXIT_FAILURE;
	}
	read_bzimage(&o, argv[i]);
	if (!o.stage)
		overwrite_last_jump(&o);
	fd = open(argv[i + 1], O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		die("%s: %s", argv[i + 1], strerror(errno));
	if (riffle_source_from_fd(&o.source, fd, &o.error) || riffle_plan_open(&o.plan, &o.source, &o.error))
		die_of(argv[i + 1], &o.error);
	o.guest = take_memory(o.memory_bytes);
	o.loaded = take_memory(o.memory_bytes);
	if (o.stage) {
		boot(&o);
		find_stage_layout(&o);
		return compare_stage(&o) ? EXIT_SUCCESS : EXIT_DIFFERENT;
	}
	derive_layout(&o, boot(&o));
	load(&o);
	if (o.spoil)
		spoil(&o);
	print_layout(&o);
	return compare(&o) ? EXIT_SUCCESS : EXIT_DIFFERENT;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Builds one machine's guest memory for many layouts; only the kernel's own pages may differ between them. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <riffle/riffle.h>

#define PAGE 4096u

static const char usage[] = "usage: leak [--spoil] PREPARED LAYOUTS MIB VCPUS\n"
			    "\n"
			    "  --spoil   writes a bit of the layout into the zero page, which has to be found\n"
			    "\n"
			    "Exit code: 0 the same but for the kernel, 3 not, 1 an error.\n";

enum { EXIT_DIFFERENT = 3 };

/* Guest memory in a file, whose holes are what was never touched. */
struct guest {
	int fd;
	uint64_t bytes;
	uint8_t *at;
	struct riffle_ram ram[2];
	size_t ram_count;
};

struct trial {
	struct riffle_source source;
	struct riffle_plan plan;
	struct guest guest, reference; /* reference: the memory outside the kernel, from the first layout */
	struct riffle_machine machine;
	struct riffle_boot_registers registers;
	bool spoil;
};

static _Noreturn void die(const char *what, const struct riffle_error *error)
{
	char line[300] = "";

	if (error)
		riffle_error_format(error, line, sizeof line);
	fprintf(stderr, "leak: %s: %s\n", what, error ? line : strerror(errno));
	exit(EXIT_FAILURE);
}

static void make_guest(struct guest *guest, uint64_t bytes)
{
	uint64_t low = bytes < RIFFLE_BOOT_HOLE_START ? bytes : RIFFLE_BOOT_HOLE_START;

	guest->bytes = bytes;
	guest->fd = memfd_create("guest", MFD_CLOEXEC);
	if (guest->fd < 0 || ftruncate(guest->fd, (off_t)bytes) < 0)
		die("guest memory", NULL);
	guest->at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, guest->fd, 0);
	if (guest->at == MAP_FAILED)
		die("guest memory", NULL);
	guest->ram[0] = (struct riffle_ram){0, low, guest->at};
	guest->ram[1] = (struct riffle_ram){RIFFLE_BOOT_HOLE_END, bytes - low, guest->at + low};
	guest->ram_count = low < bytes ? 2 : 1;
}

static void clear_guest(const struct guest *guest)
{
	if (fallocate(guest->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (off_t)guest->bytes) < 0)
		die("guest memory", NULL);
}

/* As in `riffle run`: a random layout, the kernel, the tables. */
static void build(struct trial *t, struct riffle_layout *layout, struct riffle_loaded *loaded)
{
	struct riffle_range reserved[8];
	struct riffle_memory memory = {t->guest.ram, t->guest.ram_count, reserved, 0};
	struct riffle_error error;

	memory.reserved_count = riffle_boot_reserved(&t->machine, reserved, sizeof reserved / sizeof *reserved);
	if (riffle_layout_draw(layout, &t->plan, &memory, RIFFLE_MODE_KASLR, NULL, &error) ||
	    riffle_load(loaded, &t->plan, &t->source, layout, &memory, 0, NULL, &error) ||
	    riffle_boot_write(&t->registers, &t->machine, &t->plan, loaded, &error))
		die("loading", &error);
	if (t->spoil)
		t->guest.at[RIFFLE_BOOT_ZERO_PAGE + PAGE - 1] = layout->physical_base >> 21 & 1;
}

/* The offset of guest-physical address `address` in the file. */
static uint64_t file_offset(const struct guest *guest, uint64_t address)
{
	return address < RIFFLE_BOOT_HOLE_END ? address : address - RIFFLE_BOOT_HOLE_END + guest->ram[0].bytes;
}

static void read_page(const struct guest *guest, uint64_t offset, uint8_t page[PAGE])
{
	if (pread(guest->fd, page, PAGE, (off_t)offset) != PAGE)
		die("guest memory", NULL);
}

/* Counts the pages touched in `walked`, except the kernel's from `start` to `end`, that differ in the other guest. */
static uint64_t differences(const struct guest *walked, const struct guest *other, uint64_t start, uint64_t end,
			    uint64_t *pages)
{
	uint8_t one[PAGE], two[PAGE];
	uint64_t different = 0;
	off_t data = 0, hole;

	while ((data = lseek(walked->fd, data, SEEK_DATA)) >= 0) {
		hole = lseek(walked->fd, data, SEEK_HOLE);
		for (; data < hole; data += PAGE) {
			if ((uint64_t)data + PAGE > start && (uint64_t)data < end)
				continue;
			read_page(walked, (uint64_t)data, one);
			read_page(other, (uint64_t)data, two);
			++*pages;
			for (unsigned i = 0; i < PAGE; i++)
				if (one[i] != two[i] && !different++)
					fprintf(stderr, "leak: byte %#" PRIx64 " of memory depends on the layout\n",
						(uint64_t)data + i);
		}
	}
	if (errno != ENXIO)
		die("SEEK_DATA", NULL);
	return different;
}

/* Copies the memory outside the kernel. */
static void remember(const struct guest *guest, const struct guest *reference, uint64_t start, uint64_t end)
{
	off_t data = 0, hole;

	while ((data = lseek(guest->fd, data, SEEK_DATA)) >= 0) {
		hole = lseek(guest->fd, data, SEEK_HOLE);
		for (; data < hole; data += PAGE)
			if ((uint64_t)data + PAGE <= start || (uint64_t)data >= end)
				read_page(guest, (uint64_t)data, reference->at + data);
	}
}

static uint64_t compare_layouts(struct trial *t, unsigned count)
{
	struct riffle_boot_registers first = {0};
	uint64_t places = 0, different = 0, pages = 0;

	for (unsigned i = 0; i < count; i++) {
		struct riffle_layout layout = RIFFLE_LAYOUT_INIT;
		struct riffle_loaded loaded;
		uint64_t start, end;

		clear_guest(&t->guest);
		build(t, &layout, &loaded);
		places += i && t->registers.rip != first.rip;
		start = file_offset(&t->guest, layout.physical_base);
		end = start + (loaded.end - layout.physical_base);
		if (!i) {
			first = t->registers;
			remember(&t->guest, &t->reference, start, end);
		}
		/* only the entry point depends on the layout */
		t->registers.rip = first.rip;
		if (memcmp(&first, &t->registers, sizeof first) && !different++)
			fputs("leak: a register other than RIP depends on the layout\n", stderr);
		different += differences(&t->guest, &t->reference, start, end, &pages);
		different += differences(&t->reference, &t->guest, start, end, &pages);
	}
	printf("%u layouts, %" PRIu64 " elsewhere than the first, %" PRIu64 " pages compared, %" PRIu64
	       " differences\n",
	       count, places, pages, different);
	return different;
}

int main(int argc, char **argv)
{
	static const uint8_t rng_seed[32] = {1, 2, 3};
	static const struct riffle_boot_device device = {"LNRO0005", RIFFLE_BOOT_HOLE_START, PAGE, 5};
	struct trial t = {.spoil = argc > 1 && !strcmp(argv[1], "--spoil"), .plan = RIFFLE_PLAN_INIT};
	struct riffle_error error;
	int fd;

	argv += t.spoil;
	if (argc - t.spoil != 5) {
		fputs(usage, stderr);
		return EXIT_FAILURE;
	}
	fd = open(argv[1], O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		die(argv[1], NULL);
	if (riffle_source_from_fd(&t.source, fd, &error) || riffle_plan_open(&t.plan, &t.source, &error))
		die(argv[1], &error);
	make_guest(&t.guest, strtoull(argv[3], NULL, 10) << 20);
	make_guest(&t.reference, t.guest.bytes);
	t.machine = (struct riffle_machine){
	    .ram = t.guest.ram,
	    .ram_count = t.guest.ram_count,
	    .vcpus = (unsigned)strtoul(argv[4], NULL, 10),
	    .flags = RIFFLE_MACHINE_I8042 | RIFFLE_MACHINE_RTC,
	    .command_line = "console=ttyS0 quiet",
	    .initrd_bytes = 100000,
	    .rng_seed = rng_seed,
	    .rng_seed_bytes = sizeof rng_seed,
	    .devices = &device,
	    .device_count = 1,
	    .sleep_control_port = 0x600,
	    .reset_port = 0xcf9,
	    .reset_value = 6,
	};
	if (riffle_boot_place_initrd(&t.machine.initrd_address, &t.machine, &t.plan, t.machine.initrd_bytes, &error))
		die("initrd", &error);
	return compare_layouts(&t, (unsigned)strtoul(argv[2], NULL, 10)) ? EXIT_DIFFERENT : EXIT_SUCCESS;
}

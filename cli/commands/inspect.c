/* SPDX-License-Identifier: Apache-2.0 */
/* riffle inspect: what a kernel file is, and the entropy that its layout gets in a guest of a given size. */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <jansson.h>

#include <riffle/boot.h>
#include <riffle/layout.h>

#include "cli/commands.h"
#include "cli/commands/inspect_shuffle.h"
#include "cli/commands/inspect_slides.h"
#include "cli/commands/inspect_strength.h"
#include "common/fail.h"
#include "common/hex.h"
#include "host/input.h"
#include "host/memory_size.h"
#include "host/mode.h"
#include "host/shown.h"
#include "host/suggest.h"
#include "kernel/analysed.h"
#include "kernel/frame_reader.h"
#include "kernel/sandbox.h"
#include "kernel/spawn.h"
#include "prepare/image/image.h"
#include "prepare/image/uki.h"

#define MIB (UINT64_C(1) << 20)

static const char help[] =
    "Usage: riffle inspect KERNEL [--relocs FILE] [--debug-vmlinux FILE] [--chunks] [--strength]\n"
    "                      [--json] [--memory SIZE]\n"
    "\n"
    "Describes KERNEL (a bzImage, a vmlinux of any kind, or a prepared kernel; fd:N names an\n"
    "open descriptor), and how many slots its layout is drawn from.\n"
    "\n"
    "  -r, --relocs FILE   vmlinux.relocs that belongs to a stripped vmlinux\n"
    "  -m, --memory SIZE   the guest's memory, K, M or G after the number [256M]\n"
    "  -c, --chunks        list the code that cannot be shuffled, and why; then what can, in numbers,\n"
    "                      and what an attacker must guess\n"
    "  -s, --strength      count the gadgets that do not move, in each randomisation mode, and show\n"
    "                      what is left to guess after one leak; not for a prepared kernel\n"
    "  -d, --debug-vmlinux FILE\n"
    "                      vmlinux with symbols of the same build, as for riffle prepare\n"
    "  -j, --json          the same as one JSON object; addresses are hexadecimal strings\n"
    "  -h, --help          this text\n"
    "\n"
    "Entropy is that of a guest whose RAM starts at 0, with a hole from 3 to 4 GiB, before initrd and\n"
    "boot tables are placed: `riffle run` may have a few slots fewer.\n";

/* what is known of the kernel in question */
struct subject {
	const char *name;
	bool prepared; /* the file itself is a prepared kernel */
	uint64_t file_bytes;
	const struct riffle_plan *plan;
	struct shuffle_account account;
	uint64_t memory_bytes;
	struct riffle_slots slots;
	bool fits; /* slots are valid */
	struct riffle_slots slid;
	bool fits_slid; /* those with slides too */
	struct riffle_error unfit, unfit_slid;
	struct strength_account *strength; /* NULL: not asked for */
	struct uki uki;
	char command_line[UKI_COMMAND_LINE_MAX];
};

static void count_slots(struct subject *s)
{
	const uint64_t hole = RIFFLE_BOOT_HOLE_START;
	struct riffle_ram ram[2] = {
	    {.address = 0, .bytes = s->memory_bytes < hole ? s->memory_bytes : hole},
	    {.address = RIFFLE_BOOT_HOLE_END, .bytes = s->memory_bytes < hole ? 0 : s->memory_bytes - hole},
	};
	struct riffle_memory memory = {.ram = ram, .ram_count = ram[1].bytes ? 2 : 1};
	enum riffle_mode mode =
	    s->plan->header->flags & RIFFLE_KERNEL_RELOCATABLE ? RIFFLE_MODE_KASLR : RIFFLE_MODE_PHYSICAL;

	s->fits = !riffle_layout_slots(&s->slots, s->plan, &memory, mode, &s->unfit);
	s->fits_slid =
	    s->plan->block_count && !riffle_layout_slots_slid(&s->slid, s->plan, &memory, mode, &s->unfit_slid);
}

static const char *kind_name(const struct subject *s)
{
	return riffle_source_kind_name((enum riffle_source_kind)s->plan->header->source_kind);
}

static const char *compression_name(const struct subject *s)
{
	return riffle_compression_name((enum riffle_compression)s->plan->header->compression);
}

/* How a prepared kernel is stored; `compression` is what the bzImage had that it came from. */
static const char *storage_name(const struct subject *s)
{
	return riffle_compression_name((enum riffle_compression)s->plan->header->storage);
}

static void flag_letters(char to[4], uint32_t flags)
{
	to[0] = flags & 4 ? 'r' : '-';
	to[1] = flags & 2 ? 'w' : '-';
	to[2] = flags & 1 ? 'x' : '-';
	to[3] = 0;
}

static uint64_t extent_bytes(const struct riffle_plan *plan)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < plan->extent_count; i++)
		sum += plan->extents[i].bytes;
	return sum;
}

static double bits(uint64_t slots)
{
	return log2((double)slots);
}

static void print_size(const char *label, uint64_t bytes)
{
	printf("%-17s %" PRIu64 " bytes", label, bytes);
	if (bytes >= MIB)
		printf(" (%.1f MiB)", (double)bytes / (double)MIB);
	putchar('\n');
}

static void print_slots(const char *label, uint64_t slots)
{
	printf("  %-15s %.2f bits (%" PRIu64 " slot%s of 2 MiB)\n", label, bits(slots), slots, slots == 1 ? "" : "s");
}

static void print_entropy(const struct subject *s)
{
	char line[256];

	printf("in a guest with %" PRIu64 " MiB:\n", s->memory_bytes / MIB);
	if (!s->fits) {
		riffle_error_format(&s->unfit, line, sizeof line);
		printf("  %s\n", line);
		return;
	}
	print_slots("virtual", s->slots.virtual_);
	print_slots("physical", s->slots.physical);
	if (s->fits_slid)
		printf("  %-15s %" PRIu64 " virtual slots, %.2f bits; %" PRIu64 " physical slots, %.2f bits\n",
		       "with slides", s->slid.virtual_, bits(s->slid.virtual_), s->slid.physical,
		       bits(s->slid.physical));
	if (s->account.stats.chunks)
		printf("  %-15s %.2f bits for one function's place (%" PRIu32 " chunks in any order)\n", "functions",
		       s->account.stats.place_bits, s->account.stats.chunks);
}

static void print_text(const struct subject *s)
{
	const struct riffle_plan *plan = s->plan;
	const struct riffle_header *h = plan->header;
	char text[sizeof h->kernel_version];

	printf("%-17s %s%s\n", "kind", s->prepared ? "prepared kernel, from " : "", kind_name(s));
	printf("%-17s %s\n", "kernel version", *h->kernel_version ? h->kernel_version : "unknown");
	riffle_hex(text, h->build_id, h->build_id_bytes);
	printf("%-17s %s\n", "build id", *text ? text : "none");
	printf("%-17s %s\n", "compression", compression_name(s));
	print_size("file", s->file_bytes);
	if (uki_is(&s->uki)) {
		print_size("UKI: kernel", s->uki.kernel.bytes);
		print_size("UKI: initrd", s->uki.initrd.bytes);
		printf("%-17s %s\n", "UKI: command line", s->command_line[0] ? SHOWN(s->command_line) : "none");
	}
	if (s->prepared)
		printf("%-17s %s\n", "stored", storage_name(s));
	print_size("image in memory", h->image_bytes);
	print_size("segments' bytes", h->load_bytes);
	print_size("copied at a boot", extent_bytes(plan));
	printf("%-17s %" PRIu32 "\n", "extents", plan->extent_count);
	if (h->init_size)
		print_size("init_size", h->init_size);
	printf("%-17s %" PRIu64 " MiB\n", "alignment", h->kernel_alignment / MIB);
	printf("%-17s %#" PRIx64 " physical, %#" PRIx64 " virtual\n", "link address", h->link_phys, h->link_virt);
	printf("%-17s %#" PRIx64 " physical (image offset %#" PRIx64 ")\n", "entry", h->link_phys + h->entry_offset,
	       h->entry_offset);
	if (h->flags & RIFFLE_KERNEL_RELOCATABLE)
		printf("%-17s %" PRIu32 " of 64 bits, %" PRIu32 " of 32 bits, %" PRIu32 " of 32 bits inverse%s\n",
		       "relocations", plan->reloc64_count, plan->reloc32_count, plan->reloc32_inverse_count,
		       h->flags & RIFFLE_KERNEL_INVERSE ? "" : " (format without)");
	else
		printf("%-17s none: the virtual base cannot change\n", "relocations");
	print_shuffle_summary(&s->account);
	print_slides_summary(plan);
	printf("segments:\n  %-18s  %-10s  %-10s  %-10s  flags\n", "virtual", "offset", "file", "memory");
	for (uint32_t i = 0; i < plan->segment_count; i++) {
		const struct riffle_segment *segment = &plan->segments[i];
		char flags[4];

		flag_letters(flags, segment->flags);
		printf("  0x%016" PRIx64 "  0x%08x  0x%08x  0x%08x  %s\n", segment->link_virt, segment->image_offset,
		       segment->file_bytes, segment->memory_bytes, flags);
	}
	print_entropy(s);
}

static json_t *json_address(uint64_t address)
{
	return json_sprintf("0x%" PRIx64, address);
}

static json_t *json_hex(const uint8_t *bytes, size_t count)
{
	char text[65];

	riffle_hex(text, bytes, count);
	return count ? json_string(text) : json_null();
}

static json_t *json_segments(const struct riffle_plan *plan)
{
	json_t *array = json_array();

	for (uint32_t i = 0; i < plan->segment_count; i++) {
		const struct riffle_segment *segment = &plan->segments[i];
		char flags[4];

		flag_letters(flags, segment->flags);
		json_array_append_new(array, json_pack("{s:o, s:I, s:I, s:I, s:s}", "link_virtual",
						       json_address(segment->link_virt), "image_offset",
						       (json_int_t)segment->image_offset, "file_bytes",
						       (json_int_t)segment->file_bytes, "memory_bytes",
						       (json_int_t)segment->memory_bytes, "flags", flags));
	}
	return array;
}

static json_t *json_entropy(const struct subject *s)
{
	json_t *entropy = json_pack("{s:I}", "memory_bytes", (json_int_t)s->memory_bytes);
	char line[256];

	if (s->fits) {
		json_object_set_new(entropy, "virtual_slots", json_integer((json_int_t)s->slots.virtual_));
		json_object_set_new(entropy, "virtual_bits", json_real(bits(s->slots.virtual_)));
		json_object_set_new(entropy, "physical_slots", json_integer((json_int_t)s->slots.physical));
		json_object_set_new(entropy, "physical_bits", json_real(bits(s->slots.physical)));
		if (s->fits_slid) {
			json_object_set_new(entropy, "virtual_slots_slid", json_integer((json_int_t)s->slid.virtual_));
			json_object_set_new(entropy, "physical_slots_slid", json_integer((json_int_t)s->slid.physical));
		}
	} else {
		riffle_error_format(&s->unfit, line, sizeof line);
		json_object_set_new(entropy, "error", json_string(line));
	}
	return entropy;
}

static json_t *json_part(const struct uki_part *part)
{
	return part->bytes
		   ? json_pack("{s:I, s:I}", "offset", (json_int_t)part->offset, "bytes", (json_int_t)part->bytes)
		   : json_null();
}

static json_t *json_uki(const struct subject *s)
{
	json_t *line = s->command_line[0] ? json_string(s->command_line) : json_null();

	if (!uki_is(&s->uki)) {
		json_decref(line);
		return json_null();
	}
	return json_pack("{s:o, s:o, s:o}", "kernel", json_part(&s->uki.kernel), "initrd", json_part(&s->uki.initrd),
			 "command_line", line ? line : json_null());
}

static int print_json(const struct subject *s, bool chunks)
{
	const struct riffle_plan *plan = s->plan;
	const struct riffle_header *h = plan->header;
	json_t *root;
	int status;

	root = json_pack("{s:s, s:b, s:s, s:s, s:o, s:s, s:I, s:I, s:I, s:I, s:I, s:o, s:o, s:I, s:I, s:b}", "file",
			 s->name, "prepared", s->prepared, "kind", kind_name(s), "kernel_version", h->kernel_version,
			 "build_id", json_hex(h->build_id, h->build_id_bytes), "compression", compression_name(s),
			 "file_bytes", (json_int_t)s->file_bytes, "image_bytes", (json_int_t)h->image_bytes,
			 "load_bytes", (json_int_t)h->load_bytes, "init_size", (json_int_t)h->init_size, "alignment",
			 (json_int_t)h->kernel_alignment, "link_physical", json_address(h->link_phys), "link_virtual",
			 json_address(h->link_virt), "window_bytes", (json_int_t)h->window_bytes, "entry_offset",
			 (json_int_t)h->entry_offset, "relocatable", (h->flags & RIFFLE_KERNEL_RELOCATABLE) != 0);
	if (!root) {
		/* only a name that is not UTF-8 can make json_pack() fail, or memory */
		report_not_utf8(s->name);
		return EXIT_FAILURE;
	}
	json_object_set_new(root, "relocations",
			    json_pack("{s:I, s:I, s:I, s:b}", "64", (json_int_t)plan->reloc64_count, "32",
				      (json_int_t)plan->reloc32_count, "inverse32",
				      (json_int_t)plan->reloc32_inverse_count, "inverse_list",
				      (h->flags & RIFFLE_KERNEL_INVERSE) != 0));
	json_object_set_new(root, "segments", json_segments(plan));
	json_object_set_new(
	    root, "extents",
	    json_pack("{s:I, s:I}", "count", (json_int_t)plan->extent_count, "bytes", (json_int_t)extent_bytes(plan)));
	json_object_set_new(
	    root, "storage",
	    json_pack("{s:s, s:I, s:I}", "compression", storage_name(s), "frames", (json_int_t)plan->frame_count,
		      "payload_bytes",
		      (json_int_t)(h->storage ? h->file_bytes - h->payload_offset : extent_bytes(plan))));
	json_object_set_new(root, "uki", json_uki(s));
	json_object_set_new(root, "source_digest", json_hex(h->source_digest, sizeof h->source_digest));
	json_object_set_new(root, "content_digest", json_hex(h->content_digest, sizeof h->content_digest));
	json_object_set_new(root, "shuffle_checksum", json_sprintf("%016" PRIx64, h->shuffle_checksum));
	json_object_set_new(root, "shuffle", shuffle_json(&s->account, chunks));
	json_object_set_new(root, "slides", slides_json(plan));
	json_object_set_new(root, "entropy", json_entropy(s));
	if (s->strength)
		json_object_set_new(root, "strength", strength_json(s->strength));
	status = json_dumpf(root, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(6));
	putchar('\n');
	json_decref(root);
	return status ? EXIT_FAILURE : EXIT_SUCCESS;
}

struct inspect_options {
	const char *relocs, *debug;
	bool json, chunks, strength;
};

/* What is open while a kernel is looked at; an error, and whose it is. */
struct inspection {
	struct spawn_files files;
	struct analysed analysed;
	struct strength_account strength;
	const char *blame;
	struct spawn_words words;
	struct riffle_error error;
};

/* What a unified kernel image has beside its kernel; what is wrong with one is told when that is read. */
static void read_uki(struct subject *s, int fd)
{
	struct riffle_error ignored;

	if (uki_read(&s->uki, fd, s->file_bytes, &ignored) || !uki_is(&s->uki)) {
		s->uki = (struct uki){0};
		return;
	}
	if (uki_command_line(s->command_line, &s->uki, fd, &ignored))
		s->command_line[0] = 0;
}

static int open_files(struct inspection *i, struct subject *s, const struct inspect_options *options)
{
	struct stat st;
	int status;

	i->blame = s->name;
	status = input_open(&i->files.kernel, &st, s->name, &i->error);
	if (status)
		return status;
	s->file_bytes = (uint64_t)st.st_size;
	s->prepared = input_is_prepared(i->files.kernel);
	read_uki(s, i->files.kernel);
	if (s->prepared && (options->relocs || options->debug))
		return riffle_fail(&i->error, RIFFLE_ERR_ARGUMENT, options->relocs ? "--relocs" : "--debug-vmlinux",
				   "is of no use: this kernel is prepared already");
	if (s->prepared && options->strength)
		return riffle_fail(
		    &i->error, RIFFLE_ERR_ARGUMENT, "--strength",
		    "needs the kernel that this one was prepared from: a prepared kernel has no symbols");
	if (s->prepared)
		return RIFFLE_OK;
	if (options->relocs && input_open(&i->files.relocs, &st, options->relocs, &i->error)) {
		i->blame = options->relocs;
		return (int)i->error.status;
	}
	if (options->debug && input_open(&i->files.debug, &st, options->debug, &i->error)) {
		i->blame = options->debug;
		return (int)i->error.status;
	}
	i->files.out = memfd_create("riffle-inspect", MFD_CLOEXEC);
	if (i->files.out < 0)
		return riffle_fail_system(&i->error, errno, "memory", "for the prepared kernel cannot be allocated");
	return RIFFLE_OK;
}

/*
 * A prepared kernel of whatever kind of file. What a plan does not have, the reasons of all that is pinned, the
 * analysis has: then this process makes it itself, and can do little else from here on.
 */
static int prepare(struct inspection *i, const struct subject *s, const struct inspect_options *options)
{
	int status;

	/* jansson reads /dev/urandom for it, which cannot be opened any more when the first object is made */
	json_object_seed(0);
	if (s->prepared)
		return sandbox_confine(&i->error);
	if (!options->chunks && !options->strength) {
		status = spawn_worker(&i->words, &i->files, &i->error);
	} else {
		status = sandbox_drop(SANDBOX_SECONDS, &i->error);
		if (!status)
			status = analysed_open(&i->analysed, i->files.kernel, i->files.relocs, i->files.debug, NULL,
					       &i->error);
		if (!status)
			status = analysed_write(&i->analysed, RIFFLE_COMPRESSION_NONE, i->files.out, &i->error);
	}
	if (status)
		i->blame = spawn_blame(&i->error, s->name, options->relocs, options->debug);
	return status;
}

static int describe(struct inspection *i, struct subject *s, struct riffle_plan *plan,
		    const struct inspect_options *options)
{
	struct frame_reader *frames = NULL;
	struct riffle_source source;
	int status = riffle_source_from_fd(&source, s->prepared ? i->files.kernel : i->files.out, &i->error);

	if (!status)
		status = frame_reader_begin(&frames, &source, &i->error);
	if (!status)
		status = riffle_plan_open(plan, &source, &i->error);
	frame_reader_end(frames);
	if (status)
		return status;
	s->plan = plan;
	count_slots(s);
	s->account.plan = plan;
	s->account.shuffle = i->analysed.shuffle;
	s->account.virtual_slots = s->fits ? s->slots.virtual_ : 0;
	s->account.virtual_slots_slid = s->fits_slid ? s->slid.virtual_ : 0;
	status = chunk_stats(&s->account.stats, plan, &i->error);
	if (status || !options->strength)
		return status;
	s->strength = &i->strength;
	if (!plan->block_count)
		snprintf(i->strength.no_slides, sizeof i->strength.no_slides, "%s", mode_no_slides(plan->header));
	else if (!s->fits_slid)
		riffle_error_format(&s->unfit_slid, i->strength.no_slides, sizeof i->strength.no_slides);
	return strength_account_make(&i->strength, i->analysed.image, &s->account, &i->error);
}

static int inspect(struct subject *s, const struct inspect_options *options)
{
	struct inspection i = {.files = {-1, -1, -1, -1, RIFFLE_COMPRESSION_NONE}};
	struct riffle_plan plan = RIFFLE_PLAN_INIT;
	int code = EXIT_SUCCESS, status;

	status = open_files(&i, s, options);
	if (!status)
		status = prepare(&i, s, options);
	if (!status)
		status = describe(&i, s, &plan, options);
	if (status) {
		report_error(i.blame, &i.error);
		code = EXIT_FAILURE;
	} else if (options->json) {
		code = print_json(s, options->chunks);
	} else if (options->chunks || options->strength) {
		if (options->chunks)
			print_chunks(&s->account);
		if (options->chunks && options->strength)
			putchar('\n');
		if (options->strength)
			print_strength(&i.strength);
	} else {
		print_text(s);
	}
	riffle_plan_close(&plan);
	strength_account_end(&i.strength);
	analysed_close(&i.analysed);
	for (const int *fd = (int[]){i.files.kernel, i.files.relocs, i.files.debug, i.files.out, -2}; *fd != -2; fd++)
		if (*fd >= 0)
			close(*fd);
	return code;
}

int command_inspect(int argc, char **argv)
{
	static const struct option long_options[] = {
	    {"relocs", required_argument, NULL, 'r'}, {"memory", required_argument, NULL, 'm'},
	    {"json", no_argument, NULL, 'j'},         {"help", no_argument, NULL, 'h'},
	    {"chunks", no_argument, NULL, 'c'},       {"debug-vmlinux", required_argument, NULL, 'd'},
	    {"strength", no_argument, NULL, 's'},     {0},
	};
	struct subject subject = {.memory_bytes = 256 * MIB};
	struct inspect_options options = {0};
	const char *problem;
	int option;

	opterr = 0;
	while ((option = getopt_long(argc, argv, "r:m:cd:sjh", long_options, NULL)) != -1) {
		switch (option) {
		case 'r':
			options.relocs = optarg;
			break;
		case 'm':
			problem = memory_size_parse(optarg, &subject.memory_bytes);
			if (problem) {
				fprintf(stderr, "riffle inspect: --memory: %s (found '%s')\n", problem, SHOWN(optarg));
				return EXIT_USAGE;
			}
			break;
		case 'c':
			options.chunks = true;
			break;
		case 'd':
			options.debug = optarg;
			break;
		case 's':
			options.strength = true;
			break;
		case 'j':
			options.json = true;
			break;
		case 'h':
			fputs(help, stdout);
			return EXIT_SUCCESS;
		default:
			say_no_option("inspect", argv[optind - 1], long_options);
			return EXIT_USAGE;
		}
	}
	if (argc - optind != 1) {
		fprintf(stderr, "riffle inspect: %s; riffle inspect --help shows more\n",
			argc == optind ? "no kernel given" : "more than one kernel given");
		return EXIT_USAGE;
	}
	subject.name = argv[optind];
	return inspect(&subject, &options);
}

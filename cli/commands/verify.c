/* SPDX-License-Identifier: Apache-2.0 */
/* riffle verify: loads a kernel into private memory and proves by other means that every byte of it is right. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

#include <riffle/riffle.h>

#include "cli/commands.h"
#include "common/fail.h"
#include "host/huge.h"
#include "host/input.h"
#include "host/layout_json.h"
#include "host/shown.h"
#include "host/suggest.h"
#include "kernel/kernel.h"
#include "kernel/sandbox.h"
#include "prepare/symbols/symbols.h"
#include "prepare/verify/verify.h"

#define EXIT_DIFFERENT 3
#define DIFFERENCES_SHOWN 10u
#define COUNT_MAX 1000000ul

static const char help[] =
    "Usage: riffle verify [OPTIONS] KERNEL\n"
    "\n"
    "Loads KERNEL (a bzImage or a vmlinux) at random layouts into private memory and proves that every\n"
    "byte is right. The expected bytes are computed independently of the loader: code references\n"
    "from objdump, addresses from the kernel's own relocations, tables parsed, moved, sorted and\n"
    "written again; from the plan only the chunks' link addresses are used. Exit code 0: no differences;\n"
    "3: differences, the first of which are printed; 1: an error.\n"
    "\n"
    "  -d, --debug-vmlinux FILE  a debug vmlinux of the same build: its .rela sections give the symbol of each\n"
    "                            reference, and references that objdump and the tables do not show\n"
    "  -p, --prepared FILE       verify this prepared kernel instead of preparing KERNEL now\n"
    "  -r, --relocs FILE         vmlinux.relocs that belongs to a stripped vmlinux\n"
    "  -n, --count N             verify this many layouts, with one disassembly [1]\n"
    "  -s, --seed HEX            the first layout's seed (at most 64 digits); each further one adds one\n"
    "  -l, --layout FILE         a layout written by riffle run --layout-out\n"
    "      --randomize MODE      fgkaslr, kaslr, physical or off [the strongest that the kernel allows];\n"
    "                            fgkaslr+slide, kaslr+slide\n"
    "      --no-cache            prepare KERNEL again\n"
    "      --list                print the name of each verified part and its number of fields\n"
    "      --spoil NAMES         for tests: leave the named parts (comma-separated, or all) stale, each in a\n"
    "                            separate load: each must be noticed\n"
    "  -h, --help                this text\n";

struct options {
	const char *kernel, *relocs, *debug, *prepared, *layout, *spoil;
	unsigned long count;
	bool has_seed, has_mode, no_cache, list;
	enum riffle_mode mode;
	bool slide;
	uint8_t seed[32];
};

struct job {
	struct options options;
	struct opened_kernel kernel;
	struct riffle_image *image;
	struct verify *verify;
	struct layout_file file; /* --layout */
	struct riffle_layout layout;
	uint8_t *memory;
	uint64_t entry; /* image offset where the loaded kernel is entered */
	size_t memory_bytes, workspace_bytes;
	void *workspace;
	const char *blame;
	char words[MODE_REASON_BYTES]; /* of an error, if it has some of its own */
	struct riffle_error error;
};

static bool parse_seed(const char *text, uint8_t seed[32])
{
	size_t digits = strlen(text);

	memset(seed, 0, 32);
	if (!digits || digits > 64 || strspn(text, "0123456789abcdefABCDEF") != digits)
		return false;
	for (size_t i = 0; i < digits; i++) {
		char digit = text[digits - 1 - i], one[2] = {digit, 0};

		seed[31 - i / 2] |= (uint8_t)(strtoul(one, NULL, 16) << (i % 2 ? 4 : 0));
	}
	return true;
}

static void next_seed(uint8_t seed[32])
{
	for (int i = 31; i >= 0 && !++seed[i]; i--)
		;
}

static void print_seed(const uint8_t seed[32])
{
	int i = 0;

	while (i < 31 && !seed[i])
		i++;
	for (; i < 32; i++)
		printf("%02x", seed[i]);
}

static void show_progress(void *opaque, uint64_t done, uint64_t all)
{
	(void)opaque;
	fprintf(stderr, "\rriffle: disassembling %3u %%%s", (unsigned)(done * 100 / all),
		done == all ? "\r\033[K" : "");
}

static int open_file(struct job *job, int *fd, const char *name)
{
	struct stat st;

	*fd = -1;
	if (!name)
		return 0;
	job->blame = name;
	return input_open(fd, &st, name, &job->error);
}

static int open_plan(struct job *job)
{
	const struct options *o = &job->options;
	const struct kernel_request request = {.kernel = o->prepared ? o->prepared : o->kernel,
					       .relocs = o->prepared ? NULL : o->relocs,
					       .no_cache = o->no_cache};
	int status = kernel_open(&job->kernel, &request, &job->error);

	if (status) {
		job->blame = job->kernel.blame;
		return status;
	}
	if (o->prepared && job->kernel.way != KERNEL_IS_PREPARED) {
		job->blame = o->prepared;
		return riffle_fail(&job->error, RIFFLE_ERR_ARGUMENT, "--prepared", "is no prepared kernel");
	}
	if (job->kernel.notice[0])
		fprintf(stderr, "riffle: notice: %s\n", SHOWN(job->kernel.notice));
	return 0;
}

/* Of another build it would say of every field what the kernel does not hold. */
static int check_debug(struct job *job, int debug)
{
	const struct riffle_image *image = job->image;
	struct symbols_elf elf;
	int status;

	job->blame = job->options.debug;
	status = symbols_from_elf(NULL, &elf, debug, &job->error);
	if (!status &&
	    (elf.build_id_bytes != image->build_id_bytes || memcmp(elf.build_id, image->build_id, elf.build_id_bytes)))
		status = riffle_fail(&job->error, RIFFLE_ERR_ARGUMENT, "build id",
				     "is another than the kernel's: this vmlinux is of another build");
	return status;
}

/*
 * Everything is opened first: what follows reads bytes that anybody may have made, and has objdump read them. When it
 * has, this process runs no more programs. How long it all takes is for the number of layouts to say, not for a limit.
 */
static int read_confined(struct job *job, int kernel, int relocs, int debug)
{
	int status = sandbox_drop(0, &job->error);

	if (!status)
		status = sandbox_filter(SANDBOX_RUNS_PROGRAM, &job->error);
	if (!status)
		status = riffle_image_open(&job->image, kernel, relocs, &job->error);
	if (status)
		return status;
	if (job->options.debug)
		status = check_debug(job, debug);
	if (status)
		return status;
	status = verify_open(&job->verify, job->image, debug, isatty(STDERR_FILENO) ? show_progress : NULL, NULL,
			     &job->error);
	return status ? status : sandbox_filter(SANDBOX_PLAIN, &job->error);
}

static int open_image(struct job *job)
{
	int fd = -1, relocs = -1, debug = -1, status;

	status = open_file(job, &fd, job->options.kernel);
	if (!status)
		status = open_file(job, &relocs, job->options.relocs);
	if (!status)
		status = open_file(job, &debug, job->options.debug);
	if (!status) {
		job->blame = job->options.kernel;
		status = read_confined(job, fd, relocs, debug);
	}
	for (const int *opened = (int[]){fd, relocs, debug, -2}; *opened != -2; opened++)
		if (*opened >= 0)
			close(*opened);
	return status;
}

/* The plan must be of the very image that was read, or differences would say nothing. */
static int check_same(struct job *job)
{
	const struct riffle_header *h = job->kernel.plan.header;

	if (h->link_phys == job->image->link_phys && h->link_virt == job->image->link_virt &&
	    h->image_bytes == job->image->image_bytes && h->build_id_bytes == job->image->build_id_bytes &&
	    !memcmp(h->build_id, job->image->build_id, sizeof h->build_id))
		return 0;
	job->blame = job->options.prepared;
	return riffle_fail(&job->error, RIFFLE_ERR_FORMAT, "build id", "is not that of the kernel");
}

static int take_memory(struct job *job)
{
	const struct riffle_plan *plan = &job->kernel.plan;
	size_t order_bytes = (plan->chunk_count * sizeof(uint16_t) + 63) & ~(size_t)63;
	size_t all;

	job->memory_bytes = plan->header->image_bytes + plan->slide_max;
	job->memory = map_huge(&job->memory_bytes);
	job->workspace_bytes = riffle_load_workspace(plan);
	all = order_bytes + job->workspace_bytes + 64;
	job->layout.order = map_huge(&all);
	if (!job->memory || !job->layout.order)
		return riffle_fail_system(&job->error, errno, "mmap", "failed");
	job->layout.order_count = plan->chunk_count;
	job->workspace = (uint8_t *)job->layout.order + order_bytes;
	return 0;
}

/* One stretch of RAM with room for the image at one place: where it lies physically changes none of its bytes. */
static struct riffle_ram ram_of(const struct job *job)
{
	const struct riffle_header *h = job->kernel.plan.header;
	uint64_t at = h->link_phys > RIFFLE_PHYSICAL_FLOOR ? h->link_phys : RIFFLE_PHYSICAL_FLOOR;
	bool slid = job->options.layout ? job->file.layout.slide_count : job->options.slide;
	uint64_t bytes = h->image_bytes + (slid ? job->kernel.plan.slide_max : 0);

	return (struct riffle_ram){.address = job->options.layout ? job->file.layout.physical_base : at,
				   .bytes = (bytes + 4095) & ~UINT64_C(4095),
				   .host = job->memory};
}

static int replay(struct job *job)
{
	uint16_t *order = job->layout.order;
	int status = layout_file_check(&job->file, job->kernel.plan.header, &job->error);

	job->blame = job->options.layout;
	if (status)
		return status;
	job->layout = job->file.layout;
	status = layout_file_slides(&job->file, &job->kernel.plan, &job->layout, &job->error);
	if (status)
		return status;
	job->layout.order = order;
	job->layout.order_count = job->kernel.plan.chunk_count;
	if (job->layout.mode != RIFFLE_MODE_FGKASLR)
		return 0;
	return layout_file_order(&job->file, &job->kernel.plan, order, &job->error);
}

static int draw(struct job *job, const struct riffle_memory *memory)
{
	struct riffle_seeded seeded;
	struct riffle_random random;

	if (job->options.layout)
		return replay(job);
	riffle_random_from_seed(&random, &seeded, job->options.seed);
	job->layout.slide_count = job->options.slide ? job->kernel.plan.block_count : 0;
	return riffle_layout_draw(&job->layout, &job->kernel.plan, memory, job->options.mode, &random, &job->error);
}

static int load(struct job *job)
{
	struct riffle_ram ram = ram_of(job);
	const struct riffle_memory memory = {.ram = &ram, .ram_count = 1};
	struct riffle_loaded loaded;
	int status = riffle_load_shuffled(&loaded, &job->kernel.plan, &job->kernel.source, &job->layout, &memory,
					  RIFFLE_LOAD_CLEAR, NULL, job->workspace, job->workspace_bytes, &job->error);

	if (!status)
		job->entry = loaded.entry - loaded.physical_base;
	return status;
}

/* Ends a line that names the load; differences come on lines below. */
static int compare(struct job *job, bool *different)
{
	struct verify_result result;
	char *lines = NULL;
	size_t bytes = 0;
	FILE *report = open_memstream(&lines, &bytes);
	int status;

	if (!report)
		return riffle_fail_system(&job->error, errno, "report", "cannot be made");
	status = verify_compare(&result, job->verify, &job->kernel.plan, &job->layout, job->memory, job->entry,
				DIFFERENCES_SHOWN, report, &job->error);
	fclose(report);
	if (!status) {
		printf("%llu chunks moved, %llu bytes compared, %llu unwind states looked up, ",
		       (unsigned long long)result.moved, (unsigned long long)result.bytes,
		       (unsigned long long)result.unwinds);
		if (result.different)
			printf("%llu %s\n%s", (unsigned long long)result.different,
			       result.different == 1 ? "difference" : "differences", lines);
		else
			puts("all right");
		*different |= result.different > 0;
	}
	free(lines);
	return status;
}

/* Prints one line for a layout; *different when the loaded kernel is not what it should be. */
static int verify_one(struct job *job, unsigned long number, bool *different)
{
	struct riffle_ram ram = ram_of(job);
	const struct riffle_memory memory = {.ram = &ram, .ram_count = 1};
	int status = draw(job, &memory);

	if (!status)
		status = load(job);
	if (status)
		return status;
	printf("layout %lu: %s, virtual base 0x%llx, ", number, mode_name(&job->layout),
	       (unsigned long long)job->layout.virtual_base);
	if (job->options.layout) {
		printf("replayed: ");
	} else {
		printf("seed ");
		print_seed(job->options.seed);
		printf(": ");
	}
	if (!job->options.spoil)
		return compare(job, different);
	puts("to be spoiled");
	return 0;
}

/* Whether a part is among the names with commas between. */
static bool is_among(const char *names, const char *name)
{
	size_t bytes = strlen(name);

	if (!strcmp(names, "all"))
		return true;
	for (; names; names = strchr(names, ',') ? strchr(names, ',') + 1 : NULL)
		if (!strncmp(names, name, bytes) && (!names[bytes] || names[bytes] == ','))
			return true;
	return false;
}

/* Loads the layout once more for each part to be spoiled. */
static int spoil(struct job *job, bool *different)
{
	unsigned spoiled = 0;
	int status = 0;

	for (unsigned i = 0; i < verify_part_count(job->verify) && !status; i++) {
		const char *name = verify_part(job->verify, i).name;

		if (!is_among(job->options.spoil, name))
			continue;
		spoiled++;
		status = load(job);
		if (status)
			break;
		printf("%s spoiled: ", name);
		if (verify_spoil(job->verify, &job->kernel.plan, &job->layout, name, job->memory, &job->error))
			status = compare(job, different);
		else
			puts("nothing in it depends on this layout");
	}
	if (!status && !spoiled)
		return riffle_fail(&job->error, RIFFLE_ERR_ARGUMENT, "--spoil",
				   "names no part of this kernel; --list prints them");
	return status;
}

static void print_parts(const struct job *job)
{
	for (unsigned i = 0; i < verify_part_count(job->verify); i++) {
		struct verify_part part = verify_part(job->verify, i);

		printf("%-28s %llu\n", part.name, (unsigned long long)part.fields);
	}
}

static void print_rela(const struct job *job)
{
	struct verify_rela rela = verify_rela(job->verify);

	if (rela.present)
		printf("rela: %llu distances, %llu agree with what objdump and the tables say, %llu lead elsewhere, "
		       "%llu are known to .rela alone, %llu of these lead to code\n",
		       (unsigned long long)rela.entries, (unsigned long long)rela.agree,
		       (unsigned long long)rela.other_target, (unsigned long long)rela.unseen,
		       (unsigned long long)rela.unseen_code);
	else if (job->options.debug)
		puts("rela: this vmlinux has no .rela sections");
}

static int choose_mode(struct job *job)
{
	const struct riffle_plan *plan = &job->kernel.plan;
	struct options *o = &job->options;

	if (!o->has_mode)
		o->mode = plan->chunk_count                                 ? RIFFLE_MODE_FGKASLR
			  : plan->header->flags & RIFFLE_KERNEL_RELOCATABLE ? RIFFLE_MODE_KASLR
									    : RIFFLE_MODE_PHYSICAL;
	if (mode_check(job->words, o->mode, o->slide, plan, &job->error)) {
		job->blame = o->kernel;
		return RIFFLE_ERR_UNSUPPORTED;
	}
	if (o->mode != RIFFLE_MODE_FGKASLR && !o->has_mode && plan->header->no_shuffle[0])
		fprintf(stderr, "riffle: notice: this kernel is not shuffled: %s\n", SHOWN(plan->header->no_shuffle));
	return 0;
}

static int run(struct job *job, bool *different)
{
	int status = open_plan(job);

	if (!status && job->options.layout) {
		job->blame = job->options.layout;
		status = layout_file_read(job->options.layout, &job->file, &job->error);
	}
	if (!status)
		status = open_image(job);
	if (!status)
		status = check_same(job);
	if (!status)
		status = choose_mode(job);
	if (!status)
		status = take_memory(job);
	if (status)
		return status;
	print_rela(job);
	if (job->options.list)
		print_parts(job);
	if (verify_chunks(job->verify, &job->kernel.plan, DIFFERENCES_SHOWN, stdout))
		*different = true;
	for (unsigned long i = 0; i < job->options.count && !status; i++) {
		status = verify_one(job, i + 1, different);
		if (!status && job->options.spoil)
			status = spoil(job, different);
		next_seed(job->options.seed);
	}
	return status;
}

static int usage_error(const char *words, const char *value)
{
	fprintf(stderr, "riffle verify: %s%s%s; riffle verify --help shows more\n", words, value ? ": " : "",
		SHOWN(value));
	return EXIT_USAGE;
}

static bool parse_count(const char *text, unsigned long *count)
{
	char *end;

	errno = 0;
	*count = strtoul(text, &end, 10);
	return *text >= '0' && *text <= '9' && !*end && !errno && *count && *count <= COUNT_MAX;
}

enum { RANDOMIZE = 256, NO_CACHE, LIST, SPOIL };

/* 0, or the exit code */
static int parse(struct options *o, int argc, char **argv, bool *done)
{
	static const struct option long_options[] = {
	    {"debug-vmlinux", required_argument, NULL, 'd'},
	    {"prepared", required_argument, NULL, 'p'},
	    {"relocs", required_argument, NULL, 'r'},
	    {"count", required_argument, NULL, 'n'},
	    {"seed", required_argument, NULL, 's'},
	    {"layout", required_argument, NULL, 'l'},
	    {"randomize", required_argument, NULL, RANDOMIZE},
	    {"no-cache", no_argument, NULL, NO_CACHE},
	    {"list", no_argument, NULL, LIST},
	    {"spoil", required_argument, NULL, SPOIL},
	    {"help", no_argument, NULL, 'h'},
	    {0},
	};
	int option;

	opterr = 0;
	while ((option = getopt_long(argc, argv, "d:p:r:n:s:l:h", long_options, NULL)) != -1) {
		switch (option) {
		case 'd':
			o->debug = optarg;
			break;
		case 'p':
			o->prepared = optarg;
			break;
		case 'r':
			o->relocs = optarg;
			break;
		case 'l':
			o->layout = optarg;
			break;
		case NO_CACHE:
			o->no_cache = true;
			break;
		case LIST:
			o->list = true;
			break;
		case SPOIL:
			o->spoil = optarg;
			break;
		case 'n':
			if (!parse_count(optarg, &o->count))
				return usage_error("--count must be a number from 1 to 1000000", optarg);
			break;
		case 's':
			o->has_seed = parse_seed(optarg, o->seed);
			if (!o->has_seed)
				return usage_error("--seed must be 1 to 64 hexadecimal digits", optarg);
			break;
		case RANDOMIZE:
			o->has_mode = mode_parse(optarg, &o->mode, &o->slide);
			if (!o->has_mode)
				return usage_error("--randomize must be off, physical, kaslr, fgkaslr, or one of these "
						   "two with +slide",
						   optarg);
			break;
		case 'h':
			fputs(help, stdout);
			*done = true;
			return 0;
		default:
			say_no_option("verify", argv[optind - 1], long_options);
			return EXIT_USAGE;
		}
	}
	if (optind + 1 != argc)
		return usage_error("one kernel is asked for", NULL);
	if (o->layout && (o->has_seed || o->has_mode || o->count > 1))
		return usage_error("--layout says everything: no --seed, --randomize or --count", NULL);
	o->kernel = argv[optind];
	return 0;
}

int command_verify(int argc, char **argv)
{
	struct job job = {.options = {.count = 1}};
	bool different = false, done = false;
	int code = parse(&job.options, argc, argv, &done);

	if (code || done)
		return code;
	if (!job.options.has_seed && getrandom(job.options.seed, 32, 0) != 32) {
		fprintf(stderr, "riffle: getrandom: %s\n", strerror(errno));
		return EXIT_FAILURE;
	}
	job.blame = job.options.kernel;
	if (run(&job, &different)) {
		fflush(stdout);
		report_error(job.blame, &job.error);
		code = EXIT_FAILURE;
	} else if (different) {
		code = EXIT_DIFFERENT;
	}
	verify_close(job.verify);
	if (job.image)
		riffle_image_close(job.image);
	layout_file_free(&job.file);
	return code;
}

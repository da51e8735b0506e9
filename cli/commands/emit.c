/* SPDX-License-Identifier: Apache-2.0 */
/* riffle emit: a kernel goes in, and comes out as an ELF with a layout of its own, for a monitor that knows no layouts.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <riffle/riffle.h>

#include "cli/commands.h"
#include "cli/commands/emit_image.h"
#include "cli/commands/emit_options.h"
#include "common/fail.h"
#include "host/huge.h"
#include "host/input.h"
#include "host/layout_json.h"
#include "host/output.h"
#include "host/pool.h"
#include "host/shown.h"
#include "kernel/kernel.h"

#define EXIT_NOT_RUN 126
#define EXIT_NOT_FOUND 127
#define BELOW_INITRD (UINT64_C(1) << 20) /* monitors end their initrd up to this much below the end of RAM */
#define HELPERS_MAX 3u

/* All that one call holds. */
struct emit {
	struct emit_options options;
	struct opened_kernel kernel;
	bool kernel_opened;
	struct riffle_ram ram;
	struct riffle_range top;
	struct riffle_memory memory;
	struct riffle_layout layout;
	uint16_t *order; /* layout.order, and where a shuffled load works: one mapping */
	void *workspace;
	size_t workspace_bytes, shuffle_bytes;
	struct output output; /* with a file name */
	bool output_made;
	int fd;
	const char *blame;             /* the file an error is about */
	char words[MODE_REASON_BYTES]; /* an error's problem that is not known beforehand */
	struct riffle_error error;
};

static int open_kernel(struct emit *emit)
{
	const struct emit_options *o = &emit->options;
	const struct kernel_request request = {.kernel = o->kernel,
					       .relocs = o->relocs,
					       .cache_directory = o->cache_directory,
					       .base_alone = !o->randomize_auto && !o->slide &&
							     o->randomize != RIFFLE_MODE_FGKASLR,
					       .no_cache = o->no_cache};
	int status = kernel_open(&emit->kernel, &request, &emit->error);

	if (status) {
		emit->blame = emit->kernel.blame;
		return status;
	}
	emit->kernel_opened = true;
	if (emit->kernel.notice[0])
		fprintf(stderr, "riffle: notice: %s\n", emit->kernel.notice);
	return RIFFLE_OK;
}

/* What the options and the kernel together make of --randomize. */
static int choose_mode(struct emit *emit)
{
	const struct riffle_header *header = emit->kernel.plan.header;
	bool relocatable = header->flags & RIFFLE_KERNEL_RELOCATABLE;
	struct emit_options *o = &emit->options;
	int status;

	emit->blame = o->kernel;
	if (o->randomize_auto && !relocatable)
		return riffle_fail(&emit->error, RIFFLE_ERR_UNSUPPORTED, "relocations",
				   "there are none in this kernel, so KASLR is impossible; --randomize=physical or "
				   "--randomize=off emits it with less");
	if (o->randomize_auto)
		mode_automatic(&o->randomize, &o->slide, &emit->kernel.plan, &emit->memory, 0);
	status = mode_check(emit->words, o->randomize, o->slide, &emit->kernel.plan, &emit->error);
	if (status)
		return status;
	emit->layout.slide_count = o->slide ? emit->kernel.plan.block_count : 0;
	emit->blame = NULL;
	return RIFFLE_OK;
}

/* The RAM that every monitor has in one piece, without its end, where initrds are put. */
static int describe_memory(struct emit *emit)
{
	uint64_t end = emit->options.memory_bytes < EMIT_TOP_MAX ? emit->options.memory_bytes : EMIT_TOP_MAX;
	uint64_t taken = emit->options.reserve_top + BELOW_INITRD;

	if (taken >= end)
		return riffle_fail_expected(&emit->error, RIFFLE_ERR_SPACE, "--reserve-top",
					    "leaves no memory for a kernel", emit->options.reserve_top, end);
	emit->ram = (struct riffle_ram){.bytes = end};
	emit->top = (struct riffle_range){end - taken, taken};
	emit->memory =
	    (struct riffle_memory){.ram = &emit->ram, .ram_count = 1, .reserved = &emit->top, .reserved_count = 1};
	return RIFFLE_OK;
}

static int take_shuffle_memory(struct emit *emit)
{
	const struct riffle_plan *plan = &emit->kernel.plan;
	size_t order_bytes = (plan->chunk_count * sizeof *emit->order + 63) & ~(size_t)63;

	emit->workspace_bytes = riffle_load_workspace(plan);
	emit->shuffle_bytes = order_bytes + emit->workspace_bytes;
	emit->order = map_huge(&emit->shuffle_bytes);
	if (!emit->order)
		return riffle_fail_full(&emit->error, RIFFLE_ERR_MEMORY, errno, "workspace", "cannot be allocated", 1,
					emit->shuffle_bytes, 0, 0);
	emit->workspace = (uint8_t *)emit->order + order_bytes;
	emit->layout.order = emit->order;
	emit->layout.order_count = plan->chunk_count;
	return RIFFLE_OK;
}

static int draw(struct emit *emit)
{
	int status = emit->options.randomize == RIFFLE_MODE_FGKASLR ? take_shuffle_memory(emit) : RIFFLE_OK;

	if (status)
		return status;
	emit->blame = emit->options.kernel;
	status = riffle_layout_draw(&emit->layout, &emit->kernel.plan, &emit->memory, emit->options.randomize, NULL,
				    &emit->error);
	if (!status)
		emit->blame = NULL;
	return status;
}

static void tell_why_not_more(const struct emit *emit)
{
	char text[2][MODE_REASON_BYTES];
	unsigned count = mode_reasons(text, emit->layout.mode, emit->layout.slide_count, &emit->kernel.plan, NULL);

	for (unsigned i = 0; i < count; i++)
		fprintf(stderr, "riffle: notice: %s\n", SHOWN(text[i]));
}

/* Says how much is randomised, and never where. */
static void announce(const struct emit *emit)
{
	const struct riffle_plan *plan = &emit->kernel.plan;
	const char *before = ", slides of ", *open = mode_kallsyms_stays_open(plan, emit->layout.mode);
	struct riffle_slots slots;
	int status = emit->layout.slide_count
			 ? riffle_layout_slots_slid(&slots, plan, &emit->memory, emit->layout.mode, NULL)
			 : riffle_layout_slots(&slots, plan, &emit->memory, emit->layout.mode, NULL);

	if (emit->options.randomize_auto)
		tell_why_not_more(emit);
	if (open)
		fprintf(stderr, "riffle: notice: %s\n", open);
	if (emit->layout.mode == RIFFLE_MODE_OFF || status) {
		fprintf(stderr, "riffle: randomize=%s\n", mode_name(&emit->layout));
		return;
	}
	fprintf(stderr, "riffle: randomize=%s: virtual one of %llu slots (%.1f bits), physical one of %llu (%.1f bits)",
		mode_name(&emit->layout), (unsigned long long)slots.virtual_, log2((double)slots.virtual_),
		(unsigned long long)slots.physical, log2((double)slots.physical));
	if (emit->layout.mode == RIFFLE_MODE_FGKASLR)
		fprintf(stderr, ", %u chunks of functions in any order", plan->chunk_count);
	for (uint32_t i = 1; i < emit->layout.slide_count; i++)
		if (plan->blocks[i].gaps > 1) {
			fprintf(stderr, "%s%s %.1f bits", before, block_name(plan->blocks[i].kind),
				log2((double)plan->blocks[i].gaps));
			before = ", ";
		}
	fputc('\n', stderr);
}

/* fd:N: what its owner opened, and nothing that has contents. */
static int open_descriptor(struct emit *emit, const char *digits)
{
	struct stat st;
	char *end;
	long number;

	errno = 0;
	number = strtol(digits, &end, 10);
	if (*digits < '0' || *digits > '9' || *end || errno || number > INT_MAX)
		return riffle_fail(&emit->error, RIFFLE_ERR_ARGUMENT, "fd:N", "N is no descriptor's number");
	emit->fd = fcntl((int)number, F_DUPFD_CLOEXEC, 3);
	if (emit->fd < 0 || fstat(emit->fd, &st) < 0)
		return riffle_fail_system(&emit->error, errno, "output", "is no open descriptor");
	if (!S_ISREG(st.st_mode) || (fcntl(emit->fd, F_GETFL) & O_ACCMODE) != O_RDWR)
		return riffle_fail(&emit->error, RIFFLE_ERR_ARGUMENT, "output",
				   "is not a regular file open for reading and writing");
	if (st.st_size)
		return riffle_fail_found(&emit->error, RIFFLE_ERR_ARGUMENT, "output",
					 "has contents, and is not overwritten", (uint64_t)st.st_size);
	return RIFFLE_OK;
}

/* Readable by its owner alone from the first moment on. */
static int open_file(struct emit *emit, const char *name)
{
	mode_t before = umask(077);
	int status = output_file_create(&emit->output, name, false, &emit->error);

	umask(before);
	if (status && emit->error.sys_errno == EEXIST)
		emit->error.problem = "is there already, and is never written over";
	if (status)
		return status;
	emit->output_made = true;
	emit->fd = dup(emit->output.fd);
	return emit->fd < 0 ? riffle_fail_system(&emit->error, errno, "output", "cannot be made") : RIFFLE_OK;
}

static int open_output(struct emit *emit)
{
	const char *name = emit->options.output;
	int status;

	if (emit->options.monitor) {
		/* inherited by the monitor */
		emit->fd = memfd_create("riffle-kernel", 0);
		return emit->fd < 0 ? riffle_fail_system(&emit->error, errno, "memfd_create", "failed") : RIFFLE_OK;
	}
	emit->blame = name;
	status = strncmp(name, "fd:", 3) ? open_file(emit, name) : open_descriptor(emit, name + 3);
	if (!status)
		emit->blame = NULL;
	return status;
}

static unsigned helpers(void)
{
	cpu_set_t set;
	unsigned count;

	if (sched_getaffinity(0, sizeof set, &set))
		return 0;
	count = (unsigned)CPU_COUNT(&set) - 1;
	return count < HELPERS_MAX ? count : HELPERS_MAX;
}

static int load(struct emit *emit)
{
	struct riffle_workers workers = {0};
	struct pool *pool = pool_start(helpers());
	const struct emit_load load = {.plan = &emit->kernel.plan,
				       .source = &emit->kernel.source,
				       .layout = &emit->layout,
				       .workers = &workers,
				       .workspace = emit->workspace,
				       .workspace_bytes = emit->workspace_bytes};
	int status;

	if (!pool)
		return riffle_fail(&emit->error, RIFFLE_ERR_MEMORY, "threads", "cannot be started");
	pool_workers(pool, &workers);
	status = emit_image_write(emit->fd, &load, &emit->error);
	pool_end(pool);
	if (status)
		emit->blame = strcmp(emit->error.field, "output") ? emit->options.kernel : emit->options.output;
	return status;
}

static int write_layout(struct emit *emit)
{
	struct layout_file file;
	int status;

	if (!emit->options.layout_out)
		return RIFFLE_OK;
	emit->blame = emit->options.layout_out;
	status = layout_file_describe(&file, &emit->layout, &emit->kernel.plan, &emit->error);
	if (!status)
		status = layout_file_write(emit->options.layout_out, &file, &emit->error);
	layout_file_free(&file);
	if (!status)
		emit->blame = NULL;
	return status;
}

/* The layout file of a kernel that got no name would be of no use. */
static int name_output(struct emit *emit)
{
	int status;

	if (!emit->output_made)
		return RIFFLE_OK;
	emit->output_made = false;
	status = output_file_finish(&emit->output, &emit->error);
	if (status && emit->options.layout_out)
		unlink(emit->options.layout_out);
	emit->blame = status ? emit->options.output : NULL;
	return status;
}

static int run(struct emit *emit)
{
	int status;

	if ((status = open_kernel(emit)) || (status = describe_memory(emit)) || (status = choose_mode(emit)) ||
	    (status = draw(emit)) || (status = open_output(emit)) || (status = load(emit)) ||
	    (status = write_layout(emit)) || (status = name_output(emit)))
		return status;
	announce(emit);
	return RIFFLE_OK;
}

/* A descriptor that was given and not filled is left as it was found. */
static void finish(struct emit *emit, bool failed)
{
	if (emit->output_made)
		output_file_abandon(&emit->output);
	if (emit->order) {
		explicit_bzero(emit->order, emit->layout.order_count * sizeof *emit->order);
		munmap(emit->order, emit->shuffle_bytes);
	}
	explicit_bzero(&emit->layout, sizeof emit->layout);
	if (emit->kernel_opened)
		kernel_close(&emit->kernel);
	if (emit->fd >= 0 && (failed || !emit->options.monitor))
		close(emit->fd);
}

/* The monitor's arguments, the kernel's name in place of each @; NULL without memory. */
static char **monitor_arguments(char *const *given, const char *name)
{
	size_t count = 0;
	char **arguments;

	while (given[count])
		count++;
	arguments = calloc(count + 1, sizeof *arguments);
	for (size_t i = 0; arguments && i < count; i++) {
		int before = i ? emit_place_of_kernel(given[i]) : -1;

		arguments[i] = given[i];
		if (before >= 0 && asprintf(&arguments[i], "%.*s%s", before, given[i], name) < 0)
			return NULL;
	}
	return arguments;
}

static int execute(const struct emit *emit)
{
	char name[40], **arguments;
	int code;

	snprintf(name, sizeof name, "/proc/self/fd/%d", emit->fd);
	arguments = monitor_arguments(emit->options.monitor, name);
	if (!arguments) {
		fputs("riffle: out of memory\n", stderr);
		return EXIT_FAILURE;
	}
	execvp(arguments[0], arguments);
	code = errno == ENOENT ? EXIT_NOT_FOUND : EXIT_NOT_RUN;
	fprintf(stderr, "riffle: %s: cannot be run: %s\n", arguments[0], strerror(errno));
	return code;
}

int command_emit(int argc, char **argv)
{
	struct emit emit = {.fd = -1, .layout = RIFFLE_LAYOUT_INIT};
	int status;

	switch (emit_options_parse(&emit.options, argc, argv)) {
	case EMIT_HELPED:
		return EXIT_SUCCESS;
	case EMIT_WRONG:
		return EXIT_USAGE;
	case EMIT_GO:
		break;
	}
	/* neither a core file nor another process of this user may show where the guest's kernel lies */
	prctl(PR_SET_DUMPABLE, 0);
	status = run(&emit);
	if (status)
		report_error(emit.blame, &emit.error);
	finish(&emit, status != 0);
	if (status)
		return EXIT_FAILURE;
	return emit.options.monitor ? execute(&emit) : EXIT_SUCCESS;
}

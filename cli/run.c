/* SPDX-License-Identifier: Apache-2.0 */
/* riffle run: a kernel file goes in, a microVM runs with its kernel where nobody could know. */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <riffle/riffle.h>

#include "cli/commands.h"
#include "cli/input.h"
#include "cli/kernel.h"
#include "cli/layout_json.h"
#include "cli/phases.h"
#include "cli/pool.h"
#include "cli/run_options.h"
#include "cli/huge.h"
#include "common/fail.h"
#include "monitor/vm.h"

/* All that one run holds. */
struct run {
	struct run_options options;
	struct opened_kernel kernel;
	bool kernel_opened;
	struct vm *vm;
	struct riffle_machine machine;
	uint8_t rng_seed[32];
	struct riffle_range reserved[8];
	struct riffle_memory memory;
	int initrd_fd;
	struct riffle_layout layout;
	struct riffle_loaded loaded;
	struct riffle_boot_registers registers;
	struct phases phases;
	uint16_t *order;        /* layout.order, and where a shuffled load works: one mapping, gone before the guest runs */
	void *workspace;
	size_t workspace_bytes, shuffle_bytes;
	const char *blame;      /* the file an error is about */
	char words[400];        /* an error's problem that is not known beforehand */
	struct riffle_error error;
};

static int fail_run(const struct run *run)
{
	report_error(run->blame, &run->error);
	return EXIT_FAILURE;
}

static int open_kernel(struct run *run)
{
	static const char *const way_name[] = {[KERNEL_IS_PREPARED] = "open, prepared file",
					       [KERNEL_CACHE_HIT] = "open, cache hit",
					       [KERNEL_CACHE_MISS] = "open, prepare"};
	const struct run_options *o = &run->options;
	/* most of a plan is for the shuffle alone; a layout that is replayed may be one */
	const bool shuffle = o->layout || (!o->nokaslr && (o->randomize_auto || o->randomize == RIFFLE_MODE_FGKASLR));
	const struct kernel_request request = {.kernel = o->kernel,
					       .relocs = o->relocs,
					       .cache_directory = o->cache_directory,
					       .base_alone = !shuffle,
					       .no_cache = o->no_cache};
	int status = kernel_open(&run->kernel, &request, &run->error);

	if (status) {
		run->blame = run->kernel.blame;
		return status;
	}
	run->kernel_opened = true;
	if (run->kernel.notice[0])
		fprintf(stderr, "riffle: notice: %s\n", run->kernel.notice);
	phases_end(&run->phases, way_name[run->kernel.way]);
	return RIFFLE_OK;
}

/* FGKASLR or a reason: the one that preparing the kernel found. */
static int need_chunks(struct run *run)
{
	const struct riffle_header *header = run->kernel.plan.header;

	if (run->kernel.plan.chunk_count)
		return RIFFLE_OK;
	run->blame = run->options.kernel;
	snprintf(run->words, sizeof run->words, "this kernel cannot be shuffled (%s); %s",
		 header->no_shuffle[0] ? header->no_shuffle : "it was prepared without chunks",
		 header->flags & RIFFLE_KERNEL_RELOCATABLE
			 ? "--randomize=kaslr moves it as a whole"
			 : "without relocations --randomize=physical or off is all that it can have");
	return riffle_fail(&run->error, RIFFLE_ERR_UNSUPPORTED, "--randomize=fgkaslr", run->words);
}

/* What the guest's command line, the options and the kernel together make of --randomize. */
static int choose_mode(struct run *run)
{
	struct run_options *o = &run->options;

	if (o->nokaslr) {
		if (o->randomize_auto || o->randomize != RIFFLE_MODE_OFF)
			fputs("riffle: notice: nokaslr on the command line: the kernel is not randomised\n", stderr);
		o->randomize = RIFFLE_MODE_OFF;
	} else if (o->randomize_auto) {
		if (!(run->kernel.plan.header->flags & RIFFLE_KERNEL_RELOCATABLE)) {
			run->blame = o->kernel;
			return riffle_fail(&run->error, RIFFLE_ERR_UNSUPPORTED, "relocations",
					   "there are none in this kernel, so KASLR is impossible; --randomize=physical "
					   "or --randomize=off boots it with less");
		}
		o->randomize = run->kernel.plan.chunk_count ? RIFFLE_MODE_FGKASLR : RIFFLE_MODE_KASLR;
	}
	return o->randomize == RIFFLE_MODE_FGKASLR ? need_chunks(run) : RIFFLE_OK;
}

static int new_vm(struct run *run)
{
	const struct vm_config config = {.vcpus = run->options.cpus,
					 .memory_bytes = run->options.memory_bytes,
					 .huge_pages = run->options.huge_pages,
					 .console_in = STDIN_FILENO,
					 .console_out = STDOUT_FILENO,
					 .accept_emulation = run->options.accept_emulation,
					 .boot_timer = run->options.boot_timer};
	int status = vm_new(&run->vm, &config, &run->error);

	if (status)
		return status;
	vm_describe(run->vm, &run->machine);
	run->machine.command_line = run->options.command_line;
	phases_end(&run->phases, "memory");
	/* a guest seed of its own, never from --seed: a replayed layout must not replay the guest's secrets */
	if (getrandom(run->rng_seed, sizeof run->rng_seed, 0) != sizeof run->rng_seed)
		return riffle_fail_full(&run->error, RIFFLE_ERR_RANDOM, errno, "getrandom", "failed", 0, 0, 0, 0);
	run->machine.rng_seed = run->rng_seed;
	run->machine.rng_seed_bytes = sizeof run->rng_seed;
	return RIFFLE_OK;
}

static int open_vm(struct run *run)
{
	int status = vm_open(run->vm, &run->error);

	if (!status)
		status = vm_prepare_vcpus(run->vm, &run->error);
	if (!status)
		vm_describe(run->vm, &run->machine);
	return status;
}

static uint8_t *guest_pointer(const struct riffle_machine *machine, uint64_t address, uint64_t bytes)
{
	for (size_t i = 0; i < machine->ram_count; i++) {
		const struct riffle_ram *ram = &machine->ram[i];

		if (address >= ram->address && address - ram->address <= ram->bytes &&
		    bytes <= ram->bytes - (address - ram->address))
			return (uint8_t *)ram->host + (address - ram->address);
	}
	return NULL;
}

/* Finds the initrd's place, by its size alone; its bytes come in load_initrd(). */
static int place_initrd(struct run *run, const struct riffle_plan *plan)
{
	struct stat st;

	if (!run->options.initrd)
		return RIFFLE_OK;
	run->blame = run->options.initrd;
	run->initrd_fd = open(run->options.initrd, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (run->initrd_fd < 0)
		return riffle_fail_system(&run->error, errno, "open", "failed");
	if (fstat(run->initrd_fd, &st))
		return riffle_fail_system(&run->error, errno, "fstat", "failed");
	if (!S_ISREG(st.st_mode) || !st.st_size)
		return riffle_fail(&run->error, RIFFLE_ERR_FORMAT, "initrd",
				   S_ISREG(st.st_mode) ? "is empty" : "is not a regular file");
	run->machine.initrd_bytes = (uint64_t)st.st_size;
	if (riffle_boot_place_initrd(&run->machine.initrd_address, &run->machine, plan, run->machine.initrd_bytes,
				     &run->error))
		return run->error.status;
	run->blame = NULL;
	return RIFFLE_OK;
}

static int load_initrd(struct run *run)
{
	struct riffle_source source;
	int status;

	if (!run->options.initrd)
		return RIFFLE_OK;
	run->blame = run->options.initrd;
	status = riffle_source_from_fd(&source, run->initrd_fd, &run->error);
	if (!status)
		status = source.read(source.opaque, 0,
				     guest_pointer(&run->machine, run->machine.initrd_address,
						   run->machine.initrd_bytes),
				     run->machine.initrd_bytes, &run->error);
	close(run->initrd_fd);
	run->initrd_fd = -1;
	if (!status)
		run->blame = NULL;
	phases_end(&run->phases, "initrd");
	return status;
}

static double bits(uint64_t slots)
{
	return slots ? log2((double)slots) : 0;
}

/* Says how much is randomised, and never where. */
static void announce(const struct run *run)
{
	const char *replay = run->options.layout ? ", replayed from --layout: predictable"
			     : run->options.has_seed ? ", replayed from --seed: predictable"
						     : "";
	struct riffle_slots slots;
	struct riffle_error error;
	char shuffled[64] = "";

	if (run->layout.mode == RIFFLE_MODE_FGKASLR)
		snprintf(shuffled, sizeof shuffled, ", %u chunks of functions in any order%s",
			 run->kernel.plan.chunk_count, run->options.lazy_tables ? ", tables stale" : "");
	if (riffle_layout_slots(&slots, &run->kernel.plan, &run->memory, run->layout.mode, &error))
		return;
	if (run->layout.mode == RIFFLE_MODE_OFF)
		fprintf(stderr, "riffle: randomize=off%s\n", replay);
	else
		fprintf(stderr,
			"riffle: randomize=%s: virtual one of %llu slots (%.1f bits), physical one of %llu (%.1f bits)%s%s\n",
			mode_name(run->layout.mode), (unsigned long long)slots.virtual_, bits(slots.virtual_),
			(unsigned long long)slots.physical, bits(slots.physical), shuffled, replay);
}

/* Memory for an order and for the work of a shuffled load, in huge pages; given back before the guest runs. */
static int take_shuffle_memory(struct run *run)
{
	const struct riffle_plan *plan = &run->kernel.plan;
	size_t order_bytes = (plan->chunk_count * sizeof *run->order + 63) & ~(size_t)63;

	if (!plan->chunk_count)
		return RIFFLE_OK;
	run->workspace_bytes = riffle_load_workspace(plan);
	run->shuffle_bytes = order_bytes + run->workspace_bytes;
	run->order = map_huge(&run->shuffle_bytes);
	if (!run->order)
		return riffle_fail_full(&run->error, RIFFLE_ERR_MEMORY, errno, "workspace", "cannot be had", 1,
					run->shuffle_bytes, 0, 0);
	run->workspace = (uint8_t *)run->order + order_bytes;
	run->layout.order = run->order;
	run->layout.order_count = plan->chunk_count;
	return RIFFLE_OK;
}

static void give_shuffle_memory(struct run *run)
{
	if (run->order)
		munmap(run->order, run->shuffle_bytes);
	run->order = NULL;
	run->layout.order = NULL;
}

static int take_layout(struct run *run, const struct layout_file *file)
{
	const struct riffle_plan *plan = &run->kernel.plan;
	int status = layout_file_check(file, plan->header, &run->error);

	if (status)
		return status;
	run->layout.mode = file->layout.mode;
	run->layout.physical_base = file->layout.physical_base;
	run->layout.virtual_base = file->layout.virtual_base;
	if (file->layout.mode != RIFFLE_MODE_FGKASLR)
		return RIFFLE_OK;
	status = take_shuffle_memory(run);
	return status ? status : layout_file_order(file, plan, run->order, &run->error);
}

static int replay_layout(struct run *run)
{
	struct layout_file file;
	int status;

	run->blame = run->options.layout;
	status = layout_file_read(run->options.layout, &file, &run->error);
	if (status)
		return status;
	status = take_layout(run, &file);
	layout_file_free(&file);
	if (!status)
		status = riffle_layout_check(&run->layout, &run->kernel.plan, &run->memory, &run->error);
	if (!status)
		run->blame = NULL;
	return status;
}

static int choose_layout(struct run *run)
{
	struct riffle_seeded seeded;
	struct riffle_random random;
	int status;

	run->memory = (struct riffle_memory){.ram = run->machine.ram,
					     .ram_count = run->machine.ram_count,
					     .reserved = run->reserved};
	run->memory.reserved_count = riffle_boot_reserved(&run->machine, run->reserved,
							  sizeof run->reserved / sizeof *run->reserved);
	if (run->options.layout)
		return replay_layout(run);
	if (run->options.has_seed)
		riffle_random_from_seed(&random, &seeded, run->options.seed);
	if (run->options.randomize == RIFFLE_MODE_FGKASLR) {
		status = take_shuffle_memory(run);
		if (status)
			return status;
	}
	run->blame = run->options.kernel;
	status = riffle_layout_draw(&run->layout, &run->kernel.plan, &run->memory, run->options.randomize,
				    run->options.has_seed ? &random : NULL, &run->error);
	if (!status)
		run->blame = NULL;
	return status;
}

static int write_layout(struct run *run)
{
	struct layout_file file;
	int status;

	if (!run->options.layout_out)
		return RIFFLE_OK;
	run->blame = run->options.layout_out;
	status = layout_file_describe(&file, &run->layout, &run->kernel.plan, &run->error);
	if (!status)
		status = layout_file_write(run->options.layout_out, &file, &run->error);
	layout_file_free(&file);
	if (!status)
		run->blame = NULL;
	return status;
}

/*
 * The load runs in a thread of its own while this one opens KVM and makes the vCPUs; whichever of the two is done first
 * helps with what is left of the load.
 */
struct loader {
	struct run *run;
	struct pool *pool;
	pthread_t thread;
	uint64_t ns;            /* what the load took, and */
	uint64_t cpu_ns;        /* how much of a processor, in both threads */
	int status;
	struct riffle_error error;
};

static void *load_thread(void *opaque)
{
	struct loader *loader = opaque;
	struct run *run = loader->run;
	struct riffle_workers workers;
	uint64_t cpu = phases_thread_cpu();
	struct phases clock;

	phases_start(&clock, 0);
	pool_workers(loader->pool, &workers);
	loader->status = riffle_load_shuffled(&run->loaded, &run->kernel.plan, &run->kernel.source, &run->layout,
					      &run->memory, run->options.lazy_tables ? RIFFLE_LOAD_LAZY_TABLES : 0,
					      &workers, run->workspace, run->workspace_bytes, &loader->error);
	loader->ns = phases_lap(&clock);
	loader->cpu_ns = phases_thread_cpu() - cpu;
	return NULL;
}

static void note_load(struct run *run, const struct loader *loader)
{
	double share = run->loaded.load_ticks
			       ? (double)run->loaded.relocate_ticks / (double)run->loaded.load_ticks
			       : 0;

	phases_end(&run->phases, "vCPU set-up, load beside it");
	phases_add(&run->phases, "  load", (uint64_t)((double)loader->ns * (1 - share)));
	phases_add(&run->phases, "  relocate", (uint64_t)((double)loader->ns * share));
	phases_add(&run->phases, "  CPU of load and relocate", loader->cpu_ns);
}

static int load_kernel_and_open_vm(struct run *run)
{
	struct loader loader = {.run = run, .pool = pool_start(0)};
	uint64_t cpu;
	int status;

	if (!loader.pool)
		return riffle_fail(&run->error, RIFFLE_ERR_MEMORY, "threads", "cannot be had");
	if (pool_thread(&loader.thread, load_thread, &loader)) {
		pool_end(loader.pool);
		return riffle_fail_system(&run->error, errno, "pthread_create", "failed");
	}
	status = open_vm(run);
	cpu = phases_thread_cpu();
	pool_help(loader.pool);
	cpu = phases_thread_cpu() - cpu;
	pthread_join(loader.thread, NULL);
	loader.cpu_ns += cpu;
	pool_end(loader.pool);
	if (!status && loader.status) {
		run->blame = run->options.kernel;
		run->error = loader.error;
		status = loader.status;
	}
	if (!status)
		note_load(run, &loader);
	return status;
}

static int start_direct(struct run *run)
{
	int status;

	if ((status = open_kernel(run)) || (status = choose_mode(run)) || (status = new_vm(run)) ||
	    (status = place_initrd(run, &run->kernel.plan)) || (status = choose_layout(run)))
		return status;
	announce(run);
	if ((status = load_kernel_and_open_vm(run)))
		return status;
	status = riffle_boot_write(&run->registers, &run->machine, &run->kernel.plan, &run->loaded, &run->error);
	if (status)
		return status;
	phases_end(&run->phases, "boot tables");
	/* of a guest that will run, and of no other */
	if ((status = load_initrd(run)) || (status = write_layout(run)))
		return status;
	/* plan and order have done their work: megabytes that need not stay while the guest runs */
	give_shuffle_memory(run);
	kernel_close(&run->kernel);
	run->kernel_opened = false;
	return RIFFLE_OK;
}

/* The paper's baseline: the guest's own bootstrap unpacks and randomises the kernel. */
static int start_bootstrap(struct run *run)
{
	struct riffle_source source;
	void *file;
	struct stat st;
	int fd, status;

	run->blame = run->options.kernel;
	status = input_open(&fd, &st, run->options.kernel, &run->error);
	if (status)
		return status;
	status = riffle_source_from_fd(&source, fd, &run->error);
	if (!status && (!source.bytes || source.bytes > UINT64_C(1) << 30))
		status = riffle_fail_found(&run->error, RIFFLE_ERR_FORMAT, "file", "is empty or larger than 1 GiB",
					   source.bytes);
	if (status) {
		close(fd);
		return status;
	}
	file = malloc(source.bytes);
	if (!file)
		status = riffle_fail(&run->error, RIFFLE_ERR_MEMORY, "file", "cannot be held");
	else
		status = source.read(source.opaque, 0, file, source.bytes, &run->error);
	close(fd);
	phases_end(&run->phases, "open");
	if (!status && !run->options.randomize_auto && run->options.randomize == RIFFLE_MODE_OFF &&
	    !run->options.nokaslr)
		strncat(run->options.command_line, " nokaslr",
			sizeof run->options.command_line - strlen(run->options.command_line) - 1);
	if (status || (status = new_vm(run)) || (status = open_vm(run)) || (status = place_initrd(run, NULL)))
		goto out;
	run->blame = run->options.kernel;
	phases_end(&run->phases, "vCPU set-up");
	status = riffle_boot_write_bzimage(&run->registers, &run->machine, file, source.bytes, &run->error);
	phases_end(&run->phases, "load");
	if (!status)
		run->blame = NULL;
	if (!status)
		status = load_initrd(run);
out:
	free(file);
	return status;
}

static void first_run(void *opaque)
{
	struct run *run = opaque;

	phases_end(&run->phases, "first guest instruction");
	phases_add(&run->phases, "CPU, all threads", phases_process_cpu());
	phases_total(&run->phases);
	if (run->options.boot_timer)
		phases_print(&run->phases, stderr);
}

static int exit_code(enum vm_end end, const struct vm *vm)
{
	switch (end) {
	case VM_END_POWEROFF:
		return RUN_EXIT_POWEROFF;
	case VM_END_RESET:
		return RUN_EXIT_RESET;
	case VM_END_TRIPLE_FAULT:
		return RUN_EXIT_TRIPLE_FAULT;
	case VM_END_ESCAPE:
		return RUN_EXIT_ESCAPE;
	case VM_END_SIGNAL:
		return 128 + vm_end_signal(vm);
	case VM_END_ERROR:
		break;
	}
	return EXIT_FAILURE;
}

/* What the guest told the boot timer. */
static void print_timer(const struct run *run)
{
	unsigned count;
	const struct boot_mark *marks = vm_boot_marks(run->vm, &count);

	if (vm_boot_timer(run->vm))
		phases_print_init(&run->phases, vm_boot_timer(run->vm), stderr);
	for (unsigned i = 0; i < count; i++)
		phases_print_mark(&run->phases, marks[i].value, marks[i].ns, stderr);
}

static void finish(struct run *run)
{
	if (run->initrd_fd >= 0)
		close(run->initrd_fd);
	give_shuffle_memory(run);
	if (run->kernel_opened)
		kernel_close(&run->kernel);
	if (run->vm)
		vm_destroy(run->vm);
}

int command_run(int argc, char **argv)
{
	struct run run = {.initrd_fd = -1};
	enum vm_end end = VM_END_ERROR;
	int status, code;

	phases_start(&run.phases, 0);
	switch (run_options_parse(&run.options, argc, argv)) {
	case RUN_HELPED:
		return 0;
	case RUN_WRONG:
		return EXIT_USAGE;
	case RUN_GO:
		break;
	}
	if (run.options.start_time)
		phases_start(&run.phases, run.options.start_time);
	/* neither a core file nor another process of this user may show where the guest's kernel lies */
	prctl(PR_SET_DUMPABLE, 0);
	status = run.options.boot == BOOT_BOOTSTRAP ? start_bootstrap(&run) : start_direct(&run);
	if (!status)
		status = vm_run(run.vm, &run.registers, first_run, &run, &end, &run.error);
	code = status || end == VM_END_ERROR ? fail_run(&run) : exit_code(end, run.vm);
	if (!status && run.options.boot_timer)
		print_timer(&run);
	finish(&run);
	return code;
}
